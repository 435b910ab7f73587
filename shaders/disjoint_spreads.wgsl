// Difference spreads of unions that share no cell, neither within a spread nor between them, as `cells_disjoint` and
// `disjoint_brackets` solve them: spread by spread, a lane each, with a shift for every union. A module that is joined with
// this has `receive(s)`, which takes the sums at the shifts asked for and says what the spread does next, and `pauses`: whether
// the dispatch ends before the spreads do.

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
    // The shift asked for.
    shift: vec2<f32>,
    // Of that shift: the mean of y over the union, of |y|, of being free; how far its farthest cell lies beyond.
    mean: vec2<f32>,
    size: f32,
    free: f32,
    beyond: f32,
    // By how much the mean exceeds the upper end of what the centre allows, and the lower one.
    above: f32,
    below: f32,
}

struct Spread {
    epsilon: vec2<f32>,
    centre: vec2<f32>,
    excess: vec2<f32>,
    // The rows that have samples.
    live: u32,
    residual: f32,
    steps: u32,
    passes: u32,
    stage: u32,
}

var<workgroup> groups: array<Group, ALL_SLOTS>;
var<workgroup> spreads: array<Spread, ALL_SLOTS>;
var<workgroup> row_of_cell: array<u32, ALL_SLOTS>;
// What the team's spreads together wait for, and how many teams wait no more.
var<workgroup> stage: array<u32, TEAMS>;
var<workgroup> ended_teams: atomic<u32>;
// The passes of this dispatch.
var<private> passes_done: u32;

// The bit mask of the rows that constrain nothing here.
fn inactive_rows() -> u32 {
    return totals[problem * params.totals_stride + 1u];
}

fn is_live(row: u32) -> bool {
    return ((inactive_rows() >> row) & 1u) == 0u;
}

fn begin_spreads(lane: u32) {
    for (var row = lane; row < params.rows; row += TEAM) {
        var group = Group();
        for (var rest = row_plus(row); rest != 0u; rest &= rest - 1u) {
            group.mass = tf_add(group.mass, cell_weight[slot(firstTrailingBit(rest))]);
        }
        groups[slot(row)] = group;
    }
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        var row = 0u;
        while row < params.rows && ((row_plus(row) >> cell) & 1u) == 0u {
            row++;
        }
        row_of_cell[slot(cell)] = row;
    }
    for (var s = lane; s < params.spreads; s += TEAM) {
        var spread = Spread();
        spread.epsilon = level(s);
        // (A spread has live rows, or none.)
        let rows = (0xffffffffu >> (32u - (spread_end(s) - spread_first(s)))) << spread_first(s);
        spread.live = rows & ~inactive_rows();
        spread.stage = select(WAITING, ENDED, spread.live == 0u);
        if is_special(bitcast<u32>(spread.epsilon.x)) || spread.epsilon.x < 0.0 {
            spread.stage = BAD_LEVEL;
        }
        spreads[slot(s)] = spread;
    }
    if lane == 0u {
        // (Without a problem there is nothing to wait for.)
        stage[team] = select(WAITING, ENDED, is_idle);
    }
    if lane == 0u && team == 0u {
        atomicStore(&ended_teams, 0u);
    }
    workgroupBarrier();
    if lane == 0u && is_idle {
        atomicAdd(&ended_teams, 1u);
    }
    settle(lane);
}

// What the spreads together wait for.
fn settle(lane: u32) {
    if lane == 0u && stage[team] == WAITING {
        var waits = false;
        var worst = ENDED;
        for (var s = 0u; s < params.spreads; s++) {
            waits = waits || spreads[slot(s)].stage == WAITING;
            worst = max(worst, spreads[slot(s)].stage);
        }
        if atomicLoad(&unusable[team]) != 0u {
            worst = BAD_LEVEL;
        }
        let now = select(select(ENDED, WAITING, waits), worst, worst > ENDED);
        stage[team] = now;
        if now != WAITING {
            atomicAdd(&ended_teams, 1u);
        }
    }
    for (var cell = lane; cell < params.cells; cell += TEAM) {
        if row_of_cell[slot(cell)] < params.rows {
            cell_shift[slot(cell)] = groups[slot(row_of_cell[slot(cell)])].shift;
        }
    }
    workgroupBarrier();
}

// The unions' means at the present sums.
fn gather(lane: u32) {
    let inactive = select(inactive_rows(), NONE, is_resting);
    for (var row = lane; row < params.rows; row += TEAM) {
        if ((inactive >> row) & 1u) == 0u {
            var y = tf(0.0);
            var size = 0.0;
            var free = tf(0.0);
            var beyond = 0.0;
            for (var rest = row_plus(row); rest != 0u; rest &= rest - 1u) {
                let cell = firstTrailingBit(rest);
                y = tf_add(y, cell_y[slot(cell)]);
                size += cell_size[slot(cell)];
                free = tf_add(free, cell_free[slot(cell)]);
                if cell_beyond[slot(cell)] > 0.0 {
                    beyond = max(beyond, cell_beyond[slot(cell)] / cell_weight[slot(cell)].x);
                }
            }
            let mass = groups[slot(row)].mass;
            groups[slot(row)].mean = tf_div(y, mass);
            groups[slot(row)].size = size / mass.x;
            groups[slot(row)].free = free.x / mass.x;
            groups[slot(row)].beyond = beyond;
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
    var top = groups[slot(firstTrailingBit(live))].mean;
    var bottom = top;
    var size = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let mean = groups[slot(row)].mean;
        if tf_less(top, mean) {
            top = mean;
        }
        if tf_less(mean, bottom) {
            bottom = mean;
        }
        size = max(size, groups[slot(row)].size);
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
        lightest = min(lightest, groups[slot(firstTrailingBit(rest))].mass.x);
    }
    let zero = tolerance * lightest;
    var least = -bitcast<f32>(0x7f7fffffu);
    var most = -least;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let from_centre = tf_sub(groups[slot(row)].mean, centre);
        let above = (from_centre.x - half.x) + (from_centre.y - half.y);
        let below = (from_centre.x + half.x) + (from_centre.y + half.y);
        groups[slot(row)].above = above;
        groups[slot(row)].below = below;
        let pull = groups[slot(row)].shift.x * groups[slot(row)].mass.x;
        least = max(least, select(above, below, pull < -zero));
        most = min(most, select(below, above, pull > zero));
    }
    return least - most;
}

