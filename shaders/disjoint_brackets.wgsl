// The spreads of `disjoint_spreads.wgsl` by brackets, for what `cells_disjoint` left: as a chain, whose last link leaves nothing.
// At any centre every union has a
// shift that brings its mean to what the centre allows, and the sum of the multipliers falls as the centre rises. Both roots
// are kept in brackets, and sought by Newton's method; where that takes long, brackets are halved every other time. Where a mean is flat in its shift, the sum jumps; then the
// shifts at both ends of the centre's last bracket are mixed so that it is zero.

// What a spread is at: its first pass, brackets, or the point that they ended with.
const FIRST_LOOK = 0u;
const BRACKETS = 1u;
const BRACKETS_END = 2u;
// Passes for one centre.
const MOST_SHIFTS = 50u;
// With less of a union free, its mean tells nothing of where it meets its target.
const LEAST_FREE = 0.02;

// A union: between what shifts it is sought; its mean at zero shifts; and its shifts at the ends of the centre's bracket.
struct Bracket {
    least: vec2<f32>,
    most: vec2<f32>,
    rest: vec2<f32>,
    at_low: vec2<f32>,
    at_high: vec2<f32>,
}

// A spread's centre: its bracket, the sums of the multipliers at the ends of that, and the passes for the present one.
struct Centre {
    mode: u32,
    trials: u32,
    low: vec2<f32>,
    high: vec2<f32>,
    sum_low: f32,
    sum_high: f32,
}

var<workgroup> brackets: array<Bracket, ALL_SLOTS>;
var<workgroup> centres: array<Centre, ALL_SLOTS>;

// The unions' means at zero shifts.
fn note_rest(live: u32) {
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        brackets[slot(row)].rest = groups[slot(row)].mean;
    }
}

fn begin_brackets(s: u32, live: u32, half: vec2<f32>) {
    // A shift by this moves every element beyond where its union has to go.
    let farthest = 2.0 * bitcast<f32>(atomicLoad(&largest_clipped[team])) + bitcast<f32>(atomicLoad(&largest_beyond[team]));
    let reach = tf(1.001 * farthest);
    var low = brackets[slot(firstTrailingBit(live))].rest;
    var high = low;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        if tf_less(brackets[slot(row)].rest, low) {
            low = brackets[slot(row)].rest;
        }
        if tf_less(high, brackets[slot(row)].rest) {
            high = brackets[slot(row)].rest;
        }
        brackets[slot(row)].at_low = reach;
        brackets[slot(row)].at_high = tf_neg(reach);
    }
    // (A little wider than needed: at its very ends shifts may be any of many.)
    let margin = tf_add(half, tf(0.1 * (high.x - low.x) + 0.2 * half.x));
    low = tf_sub(low, margin);
    high = tf_add(high, margin);
    centres[slot(s)].low = low;
    centres[slot(s)].high = high;
    // (Of the wrong sign: no centre came there yet.)
    centres[slot(s)].sum_low = -1.0;
    centres[slot(s)].sum_high = 1.0;
    centres[slot(s)].mode = BRACKETS;
    spreads[slot(s)].steps++;
    begin_centre(s, live, half, middle(low, high));
}

// The mean that a union has to get at this centre.
fn target_of(row: u32, centre: vec2<f32>, half: vec2<f32>) -> vec2<f32> {
    let top = tf_add(centre, half);
    let bottom = tf_sub(centre, half);
    let rest = brackets[slot(row)].rest;
    if tf_less(top, rest) {
        return top;
    }
    if tf_less(rest, bottom) {
        return bottom;
    }
    return rest;
}

fn middle(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return 0.5 * tf_add(a, b);
}

// Whether a root is sought by Newton's method still.
fn is_trusted(trials: u32) -> bool {
    return trials < 8u || trials % 2u == 0u;
}

