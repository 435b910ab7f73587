//! Proximal Newton on the dual of one component.
//!
//! The method sees the data only as per-cell sums at the multipliers it asks for, so it is written as a machine that
//! asks, is told, and asks again: the components of a problem run side by side and share every pass over the data. A step
//! goes through its parts in this order: the stop test, the curvature, the active set, the line search.

use super::active_set::ActiveSet;
use super::basis::Basis;
use super::cells_prepare::CellTotals;
use super::certificate::{Within, least_relaxation, proves_infeasible};
use super::components::Component;
use super::curvature::{Curvature, Floor};
use super::line_search::LineSearch;
pub(crate) use super::point::CellSums;
use super::point::Point;
use super::relaxation::Relaxation;
use super::rows::Rows;
use super::stop_test::{StopTest, Verdict};
use crate::batch::RealSlice;
use crate::solution::{Outcome, Status};

/// What a problem is solved to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewtonTask {
    /// The largest allowed residual, before rounding raises it.
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: u32,
    /// Whether rows that nothing meets are relaxed until something does.
    pub(crate) relax: bool,
    /// Of the storage type of y.
    pub(crate) unit_roundoff: f64,
}

impl NewtonTask {
    /// Whether the storage type is so coarse that the margin that rounding needs at the worst is not small beside the
    /// values: it gets no more than that.
    pub(crate) fn is_coarse(&self) -> bool {
        self.unit_roundoff > 1e-6
    }

    /// The smallest tolerance that can be asked for where rounding the stored values may cost a quarter of `rounding`.
    pub(crate) fn needed(&self, rounding: f64) -> f64 {
        let part = if self.is_coarse() { 0.25 } else { 1.0 };
        self.tolerance.max(part * rounding)
    }
}

/// Factors of the curvature floor, one an attempt. A problem that one does not solve (hostile data: all scores far beyond
/// their bounds) is begun anew with the next; no problem is known that none solves but for rounding.
const FLOORS: [f64; 5] = [1.0, 1.0, 10.0, 0.01, 100.0];
/// Limits of one attempt that no user needs to set.
const ATTEMPT_STEPS: u32 = 150;
const ATTEMPT_PASSES: u32 = 1200;
/// Multipliers that, as single numbers, leave the shifts of samples to more than this are no conditioned rows' own.
const ENORMOUS: f64 = 1e-6;

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The sums at the start.
    Start,
    /// The sums at a point to go on from.
    Anew,
    /// The sums at a trial step.
    Search,
    /// The sums at the answer that was kept.
    Kept,
    /// The sums at what another method ended with.
    Last,
    /// Nothing: it has ended.
    Done,
}

/// The method for one component, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Newton {
    stage: Stage,
    outcome: Outcome,
    at: Point,
    trial: Point,
    /// `[cells]`: the shifts of the point asked for.
    shift: Vec<f64>,
    test: StopTest,
    curvature: Curvature,
    active_set: ActiveSet,
    line_search: LineSearch,
    basis: Basis,
    /// Whether the multipliers were moved onto independent rows in this attempt.
    reduced: bool,
    /// An answer that a later attempt was hoped to better: its multipliers as two numbers, and its residual.
    kept: [Vec<f64>; 2],
    kept_residual: Option<f64>,
    /// Whether the margin has driven the multipliers off: the attempts to come do without.
    marginless: bool,
    /// Whether the start is other than the first look at zero multipliers: the caller's, or a new beginning.
    warm: bool,
    /// The residual of the step before.
    last_residual: f64,
    relaxation: Relaxation,
    /// The steps before the rows were relaxed last.
    before: u32,
    /// Index into `FLOORS`.
    attempt: usize,
    /// Steps and passes before this attempt.
    spent: (u32, u32),
}

impl Newton {
    pub(crate) fn new(component: &Component) -> Self {
        let (m, cells, blocks) = (component.rows, component.cells.len(), component.spreads.len());
        Self {
            stage: Stage::Done,
            outcome: Outcome::default(),
            at: Point::new(m, cells),
            trial: Point::new(m, cells),
            shift: vec![0.0; cells],
            test: StopTest::new(m),
            curvature: Curvature::new(m, cells),
            active_set: ActiveSet::with_capacity(m, blocks),
            line_search: LineSearch::new(m, cells),
            basis: Basis::with_capacity(m, cells, blocks),
            reduced: false,
            kept: [vec![0.0; m], vec![0.0; m]],
            kept_residual: None,
            marginless: false,
            warm: false,
            last_residual: f64::INFINITY,
            relaxation: Relaxation::default(),
            before: 0,
            attempt: 0,
            spent: (0, 0),
        }
    }

