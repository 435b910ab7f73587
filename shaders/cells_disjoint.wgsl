// The commonest problem, with its step in closed form: difference spreads of unions that share no cell, neither within a
// spread nor between them. The method is that of `src/reference/disjoint.rs`, spread by spread, a lane each; what it does
// not solve in a few passes is handed over to `cells_newton`.
//
// Means, shifts and the centre are two floats; slopes are single ones, for a step that is off by a digit is mended by the next.

@group(0) @binding(12) var<storage, read_write> left_out: array<u32>;
@group(0) @binding(13) var<storage, read_write> left_count: array<atomic<u32>, 4>;

// Passes after which the general method takes over.
const MAX_PASSES = 24u;
// A union with this part of its mass free needs no floor.
const PLENTY = 0.25;
// A bracket halves at least every other time: enough for any root that two floats can hold.
const MAX_ROOT_STEPS = 120u;
const MOST_TRIALS = 8u;
// What the sums may be off by, relative to the largest mean.
const MEASURING_ERROR = 5.7e-14;

const WAITING = 0u;
const ENDED = 1u;
const TOO_HARD = 2u;
const BAD_LEVEL = 3u;

// A union, by its row.
struct Group {
    mass: vec2<f32>,
    // Of the present shift: the mean of y over the union, of |y|, of being free; how far its farthest cell lies beyond.
    mean: vec2<f32>,
    size: f32,
    free: f32,
    beyond: f32,
    // The slope of its mean in its shift, floored, and its inverse.
    slope: f32,
    // The shift asked for, the one that the step began at, and the step.
    shift: vec2<f32>,
    start: vec2<f32>,
    step: vec2<f32>,
    inverse_slope: f32,
}

// The search along a spread's step, and what became of it.
struct Spread {
    centre: vec2<f32>,
    excess: vec2<f32>,
    length: f32,
    start_slope: f32,
    residual: f32,
    trials: u32,
    steps: u32,
    passes: u32,
    stage: u32,
}

var<workgroup> groups: array<Group, 32>;
var<workgroup> spreads: array<Spread, 32>;
var<workgroup> row_of_cell: array<u32, 32>;
var<workgroup> stage: u32;

// The bit mask of the rows that constrain nothing here.
fn inactive_rows() -> u32 {
    return totals[problem * params.totals_stride + 1u];
}

fn is_live(row: u32) -> bool {
    return ((inactive_rows() >> row) & 1u) == 0u;
}

fn begin(lane: u32) {
    for (var row = lane; row < params.rows; row += LANES) {
        var group = Group();
        for (var rest = row_plus(row); rest != 0u; rest &= rest - 1u) {
            group.mass = tf_add(group.mass, cell_weight[firstTrailingBit(rest)]);
        }
        groups[row] = group;
    }
    for (var cell = lane; cell < params.cells; cell += LANES) {
        var row = 0u;
        while row < params.rows && ((row_plus(row) >> cell) & 1u) == 0u {
            row++;
        }
        row_of_cell[cell] = row;
    }
    for (var s = lane; s < params.spreads; s += LANES) {
        var spread = Spread();
        let epsilon = level(s);
        // (A spread has live rows, or none.)
        var live = false;
        for (var row = spread_first(s); row < spread_end(s); row++) {
            live = live || is_live(row);
        }
        spread.stage = select(ENDED, WAITING, live);
        if is_special(bitcast<u32>(epsilon.x)) || epsilon.x < 0.0 {
            spread.stage = BAD_LEVEL;
        }
        spreads[s] = spread;
    }
    workgroupBarrier();
    settle(lane);
}

// What the spreads together wait for.
fn settle(lane: u32) {
    if lane == 0u {
        var waits = false;
        var worst = ENDED;
        for (var s = 0u; s < params.spreads; s++) {
            waits = waits || spreads[s].stage == WAITING;
            worst = max(worst, spreads[s].stage);
        }
        if atomicLoad(&unusable) != 0u {
            worst = BAD_LEVEL;
        }
        stage = select(select(ENDED, WAITING, waits), worst, worst > ENDED);
    }
    for (var cell = lane; cell < params.cells; cell += LANES) {
        if row_of_cell[cell] < params.rows {
            cell_shift[cell] = groups[row_of_cell[cell]].shift;
        }
    }
    workgroupBarrier();
}