// What rounding left of the balance of the multipliers is paid by the heaviest union: it moves the least.
fn settle_balance(live: u32) {
    var balance = tf(0.0);
    var payer = NONE;
    var heaviest = 0.0;
    for (var rest = live; rest != 0u; rest &= rest - 1u) {
        let row = firstTrailingBit(rest);
        let mass = groups[slot(row)].mass;
        let shift = groups[slot(row)].shift;
        balance = tf_add(balance, tf_mul(mass, shift));
        if shift.x != 0.0 && mass.x > heaviest {
            payer = row;
            heaviest = mass.x;
        }
    }
    if payer != NONE {
        groups[slot(payer)].shift = tf_sub(groups[slot(payer)].shift, tf_div(balance, groups[slot(payer)].mass));
    }
}

// A little less than the tolerance, so that the proof does not rest on the sums' last digit.
const PROVEN = 0.999;

// What a spread is held to at the present sums.
struct Aim {
    // Half of epsilon, with room for rounding; and the tolerance that this rests on.
    half: vec2<f32>,
    tolerance: f32,
    // Whether epsilon leaves that room.
    roomy: bool,
}

fn aim_at(epsilon: vec2<f32>, means: Means) -> Aim {
    // The smallest tolerance that can be asked for, from what rounding the stored values may cost two means.
    let part = select(1.0, 0.25, params.unit_roundoff > 1e-6);
    let tolerance = max(params.tolerance, part * 8.0 * params.unit_roundoff * means.size);
    let room = tf_sub(epsilon, tf(tolerance));
    let roomy = room.x > 0.0;
    return Aim(select(tf(0.0), 0.5 * room, vec2<bool>(roomy)), tolerance, roomy);
}

// Whether the present point is the answer to so many tolerances, whose residual and excess are noted.
fn is_solved(s: u32, means: Means, aim: Aim, tolerances: f32) -> bool {
    let epsilon = spreads[slot(s)].epsilon;
    let residual = measure(spreads[slot(s)].live, spreads[slot(s)].centre, aim.half, aim.tolerance);
    spreads[slot(s)].residual = residual;
    // (The residual is rounded.)
    let holds = !aim.roomy || !tf_less(epsilon, means.gap);
    if residual <= tolerances * aim.tolerance && holds {
        spreads[slot(s)].excess = excess_of(means, epsilon);
        return true;
    }
    return false;
}

// Passes and steps, until the spreads of all teams have ended, or pause. Returns how this team's have.
fn solve_spreads(lane: u32) -> u32 {
    loop {
        if workgroupUniformLoad(&ended_teams) == TEAMS || pauses() {
            break;
        }
        passes_done++;
        is_resting = stage[team] != WAITING;
        pass_over(lane);
        gather(lane);
        for (var s = lane; s < params.spreads; s += TEAM) {
            if !is_resting && spreads[slot(s)].stage == WAITING {
                spreads[slot(s)].passes++;
                spreads[slot(s)].stage = receive(s);
            }
        }
        workgroupBarrier();
        settle(lane);
    }
    return stage[team];
}

// Notes what the spreads ended with, after so many steps and passes of another kernel.
fn report_spreads(lane: u32, ending: u32, steps_before: u32, passes_before: u32) {
    let has_answer = ending == ENDED;
    let record = problem * params.results_stride;
    let unit = power_of_two(weight_exponent());
    for (var row = lane; row < params.rows; row += TEAM) {
        let at = record + RESULTS_HEAD + 2u * row;
        var nu = tf(0.0);
        if has_answer && is_live(row) {
            nu = tf_mul(groups[slot(row)].mass, groups[slot(row)].shift);
        }
        results[at] = bitcast<u32>(nu.x * unit);
        results[at + 1u] = bitcast<u32>(nu.y * unit);
    }
    if lane == 0u {
        var steps = 0u;
        var passes = 0u;
        var residual = 0.0;
        var excess = tf(0.0);
        for (var s = 0u; s < params.spreads; s++) {
            steps = max(steps, spreads[slot(s)].steps);
            passes = max(passes, spreads[slot(s)].passes);
            residual = max(residual, spreads[slot(s)].residual);
            if tf_less(excess, spreads[slot(s)].excess) {
                excess = spreads[slot(s)].excess;
            }
        }
        let is_bad = ending == BAD_LEVEL;
        if is_bad {
            excess = tf(bitcast<f32>(0x7f800000u ^ opaque_zero()));
        }
        let unsolved = select(STATUS_ITERATION_LIMIT, STATUS_BAD_NUMBER, is_bad);
        results[record] = select(unsolved, STATUS_SOLVED, has_answer);
        results[record + 1u] = select(steps_before + steps, 0u, is_bad);
        results[record + 2u] = passes_before + passes;
        results[record + 3u] = select(inactive_rows(), 0u, is_bad);
        results[record + 4u] = bitcast<u32>(select(residual, 0.0, is_bad));
        results[record + 5u] = bitcast<u32>(excess.x);
        results[record + 6u] = bitcast<u32>(excess.y);
        results[record + 7u] = 0u;
    }
}