    /// Changes the number of cells, within what there was room for.
    pub(crate) fn resize(&mut self, cells: usize) {
        self.at.sums.resize(cells);
        self.trial.sums.resize(cells);
        self.shift.resize(cells, 0.0);
        self.curvature.resize(cells);
        self.line_search.resize(cells);
    }

    /// Takes over a problem on which this much was spent.
    pub(crate) fn take_over(&mut self, rows: &Rows, totals: &CellTotals, spent: Outcome) {
        self.start(rows, totals, None);
        (self.outcome.iterations, self.outcome.passes) = (spent.iterations, spent.passes);
        self.spent = (spent.iterations, spent.passes);
    }

    /// Begins with a problem; `warm` are multipliers of all rows of the set to start from.
    pub(crate) fn start(&mut self, rows: &Rows, totals: &CellTotals, warm: Option<RealSlice<'_>>) {
        self.outcome = Outcome::default();
        (self.kept_residual, self.marginless) = (None, false);
        (self.relaxation, self.before) = (Relaxation::default(), 0);
        self.begin_attempt(0);
        self.warm = warm.is_some();
        for ((nu, &source), unit) in self.trial.nu.iter_mut().zip(&rows.source).zip(&rows.unit) {
            // What cannot be used as a start is not used.
            let start = warm.map(|warm| warm.at(source) / (totals.total * unit));
            *nu = start.filter(|nu| nu.is_finite()).unwrap_or(0.0);
        }
        self.begin_warm(rows);
    }

    /// Begins with a problem at multipliers of its live rows.
    pub(crate) fn start_at(&mut self, rows: &Rows, nu: &[f64]) {
        self.outcome = Outcome::default();
        self.before = 0;
        (self.kept_residual, self.marginless) = (None, false);
        self.begin_attempt(0);
        self.trial.nu[..rows.m].copy_from_slice(&nu[..rows.m]);
        self.begin_warm(rows);
    }

    /// Takes a point that another method ended with, of multipliers as two numbers: it is the answer, or what was before stays.
    pub(crate) fn end_at(&mut self, rows: &Rows, (nu, rest): (&[f64], &[f64])) {
        if self.outcome.status.has_answer() {
            self.keep();
        }
        self.trial.nu[..rows.m].copy_from_slice(nu);
        self.trial.rest[..rows.m].copy_from_slice(rest);
        self.trial.shifts(rows, &mut self.shift);
        self.stage = Stage::Last;
    }

    /// Whether it has ended with multipliers that leave the shifts of samples open.
    pub(crate) fn is_lost(&self, rows: &Rows) -> bool {
        self.outcome.status.has_answer() && self.are_enormous(rows)
    }

    fn are_enormous(&self, rows: &Rows) -> bool {
        f64::EPSILON * rows.largest_shift_size(&self.at.nu) > ENORMOUS
    }

    fn keep(&mut self) {
        self.kept[0].copy_from_slice(&self.at.nu);
        self.kept[1].copy_from_slice(&self.at.rest);
        self.kept_residual = Some(self.test.residual);
    }

    /// Whether a ray proves that a problem has no answer; it ends with it then.
    pub(crate) fn ends_at_proof(&mut self, rows: &Rows, totals: &CellTotals, ray: &[f64]) -> bool {
        let proved = proves_infeasible(rows, within(rows, totals, &self.at.sums), ray, &mut self.shift);
        if proved {
            self.end_at_ray(rows, ray);
        }
        proved
    }

    /// Ends with a ray that proves that a problem has no answer.
    pub(crate) fn end_at_ray(&mut self, rows: &Rows, ray: &[f64]) {
        self.outcome = Outcome::default();
        self.before = 0;
        self.at.nu[..rows.m].copy_from_slice(&ray[..rows.m]);
        self.at.rest.fill(0.0);
        self.end(rows, Status::Infeasible);
    }

