//! The CPU device: the reference kernels over all cores, with nothing allocated after planning. Problems of the common
//! form take the vector passes of `lanes` instead of the plain ones; the method is the same.

mod lanes;

use std::sync::{Mutex, PoisonError};

use self::lanes::forward::LanePass;
use self::lanes::sort::Sorted;
use self::lanes::{LaneProblem, backward, forward, pair};
use crate::batch::{Batch, Capacities, CellSource, Problem};
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::reference::cells_newton::{self, CellPass, Given, Part, PlainPass};
use crate::reference::cells_prepare::{self, CellTotals};
use crate::reference::cells_vjp::{self, CellTerms, ElementGradients, RowGradients, VjpPart, VjpSums};
use crate::reference::components::{Component, components};
use crate::reference::dense_newton::Dense;
use crate::reference::dense_vjp::{Answer, DenseVjp};
use crate::reference::disjoint::is_disjoint;
use crate::reference::newton::{CellSums, NewtonTask};
use crate::settings::{Infeasible, Method, Settings};
use crate::solution::{HostAnswers, HostSlopes, Outcome, Status, clamp_start, inactive_words};
use crate::storage::Storage;

/// What one worker needs to solve one problem after another.
#[derive(Debug)]
struct Worker<T: Storage> {
    cells: Vec<u8>,
    totals: CellTotals,
    parts: Vec<Part>,
    shift: Vec<f64>,
    sums: CellSums,
    chunk: CellSums,
    sorted: Sorted<T::Arithmetic>,
    vjp_sums: VjpSums,
    vjp_parts: Vec<VjpPart>,
    terms: CellTerms,
    /// Where every sample has coefficients of its own: all that problems need instead.
    dense: Option<(Dense<T>, DenseVjp)>,
}

impl<T: Storage> Worker<T> {
    fn new(set: &ConstraintSet, components: &[Component], capacities: Capacities, is_dense: bool) -> Self {
        let cells = set.layout().cells();
        Self {
            cells: vec![0; capacities.largest],
            totals: CellTotals::new(cells),
            parts: components.iter().map(|component| Part::new(set, component)).collect(),
            shift: vec![0.0; cells],
            sums: CellSums::new(cells),
            chunk: CellSums::new(cells),
            sorted: Sorted::new(capacities.largest, cells),
            vjp_sums: VjpSums::new(cells),
            vjp_parts: components.iter().map(VjpPart::new).collect(),
            terms: CellTerms::new(cells),
            dense: is_dense.then(|| {
                let dense = Dense::new(set, capacities.largest);
                let vjp = DenseVjp::new(set, &dense, capacities.largest);
                (dense, vjp)
            }),
        }
    }
}

/// A plan for the CPU: one worker's memory for each thread.
#[derive(Debug)]
pub(crate) struct CpuPlan<T: Storage> {
    arch: pulp::Arch,
    settings: Settings,
    components: Vec<Component>,
    /// Whether every component is one spread of two unions of a cell each, and whether there is only one.
    are_pairs: bool,
    is_pair: bool,
    workers: Vec<Mutex<Worker<T>>>,
    /// Where rows are over cells: memory to hand one problem at a time to ADMM with its rows expanded, if they are few enough.
    fallback: Option<Mutex<Dense<T>>>,
}

/// A CPU plan behind a pointer.
pub trait CpuProjector<T: Storage>: std::fmt::Debug + Send + Sync {
    /// Projects every problem of a batch that was checked.
    fn project(&mut self, set: &ConstraintSet, batch: &Batch<'_, T>, answers: &mut HostAnswers<T>);

    /// Writes all gradients of a batch that was checked.
    fn vjp(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &HostAnswers<T>,
        g: &[T],
        slopes: &mut HostSlopes<T>,
    );
}

/// The number types that there are plans for. Through this they are compiled once, in this crate, and not again in every
/// crate that projects; and no other crate can add a type. They are plain bits, so that GPUs can be sent them.
pub trait CpuStorage: bytemuck::Pod {
    /// A new plan.
    fn plan(set: &ConstraintSet, capacities: Capacities, settings: Settings) -> Box<dyn CpuProjector<Self>>;
}

macro_rules! cpu_storage {
    ($($type:ty),*) => {$(
        impl CpuStorage for $type {
            fn plan(set: &ConstraintSet, capacities: Capacities, settings: Settings) -> Box<dyn CpuProjector<Self>> {
                Box::new(CpuPlan::new(set, capacities, settings))
            }
        }
    )*};
}

cpu_storage!(half::f16, half::bf16, f32, f64);

/// The output parts of a run of problems.
trait Split: Sized + Send {
    /// The parts of the first `problems` problems, and of the rest. `elements` counts the elements of the first.
    fn split(self, problems: usize, elements: usize, clamp_words: usize) -> (Self, Self);
}

struct Forward<'a, T> {
    y: &'a mut [T],
    clamp: &'a mut [u32],
    multipliers: &'a mut [f64],
    inactive: &'a mut [u32],
    outcome: &'a mut [Outcome],
    rows: usize,
}

