// `dense_admm`: OSQP's operator splitting for rows with a coefficient for every sample, and for spreads and contrasts beside
// them or alone, a workgroup a problem. Twin of src/reference/dense_admm.rs, where the method and its letters are explained.
// What it ends with, multipliers or a ray, is what the Newton machine starts from, which has the last word.
//
// Everything is in two-floats: a penalty times what single precision leaves of a sample would be far more than a residual.
// `b` and `q` of a sample are kept as one number, `b + q / rho`, which `b` is the nearest within the bounds of.

/// Iterations between two looks at the residuals, and between two looks at the penalty, at first.
const CHECK_INTERVAL: u32 = 5u;
const ADAPT_INTERVAL: u32 = 10u;
/// The penalty is changed where it is off by this factor.
const ADAPT_FACTOR: f32 = 2.0;

/// What comes next for a problem: that sum over the samples of the first kinds, or iterations.
const FIRST_ITERATION: u32 = 2u;
const LATER_ITERATION: u32 = 3u;

struct Admm {
    iterations: u32,
    /// The iteration from which on the penalty may change, and that from which on a ray is mended.
    next_adapt: u32,
    next_mend: u32,
    /// The rounds of a lane's loops in this dispatch, about.
    rounds: u32,
    /// Whether the system is not that of the present rho, or not there.
    is_stale: bool,
}

var<private> admm: Admm;
var<private> rho: f32;
/// The bits of the residuals, primal and dual, and of the largest of what each is the difference of.
var<workgroup> residuals: array<atomic<u32>, 4>;

fn setting(index: u32) -> f32 {
    return bitcast<f32>(tables[params.admm_at + index]);
}

fn most_iterations() -> u32 {
    return tables[params.admm_at];
}

fn eps_abs() -> f32 {
    return setting(1u);
}

fn eps_rel() -> f32 {
    return setting(2u);
}

fn relaxation() -> f32 {
    return setting(3u);
}

fn sigma() -> f32 {
    return setting(4u);
}

fn first_rho() -> f32 {
    return setting(5u);
}

/// The rounds of loops that a dispatch may have.
fn most_rounds() -> u32 {
    return tables[params.admm_at + 6u];
}

/// Begins at nu = 0, where `q = z - clip(z)` leaves no dual residual.
fn admm_start(lane: u32) {
    rho = first_rho();
    stiffen_samples();
    if lane < row_count {
        row[NU][lane] = vec2<f32>();
        row[CHANGE][lane] = vec2<f32>();
    }
    let inverse_rho = tf_div(tf(1.0), tf(rho));
    for (var i = lane; i < n; i += LANES) {
        let x = within_bounds(i, z_number(i));
        store_x(i, x);
        store_pushed(i, tf_add(x, tf_mul(tf_sub(z_number(i), x), inverse_rho)));
    }
}

/// Sums the rows' products over the samples of a kind.
fn sum_products(lane: u32, kind: u32) {
    pairs_of = kind;
    sum_pairs(lane, row_count);
    storageBarrier();
    workgroupBarrier();
}

/// One iteration; the first takes the rows' means of x to their set.
fn iterate(lane: u32, is_first: bool) {
    for (var i = lane; i < n; i += LANES) {
        var value = x_of(i);
        if !is_first {
            value = pulled(i, kind_of(i));
        }
        store_moment(i, tf_mul(value, sample_weight(i)));
    }
    sum_moments(lane);
    if is_first {
        if lane < row_count {
            row[AX][lane] = row[V][lane];
        }
    } else {
        advance(lane);
    }
    project_rows(lane);
    if lane < row_count && !is_first {
        let nu = tf_scale(tf_sub(row[V][lane], row[S][lane]), penalty[lane]);
        row[CHANGE][lane] = tf_sub(nu, row[NU][lane]);
        row[NU][lane] = nu;
    }
    workgroupBarrier();
}

