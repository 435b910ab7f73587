// The problem in hand as the Newton machine knows it: its weights sum to 1. And what is reported of it.

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
    if follows_admm() {
        let at = problem * params.results_stride + RESULTS_HEAD + 2u * row;
        return vec2<f32>(bitcast<f32>(results[at]), bitcast<f32>(results[at + 1u]));
    }
    return tf_div(start_of(row), tf_mul(total_weight(), row_unit(row)));
}

// Whether the start is a ray that ADMM found, of a problem without a solution.
fn starts_with_ray() -> bool {
    return follows_admm() && params.link == 0u && results[problem * params.results_stride] == STATUS_INFEASIBLE;
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
        let before = select(0u, results[record + 1u], follows_admm() && n > 0u && !is_bad);
        results[record + 1u] = machine_steps + before;
        results[record + 2u] = select(passes, 0u, is_bad);
        results[record + 3u] = select(totals[problem * params.totals_stride + 1u], 0u, is_bad);
        results[record + 4u] = bitcast<u32>(machine_residual);
        results[record + 5u] = select(bitcast<u32>(excess.x), 0x7f800000u, is_bad);
        results[record + 6u] = select(bitcast<u32>(excess.y), 0u, is_bad);
        results[record + 7u] = 0u;
    }
}
