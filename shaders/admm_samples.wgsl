// What ADMM keeps of the samples and asks of them. See `dense_admm.wgsl` for the letters.

/// Of a sample its weight, x, `b + q / rho`, and what the rows take the sum of.
const OWN_PLANES = 8u;

/// What bounds a sample: its bounds; nothing; or they leave it none of its own.
const WITHIN_BOUNDS: u32 = 0u;
const FREE_EVERYWHERE: u32 = 1u;
const FROZEN: u32 = 2u;
/// Products of rows are also summed over the samples that a ray must not pull.
const BARRED: u32 = 3u;
/// Beyond all values.
const FAR: f32 = 1e38;

/// One over the diagonal of D, by kind of sample.
var<private> inverse_stiffness: array<vec2<f32>, 2>;
/// Over which samples products of rows are summed.
var<private> pairs_of: u32;

fn kind_of(i: u32) -> u32 {
    let lo = lower_of(i);
    let hi = upper_of(i);
    return select(select(WITHIN_BOUNDS, FREE_EVERYWHERE, is_special(lo) && is_special(hi)), FROZEN, key(lo) == key(hi));
}

fn z_number(i: u32) -> vec2<f32> {
    return tf(bitcast<f32>(z_of(i)));
}

fn within_bounds(i: u32, value: vec2<f32>) -> vec2<f32> {
    let lo = lower_of(i);
    let hi = upper_of(i);
    let least = bitcast<f32>(select(lo, bitcast<u32>(-FAR), is_special(lo)));
    let most = bitcast<f32>(select(hi, bitcast<u32>(FAR), is_special(hi)));
    return clipped(value, tf(least), tf(most));
}

fn x_of(i: u32) -> vec2<f32> {
    return scratch_pair(2u * params.dense + 2u, i);
}

fn store_x(i: u32, value: vec2<f32>) {
    store_scratch_pair(2u * params.dense + 2u, i, value);
}

/// `b + q / rho`.
fn pushed_of(i: u32) -> vec2<f32> {
    return scratch_pair(2u * params.dense + 4u, i);
}

fn store_pushed(i: u32, value: vec2<f32>) {
    store_scratch_pair(2u * params.dense + 4u, i, value);
}

fn moment_of(i: u32) -> vec2<f32> {
    return scratch_pair(2u * params.dense + 6u, i);
}

fn store_moment(i: u32, value: vec2<f32>) {
    store_scratch_pair(2u * params.dense + 6u, i, value);
}

/// Fills `V` with the sums of the moments over the rows.
fn sum_moments(lane: u32) {
    storageBarrier();
    workgroupBarrier();
    let mine = share_of(lane, row_count);
    var sum = vec2<f32>();
    for (var i = mine.y; i < mine.z; i += 1u) {
        sum = tf_add(sum, tf_mul(sample_coefficient(mine.x, i), moment_of(i)));
    }
    of_lanes[lane] = vec3<f32>(sum, 0.0);
    workgroupBarrier();
    if lane < row_count {
        for (var other = lane + row_count; other < LANES; other += row_count) {
            sum = tf_add(sum, of_lanes[other].xy);
        }
        row[V][lane] = sum;
    }
    workgroupBarrier();
}

fn pair_term(r: u32, p: u32, i: u32) -> vec2<f32> {
    let counts = select(kind_of(i) == pairs_of, moment_of(i).x != 0.0, pairs_of == BARRED);
    if !counts {
        return vec2<f32>();
    }
    return tf_mul(tf_mul(sample_coefficient(r, i), sample_weight(i)), sample_coefficient(p, i));
}

fn store_pair_sum(at: u32, sum: vec2<f32>) {
    if pairs_of == BARRED {
        system[at] = sum;
    } else {
        store_state_pair(products_at(pairs_of) + 2u * at, sum);
    }
}

/// `M W M^T` over the samples of a kind, as `matrix` is packed.
fn product_of(kind: u32, at: u32) -> vec2<f32> {
    return state_pair(products_at(kind) + 2u * at);
}

fn stiffen_samples() {
    let without = two_sum(1.0, sigma());
    inverse_stiffness[FREE_EVERYWHERE] = tf_div(tf(1.0), without);
    inverse_stiffness[WITHIN_BOUNDS] = tf_div(tf(1.0), tf_add(without, tf(rho)));
}

/// `D^-1 h` of a sample; of a frozen one its value.
fn pulled(i: u32, kind: u32) -> vec2<f32> {
    if kind == FROZEN {
        return tf(bitcast<f32>(lower_of(i)));
    }
    var h = tf_add(z_number(i), tf_scale(x_of(i), sigma()));
    if kind == WITHIN_BOUNDS {
        let pushed = pushed_of(i);
        h = tf_add(h, tf_scale(tf_sub(2.0 * within_bounds(i, pushed), pushed), rho));
    }
    return tf_mul(h, inverse_stiffness[kind]);
}
