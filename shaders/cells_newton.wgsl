// `cells_newton`: projection onto spreads and contrasts of any kind by a proximal Newton method on the dual, a workgroup a
// problem. The method is the machine of `newton.wgsl`, which asks for sums at shifts and is told.

var<workgroup> inverse_total: vec2<f32>;
var<workgroup> cell_label: array<vec2<f32>, 32>;

fn cell_low(cell: u32) -> vec2<f32> {
    return normalised(totals_of(cell) + 5u);
}

fn cell_high(cell: u32) -> vec2<f32> {
    return normalised(totals_of(cell) + 7u);
}

fn begin_problem(lane: u32) {
    load_problem(lane);
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

// A pass, with its sums over weights that sum to 1.
fn sum_elements(lane: u32) {
    pass_over(lane);
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

@compute @workgroup_size(LANES)
fn cells_newton(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    project(group, lane);
}
