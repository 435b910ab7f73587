// The commonest problem, with its step in closed form: difference spreads of unions that share no cell, neither within a
// spread nor between them. The method is that of `src/reference/disjoint.rs`, spread by spread, a lane each. What it does
// not solve in a few passes goes to brackets (`disjoint_brackets.wgsl`), which fail only if their passes run out; but where
// elements have bounds of their own, so that there may be no answer, it is handed over to `cells_newton`.
//
// Means, shifts and the centre are two floats. What a step is made of are differences from the present point, for which single
// ones are enough: they vanish as it is approached.

@group(0) @binding(12) var<storage, read_write> left_out: array<u32>;
@group(0) @binding(13) var<storage, read_write> left_count: array<atomic<u32>, 4>;

// A union with this part of its mass free needs no floor.
const PLENTY = 0.25;
// A bracket halves at least every other time: enough for any root that a float can hold.
const MAX_ROOT_STEPS = 60u;
const MOST_TRIALS = 8u;
// What the sums may be off by, relative to the largest mean.
const MEASURING_ERROR = 5.7e-14;

const WAITING = 0u;
const ENDED = 1u;
const TOO_HARD = 2u;
// No point of this kind is an answer.
const HOPELESS = 3u;
const BAD_LEVEL = 4u;

// A union, by its row.
struct Group {
    mass: vec2<f32>,
    // Of the present shift: the mean of y over the union, of |y|, of being free; how far its farthest cell lies beyond.
    mean: vec2<f32>,
    size: f32,
    free: f32,
    beyond: f32,
    // By how much the mean exceeds the upper end of what the centre allows, and the lower one.
    above: f32,
    below: f32,
    // The slope of its mean in its shift, floored.
    slope: f32,
    // The shift asked for, the one that the step began at, and the step.
    shift: vec2<f32>,
    start: vec2<f32>,
    step: f32,
    // Between these its shift is sought.
    least: vec2<f32>,
    most: vec2<f32>,
    // The mean at zero shifts, and the shifts at the ends of the centre's bracket.
    rest: vec2<f32>,
    at_low: vec2<f32>,
    at_high: vec2<f32>,
}

// The search along a spread's step, and what became of it.
struct Spread {
    epsilon: vec2<f32>,
    centre: vec2<f32>,
    excess: vec2<f32>,
    // The rows that have samples, and those whose shift the step does not end at zero.
    live: u32,
    held: u32,
    length: f32,
    start_slope: f32,
    residual: f32,
    trials: u32,
    steps: u32,
    passes: u32,
    stage: u32,
    // How it is solved; with brackets since which step, and the bracket of the centre with the sums of the multipliers at its
    // ends.
    mode: u32,
    begun: u32,
    low: vec2<f32>,
    high: vec2<f32>,
    sum_low: f32,
    sum_high: f32,
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
        spread.epsilon = level(s);
        // (A spread has live rows, or none.)
        let rows = (0xffffffffu >> (32u - (spread_end(s) - spread_first(s)))) << spread_first(s);
        spread.live = rows & ~inactive_rows();
        spread.stage = select(WAITING, ENDED, spread.live == 0u);
        if is_special(bitcast<u32>(spread.epsilon.x)) || spread.epsilon.x < 0.0 {
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
    let inactive = inactive_rows();
    for (var row = lane; row < params.rows; row += LANES) {
        if ((inactive >> row) & 1u) == 0u {
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

// What a spread's means are like.
struct Means {
    gap: vec2<f32>,
    // The largest of them, and of those of |y|.
    largest: f32,
    size: f32,
}

fn means_of(live: u32) -> Means {
    var top = groups[firstTrailingBit(live)].mean;
    var bottom = top;
    var size = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let mean = groups[row].mean;
        if tf_less(top, mean) {
            top = mean;
        }
        if tf_less(mean, bottom) {
            bottom = mean;
        }
        size = max(size, groups[row].size);
    }
    return Means(tf_sub(top, bottom), max(abs(top.x), abs(bottom.x)), size);
}

// The excess as it is reported: 0 below what the measurement itself rounds.
fn excess_of(means: Means, epsilon: vec2<f32>) -> vec2<f32> {
    let excess = tf_sub(means.gap, epsilon);
    return select(tf(0.0), excess, vec2<bool>(excess.x > MEASURING_ERROR * means.largest));
}

// Fills `above` and `below`, and returns the worst of violation and complementarity.
fn measure(live: u32, centre: vec2<f32>, half: vec2<f32>, tolerance: f32) -> f32 {
    var lightest = bitcast<f32>(0x7f7fffffu);
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        lightest = min(lightest, groups[firstTrailingBit(rest)].mass.x);
    }
    let zero = tolerance * lightest;
    var least = -bitcast<f32>(0x7f7fffffu);
    var most = -least;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let from_centre = tf_sub(groups[row].mean, centre);
        let above = (from_centre.x - half.x) + (from_centre.y - half.y);
        let below = (from_centre.x + half.x) + (from_centre.y + half.y);
        groups[row].above = above;
        groups[row].below = below;
        let pull = groups[row].shift.x * groups[row].mass.x;
        least = max(least, select(above, below, pull < -zero));
        most = min(most, select(below, above, pull > zero));
    }
    return least - most;
}

// What a union adds to the slope of the dual along the step, where its multiplier has this sign, with the centre this much
// higher.
fn slope_term(row: u32, centre: f32, sign: f32) -> f32 {
    let distance = select(groups[row].below, groups[row].above, sign >= 0.0) - centre;
    return -groups[row].mass.x * groups[row].step * distance;
}

// Judges the trial by its slope along the step. True if it went too far, and then a shorter one is set.
fn shorten(s: u32, live: u32) -> bool {
    var slope = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let shift = groups[row].shift.x;
        slope += slope_term(row, 0.0, select(shift, -groups[row].step, shift == 0.0));
    }
    let start_slope = spreads[s].start_slope;
    let trials = spreads[s].trials + 1u;
    if slope <= -0.5 * start_slope || trials > MOST_TRIALS {
        return false;
    }
    // Where the slope would be zero if it were linear; every third time the middle.
    spreads[s].trials = trials;
    let linear = clamp(-start_slope / (slope - start_slope), 0.05, 0.95);
    spreads[s].length *= select(linear, 0.5, trials % 3u == 0u);
    return true;
}

