// Rows over samples, and rows over cells beside them, with every sample as its own cell: what they are, how they are loaded,
// and what multipliers make of the samples. Rows over samples are scaled so that `a W^-1 a^T = 1`; their residuals are then
// in units of the predictions, like those of means.

@group(0) @binding(8) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(17) var<storage, read> coefficients: array<f32>;

// Of the cells that spreads and contrasts are about, over weights that sum to 1.
var<workgroup> cell_weight: array<vec2<f32>, 32>;
var<workgroup> cell_label: array<vec2<f32>, 32>;
// The largest coefficient of each row over samples.
var<workgroup> sample_reach: array<f32, 32>;
// What a row over samples was multiplied by, over weights that sum to 1.
var<workgroup> sample_unit: array<vec2<f32>, 32>;

const WEIGHTS: u32 = 0u;
const LABELS: u32 = 1u;

fn cell_number(c: u32, what: u32) -> vec2<f32> {
    return select(cell_label[c], cell_weight[c], what == WEIGHTS);
}

fn sample_rows() -> u32 {
    return params.dense;
}

/// The place of a row of the set among the rows over samples.
fn sample_index(source: u32) -> u32 {
    return source - (params.rows - params.dense);
}

fn row_unit(source: u32) -> vec2<f32> {
    if source < params.rows - params.dense {
        return tf(1.0);
    }
    return sample_unit[sample_index(source)];
}

fn build_sample_row(r: u32, source: u32) {
    let k = sample_index(source);
    let bounds = array<vec2<f32>, 2>(bounded(row_lower(row_contrast(source))), bounded(row_upper(row_contrast(source))));
    var scaled = bounds;
    for (var side = 0u; side < 2u; side += 1u) {
        if abs(bounds[side].x) != BIG {
            scaled[side] = tf_mul(bounds[side], sample_unit[k]);
        }
    }
    row_part[r] = 0u;
    row_relaxed[r] = vec2<f32>();
    row_cells[r] = vec3<u32>();
    row_block[r] = NO_BLOCK;
    rows_lower[r] = scaled[0];
    rows_upper[r] = scaled[1];
    row_reach[r] = sample_reach[k];
    row_rough[r] = sample_reach[k];
    row_scale = 1.0;
}

/// The coefficient of a live row in a sample.
fn sample_coefficient(r: u32, i: u32) -> vec2<f32> {
    if r + params.dense >= row_count {
        return scratch_pair(2u * (r + params.dense - row_count), i);
    }
    return coefficient(r, cell_of(i));
}

/// How far these multipliers move a sample, and the sum of the sizes of what that is made of.
fn shift_of_sample(which: u32, i: u32) -> vec3<f32> {
    var shift = vec2<f32>();
    var size = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        let nu = row[which][r];
        if nu.x != 0.0 {
            let term = tf_mul(sample_coefficient(r, i), nu);
            shift = tf_add(shift, term);
            size += abs(term.x);
        }
    }
    return vec3<f32>(shift, size);
}

/// The weight of a sample, of weights that sum to 1.
fn sample_weight(i: u32) -> vec2<f32> {
    return scratch_pair(2u * params.dense, i);
}

/// Loads the problem in hand.
fn begin_problem(lane: u32) {
    if lane == 0u {
        atomicStore(&unusable[team], totals[problem * params.totals_stride]);
        atomicStore(&overflown[team], 0u);
    }
    workgroupBarrier();
    if workgroupUniformLoad(&unusable[team]) != 0u || n == 0u {
        return;
    }
    for (var cell = lane; cell < params.cells; cell += LANES) {
        cell_weight[cell] = normalised(totals_of(cell) + 1u);
        cell_label[cell] = normalised(totals_of(cell) + 3u);
    }
    for (var i = lane; i < n; i += LANES) {
        store_scratch_pair(2u * params.dense, i, tf_div(weight_of(i), total_weight()));
        if is_special(z_of(i)) {
            atomicStore(&unusable[team], 1u);
        }
    }
    if params.dense > 0u {
        load_rows(lane);
    }
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

fn weighted_bound(i: u32, bound: u32) -> vec2<f32> {
    if is_special(bound) {
        return tf(bitcast<f32>(bound));
    }
    return tf_scale(sample_weight(i), bitcast<f32>(bound));
}

/// The least that the ray in `X` can make of the samples within their bounds, and how far rounding may have it wrong.
fn least_of_ray(lane: u32) -> vec3<f32> {
    var least = vec2<f32>();
    var doubt = 0.0;
    for (var i = lane; i < n; i += LANES) {
        let shift = shift_of_sample(X, i);
        let part = least_within(shift.xy, shift.z, weighted_bound(i, lower_of(i)), weighted_bound(i, upper_of(i)));
        least = tf_add(least, part.xy);
        doubt += part.z;
    }
    of_lanes[lane] = vec3<f32>(least, doubt);
    workgroupBarrier();
    least = vec2<f32>();
    doubt = 0.0;
    for (var other = 0u; other < LANES; other += 1u) {
        least = tf_add(least, of_lanes[other].xy);
        doubt += of_lanes[other].z;
    }
    workgroupBarrier();
    return vec3<f32>(least, doubt);
}