// Where a union's mean meets its target, as far as its free elements tell and within its bracket; the middle of that, if it
// has been tried often enough, or if hardly any are free.
fn next_shift(row: u32, difference: f32, trust: bool) -> vec2<f32> {
    let least = brackets[slot(row)].least;
    let most = brackets[slot(row)].most;
    let next = tf_add(groups[slot(row)].shift, tf(difference / groups[slot(row)].free));
    if !trust || groups[slot(row)].free < LEAST_FREE {
        return middle(least, most);
    }
    if tf_less(next, least) {
        return least;
    }
    return select(next, most, vec2<bool>(tf_less(most, next)));
}

// Goes on with this centre, from the shifts and means of the last.
fn begin_centre(s: u32, live: u32, half: vec2<f32>, centre: vec2<f32>) {
    spreads[slot(s)].centre = centre;
    centres[slot(s)].trials = 0u;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        brackets[slot(row)].least = brackets[slot(row)].at_high;
        brackets[slot(row)].most = brackets[slot(row)].at_low;
        let aim = target_of(row, centre, half);
        let moves = tf_sub(brackets[slot(row)].rest, aim).x != 0.0;
        let next = next_shift(row, tf_sub(groups[slot(row)].mean, aim).x, true);
        groups[slot(row)].shift = select(tf(0.0), next, vec2<bool>(moves));
    }
}

// Takes the sums at the shifts asked for: brings every union to its target, then the sum of the multipliers to zero.
fn bracket(s: u32, live: u32, half: vec2<f32>, tolerance: f32) -> u32 {
    let centre = spreads[slot(s)].centre;
    let trials = centres[slot(s)].trials + 1u;
    centres[slot(s)].trials = trials;
    let near = 0.2 * tolerance;
    var all_near = true;
    var sum = tf(0.0);
    // How much the sum falls as the centre rises.
    var slope = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let aim = target_of(row, centre, half);
        let shift = groups[slot(row)].shift;
        let mass = groups[slot(row)].mass;
        sum = tf_add(sum, tf_mul(mass, shift));
        if tf_sub(brackets[slot(row)].rest, aim).x != 0.0 {
            slope += mass.x / max(groups[slot(row)].free, LEAST_FREE);
            let difference = tf_sub(groups[slot(row)].mean, aim).x;
            // (Stored values are rounded, so that means jump a little.)
            let width = tf_sub(brackets[slot(row)].most, brackets[slot(row)].least).x;
            if abs(difference) > near && width > 0.1 * near {
                all_near = false;
                if difference > 0.0 {
                    brackets[slot(row)].least = shift;
                } else {
                    brackets[slot(row)].most = shift;
                }
                groups[slot(row)].shift = next_shift(row, difference, is_trusted(trials));
            }
        }
    }
    if !all_near && trials < MOST_SHIFTS && !is_near_end() {
        return WAITING;
    }
    let rise = sum.x / slope;
    if all_near && abs(rise) <= near {
        end_here(s, live, half, rise);
        return WAITING;
    }
    let is_low = sum.x > 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        if is_low {
            brackets[slot(row)].at_low = groups[slot(row)].shift;
        } else {
            brackets[slot(row)].at_high = groups[slot(row)].shift;
        }
    }
    if is_low {
        centres[slot(s)].low = centre;
        centres[slot(s)].sum_low = sum.x;
    } else {
        centres[slot(s)].high = centre;
        centres[slot(s)].sum_high = sum.x;
    }
    let steps = spreads[slot(s)].steps + 1u;
    spreads[slot(s)].steps = steps;
    let low = centres[slot(s)].low;
    let high = centres[slot(s)].high;
    let is_last = tf_sub(high, low).x <= near || is_near_end();
    if is_last {
        mix_ends(s, live);
        return WAITING;
    }
    let newton = tf_add(centre, tf(rise));
    let inside = is_trusted(steps) && tf_less(low, newton) && tf_less(newton, high);
    begin_centre(s, live, half, select(middle(low, high), newton, vec2<bool>(inside)));
    return WAITING;
}

