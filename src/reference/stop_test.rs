//! The stop test: whether a point is the answer, proven by sums of the values as they would be stored.
//!
//! The rows' bounds are tightened by the tolerance, so that a residual within it proves that the true bounds are kept. At
//! the rounding floor the margin grows, and where the rows have no room for one it is given up.

use super::newton::NewtonTask;
use super::point::Point;
use super::rows::Rows;

/// The margin is doubled up to this factor.
const MAX_GROWTH: f64 = 8.0;
/// Steps in a row that do not halve the residual before a point counts as stuck.
const MOST_STALLS: u32 = 16;
/// A point that is stuck farther from its answer than this is on its way, not without room.
const STALLED_RESIDUAL: f64 = 1e-3;

/// What the test finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The point is the answer.
    Solved,
    /// Rounding, or the rows, allow no better point.
    Stuck,
    /// Neither.
    Open,
}

/// The test with its memory of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct StopTest {
    /// Of the last point.
    pub(crate) residual: f64,
    /// What the residual is asked to be within.
    pub(crate) tolerance: f64,
    /// Factor of the margin.
    growth: f64,
    tightened: bool,
    /// Whether the margin was tried once more after a solution without it.
    repaired: bool,
    best: f64,
    stall: u32,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl StopTest {
    /// For `m` rows.
    pub(crate) fn new(m: usize) -> Self {
        Self {
            residual: 0.0,
            tolerance: 0.0,
            growth: 1.0,
            tightened: true,
            repaired: false,
            best: f64::INFINITY,
            stall: 0,
            lower: vec![0.0; m],
            upper: vec![0.0; m],
        }
    }

    /// Begins an attempt: with the margin.
    pub(crate) fn reset(&mut self) {
        self.residual = 0.0;
        (self.growth, self.tightened, self.repaired) = (1.0, true, false);
        self.forget();
    }

    /// Goes on without the margin.
    pub(crate) fn drop_margin(&mut self) {
        self.tightened = false;
        self.forget();
    }

    /// Forgets how near the points before came.
    pub(crate) fn forget(&mut self) {
        (self.best, self.stall) = (f64::INFINITY, 0);
    }

    /// The rows' bounds as they are asked for. `[m]`
    pub(crate) fn bounds(&self) -> (&[f64], &[f64]) {
        (&self.lower, &self.upper)
    }

    /// By how much what the multipliers move an element may be off.
    pub(crate) fn shift_error(&self) -> f64 {
        100.0 * self.tolerance / self.growth
    }

    /// Whether a warm start needs no step: the true bounds are kept, as near to the multipliers' sides as a solution with
    /// the largest margin is.
    pub(crate) fn accepts_start(&mut self, task: &NewtonTask, rows: &Rows, at: &Point) -> bool {
        let tolerance = 2.0 * MAX_GROWTH * needed(task, rows, at);
        self.residual = rows.residual(&rows.lower, &rows.upper, &at.means, &at.nu, tolerance);
        self.residual <= tolerance && tolerance < f64::INFINITY && rows.excess(&at.means[..rows.m]) <= 0.0
    }

    /// Whether a point that leaves nothing to be bettered is the answer: at the true bounds, to what the rounding floor allows.
    pub(crate) fn accepts_last(&mut self, task: &NewtonTask, rows: &Rows, at: &Point) -> bool {
        let tolerance = needed(task, rows, at);
        self.residual = rows.residual(&rows.lower, &rows.upper, &at.means, &at.nu, tolerance);
        self.residual <= accepted(task) * tolerance && tolerance < f64::INFINITY
    }

    /// Judges a point.
    pub(crate) fn judge(&mut self, task: &NewtonTask, rows: &Rows, at: &Point) -> Verdict {
        let needed = needed(task, rows, at);
        let max_growth = if task.is_coarse() { 1.0 } else { MAX_GROWTH };
        loop {
            self.tolerance = needed * self.growth;
            let (m, tolerance) = (rows.m, self.tolerance);
            let margin = if self.tightened { tolerance } else { 0.0 };
            rows.tighten(margin, &mut self.lower[..m], &mut self.upper[..m]);
            let error = rows.residual(&self.lower, &self.upper, &at.means, &at.nu, tolerance);
            self.residual = error;
            // (What is too large for its type has an infinite rounding error, and is no solution.)
            let solved = error <= tolerance && error < f64::INFINITY;
            let kept = rows.excess(&at.means[..m]) <= 0.0;
            if solved && !kept && !self.tightened && !self.repaired {
                // Solved without a margin, and a true bound is exceeded by rounding: from here the margin may do.
                (self.tightened, self.repaired, self.growth) = (true, true, 2.0);
                self.forget();
                continue;
            }
            if solved {
                return Verdict::Solved;
            }
            (self.best, self.stall) = if error < 0.5 * self.best { (error, 0) } else { (self.best, self.stall + 1) };
            let patience = if rows.may_lack_room() { 4 } else { 10 };
            if self.stall < patience || error > 100.0 * tolerance {
                return Verdict::Open;
            }
            // The rounding floor: what is left is accepted if it keeps the true bounds, else the margin grows, and is
            // given up where the rows have no room for one.
            if error <= accepted(task) * tolerance && error < f64::INFINITY && (!self.tightened || kept) {
                return Verdict::Solved;
            }
            if self.tightened && self.growth < max_growth {
                self.growth *= 2.0;
                self.stall = patience / 2;
            } else if self.tightened {
                self.drop_margin();
            } else {
                return if self.stall >= MOST_STALLS { Verdict::Stuck } else { Verdict::Open };
            }
        }
    }

    /// Whether the point has no room for the margin: rows that allow a single value between them have none, and the
    /// multipliers of the tightened ones run away.
    pub(crate) fn lacks_room(&self, rows: &Rows) -> bool {
        self.tightened && self.stall >= MOST_STALLS && self.residual <= STALLED_RESIDUAL && rows.may_lack_room()
    }

    /// Takes note that no step leads down from the point: the rounding floor, or the end. False if it is the end.
    pub(crate) fn bears_no_descent(&mut self) -> bool {
        if self.residual > 100.0 * self.tolerance || self.stall >= MOST_STALLS {
            return false;
        }
        (self.best, self.stall) = (0.0, self.stall.max(10));
        true
    }

    /// Whether a true bound is exceeded by a solution without the margin though the rows leave room on their inner side.
    pub(crate) fn exceeds_needlessly(&self, rows: &Rows, at: &Point) -> bool {
        !self.tightened && !rows.may_lack_room() && rows.measured_excess(&at.means[..rows.m]) > 0.0
    }
}

/// How many times the tolerance is accepted at the rounding floor.
fn accepted(task: &NewtonTask) -> f64 {
    if task.is_coarse() { 2.0 } else { 8.0 }
}

/// The smallest tolerance that the point can be asked for.
fn needed(task: &NewtonTask, rows: &Rows, at: &Point) -> f64 {
    task.needed(rows.rounding(task.unit_roundoff, &at.sums))
}
