//! Proximal Newton on the dual of one component: steps from the active set, a line search by slopes, and the stop test
//! that proves the answer.
//!
//! The method sees the data only as per-cell sums at the multipliers it asks for, so it is written as a machine that
//! asks, is told, and asks again: the components of a problem run side by side and share every pass over the data.

use super::active_set::ActiveSet;
use super::basis::Basis;
use super::cells_prepare::CellTotals;
use super::certificate::proves_infeasible;
use super::components::Component;
use super::line_search::{Sample, root_between, support_slope};
use super::rows::{Block, Rows};
use super::two_floats::two_sum;
use crate::batch::RealSlice;
use crate::solution::{Outcome, Status};

/// Per-cell sums of one pass, over weights that sum to 1.
#[derive(Clone, Debug)]
pub(crate) struct CellSums {
    /// Sum of w y, y as it would be stored.
    pub(crate) y: Vec<f64>,
    /// Sum of w |y|.
    pub(crate) size: Vec<f64>,
    /// Sum of w over free elements, `lo <= t <= hi`: the curvature.
    pub(crate) free: Vec<f64>,
    /// Sum of w |t - y|: how far the elements lie beyond their bounds.
    pub(crate) beyond: Vec<f64>,
}

impl CellSums {
    pub(crate) fn new(cells: usize) -> Self {
        Self { y: vec![0.0; cells], size: vec![0.0; cells], free: vec![0.0; cells], beyond: vec![0.0; cells] }
    }

    pub(crate) fn arrays(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.y, &mut self.size, &mut self.free, &mut self.beyond]
    }

    fn gather(&mut self, component: &Component, all: &Self) {
        component.gather(&all.y, &mut self.y);
        component.gather(&all.size, &mut self.size);
        component.gather(&all.free, &mut self.free);
        component.gather(&all.beyond, &mut self.beyond);
    }
}

/// What a problem is solved to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewtonTask {
    /// The largest allowed residual, before rounding raises it.
    pub(crate) tolerance: f64,
    pub(crate) max_iterations: u32,
    /// Of the storage type of y.
    pub(crate) unit_roundoff: f64,
}

impl NewtonTask {
    /// The smallest tolerance that can be asked for where rounding the stored values may cost a quarter of `rounding`.
    pub(crate) fn needed(&self, rounding: f64) -> f64 {
        let part = if self.unit_roundoff > COARSE { 0.25 } else { 1.0 };
        self.tolerance.max(part * rounding)
    }
}

/// Factors of the curvature floor, one an attempt. A problem that one does not solve (hostile data: all scores far beyond
/// their bounds) is begun anew with the next; no problem is known that none solves but for rounding.
const FLOORS: [f64; 5] = [1.0, 1.0, 10.0, 0.01, 100.0];
/// Limits of one attempt that no user needs to set.
const ATTEMPT_STEPS: u32 = 150;
const ATTEMPT_PASSES: u32 = 600;
const LINE_TRIALS: u32 = 8;
/// A cell with this part of its weight free needs no floor.
const PLENTY: f64 = 0.25;
const PROX: f64 = 1e-9;
/// The margin is doubled up to this factor.
const MAX_GROWTH: f64 = 8.0;
/// Storage types coarser than this get no more than the margin that rounding needs at the worst: theirs is not small
/// beside the values.
const COARSE: f64 = 1e-6;
/// Steps in a row that do not halve the residual before a point counts as stuck.
const MOST_STALLS: u32 = 16;
/// A point that is stuck farther from its answer than this is on its way, not without room.
const STALLED_RESIDUAL: f64 = 1e-3;

/// A point of the dual: multipliers, the rows' means there, and the sums that gave them.
#[derive(Clone, Debug)]
struct Point {
    nu: Vec<f64>,
    /// What `nu` lacks of the multipliers: where they are large and cancel, `nu` alone does not say where the elements are.
    rest: Vec<f64>,
    means: Vec<f64>,
    sums: CellSums,
}

impl Point {
    fn shifts(&self, rows: &Rows, shift: &mut [f64]) {
        rows.exact_shifts(&self.nu, &self.rest, shift);
    }

    fn balance(&mut self, rows: &Rows) {
        rows.balance(&mut self.nu, &mut self.rest);
    }

