// `dense_newton`: projection onto rows with a coefficient for every sample, and onto spreads and contrasts beside them, a
// workgroup a problem. The method is the machine of `newton.wgsl` with every sample as its own cell. Rows over samples are
// scaled so that `a W^-1 a^T = 1`; their residuals are then in units of the predictions, like those of means.

@compute @workgroup_size(LANES)
fn dense_newton(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    project(group, lane);
}
