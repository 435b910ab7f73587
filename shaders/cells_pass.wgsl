// Passes over a problem's elements: its values are read and sorted by cell once; a pass sums them by cell at given shifts.
//
// All sums are integers, so that neither their order nor the number of lanes is seen in any bit.

// Whether a problem may have more elements than there is room for, which then lie in `order`.
override SPILLS: bool = true;
// Whether there are weights.
override WEIGHTED: bool = true;

@group(0) @binding(8) var<storage, read_write> order: array<u32>;

// Elements sorted by cell: their bits, or (with arrays beside them) their indices.
var<workgroup> order_here: array<u32, ALL_ELEMENTS>;
// Where the elements of a cell end; before they are sorted, where the next goes.
var<workgroup> cell_end: array<atomic<u32>, ALL_SLOTS>;

// The sums of a pass as they grow: three limbs a cell of w y and of w over free elements; w |y| and w |t - y| more coarsely.
var<workgroup> sum_y: array<atomic<i32>, ALL_LIMBS>;
var<workgroup> sum_free: array<atomic<i32>, ALL_LIMBS>;
var<workgroup> sum_size: array<atomic<u32>, ALL_SLOTS>;
var<workgroup> sum_beyond: array<atomic<u32>, ALL_SLOTS>;

// The bits of the largest magnitudes of clip(z), of z - clip(z), of the bounds and of the weights.
var<workgroup> largest_clipped: array<atomic<u32>, TEAMS>;
var<workgroup> largest_beyond: array<atomic<u32>, TEAMS>;
var<workgroup> largest_bound: array<atomic<u32>, TEAMS>;
var<workgroup> largest_weight: array<atomic<u32>, TEAMS>;
// Of each cell: sums are cut relative to what is in them, so that light cells are summed as finely as heavy ones.
var<workgroup> largest_weight_of: array<atomic<u32>, ALL_SLOTS>;

// The shifts asked for, as two floats.
var<workgroup> cell_shift: array<vec2<f32>, ALL_SLOTS>;
// What a pass finds, and the weights of the cells: weights are in units of 2^weight_exponent().
var<workgroup> cell_y: array<vec2<f32>, ALL_SLOTS>;
var<workgroup> cell_free: array<vec2<f32>, ALL_SLOTS>;
var<workgroup> cell_size: array<f32, ALL_SLOTS>;
var<workgroup> cell_beyond: array<f32, ALL_SLOTS>;
var<workgroup> cell_weight: array<vec2<f32>, ALL_SLOTS>;

// Whether the sorted elements lie in the workgroup.
fn is_in_group() -> bool {
    return !SPILLS || n <= CAPACITY;
}

// Lanes that share a cell: all of the team, or fewer where cells are too small for that.
fn lanes_of_cell() -> u32 {
    var sharers = TEAM;
    while sharers > 32u && sharers * params.cells > part_end - part_first {
        sharers /= 2u;
    }
    return sharers;
}

// Weights are divided by 2^e for this e, so that none is above 1.
fn weight_exponent() -> i32 {
    if WEIGHTED {
        return clamp(exponent_above(atomicLoad(&largest_weight[team])), -100, 126);
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
            atomicStore(&cell_end[slot(cell)], start);
            start += totals[totals_of(cell)];
        }
        atomicStore(&unusable[team], totals[problem * params.totals_stride]);
    }
    workgroupBarrier();
    // (Of a problem that cannot be used, the cells may lie anywhere.)
    if atomicLoad(&unusable[team]) == 0u {
        sort_elements(lane);
    }
    storageBarrier();
    workgroupBarrier();
    let unit = power_of_two(-weight_exponent());
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        let weight = totals_pair(totals_of(cell) + 1u);
        cell_weight[slot(cell)] = vec2<f32>(weight.x * unit, weight.y * unit);
    }
    workgroupBarrier();
}

fn clear_pass(lane: u32) {
    for (var k = lane; k < 3u * params.cells; k += TEAM) {
        atomicStore(&sum_y[3u * slot(0u) + k], 0);
        atomicStore(&sum_free[3u * slot(0u) + k], 0);
    }
    for (var k = lane; k < params.cells; k += TEAM) {
        atomicStore(&sum_size[slot(k)], 0u);
        atomicStore(&sum_beyond[slot(k)], 0u);
        atomicStore(&largest_weight_of[slot(k)], 0u);
        cell_shift[slot(k)] = tf(0.0);
        cell_y[slot(k)] = tf(0.0);
        cell_free[slot(k)] = tf(0.0);
        cell_size[slot(k)] = 0.0;
        cell_beyond[slot(k)] = 0.0;
        cell_weight[slot(k)] = tf(0.0);
    }
    if lane == 0u {
        atomicStore(&largest_clipped[team], 0u);
        atomicStore(&largest_beyond[team], 0u);
        atomicStore(&largest_bound[team], 0u);
        atomicStore(&largest_weight[team], 0u);
        atomicStore(&overflown[team], 0u);
    }
}

