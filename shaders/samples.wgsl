// Rows with a coefficient for every sample, as kernels over samples work on them: per unit of weight, in two floats, in
// global memory, each row times the power of two that brings its largest coefficient to between 1/2 and 1. A module that is
// joined with this binds `coefficients` and `scratch`, has the atomic flag `unusable`, and says how many numbers of a sample
// it keeps beside its coefficients: `OWN_PLANES`.

// Coefficients below this, in a row without larger ones, have lost their digits: the row cannot be used.
const LEAST_COEFFICIENT = 1e-30;

var<workgroup> sample_largest: array<atomic<u32>, 32>;
// `sum_i b_i^2 w_i` of the row as it lies in `scratch`.
var<workgroup> sample_square: array<vec2<f32>, 32>;
// Sums of the lanes' own, on their way to all.
var<workgroup> of_lanes: array<vec3<f32>, LANES>;

// Rows of numbers, one a sample, that the problem has in `scratch`.
fn planes() -> u32 {
    return 2u * params.dense + OWN_PLANES;
}

// Where row `p` of them has sample `i`.
fn plane(p: u32, i: u32) -> u32 {
    return planes() * first + p * n + i;
}

fn scratch_pair(p: u32, i: u32) -> vec2<f32> {
    let at = plane(p, i);
    return vec2<f32>(scratch[at], scratch[at + n]);
}

fn store_scratch_pair(p: u32, i: u32, value: vec2<f32>) {
    let at = plane(p, i);
    scratch[at] = value.x;
    scratch[at + n] = value.y;
}

// The coefficient of row `k` of these rows in sample `i`, as it was given.
fn given_coefficient(k: u32, i: u32) -> vec2<f32> {
    let at = select(params.dense * first, 0u, has(SHARED_COEFFICIENTS)) + k * n + i;
    let low = select(params.coefficients_low_at + at, 0u, params.coefficients_low_at == NONE);
    let rest = select(coefficients[low], 0.0, params.coefficients_low_at == NONE);
    return vec2<f32>(coefficients[params.coefficients_at + at], rest);
}

// The exponent of the power of two that row `k` was divided by.
fn sample_exponent(k: u32) -> i32 {
    let largest = atomicLoad(&sample_largest[k]);
    return select(clamp(exponent_above(largest), -100, 126), 0, largest == 0u);
}

// The part of the samples that a lane sums for one of `count` things, if each is summed by as many lanes as there are: the
// thing, the first sample, and one past the last. Nothing for lanes that are left over.
fn share_of(lane: u32, count: u32) -> vec3<u32> {
    let parts = max(LANES / count, 1u);
    let length = (n + parts - 1u) / parts;
    let begin = min((lane / count) * length, n);
    return vec3<u32>(lane % count, begin, select(min(begin + length, n), begin, lane / count >= parts));
}

// Loads the rows. `unusable` is set if a number of them cannot be used.
fn load_rows(lane: u32) {
    for (var k = lane; k < MAX_ROWS; k += LANES) {
        atomicStore(&sample_largest[k], 0u);
    }
    workgroupBarrier();
    for (var k = 0u; k < params.dense; k++) {
        var largest = 0u;
        for (var i = lane; i < n; i += LANES) {
            let a = given_coefficient(k, i);
            let b = tf_div(a, weight_of(i));
            let no_number = is_special(bitcast<u32>(a.x)) || is_special(bitcast<u32>(b.x));
            largest = max(largest, select(bitcast<u32>(b.x) & 0x7fffffffu, 0x7f800000u, no_number));
            store_scratch_pair(2u * k, i, b);
        }
        atomicMax(&sample_largest[k], largest);
    }
    storageBarrier();
    workgroupBarrier();
    for (var k = lane; k < params.dense; k += LANES) {
        let largest = atomicLoad(&sample_largest[k]);
        if largest >= 0x7f800000u || (largest != 0u && bitcast<f32>(largest) < LEAST_COEFFICIENT) {
            atomicStore(&unusable[team], 1u);
        }
    }
    let mine = share_of(lane, params.dense);
    let scale = power_of_two(-sample_exponent(mine.x));
    var sum = tf(0.0);
    for (var i = mine.y; i < mine.z; i++) {
        let b = scratch_pair(2u * mine.x, i) * scale;
        store_scratch_pair(2u * mine.x, i, b);
        sum = tf_add(sum, tf_mul(tf_mul(b, b), weight_of(i)));
    }
    of_lanes[lane] = vec3<f32>(sum, 0.0);
    storageBarrier();
    workgroupBarrier();
    if lane < params.dense {
        for (var other = lane + params.dense; other < LANES; other += params.dense) {
            sum = tf_add(sum, of_lanes[other].xy);
        }
        sample_square[lane] = sum;
    }
    workgroupBarrier();
}

// Sums `pair_term` over the samples, of every pair of `count` rows; `store_pair_sum` takes the sums, packed by rows.
fn sum_pairs(lane: u32, count: u32) {
    let pairs = count * (count + 1u) / 2u;
    for (var at = lane; at < max(pairs, LANES); at += LANES) {
        var mine = share_of(lane, pairs);
        if pairs >= LANES {
            mine = vec3<u32>(at, 0u, select(n, 0u, at >= pairs));
        }
        var i = u32(0.5 * (sqrt(8.0 * f32(mine.x) + 1.0) - 1.0));
        i -= select(0u, 1u, i * (i + 1u) / 2u > mine.x);
        i += select(0u, 1u, (i + 1u) * (i + 2u) / 2u <= mine.x);
        let j = mine.x - i * (i + 1u) / 2u;
        var sum = tf(0.0);
        for (var sample = mine.y; sample < mine.z; sample++) {
            sum = tf_add(sum, pair_term(i, j, sample));
        }
        if pairs < LANES {
            of_lanes[lane] = vec3<f32>(sum, 0.0);
        } else if at < pairs {
            store_pair_sum(at, sum);
        }
    }
    workgroupBarrier();
    if lane < pairs && pairs < LANES {
        var sum = of_lanes[lane].xy;
        for (var other = lane + pairs; other < LANES; other += pairs) {
            sum = tf_add(sum, of_lanes[other].xy);
        }
        store_pair_sum(lane, sum);
    }
    workgroupBarrier();
}
