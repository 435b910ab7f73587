//! The method of `disjoint` for the commonest problem, two unions of one cell each, where nothing is hard: both have
//! plenty of free elements, and no step goes too far. It is one loop in one number, the multiplier that the unions share,
//! with the stop test of `disjoint`; what it does not solve is left to that.
//!
//! Sums that only steer may be rough. What is accepted was judged by exact sums: the last pass is always of that grade, so
//! it can write what it sums.

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

/// What the sums of a pass are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grade {
    /// To steer by.
    Rough,
    /// To judge by: `f64` sums of the values as they are stored.
    Exact,
}

/// How rough sums are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rough {
    /// Whether they cost so much less that a step is tried with them first.
    pub(crate) pays: bool,
    /// At zero shifts they are wrong by up to this part of the mean of |y|.
    pub(crate) error: f64,
}

impl Pair {
    /// Solves it, if it is easy, and returns the answer's shifts; if not, says how many passes it took to see that. `first`
    /// are the rough sums at zero shifts of each cell: y, |y|, free; `pass` finds those at others. The last pass was exact and
    /// at the answer.
    #[inline(always)]
    pub(crate) fn solve(
        &self,
        task: &NewtonTask,
        rough: Rough,
        first: [[f64; 3]; 2],
        mut pass: impl FnMut(Grade, [f64; 2]) -> [[f64; 3]; 2],
        outcome: &mut Outcome,
    ) -> Result<[f64; 2], u32> {
        let Self { mass, inverse_mass, epsilon, total } = *self;
        let inverse_total = 1.0 / total;
        let inverse = inverse_mass.map(|inverse| inverse * inverse_total);
        let lightest = if mass[0] < mass[1] { mass[0] } else { mass[1] };
        let (mut passes, mut iterations, mut residual) = (0, 0, 0.0);
        let (mut nu, mut shift, mut sums, mut grade) = (0.0_f64, [0.0; 2], first, Grade::Rough);
        let (mut before, mut aimed) = (0.0_f64, f64::INFINITY);
        loop {
            passes += 1;
            let [mean, size, free] = [0, 1, 2].map(|kind| [sums[0][kind] * inverse[0], sums[1][kind] * inverse[1]]);
            let gap = mean[0] - mean[1];
            let largest = if size[0] > size[1] { size[0] } else { size[1] };
            let doubt = if grade == Grade::Rough { 2.0 * rough.error * largest } else { 0.0 };
            let unmoved = iterations == 0 && gap.abs() <= epsilon + doubt;
            if !unmoved {
                // What rounding may move two means by at the worst, four times: as in `Rows::rounding`.
                let tolerance = task.needed(8.0 * task.unit_roundoff * largest);
                let allowed = if epsilon > tolerance { epsilon - tolerance } else { 0.0 };
                // How far the gap is from where it has to be: a bound, if a multiplier holds it there.
                let held = nu.abs() > tolerance * lightest;
                let over = if held { gap - allowed.copysign(nu) } else { gap.abs() - allowed };
                residual = if held { over.abs() } else { over };
                if residual > tolerance {
                    let is_easy = free[0] >= PLENTY && free[1] >= PLENTY && residual < aimed;
                    if !is_easy || passes >= MAX_PASSES || iterations >= task.max_iterations {
                        return Err(passes);
                    }
                    // The gap falls by the curvature as the multiplier rises by 1.
                    let curvature = free[0] * inverse_mass[0] + free[1] * inverse_mass[1];
                    let ahead = gap + curvature * nu;
                    let beyond = ahead.abs() - allowed;
                    // (The inverse need not wait for the sums of y.)
                    nu = if beyond > 0.0 { beyond.copysign(ahead) * (1.0 / curvature) } else { 0.0 };
                    shift = [nu * inverse_mass[0], -nu * inverse_mass[1]];
                    iterations += 1;
                    // Steps converge quadratically, and a little faster than this says: is this one likely to be the last?
                    if !rough.pays || residual * residual * residual < 4.0 * tolerance * before * before {
                        grade = Grade::Exact;
                    }
                    (before, aimed) = (residual, 0.5 * residual);
                    sums = pass(grade, shift);
                    continue;
                }
                // (What is too large for its type is no solution.)
                if !(residual <= tolerance && tolerance < f64::INFINITY) {
                    return Err(passes);
                }
            }
            if grade == Grade::Rough {
                grade = Grade::Exact;
                sums = pass(grade, shift);
                continue;
            }
            let excess = gap.abs() - epsilon;
            let largest = if mean[0].abs() > mean[1].abs() { mean[0].abs() } else { mean[1].abs() };
            // The excess as it is reported: 0 below what the measurement itself rounds.
            let excess = if excess > 4.0 * f64::EPSILON * largest { excess } else { 0.0 };
            *outcome = Outcome { status: Status::Solved, iterations, passes, residual, excess };
            return Ok(shift);
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

    /// What rough sums call unfair, by no more than they may be wrong, is left as it is if exact ones call it fair.
    #[test]
    fn rough_sums_do_not_move_what_is_fair() {
        let pair = Pair { mass: [0.5; 2], inverse_mass: [2.0; 2], epsilon: 0.25, total: 1.0 };
        let task = NewtonTask { tolerance: 1e-11, max_iterations: 100, relax: false, unit_roundoff: 1e-16 };
        // Means of 0.75 and 0.5, all samples free.
        let exact = [[0.375, 0.375, 0.5], [0.25, 0.25, 0.5]];
        let mut outcome = Outcome::default();
        for (error, fair) in [(4e-7, true), (-4e-7, true), (4e-6, false)] {
            let mut first = exact;
            first[0][0] *= 1.0 + error;
            let pass = |_, shift: [f64; 2]| [0, 1].map(|c| [exact[c][0] - 0.5 * shift[c], exact[c][1], exact[c][2]]);
            let shift = pair.solve(&task, Rough { pays: true, error: 1e-6 }, first, pass, &mut outcome);
            assert_eq!(shift == Ok([0.0; 2]) && outcome.iterations == 0, fair, "{error}");
        }
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
            let mut last = None;
            let mut pass = |grade, shift: [f64; 2]| {
                last = Some((grade, shift));
                let rough = if grade == Grade::Rough { 1.0 + 1e-7 * f64::from(round % 3) } else { 1.0 };
                sums(&z, &cells, &shift).map(three).map(|[y, size, free]| [rough * y, size, free])
            };
            let pair = disjoint.pair(&totals).unwrap();
            let rough = Rough { pays: round % 2 == 0, error: 2e-7 };
            let first = pass(Grade::Rough, [0.0; 2]);
            let mut outcome = Outcome::default();
            let Ok(shift) = pair.solve(&task, rough, first, pass, &mut outcome) else { continue };
            assert_eq!(last, Some((Grade::Exact, shift)));
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
            assert_eq!(outcome.status, general.status);
            // (Where no margin fits into epsilon, the gap is within the tolerance.)
            let most = if epsilon > 0.0 { 0.0 } else { 1e-11 };
            assert!(outcome.residual <= 1e-11 && outcome.excess <= most, "{outcome:?}");
            for (a, b) in shift.iter().zip(disjoint.shift()) {
                assert!((a - b).abs() < 1e-9, "{a} against {b}");
            }
        }
        assert!(easy > rounds * 8 / 10, "{easy} of {rounds}");
    }
}
