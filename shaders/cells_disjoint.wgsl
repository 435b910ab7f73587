// The commonest problem, with its step in closed form: difference spreads of unions that share no cell
// (`disjoint_spreads.wgsl`). The method is that of `src/reference/disjoint.rs`, spread by spread, a lane each. What it does not
// solve in a few passes it leaves: to brackets (`disjoint_brackets.wgsl`), which fail only if their passes run out, or, where
// elements have bounds of their own, so that there may be no answer, to `cells_newton`.
//
// Means, shifts and the centre are two floats. What a step is made of are differences from the present point, for which single
// ones are enough: they vanish as it is approached.

// A union with this part of its mass free needs no floor.
const PLENTY = 0.25;
// A bracket halves at least every other time: enough for any root that a float can hold.
const MAX_ROOT_STEPS = 60u;
const MOST_TRIALS = 8u;
// A union's step: the floored slope of its mean in its shift, where it began, and how far it goes.
struct Move {
    slope: f32,
    start: vec2<f32>,
    step: f32,
}

// The search along a spread's step, and the rows whose shift the step does not end at zero.
struct Search {
    held: u32,
    length: f32,
    start_slope: f32,
    trials: u32,
}

var<workgroup> moves: array<Move, ALL_SLOTS>;
var<workgroup> searches: array<Search, ALL_SLOTS>;

// What a union adds to the slope of the dual along the step, where its multiplier has this sign, with the centre this much
// higher.
fn slope_term(row: u32, centre: f32, sign: f32) -> f32 {
    let distance = select(groups[slot(row)].below, groups[slot(row)].above, sign >= 0.0) - centre;
    return -groups[slot(row)].mass.x * moves[slot(row)].step * distance;
}

// Judges the trial by its slope along the step. True if it went too far, and then a shorter one is set.
fn shorten(s: u32, live: u32) -> bool {
    var slope = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let shift = groups[slot(row)].shift.x;
        slope += slope_term(row, 0.0, select(shift, -moves[slot(row)].step, shift == 0.0));
    }
    let start_slope = searches[slot(s)].start_slope;
    let trials = searches[slot(s)].trials + 1u;
    if slope <= -0.5 * start_slope || trials > MOST_TRIALS {
        return false;
    }
    // Where the slope would be zero if it were linear; every third time the middle.
    searches[slot(s)].trials = trials;
    let linear = clamp(-start_slope / (slope - start_slope), 0.05, 0.95);
    searches[slot(s)].length *= select(linear, 0.5, trials % 3u == 0u);
    return true;
}

// Where a step takes a union, if the centre moves up by this.
struct Reach {
    step: f32,
    // Whether its shift is not zero then, and how much that weighs as the centre moves.
    held: bool,
    weight: f32,
}

fn reach_of(row: u32, centre: f32) -> Reach {
    let slope = moves[slot(row)].slope;
    let start = moves[slot(row)].start.x;
    let above = groups[slot(row)].above - centre;
    let below = groups[slot(row)].below - centre;
    let pull = slope * start;
    let rises = above + pull > 0.0;
    let held = rises || below + pull < 0.0;
    let inverse = 1.0 / slope;
    let step = select(-start, select(below, above, rises) * inverse, held);
    return Reach(step, held, select(0.0, groups[slot(row)].mass.x * inverse, held));
}

