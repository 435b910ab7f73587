// Proximal Newton on the dual of a problem, as a machine that asks for sums, is told, and asks again. Twin of
// src/reference/newton.rs, for all components of a problem at once: they are blocks of one system.
//
// Of the reference's last defences it has the attempts, which one problem in some thousands needs. Multipliers are
// two-floats; their reduction to independent rows no problem was found to need at the tolerances of f32.
//
// All lanes of a workgroup call it in step, with `lane` from 0; it needs 32 of them. The statuses are `STATUS_` and
// their names, as `Status` numbers them: constants of the module that this text is joined to.

const ATTEMPTS: u32 = 5u;
const ATTEMPT_STEPS: u32 = 150u;
const ATTEMPT_PASSES: u32 = 1200u;
/// What rows are relaxed by beyond the least that is enough, in units of the predictions: at first, and at the most.
const ROOM: f32 = 1e-9;
const MOST_ROOM: f32 = 1e-6;
/// Each begins anew, with all the steps that a user allows.
const MOST_RELAXATIONS: u32 = 100u;

/// What the machine waits for.
const STAGE_START: u32 = 0u;
const STAGE_ANEW: u32 = 1u;
const STAGE_SEARCH: u32 = 2u;

/// 0: wants a pass at `cell_shift`; 1: ended.
var<workgroup> machine_stage: u32;
var<workgroup> machine_status: u32;
var<workgroup> machine_steps: u32;
var<workgroup> machine_residual: f32;
var<workgroup> machine_excess: vec2<f32>;

/// How far a step moves the samples at the most, how far they lie beyond their bounds, and whether any that moves is
/// steeper in the model than it is.
struct Extent {
    longest: f32,
    farthest: f32,
    is_floored: bool,
}

struct Newton {
    stage: u32,
    status: u32,
    steps: u32,
    passes: u32,
    /// Whether the start is other than the first look at zero multipliers.
    warm: bool,
    last_residual: f32,
    attempt: u32,
    /// Steps and passes before this attempt.
    spent_steps: u32,
    spent_passes: u32,
    /// Of the present point, as it is reported.
    excess: vec2<f32>,
    /// What the rows are relaxed by next, beyond what is needed; how often they were, and the steps before the last time.
    room: f32,
    relaxations: u32,
    steps_before: u32,
}

var<private> newton: Newton;
/// Whether it begins with a ray that is there already, as its first step.
var<private> is_given_ray: bool;

/// Factors of the curvature floor, one an attempt.
fn floor_factor(attempt: u32) -> f32 {
    return select(select(select(1.0, 10.0, attempt == 2u), 0.01, attempt == 3u), 100.0, attempt == 4u);
}

/// Begins with the problem whose cells' weights and labels are summed.
fn machine_begin(lane: u32) {
    newton = Newton(STAGE_START, STATUS_SOLVED, 0u, 0u, false, BIG, 0u, 0u, 0u, vec2<f32>(), ROOM, 0u, 0u);
    reset_test();
    prox = PROX;
    let usable = rows_build(lane);
    begin_at_zero(lane);
    newton.warm = has_warm_start();
    if newton.warm {
        if lane < row_count {
            let start = warm_start(nth_bit(live_rows, lane));
            let open = select(rows_lower[lane].x == -BIG, rows_upper[lane].x == BIG, start.x > 0.0);
            row[TRIAL][lane] = select(start, vec2<f32>(), open || !is_finite(start.x));
        }
        workgroupBarrier();
        balance_rows(lane, TRIAL);
    }
    let empty = contradiction();
    is_given_ray = starts_with_ray() || empty.y != 0;
    if is_given_ray {
        if lane < row_count {
            let of_empty = select(vec2<f32>(), tf(f32(empty.y)), i32(lane) == empty.x);
            row[STEP][lane] = select(row[TRIAL][lane], of_empty, empty.y != 0);
            row[TRIAL][lane] = vec2<f32>();
        }
        workgroupBarrier();
    }
    set_shift(lane);
    if lane == 0u {
        machine_stage = u32(!usable || row_count == 0u);
        machine_status = select(STATUS_BAD_NUMBER, STATUS_SOLVED, usable);
        machine_steps = 0u;
        machine_residual = 0.0;
        machine_excess = vec2<f32>();
    }
    workgroupBarrier();
}

