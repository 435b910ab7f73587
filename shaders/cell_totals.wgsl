// What `cells_prepare` does with the elements in hand: groups, labels and control values to one-byte cells; per-cell counts and
// sums of weights, labels and bounds; inactive rows; and whether every number but the predictions can be used.

// Whether cells are given, and not computed from groups.
override GIVEN: bool = false;
// Which arrays there are.
override WEIGHTED: bool = true;
override LABELLED: bool = true;

@group(0) @binding(2) var<storage, read> groups: array<u32>;
@group(0) @binding(3) var<storage, read> control: array<u32>;
@group(0) @binding(4) var<storage, read> labels: array<f32>;
@group(0) @binding(5) var<storage, read> weights: array<f32>;
@group(0) @binding(6) var<storage, read> lower: array<u32>;
@group(0) @binding(7) var<storage, read> upper: array<u32>;
@group(0) @binding(8) var<storage, read_write> cells: array<u32>;
@group(0) @binding(9) var<storage, read_write> totals: array<u32>;

const OF_WEIGHT = 0u;
const OF_LABEL = 1u;
const OF_LOWER = 2u;
const OF_UPPER = 3u;

var<workgroup> counts: array<atomic<u32>, ALL_SLOTS>;
// The cells that have an element without a lower bound, or upper one.
var<workgroup> unbounded: array<array<atomic<u32>, 2>, TEAMS>;
var<workgroup> bad: array<atomic<u32>, TEAMS>;
var<workgroup> inactive: array<atomic<u32>, TEAMS>;

// The cell of element `i`; NONE if an id is out of range. `given` is what the batch has, if it gives cells.
fn computed_cell(i: u32) -> u32 {
    var id = 0u;
    var within = true;
    for (var feature = 0u; feature < params.features; feature++) {
        let count = tables[params.features_at + 3u * feature];
        let shared_here = tables[params.features_at + 3u * feature + 2u] != 0u;
        let at = tables[params.features_at + 3u * feature + 1u] + select(first, 0u, shared_here) + i;
        let group = (groups[at >> 2u] >> (8u * (at & 3u))) & 0xffu;
        within = within && group < count;
        id = id * count + group;
    }
    var stratum = 0u;
    var strata = 1u;
    if params.strata == NONE {
        strata = 2u;
        let label = label_of(i);
        stratum = select(0u, 1u, tf_less(tf(0.5), label));
    } else if params.strata > 0u {
        strata = params.strata;
        let at = params.control_at + place(i, SHARED_CONTROL);
        stratum = (control[at >> 2u] >> (8u * (at & 3u))) & 0xffu;
    }
    within = within && stratum < strata;
    return select(NONE, id * strata + stratum, within);
}

// The bytes of the cells of four elements from `i` on, as the batch gives them.
fn given_cells(i: u32) -> u32 {
    let at = cells_from() + i;
    let shift = 8u * (at & 3u);
    let low = cells[at >> 2u] >> shift;
    // (Past the end of the array this reads anything, which is not used.)
    return select(low | (cells[(at + 3u) >> 2u] << (32u - shift)), low, shift == 0u);
}

// Whether the numbers of element `i` can be used.
fn is_usable(i: u32) -> bool {
    var usable = true;
    if WEIGHTED {
        // (Zeros and what is too small for a digit have no exponent.)
        let bits = bitcast<u32>(weights[params.weights_at + place(i, SHARED_WEIGHTS)]);
        usable = usable && bits >= 0x00800000u && bits < 0x7f800000u;
    }
    if LABELLED {
        usable = usable && !is_special(bitcast<u32>(labels[params.labels_at + place(i, SHARED_LABELS)]));
    }
    if BOUNDED {
        let lo = lower_of(i);
        let hi = upper_of(i);
        usable = usable && !is_nan(lo) && !is_nan(hi) && key(lo) <= key(hi);
        usable = usable && lo != 0x7f800000u && hi != 0xff800000u && (!has(HAS_RATIO) || key(lo) >= 0);
    }
    return usable;
}