/// From the rows' sums of `D^-1 h`: solves the system, moves the samples, and puts the rows' v in `V`.
fn advance(lane: u32) {
    if lane < row_count {
        let kept = tf_sub(tf_mul(row[NU][lane], inverse_penalty), row[S][lane]);
        row[V][lane] = tf_add(row[V][lane], kept);
    }
    workgroupBarrier();
    solve_system(lane);
    let a = relaxation();
    for (var i = lane; i < n; i += LANES) {
        let kind = kind_of(i);
        if kind != FROZEN {
            let moved = tf_mul(shift_of_sample(SOLVED, i).xy, inverse_stiffness[kind]);
            let ahead = tf_sub(pulled(i, kind), moved);
            if kind == WITHIN_BOUNDS {
                let pushed = pushed_of(i);
                store_pushed(i, tf_add(pushed, tf_scale(tf_sub(ahead, within_bounds(i, pushed)), a)));
            }
            let x = x_of(i);
            store_x(i, tf_add(x, tf_scale(tf_sub(ahead, x), a)));
        }
    }
    if lane < row_count {
        let nu = row[NU][lane];
        let s = row[S][lane];
        let ahead = tf_add(s, tf_mul(tf_sub(row[SOLVED][lane], nu), inverse_penalty));
        row[AX][lane] = tf_add(row[AX][lane], tf_scale(tf_sub(ahead, row[AX][lane]), a));
        let between = tf_add(s, tf_scale(tf_sub(ahead, s), a));
        row[V][lane] = tf_add(between, tf_mul(nu, inverse_penalty));
    }
    workgroupBarrier();
}

/// A residual, and the largest of what it is the difference of, by their bits: a NaN is larger than all else.
fn measured(difference: vec2<f32>, a: vec2<f32>, b: vec2<f32>) -> vec2<u32> {
    let sizes = max(bitcast<u32>(a.x) & 0x7fffffffu, bitcast<u32>(b.x) & 0x7fffffffu);
    return vec2<u32>(bitcast<u32>(difference.x) & 0x7fffffffu, sizes);
}

/// The primal and the dual residual, each with its size.
fn measure(lane: u32) -> vec4<u32> {
    if lane < 4u {
        atomicStore(&residuals[lane], 0u);
    }
    workgroupBarrier();
    var primal = vec2<u32>();
    var dual = vec2<u32>();
    if lane < row_count {
        primal = measured(tf_sub(row[AX][lane], row[S][lane]), row[AX][lane], row[S][lane]);
    }
    for (var i = lane; i < n; i += LANES) {
        let kind = kind_of(i);
        let x = x_of(i);
        let z = z_number(i);
        var b = x;
        var pull = vec2<f32>();
        if kind == WITHIN_BOUNDS {
            b = within_bounds(i, pushed_of(i));
            pull = tf_scale(tf_sub(pushed_of(i), b), rho);
        }
        primal = max(primal, measured(tf_sub(x, b), x, b));
        if kind != FROZEN {
            pull = tf_add(pull, shift_of_sample(NU, i).xy);
            let left = measured(tf_add(tf_sub(x, z), pull), x, z);
            dual = max(dual, vec2<u32>(left.x, max(left.y, bitcast<u32>(pull.x) & 0x7fffffffu)));
        }
    }
    atomicMax(&residuals[0], primal.x);
    atomicMax(&residuals[1], primal.y);
    atomicMax(&residuals[2], dual.x);
    atomicMax(&residuals[3], dual.y);
    workgroupBarrier();
    let all = vec4<u32>(atomicLoad(&residuals[0]), atomicLoad(&residuals[1]), atomicLoad(&residuals[2]),
        atomicLoad(&residuals[3]));
    workgroupBarrier();
    return all;
}

fn is_within(residual: vec2<u32>) -> bool {
    return bitcast<f32>(residual.x) <= eps_abs() + eps_rel() * bitcast<f32>(residual.y);
}

/// OSQP's rule: the penalty that would make both residuals alike.
fn adapt(lane: u32, found: vec4<u32>) {
    let sizes = bitcast<vec4<f32>>(found);
    let ratio = (sizes.x / max(sizes.y, 1e-30)) / max(sizes.z / max(sizes.w, 1e-30), 1e-30);
    let next = clamp(rho * sqrt(ratio), RHO_RANGE.x, RHO_RANGE.y);
    if next > ADAPT_FACTOR * rho || next < rho / ADAPT_FACTOR {
        let change = tf_div(tf(rho), tf(next));
        for (var i = lane; i < n; i += LANES) {
            let pushed = pushed_of(i);
            let b = within_bounds(i, pushed);
            store_pushed(i, tf_add(b, tf_mul(tf_sub(pushed, b), change)));
        }
        rho = next;
        stiffen_samples();
        admm.is_stale = true;
    }
}

