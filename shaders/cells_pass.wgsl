// Passes over a problem's elements: its values are read and sorted by cell once; a pass sums them by cell at given shifts.
//
// All sums are integers, so that neither their order nor the number of lanes is seen in any bit.

// Elements that there is room for in the workgroup; and whether a problem may have more, which then lie in `order`.
override CAPACITY: u32 = 1024u;
override SPILLS: bool = true;
// Whether there are weights.
override WEIGHTED: bool = true;

@group(0) @binding(8) var<storage, read_write> order: array<u32>;

// Elements sorted by cell: their bits, or (with arrays beside them) their indices.
var<workgroup> order_here: array<u32, CAPACITY>;
// Where the elements of a cell end; before they are sorted, where the next goes.
var<workgroup> cell_end: array<atomic<u32>, 32>;

// The sums of a pass as they grow: three limbs a cell of w y and of w over free elements; w |y| and w |t - y| more coarsely.
var<workgroup> sum_y: array<atomic<i32>, 96>;
var<workgroup> sum_free: array<atomic<i32>, 96>;
var<workgroup> sum_size: array<atomic<u32>, 32>;
var<workgroup> sum_beyond: array<atomic<u32>, 32>;

// The bits of the largest magnitudes of clip(z), of z - clip(z), of the bounds and of the weights.
var<workgroup> largest_clipped: atomic<u32>;
var<workgroup> largest_beyond: atomic<u32>;
var<workgroup> largest_bound: atomic<u32>;
var<workgroup> largest_weight: atomic<u32>;
// Of each cell: sums are cut relative to what is in them, so that light cells are summed as finely as heavy ones.
var<workgroup> largest_weight_of: array<atomic<u32>, 32>;

// The shifts asked for, as two floats.
var<workgroup> cell_shift: array<vec2<f32>, 32>;
// What a pass finds, and the weights of the cells: weights are in units of 2^weight_exponent().
var<workgroup> cell_y: array<vec2<f32>, 32>;
var<workgroup> cell_free: array<vec2<f32>, 32>;
var<workgroup> cell_size: array<f32, 32>;
var<workgroup> cell_beyond: array<f32, 32>;
var<workgroup> cell_weight: array<vec2<f32>, 32>;

// Whether the sorted elements lie in the workgroup.
fn is_in_group() -> bool {
    return !SPILLS || n <= CAPACITY;
}

// Lanes that share a cell: all, or fewer where cells are too small for that.
fn team_size() -> u32 {
    var team = LANES;
    while team > 32u && team * params.cells > part_end - part_first {
        team /= 2u;
    }
    return team;
}

// Weights are divided by 2^e for this e, so that none is above 1.
fn weight_exponent() -> i32 {
    if WEIGHTED {
        return clamp(exponent_above(atomicLoad(&largest_weight)), -100, 126);
    }
    return 0;
}

fn scaled_weight(i: u32) -> vec2<f32> {
    let unit = power_of_two(-weight_exponent());
    let weight = weight_of(i);
    return vec2<f32>(weight.x * unit, weight.y * unit);
}

// Reads the problem and sorts it. `unusable` is set if a number cannot be used.
fn load_problem(lane: u32) {
    clear_pass(lane);
    if lane == 0u {
        var start = 0u;
        for (var cell = 0u; cell < params.cells; cell++) {
            atomicStore(&cell_end[cell], start);
            start += totals[totals_of(cell)];
        }
        atomicStore(&unusable, totals[problem * params.totals_stride]);
    }
    workgroupBarrier();
    // (Of a problem that cannot be used, the cells may lie anywhere.)
    if workgroupUniformLoad(&unusable) == 0u {
        sort_elements(lane);
    }
    storageBarrier();
    workgroupBarrier();
    let unit = power_of_two(-weight_exponent());
    for (var cell = lane; cell < params.cells; cell += LANES) {
        let weight = totals_pair(totals_of(cell) + 1u);
        cell_weight[cell] = vec2<f32>(weight.x * unit, weight.y * unit);
    }
    workgroupBarrier();
}

fn clear_pass(lane: u32) {
    for (var k = lane; k < 3u * params.cells; k += LANES) {
        atomicStore(&sum_y[k], 0);
        atomicStore(&sum_free[k], 0);
    }
    for (var k = lane; k < params.cells; k += LANES) {
        atomicStore(&sum_size[k], 0u);
        atomicStore(&sum_beyond[k], 0u);
        atomicStore(&largest_weight_of[k], 0u);
        cell_shift[k] = tf(0.0);
        cell_y[k] = tf(0.0);
        cell_free[k] = tf(0.0);
        cell_size[k] = 0.0;
        cell_beyond[k] = 0.0;
        cell_weight[k] = tf(0.0);
    }
    if lane == 0u {
        atomicStore(&largest_clipped, 0u);
        atomicStore(&largest_beyond, 0u);
        atomicStore(&largest_bound, 0u);
        atomicStore(&largest_weight, 0u);
        atomicStore(&overflown, 0u);
    }
}

