// What the Newton machine asks of rows over samples, and of rows over cells beside them: as `rows_of_cells.wgsl`, with every
// sample as its own cell. Sums are two-floats, each lane's of samples of its own, and the lanes' in order.

/// Of a sample its weight, value, and distance beyond its bounds.
const OWN_PLANES = 4u;
/// A row with this part of its samples' weight free needs no floor.
const PLENTY: f32 = 0.25;

/// The curvature of the model in the rows' multipliers, as `matrix` is packed.
var<workgroup> curvature: array<vec2<f32>, 528>;
/// Whether the free weights of samples are floored in the curvature, where the residual is so large and with which factor.
var<private> is_flooring: bool;
var<private> floor_error: f32;
var<private> floor_factor_here: f32;

fn shift_at(i: u32) -> vec2<f32> {
    return shift_of_sample(TRIAL, i).xy;
}

/// The value of a sample at the last pass, and how far it lay beyond its bounds.
fn sample_value(i: u32) -> f32 {
    return scratch[plane(2u * params.dense + 2u, i)];
}

fn sample_beyond(i: u32) -> f32 {
    return scratch[plane(2u * params.dense + 3u, i)];
}

/// A pass reads the multipliers themselves.
fn set_shift(lane: u32) {
}

fn clear_shift(lane: u32) {
    if lane < row_count {
        row[TRIAL][lane] = vec2<f32>();
    }
}

/// The pass at `TRIAL`.
fn sum_elements(lane: u32) {
    for (var i = lane; i < n; i += LANES) {
        let lo = lower_of(i);
        let hi = upper_of(i);
        let t = moved(z_of(i), shift_at(i));
        let y = clip(t, lo, hi);
        // (Where the difference is too small for a digit, it is still not 0.)
        let beyond = max(abs(guard(bitcast<f32>(t) - bitcast<f32>(y))), 1e-30);
        let stored = as_stored(y);
        if is_special(stored) {
            atomicStore(&overflown[team], 1u);
        }
        scratch[plane(2u * params.dense + 2u, i)] = bitcast<f32>(stored);
        scratch[plane(2u * params.dense + 3u, i)] = select(beyond, 0.0, key(lo) <= key(t) && key(t) <= key(hi));
    }
    storageBarrier();
    workgroupBarrier();
}

/// Takes the means at the sums of a pass. Returns four times what rounding the stored values may move a row by at the
/// worst: see `rows_of_cells.wgsl`.
fn take_means(lane: u32) -> f32 {
    let mine = share_of(lane, row_count);
    var mean = vec2<f32>();
    var size = 0.0;
    for (var i = mine.y; i < mine.z; i += 1u) {
        let part = tf_mul(sample_coefficient(mine.x, i), sample_weight(i));
        mean = tf_add(mean, tf_scale(part, sample_value(i)));
        size += abs(part.x * sample_value(i));
    }
    of_lanes[lane] = vec3<f32>(mean, size);
    workgroupBarrier();
    if lane < row_count {
        for (var other = lane + row_count; other < LANES; other += row_count) {
            mean = tf_add(mean, of_lanes[other].xy);
            size += of_lanes[other].z;
        }
        // (Where a value is too large for its type, no point of this kind is a solution.)
        let spoilt = select(0u, 0x7fc00000u, atomicLoad(&overflown[team]) != 0u);
        row[MEANS][lane] = vec2<f32>(bitcast<f32>(bitcast<u32>(mean.x) | spoilt), mean.y);
        exchange[lane].x = size * select(8.0, 4.0, row_block[lane] == NO_BLOCK);
    }
    workgroupBarrier();
    var worst = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        worst = max(worst, exchange[r].x);
    }
    workgroupBarrier();
    return worst * unit_roundoff();
}

/// The free weight of a sample, floored where that is asked for.
fn curvature_of(i: u32) -> vec2<f32> {
    let beyond = sample_beyond(i);
    let weight = sample_weight(i);
    let free = select(vec2<f32>(), weight, beyond == 0.0);
    if !is_flooring {
        return free;
    }
    let least = floor_factor_here * weight.x * floor_error / max(floor_error + beyond, 1e-30);
    return select(free, tf(least), least > free.x);
}

/// Fills `curvature` at the present point, where the residual is `error`.
fn prepare_curvature(lane: u32, error: f32, factor: f32, everywhere: bool) {
    floor_error = error;
    floor_factor_here = factor;
    is_flooring = everywhere;
    if lane < row_count {
        exchange[lane].x = row_scale;
    }
    loop {
        sum_pairs(lane, row_count);
        // A sample is free or not. What may look flat is a row.
        var is_flat = false;
        for (var r = 0u; r < row_count; r += 1u) {
            is_flat = is_flat || !(curvature[packed(r, r)].x + prox * exchange[r].x >= PLENTY * exchange[r].x);
        }
        workgroupBarrier();
        if is_flooring || !is_flat {
            break;
        }
        is_flooring = true;
    }
}

fn pair_term(i: u32, j: u32, sample: u32) -> vec2<f32> {
    let weighted = tf_mul(sample_coefficient(i, sample), curvature_of(sample));
    return tf_mul(weighted, sample_coefficient(j, sample));
}

fn store_pair_sum(at: u32, sum: vec2<f32>) {
    curvature[at] = sum;
}

/// Fills `matrix`.
fn fill_matrix(lane: u32) {
    for (var at = lane; at < row_count * (row_count + 1u) / 2u; at += LANES) {
        matrix[at] = curvature[at];
    }
    workgroupBarrier();
    if lane < row_count {
        matrix[packed(lane, lane)] = tf_add(matrix[packed(lane, lane)], tf(prox * row_scale));
    }
    workgroupBarrier();
}

/// `MODEL = MEANS - H X`.
fn fill_model(lane: u32) {
    if lane < row_count {
        var moved = tf_scale(row[X][lane], prox * row_scale);
        for (var r = 0u; r < row_count; r += 1u) {
            moved = tf_add(moved, tf_mul(curvature[packed(lane, r)], row[X][r]));
        }
        row[MODEL][lane] = tf_sub(row[MEANS][lane], moved);
    }
    workgroupBarrier();
}

fn extent_of_step(lane: u32) -> Extent {
    var own = vec3<f32>();
    for (var i = lane; i < n; i += LANES) {
        let step = abs(shift_of_sample(STEP, i).x);
        own.x = max(own.x, step);
        own.y = max(own.y, sample_beyond(i));
        let free = select(0.0, sample_weight(i).x, sample_beyond(i) == 0.0);
        own.z = max(own.z, select(0.0, 1.0, step != 0.0 && curvature_of(i).x > 1.000001 * free));
    }
    of_lanes[lane] = own;
    workgroupBarrier();
    var all = vec3<f32>();
    for (var other = 0u; other < LANES; other += 1u) {
        all = max(all, of_lanes[other]);
    }
    workgroupBarrier();
    return Extent(all.x, all.y, all.z > 0.0);
}