/// Rounds of a lane's loops: to load a problem, to sum all pairs of rows, and from one look at the residuals to the next.
fn rounds_of_load() -> u32 {
    let share = (n + LANES - 1u) / LANES;
    return share * (4u * params.dense + 4u) + n * params.dense / LANES + 12u * params.rows + row_count * row_count;
}

fn rounds_of_pairs() -> u32 {
    let pairs = row_count * (row_count + 1u) / 2u;
    return n * ((pairs + LANES - 1u) / LANES) / max(LANES / pairs, 1u) + 2u * LANES;
}

fn rounds_of_check() -> u32 {
    let share = (n + LANES - 1u) / LANES;
    let sums = (n + LANES / row_count - 1u) / (LANES / row_count) + LANES / row_count;
    let iteration = share * (row_count + 2u) + sums + 10u * row_count;
    return CHECK_INTERVAL * iteration + 2u * share * (row_count + 1u) + 2u * LANES + 8u * row_count;
}

/// Takes the problem as far as it comes in this dispatch. `STATUS_GOING_ON` if it needs more.
fn run(lane: u32) -> u32 {
    var stage = WITHIN_BOUNDS;
    if params.link == 0u {
        admm_start(lane);
    } else {
        stage = admm_restore(lane);
    }
    admm.rounds = rounds_of_load();
    var has_worked = false;
    loop {
        let is_sum = stage < FIRST_ITERATION;
        let cost = select(rounds_of_check(), rounds_of_pairs(), is_sum);
        if has_worked && admm.rounds + cost > most_rounds() {
            admm_save(lane, stage);
            return STATUS_GOING_ON;
        }
        has_worked = true;
        admm.rounds += cost;
        if is_sum {
            sum_products(lane, stage);
            stage += 1u;
            continue;
        }
        if admm.is_stale {
            factorise(lane);
            admm.is_stale = false;
        }
        let is_first = stage == FIRST_ITERATION;
        stage = LATER_ITERATION;
        let most = select(min(CHECK_INTERVAL, most_iterations() - admm.iterations), 1u, is_first);
        for (var step = 0u; step < most; step += 1u) {
            iterate(lane, is_first);
        }
        admm.iterations += select(most, 0u, is_first);
        let found = measure(lane);
        if is_within(found.xy) && is_within(found.zw) {
            return STATUS_SOLVED;
        }
        if admm.iterations >= most_iterations() || is_special(found.x) || is_special(found.z) {
            return STATUS_ITERATION_LIMIT;
        }
        if !is_first && finds_ray(lane) {
            return STATUS_INFEASIBLE;
        }
        if admm.iterations >= admm.next_adapt {
            adapt(lane, found);
            // Ever more seldom: with a penalty that keeps changing nothing need converge.
            admm.next_adapt = admm.iterations + admm.iterations / 10u + ADAPT_INTERVAL;
        }
    }
    return STATUS_ITERATION_LIMIT;
}

@compute @workgroup_size(LANES)
fn dense_admm(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if !take_left(group) {
        return;
    }
    begin_problem(lane);
    admm = Admm(0u, ADAPT_INTERVAL, FIRST_MEND, 0u, true);
    var status = STATUS_BAD_NUMBER;
    row_count = 0u;
    live_rows = 0u;
    if workgroupUniformLoad(&unusable[team]) == 0u && n > 0u && rows_build(lane) && row_count > 0u {
        status = run(lane);
    }
    if status == STATUS_GOING_ON && params.last_link == 0u {
        if lane == 0u {
            leave();
        }
        return;
    }
    let has_ray = status == STATUS_INFEASIBLE;
    if !has_ray && status != STATUS_BAD_NUMBER {
        balance_rows(lane, NU);
        settle_ratios(lane, NU, -1.0);
    }
    let record = problem * params.results_stride;
    for (var source = lane; source < params.rows; source += LANES) {
        var nu = vec2<f32>();
        if status != STATUS_BAD_NUMBER {
            nu = of_source(source, select(NU, X, has_ray));
        }
        results[record + RESULTS_HEAD + 2u * source] = bitcast<u32>(nu.x);
        results[record + RESULTS_HEAD + 2u * source + 1u] = bitcast<u32>(nu.y);
    }
    if lane == 0u {
        results[record] = select(STATUS_HANDED_OVER, STATUS_INFEASIBLE, has_ray);
        results[record + 1u] = admm.iterations;
    }
}