// Sorts the elements in hand by cell, and notes the largest magnitudes. `cell_end` is where each cell begins.
fn sort_elements(lane: u32) {
    var clipped_here = 0u;
    var beyond_here = 0u;
    var bound_here = 0u;
    var weight_here = 0u;
    var bad_here = 0u;
    for (var i = part_first + lane; i < part_end; i += LANES) {
        let bits = z_of(i);
        let lo = lower_of(i);
        let hi = upper_of(i);
        bad_here |= select(0u, 1u, is_special(bits));
        let clipped = clip(bits, lo, hi);
        clipped_here = max(clipped_here, clipped & 0x7fffffffu);
        let beyond = guard(bitcast<f32>(bits) - bitcast<f32>(clipped));
        beyond_here = max(beyond_here, bitcast<u32>(beyond) & 0x7fffffffu);
        bound_here = max(bound_here, max(lo & 0x7fffffffu, hi & 0x7fffffffu));
        let cell = cell_of(i);
        if WEIGHTED {
            let weight = bitcast<u32>(weight_of(i).x);
            weight_here = max(weight_here, weight);
            atomicMax(&largest_weight_of[cell], weight);
        }
        let at = atomicAdd(&cell_end[cell], 1u);
        let word = select(bits, i, WEIGHTED || BOUNDED);
        if is_in_group() {
            order_here[at] = word;
        } else {
            order[order_at + at] = word;
        }
    }
    atomicMax(&largest_clipped, clipped_here);
    atomicMax(&largest_beyond, beyond_here);
    atomicMax(&largest_bound, bound_here);
    atomicMax(&largest_weight, weight_here);
    atomicOr(&unusable, bad_here);
}

// The smallest e with 2^e above every weight of a cell, in the units of `scaled_weight`; 0 without weights.
fn cell_exponent(cell: u32) -> i32 {
    if WEIGHTED {
        let largest = bitcast<f32>(atomicLoad(&largest_weight_of[cell])) * power_of_two(-weight_exponent());
        return exponent_above(bitcast<u32>(largest));
    }
    return 0;
}

// The bits of more than |y| can be at the present shifts: |clip(z - s) - clip(z)| <= |s|.
fn y_limit(largest_shift: f32) -> u32 {
    // (What is stored may be rounded up.)
    let rounded_up = 1.000001 + 4.0 * params.unit_roundoff;
    let moved_limit = (bitcast<f32>(atomicLoad(&largest_clipped)) + largest_shift) * rounded_up;
    return min(bitcast<u32>(moved_limit), atomicLoad(&largest_bound));
}

// An exponent that limbs and coarse sums can have.
fn within(e: i32) -> i32 {
    return clamp(e, -100, 128);
}

// A power of two that brings numbers below 2^e to integers that all of a workgroup's can be summed of.
fn coarse_scale(e: i32) -> f32 {
    let bits = i32(32u - countLeadingZeros(max(part_room, 1u)));
    return power_of_two(clamp(min(14, 31 - bits) - e, -126, 127));
}

// The exponents above |y| and above |t - y| at the shifts asked for.
fn pass_exponents() -> vec2<i32> {
    var largest_shift = 0.0;
    for (var cell = 0u; cell < params.cells; cell++) {
        largest_shift = max(largest_shift, abs(cell_shift[cell].x));
    }
    let beyond_limit = (bitcast<f32>(atomicLoad(&largest_beyond)) + largest_shift) * 1.000001;
    return vec2<i32>(exponent_above(y_limit(largest_shift)), exponent_above(bitcast<u32>(beyond_limit)));
}

// Sums the elements by cell at the shifts asked for.
fn pass_over(lane: u32) {
    let exponents = pass_exponents();
    sum_elements_in_hand(lane, exponents);
    let y_e = exponents.x;
    let beyond_e = exponents.y;
    // (Then no point of this kind is a solution.)
    let spoilt = select(0u, 0x7fc00000u, atomicLoad(&overflown) != 0u);
    for (var c = lane; c < params.cells; c += LANES) {
        let at = 3u * c;
        let of_y = Limbs(atomicLoad(&sum_y[at]), atomicLoad(&sum_y[at + 1u]), atomicLoad(&sum_y[at + 2u]));
        let e = cell_exponent(c);
        cell_y[c] = joined(of_y, within(y_e + e));
        cell_y[c].x = bitcast<f32>(bitcast<u32>(cell_y[c].x) | spoilt);
        if WEIGHTED {
            let of_free = Limbs(atomicLoad(&sum_free[at]), atomicLoad(&sum_free[at + 1u]), atomicLoad(&sum_free[at + 2u]));
            cell_free[c] = joined(of_free, e);
        } else {
            cell_free[c] = tf(f32(atomicLoad(&sum_free[at])));
        }
        cell_size[c] = f32(atomicLoad(&sum_size[c])) / coarse_scale(within(y_e + e));
        cell_beyond[c] = f32(atomicLoad(&sum_beyond[c])) / coarse_scale(within(beyond_e + e));
        for (var limb = at; limb < at + 3u; limb++) {
            atomicStore(&sum_y[limb], 0);
            atomicStore(&sum_free[limb], 0);
        }
        atomicStore(&sum_size[c], 0u);
        atomicStore(&sum_beyond[c], 0u);
    }
    workgroupBarrier();
}