// Sorts the elements in hand by cell, and notes the largest magnitudes. `cell_end` is where each cell begins.
fn sort_elements(lane: u32) {
    var clipped_here = 0u;
    var beyond_here = 0u;
    var bound_here = 0u;
    var weight_here = 0u;
    var bad_here = 0u;
    let by_cell = gathers_by_cell();
    for (var round = part_first; round < gathering_end(); round += TEAM) {
        let i = round + lane;
        let is_here = i < part_end;
        var word = 0u;
        var cell = 0u;
        if is_here {
            let bits = z_of(i);
            let lo = lower_of(i);
            let hi = upper_of(i);
            bad_here |= select(0u, 1u, is_special(bits));
            let clipped = clip(bits, lo, hi);
            clipped_here = max(clipped_here, clipped & 0x7fffffffu);
            let beyond = guard(bitcast<f32>(bits) - bitcast<f32>(clipped));
            beyond_here = max(beyond_here, bitcast<u32>(beyond) & 0x7fffffffu);
            bound_here = max(bound_here, max(lo & 0x7fffffffu, hi & 0x7fffffffu));
            cell = cell_of(i);
            if WEIGHTED {
                let weight = bitcast<u32>(weight_of(i).x);
                weight_here = max(weight_here, weight);
                atomicMax(&largest_weight_of[slot(cell)], weight);
            }
            word = select(bits, i, WEIGHTED || BOUNDED);
        }
        let at = place_in_order(cell, is_here, by_cell);
        if is_here && is_in_group() {
            order_here[team * CAPACITY + at] = word;
        } else if is_here {
            order[order_at + at] = word;
        }
    }
    let in_one_team = shares_place(team);
    if in_one_team {
        clipped_here = gathered_largest(clipped_here);
        beyond_here = gathered_largest(beyond_here);
        bound_here = gathered_largest(bound_here);
        weight_here = gathered_largest(weight_here);
        bad_here = gathered_largest(bad_here);
    }
    if !in_one_team || is_gatherer() {
        atomicMax(&largest_clipped[team], clipped_here);
        atomicMax(&largest_beyond[team], beyond_here);
        atomicMax(&largest_bound[team], bound_here);
        atomicMax(&largest_weight[team], weight_here);
        atomicOr(&unusable[team], bad_here);
    }
}

// Takes the next place of a cell.
fn place_in_order(cell: u32, is_here: bool, by_cell: bool) -> u32 {
    var at = 0u;
    if by_cell {
        for (var c = 0u; c < params.cells; c++) {
            let is_one = is_here && cell == c;
            let before = gathered_before(is_one);
            let count = gathered(select(0, 1, is_one));
            var begin = 0u;
            if is_gatherer() {
                begin = atomicAdd(&cell_end[slot(c)], u32(count));
            }
            at = select(at, from_gatherer(begin) + before, is_one);
        }
    } else if is_here {
        at = atomicAdd(&cell_end[slot(cell)], 1u);
    }
    return at;
}

// The smallest e with 2^e above every weight of a cell, in the units of `scaled_weight`; 0 without weights.
fn cell_exponent(cell: u32) -> i32 {
    if WEIGHTED {
        let largest = bitcast<f32>(atomicLoad(&largest_weight_of[slot(cell)])) * power_of_two(-weight_exponent());
        return exponent_above(bitcast<u32>(largest));
    }
    return 0;
}

// The bits of more than |y| can be at the present shifts: |clip(z - s) - clip(z)| <= |s|.
fn y_limit(largest_shift: f32) -> u32 {
    // (What is stored may be rounded up.)
    let rounded_up = 1.000001 + 4.0 * params.unit_roundoff;
    let moved_limit = (bitcast<f32>(atomicLoad(&largest_clipped[team])) + largest_shift) * rounded_up;
    return min(bitcast<u32>(moved_limit), atomicLoad(&largest_bound[team]));
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
        largest_shift = max(largest_shift, abs(cell_shift[slot(cell)].x));
    }
    let beyond_limit = (bitcast<f32>(atomicLoad(&largest_beyond[team])) + largest_shift) * 1.000001;
    return vec2<i32>(exponent_above(y_limit(largest_shift)), exponent_above(bitcast<u32>(beyond_limit)));
}

// Sums the elements by cell at the shifts asked for.
fn pass_over(lane: u32) {
    let exponents = pass_exponents();
    sum_elements_in_hand(lane, exponents);
    if !is_resting {
        finish_pass(lane, exponents.x, exponents.y);
    }
    workgroupBarrier();
}