    fn begin_warm(&mut self, rows: &Rows) {
        if self.warm {
            self.trial.balance(rows);
        }
        self.trial.shifts(rows, &mut self.shift);
        if rows.m == 0 {
            self.stage = Stage::Done;
        }
        if let Some((row, sign)) = rows.contradiction() {
            self.at.nu.fill(0.0);
            self.at.rest.fill(0.0);
            self.at.nu[row] = sign;
            self.end(rows, Status::Infeasible);
        }
    }

    /// Whether it waits for sums.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stage != Stage::Done
    }

    /// The multipliers of the point that it asks for, and what they lack; when it has ended, of the answer.
    pub(crate) fn asked(&self) -> (&[f64], &[f64]) {
        let point = if self.is_waiting() { &self.trial } else { &self.at };
        (&point.nu, &point.rest)
    }

    /// The shifts of that point, of rows over cells. `[cells]`
    pub(crate) fn shift(&self) -> &[f64] {
        &self.shift
    }

    /// The multipliers of the answer, over weights that sum to 1; of an infeasible problem the ray. `[m]`
    pub(crate) fn multipliers(&self) -> &[f64] {
        &self.at.nu
    }

    /// What became of the component.
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Takes the sums at the point asked for, over all cells, and works until it needs the next or has ended.
    pub(crate) fn receive(
        &mut self,
        task: &NewtonTask,
        component: &Component,
        rows: &Rows,
        totals: &CellTotals,
        sums: &CellSums,
    ) {
        self.outcome.passes += 1;
        self.trial.take(component, rows, sums);
        match self.stage {
            Stage::Done => return,
            Stage::Start => {
                std::mem::swap(&mut self.at, &mut self.trial);
                let rounding = rows.rounding(task.unit_roundoff, &self.at.sums);
                if !self.warm && rows.are_met(&self.at.means[..rows.m], rounding) {
                    // Fair already: the true bounds are kept, with no margin asked for.
                    return self.end(rows, Status::Solved);
                }
                if self.warm && self.test.accepts_start(task, rows, &self.at) {
                    return self.end(rows, Status::Solved);
                }
            }
            Stage::Anew => std::mem::swap(&mut self.at, &mut self.trial),
            Stage::Kept => {
                std::mem::swap(&mut self.at, &mut self.trial);
                return self.end(rows, Status::Solved);
            }
            Stage::Last => {
                std::mem::swap(&mut self.at, &mut self.trial);
                let solved = self.test.accepts_last(task, rows, &self.at);
                return if solved { self.end(rows, Status::Solved) } else { self.end_without(rows) };
            }
            Stage::Search => {
                let (bounds, model) = (self.test.bounds(), &self.active_set);
                if !self.out_of_passes() && !self.line_search.ends_at(rows, bounds, &self.at, model, &mut self.trial) {
                    return self.ask_trial(rows);
                }
                std::mem::swap(&mut self.at, &mut self.trial);
            }
        }
        self.step(task, rows, totals);
    }

    /// Works from the present point until it needs sums or has ended.
    fn step(&mut self, task: &NewtonTask, rows: &Rows, totals: &CellTotals) {
        loop {
            match self.test.judge(task, rows, &self.at) {
                Verdict::Solved => return self.accept(task, rows, totals),
                Verdict::Stuck => return self.give_up(task, rows),
                Verdict::Open if self.test.lacks_room(rows) => {
                    self.test.drop_margin();
                    return self.begin_at_zero();
                }
                Verdict::Open => {}
            }
            let steps = self.outcome.iterations - self.spent.0;
            if steps >= ATTEMPT_STEPS || self.out_of_steps(task) || self.out_of_passes() {
                return self.give_up(task, rows);
            }
            self.outcome.iterations += 1;
            let begun = self.outcome.iterations - self.spent.0 > 1;
            if rows.by_sample && begun && self.test.residual > 0.5 * self.last_residual {
                self.curvature.adapt(self.line_search.took_whole_step());
            }
            if !self.find_direction(rows, totals) {
                if !self.curvature.stiffen() {
                    return self.give_up(task, rows);
                }
                continue;
            }
            if self.is_infeasible(rows, totals) {
                return self.end(rows, Status::Infeasible);
            }
            let (bounds, model) = (self.test.bounds(), (&self.active_set, &self.curvature));
            if self.line_search.begin(rows, totals, bounds, &self.at, self.test.residual, model) {
                return self.ask_trial(rows);
            }
            if !self.test.bears_no_descent() {
                return self.give_up(task, rows);
            }
        }
    }

    /// Fills the active set's step from the present point. False if rounding left it no numbers.
    fn find_direction(&mut self, rows: &Rows, totals: &CellTotals) -> bool {
        let Point { nu, rest, means, sums } = &self.at;
        let floor = Floor { factor: FLOORS[self.attempt], everywhere: self.attempt > 0 };
        self.curvature.fill(rows, totals, sums, self.test.residual, floor);
        let (bounds, accuracy) = (self.test.bounds(), 1e-3 * self.test.tolerance);
        self.active_set.minimise(rows, bounds, &self.curvature.h, means, (nu, rest), accuracy);
        self.active_set.v[..rows.m].iter().all(|v| v.is_finite())
    }

    /// Whether the step, or where it leads to, is a ray that proves that there is no answer; it becomes the point then.
    fn is_infeasible(&mut self, rows: &Rows, totals: &CellTotals) -> bool {
        // It does not pay to ask of a problem that is on its way to an answer.
        let last = std::mem::replace(&mut self.last_residual, self.test.residual);
        if self.outcome.iterations <= 1 || self.test.residual < 0.25 * last {
            return false;
        }
        let rays = [&self.active_set.d[..rows.m], &self.active_set.v[..rows.m]];
        let (within, scratch) = (within(rows, totals, &self.at.sums), &mut self.shift);
        let Some(ray) = rays.into_iter().find(|ray| proves_infeasible(rows, within, ray, scratch)) else {
            return false;
        };
        self.at.nu[..rows.m].copy_from_slice(ray);
        self.at.rest.fill(0.0);
        true
    }

    /// Asks for the sums at the next step of the line search.
    fn ask_trial(&mut self, rows: &Rows) {
        self.line_search.place(rows, &self.at, &self.active_set, &mut self.trial);
        self.trial.shifts(rows, &mut self.shift);
        self.stage = Stage::Search;
    }

    /// Ends with the present point, unless a better one of the same quality can be hoped for.
    fn accept(&mut self, task: &NewtonTask, rows: &Rows, totals: &CellTotals) {
        let lost = self.multipliers_are_lost(rows, totals);
        if lost && self.reduce_multipliers(rows) {
            return;
        }
        // Contrasts may be independent only by rounding, and another attempt may find smaller multipliers. Those of dense rows
        // are as large as the rows make them, and y, which the test judged, does not depend on their last digits.
        let enormous = !rows.by_sample || self.are_enormous(rows);
        let hopeful = lost && enormous && !rows.contrasts().is_empty();
        // Solved without a margin where there is room for one: another attempt may find it.
        let needless = self.test.exceeds_needlessly(rows, &self.at);
        if (hopeful || needless) && self.attempt + 1 < FLOORS.len() {
            self.keep();
            self.marginless |= hopeful;
            self.give_up(task, rows);
        } else {
            self.end(rows, Status::Solved);
        }
    }

    /// Whether the multipliers are so large that, as single numbers, they no longer say where the elements of a cell are:
    /// free ones to the error allowed, clamped ones on which side.
    fn multipliers_are_lost(&self, rows: &Rows, totals: &CellTotals) -> bool {
        if 2.0 * f64::EPSILON * rows.largest_shift_size(&self.at.nu) <= self.test.shift_error() {
            return false;
        }
        let lost = |c: usize| {
            let size: f64 = (0..rows.m).map(|r| (rows.row(r)[c] * self.at.nu[r]).abs()).sum();
            let beyond = if self.at.sums.free[c] > 0.0 { 0.0 } else { self.at.sums.beyond[c] };
            let distance = beyond / totals.weight[c].max(1e-300);
            2.0 * f64::EPSILON * size > self.test.shift_error().max(0.25 * distance)
        };
        (0..rows.cells).filter(|&c| totals.weight[c] > 0.0).any(lost)
    }

    /// Goes on from smaller multipliers with the same shifts. False if there are none.
    fn reduce_multipliers(&mut self, rows: &Rows) -> bool {
        self.trial.nu.copy_from_slice(&self.at.nu);
        if self.reduced || !self.basis.reduce(rows, &mut self.trial.nu[..rows.m]) {
            return false;
        }
        self.reduced = true;
        self.trial.rest.fill(0.0);
        self.trial.balance(rows);
        self.trial.shifts(rows, &mut self.shift);
        self.test.forget();
        self.stage = Stage::Anew;
        true
    }

    /// Where the rows cannot be met and are to be relaxed: relaxes them, and begins anew.
    pub(crate) fn relax(&mut self, task: &NewtonTask, rows: &mut Rows, totals: &CellTotals) {
        loop {
            let needed = match self.outcome.status {
                Status::Infeasible if task.relax => {
                    let (within, ray) = (within(rows, totals, &self.at.sums), &self.at.nu[..rows.m]);
                    let needed = least_relaxation(rows, within, ray, &mut self.shift);
                    if needed.is_none() {
                        return;
                    }
                    needed
                }
                Status::IterationLimit if task.relax => None,
                _ => return,
            };
            if !self.relaxation.relax(rows, needed) {
                return;
            }
            let (spent, relaxation) = (self.outcome, self.relaxation);
            self.take_over(rows, totals, Outcome { status: Status::Solved, ..spent });
            (self.relaxation, self.before) = (relaxation, spent.iterations);
        }
    }

    /// By how much the rows are exceeded at these sums; the method's own point is left alone.
    pub(crate) fn excess_of(&mut self, component: &Component, rows: &Rows, sums: &CellSums) -> f64 {
        self.trial.take(component, rows, sums);
        rows.measured_excess(&self.trial.means[..rows.m])
    }

    /// Begins at zero, with the margin.
    fn begin_attempt(&mut self, attempt: usize) {
        self.attempt = attempt;
        self.spent = (self.outcome.iterations, self.outcome.passes);
        self.reduced = false;
        self.last_residual = f64::INFINITY;
        self.test.reset();
        if self.marginless {
            self.test.drop_margin();
        }
        self.curvature.reset();
        self.begin_at_zero();
    }

    fn begin_at_zero(&mut self) {
        self.trial.nu.fill(0.0);
        self.trial.rest.fill(0.0);
        self.shift.fill(0.0);
        self.warm = true;
        self.stage = Stage::Start;
    }

    /// Ends without an answer, unless another attempt is left.
    fn give_up(&mut self, task: &NewtonTask, rows: &Rows) {
        if self.attempt + 1 < FLOORS.len() && !self.out_of_steps(task) {
            self.begin_attempt(self.attempt + 1);
        } else {
            self.end_without(rows);
        }
    }

    /// Ends with the answer that was kept, or without one.
    fn end_without(&mut self, rows: &Rows) {
        if let Some(residual) = self.kept_residual.take() {
            self.trial.nu.copy_from_slice(&self.kept[0]);
            self.trial.rest.copy_from_slice(&self.kept[1]);
            self.trial.shifts(rows, &mut self.shift);
            self.test.residual = residual;
            self.stage = Stage::Kept;
        } else {
            self.end(rows, Status::IterationLimit);
        }
    }

    fn out_of_steps(&self, task: &NewtonTask) -> bool {
        self.outcome.iterations - self.before >= task.max_iterations
    }

    fn out_of_passes(&self) -> bool {
        self.outcome.passes - self.spent.1 >= ATTEMPT_PASSES
    }

    fn end(&mut self, rows: &Rows, status: Status) {
        self.stage = Stage::Done;
        let relaxed = status == Status::Solved && rows.relaxed > 0.0;
        self.outcome.status = if relaxed { Status::Relaxed } else { status };
        self.outcome.residual = self.test.residual;
        self.outcome.excess = rows.measured_excess(&self.at.means[..rows.m]);
        self.at.shifts(rows, &mut self.shift);
    }
}

/// What a ray is judged by; the values of these sums are as large as the rows see them.
fn within<'a>(rows: &Rows, totals: &'a CellTotals, sums: &CellSums) -> Within<'a> {
    Within { bounds: &totals.bounds, weight: &totals.weight, size: rows.rounding(1.0, sums) }
}