// Adds what the sorted elements in hand are at those shifts.
fn sum_elements_in_hand(lane: u32, exponents: vec2<i32>) {
    let team = team_size();
    var largest_stored = 0u;
    for (var cell = lane / team; cell < params.cells; cell += LANES / team) {
        largest_stored = max(largest_stored, sum_cell(cell, lane % team, team, exponents.x, exponents.y));
    }
    if is_special(largest_stored) {
        atomicStore(&overflown, 1u);
    }
    workgroupBarrier();
}

// Adds up a cell's elements, those of one member of its team. Returns the bits of the largest magnitude that is stored.
fn sum_cell(cell: u32, member: u32, team: u32, y_e: i32, beyond_e: i32) -> u32 {
    var begin = 0u;
    if cell > 0u {
        begin = atomicLoad(&cell_end[cell - 1u]);
    }
    let end = atomicLoad(&cell_end[cell]);
    let shift = cell_shift[cell];
    let cell_e = cell_exponent(cell);
    let y_scale = limb_scale(within(y_e + cell_e));
    let free_scale = limb_scale(cell_e);
    let size_scale = coarse_scale(within(y_e + cell_e));
    let beyond_scale = coarse_scale(within(beyond_e + cell_e));
    var lo = params.lo;
    var hi = params.hi;
    var y_sum = Limbs(0, 0, 0);
    var free_sum = Limbs(0, 0, 0);
    var size_sum = 0u;
    var beyond_sum = 0u;
    var largest_stored = 0u;
    // After so many rounds the limbs are carried.
    let stretch = 256u * team;
    for (var tile = begin + member; tile < end; tile += stretch) {
        for (var slot = tile; slot < min(tile + stretch, end); slot += team) {
            var word: u32;
            if is_in_group() {
                word = order_here[slot];
            } else {
                word = order[order_at + slot];
            }
            var bits = word;
            if WEIGHTED || BOUNDED {
                bits = z_of(word);
            }
            if BOUNDED {
                lo = lower_of(word);
                hi = upper_of(word);
            }
            let t = moved(bits, shift);
            let y = clip(t, lo, hi);
            let stored = as_stored(y);
            let value = bitcast<f32>(stored);
            largest_stored = max(largest_stored, stored & 0x7fffffffu);
            // (What is not moved keeps its bits.)
            let free = select(0, 1, y == t);
            let beyond = abs(bitcast<f32>(t) - bitcast<f32>(y));
            if WEIGHTED {
                let weight = scaled_weight(word);
                let part = cut(tf_scale(weight, value), y_scale);
                let free_part = free * cut(weight, free_scale);
                y_sum.low += part.x;
                y_sum.high += part.y;
                free_sum.low += free_part.x;
                free_sum.high += free_part.y;
                size_sum += u32(weight.x * abs(value) * size_scale) + 1u;
                beyond_sum += select(u32(weight.x * beyond * beyond_scale) + 1u, 0u, beyond == 0.0);
            } else {
                let part = cut_single(value, y_scale);
                y_sum.low += part.x;
                y_sum.high += part.y;
                free_sum.low += free;
                size_sum += u32(abs(value) * size_scale) + 1u;
                beyond_sum += select(u32(beyond * beyond_scale) + 1u, 0u, beyond == 0.0);
            }
        }
        y_sum = carried(y_sum);
        if WEIGHTED {
            free_sum = carried(free_sum);
        }
    }
    if begin + member < end {
        atomicAdd(&sum_y[3u * cell], y_sum.low);
        atomicAdd(&sum_y[3u * cell + 1u], y_sum.high);
        atomicAdd(&sum_y[3u * cell + 2u], y_sum.top);
        if WEIGHTED {
            atomicAdd(&sum_free[3u * cell + 1u], free_sum.high);
            atomicAdd(&sum_free[3u * cell + 2u], free_sum.top);
        }
        atomicAdd(&sum_free[3u * cell], free_sum.low);
        atomicAdd(&sum_size[cell], size_sum);
        atomicAdd(&sum_beyond[cell], beyond_sum);
    }
    return largest_stored;
}

// The shift of an element at the last pass.
fn shift_at(i: u32) -> vec2<f32> {
    return cell_shift[cell_of(i)];
}
