// What the Newton machine is driven by in its own tests: one problem a workgroup of 32 lanes, lane c sums cell c in
// two-floats, and every problem has a constraint set of its own. A dispatch does one pass; between two of them the machine
// is in `state`, whose first word of a problem is 0 before the first pass, 1 in between and 2 at the end.

const STATUS_SOLVED: u32 = 0u;
const STATUS_ITERATION_LIMIT: u32 = 1u;
const STATUS_INFEASIBLE: u32 = 2u;
const STATUS_BAD_NUMBER: u32 = 3u;
const STATUS_RELAXED: u32 = 4u;

struct Element {
    z: f32,
    lo: f32,
    hi: f32,
    weight: f32,
    label: f32,
    cell: u32,
}

@group(0) @binding(0) var<uniform> zero: vec4<u32>;
/// Of every problem where its table begins, then the tables.
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<storage, read> elements: array<Element>;
@group(0) @binding(3) var<storage, read_write> outcome: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<u32>;

var<workgroup> cell_weight: array<vec2<f32>, 32>;
var<workgroup> cell_label: array<vec2<f32>, 32>;
var<workgroup> cell_y: array<vec2<f32>, 32>;
var<workgroup> cell_free: array<vec2<f32>, 32>;
var<workgroup> cell_size: array<f32, 32>;
var<workgroup> cell_beyond: array<f32, 32>;
var<workgroup> cell_shift: array<vec2<f32>, 32>;
var<workgroup> low_sum: array<vec2<f32>, 32>;
var<workgroup> high_sum: array<vec2<f32>, 32>;
var<private> table: u32;

var<private> loaded_zero: u32;
var<private> first_state: u32;
fn opaque_zero() -> u32 { return loaded_zero; }
fn state_read(at: u32) -> u32 { return state[first_state + at]; }
fn state_write(at: u32, word: u32) { state[first_state + at] = word; }
fn word(at: u32) -> u32 { return tables[table + at]; }
fn pair(at: u32) -> vec2<f32> { return vec2<f32>(bitcast<f32>(word(at)), bitcast<f32>(word(at + 1u))); }
fn set_cells() -> u32 { return word(0u); }
fn set_rows() -> u32 { return word(1u); }
fn set_spreads() -> u32 { return word(2u); }
fn set_contrasts() -> u32 { return set_rows() - word(3u); }
fn first_element() -> u32 { return word(4u); }
fn element_end() -> u32 { return word(5u); }
fn tolerance() -> vec2<f32> { return pair(6u); }
fn unit_roundoff() -> f32 { return bitcast<f32>(word(8u)); }
fn max_iterations() -> u32 { return word(9u); }
fn relax_infeasible() -> bool { return word(10u) == 1u; }
fn has_warm_start() -> bool { return word(11u) == 1u; }
fn starts_with_ray() -> bool { return false; }
fn row_word(row: u32) -> u32 { return 12u + 5u * row; }
fn row_plus(row: u32) -> u32 { return word(row_word(row)); }
fn row_minus(row: u32) -> u32 { return word(row_word(row) + 1u); }
fn row_component(row: u32) -> u32 { return word(row_word(row) + 2u); }
fn warm_start(row: u32) -> vec2<f32> { return pair(row_word(row) + 3u); }
fn spread_word(s: u32) -> u32 { return row_word(set_rows()) + 5u * s; }
fn spread_first(s: u32) -> u32 { return word(spread_word(s)); }
fn spread_end(s: u32) -> u32 { return word(spread_word(s) + 1u); }
fn spread_is_ratio(s: u32) -> bool { return word(spread_word(s) + 2u) == 1u; }
fn level(s: u32) -> vec2<f32> { return pair(spread_word(s) + 3u); }
fn contrast_word(k: u32) -> u32 { return spread_word(set_spreads()) + 7u * k; }
fn contrast_scale(k: u32) -> vec2<f32> { return pair(contrast_word(k)); }
fn contrast_residual(k: u32) -> bool { return word(contrast_word(k) + 2u) == 1u; }
fn row_lower(k: u32) -> vec2<f32> { return pair(contrast_word(k) + 3u); }
fn row_upper(k: u32) -> vec2<f32> { return pair(contrast_word(k) + 5u); }
fn cell_low(c: u32) -> vec2<f32> { return low_sum[c]; }
fn cell_high(c: u32) -> vec2<f32> { return high_sum[c]; }

fn add_bound(sum: vec2<f32>, weight: f32, bound: f32) -> vec2<f32> {
    if !is_finite(bound) || !is_finite(sum.x) {
        return vec2<f32>(select(sum.x, bound, is_finite(sum.x)), 0.0);
    }
    return tf_add(sum, two_product(weight, bound));
}

