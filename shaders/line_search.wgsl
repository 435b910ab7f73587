// The line search along a Newton direction, by slopes only. Twin of src/reference/line_search.rs.
//
// Slopes are those of the dual less what the bounds held at the start account for, so that f32 does: of a row that is
// held, only what its mean lacks of its aim is summed.

/// Trials after which any step down is taken.
const MAX_TRIALS: u32 = 8u;

struct LineSearch {
    step: vec2<f32>,
    max_step: f32,
    start_slope: f32,
    low: vec2<f32>,
    low_slope: f32,
    high: vec2<f32>,
    high_slope: f32,
    has_high: bool,
    /// Whether a step that ends the search, if no better one is found, has been seen: `low`.
    has_kept: bool,
    trials: u32,
}

/// What a trial leads to.
const SEARCH_ENDS: u32 = 0u;
const SEARCH_GOES_ON: u32 = 1u;
/// The search ends at `low`, whose sums have to be asked for again.
const SEARCH_RETURNS: u32 = 2u;

var<private> search: LineSearch;
/// What the mean of the lane's own row comes to at the end of the step, if the row is held.
var<private> row_aim: vec2<f32>;

/// The bound that a row is held at as its multiplier leaves 0 along the step, or by its multiplier.
fn start_side(r: u32) -> f32 {
    return select(sign(row[NU][r].x), sign(row[STEP][r].x), row[NU][r].x == 0.0);
}

/// Sets the aim of the lane's own row. A spread's step is balanced, so that its centre drops out of the slope.
fn set_aim(lane: u32) {
    if lane < row_count {
        let side = start_side(lane);
        var aim = select(asked_lower[lane], asked_upper[lane], side > 0.0);
        let b = row_block[lane];
        if b != NO_BLOCK {
            var stays = false;
            for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
                // The balance of a ratio depends on the signs: where one changes along the step, the centre stays in.
                stays = stays || row[NU][r].x * tf_add(row[NU][r], row[STEP][r]).x < 0.0;
            }
            if !(stays && blocks[b].ratio == 1u) {
                let v = tf_add(row[NU][lane], row[STEP][lane]).x;
                let held = select(row[NU][lane].x, v, row[NU][lane].x == 0.0);
                aim = tf_add(aim, tf_mul(blocks[b].centre, centre_coefficient(b, held)));
            }
        }
        row_aim = aim;
    }
}

/// The slope at the present means: of the smooth part, and what the kinks passed add to it where the multipliers are
/// `which`, seen from the left and from the right.
fn slopes(lane: u32, which: u32) -> vec3<f32> {
    if lane < row_count {
        let d = row[STEP][lane].x;
        let nu = row[which][lane].x;
        let jump = abs(d) * tf_sub(asked_upper[lane], asked_lower[lane]).x;
        let side = start_side(lane);
        let left = select(sign(nu), -sign(d), nu == 0.0);
        let right = select(sign(nu), sign(d), nu == 0.0);
        let slope = d * tf_sub(row_aim, row[MEANS][lane]).x;
        exchange[lane] = vec3<f32>(slope, select(0.0, jump, left != side), select(0.0, jump, right != side));
    }
    workgroupBarrier();
    var sum = vec3<f32>();
    for (var r = 0u; r < row_count; r += 1u) {
        sum += exchange[r];
    }
    workgroupBarrier();
    return sum;
}

/// Sets up the search from the present point, whose residual is `error`, along the step of the model. False if phi does
/// not fall.
fn begin_search(lane: u32, error: f32) -> bool {
    set_aim(lane);
    let slope = slopes(lane, NU).x;
    if !(slope < 0.0) || !is_finite(slope) {
        return false;
    }
    let extent = extent_of_step(lane);
    // No farther than to where all elements are free; most steps are far shorter.
    let reach = 2.0 * error + 4.0 * extent.farthest;
    search.step = tf(select(min(reach / extent.longest, 1.0), 1.0, extent.longest <= 2.0 * error));
    search.max_step = select(1.0, 1e9, extent.is_floored);
    for (var b = 0u; b < block_count; b += 1u) {
        if blocks[b].ratio == 1u {
            search.max_step = min(search.max_step, longest_ratio_step(b));
        }
    }
    search.start_slope = slope;
    search.low = vec2<f32>();
    search.low_slope = slope;
    search.has_high = false;
    search.has_kept = false;
    search.trials = 0u;
    return true;
}