impl<T: Storage> Split for Forward<'_, T> {
    fn split(self, problems: usize, elements: usize, clamp_words: usize) -> (Self, Self) {
        let rows = self.rows;
        let y = self.y.split_at_mut(elements);
        let clamp = self.clamp.split_at_mut(clamp_words);
        let multipliers = self.multipliers.split_at_mut(problems * rows);
        let inactive = self.inactive.split_at_mut(problems * inactive_words(rows));
        let outcome = self.outcome.split_at_mut(problems);
        (
            Self { y: y.0, clamp: clamp.0, multipliers: multipliers.0, inactive: inactive.0, outcome: outcome.0, rows },
            Self { y: y.1, clamp: clamp.1, multipliers: multipliers.1, inactive: inactive.1, outcome: outcome.1, rows },
        )
    }
}

struct Backward<'a, T> {
    elements: ElementGradients<'a, T>,
    rows: RowGradients<'a>,
    coefficients: &'a mut [T],
    /// How many spreads, bounded rows and dense rows a problem has.
    counts: (usize, usize, usize),
}

impl<T: Storage> Split for Backward<'_, T> {
    fn split(self, problems: usize, elements: usize, _: usize) -> (Self, Self) {
        fn halves<T>(array: &mut [T], at: usize) -> (&mut [T], &mut [T]) {
            let at = at.min(array.len());
            array.split_at_mut(at)
        }
        let Self { elements: e, rows: r, coefficients, counts } = self;
        let predictions = halves(e.predictions, elements);
        let (lo, hi) = (halves(e.lo, elements), halves(e.hi, elements));
        let (weights, labels) = (halves(e.weights, elements), halves(e.labels, elements));
        let levels = halves(r.levels, problems * counts.0);
        let (lower, upper) = (halves(r.lower, problems * counts.1), halves(r.upper, problems * counts.1));
        let coefficients = halves(coefficients, elements * counts.2);
        let first = Self {
            elements: ElementGradients {
                predictions: predictions.0,
                lo: lo.0,
                hi: hi.0,
                weights: weights.0,
                labels: labels.0,
            },
            rows: RowGradients { levels: levels.0, lower: lower.0, upper: upper.0 },
            coefficients: coefficients.0,
            counts,
        };
        let rest = Self {
            elements: ElementGradients {
                predictions: predictions.1,
                lo: lo.1,
                hi: hi.1,
                weights: weights.1,
                labels: labels.1,
            },
            rows: RowGradients { levels: levels.1, lower: lower.1, upper: upper.1 },
            coefficients: coefficients.1,
            counts,
        };
        (first, rest)
    }
}

/// The most coefficients that are set aside to expand the rows over cells of a problem that Newton does not solve.
const MOST_EXPANDED: usize = 1 << 23;

/// Whether memory is set aside to expand the rows over cells of one problem at a time, for ADMM: the coefficients, and some
/// fifty numbers for every sample. (The system gives memory when it is first touched, which is seldom.)
pub(crate) fn expands(set: &ConstraintSet, largest: usize) -> bool {
    set.rows().max(1).saturating_mul(largest) <= MOST_EXPANDED
}

/// Other threads are woken if they would take more elements than this of a batch.
const WORTH_WAKING: usize = 2048;
/// The same where cells are compared in pairs, and no element has weights or bounds of its own.
const WORTH_WAKING_FOR_PAIRS: usize = 4 * WORTH_WAKING;
/// What a thread takes of a larger one at a time: little enough that one that wakes late has less left to do.
const GRAIN: usize = 1024;

/// What is left to other threads if all take the same.
fn others_take(elements: usize, threads: usize) -> usize {
    elements - elements.div_ceil(threads)
}