fn sum_cell(c: u32) {
    var weight = vec2<f32>();
    var label = vec2<f32>();
    var low = vec2<f32>();
    var high = vec2<f32>();
    for (var i = first_element(); i < element_end(); i += 1u) {
        let e = elements[i];
        if e.cell == c {
            weight = tf_add(weight, tf(e.weight));
            label = tf_add(label, two_product(e.weight, e.label));
            low = add_bound(low, e.weight, e.lo);
            high = add_bound(high, e.weight, e.hi);
        }
    }
    cell_weight[c] = weight;
    cell_label[c] = label;
    low_sum[c] = low;
    high_sum[c] = high;
}

/// Shifted; clipped; and as it is stored.
fn shifted(e: Element) -> vec3<f32> {
    let shift = cell_shift[e.cell];
    let t = guard(guard(e.z - shift.x) - shift.y);
    let clipped = min(max(t, e.lo), e.hi);
    // (Not by quantizeToF16, which loses subnormal numbers.)
    let half = unpack2x16float(pack2x16float(vec2<f32>(clipped, 0.0))).x;
    return vec3<f32>(t, clipped, select(clipped, half, unit_roundoff() > 1e-6));
}

fn sum_pass(c: u32, total: vec2<f32>) {
    var sum = vec2<f32>();
    var free = vec2<f32>();
    var size = 0.0;
    var beyond = 0.0;
    for (var i = first_element(); i < element_end(); i += 1u) {
        let e = elements[i];
        if e.cell == c {
            let t = shifted(e);
            sum = tf_add(sum, two_product(e.weight, t.z));
            size += e.weight * abs(t.z);
            beyond += e.weight * abs(t.x - t.y);
            free = tf_add(free, tf(select(0.0, e.weight, t.x == t.y)));
        }
    }
    cell_y[c] = tf_div(sum, total);
    cell_free[c] = tf_div(free, total);
    cell_size[c] = size / total.x;
    cell_beyond[c] = beyond / total.x;
}

@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    loaded_zero = zero.x;
    let problem = group.x;
    first_state = problem * (MACHINE_WORDS + 1u) + 1u;
    if state[first_state - 1u] == 2u {
        return;
    }
    table = tables[problem];
    sum_cell(lane);
    workgroupBarrier();
    var total = vec2<f32>();
    for (var c = 0u; c < 32u; c += 1u) {
        total = tf_add(total, cell_weight[c]);
    }
    workgroupBarrier();
    cell_weight[lane] = tf_div(cell_weight[lane], total);
    cell_label[lane] = tf_div(cell_label[lane], total);
    if is_finite(low_sum[lane].x) { low_sum[lane] = tf_div(low_sum[lane], total); }
    if is_finite(high_sum[lane].x) { high_sum[lane] = tf_div(high_sum[lane], total); }
    workgroupBarrier();
    let progress = &state[problem * (MACHINE_WORDS + 1u)];
    let stage = *progress;
    workgroupBarrier();
    machine_begin(lane);
    if stage == 1u {
        machine_restore(lane);
    }
    if stage == 1u || machine_stage == 0u {
        sum_pass(lane, total);
        workgroupBarrier();
        machine_step(lane);
    }
    let ended = machine_stage == 1u;
    machine_save(lane);
    if lane == 0u {
        *progress = select(1u, 2u, ended);
    }
    if !ended {
        return;
    }
    let solved = machine_status == STATUS_SOLVED || machine_status == STATUS_RELAXED;
    workgroupBarrier();
    if !solved {
        cell_shift[lane] = vec2<f32>();
    }
    workgroupBarrier();
    for (var i = first_element() + lane; i < element_end(); i += 32u) {
        y[i] = shifted(elements[i]).z;
    }
    let at = problem * 72u;
    if lane == 0u {
        outcome[at] = machine_status;
        outcome[at + 1u] = machine_steps;
        outcome[at + 2u] = newton.passes;
        outcome[at + 3u] = bitcast<u32>(machine_excess.x);
        outcome[at + 4u] = bitcast<u32>(machine_excess.y);
        outcome[at + 5u] = bitcast<u32>(total.x);
        outcome[at + 6u] = bitcast<u32>(total.y);
        outcome[at + 7u] = newton.attempt;
    }
    let nu = machine_multiplier(lane);
    outcome[at + 8u + 2u * lane] = bitcast<u32>(nu.x);
    outcome[at + 9u + 2u * lane] = bitcast<u32>(nu.y);
}