/// How far the step can be followed without leaving a ratio's cone of balanced multipliers.
fn longest_ratio_step(b: u32) -> f32 {
    let balance = block_balance(b, NU);
    if abs(balance.x) > 1e-9 * balance.y {
        return 1.0;
    }
    var longest = BIG;
    for (var r = blocks[b].first; r < blocks[b].end; r += 1u) {
        let nu = row[NU][r].x;
        let d = row[STEP][r].x;
        if nu * d < 0.0 {
            let v = tf_add(row[NU][r], row[STEP][r]).x;
            longest = min(longest, select(-nu / d, 1.0, nu * v <= 0.0));
        }
    }
    return longest;
}

/// Moves `TRIAL` to the step to be tried.
fn place_trial(lane: u32) {
    if lane < row_count {
        let moved = tf_mul(search.step, row[STEP][lane]);
        let value = tf_add(row[NU][lane], moved);
        // A step onto a kink of sigma lands on it exactly.
        row[TRIAL][lane] = select(value, vec2<f32>(), abs(value.x) <= 1e-12 * abs(moved.x));
    }
    workgroupBarrier();
    if search.step.x > 1.0 {
        // A long step magnifies what rounding left of the balance.
        balance_rows(lane, TRIAL);
    }
}

/// Judges the trial by its slope, and sets the next step if there is one.
fn judge_trial(lane: u32) -> u32 {
    let slope = slopes(lane, TRIAL);
    let here = search.step;
    search.trials += 1u;
    let too_far = slope.x + slope.y > -0.5 * search.start_slope;
    if too_far {
        search.has_high = true;
        search.high = here;
        search.high_slope = slope.x;
    } else if here.x < search.max_step && slope.x + slope.y < 0.5 * search.start_slope && slope.x + slope.z < 0.0 {
        search.low = here;
        search.low_slope = slope.x;
        search.has_kept = true;
    } else {
        return SEARCH_ENDS;
    }
    if !search.has_high {
        search.step = tf(min(4.0 * here.x, search.max_step));
        return SEARCH_GOES_ON;
    }
    if search.has_kept && search.trials >= MAX_TRIALS {
        // Enough: phi falls all the way to the step kept.
        search.step = search.low;
        return select(SEARCH_ENDS, SEARCH_RETURNS, too_far);
    }
    if tf_sub(search.high, search.low).x <= 1e-12 * search.high.x {
        return SEARCH_ENDS;
    }
    search.step = root_between(lane, search.trials % 3u == 0u);
    return SEARCH_GOES_ON;
}

/// The step between `low` and `high` where the slope is zero if the smooth part is linear in between. Kinks of sigma, where
/// a multiplier passes zero, are met exactly. With `bisect` the middle is taken instead.
fn root_between(lane: u32, bisect: bool) -> vec2<f32> {
    if lane < row_count {
        let d = row[STEP][lane];
        let nu = row[NU][lane];
        let passes = nu.x * d.x < 0.0;
        var kink = tf(BIG);
        if passes {
            kink = -tf_div(nu, d);
        }
        let jump = abs(d.x) * tf_sub(asked_upper[lane], asked_lower[lane]).x;
        exchange[lane] = vec3<f32>(kink, jump);
    }
    workgroupBarrier();
    let width = tf_sub(search.high, search.low).x;
    let rise = search.high_slope - search.low_slope;
    var a = search.low;
    var slope_a = search.low_slope;
    var root = search.high;
    var exact = false;
    loop {
        var b = search.high;
        var kinked = 0.0;
        for (var r = 0u; r < row_count; r += 1u) {
            let kink = exchange[r];
            kinked += select(0.0, kink.z, kink.x <= a.x);
            b = select(b, kink.xy, kink.x > a.x && kink.x < b.x);
        }
        let slope_b = search.low_slope + rise * (tf_sub(b, search.low).x / width);
        if kinked + slope_b >= 0.0 {
            exact = kinked + slope_a >= 0.0 && a.x > search.low.x;
            let part = max(-(kinked + slope_a), 0.0) / max(slope_b - slope_a, 1e-30);
            root = select(tf_add(a, tf(tf_sub(b, a).x * part)), a, exact);
            break;
        }
        if b.x >= search.high.x {
            break;
        }
        a = b;
        slope_a = slope_b;
    }
    workgroupBarrier();
    if exact {
        return root;
    }
    if bisect {
        let geometric = search.low.x > 0.0 && search.low.x < 0.01 * search.high.x;
        root = tf(select(search.low.x + 0.5 * width, sqrt(search.low.x) * sqrt(search.high.x), geometric));
    }
    let least = tf_add(search.low, tf(0.05 * width));
    let most = tf_sub(search.high, tf(0.05 * width));
    root = select(root, least, tf_less(root, least));
    return select(root, most, tf_less(most, root));
}
