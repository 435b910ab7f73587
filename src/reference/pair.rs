//! The commonest component in closed form: one difference spread over two unions that share no cell.
//!
//! Its multipliers are (x, -x), and the gap of the two means falls as x rises, linearly between kinks: a root in one
//! number, by Newton steps inside a bracket. It asks and is told like [`Newton`](super::newton::Newton), and hands over
//! to it whatever is not solved in a few passes.

use super::cells_prepare::CellTotals;
use super::components::Component;
use super::newton::{CellSums, NewtonTask};
use super::rows::Rows;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::solution::{Outcome, Status};

/// Passes after which the general method takes over.
const MAX_PASSES: u32 = 24;

/// Whether a component has this form.
pub(crate) fn is_pair(set: &ConstraintSet, component: &Component) -> bool {
    match (&component.spreads[..], &component.contrasts[..]) {
        (&[(spread, _)], []) => match &set.spreads()[spread].unions[..] {
            [a, b] => a.cells.and(&b.cells).is_empty(),
            _ => false,
        },
        _ => false,
    }
}

/// What a pass leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The sums at the new shifts are needed.
    Ask,
    /// Solved.
    Solved,
    /// Too hard for this method.
    HandOver,
}

/// The method for one pair, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    epsilon: f64,
    x: f64,
    /// 1 if x must rise from zero, -1 if it must fall; 0 before the first sums.
    side: f64,
    /// Largest |x| known to be too small, smallest known to be too large, with the gap's distance from its target there.
    short: (f64, f64),
    far: Option<(f64, f64)>,
    multipliers: [f64; 2],
    outcome: Outcome,
    shift: Vec<f64>,
}

impl Pair {
    pub(crate) fn new(component: &Component) -> Self {
        Self {
            epsilon: 0.0,
            x: 0.0,
            side: 0.0,
            short: (0.0, 0.0),
            far: None,
            multipliers: [0.0; 2],
            outcome: Outcome::default(),
            shift: vec![0.0; component.cells.len()],
        }
    }

    /// Begins with a problem. False if its rows, as alive, have not this form.
    pub(crate) fn start(&mut self, rows: &Rows) -> bool {
        let SpreadLimit::Difference(epsilon) = (match &rows.blocks[..] {
            [block] if rows.m == 2 => block.limit,
            _ => return false,
        }) else {
            return false;
        };
        (self.epsilon, self.x, self.side) = (epsilon, 0.0, 0.0);
        (self.short, self.far) = ((0.0, 0.0), None);
        self.outcome = Outcome::default();
        self.move_to(rows, 0.0);
        true
    }

    pub(crate) fn shift(&self) -> &[f64] {
        &self.shift
    }

    pub(crate) fn multipliers(&self) -> &[f64] {
        &self.multipliers
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn move_to(&mut self, rows: &Rows, x: f64) {
        self.x = x;
        self.multipliers = [x, -x];
        for (shift, (a, b)) in self.shift.iter_mut().zip(rows.row(0).iter().zip(rows.row(1))) {
            *shift = (a - b) * x;
        }
    }

    /// Takes the sums at the point asked for, over all cells.
    pub(crate) fn receive(
        &mut self,
        task: &NewtonTask,
        component: &Component,
        rows: &Rows,
        totals: &CellTotals,
        sums: &CellSums,
    ) -> Step {
        self.outcome.passes += 1;
        let (mut means, mut sizes) = ([0.0; 2], [0.0; 2]);
        let (mut free, mut beyond) = (0.0, 0.0_f64);
        let mut floor = 0.0;
        for (local, &cell) in component.cells.iter().enumerate() {
            let (a, b) = (rows.row(0)[local], rows.row(1)[local]);
            means[0] += a * sums.y[cell];
            means[1] += b * sums.y[cell];
            sizes[0] += a * sums.size[cell];
            sizes[1] += b * sums.size[cell];
            // The unions share no cell, so one of a, b is zero.
            let square = (a + b) * (a + b);
            free += square * sums.free[cell];
            let weight = totals.weight[local];
            if weight > 0.0 {
                beyond = beyond.max(sums.beyond[cell] / weight);
            }
            floor += square * weight;
        }
        let gap = means[0] - means[1];
        if self.side == 0.0 {
            self.side = if gap < 0.0 { -1.0 } else { 1.0 };
            self.outcome.excess = rows.measured_excess(&means);
            if gap.abs() <= self.epsilon {
                return self.solved();
            }
        }
        let tolerance = task.needed(8.0 * task.unit_roundoff * sizes[0].max(sizes[1]));
        // Positive while |x| is too small.
        let lack = self.side * gap - (self.epsilon - tolerance).max(0.0);
        self.outcome.residual = lack.abs();
        if lack.abs() <= tolerance {
            self.outcome.excess = rows.measured_excess(&means);
            return self.solved();
        }
        let size = self.x.abs();
        if lack > 0.0 {
            self.short = (size, lack);
        } else {
            self.far = Some((size, lack));
        }
        let spent = self.outcome.passes >= MAX_PASSES || self.outcome.iterations >= task.max_iterations;
        if spent || !lack.is_finite() {
            return Step::HandOver;
        }
        self.outcome.iterations += 1;
        let next = match self.next(size, lack, free, floor * lack.abs() / (lack.abs() + beyond)) {
            Some(next) => next,
            None => return Step::HandOver,
        };
        self.move_to(rows, self.side * next);
        Step::Ask
    }

    /// The next |x|: a Newton step, or within the bracket where that would leave it.
    fn next(&self, size: f64, lack: f64, free: f64, floor: f64) -> Option<f64> {
        let newton = size + lack / free;
        match self.far {
            None => {
                let floored = size + lack / free.max(floor);
                let next = if free >= 0.25 * floor { newton } else { floored.max(2.0 * size) };
                (next.is_finite() && next > size).then_some(next)
            }
            Some((far, overshoot)) => {
                let (short, lack_there) = self.short;
                let inside = |x: f64| x > short && x < far;
                if inside(newton) {
                    return Some(newton);
                }
                // Where the Newton step leaves the bracket: the chord, and every third time the middle.
                let chord = short + (far - short) * lack_there / (lack_there - overshoot);
                let middle = 0.5 * (short + far);
                let next = if self.outcome.passes.is_multiple_of(3) || !inside(chord) { middle } else { chord };
                inside(next).then_some(next)
            }
        }
    }

    fn solved(&mut self) -> Step {
        self.outcome.status = Status::Solved;
        Step::Solved
    }
}