// The unions' means at the present sums.
fn gather(lane: u32) {
    for (var row = lane; row < params.rows; row += LANES) {
        if is_live(row) {
            var y = tf(0.0);
            var size = 0.0;
            var free = tf(0.0);
            var beyond = 0.0;
            for (var rest = row_plus(row); rest != 0u; rest &= rest - 1u) {
                let cell = firstTrailingBit(rest);
                y = tf_add(y, cell_y[cell]);
                size += cell_size[cell];
                free = tf_add(free, cell_free[cell]);
                if cell_beyond[cell] > 0.0 {
                    beyond = max(beyond, cell_beyond[cell] / cell_weight[cell].x);
                }
            }
            let mass = groups[row].mass;
            groups[row].mean = tf_div(y, mass);
            groups[row].size = size / mass.x;
            groups[row].free = free.x / mass.x;
            groups[row].beyond = beyond;
        }
    }
    workgroupBarrier();
}

// The gap of a spread's means, and the largest of them.
fn gap_of(s: u32) -> vec3<f32> {
    var top = tf(0.0);
    var bottom = tf(0.0);
    var any = false;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            let mean = groups[row].mean;
            if !any || tf_less(top, mean) {
                top = mean;
            }
            if !any || tf_less(mean, bottom) {
                bottom = mean;
            }
            any = true;
        }
    }
    let gap = tf_sub(top, bottom);
    return vec3<f32>(gap.x, gap.y, max(abs(top.x), abs(bottom.x)));
}

// The excess as it is reported: 0 below what the measurement itself rounds.
fn excess_of(s: u32) -> vec2<f32> {
    let gap = gap_of(s);
    let excess = tf_sub(gap.xy, level(s));
    if excess.x > MEASURING_ERROR * gap.z {
        return excess;
    }
    return tf(0.0);
}

// The smallest tolerance that can be asked for, from what rounding the stored values may cost two means.
fn tolerance_of(s: u32) -> f32 {
    var size = 0.0;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            size = max(size, groups[row].size);
        }
    }
    let part = select(1.0, 0.25, params.unit_roundoff > 1e-6);
    return max(params.tolerance, part * 8.0 * params.unit_roundoff * size);
}

// The worst of violation and complementarity.
fn residual_of(s: u32, half: vec2<f32>, tolerance: f32) -> f32 {
    var lightest = bitcast<f32>(0x7f7fffffu);
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            lightest = min(lightest, groups[row].mass.x);
        }
    }
    let zero = tolerance * lightest;
    var least = tf(0.0);
    var most = tf(0.0);
    var any = false;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            let group = groups[row];
            let pull = group.shift.x * group.mass.x;
            let from_above = tf_sub(group.mean, half);
            let from_below = tf_add(group.mean, half);
            let above = select(from_above, from_below, vec2<bool>(pull < -zero));
            let below = select(from_below, from_above, vec2<bool>(pull > zero));
            if !any || tf_less(least, above) {
                least = above;
            }
            if !any || tf_less(below, most) {
                most = below;
            }
            any = true;
        }
    }
    return tf_sub(least, most).x;
}

// What a union adds to the slope of the dual along the step, where its multiplier has this sign.
fn slope_term(row: u32, half: vec2<f32>, centre: vec2<f32>, sign: f32) -> f32 {
    let side = select(tf_neg(half), half, vec2<bool>(sign >= 0.0));
    let distance = tf_sub(side, tf_sub(groups[row].mean, centre));
    return groups[row].mass.x * groups[row].step.x * distance.x;
}

// Judges the trial by its slope along the step. True if it went too far, and then a shorter one is set.
fn shorten(s: u32, half: vec2<f32>) -> bool {
    var slope = 0.0;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            let sign = select(groups[row].shift.x, -groups[row].step.x, groups[row].shift.x == 0.0);
            slope += slope_term(row, half, spreads[s].centre, sign);
        }
    }
    let start_slope = spreads[s].start_slope;
    if slope <= -0.5 * start_slope || spreads[s].trials >= MOST_TRIALS {
        return false;
    }
    // Where the slope would be zero if it were linear; every third time the middle.
    spreads[s].trials++;
    let linear = clamp(-start_slope / (slope - start_slope), 0.05, 0.95);
    spreads[s].length *= select(linear, 0.5, spreads[s].trials % 3u == 0u);
    return true;
}