/// Takes the sums at the point asked for and works until it needs the next or has ended.
fn machine_step(lane: u32) {
    newton.passes += 1u;
    let rounding = take_means(lane);
    let out_of_passes = newton.passes - newton.spent_passes >= ATTEMPT_PASSES;
    var verdict = SEARCH_ENDS;
    if newton.stage == STAGE_SEARCH && !out_of_passes {
        verdict = judge_trial(lane);
    }
    var next = ASK;
    if verdict == SEARCH_RETURNS {
        newton.stage = STAGE_ANEW;
    } else if verdict == SEARCH_ENDS {
        if lane < row_count {
            row[NU][lane] = row[TRIAL][lane];
        }
        workgroupBarrier();
        let over = excess(rounding);
        newton.excess = over.reported;
        let kept = over.worst.x <= 0.0;
        if newton.stage == STAGE_START && !newton.warm && over.met {
            // Fair already: the true bounds are kept, with no margin asked for.
            next = END;
        } else {
            next = work(lane, rounding, kept);
        }
    }
    conclude(lane, next);
}

/// What comes after the work at a point.
const ASK: u32 = 0u;
const END: u32 = 1u;
const GIVE_UP: u32 = 2u;
const BEGIN_AT_ZERO: u32 = 3u;
const BEGIN_ANEW: u32 = 4u;
const STIFFER: u32 = 5u;

/// Works from the present point until it needs sums or has ended.
fn work(lane: u32, rounding: f32, kept: bool) -> u32 {
    let room = !may_lack_room();
    var is_start = newton.stage == STAGE_START && newton.warm;
    loop {
        let takes_ray = is_given_ray;
        is_given_ray = false;
        if !takes_ray {
            let next = step_from(lane, rounding, kept, room, is_start);
            is_start = false;
            if next == STIFFER {
                continue;
            }
            if next != ASK {
                return next;
            }
        }
        let ray = is_ray(lane, takes_ray);
        if ray != ASK || takes_ray {
            return select(ray, BEGIN_AT_ZERO, ray == ASK);
        }
        if begin_search(lane, test.residual) {
            newton.stage = STAGE_SEARCH;
            return ASK;
        }
        if !bears_no_descent() {
            return GIVE_UP;
        }
    }
    return ASK;
}

/// Judges the present point, and if it is not the end, fills the active set's step from there. `STIFFER` if that needs
/// another try.
fn step_from(lane: u32, rounding: f32, kept: bool, room: bool, is_start: bool) -> u32 {
    let verdict = judge(lane, rounding, kept, room, is_start);
    if verdict == SOLVED {
        // Solved without a margin where there is room for one: another attempt may find it.
        let needless = !test.tightened && room && newton.excess.x > 0.0 && newton.attempt + 1u < ATTEMPTS;
        newton.status = select(STATUS_SOLVED, STATUS_RELAXED, is_relaxed);
        return select(END, GIVE_UP, needless);
    }
    if verdict == OPEN && !room && lacks_room() {
        drop_margin();
        return BEGIN_AT_ZERO;
    }
    let steps = newton.steps - newton.spent_steps;
    let out_of_passes = newton.passes - newton.spent_passes >= ATTEMPT_PASSES;
    if verdict == STUCK || steps >= ATTEMPT_STEPS || out_of_steps() || out_of_passes {
        return GIVE_UP;
    }
    newton.steps += 1u;
    prepare_curvature(lane, test.residual, floor_factor(newton.attempt), newton.attempt > 0u);
    if minimise(lane, 1e-3 * test.tolerance) {
        return ASK;
    }
    // Rounding left it no numbers.
    return select(GIVE_UP, STIFFER, stiffen());
}

