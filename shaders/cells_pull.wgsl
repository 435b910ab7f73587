// What every sample of a cell is pulled by in the backward pass: the same.

// What a unit of weight of a cell is pulled by.
var<workgroup> cell_pull: array<vec2<f32>, ALL_SLOTS>;

fn pull_of(i: u32, cell: u32) -> vec2<f32> {
    return cell_pull[slot(cell)];
}

fn moved_of(cell: u32) -> vec2<f32> {
    return tf_sub(cell_gradient[slot(cell)], tf_mul(cell_free[slot(cell)], cell_pull[slot(cell)]));
}

// There are no rows over samples here.
fn of_sample_rows(i: u32) -> vec2<f32> {
    return tf(0.0);
}

fn fill_coefficients(lane: u32, bits: u32) {
}

fn write_coefficients(lane: u32) {
}

fn clear_pull(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        cell_pull[slot(cell)] = tf(0.0);
    }
}