// Whether there is no pass left but one to judge what the brackets end with.
fn is_near_end() -> bool {
    return params.last_link != 0u && passes_done + 1u >= passes_of_link;
}

fn pauses() -> bool {
    return params.last_link == 0u && passes_done >= passes_of_link;
}

// Ends where the centre, which has so far to rise that it is no matter, lets the multipliers sum to zero.
fn end_here(s: u32, live: u32, half: vec2<f32>, rise: f32) {
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let moves = tf_sub(brackets[slot(row)].rest, target_of(row, spreads[slot(s)].centre, half)).x != 0.0;
        let back = select(0.0, rise / max(groups[slot(row)].free, LEAST_FREE), moves);
        groups[slot(row)].shift = tf_sub(groups[slot(row)].shift, tf(back));
    }
    settle_balance(live);
    centres[slot(s)].mode = BRACKETS_END;
}

// Mixes the shifts at the ends of the centre's bracket so that the multipliers sum to zero.
fn mix_ends(s: u32, live: u32) {
    let low = centres[slot(s)].sum_low;
    let high = centres[slot(s)].sum_high;
    var part = select(1.0, 0.0, low < 0.0);
    if low > 0.0 && high <= 0.0 {
        part = -high / (low - high);
    }
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let difference = tf_sub(brackets[slot(row)].at_low, brackets[slot(row)].at_high);
        groups[slot(row)].shift = tf_add(brackets[slot(row)].at_high, tf_scale(difference, part));
    }
    settle_balance(live);
    centres[slot(s)].mode = BRACKETS_END;
}

// Takes the sums at the shifts asked for: what the spread does next.
fn receive(s: u32) -> u32 {
    let live = spreads[slot(s)].live;
    let means = means_of(live);
    if atomicLoad(&overflown[team]) != 0u {
        return HOPELESS;
    }
    let aim = aim_at(spreads[slot(s)].epsilon, means);
    switch centres[slot(s)].mode {
        case FIRST_LOOK: {
            if !tf_less(spreads[slot(s)].epsilon, means.gap) {
                return ENDED;
            }
            if steps_before() + spreads[slot(s)].steps >= params.max_iterations {
                return HOPELESS;
            }
            note_rest(live);
            begin_brackets(s, live, aim.half);
            return WAITING;
        }
        case BRACKETS: {
            return bracket(s, live, aim.half, aim.tolerance);
        }
        default: {
            return select(HOPELESS, ENDED, is_solved(s, means, aim, at_the_floor()));
        }
    }
}

// What is accepted where brackets have no number between their ends, as Newton's method does where rounding stalls it: epsilon
// itself is kept.
fn at_the_floor() -> f32 {
    return select(8.0, 2.0, params.unit_roundoff > 1e-6);
}

// What `cells_disjoint` has spent.
fn steps_before() -> u32 {
    return results[problem * params.results_stride + 1u];
}

// By how much the spreads are exceeded at clip(z).
fn measure_start(lane: u32) {
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        cell_shift[slot(cell)] = tf(0.0);
    }
    if lane == 0u {
        atomicStore(&overflown[team], 0u);
    }
    workgroupBarrier();
    pass_over(lane);
    gather(lane);
    for (var s = lane; s < params.spreads; s += TEAM) {
        if spreads[slot(s)].live != 0u {
            spreads[slot(s)].excess = excess_of(means_of(spreads[slot(s)].live), spreads[slot(s)].epsilon);
        }
    }
    workgroupBarrier();
}

// Words of the state between two links, of a row and of a spread.
const ROW_WORDS = 12u;
const SPREAD_WORDS = 16u;

fn state_of_row(row: u32) -> u32 {
    return problem * (ROW_WORDS * params.rows + SPREAD_WORDS * params.spreads) + ROW_WORDS * row;
}