/// Whether the step, or where it leads to, is a ray that proves of a component that there is no answer. Then the problem
/// ends with it, or the component's rows are relaxed by what it shows to be needed at the least, to begin anew.
fn is_ray(lane: u32, is_given: bool) -> u32 {
    // It does not pay to ask of a problem that is on its way to an answer.
    let last = newton.last_residual;
    newton.last_residual = test.residual;
    if !is_given && (newton.steps <= 1u || test.residual < 0.25 * last) {
        return ASK;
    }
    var lack = vec2<f32>();
    var in_part = false;
    for (var ray = 0u; ray < 2u && lack.x == 0.0; ray += 1u) {
        for (var parts = live_parts; parts != 0u && lack.x == 0.0; parts &= parts - 1u) {
            let of_nu = f32(ray);
            if lane < row_count {
                in_part = row_part[lane] == firstTrailingBit(parts);
                let whole = tf_add(row[STEP][lane], of_nu * row[NU][lane]);
                row[X][lane] = select(vec2<f32>(), whole, in_part);
            }
            workgroupBarrier();
            lack = lack_of_room(lane);
            workgroupBarrier();
        }
    }
    if lack.x == 0.0 {
        return ASK;
    }
    let needed = least_relaxation(lack);
    if may_relax() && needed.x > 0.0 {
        relax_some(lane, in_part, tf_add(needed, tf(1e-9 * needed.x + newton.room)), 2.0);
        return BEGIN_ANEW;
    }
    if lane < row_count {
        row[NU][lane] = row[X][lane];
    }
    newton.status = STATUS_INFEASIBLE;
    return END;
}

fn may_relax() -> bool {
    return relax_infeasible() && newton.relaxations < MOST_RELAXATIONS;
}

/// Relaxes the lane's own row, if it is one of those, by so much more; there will be more room the next time.
fn relax_some(lane: u32, is_one: bool, by: vec2<f32>, growth: f32) {
    if is_one && lane < row_count {
        relax_row(lane, by);
    }
    is_relaxed = true;
    newton.room = min(growth * newton.room, MOST_ROOM);
    newton.relaxations += 1u;
    newton.steps_before = newton.steps;
    workgroupBarrier();
}

fn out_of_steps() -> bool {
    return newton.steps - newton.steps_before >= max_iterations();
}

/// Begins at zero multipliers.
fn begin_at_zero(lane: u32) {
    if lane < row_count {
        row[TRIAL][lane] = vec2<f32>();
        row[STEP][lane] = vec2<f32>();
        row[NU][lane] = vec2<f32>();
    }
    workgroupBarrier();
    newton.warm = true;
    newton.stage = STAGE_START;
}

/// Does what comes after the work at a point, and says what is wanted and where: in a search at its next step. When it has
/// ended, the shifts are those of the last pass, which are the answer's.
fn conclude(lane: u32, next: u32) {
    var after = next;
    if after == GIVE_UP {
        // Ends without an answer, unless another attempt is left.
        let is_last = newton.attempt + 1u >= ATTEMPTS || out_of_steps();
        newton.status = STATUS_ITERATION_LIMIT;
        newton.attempt += 1u;
        after = BEGIN_ANEW;
        if is_last && is_relaxed && may_relax() && newton.room < MOST_ROOM {
            // Rows that are relaxed by no more than the least leave little room to find an answer in.
            relax_some(lane, row_relaxed[lane & 31u].x > 0.0, tf(newton.room), 10.0);
            newton.attempt = 0u;
        } else if is_last {
            newton.attempt -= 1u;
            after = END;
        }
    } else if after == BEGIN_ANEW {
        newton.attempt = 0u;
    }
    if after == BEGIN_ANEW {
        newton.spent_steps = newton.steps;
        newton.spent_passes = newton.passes;
        newton.last_residual = BIG;
        reset_test();
        prox = PROX;
    }
    if after >= BEGIN_AT_ZERO {
        begin_at_zero(lane);
    } else if after == ASK {
        place_trial(lane);
    }
    if after != END {
        set_shift(lane);
    }
    if lane == 0u {
        machine_stage = u32(after == END);
        machine_status = newton.status;
        machine_steps = newton.steps;
        machine_residual = test.residual;
        machine_excess = newton.excess;
    }
    workgroupBarrier();
}

/// The multiplier of a row of the set, over weights that sum to 1; of an infeasible problem the ray.
fn machine_multiplier(source: u32) -> vec2<f32> {
    return of_source(source, NU);
}

/// By how much the rows are exceeded at the sums of the last pass.
fn machine_excess_here(lane: u32) -> vec2<f32> {
    return excess(take_means(lane)).reported;
}
