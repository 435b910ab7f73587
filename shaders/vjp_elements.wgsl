// What the backward kernels do with the elements in hand: they sum the gradient by cell, and write what every element gets.
// A module that is joined with this has `pull_of`, what a unit of a sample's weight is pulled by, `moved_of`, the sum of
// dL/dz over a cell, and what rows over samples add.
//
// Sums, weights and masses are plain here and not over weights that sum to 1: lambda does not depend on it, nor does
// anything that is made of it.

// Whether there are weights; and whether gradients to weights or labels are wanted, or ratios need the means.
override WEIGHTED: bool = true;
override LABELLED: bool = true;
override VALUED: bool = true;

@group(0) @binding(2) var<storage, read> gradient: array<u32>;
@group(0) @binding(3) var<storage, read> cells: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read> labels: array<f32>;
@group(0) @binding(6) var<storage, read> y_in: array<u32>;
@group(0) @binding(7) var<storage, read> clamp_in: array<u32>;
@group(0) @binding(8) var<storage, read> results: array<u32>;
@group(0) @binding(9) var<storage, read> totals: array<u32>;
@group(0) @binding(15) var<storage, read_write> to_rows: array<u32>;

const OF_FREE = 0u;
const OF_GRADIENT = 1u;
const OF_VALUE = 2u;

const FREE = 0u;
const AT_LOWER = 1u;
const AT_UPPER = 2u;

const A_NAN = 0x7fc00000u;

// Sums over the free elements of a cell: of w, of the gradient; and over all, of w y.
var<workgroup> cell_free: array<vec2<f32>, ALL_SLOTS>;
var<workgroup> cell_gradient: array<vec2<f32>, ALL_SLOTS>;
var<workgroup> cell_value: array<vec2<f32>, ALL_SLOTS>;
// The gradient to the tight side of every row of the set; 0 of rows that are not live or not held.
var<workgroup> lambda: array<vec2<f32>, ALL_SLOTS>;
// The gradient to a weight is constant - y slope + label label_slope, that to a label weight label_slope.
var<workgroup> weight_constant: array<vec2<f32>, ALL_SLOTS>;
var<workgroup> weight_slope: array<vec2<f32>, ALL_SLOTS>;
var<workgroup> label_slope: array<vec2<f32>, ALL_SLOTS>;
// Whether the gradient has a number that is none.
var<workgroup> spoilt: array<atomic<u32>, TEAMS>;

fn totals_pair(cell: u32, quantity: u32) -> vec2<f32> {
    let at = problem * params.totals_stride + TOTALS_HEAD + TOTALS_CELL * cell + 1u + 2u * quantity;
    return vec2<f32>(bitcast<f32>(totals[at]), bitcast<f32>(totals[at + 1u]));
}

fn cell_weight(cell: u32) -> vec2<f32> {
    return totals_pair(cell, 0u);
}

fn is_live(row: u32) -> bool {
    return ((totals[problem * params.totals_stride + 1u] >> row) & 1u) == 0u;
}

fn problem_status() -> u32 {
    return results[problem * params.results_stride];
}

// The multiplier of a row of the set, as it was reported.
fn multiplier(row: u32) -> vec2<f32> {
    let at = problem * params.results_stride + RESULTS_HEAD + 2u * row;
    return vec2<f32>(bitcast<f32>(results[at]), bitcast<f32>(results[at + 1u]));
}

fn state_of(i: u32) -> u32 {
    let word = clamp_in[first / CLAMP_LANES + problem + i / CLAMP_LANES];
    let clamped = (word >> (i % CLAMP_LANES)) & 1u;
    return clamped + (clamped & (word >> (i % CLAMP_LANES + CLAMP_LANES)));
}

fn unit_weight(i: u32) -> vec2<f32> {
    if WEIGHTED {
        return weight_of(i);
    }
    return tf(1.0);
}

// The gradient to an element, and its projected value.
fn gradient_of(i: u32) -> f32 {
    let at = params.g_at + first + i;
    return bitcast<f32>(in_word(gradient[word_of(at)], at));
}

fn value_of(i: u32) -> f32 {
    return bitcast<f32>(in_word(y_in[word_of(first + i)], first + i));
}

fn quantity_of(i: u32, quantity: u32) -> vec2<f32> {
    switch quantity {
        case OF_FREE: {
            return unit_weight(i);
        }
        case OF_GRADIENT: {
            return tf(gradient_of(i));
        }
        default: {
            return tf_scale(unit_weight(i), value_of(i));
        }
    }
}

fn is_summed(quantity: u32) -> bool {
    return quantity == OF_FREE || quantity == OF_GRADIENT || (quantity == OF_VALUE && VALUED);
}

// A number that is none spoils the whole gradient.
fn summand(i: u32, quantity: u32, cell: u32) -> Summand {
    let value = quantity_of(i, quantity);
    if is_special(bitcast<u32>(value.x)) {
        atomicStore(&spoilt[team], 1u);
        return Summand(value, cell, false);
    }
    return Summand(value, cell, quantity == OF_VALUE || state_of(i) == FREE);
}

fn clear_gradient(lane: u32) {
    clear_sums(lane);
    if lane == 0u {
        atomicStore(&spoilt[team], 0u);
    }
    workgroupBarrier();
}