// How far `distance` lies beyond `half` either way.
fn soft(distance: vec2<f32>, half: vec2<f32>) -> vec2<f32> {
    if tf_less(half, distance) {
        return tf_sub(distance, half);
    }
    if tf_less(distance, tf_neg(half)) {
        return tf_add(distance, half);
    }
    return tf(0.0);
}

fn ahead_of(row: u32) -> vec2<f32> {
    return tf_add(groups[row].mean, tf_scale(groups[row].start, groups[row].slope));
}

// The centre at which the shifts balance: the root of a falling function that is linear between kinks.
fn root(s: u32, half: vec2<f32>) -> vec2<f32> {
    var lo = tf(0.0);
    var hi = tf(0.0);
    var any = false;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            let ahead = ahead_of(row);
            if !any || tf_less(ahead, lo) {
                lo = ahead;
            }
            if !any || tf_less(hi, ahead) {
                hi = ahead;
            }
            any = true;
        }
    }
    let accuracy = MEASURING_ERROR * max(abs(lo.x), abs(hi.x));
    var centre = tf_scale(tf_add(lo, hi), 0.5);
    for (var k = 0u; k < MAX_ROOT_STEPS; k++) {
        var value = tf(0.0);
        var weights = 0.0;
        for (var row = spread_first(s); row < spread_end(s); row++) {
            if is_live(row) {
                let over = soft(tf_sub(ahead_of(row), centre), half);
                let weight = groups[row].mass.x * groups[row].inverse_slope;
                value = tf_add(value, tf_scale(over, weight));
                weights += select(weight, 0.0, over.x == 0.0);
            }
        }
        // (No weight: all shifts are zero, and balanced.)
        if abs(value.x) <= accuracy * weights {
            break;
        }
        if value.x > 0.0 {
            lo = centre;
        } else {
            hi = centre;
        }
        let newton = tf_add(centre, tf_scale(value, 1.0 / weights));
        let inside = tf_less(lo, newton) && tf_less(newton, hi);
        centre = select(tf_scale(tf_add(lo, hi), 0.5), newton, vec2<bool>(inside));
    }
    return centre;
}

// Sets up the step from the present point. False if there is none.
fn find_step(s: u32, half: vec2<f32>, residual: f32) -> bool {
    var farthest = 0.0;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            groups[row].start = groups[row].shift;
            let beyond = groups[row].beyond;
            farthest = max(farthest, beyond);
            // A union without free elements is not flat: some come free as it moves.
            let free = groups[row].free;
            let slope = select(max(free, residual / (residual + beyond)), free, free >= PLENTY);
            groups[row].slope = slope;
            groups[row].inverse_slope = 1.0 / slope;
        }
    }
    let centre = root(s, half);
    spreads[s].centre = centre;
    var balance = tf(0.0);
    var payer = NONE;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            let over = soft(tf_sub(ahead_of(row), centre), half);
            // start + (mean - centre - bound) / slope, where `over` = mean - centre - bound + slope start.
            let still = tf_sub(over, tf_scale(groups[row].start, groups[row].slope));
            let there = tf_add(groups[row].start, tf_scale(still, groups[row].inverse_slope));
            groups[row].shift = select(there, tf(0.0), vec2<bool>(over.x == 0.0));
            balance = tf_add(balance, tf_mul(groups[row].mass, groups[row].shift));
            if over.x != 0.0 && (payer == NONE || groups[row].mass.x > groups[payer].mass.x) {
                payer = row;
            }
        }
    }
    // What rounding left of the balance is paid by the heaviest union: it moves the least.
    if payer != NONE {
        groups[payer].shift = tf_sub(groups[payer].shift, tf_div(balance, groups[payer].mass));
    }
    var longest = 0.0;
    var start_slope = 0.0;
    for (var row = spread_first(s); row < spread_end(s); row++) {
        if is_live(row) {
            groups[row].step = tf_sub(groups[row].shift, groups[row].start);
            longest = max(longest, abs(groups[row].step.x));
            let sign = select(groups[row].start.x, groups[row].step.x, groups[row].start.x == 0.0);
            start_slope += slope_term(row, half, centre, sign);
        }
    }
    let reach = 2.0 * residual + 4.0 * farthest;
    spreads[s].length = select(min(reach / longest, 1.0), 1.0, longest == 0.0);
    spreads[s].start_slope = start_slope;
    spreads[s].trials = 0u;
    return start_slope < 0.0 && longest < 1e30;
}