// Where a step takes a union, if the centre moves up by this.
struct Aim {
    step: f32,
    // Whether its shift is not zero then, and how much that weighs as the centre moves.
    held: bool,
    weight: f32,
}

fn aim_of(row: u32, centre: f32) -> Aim {
    let slope = groups[row].slope;
    let start = groups[row].start.x;
    let above = groups[row].above - centre;
    let below = groups[row].below - centre;
    let pull = slope * start;
    let rises = above + pull > 0.0;
    let held = rises || below + pull < 0.0;
    let inverse = 1.0 / slope;
    let step = select(-start, select(below, above, rises) * inverse, held);
    return Aim(step, held, select(0.0, groups[row].mass.x * inverse, held));
}

// How far to move the centre, so that the steps balance: the root of a falling function that is linear between kinks.
fn root(live: u32) -> f32 {
    var lo = bitcast<f32>(0x7f7fffffu);
    var hi = -lo;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let pull = groups[row].slope * groups[row].start.x;
        lo = min(lo, groups[row].above + pull);
        hi = max(hi, groups[row].below + pull);
    }
    var centre = 0.5 * (lo + hi);
    for (var k = 0u; k < MAX_ROOT_STEPS; k++) {
        var value = 0.0;
        var weights = 0.0;
        for (var rest = live; rest != 0u; rest &= rest - 1u) {
            let row = firstTrailingBit(rest);
            let aim = aim_of(row, centre);
            value += groups[row].mass.x * aim.step;
            weights += aim.weight;
        }
        // (No weight: all shifts are zero, and balanced.)
        if value == 0.0 || weights == 0.0 {
            break;
        }
        if value > 0.0 {
            lo = centre;
        } else {
            hi = centre;
        }
        let newton = centre + value / weights;
        let is_near = abs(newton - centre) <= 2e-7 * abs(centre);
        centre = select(0.5 * (lo + hi), newton, lo <= newton && newton <= hi);
        if is_near {
            break;
        }
    }
    return centre;
}

// Sets up the step from the present point. False if there is none.
fn find_step(s: u32, live: u32, residual: f32) -> bool {
    var farthest = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        groups[row].start = groups[row].shift;
        let beyond = groups[row].beyond;
        farthest = max(farthest, beyond);
        // A union without free elements is not flat: some come free as it moves.
        let free = groups[row].free;
        groups[row].slope = select(max(free, residual / (residual + beyond)), free, free >= PLENTY);
    }
    let centre = root(live);
    var held = 0u;
    var longest = 0.0;
    var start_slope = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let aim = aim_of(row, centre);
        groups[row].step = aim.step;
        held |= select(0u, 1u << row, aim.held);
        longest = max(longest, abs(aim.step));
        let start = groups[row].start.x;
        start_slope += slope_term(row, centre, select(start, aim.step, start == 0.0));
    }
    spreads[s].centre = tf_add(spreads[s].centre, tf(centre));
    spreads[s].held = held;
    let reach = 2.0 * residual + 4.0 * farthest;
    spreads[s].length = select(min(reach / longest, 1.0), 1.0, longest == 0.0);
    spreads[s].start_slope = start_slope;
    spreads[s].trials = 0u;
    return start_slope < 0.0 && longest < 1e30;
}

