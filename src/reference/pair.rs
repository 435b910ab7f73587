//! The method of `disjoint` for the commonest problem, two unions of one cell each, where nothing is hard: both have
//! plenty of free elements, and no step goes too far. It is one loop in one number, the multiplier that the unions share,
//! with the stop test of `disjoint`; what it does not solve is left to that.

use super::newton::NewtonTask;
use crate::solution::{Outcome, Status};

/// Passes after which the general method begins anew.
const MAX_PASSES: u32 = 12;
/// The part of a union's mass that has to be free.
const PLENTY: f64 = 0.25;

/// A problem of this form. Arrays go by cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) mass: [f64; 2],
    pub(crate) inverse_mass: [f64; 2],
    pub(crate) epsilon: f64,
    /// The sum of the weights.
    pub(crate) total: f64,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairAnswer {
    pub(crate) shift: [f64; 2],
    pub(crate) outcome: Outcome,
}

impl Pair {
    /// Solves it, if it is easy; if not, says how many passes it took to see that. `first` are the sums at zero shifts of each cell: y, |y|, free; `pass` finds those at
    /// others.
    #[inline(always)]
    pub(crate) fn solve(
        &self,
        task: &NewtonTask,
        first: [[f64; 3]; 2],
        mut pass: impl FnMut([f64; 2]) -> [[f64; 3]; 2],
    ) -> Result<PairAnswer, u32> {
        let Self { mass, inverse_mass, epsilon, total } = *self;
        let inverse_total = 1.0 / total;
        let inverse = inverse_mass.map(|inverse| inverse * inverse_total);
        let lightest = if mass[0] < mass[1] { mass[0] } else { mass[1] };
        let mut outcome = Outcome::default();
        let (mut nu, mut shift, mut sums, mut aimed) = (0.0_f64, [0.0; 2], first, f64::INFINITY);
        loop {
            outcome.passes += 1;
            let [mean, size, free] = [0, 1, 2].map(|kind| [sums[0][kind] * inverse[0], sums[1][kind] * inverse[1]]);
            let gap = mean[0] - mean[1];
            if outcome.passes > 1 || gap.abs() > epsilon {
                let largest = if size[0] > size[1] { size[0] } else { size[1] };
                // What rounding may move two means by at the worst, four times: as in `Rows::rounding`.
                let tolerance = task.needed(8.0 * task.unit_roundoff * largest);
                let allowed = if epsilon > tolerance { epsilon - tolerance } else { 0.0 };
                // How far the gap is from where it has to be: a bound, if a multiplier holds it there.
                let held = nu.abs() > tolerance * lightest;
                let over = if held { gap - allowed.copysign(nu) } else { gap.abs() - allowed };
                outcome.residual = if held { over.abs() } else { over };
                if outcome.residual > tolerance {
                    let is_easy = free[0] >= PLENTY && free[1] >= PLENTY && outcome.residual < aimed;
                    if !is_easy || outcome.passes >= MAX_PASSES || outcome.iterations >= task.max_iterations {
                        return Err(outcome.passes);
                    }
                    // The gap falls by the curvature as the multiplier rises by 1.
                    let curvature = free[0] * inverse_mass[0] + free[1] * inverse_mass[1];
                    let ahead = gap + curvature * nu;
                    let beyond = ahead.abs() - allowed;
                    nu = if beyond > 0.0 { beyond.copysign(ahead) / curvature } else { 0.0 };
                    shift = [nu * inverse_mass[0], -nu * inverse_mass[1]];
                    outcome.iterations += 1;
                    aimed = 0.5 * outcome.residual;
                    sums = pass(shift);
                    continue;
                }
                // (What is too large for its type is no solution.)
                if !(outcome.residual <= tolerance && tolerance < f64::INFINITY) {
                    return Err(outcome.passes);
                }
            }
            let excess = gap.abs() - epsilon;
            let largest = if mean[0].abs() > mean[1].abs() { mean[0].abs() } else { mean[1].abs() };
            // The excess as it is reported: 0 below what the measurement itself rounds.
            outcome.excess = if excess > 4.0 * f64::EPSILON * largest { excess } else { 0.0 };
            outcome.status = Status::Solved;
            return Ok(PairAnswer { shift, outcome });
        }
    }
}