// The quantities of an element. (That of an infinite bound is infinite, and not summed.)
fn quantity_of(i: u32, quantity: u32) -> vec2<f32> {
    var weight = tf(1.0);
    if WEIGHTED {
        weight = weight_of(i);
    }
    switch quantity {
        case OF_WEIGHT: {
            return weight;
        }
        case OF_LABEL: {
            return tf_mul(weight, label_of(i));
        }
        case OF_LOWER: {
            return tf_mul(weight, tf(bitcast<f32>(lower_of(i))));
        }
        default: {
            return tf_mul(weight, tf(bitcast<f32>(upper_of(i))));
        }
    }
}

fn bound_is_infinite(i: u32, quantity: u32) -> bool {
    return quantity >= OF_LOWER && is_special(select(upper_of(i), lower_of(i), quantity == OF_LOWER));
}

// Which quantities are summed: the others follow from them.
fn is_summed(quantity: u32) -> bool {
    return (quantity == OF_WEIGHT && WEIGHTED) || (quantity == OF_LABEL && LABELLED) || (quantity >= OF_LOWER && BOUNDED);
}

fn store_pair(at: u32, value: vec2<f32>) {
    totals[at] = bitcast<u32>(value.x);
    totals[at + 1u] = bitcast<u32>(value.y);
}

fn weight_sum(cell: u32) -> vec2<f32> {
    if WEIGHTED {
        return sum_of(OF_WEIGHT, cell);
    }
    return tf(f32(atomicLoad(&counts[slot(cell)])));
}

fn label_sum(cell: u32) -> vec2<f32> {
    if LABELLED {
        return sum_of(OF_LABEL, cell);
    }
    return tf(0.0);
}

// The sum of w times a bound over a cell.
fn bound_sum(cell: u32, quantity: u32) -> vec2<f32> {
    let scalar = select(params.hi, params.lo, quantity == OF_LOWER);
    let by_element = has(select(ELEMENT_HI, ELEMENT_LO, quantity == OF_LOWER));
    let infinity = tf(bitcast<f32>(select(0x7f800000u, 0xff800000u, quantity == OF_LOWER) ^ opaque_zero()));
    if atomicLoad(&counts[slot(cell)]) == 0u {
        return tf(0.0);
    }
    if by_element {
        let is_infinite = ((atomicLoad(&unbounded[team][quantity - OF_LOWER]) >> cell) & 1u) != 0u;
        if is_infinite {
            return infinity;
        }
        return sum_of(quantity, cell);
    }
    if is_special(scalar) {
        return infinity;
    }
    return tf_scale(weight_sum(cell), bitcast<f32>(scalar));
}

fn has_samples(mask: u32) -> bool {
    var any = false;
    for (var rest = mask; rest != 0u; rest &= rest - 1u) {
        any = any || atomicLoad(&counts[slot(firstTrailingBit(rest))]) != 0u;
    }
    return any;
}

fn is_live(row: u32) -> bool {
    let spread = row_spread(row);
    if spread == NONE && row_contrast(row) >= params.contrasts {
        return true;
    }
    if spread == NONE {
        return has_samples(row_plus(row)) && (row_minus(row) == 0u || has_samples(row_minus(row)));
    }
    var live = 0u;
    for (var other = spread_first(spread); other < spread_end(spread); other++) {
        live += select(0u, 1u, has_samples(row_plus(other)));
    }
    return live > 1u && has_samples(row_plus(row));
}

// Whether anything is summed but counts.
fn has_quantities() -> bool {
    return WEIGHTED || LABELLED || BOUNDED;
}

fn clear_totals(lane: u32) {
    if has_quantities() {
        clear_sums(lane);
    }
    for (var k = lane; k < params.cells; k += TEAM) {
        atomicStore(&counts[slot(k)], 0u);
    }
    if lane == 0u {
        atomicStore(&unbounded[team][0], 0u);
        atomicStore(&unbounded[team][1], 0u);
        atomicStore(&bad[team], 0u);
        atomicStore(&inactive[team], 0u);
    }
    workgroupBarrier();
}