// How far to move the centre, so that the steps balance: the root of a falling function that is linear between kinks.
fn root(live: u32) -> f32 {
    var lo = bitcast<f32>(0x7f7fffffu);
    var hi = -lo;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let pull = moves[slot(row)].slope * moves[slot(row)].start.x;
        lo = min(lo, groups[slot(row)].above + pull);
        hi = max(hi, groups[slot(row)].below + pull);
    }
    var centre = 0.5 * (lo + hi);
    for (var k = 0u; k < MAX_ROOT_STEPS; k++) {
        var value = 0.0;
        var weights = 0.0;
        for (var rest = live; rest != 0u; rest &= rest - 1u) {
            let row = firstTrailingBit(rest);
            let there = reach_of(row, centre);
            value += groups[slot(row)].mass.x * there.step;
            weights += there.weight;
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
        moves[slot(row)].start = groups[slot(row)].shift;
        let beyond = groups[slot(row)].beyond;
        farthest = max(farthest, beyond);
        // A union without free elements is not flat: some come free as it moves.
        let free = groups[slot(row)].free;
        moves[slot(row)].slope = select(max(free, residual / (residual + beyond)), free, free >= PLENTY);
    }
    let centre = root(live);
    var held = 0u;
    var longest = 0.0;
    var start_slope = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let there = reach_of(row, centre);
        moves[slot(row)].step = there.step;
        held |= select(0u, 1u << row, there.held);
        longest = max(longest, abs(there.step));
        let start = moves[slot(row)].start.x;
        start_slope += slope_term(row, centre, select(start, there.step, start == 0.0));
    }
    spreads[slot(s)].centre = tf_add(spreads[slot(s)].centre, tf(centre));
    searches[slot(s)].held = held;
    let reach = 2.0 * residual + 4.0 * farthest;
    searches[slot(s)].length = select(min(reach / longest, 1.0), 1.0, longest == 0.0);
    searches[slot(s)].start_slope = start_slope;
    searches[slot(s)].trials = 0u;
    return start_slope < 0.0 && longest < 1e30;
}

// Moves the unions to the search's length.
fn ask(s: u32, live: u32) {
    let length = searches[slot(s)].length;
    let held = select(searches[slot(s)].held, live, length < 1.0);
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let moved_to = tf_add(moves[slot(row)].start, tf(length * moves[slot(row)].step));
        groups[slot(row)].shift = select(tf(0.0), moved_to, vec2<bool>(((held >> row) & 1u) == 1u));
    }
    settle_balance(live);
}

// Takes the sums at the point asked for: what the spread does next.
fn receive(s: u32) -> u32 {
    let live = spreads[slot(s)].live;
    let means = means_of(live);
    if atomicLoad(&overflown[team]) != 0u {
        return TOO_HARD;
    }
    let is_first = spreads[slot(s)].passes == 1u;
    if is_first {
        if !tf_less(spreads[slot(s)].epsilon, means.gap) {
            return ENDED;
        }
        spreads[slot(s)].centre = groups[slot(firstTrailingBit(live))].mean;
    }
    let aim = aim_at(spreads[slot(s)].epsilon, means);
    if is_solved(s, means, aim, PROVEN) {
        return ENDED;
    }
    if spreads[slot(s)].passes >= params.search_passes || spreads[slot(s)].steps >= params.max_iterations {
        return TOO_HARD;
    }
    if is_first || !shorten(s, live) {
        spreads[slot(s)].steps++;
        if !find_step(s, live, spreads[slot(s)].residual) {
            return TOO_HARD;
        }
    }
    ask(s, live);
    return WAITING;
}

fn pauses() -> bool {
    return false;
}

// Leaves the problem, which has taken some steps and passes.
fn leave_after(lane: u32) {
    if lane == 0u {
        var steps = 0u;
        var passes = 0u;
        for (var s = 0u; s < params.spreads; s++) {
            steps = max(steps, spreads[slot(s)].steps);
            passes = max(passes, spreads[slot(s)].passes);
        }
        let record = problem * params.results_stride;
        results[record] = STATUS_HANDED_OVER;
        results[record + 1u] = steps;
        results[record + 2u] = passes;
        leave();
    }
}

@compute @workgroup_size(LANES)
fn cells_disjoint(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let lane = join_team(group, invocation);
    load_problem(lane);
    begin_spreads(lane);
    let ending = solve_spreads(lane);
    let is_left = ending == TOO_HARD;
    if is_left {
        // (All teams write together, this one nothing.)
        rest();
    }
    write_answer(lane, ending == ENDED);
    if is_left {
        leave_after(lane);
    } else if !is_idle {
        report_spreads(lane, ending, 0u, 0u);
    }
}