// Moves the unions to the search's length.
fn ask(s: u32) {
    let length = spreads[s].length;
    if length < 1.0 {
        for (var row = spread_first(s); row < spread_end(s); row++) {
            groups[row].shift = tf_add(groups[row].start, tf_scale(groups[row].step, length));
        }
    }
}

// Takes the sums at the point asked for: what the spread does next.
fn receive(s: u32) -> u32 {
    spreads[s].passes++;
    let first_pass = spreads[s].passes == 1u;
    let epsilon = level(s);
    let gap = gap_of(s);
    if atomicLoad(&overflown) != 0u {
        return TOO_HARD;
    }
    if first_pass && !tf_less(epsilon, gap.xy) {
        return ENDED;
    }
    let tolerance = tolerance_of(s);
    let room = tf_sub(epsilon, tf(tolerance));
    let half = select(tf(0.0), tf_scale(room, 0.5), vec2<bool>(room.x > 0.0));
    let residual = residual_of(s, half, tolerance);
    spreads[s].residual = residual;
    // A little less than the tolerance, so that the proof does not rest on the sums' last digit.
    if residual <= 0.999 * tolerance {
        spreads[s].excess = excess_of(s);
        return ENDED;
    }
    if spreads[s].passes >= MAX_PASSES || spreads[s].steps >= params.max_iterations {
        return TOO_HARD;
    }
    if !first_pass && shorten(s, half) {
        ask(s);
        return WAITING;
    }
    spreads[s].steps++;
    if !find_step(s, half, residual) {
        return TOO_HARD;
    }
    ask(s);
    return WAITING;
}

@compute @workgroup_size(LANES)
fn cells_disjoint(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_up(group) {
        return;
    }
    let record = problem * params.results_stride;
    if params.passes == 0u {
        // Too large for this kernel.
        if lane == 0u {
            results[record] = STATUS_HANDED_OVER;
            leave();
        }
        return;
    }
    load_problem(lane);
    begin(lane);
    var passes = 0u;
    loop {
        if workgroupUniformLoad(&stage) != WAITING {
            break;
        }
        pass_over(lane);
        passes++;
        gather(lane);
        for (var s = lane; s < params.spreads; s += LANES) {
            if spreads[s].stage == WAITING {
                spreads[s].stage = receive(s);
            }
        }
        workgroupBarrier();
        settle(lane);
    }
    let ending = workgroupUniformLoad(&stage);
    if ending == TOO_HARD {
        if lane == 0u {
            results[record] = STATUS_HANDED_OVER;
            leave();
        }
        return;
    }
    let has_answer = ending == ENDED;
    write_answer(lane, has_answer);

    for (var row = lane; row < params.rows; row += LANES) {
        let at = record + RESULTS_HEAD + 2u * row;
        var nu = tf(0.0);
        if has_answer && is_live(row) {
            nu = tf_mul(groups[row].mass, groups[row].shift);
        }
        let unit = power_of_two(weight_exponent());
        results[at] = bitcast<u32>(nu.x * unit);
        results[at + 1u] = bitcast<u32>(nu.y * unit);
    }
    if lane == 0u {
        var steps = 0u;
        var residual = 0.0;
        var excess = tf(0.0);
        for (var s = 0u; s < params.spreads; s++) {
            steps = max(steps, spreads[s].steps);
            residual = max(residual, spreads[s].residual);
            if tf_less(excess, spreads[s].excess) {
                excess = spreads[s].excess;
            }
        }
        if !has_answer {
            excess = tf(bitcast<f32>(0x7f800000u ^ opaque_zero()));
            steps = 0u;
            residual = 0.0;
        }
        results[record] = select(STATUS_BAD_NUMBER, STATUS_SOLVED, has_answer);
        results[record + 1u] = steps;
        results[record + 2u] = passes;
        results[record + 3u] = select(0u, inactive_rows(), has_answer);
        results[record + 4u] = bitcast<u32>(residual);
        results[record + 5u] = bitcast<u32>(excess.x);
        results[record + 6u] = bitcast<u32>(excess.y);
        results[record + 7u] = 0u;
    }
}