// Computes the cells and counts them, four to a word; which problems share no word.
fn find_cells(lane: u32) {
    var usable = true;
    let words = first / 4u + problem;
    let by_cell = gathers_by_cell();
    for (var round = part_first / 4u; 4u * round < gathering_end(); round += TEAM) {
        let k = round + lane;
        var word = 0u;
        var ids = 0u;
        if GIVEN && 4u * k < part_end {
            ids = given_cells(4u * k);
        }
        for (var i = 4u * k; i < 4u * k + 4u; i++) {
            let is_here = i < part_end;
            var cell = 0u;
            if GIVEN {
                cell = ids & 0xffu;
                cell = select(NONE, cell, cell < params.cells);
                ids >>= 8u;
            } else if is_here {
                cell = computed_cell(i);
            }
            if is_here {
                usable = usable && cell != NONE && is_usable(i);
            }
            cell = select(cell, 0u, cell == NONE);
            count_element(cell, is_here, by_cell);
            word |= cell << (8u * (i & 3u));
        }
        if !GIVEN && 4u * k < part_end {
            cells[words + k] = word;
        }
    }
    if !usable {
        atomicStore(&bad[team], 1u);
    }
    storageBarrier();
    workgroupBarrier();
}

fn count_element(cell: u32, is_here: bool, by_cell: bool) {
    if by_cell {
        for (var c = 0u; c < params.cells; c++) {
            let count = gathered(select(0, 1, is_here && cell == c));
            if is_gatherer() {
                atomicAdd(&counts[slot(c)], u32(count));
            }
        }
    } else if is_here {
        atomicAdd(&counts[slot(cell)], 1u);
    }
}

fn is_infinite(i: u32, quantity: u32, value: vec2<f32>) -> bool {
    return bound_is_infinite(i, quantity) || is_special(bitcast<u32>(value.x));
}

fn note_infinite(quantity: u32, cell: u32) {
    if quantity >= OF_LOWER {
        atomicOr(&unbounded[team][quantity - OF_LOWER], 1u << cell);
    } else {
        atomicStore(&bad[team], 1u);
    }
}

// A quantity that cannot be summed is noted apart.
fn summand(i: u32, quantity: u32, cell: u32) -> Summand {
    let value = quantity_of(i, quantity);
    let infinite = is_infinite(i, quantity, value);
    if infinite {
        note_infinite(quantity, cell);
    }
    return Summand(value, cell, !infinite);
}

fn store_totals(lane: u32) {
    if !is_idle {
        store_cells(lane);
    }
    workgroupBarrier();
    if !is_idle && lane == 0u {
        store_total();
    }
}

fn store_cells(lane: u32) {
    let record = problem * params.totals_stride;
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        let at = record + TOTALS_HEAD + TOTALS_CELL * cell;
        totals[at] = atomicLoad(&counts[slot(cell)]);
        store_pair(at + 1u, weight_sum(cell));
        store_pair(at + 3u, label_sum(cell));
        store_pair(at + 5u, bound_sum(cell, OF_LOWER));
        store_pair(at + 7u, bound_sum(cell, OF_UPPER));
    }
    for (var row = lane; row < params.rows; row += TEAM) {
        if !is_live(row) {
            atomicOr(&inactive[team], 1u << row);
        }
    }
}

fn store_total() {
    let record = problem * params.totals_stride;
    var total = tf(0.0);
    for (var cell = 0u; cell < params.cells; cell++) {
        total = tf_add(total, weight_sum(cell));
    }
    let unusable = atomicLoad(&bad[team]) != 0u || is_special(bitcast<u32>(total.x));
    totals[record] = select(0u, 1u, unusable);
    totals[record + 1u] = atomicLoad(&inactive[team]);
    store_pair(record + 2u, total);
}
