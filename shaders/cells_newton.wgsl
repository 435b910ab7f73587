// `cells_newton`: projection onto spreads and contrasts of any kind by a proximal Newton method on the dual, a workgroup a
// problem. The method is the machine of `newton.wgsl`, which asks for sums at shifts and is told.

fn begin_problem(lane: u32) {
    load_problem(lane);
    normalise_cells(lane);
}

// A pass, with its sums over weights that sum to 1.
fn sum_elements(lane: u32) {
    pass_over(lane);
    normalise_sums(lane);
}

@compute @workgroup_size(LANES)
fn cells_newton(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    project(group, lane);
}
