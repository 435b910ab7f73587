// `dense_newton`: projection onto rows with a coefficient for every sample, and onto spreads and contrasts beside them, a
// workgroup a problem. The method is the machine of `newton.wgsl` with every sample as its own cell. Rows over samples are
// scaled so that `a W^-1 a^T = 1`; their residuals are then in units of the predictions, like those of means.

@group(0) @binding(8) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(17) var<storage, read> coefficients: array<f32>;

// Of the cells that spreads and contrasts are about, over weights that sum to 1.
var<workgroup> cell_weight: array<vec2<f32>, 32>;
var<workgroup> cell_label: array<vec2<f32>, 32>;
// The largest coefficient of each row over samples.
var<workgroup> sample_reach: array<f32, 32>;

fn begin_problem(lane: u32) {
    if lane == 0u {
        atomicStore(&unusable, totals[problem * params.totals_stride]);
        atomicStore(&overflown, 0u);
    }
    workgroupBarrier();
    if workgroupUniformLoad(&unusable) != 0u || n == 0u {
        return;
    }
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_weight[cell] = normalised(totals_of(cell) + 1u);
        cell_label[cell] = normalised(totals_of(cell) + 3u);
    }
    for (var i = lane; i < n; i += LANES) {
        store_scratch_pair(2u * params.dense, i, tf_div(weight_of(i), total_weight()));
        if is_special(z_of(i)) {
            atomicStore(&unusable, 1u);
        }
    }
    load_rows(lane);
    for (var k = lane; k < params.dense; k += LANES) {
        var factor = tf(1.0);
        if sample_square[k].x > 0.0 {
            factor = tf_sqrt(tf_div(total_weight(), sample_square[k]));
        }
        sample_square[k] = factor;
        let e = sample_exponent(k);
        sample_unit[k] = tf_div(factor * power_of_two(-e), total_weight());
        sample_reach[k] = factor.x * bitcast<f32>(atomicLoad(&sample_largest[k])) * power_of_two(-e);
    }
    workgroupBarrier();
    for (var k = 0u; k < params.dense; k++) {
        for (var i = lane; i < n; i += LANES) {
            store_scratch_pair(2u * k, i, tf_mul(scratch_pair(2u * k, i), sample_square[k]));
        }
    }
    storageBarrier();
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn dense_newton(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    project(group, lane);
}