// Moves the unions to the search's length.
fn ask(s: u32, live: u32) {
    let length = spreads[s].length;
    let held = select(spreads[s].held, live, length < 1.0);
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let there = tf_add(groups[row].start, tf(length * groups[row].step));
        groups[row].shift = select(tf(0.0), there, vec2<bool>(((held >> row) & 1u) == 1u));
    }
    settle_balance(live);
}

// What rounding left of the balance of the multipliers is paid by the heaviest union: it moves the least.
fn settle_balance(live: u32) {
    var balance = tf(0.0);
    var payer = NONE;
    var heaviest = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let mass = groups[row].mass;
        let shift = groups[row].shift;
        balance = tf_add(balance, tf_mul(mass, shift));
        if shift.x != 0.0 && mass.x > heaviest {
            payer = row;
            heaviest = mass.x;
        }
    }
    if payer != NONE {
        groups[payer].shift = tf_sub(groups[payer].shift, tf_div(balance, groups[payer].mass));
    }
}

// What becomes of a spread without an answer.
fn give_up() -> u32 {
    return select(HOPELESS, TOO_HARD, BOUNDED);
}

// Takes the sums at the point asked for: what the spread does next.
fn receive(s: u32) -> u32 {
    let live = spreads[s].live;
    let epsilon = spreads[s].epsilon;
    let passes = spreads[s].passes + 1u;
    spreads[s].passes = passes;
    let means = means_of(live);
    if atomicLoad(&overflown) != 0u {
        return give_up();
    }
    if passes == 1u {
        if !tf_less(epsilon, means.gap) {
            return ENDED;
        }
        spreads[s].centre = groups[firstTrailingBit(live)].mean;
        note_rest(live);
    }
    // The smallest tolerance that can be asked for, from what rounding the stored values may cost two means.
    let part = select(1.0, 0.25, params.unit_roundoff > 1e-6);
    let tolerance = max(params.tolerance, part * 8.0 * params.unit_roundoff * means.size);
    let room = tf_sub(epsilon, tf(tolerance));
    let half = select(tf(0.0), 0.5 * room, vec2<bool>(room.x > 0.0));
    if spreads[s].mode == BRACKETS {
        return bracket(s, live, half, tolerance);
    }
    let residual = measure(live, spreads[s].centre, half, tolerance);
    spreads[s].residual = residual;
    // A little less than the tolerance, so that the proof does not rest on the sums' last digit; and the residual is rounded.
    let holds = room.x <= 0.0 || !tf_less(epsilon, means.gap);
    if residual <= 0.999 * tolerance && holds {
        spreads[s].excess = excess_of(means, epsilon);
        return ENDED;
    }
    if spreads[s].mode == BRACKETS_END || spreads[s].steps >= params.max_iterations {
        return give_up();
    }
    var turns = passes >= params.search_passes;
    if !turns && (passes == 1u || !shorten(s, live)) {
        spreads[s].steps++;
        turns = !find_step(s, live, residual);
    }
    if turns && BOUNDED {
        return TOO_HARD;
    }
    if turns {
        begin_brackets(s, live, half);
        return WAITING;
    }
    ask(s, live);
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
    if ending == HOPELESS {
        // By how much the spreads are exceeded at clip(z).
        for (var cell = lane; cell < params.cells; cell += LANES) {
            cell_shift[cell] = tf(0.0);
        }
        if lane == 0u {
            atomicStore(&overflown, 0u);
        }
        workgroupBarrier();
        pass_over(lane);
        gather(lane);
        for (var s = lane; s < params.spreads; s += LANES) {
            if spreads[s].live != 0u {
                spreads[s].excess = excess_of(means_of(spreads[s].live), spreads[s].epsilon);
            }
        }
        workgroupBarrier();
    }
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
        let is_bad = ending == BAD_LEVEL;
        if is_bad {
            excess = tf(bitcast<f32>(0x7f800000u ^ opaque_zero()));
            steps = 0u;
            residual = 0.0;
        }
        let unsolved = select(STATUS_ITERATION_LIMIT, STATUS_BAD_NUMBER, is_bad);
        results[record] = select(unsolved, STATUS_SOLVED, has_answer);
        results[record + 1u] = steps;
        results[record + 2u] = passes;
        results[record + 3u] = select(0u, inactive_rows(), has_answer);
        results[record + 4u] = bitcast<u32>(residual);
        results[record + 5u] = bitcast<u32>(excess.x);
        results[record + 6u] = bitcast<u32>(excess.y);
        results[record + 7u] = 0u;
    }
}
