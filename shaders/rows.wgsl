// The live rows of one problem, in the form that the solver works on. Twin of src/reference/rows.rs.
//
// Lane r works on row r, and lane c on cell c; numbers without an index are the same in all lanes, which all compute them
// in the same order. A row has one coefficient for all cells of its first mean only, one for those of its second mean
// only, and one for the cells of both. Of rows with a coefficient for every sample, the last of a set, this knows only
// what all rows have: `rows_of_cells.wgsl` and `rows_of_samples.wgsl` work with the coefficients.

/// Stands for an infinite bound: larger than whatever else there is.
const BIG: f32 = 1e20;
const NO_BLOCK: u32 = 0xffffffffu;

/// A spread's rows: those of its unions that hold samples, if there are at least two.
struct Block {
    first: u32,
    end: u32,
    /// Whether the limit is a ratio below 1: the balance of the multipliers then depends on their signs.
    ratio: u32,
    /// Epsilon, or the ratio, and one over that.
    level: vec2<f32>,
    inverse_level: vec2<f32>,
    /// The centre of its means that the last step aims at.
    centre: vec2<f32>,
    /// The row that pays for what the multipliers lack of balance.
    payer: u32,
}

/// Which numbers of the rows a function is to work on.
const NU: u32 = 0u;
const TRIAL: u32 = 1u;
/// How far the multipliers that minimise the model are from `NU`.
const STEP: u32 = 2u;
/// The step that solves the system on the support; then, a ray.
const X: u32 = 3u;
const MEANS: u32 = 4u;
/// What the means are in the model, at `X`.
const MODEL: u32 = 5u;
/// What a row exceeds its upper bound by, and its lower one (of a ratio: divided by the ratio).
const ABOVE: u32 = 6u;
const BELOW: u32 = 7u;

var<workgroup> row: array<array<vec2<f32>, 32>, 8>;
var<workgroup> row_cells: array<vec3<u32>, 32>;
var<workgroup> row_factor: array<array<vec2<f32>, 3>, 32>;
var<workgroup> rows_lower: array<vec2<f32>, 32>;
var<workgroup> rows_upper: array<vec2<f32>, 32>;
/// The largest coefficient, and the same before the sides of a contrast cancel.
var<workgroup> row_reach: array<f32, 32>;
var<workgroup> row_rough: array<f32, 32>;
/// Of the lane's own row `sum_c coefficient^2 weight`, 1 if that is 0.
var<private> row_scale: f32;
var<workgroup> row_block: array<u32, 32>;
/// The component that a row belongs to: rows that share cells, directly or through others.
var<workgroup> row_part: array<u32, 32>;
/// By how much a row's bounds are relaxed; a component's are alike.
var<workgroup> row_relaxed: array<vec2<f32>, 32>;
var<workgroup> blocks: array<Block, 16>;
/// Numbers of each lane, on their way to all.
var<workgroup> exchange: array<vec3<f32>, 32>;

var<private> row_count: u32;
var<private> block_count: u32;
/// The rows of the set that are live, as bits.
var<private> live_rows: u32;
/// The components that have live rows, as bits.
var<private> live_parts: u32;
/// Whether any row is relaxed.
var<private> is_relaxed: bool;

fn below_bit(bit: u32) -> u32 {
    return select((1u << bit) - 1u, 0xffffffffu, bit >= 32u);
}

/// The rows of a block, as bits.
fn block_rows(b: u32) -> u32 {
    return below_bit(blocks[b].end) & ~below_bit(blocks[b].first);
}

/// The place of the bit that has so many others below it.
fn nth_bit(bits: u32, n: u32) -> u32 {
    var rest = bits;
    for (var i = 0u; i < n; i += 1u) {
        rest &= rest - 1u;
    }
    return firstTrailingBit(rest);
}

/// The sum over cells of one of their numbers: see `cell_number` of the module that this text is joined to.
fn sum_over(cells: u32, what: u32) -> vec2<f32> {
    var sum = vec2<f32>();
    for (var rest = cells; rest != 0u; rest &= rest - 1u) {
        sum = tf_add(sum, cell_number(firstTrailingBit(rest), what));
    }
    return sum;
}