impl<T: Storage> CpuProjector<T> for CpuPlan<T> {
    fn project(&mut self, set: &ConstraintSet, batch: &Batch<'_, T>, answers: &mut HostAnswers<T>) {
        let HostAnswers { y, clamp, multipliers, inactive, outcome } = answers;
        let (problems, rows) = (batch.offsets().problems(), set.rows());
        // What a problem does not write is zero.
        multipliers[..problems * rows].fill(0.0);
        inactive[..problems * inactive_words(rows)].fill(0);
        let out = Forward { y, clamp, multipliers, inactive, outcome, rows };
        let plan = &*self;
        self.each(batch, 0..problems, out, &|worker, index, out| {
            plan.project_one(set, &batch.problem(index, set), worker, out);
        });
    }

    fn vjp(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &HostAnswers<T>,
        g: &[T],
        slopes: &mut HostSlopes<T>,
    ) {
        let HostSlopes { predictions, lo, hi, weights, labels, coefficients, levels, lower, upper } = slopes;
        let (problems, spreads, bounded) = (batch.offsets().problems(), set.spreads().len(), set.bounded_rows());
        levels[..problems * spreads].fill(0.0);
        lower[..problems * bounded].fill(0.0);
        upper[..problems * bounded].fill(0.0);
        let out = Backward {
            elements: ElementGradients { predictions, lo, hi, weights, labels },
            rows: RowGradients { levels, lower, upper },
            coefficients,
            counts: (spreads, bounded, set.dense().len()),
        };
        let plan = &*self;
        self.each(batch, 0..problems, out, &|worker, index, out| {
            let range = batch.offsets().range(index);
            let clamp = &answers.clamp[clamp_start(index, range.start)..];
            let nu = &answers.multipliers[index * set.rows()..(index + 1) * set.rows()];
            let forward = (&answers.y[range.clone()], clamp, nu, answers.outcome[index].status);
            plan.vjp_one(set, &batch.problem(index, set), forward, &g[range], worker, out);
        });
    }
}

impl<T: Storage> CpuPlan<T> {
    pub(crate) fn new(set: &ConstraintSet, capacities: Capacities, settings: Settings) -> Self {
        let threads = rayon::current_num_threads().max(1);
        let threads = if others_take(capacities.total, threads) > WORTH_WAKING { threads } else { 1 };
        // ADMM has no form over cells: their rows are expanded for it.
        let is_dense = !set.dense().is_empty() || settings.method == Method::Admm;
        let components = if is_dense { Vec::new() } else { components(set) };
        let workers = (0..threads).map(|_| Mutex::new(Worker::new(set, &components, capacities, is_dense))).collect();
        let is_pair = |component: &Component| component.cells.len() == 2 && is_disjoint(set, component);
        let are_pairs = !is_dense && components.iter().all(is_pair);
        let is_pair = are_pairs && components.len() == 1 && set.layout().cells() == 2;
        let has_fallback = !is_dense && expands(set, capacities.largest);
        let fallback = has_fallback.then(|| Mutex::new(Dense::new(set, capacities.largest)));
        Self { arch: pulp::Arch::new(), settings, components, are_pairs, is_pair, workers, fallback }
    }

    /// Whether a batch is worth waking other threads for.
    fn shares(&self, batch: &Batch<'_, T>) -> bool {
        let least = match self.are_pairs && batch.is_uniform() {
            true => WORTH_WAKING_FOR_PAIRS,
            false => WORTH_WAKING,
        };
        others_take(batch.total(), self.workers.len()) > least
    }

    /// Runs `solve` on every problem of the range with its outputs, over all threads if there is enough to do.
    fn each<O: Split>(
        &self,
        batch: &Batch<'_, T>,
        range: std::ops::Range<usize>,
        out: O,
        solve: &(impl Fn(&mut Worker<T>, usize, O) + Sync),
    ) {
        let offsets = batch.offsets();
        let elements = |range: &std::ops::Range<usize>| match range.is_empty() {
            true => 0,
            false => offsets.start(range.end) - offsets.start(range.start),
        };
        let cut = |at: usize, out: O| {
            let (first, middle) = (offsets.start(range.start), offsets.start(at));
            out.split(at - range.start, middle - first, clamp_start(at, middle) - clamp_start(range.start, first))
        };
        if range.len() > 1 && elements(&range) > GRAIN && self.shares(batch) {
            let middle = range.start + range.len() / 2;
            let (left, right) = cut(middle, out);
            rayon::join(
                || self.each(batch, range.start..middle, left, solve),
                || self.each(batch, middle..range.end, right, solve),
            );
            return;
        }
        let slot = rayon::current_thread_index().unwrap_or(0) % self.workers.len();
        let mut worker = self.workers[slot].lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = out;
        for index in range {
            let (first, middle) = (offsets.start(index), offsets.start(index + 1));
            let words = clamp_start(index + 1, middle) - clamp_start(index, first);
            let (one, others) = rest.split(1, middle - first, words);
            rest = others;
            solve(&mut worker, index, one);
        }
    }
}

