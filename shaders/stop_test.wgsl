// The stop test: whether a point is the answer, proven by sums of the values as they would be stored. Twin of
// src/reference/stop_test.rs, where its rules are explained.

const MAX_GROWTH: f32 = 8.0;
const MOST_STALLS: u32 = 16u;
const STALLED_RESIDUAL: f32 = 1e-3;

const SOLVED: u32 = 0u;
const STUCK: u32 = 1u;
const OPEN: u32 = 2u;

struct StopTest {
    residual: f32,
    tolerance: f32,
    growth: f32,
    tightened: bool,
    repaired: bool,
    best: f32,
    stall: u32,
}

/// The rows' bounds as they are asked for.
var<workgroup> asked_lower: array<vec2<f32>, 32>;
var<workgroup> asked_upper: array<vec2<f32>, 32>;
var<private> test: StopTest;

fn reset_test() {
    test = StopTest(0.0, 0.0, 1.0, true, false, BIG, 0u);
}

fn drop_margin() {
    test.tightened = false;
    forget_progress();
}

fn forget_progress() {
    test.best = BIG;
    test.stall = 0u;
}

/// The rows' bounds moved inward by `margin` a mean row. A row without that much room collapses to its middle.
fn tighten(lane: u32, margin: f32) {
    if lane < row_count {
        var inward = margin;
        if row_block[lane] != NO_BLOCK {
            inward = select(0.5 * margin, 0.0, blocks[row_block[lane]].ratio == 1u);
        }
        var lower = rows_lower[lane];
        var upper = rows_upper[lane];
        lower = select(tf_add(lower, tf(inward)), lower, lower.x == -BIG);
        upper = select(tf_sub(upper, tf(inward)), upper, upper.x == BIG);
        if tf_less(upper, lower) {
            lower = 0.5 * tf_add(rows_lower[lane], rows_upper[lane]);
            upper = lower;
        }
        asked_lower[lane] = lower;
        asked_upper[lane] = upper;
    }
}

/// What the rows are above and below the bounds asked for, at their means or at those of the model.
fn measure_sides(lane: u32, which: u32) {
    if lane < row_count {
        let value = row[which][lane];
        var under = tf_sub(value, asked_lower[lane]);
        let b = row_block[lane];
        if b != NO_BLOCK && blocks[b].ratio == 1u {
            under = tf_mul(under, blocks[b].inverse_level);
        }
        row[ABOVE][lane] = tf_sub(value, asked_upper[lane]);
        row[BELOW][lane] = under;
    }
    workgroupBarrier();
}

/// Whether a row is held from below alone (-1), from above alone (1), or not at all (0).
fn side_of(value: f32, tolerance: f32) -> f32 {
    return select(select(0.0, -1.0, value < -tolerance), 1.0, value > tolerance);
}

/// The worst of violation and complementarity, in units of the predictions; see `Rows::residual`.
fn residual_at(tolerance: f32) -> f32 {
    var residual = 0.0;
    for (var r = 0u; r < row_count; r += 1u) {
        if !(is_finite(row[MEANS][r].x) && is_finite(row[NU][r].x)) {
            return BIG;
        }
    }
    for (var b = 0u; b < block_count; b += 1u) {
        var widest = 0.0;
        var narrowest = BIG;
        for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
            widest = max(widest, row_reach[r]);
            narrowest = min(narrowest, row_reach[r]);
        }
        // The centre must lie above all of `least` and below all of `most`.
        var least = tf(-BIG);
        var most = tf(BIG);
        for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
            let side = side_of(row[NU][r].x * widest, tolerance);
            let at_least = select(row[ABOVE][r], row[BELOW][r], side < 0.0);
            let at_most = select(row[BELOW][r], row[ABOVE][r], side > 0.0);
            least = select(least, at_least, tf_less(least, at_least));
            most = select(most, at_most, tf_less(at_most, most));
        }
        residual = max(residual, tf_sub(least, most).x);
        if blocks[b].ratio == 1u {
            residual = max(residual, abs(block_balance(b, NU).x) * narrowest);
        }
    }
    for (var r = first_contrast(); r < row_count; r += 1u) {
        let side = side_of(row[NU][r].x * row_reach[r], tolerance);
        residual = max(residual, select(row[ABOVE][r].x, row[BELOW][r].x, side < 0.0));
        residual = max(residual, -select(row[BELOW][r].x, row[ABOVE][r].x, side > 0.0));
    }
    return residual;
}

/// Judges the point, which keeps the true bounds or not, of rows that surely have room or not. With `is_start`, the point
/// is one to begin at, which may be an answer already: the true bounds are kept, as near to the multipliers' sides as a solution with the largest margin is.
fn judge(lane: u32, rounding: f32, kept: bool, room: bool, is_start: bool) -> u32 {
    let is_coarse = unit_roundoff() > 1e-6;
    let needed = max(tolerance().x, select(1.0, 0.25, is_coarse) * rounding);
    let max_growth = select(MAX_GROWTH, 1.0, is_coarse);
    let accepted = select(8.0, 2.0, is_coarse);
    let patience = select(4u, 10u, room);
    var first_look = is_start;
    loop {
        test.tolerance = needed * select(test.growth, 2.0 * MAX_GROWTH, first_look);
        tighten(lane, select(0.0, test.tolerance, test.tightened && !first_look));
        measure_sides(lane, MEANS);
        test.residual = residual_at(test.tolerance);
        workgroupBarrier();
        let error = test.residual;
        // (What is too large for its type has an infinite rounding error, and is no solution.)
        let solved = error <= test.tolerance && error < BIG;
        if first_look {
            if kept && solved {
                return SOLVED;
            }
            first_look = false;
            continue;
        }
        if solved && !kept && !test.tightened && !test.repaired {
            // Solved without a margin, and a true bound is exceeded by rounding: from here the margin may do.
            test.tightened = true;
            test.repaired = true;
            test.growth = 2.0;
            forget_progress();
            continue;
        }
        if solved {
            return SOLVED;
        }
        if error < 0.5 * test.best {
            test.best = error;
            test.stall = 0u;
        } else {
            test.stall += 1u;
        }
        if test.stall < patience || error > 100.0 * test.tolerance {
            return OPEN;
        }
        // The rounding floor: what is left is accepted if it keeps the true bounds, else the margin grows, and is given up
        // where the rows have no room for one.
        if error <= accepted * test.tolerance && error < BIG && (!test.tightened || kept) {
            return SOLVED;
        }
        if test.tightened && test.growth < max_growth {
            test.growth *= 2.0;
            test.stall = patience / 2u;
        } else if test.tightened {
            drop_margin();
        } else {
            return select(OPEN, STUCK, test.stall >= MOST_STALLS);
        }
    }
    return OPEN;
}

/// Whether the point, of rows that may lack it, has no room for the margin, so that the multipliers of the tightened rows
/// run away.
fn lacks_room() -> bool {
    return test.tightened && test.stall >= MOST_STALLS && test.residual <= STALLED_RESIDUAL;
}

/// Takes note that no step leads down from the point: the rounding floor, or the end. False if it is the end.
fn bears_no_descent() -> bool {
    if test.residual > 100.0 * test.tolerance || test.stall >= MOST_STALLS {
        return false;
    }
    test.best = 0.0;
    test.stall = max(test.stall, 10u);
    return true;
}