/// A row bound of the user's, `BIG` in place of an infinite one.
fn bounded(value: vec2<f32>) -> vec2<f32> {
    let infinite = !is_finite(value.x) || abs(value.x) >= BIG;
    return select(value, vec2<f32>(select(BIG, -BIG, (bitcast<u32>(value.x) >> 31u) == 1u), 0.0), infinite);
}

/// Builds the rows that the cells' weights leave alive. False if a level or a row bound of the problem cannot be used.
fn rows_build(lane: u32) -> bool {
    var present = 0u;
    for (var c = 0u; c < set_cells(); c += 1u) {
        present |= select(0u, 1u << c, cell_weight[c].x > 0.0);
    }
    var usable = true;
    live_rows = 0u;
    row_count = 0u;
    block_count = 0u;
    live_parts = 0u;
    is_relaxed = false;
    for (var s = 0u; s < set_spreads(); s += 1u) {
        let limit = level(s);
        let is_ratio = spread_is_ratio(s);
        usable = usable && is_finite(limit.x) && select(limit.x >= 0.0, limit.x > 0.0 && !tf_less(tf(1.0), limit), is_ratio);
        var held = 0u;
        for (var r = spread_first(s); r < spread_end(s); r += 1u) {
            held |= select(0u, 1u << r, (row_plus(r) & present) != 0u);
        }
        let count = countOneBits(held);
        if count > 1u {
            live_rows |= held;
            if lane == 0u {
                let ratio = u32(is_ratio && tf_less(limit, tf(1.0)));
                let level = select(limit, vec2<f32>(), is_ratio && ratio == 0u);
                let inverse = tf_div(tf(1.0), select(tf(1.0), limit, ratio == 1u));
                blocks[block_count] = Block(row_count, row_count + count, ratio, level, inverse, vec2<f32>(), 0u);
            }
            block_count += 1u;
            row_count += count;
        }
    }
    let bounded_rows = set_contrasts() + sample_rows();
    for (var k = 0u; k < bounded_rows; k += 1u) {
        let lower = row_lower(k);
        let upper = row_upper(k);
        let high = (bitcast<u32>(lower.x) != 0x7f800000u) && (bitcast<u32>(upper.x) != 0xff800000u);
        usable = usable && high && number(lower.x) && number(upper.x) && !tf_less(bounded(upper), bounded(lower));
        let source = set_rows() - bounded_rows + k;
        let minus = row_minus(source);
        let held = (row_plus(source) & present) != 0u && (minus == 0u || (minus & present) != 0u);
        if held || k >= set_contrasts() {
            live_rows |= 1u << source;
            row_count += 1u;
        }
    }
    workgroupBarrier();
    if lane < row_count {
        let source = nth_bit(live_rows, lane);
        if source < set_rows() - sample_rows() {
            build_row(lane, source, present);
        } else {
            build_sample_row(lane, source);
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < row_count; r += 1u) {
        live_parts |= 1u << row_part[r];
    }
    return usable;
}

fn build_row(r: u32, source: u32, present: u32) {
    let first = row_plus(source) & present;
    let second = row_minus(source) & present;
    let cells = vec3<u32>(first & ~second, second & ~first, first & second);
    // Weights of the three parts, then labels.
    var sums: array<vec2<f32>, 6>;
    for (var part = 0u; part < 6u; part += 1u) {
        sums[part] = sum_over(cells[part % 3u], select(WEIGHTS, LABELS, part >= 3u));
    }
    var b = 0u;
    while b < block_count && r >= blocks[b].end {
        b += 1u;
    }
    let is_spread = b < block_count;
    var scale = vec2<f32>();
    var is_residual = false;
    var bounds: array<vec2<f32>, 2>;
    if is_spread {
        let half = 0.5 * blocks[b].level * f32(1u - blocks[b].ratio);
        bounds = array<vec2<f32>, 2>(-half, half);
    } else {
        let k = source + set_contrasts() + sample_rows() - set_rows();
        scale = select(vec2<f32>(), contrast_scale(k), second != 0u);
        is_residual = contrast_residual(k);
        bounds = array<vec2<f32>, 2>(bounded(row_lower(k)), bounded(row_upper(k)));
    }
    // The sides' coefficients, and where the masses are in both, their difference: what is in both cancels before it can
    // round.
    var factors: array<vec2<f32>, 3>;
    var target_mean = vec2<f32>();
    var mass = vec2<f32>();
    for (var side = 0u; side < 2u; side += 1u) {
        mass = tf_add(sums[side], sums[2]);
        factors[side] = tf_div(select(tf(1.0), -scale, side == 1u), select(mass, tf(1.0), mass.x == 0.0));
        target_mean = tf_add(target_mean, tf_mul(factors[side], tf_add(sums[3u + side], sums[5])));
    }
    if cells.z != 0u {
        // (w_second - scale w_first) / (mass_first mass_second)
        var difference = sums[1];
        for (var part = 0u; part < 2u; part += 1u) {
            let times = select(tf_sub(tf(1.0), scale), -scale, part == 0u);
            difference = tf_add(difference, tf_mul(times, sums[2u * part]));
        }
        factors[2] = tf_mul(tf_div(difference, mass), factors[0]);
    }
    for (var side = 0u; side < 2u && is_residual; side += 1u) {
        let moved = tf_add(bounds[side], target_mean);
        bounds[side] = select(moved, bounds[side], abs(bounds[side].x) == BIG);
    }
    var reach = 0.0;
    var square = 0.0;
    for (var part = 0u; part < 3u; part += 1u) {
        if cells[part] != 0u {
            reach = max(reach, abs(factors[part].x));
            square += factors[part].x * factors[part].x * sums[part].x;
        }
    }
    row_part[r] = row_component(source);
    row_relaxed[r] = vec2<f32>();
    row_cells[r] = cells;
    row_factor[r] = factors;
    row_block[r] = select(NO_BLOCK, b, is_spread);
    rows_lower[r] = bounds[0];
    rows_upper[r] = bounds[1];
    row_reach[r] = reach;
    row_rough[r] = max(abs(factors[0].x), abs(factors[1].x));
    row_scale = select(1.0, square, square > 0.0);
}

/// The coefficient of the block's centre in a row held from above (`sign > 0`) or from below.
fn centre_coefficient(b: u32, sign: f32) -> vec2<f32> {
    return select(tf(1.0), blocks[b].level, blocks[b].ratio == 1u && sign < 0.0);
}

/// The first row that belongs to no spread.
fn first_contrast() -> u32 {
    return select(blocks[max(block_count, 1u) - 1u].end, 0u, block_count == 0u);
}

/// A row without coefficients whose bounds exclude 0, which nothing can meet, and the sign of the ray that proves it; 0 if
/// there is none.
fn contradiction() -> vec2<i32> {
    var found = vec2<i32>();
    for (var r = first_contrast(); r < row_count; r += 1u) {
        let sign = select(select(0, -1, rows_lower[r].x > 0.0), 1, rows_upper[r].x < 0.0);
        if row_reach[r] == 0.0 && sign != 0 {
            found = vec2<i32>(i32(r), sign);
        }
    }
    return found;
}

/// A number of a row of the set; 0 if that is not live.
fn of_source(source: u32, which: u32) -> vec2<f32> {
    if source >= 32u || ((live_rows >> source) & 1u) == 0u {
        return vec2<f32>();
    }
    return row[which][countOneBits(live_rows & below_bit(source))];
}

/// The coefficient of a row in a cell.
fn coefficient(r: u32, c: u32) -> vec2<f32> {
    let cells = (row_cells[r] >> vec3<u32>(c)) & vec3<u32>(1u);
    let part = select(select(0u, 1u, cells.y == 1u), 2u, cells.z == 1u);
    return select(vec2<f32>(), row_factor[r][part], (cells.x | cells.y | cells.z) == 1u);
}

fn larger(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return select(a, b, tf_less(a, b));
}

/// By how much the worst row exceeds its own bound, as it is relaxed, and as it is reported: of its true bound, and 0
/// below what the measurement itself rounds. Of a ratio spread `ratio * max - min`.
struct Excess {
    worst: vec2<f32>,
    reported: vec2<f32>,
    /// Whether the rows' own bounds are kept: equalities, which have no room, to what rounding may move a row.
    met: bool,
}

fn excess(rounding: f32) -> Excess {
    var met = true;
    var worst = tf(-BIG);
    var of_true = tf(-BIG);
    var largest = 0.0;
    for (var b = 0u; b < block_count; b += 1u) {
        var top = tf(-BIG);
        var bottom = tf(-BIG);
        for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
            top = larger(top, row[MEANS][r]);
            bottom = larger(bottom, -row[MEANS][r]);
        }
        largest = max(largest, max(abs(top.x), abs(bottom.x)));
        let is_ratio = blocks[b].ratio == 1u;
        let factor = select(tf(1.0), blocks[b].level, is_ratio);
        let gap = tf_add(tf_mul(top, factor), bottom);
        let over = tf_sub(gap, select(blocks[b].level, vec2<f32>(), is_ratio));
        of_true = larger(of_true, over);
        let is_equality = blocks[b].ratio == 0u && blocks[b].level.x == 0.0;
        met = met && over.x <= select(0.0, rounding, is_equality);
        worst = larger(worst, tf_sub(over, row_relaxed[blocks[b].first]));
    }
    for (var r = first_contrast(); r < row_count; r += 1u) {
        let mean = row[MEANS][r];
        largest = max(largest, abs(mean.x));
        let over = larger(tf_sub(mean, rows_upper[r]), tf_sub(rows_lower[r], mean));
        let room = tf_sub(rows_upper[r], rows_lower[r]);
        met = met && over.x <= select(0.0, rounding, room.x == 0.0);
        worst = larger(worst, over);
        of_true = larger(of_true, tf_add(over, row_relaxed[r]));
    }
    return Excess(worst, select(vec2<f32>(), of_true, of_true.x > 1e-12 * largest), met);
}