    fn new(m: usize, cells: usize) -> Self {
        Self { nu: vec![0.0; m], rest: vec![0.0; m], means: vec![0.0; m], sums: CellSums::new(cells) }
    }
}

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The sums at the start.
    Start,
    /// The sums at a point to go on from.
    Anew,
    /// The sums at a trial step.
    Search,
    /// Nothing: it has ended.
    Done,
}

/// What the stop test finds.
enum Test {
    /// The point is the answer.
    Solved,
    /// Rounding, or the rows, allow no better point.
    Stuck,
    /// Neither.
    Open,
}

/// The bracket of a line search.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    step: f64,
    max_step: f64,
    start_slope: f64,
    lo: Sample,
    hi: Option<Sample>,
    kept: bool,
    trials: u32,
}

/// The method for one component, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Newton {
    stage: Stage,
    outcome: Outcome,
    at: Point,
    trial: Point,
    kept: Point,
    active_set: ActiveSet,
    basis: Basis,
    /// Whether the multipliers were moved onto independent rows in this attempt.
    reduced: bool,
    bracket: Bracket,
    /// Whether the start is other than the first look at zero multipliers: the caller's, or a new beginning.
    warm: bool,
    /// Index into `FLOORS`.
    attempt: usize,
    /// Steps and passes before this attempt.
    spent: (u32, u32),
    // The state of the stop test.
    tolerance: f64,
    growth: f64,
    tightened: bool,
    /// Whether the margin was tried once more after a solution without it.
    repaired: bool,
    best: f64,
    stall: u32,
    prox: f64,
    h: Vec<f64>,
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// `[m]`: what is taken out of the means before they meet a direction.
    centre: Vec<f64>,
    /// `[cells]`: the free weights, floored.
    curvature: Vec<f64>,
    /// `[cells]`: the shifts of the point asked for, or of a direction.
    shift: Vec<f64>,
    direction_shift: Vec<f64>,
    kinks: Vec<f64>,
    moved: Vec<f64>,
}

impl Newton {
    pub(crate) fn new(component: &Component) -> Self {
        let (m, cells) = (component.rows, component.cells.len());
        let (rows, of_cells) = (|| vec![0.0; m], || vec![0.0; cells]);
        let nowhere = Sample { step: 0.0, slope: 0.0 };
        Self {
            stage: Stage::Done,
            outcome: Outcome::default(),
            at: Point::new(m, cells),
            trial: Point::new(m, cells),
            kept: Point::new(m, cells),
            active_set: ActiveSet::with_capacity(m, component.spreads.len()),
            basis: Basis::with_capacity(m, cells, component.spreads.len()),
            reduced: false,
            bracket: Bracket {
                step: 0.0,
                max_step: 1.0,
                start_slope: 0.0,
                lo: nowhere,
                hi: None,
                kept: false,
                trials: 0,
            },
            warm: false,
            attempt: 0,
            spent: (0, 0),
            tolerance: 0.0,
            growth: 1.0,
            tightened: true,
            repaired: false,
            best: f64::INFINITY,
            stall: 0,
            prox: PROX,
            h: vec![0.0; m * m],
            lower: rows(),
            upper: rows(),
            centre: rows(),
            curvature: of_cells(),
            shift: of_cells(),
            direction_shift: of_cells(),
            kinks: Vec::with_capacity(m + 2),
            moved: rows(),
        }
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
        self.begin_attempt(0);
        self.warm = warm.is_some();
        for (nu, &source) in self.trial.nu.iter_mut().zip(&rows.source) {
            // What cannot be used as a start is not used.
            *nu = warm.map(|warm| warm.at(source) / totals.total).filter(|nu| nu.is_finite()).unwrap_or(0.0);
        }
        self.trial.rest.fill(0.0);
        if self.warm {
            self.trial.balance(rows);
        }
        self.trial.shifts(rows, &mut self.shift);
        if rows.m == 0 {
            self.stage = Stage::Done;
        }
    }

