// `cells_vjp`: the backward pass of the projection onto spreads and contrasts, a team a problem.

@compute @workgroup_size(LANES)
fn cells_vjp(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let lane = join_team(group, invocation);
    clear_pull(lane);
    pull_back(lane);
}