fn state_of_spread(s: u32) -> u32 {
    return state_of_row(params.rows) + SPREAD_WORDS * s;
}

fn save_pair(at: u32, value: vec2<f32>) {
    state[at] = bitcast<u32>(value.x);
    state[at + 1u] = bitcast<u32>(value.y);
}

fn saved_pair(at: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(state[at]), bitcast<f32>(state[at + 1u]));
}

// Leaves the problem for the next link, which goes on with the pass that is asked for.
fn save_brackets(lane: u32) {
    for (var row = lane; row < params.rows; row += TEAM) {
        let at = state_of_row(row);
        save_pair(at, brackets[slot(row)].least);
        save_pair(at + 2u, brackets[slot(row)].most);
        save_pair(at + 4u, brackets[slot(row)].rest);
        save_pair(at + 6u, brackets[slot(row)].at_low);
        save_pair(at + 8u, brackets[slot(row)].at_high);
        save_pair(at + 10u, groups[slot(row)].shift);
    }
    for (var s = lane; s < params.spreads; s += TEAM) {
        let at = state_of_spread(s);
        save_pair(at, centres[slot(s)].low);
        save_pair(at + 2u, centres[slot(s)].high);
        save_pair(at + 4u, spreads[slot(s)].centre);
        save_pair(at + 6u, spreads[slot(s)].excess);
        save_pair(at + 8u, vec2<f32>(centres[slot(s)].sum_low, centres[slot(s)].sum_high));
        state[at + 10u] = centres[slot(s)].mode;
        state[at + 11u] = centres[slot(s)].trials;
        state[at + 12u] = spreads[slot(s)].steps;
        state[at + 13u] = spreads[slot(s)].passes;
        state[at + 14u] = spreads[slot(s)].stage;
        state[at + 15u] = bitcast<u32>(spreads[slot(s)].residual);
    }
    if lane == 0u {
        results[problem * params.results_stride] = STATUS_GOING_ON;
        leave();
    }
}

fn restore_brackets(lane: u32) {
    for (var row = lane; row < params.rows; row += TEAM) {
        let at = state_of_row(row);
        let own = Bracket(saved_pair(at), saved_pair(at + 2u), saved_pair(at + 4u), saved_pair(at + 6u), saved_pair(at + 8u));
        brackets[slot(row)] = own;
        groups[slot(row)].shift = saved_pair(at + 10u);
    }
    for (var s = lane; s < params.spreads; s += TEAM) {
        let at = state_of_spread(s);
        let sums = saved_pair(at + 8u);
        centres[slot(s)] = Centre(state[at + 10u], state[at + 11u], saved_pair(at), saved_pair(at + 2u), sums.x, sums.y);
        spreads[slot(s)].centre = saved_pair(at + 4u);
        spreads[slot(s)].excess = saved_pair(at + 6u);
        spreads[slot(s)].steps = state[at + 12u];
        spreads[slot(s)].passes = state[at + 13u];
        spreads[slot(s)].stage = state[at + 14u];
        spreads[slot(s)].residual = bitcast<f32>(state[at + 15u]);
    }
    workgroupBarrier();
    settle(lane);
}

@compute @workgroup_size(LANES)
fn disjoint_brackets(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_left(group) {
        return;
    }
    let record = problem * params.results_stride;
    let spent = steps_before();
    let passes = results[record + 2u];
    let goes_on = results[record] == STATUS_GOING_ON;
    load_problem(lane);
    for (var s = lane; s < params.spreads; s += TEAM) {
        centres[slot(s)].mode = FIRST_LOOK;
    }
    begin_spreads(lane);
    if goes_on {
        restore_brackets(lane);
    }
    let ending = solve_spreads(lane);
    if ending == WAITING {
        save_brackets(lane);
        return;
    }
    if ending == HOPELESS {
        measure_start(lane);
    }
    write_answer(lane, ending == ENDED);
    report_spreads(lane, ending, spent, passes);
}