    /// Whether it waits for sums.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stage != Stage::Done
    }

    /// The shifts of the point that it asks for; when it has ended, of the answer. `[cells]`
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
        self.trial.sums.gather(component, sums);
        rows.means(&self.trial.sums.y, &mut self.trial.means);
        let m = rows.m;
        match self.stage {
            Stage::Done => return,
            Stage::Start => {
                std::mem::swap(&mut self.at, &mut self.trial);
                if !self.warm && rows.excess(&self.at.means[..m]) <= 0.0 {
                    // Fair already: the true bounds are kept, with no margin asked for.
                    return self.end(rows, Status::Solved);
                }
                if self.warm && self.start_is_the_answer(task, rows) {
                    return self.end(rows, Status::Solved);
                }
            }
            Stage::Anew => std::mem::swap(&mut self.at, &mut self.trial),
            Stage::Search => {
                if !self.trial_ends_search(rows) {
                    return self.ask_trial(rows);
                }
                std::mem::swap(&mut self.at, &mut self.trial);
            }
        }
        loop {
            match self.stop_test(task, rows) {
                Test::Solved if self.multipliers_are_lost(rows, totals) && self.reduce_multipliers(rows) => return,
                // Independent contrasts of the user's own, or a margin that another attempt may find to be needless.
                Test::Solved if self.multipliers_are_lost(rows, totals) && !rows.contrasts().is_empty() => {
                    return self.give_up(task, rows);
                }
                // Solved without a margin where there is room for one: another attempt may find it.
                Test::Solved if self.exceeds_needlessly(rows) && self.attempt + 1 < FLOORS.len() => {
                    return self.give_up(task, rows);
                }
                Test::Solved => return self.end(rows, Status::Solved),
                Test::Stuck => return self.give_up(task, rows),
                Test::Open => {}
            }
            let stuck = self.stall >= MOST_STALLS && self.outcome.residual <= STALLED_RESIDUAL;
            if self.tightened && stuck && rows.may_lack_room() {
                return self.restart_untightened();
            }
            let steps = self.outcome.iterations - self.spent.0;
            if steps >= ATTEMPT_STEPS || self.outcome.iterations >= task.max_iterations || self.out_of_passes() {
                return self.give_up(task, rows);
            }
            self.outcome.iterations += 1;
            let error = self.outcome.residual;
            self.fill_curvature(rows, totals, error);
            let (bounds, accuracy) = ((&self.lower[..], &self.upper[..]), 1e-3 * self.tolerance);
            self.active_set.minimise(rows, bounds, &self.h, &self.at.means, (&self.at.nu, &self.at.rest), accuracy);
            if !self.active_set.v[..m].iter().all(|v| v.is_finite()) {
                self.prox *= 100.0;
                if self.prox > 1.0 {
                    return self.give_up(task, rows);
                }
                continue;
            }
            let rays = [&self.active_set.d[..m], &self.active_set.v[..m]];
            let scratch = &mut self.direction_shift;
            // An ordinary problem is solved before it pays to ask whether it can be.
            let ask = self.outcome.iterations > 1;
            let proof = rays.into_iter().find(|ray| ask && proves_infeasible(rows, &totals.bounds, ray, scratch));
            let infeasible = proof.map(|ray| self.at.nu[..m].copy_from_slice(ray)).is_some();
            if infeasible {
                self.at.rest.fill(0.0);
                return self.end(rows, Status::Infeasible);
            }
            if self.begin_search(rows, totals, error) {
                return self.ask_trial(rows);
            }
            // No descent: the rounding floor, or the end.
            if error > 100.0 * self.tolerance || self.stall >= MOST_STALLS {
                return self.give_up(task, rows);
            }
            (self.best, self.stall) = (0.0, self.stall.max(10));
        }
    }

    /// Whether the multipliers are so large that, as single numbers, they no longer say where the elements of a cell are.
    fn multipliers_are_lost(&self, rows: &Rows, totals: &CellTotals) -> bool {
        let allowed = 100.0 * self.tolerance / self.growth;
        let lost = |c: usize| {
            let size: f64 = (0..rows.m).map(|r| (rows.row(r)[c] * self.at.nu[r]).abs()).sum();
            let beyond = if self.at.sums.free[c] > 0.0 { 0.0 } else { self.at.sums.beyond[c] };
            let distance = beyond / totals.weight[c].max(1e-300);
            2.0 * f64::EPSILON * size > allowed.max(0.25 * distance)
        };
        (0..rows.cells).filter(|&c| totals.weight[c] > 0.0).any(lost)
    }

    /// Goes on from smaller multipliers with the same shifts. False if there are none.
    fn reduce_multipliers(&mut self, rows: &Rows) -> bool {
        let nu = &mut self.trial.nu;
        nu.copy_from_slice(&self.at.nu);
        if self.reduced || !self.basis.reduce(rows, &mut nu[..rows.m]) {
            return false;
        }
        self.reduced = true;
        self.trial.rest.fill(0.0);
        self.trial.balance(rows);
        self.trial.shifts(rows, &mut self.shift);
        (self.best, self.stall) = (f64::INFINITY, 0);
        self.stage = Stage::Anew;
        true
    }

    /// Whether a true bound is exceeded though the rows leave room on their inner side.
    fn exceeds_needlessly(&self, rows: &Rows) -> bool {
        !self.tightened && !rows.may_lack_room() && rows.measured_excess(&self.at.means[..rows.m]) > 0.0
    }

    /// Whether a warm start needs no step: the true bounds are kept, as near to the multipliers' sides as a solution with
    /// the largest margin is.
    fn start_is_the_answer(&mut self, task: &NewtonTask, rows: &Rows) -> bool {
        let at = &self.at;
        let tolerance = 2.0 * MAX_GROWTH * self.needed(task, rows);
        self.outcome.residual = rows.residual(&rows.lower, &rows.upper, &at.means, &at.nu, tolerance);
        self.outcome.residual <= tolerance && rows.excess(&at.means[..rows.m]) <= 0.0
    }

    /// The smallest tolerance that the present point can be asked for.
    fn needed(&self, task: &NewtonTask, rows: &Rows) -> f64 {
        task.needed(rows.rounding(task.unit_roundoff, &self.at.sums.size))
    }

    /// By how much the rows are exceeded at these sums; the method's own point is left alone.
    pub(crate) fn excess_of(&mut self, component: &Component, rows: &Rows, sums: &CellSums) -> f64 {
        self.trial.sums.gather(component, sums);
        rows.means(&self.trial.sums.y, &mut self.trial.means);
        rows.measured_excess(&self.trial.means[..rows.m])
    }

    /// Begins at zero, with the margin.
    fn begin_attempt(&mut self, attempt: usize) {
        self.attempt = attempt;
        self.spent = (self.outcome.iterations, self.outcome.passes);
        (self.growth, self.tightened, self.repaired, self.prox) = (1.0, true, false, PROX);
        self.reduced = false;
        self.begin_at_zero();
    }

    fn begin_at_zero(&mut self) {
        (self.best, self.stall) = (f64::INFINITY, 0);
        self.trial.nu.fill(0.0);
        self.trial.rest.fill(0.0);
        self.shift.fill(0.0);
        self.warm = true;
        self.stage = Stage::Start;
    }

    /// Ends without an answer, unless another attempt is left.
    fn give_up(&mut self, task: &NewtonTask, rows: &Rows) {
        if self.attempt + 1 < FLOORS.len() && self.outcome.iterations < task.max_iterations {
            self.begin_attempt(self.attempt + 1);
        } else {
            self.end(rows, Status::IterationLimit);
        }
    }

    /// Begins anew with the true bounds: rows that allow a single value between them have no room for the margin, and
    /// the multipliers of the tightened ones run away.
    fn restart_untightened(&mut self) {
        self.tightened = false;
        self.begin_at_zero();
    }

    fn out_of_passes(&self) -> bool {
        self.outcome.passes - self.spent.1 >= ATTEMPT_PASSES
    }

    fn end(&mut self, rows: &Rows, status: Status) {
        self.stage = Stage::Done;
        self.outcome.status = status;
        self.outcome.excess = rows.measured_excess(&self.at.means[..rows.m]);
        self.at.shifts(rows, &mut self.shift);
    }

    /// Whether the present point is the answer, or no better one can be reached. The rows' bounds are tightened by the
    /// tolerance, so that a residual within it proves that the true bounds are kept.
    fn stop_test(&mut self, task: &NewtonTask, rows: &Rows) -> Test {
        let needed = self.needed(task, rows);
        let coarse = task.unit_roundoff > COARSE;
        let (max_growth, accepted) = if coarse { (1.0, 2.0) } else { (MAX_GROWTH, 8.0) };
        loop {
            self.tolerance = needed * self.growth;
            let m = rows.m;
            if self.tightened {
                rows.tighten(self.tolerance, &mut self.lower, &mut self.upper);
            } else {
                self.lower[..m].copy_from_slice(&rows.lower);
                self.upper[..m].copy_from_slice(&rows.upper);
            }
            let (tolerance, at) = (self.tolerance, &self.at);
            let error = rows.residual(&self.lower, &self.upper, &at.means, &at.nu, tolerance);
            self.outcome.residual = error;
            let kept = rows.excess(&at.means[..m]) <= 0.0;
            if error <= tolerance && !kept && !self.tightened && !self.repaired {
                // Solved without a margin, and a true bound is exceeded by rounding: from here the margin may do.
                (self.tightened, self.repaired, self.growth) = (true, true, 2.0);
                (self.best, self.stall) = (f64::INFINITY, 0);
                continue;
            }
            if error <= tolerance {
                return Test::Solved;
            }
            (self.best, self.stall) = if error < 0.5 * self.best { (error, 0) } else { (self.best, self.stall + 1) };
            let patience = if rows.may_lack_room() { 4 } else { 10 };
            if self.stall < patience || error > 100.0 * tolerance {
                return Test::Open;
            }
            // The rounding floor: what is left is accepted if it keeps the true bounds, else the margin grows, and is
            // given up where the rows have no room for one.
            if error <= accepted * tolerance && (!self.tightened || kept) {
                return Test::Solved;
            }
            if self.tightened && self.growth < max_growth {
                self.growth *= 2.0;
                self.stall = patience / 2;
            } else if self.tightened {
                self.tightened = false;
                (self.best, self.stall) = (f64::INFINITY, 0);
            } else {
                return if self.stall >= MOST_STALLS { Test::Stuck } else { Test::Open };
            }
        }
    }

    /// Fills `h` with the rows' curvature. The free weight of a cell is floored while its elements lie beyond their
    /// bounds, so that a cell without a free element does not look flat.
    fn fill_curvature(&mut self, rows: &Rows, totals: &CellTotals, error: f64) {
        let m = rows.m;
        let sums = &self.at.sums;
        for (c, curvature) in self.curvature.iter_mut().enumerate() {
            let weight = totals.weight[c];
            let distance = sums.beyond[c] / weight.max(1e-300);
            let floor = FLOORS[self.attempt] * weight * error / (error + distance);
            *curvature = if self.attempt == 0 && sums.free[c] >= PLENTY * weight {
                sums.free[c]
            } else {
                sums.free[c].max(floor)
            };
        }
        for r in 0..m {
            for q in 0..=r {
                let product = rows.row(r).iter().zip(rows.row(q)).zip(&self.curvature);
                let value: f64 = product.map(|((a, b), c)| a * b * c).sum();
                self.h[r * m + q] = value;
                self.h[q * m + r] = value;
            }
            self.h[r * m + r] += self.prox * rows.scale[r];
        }
    }

    /// The slope of the smooth part of phi along `d`. d is balanced, so that a spread's centre drops out of `d . means`;
    /// taking it out of the means first keeps the difference from rounding.
    fn smooth_slope(&self, means: &[f64], m: usize) -> f64 {
        -(0..m).map(|r| self.active_set.d[r] * (means[r] - self.centre[r])).sum::<f64>()
    }

    /// Sets up the line search from `at` along `d`. False if phi does not fall.
    fn begin_search(&mut self, rows: &Rows, totals: &CellTotals, error: f64) -> bool {
        let m = rows.m;
        let v = &self.active_set.v;
        for block in &rows.blocks {
            // The balance of a ratio depends on the signs: where one changes along d, the centre stays in.
            let stays = block.is_ratio() && block.rows().any(|r| self.at.nu[r] * v[r] < 0.0);
            for r in block.rows() {
                let side = if self.at.nu[r] != 0.0 { self.at.nu[r] } else { v[r] };
                let centre = self.active_set.centre[rows.block_of[r]] * block.centre_coefficient(side);
                self.centre[r] = if stays { 0.0 } else { centre };
            }
        }
        rows.contrasts().for_each(|r| self.centre[r] = 0.0);
        let d = &self.active_set.d[..m];
        let smooth = self.smooth_slope(&self.at.means, m);
        let start_slope = support_slope(&self.lower, &self.upper, &self.at.nu, d, false) + smooth;
        if start_slope >= 0.0 || start_slope.is_nan() {
            return false;
        }
        rows.shifts(d, &mut self.direction_shift);
        let longest = self.direction_shift.iter().fold(0.0_f64, |most, shift| most.max(shift.abs()));
        let sums = &self.at.sums;
        // Where nothing lies beyond the bounds the floor is the free weight but for rounding.
        let floored =
            (0..rows.cells).any(|c| self.curvature[c] > 1.000_001 * sums.free[c] && self.direction_shift[c] != 0.0);
        let mut max_step: f64 = if floored { 1e9 } else { 1.0 };
        for block in rows.blocks.iter().filter(|block| block.is_ratio()) {
            max_step = max_step.min(self.longest_ratio_step(block));
        }
        let distances = sums.beyond.iter().zip(&totals.weight).map(|(beyond, weight)| beyond / weight.max(1e-300));
        let farthest = distances.fold(0.0, f64::max);
        let step = if longest > 0.0 { ((2.0 * error + 4.0 * farthest) / longest).min(1.0) } else { 1.0 };
        let lo = Sample { step: 0.0, slope: smooth };
        self.bracket = Bracket { step, max_step, start_slope, lo, hi: None, kept: false, trials: 0 };
        true
    }

    /// How far d may be followed without leaving a ratio's cone of balanced multipliers. The cone is convex and v lies on
    /// its boundary: beyond 1 it can be followed only along the boundary, up to the first change of sign.
    fn longest_ratio_step(&self, block: &Block) -> f64 {
        let (balance, size) = block.balance(&self.at.nu);
        if balance.abs() > 1e-9 * size {
            return 1.0;
        }
        let step_to_zero = |r: usize| match (self.at.nu[r], self.active_set.d[r], self.active_set.v[r]) {
            (nu, d, _) if nu * d >= 0.0 => f64::INFINITY,
            (nu, _, v) if nu * v <= 0.0 => 1.0,
            (nu, d, _) => -nu / d,
        };
        block.rows().map(step_to_zero).fold(f64::INFINITY, f64::min)
    }

    /// Asks for the sums at the bracket's step.
    fn ask_trial(&mut self, rows: &Rows) {
        let step = self.bracket.step;
        for r in 0..rows.m {
            let moved = step * self.active_set.d[r];
            let (value, rest) = two_sum(self.at.nu[r], moved);
            let (value, rest) = two_sum(value, rest + self.at.rest[r]);
            // A step onto a kink of sigma lands on it exactly.
            let kink = value.abs() <= 1e-13 * moved.abs();
            (self.trial.nu[r], self.trial.rest[r]) = if kink { (0.0, 0.0) } else { (value, rest) };
        }
        if step > 1.0 {
            // A long step magnifies what rounding left of the balance.
            self.trial.balance(rows);
        }
        self.trial.shifts(rows, &mut self.shift);
        self.stage = Stage::Search;
    }

    /// Judges the trial by its slope. True if the search ends with it; else the bracket holds the next step.
    fn trial_ends_search(&mut self, rows: &Rows) -> bool {
        let m = rows.m;
        let (d, bounds) = (&self.active_set.d[..m], (&self.lower[..], &self.upper[..]));
        let slope_from = |left: bool| support_slope(bounds.0, bounds.1, &self.trial.nu, d, left);
        let smooth = self.smooth_slope(&self.trial.means, m);
        let slope = slope_from(true) + smooth;
        if self.out_of_passes() {
            return true;
        }
        let mut b = self.bracket;
        b.trials += 1;
        let here = Sample { step: b.step, slope: smooth };
        let too_far = slope > -0.5 * b.start_slope;
        if too_far {
            b.hi = Some(here);
        } else if b.step < b.max_step && slope < 0.5 * b.start_slope && slope_from(false) + smooth < 0.0 {
            b.lo = here;
            b.kept = true;
            std::mem::swap(&mut self.trial, &mut self.kept);
        } else {
            return true;
        }
        match b.hi {
            Some(_) if b.kept && b.trials >= LINE_TRIALS => {
                // Enough: phi falls all the way to the step kept.
                std::mem::swap(&mut self.trial, &mut self.kept);
                return true;
            }
            Some(hi) if hi.step - b.lo.step <= 1e-14 * hi.step => {
                if !too_far {
                    std::mem::swap(&mut self.trial, &mut self.kept);
                }
                return true;
            }
            Some(hi) => {
                let (nu, bisect) = (&self.at.nu[..m], b.trials.is_multiple_of(3));
                b.step = root_between(bounds, nu, d, (b.lo, hi), bisect, &mut self.kinks, &mut self.moved);
            }
            None => b.step = (4.0 * b.step).min(b.max_step),
        }
        self.bracket = b;
        false
    }
}