/// The cells of a problem: as given, or computed into the scratch. `None` if one is out of range.
fn cells_of<'a, T: Storage>(set: &ConstraintSet, problem: &Problem<'a, T>, scratch: &'a mut [u8]) -> Option<&'a [u8]> {
    match problem.cells {
        CellSource::None => {
            let cells = &mut scratch[..problem.z.len()];
            cells.fill(0);
            Some(cells)
        }
        CellSource::Ids(ids) => Some(ids),
        CellSource::Groups { .. } => {
            let cells = &mut scratch[..problem.z.len()];
            cells_prepare::compute_cells(set.layout(), problem, cells).then_some(cells)
        }
    }
}

/// A problem in the form that its passes take.
#[derive(Clone, Copy)]
enum Form<'a, T> {
    Lanes(LaneProblem<'a, T>),
    Plain(&'a [u8]),
}

impl<'a, T: Storage> Form<'a, T> {
    fn cells(&self) -> &'a [u8] {
        match self {
            Self::Lanes(problem) => problem.cells(),
            Self::Plain(cells) => cells,
        }
    }
}

enum Pass<'a, T: Storage> {
    Lanes(LanePass<'a, T>),
    Plain(PlainPass<'a, T>),
}

impl<T: Storage> CellPass for Pass<'_, T> {
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums) {
        match self {
            Self::Lanes(pass) => pass.evaluate(shift, sums),
            Self::Plain(pass) => pass.evaluate(shift, sums),
        }
    }
}

/// Finds the problem's cells and their totals. In vector form, `count` counts the samples of each cell, and does what
/// else the way needs to begin with. `None` if a number cannot be used. (That predictions are finite need not be asked
/// again of a problem that was solved.)
fn prepare<'a, T: Storage>(
    (arch, set): (pulp::Arch, &ConstraintSet),
    problem: &Problem<'a, T>,
    scratch: &'a mut [u8],
    count: impl FnOnce(&LaneProblem<'a, T>, &mut Sorted<T::Arithmetic>) -> bool,
    sorted: &mut Sorted<T::Arithmetic>,
    totals: &mut CellTotals,
) -> Option<Form<'a, T>> {
    let cells = cells_of(set, problem, scratch)?;
    let Some(lanes) = LaneProblem::of(arch, problem, cells, set.layout().cells()) else {
        return cells_prepare::cell_totals(set, problem, cells, totals).then_some(Form::Plain(cells));
    };
    let mut usable = count(&lanes, sorted);
    if set.needs_label_means() {
        usable &= cells_prepare::cell_totals(set, problem, cells, totals);
    } else {
        sorted.totals(&lanes, totals);
    }
    usable.then_some(Form::Lanes(lanes))
}

