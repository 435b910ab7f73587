// `cells_vjp`: the backward pass of the projection onto spreads and contrasts, a workgroup a problem.

@compute @workgroup_size(LANES)
fn cells_vjp(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    clear_pull(lane);
    pull_back(group, lane);
}
