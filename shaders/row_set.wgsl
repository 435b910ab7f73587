// The weight of the problem in hand, whose weights kernels scale so that they sum to 1, and its set of rows.

fn total_weight() -> vec2<f32> {
    return totals_pair(problem * params.totals_stride + 2u);
}

fn set_cells() -> u32 {
    return params.cells;
}

fn set_rows() -> u32 {
    return params.rows;
}

fn set_spreads() -> u32 {
    return params.spreads;
}

fn set_contrasts() -> u32 {
    return params.contrasts;
}

// A sum over a cell in the totals, over weights that sum to 1; infinite ones stay so.
fn normalised(at: u32) -> vec2<f32> {
    let value = totals_pair(at);
    if is_special(bitcast<u32>(value.x)) {
        return value;
    }
    return tf_div(value, total_weight());
}
