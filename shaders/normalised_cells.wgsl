// Cells, and what a pass sums of them, over weights that sum to 1.

var<workgroup> inverse_total: vec2<f32>;
var<workgroup> cell_label: array<vec2<f32>, 32>;

fn cell_low(cell: u32) -> vec2<f32> {
    return normalised(totals_of(cell) + 5u);
}

fn cell_high(cell: u32) -> vec2<f32> {
    return normalised(totals_of(cell) + 7u);
}

fn normalise_cells(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_weight[cell] = normalised(totals_of(cell) + 1u);
        cell_label[cell] = normalised(totals_of(cell) + 3u);
    }
    if lane == 0u {
        let unit = power_of_two(-weight_exponent());
        let total = total_weight();
        inverse_total = tf_div(tf(1.0), vec2<f32>(total.x * unit, total.y * unit));
    }
    workgroupBarrier();
}

fn normalise_sums(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_y[cell] = tf_mul(cell_y[cell], inverse_total);
        cell_free[cell] = tf_mul(cell_free[cell], inverse_total);
        cell_size[cell] *= inverse_total.x;
        cell_beyond[cell] *= inverse_total.x;
    }
    workgroupBarrier();
}

fn clear_shift(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_shift[cell] = tf(0.0);
    }
}
