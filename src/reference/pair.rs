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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::cells_prepare::CellTotals;
    use crate::reference::components::components;
    use crate::reference::disjoint::{Disjoint, Step};
    use crate::reference::newton::CellSums;
    use crate::storage::Storage;
    use crate::{Criterion, DemographicParity, Population};
    use rand::{RngExt, SeedableRng};

    /// The sums of each cell at these shifts: y, |y|, free, beyond.
    fn sums(z: &[f64], cells: &[usize], shift: &[f64]) -> [[f64; 4]; 2] {
        let mut sums = [[0.0; 4]; 2];
        for (z, &cell) in z.iter().zip(cells) {
            let t = z - shift[cell];
            let y = t.clip(0.0, 1.0);
            let terms = [y, y.abs(), f64::from(t == y), (t - y).abs()];
            sums[cell].iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        sums
    }

    #[test]
    fn a_pair_has_the_answer_of_the_general_method() {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(3);
        let task = NewtonTask { tolerance: 1e-11, max_iterations: 100, relax: false, unit_roundoff: 1e-16 };
        let (mut easy, rounds) = (0, 500);
        for round in 0..rounds {
            let n = rng.random_range(10..80);
            let cells: Vec<usize> = (0..n).map(|i| if i < 2 { i } else { rng.random_range(0..2) }).collect();
            let z: Vec<f64> = cells.iter().map(|&cell| rng.random_range(-0.3..1.2) + 0.2 * cell as f64).collect();
            let epsilon = if round % 5 == 0 { 0.0 } else { rng.random_range(0.0..0.3) };
            let set = DemographicParity::within(epsilon).constraints(&Population::one_feature(2)).unwrap();
            let component = &components(&set)[0];
            let mut totals = CellTotals::new(2);
            totals.total = n as f64;
            cells.iter().for_each(|&cell| totals.weight[cell] += 1.0 / n as f64);
            let mut disjoint = Disjoint::new(&set, component);
            assert!(disjoint.start(&set, component, None, &totals));
            let three = |[y, size, free, _]: [f64; 4]| [y, size, free];
            let pass = |shift: [f64; 2]| sums(&z, &cells, &shift).map(three);
            let pair = disjoint.pair(&totals).unwrap();
            let Ok(answer) = pair.solve(&task, pass([0.0; 2]), pass) else { continue };
            easy += 1;
            let mut of_cells = CellSums::new(2);
            loop {
                let at = sums(&z, &cells, disjoint.shift());
                for (c, sums) in at.iter().enumerate() {
                    let [y, size, free, beyond] = sums.map(|sum| sum / n as f64);
                    (of_cells.y[c], of_cells.size[c]) = (y, size);
                    (of_cells.free[c], of_cells.beyond[c]) = (free, beyond);
                }
                match disjoint.receive(&task, component, &totals, &of_cells) {
                    Step::Ask => {}
                    step => {
                        assert_eq!(step, Step::Solved);
                        break;
                    }
                }
            }
            let general = disjoint.outcome();
            assert_eq!(answer.outcome.status, general.status);
            assert!(answer.outcome.residual <= 1e-11 && answer.outcome.excess == 0.0);
            for (a, b) in answer.shift.iter().zip(disjoint.shift()) {
                assert!((a - b).abs() < 1e-9, "{a} against {b}");
            }
        }
        assert!(easy > rounds * 8 / 10, "{easy} of {rounds}");
    }
}