/// Whether the rows together may allow a single point only: equalities do, and one-sided contrasts can.
fn may_lack_room() -> bool {
    var narrow = is_relaxed;
    for (var b = 0u; b < block_count; b += 1u) {
        narrow = narrow || blocks[b].level.x == 0.0;
    }
    for (var r = first_contrast(); r < row_count; r += 1u) {
        let room = tf_sub(rows_upper[r], rows_lower[r]).x;
        narrow = narrow || !(room > 0.0 && room < 0.5 * BIG);
    }
    return narrow;
}

/// How the bound of a row moves as the rows are relaxed: the upper one if `sign > 0`, else the lower one.
fn relaxed_bound(r: u32, sign: f32) -> f32 {
    let outward = select(-1.0, 1.0, sign > 0.0);
    if row_block[r] == NO_BLOCK {
        return outward;
    }
    return select(0.5 * outward, min(outward, 0.0), blocks[row_block[r]].ratio == 1u);
}

/// Moves the bounds of the lane's own row outward by so much more.
fn relax_row(r: u32, by: vec2<f32>) {
    row_relaxed[r] = tf_add(row_relaxed[r], by);
    rows_lower[r] = tf_add(rows_lower[r], by * relaxed_bound(r, -1.0));
    rows_upper[r] = tf_add(rows_upper[r], by * relaxed_bound(r, 1.0));
}

/// The balance of a block's multipliers, which is zero where its centre is free, and the sum of their sizes.
fn block_balance(b: u32, which: u32) -> vec2<f32> {
    var balance = vec2<f32>();
    var size = 0.0;
    for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
        let nu = row[which][r];
        balance = tf_add(balance, tf_mul(centre_coefficient(b, nu.x), nu));
        size += abs(nu.x);
    }
    return vec2<f32>(balance.x, size);
}

/// Makes the multipliers of every difference spread sum to zero: the row that moves its cells the least pays.
fn balance_rows(lane: u32, which: u32) {
    if lane < block_count && blocks[lane].ratio == 0u {
        var sum = vec2<f32>();
        var payer = NO_BLOCK;
        for (var r = blocks[lane].first; r < blocks[lane].end; r += 1u) {
            let nu = row[which][r];
            sum = tf_add(sum, nu);
            if nu.x != 0.0 && (payer == NO_BLOCK || row_reach[r] < row_reach[payer]) {
                payer = r;
            }
        }
        if payer != NO_BLOCK {
            row[which][payer] = tf_sub(row[which][payer], sum);
        }
    }
    workgroupBarrier();
}