// The sums by cell, before anything is made of them.
fn take_sums(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        cell_free[slot(cell)] = sum_of(OF_FREE, cell);
        cell_gradient[slot(cell)] = sum_of(OF_GRADIENT, cell);
        cell_value[slot(cell)] = sum_of(OF_VALUE, cell);
        weight_constant[slot(cell)] = tf(0.0);
        weight_slope[slot(cell)] = tf(0.0);
        label_slope[slot(cell)] = tf(0.0);
    }
    for (var row = lane; row < params.rows; row += TEAM) {
        lambda[slot(row)] = tf(0.0);
    }
    workgroupBarrier();
}

fn store_row(index: u32, value: vec2<f32>) {
    let stride = 2u * (params.spreads + 2u * bounded_rows());
    let at = problem * stride + 2u * index;
    to_rows[at] = bitcast<u32>(value.x);
    to_rows[at + 1u] = bitcast<u32>(value.y);
}

fn store_level(spread: u32, value: vec2<f32>) {
    store_row(spread, value);
}

fn store_lower(contrast: u32, value: vec2<f32>) {
    store_row(params.spreads + contrast, value);
}

fn store_upper(contrast: u32, value: vec2<f32>) {
    store_row(params.spreads + bounded_rows() + contrast, value);
}

// What the rows say of the gradients to weights and labels. The weights stand in the distance and in the means alike: for
// each side U of a row, of sign s and mass S, s (-lambda (y - mean_U) / S + nu V / S^2), V the sum of dL/dz over U.
fn find_element_terms(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        for (var row = 0u; row < params.rows; row++) {
            if is_live(row) {
                if ((row_plus(row) >> cell) & 1u) != 0u {
                    add_side(cell, row, row_plus(row), tf(1.0));
                }
                if ((row_minus(row) >> cell) & 1u) != 0u {
                    add_side(cell, row, row_minus(row), tf_neg(contrast_scale(row_contrast(row))));
                }
            }
        }
    }
    workgroupBarrier();
}

fn add_side(cell: u32, row: u32, side: u32, sign: vec2<f32>) {
    var mass = tf(0.0);
    var value = tf(0.0);
    var label = tf(0.0);
    var all_moved = tf(0.0);
    for (var rest = side; rest != 0u; rest &= rest - 1u) {
        let c = firstTrailingBit(rest);
        mass = tf_add(mass, cell_weight(c));
        value = tf_add(value, cell_value[slot(c)]);
        label = tf_add(label, totals_pair(c, 1u));
        all_moved = tf_add(all_moved, moved_of(c));
    }
    let residual = row_is_residual(row);
    if residual {
        value = tf_sub(value, label);
    }
    let slope = tf_div(tf_mul(sign, lambda[slot(row)]), mass);
    let mean = tf_div(value, mass);
    let of_nu = tf_div(tf_div(tf_mul(tf_mul(sign, multiplier(row)), all_moved), mass), mass);
    weight_constant[slot(cell)] = tf_add(weight_constant[slot(cell)], tf_add(tf_mul(slope, mean), of_nu));
    weight_slope[slot(cell)] = tf_add(weight_slope[slot(cell)], slope);
    if residual {
        label_slope[slot(cell)] = tf_add(label_slope[slot(cell)], slope);
    }
}

fn wants(flag: u32) -> bool {
    return (params.wanted & flag) != 0u;
}

fn write_elements(lane: u32) {
    for (var i = part_first + lane; i < part_end; i += TEAM) {
        let cell = cell_of(i);
        let weight = unit_weight(i);
        let g = tf(gradient_of(i));
        let pulled = bitcast<u32>(tf_sub(g, tf_mul(weight, pull_of(i, cell))).x);
        let state = state_of(i);
        store_to_predictions(first + i, select(0u, pulled, state == FREE));
        if wants(WANT_BOUNDS) {
            store_to_lower(first + i, select(0u, pulled, state == AT_LOWER));
            store_to_upper(first + i, select(0u, pulled, state == AT_UPPER));
        }
        if wants(WANT_WEIGHTS) {
            var to_weight = tf_sub(weight_constant[slot(cell)], tf_scale(weight_slope[slot(cell)], value_of(i)));
            to_weight = tf_add(to_weight, of_sample_rows(i));
            if LABELLED {
                to_weight = tf_add(to_weight, tf_mul(label_slope[slot(cell)], label_of(i)));
            }
            store_to_weights(first + i, bitcast<u32>(to_weight.x));
        }
        if wants(WANT_LABELS) {
            store_to_labels(first + i, bitcast<u32>(tf_mul(weight, label_slope[slot(cell)]).x));
        }
    }
}

// The same number in all gradients to the elements in hand.
fn fill_elements(lane: u32, bits: u32) {
    for (var i = part_first + lane; i < part_end; i += TEAM) {
        store_to_predictions(first + i, bits);
        if wants(WANT_BOUNDS) {
            store_to_lower(first + i, bits);
            store_to_upper(first + i, bits);
        }
        if wants(WANT_WEIGHTS) {
            store_to_weights(first + i, bits);
        }
        if wants(WANT_LABELS) {
            store_to_labels(first + i, bits);
        }
    }
}

// And in all those to the rows.
fn fill_rows(lane: u32, bits: u32) {
    for (var row = lane; row < params.spreads + 2u * bounded_rows(); row += TEAM) {
        store_row(row, tf(bitcast<f32>(bits ^ opaque_zero())));
    }
}

// Whether there is an answer to differentiate.
fn is_solved() -> bool {
    return is_answer(problem_status()) && totals[problem * params.totals_stride] == 0u;
}
