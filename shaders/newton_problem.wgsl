// The problem in hand as the Newton machine knows it: its weights sum to 1. And what is reported of it.

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

fn tolerance() -> vec2<f32> {
    return vec2<f32>(params.tolerance, params.tolerance_rest);
}

fn unit_roundoff() -> f32 {
    return params.unit_roundoff;
}

fn max_iterations() -> u32 {
    return params.max_iterations;
}

fn relax_infeasible() -> bool {
    return has(RELAX);
}

fn warm_start(row: u32) -> vec2<f32> {
    return tf_div(start_of(row), tf_mul(total_weight(), row_unit(row)));
}

// A sum over a cell in the totals, over weights that sum to 1; infinite ones stay so.
fn normalised(at: u32) -> vec2<f32> {
    let value = totals_pair(at);
    if is_special(bitcast<u32>(value.x)) {
        return value;
    }
    return tf_div(value, total_weight());
}

// Writes what the machine ended with, but for the values.
fn report(lane: u32, status: u32, passes: u32, excess: vec2<f32>) {
    let record = problem * params.results_stride;
    let is_bad = status == STATUS_BAD_NUMBER;
    let tells_multipliers = (is_answer(status) || status == STATUS_INFEASIBLE) && n > 0u;
    for (var row = lane; row < params.rows; row += LANES) {
        var nu = tf(0.0);
        if tells_multipliers {
            nu = tf_mul(tf_mul(machine_multiplier(row), row_unit(row)), total_weight());
        }
        results[record + RESULTS_HEAD + 2u * row] = bitcast<u32>(nu.x);
        results[record + RESULTS_HEAD + 2u * row + 1u] = bitcast<u32>(nu.y);
    }
    if lane == 0u {
        results[record] = status;
        results[record + 1u] = machine_steps;
        results[record + 2u] = select(passes, 0u, is_bad);
        results[record + 3u] = select(totals[problem * params.totals_stride + 1u], 0u, is_bad);
        results[record + 4u] = bitcast<u32>(machine_residual);
        results[record + 5u] = select(bitcast<u32>(excess.x), 0x7f800000u, is_bad);
        results[record + 6u] = select(bitcast<u32>(excess.y), 0u, is_bad);
        results[record + 7u] = 0u;
    }
}