impl<T: Storage> CpuPlan<T> {
    fn project_one(&self, set: &ConstraintSet, problem: &Problem<'_, T>, worker: &mut Worker<T>, out: Forward<'_, T>) {
        let Worker { cells: scratch, totals, parts, shift, sums, chunk, sorted, dense, .. } = worker;
        if problem.z.is_empty() {
            out.outcome[0] = Outcome::default();
            (0..set.rows()).for_each(|row| out.inactive[row / 32] |= 1 << (row % 32));
            return;
        }
        if let Some((dense, _)) = dense {
            return self.project_dense(set, problem, scratch, dense, (self.settings.method, Outcome::default()), out);
        }
        let short_cut = problem.warm_start.is_none();
        let is_pair = self.is_pair && short_cut;
        let begin = |lanes: &LaneProblem<'_, T>, sorted: &mut Sorted<T::Arithmetic>| match is_pair {
            true => sorted.look_at_pair(lanes),
            false => sorted.sort(lanes),
        };
        let form = prepare((self.arch, set), problem, scratch, begin, sorted, totals);
        let given = Given { set, problem, totals };
        let take_up = |(part, component): (&mut Part, &Component)| part.take_up(&given, component, short_cut);
        let usable = form.filter(|_| parts.iter_mut().zip(&self.components).all(take_up));
        let Some(form) = usable else {
            cells_newton::write_unsolved(problem, out.y, out.clamp);
            out.outcome[0] = Outcome { status: Status::BadNumber, excess: f64::INFINITY, ..Outcome::default() };
            return;
        };
        let task = self.task();
        for (part, component) in parts.iter().zip(&self.components) {
            part.mark_inactive(component, out.inactive);
        }
        let mut spent = 0;
        if let (Form::Lanes(lanes), [part], [component], true) = (form, &mut parts[..], &self.components[..], is_pair) {
            let answer = (&mut *out.y, &mut *out.clamp, &mut out.outcome[0]);
            match part
                .short_cut()
                .map_or(Err(0), |disjoint| pair::solve(&lanes, &task, (disjoint, totals), sorted, answer))
            {
                Ok(()) => return part.write_multipliers(component, totals.total, out.multipliers),
                Err(passes) => spent = passes,
            }
            sorted.sort(&lanes);
        }
        let mut pass = match form {
            Form::Lanes(problem) => Pass::Lanes(LanePass::new(problem, &totals.weight, sorted)),
            Form::Plain(cells) => Pass::Plain(PlainPass { problem, cells, total: totals.total, chunk }),
        };
        let mut outcome = cells_newton::solve(&task, &given, &self.components, parts, &mut pass, shift, sums);
        outcome.passes += spent;
        if let (Status::IterationLimit, Some(fallback)) = (outcome.status, &self.fallback) {
            let mut dense = fallback.lock().unwrap_or_else(PoisonError::into_inner);
            return self.project_dense(set, problem, scratch, &mut dense, (Method::Admm, outcome), out);
        }
        if outcome.status.has_answer() {
            match form {
                Form::Lanes(problem) => forward::write(&problem, shift, out.y, out.clamp),
                Form::Plain(cells) => cells_newton::write(problem, cells, shift, out.y, out.clamp),
            }
        } else {
            cells_newton::write_unsolved(problem, out.y, out.clamp);
            outcome.excess = cells_newton::unsolved_excess(&given, &self.components, parts, &mut pass, shift, sums);
        }
        out.outcome[0] = outcome;
        if outcome.status == Status::IterationLimit {
            return;
        }
        for (part, component) in parts.iter().zip(&self.components) {
            let of_part = part.outcome().status;
            if of_part == outcome.status || outcome.status.has_answer() {
                part.write_multipliers(component, totals.total, out.multipliers);
            }
        }
    }

    fn task(&self) -> NewtonTask {
        NewtonTask {
            tolerance: self.settings.tolerance,
            max_iterations: self.settings.max_iterations,
            relax: self.settings.infeasible == Infeasible::NearestFeasible,
            unit_roundoff: T::UNIT_ROUNDOFF,
        }
    }

    fn project_dense(
        &self,
        set: &ConstraintSet,
        problem: &Problem<'_, T>,
        scratch: &mut [u8],
        dense: &mut Dense<T>,
        (method, spent): (Method, Outcome),
        out: Forward<'_, T>,
    ) {
        out.inactive.fill(0);
        if !take_up_dense(set, problem, scratch, dense, true) {
            cells_newton::write_unsolved(problem, out.y, out.clamp);
            out.outcome[0] = Outcome { status: Status::BadNumber, excess: f64::INFINITY, ..Outcome::default() };
            return;
        }
        dense.rows.inactive.iter().for_each(|row| out.inactive[row / 32] |= 1 << (row % 32));
        let mut outcome = dense.solve(&self.task(), problem, (method, &self.settings.admm));
        (outcome.iterations, outcome.passes) = (outcome.iterations + spent.iterations, outcome.passes + spent.passes);
        if outcome.status.has_answer() {
            dense.write(out.y, out.clamp);
        } else {
            cells_newton::write_unsolved(problem, out.y, out.clamp);
        }
        if outcome.status != Status::IterationLimit {
            dense.write_multipliers(out.multipliers);
        }
        out.outcome[0] = outcome;
    }

    fn vjp_one(
        &self,
        set: &ConstraintSet,
        problem: &Problem<'_, T>,
        (y, clamp, nu, status): (&[T], &[u32], &[f64], Status),
        g: &[T],
        worker: &mut Worker<T>,
        mut out: Backward<'_, T>,
    ) {
        let Worker { cells: scratch, totals, parts, sorted, vjp_sums: sums, vjp_parts, terms, dense, .. } = worker;
        out.coefficients.fill(T::default());
        let solved = status.has_answer() && !problem.z.is_empty();
        // Rows that were relaxed are held where they have a multiplier, and nowhere else. (By how much is no matter here.)
        let relaxed = if status == Status::Relaxed { 1.0 } else { 0.0 };
        if let Some((dense, vjp)) = dense {
            if solved && take_up_dense(set, problem, scratch, dense, false) {
                dense.rows.relax(relaxed);
                let answer = Answer { y, clamp, nu };
                let Backward { elements, rows, coefficients, .. } = &mut out;
                vjp.solve(set, problem, dense, &answer, g, (rows, elements, coefficients));
            } else {
                out.elements.fill_zero();
            }
            return;
        }
        let sum = |lanes: &LaneProblem<'_, T>, sorted: &mut _| backward::sum(lanes, clamp, g, sorted, sums);
        let form = if solved { prepare((self.arch, set), problem, scratch, sum, sorted, totals) } else { None };
        let beyond_z = !out.elements.weights.is_empty() || !out.elements.labels.is_empty();
        let given = Given { set, problem, totals };
        let take_up = |(part, component): (&mut Part, &Component)| part.take_up(&given, component, !beyond_z);
        let usable = form.filter(|_| parts.iter_mut().zip(&self.components).all(take_up));
        let Some(form) = usable else {
            out.elements.fill_zero();
            return;
        };
        let cells = form.cells();
        if let Form::Plain(_) = form {
            cells_vjp::sum(problem, cells, clamp, g, totals.total, sums);
        }
        if beyond_z || set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_))) {
            cells_vjp::sum_values(problem, cells, y, totals.total, sums);
        }
        terms.clear(beyond_z);
        for ((part, component), vjp) in parts.iter_mut().zip(&self.components).zip(vjp_parts) {
            if let Some(disjoint) = part.short_cut() {
                let (spread, first) = component.spreads[0];
                out.rows.levels[spread] = disjoint.pull_back(component, &nu[first..], sums, &mut terms.pull);
                continue;
            }
            part.rows.relax(relaxed);
            cells_vjp::solve(component, &part.rows, (nu, totals.total), sums, vjp, &mut out.rows, terms);
            if beyond_z {
                for &cell in &component.cells {
                    terms.add_moved(cell, sums.gradient[cell] - sums.free[cell] * terms.pull[cell]);
                }
                let lambda = |source: usize| {
                    let row = part.rows.source.iter().position(|row| *row == source);
                    row.map(|row| vjp.lambda()[row])
                };
                cells_vjp::add_weight_and_label_terms(set, component, totals, &sums.value, (nu, &lambda), terms);
            }
        }
        match form {
            Form::Lanes(problem) if out.elements.lo.is_empty() => {
                backward::write(&problem, clamp, g, &terms.pull, out.elements.predictions);
            }
            _ => cells_vjp::write(problem, cells, clamp, g, (totals.total, &terms.pull), &mut out.elements),
        }
        if beyond_z {
            cells_vjp::write_weights_and_labels(problem, (cells, y, totals.total), terms, &mut out.elements);
        }
    }
}

/// Loads a problem with dense rows, if it is to be `solved` with its predictions and bounds. False if a number of it cannot
/// be used.
fn take_up_dense<T: Storage>(
    set: &ConstraintSet,
    problem: &Problem<'_, T>,
    scratch: &mut [u8],
    dense: &mut Dense<T>,
    solved: bool,
) -> bool {
    let Some(cells) = cells_of(set, problem, scratch) else { return false };
    cells_prepare::cell_totals(set, problem, cells, &mut dense.of_cells) && dense.take_up(set, problem, cells, solved)
}

/// What `fairlayer devices` says of the CPU.
pub(crate) fn describe() -> String {
    format!("{} threads; f16, bf16, f32, f64", rayon::current_num_threads())
}