// Takes the sums, and clears them for the next pass.
fn finish_pass(lane: u32, y_e: i32, beyond_e: i32) {
    // (Then no point of this kind is a solution.)
    let spoilt = select(0u, 0x7fc00000u, atomicLoad(&overflown[team]) != 0u);
    for (var c = lane; c < params.cells; c += TEAM) {
        let at = 3u * slot(c);
        let of_y = Limbs(atomicLoad(&sum_y[at]), atomicLoad(&sum_y[at + 1u]), atomicLoad(&sum_y[at + 2u]));
        let e = cell_exponent(c);
        cell_y[slot(c)] = joined(of_y, within(y_e + e));
        cell_y[slot(c)].x = bitcast<f32>(bitcast<u32>(cell_y[slot(c)].x) | spoilt);
        if WEIGHTED {
            let of_free = Limbs(atomicLoad(&sum_free[at]), atomicLoad(&sum_free[at + 1u]), atomicLoad(&sum_free[at + 2u]));
            cell_free[slot(c)] = joined(of_free, e);
        } else {
            cell_free[slot(c)] = tf(f32(atomicLoad(&sum_free[at])));
        }
        cell_size[slot(c)] = f32(atomicLoad(&sum_size[slot(c)])) / coarse_scale(within(y_e + e));
        cell_beyond[slot(c)] = f32(atomicLoad(&sum_beyond[slot(c)])) / coarse_scale(within(beyond_e + e));
        for (var limb = at; limb < at + 3u; limb++) {
            atomicStore(&sum_y[limb], 0);
            atomicStore(&sum_free[limb], 0);
        }
        atomicStore(&sum_size[slot(c)], 0u);
        atomicStore(&sum_beyond[slot(c)], 0u);
    }
}

// Adds what the sorted elements in hand are at those shifts.
fn sum_elements_in_hand(lane: u32, exponents: vec2<i32>) {
    let sharers = lanes_of_cell();
    var largest_stored = 0u;
    for (var round = 0u; round < params.cells; round += TEAM / sharers) {
        let cell = round + lane / sharers;
        var sums = CellSums();
        if !is_resting && cell < params.cells {
            sums = sum_cell(cell, lane % sharers, sharers, exponents.x, exponents.y);
        }
        largest_stored = max(largest_stored, sums.largest_stored);
        let shares = shares_place(slot(cell));
        if shares {
            sums.y = gathered_limbs(sums.y);
            sums.free = gathered_limbs(sums.free);
            sums.size = u32(gathered(i32(sums.size)));
            sums.beyond = u32(gathered(i32(sums.beyond)));
        }
        if sums.size != 0u && (!shares || is_gatherer()) {
            add_to_cell(cell, sums);
        }
    }
    if is_special(largest_stored) {
        atomicStore(&overflown[team], 1u);
    }
    workgroupBarrier();
}

fn gathered_limbs(a: Limbs) -> Limbs {
    return Limbs(gathered(a.low), gathered(a.high), gathered(a.top));
}

fn add_to_cell(cell: u32, sums: CellSums) {
    let at = 3u * slot(cell);
    atomicAdd(&sum_y[at], sums.y.low);
    atomicAdd(&sum_y[at + 1u], sums.y.high);
    atomicAdd(&sum_y[at + 2u], sums.y.top);
    if WEIGHTED {
        atomicAdd(&sum_free[at + 1u], sums.free.high);
        atomicAdd(&sum_free[at + 2u], sums.free.top);
    }
    atomicAdd(&sum_free[at], sums.free.low);
    atomicAdd(&sum_size[slot(cell)], sums.size);
    atomicAdd(&sum_beyond[slot(cell)], sums.beyond);
}

// The sums of some elements of a cell: none has a size of 0. And the bits of the largest magnitude that is stored.
struct CellSums {
    y: Limbs,
    free: Limbs,
    size: u32,
    beyond: u32,
    largest_stored: u32,
}

// Sums a cell's elements, those of one of the lanes that share it.
fn sum_cell(cell: u32, member: u32, sharers: u32, y_e: i32, beyond_e: i32) -> CellSums {
    var begin = 0u;
    if cell > 0u {
        begin = atomicLoad(&cell_end[slot(cell - 1u)]);
    }
    let end = atomicLoad(&cell_end[slot(cell)]);
    let shift = cell_shift[slot(cell)];
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
    let stretch = 256u * sharers;
    for (var tile = begin + member; tile < end; tile += stretch) {
        for (var entry = tile; entry < min(tile + stretch, end); entry += sharers) {
            var word: u32;
            if is_in_group() {
                word = order_here[team * CAPACITY + entry];
            } else {
                word = order[order_at + entry];
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
    return CellSums(y_sum, free_sum, size_sum, beyond_sum, largest_stored);
}

// The shift of an element at the last pass.
fn shift_at(i: u32) -> vec2<f32> {
    return cell_shift[slot(cell_of(i))];
}
