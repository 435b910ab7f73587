//! `max_gap`: the update that was published with `fairness_training` (Troxell, Roemer, Montufar, 2026), to the letter.
//!
//! For batch t of `b` samples: `y = argmin sum (y - z)^2 + lambda b G`, where `G >= 0` is at least the gap of every row of
//! the batch; then `lambda <- max(0, lambda + eta / sqrt(t) b (gap - epsilon))`.
//!
//! The minimum over `y` for a fixed `G` is a projection, whose value `d(G)` is convex and has the slope `-2 T(G)`, with
//! `T = sum of |nu|` over contrasts and half of that over spreads. So `G` is the root of `2 T(G) = lambda b`, and 0 where
//! `T(0)` is smaller.

use crate::batch::Batch;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::{Error, Result};
use crate::projector::Projector;
use crate::solution::{Solution, Status};
use crate::totals::Totals;

use super::Arrivals;

/// The gap of the primal step is found to this part of the gap that the batch has.
const ACCURACY: f64 = 1e-13;

/// What `max_gap` carries from batch to batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MaxGapState {
    /// The multiplier, one for all rows.
    pub lambda: f64,
    /// The largest that it was.
    pub lambda_max: f64,
    /// How many batches were streamed: T.
    pub batches: u64,
    /// Their samples: N.
    pub samples: u64,
    /// The sum over the batches of `b (gap - epsilon)`.
    pub violation: f64,
}

impl MaxGapState {
    /// The mean over the samples of their batch's gap, which the published rule bounds; `None` before the first batch.
    pub fn mean_gap(&self, epsilon: f64) -> Option<f64> {
        (self.samples > 0).then(|| self.violation / self.samples as f64 + epsilon)
    }

    /// The published bound of it: `epsilon + lambda_max sqrt(T) / (eta N)`.
    pub fn bound(&self, epsilon: f64, eta: f64) -> Option<f64> {
        let excess = self.lambda_max * (self.batches as f64).sqrt() / (eta * self.samples as f64);
        (self.samples > 0).then_some(epsilon + excess)
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.lambda >= 0.0
            && self.lambda_max >= self.lambda
            && self.lambda_max.is_finite()
            && self.violation.is_finite()
    }
}

/// The rule.
#[derive(Debug)]
pub(crate) struct MaxGap {
    pub(crate) state: MaxGapState,
    epsilon: f64,
    eta: f64,
}

impl MaxGap {
    pub(crate) fn new(set: &ConstraintSet, eta: f64, state: Option<MaxGapState>) -> Result<Self> {
        if !(eta > 0.0 && eta.is_finite()) {
            return Err(Error::value("eta", format!("{eta} is not a finite number > 0")));
        }
        Ok(Self { state: state.unwrap_or_default(), epsilon: common_epsilon(set)?, eta })
    }

    /// Answers a batch: the solution then holds its projection onto the gap of the primal step. Updates lambda.
    pub(crate) fn answer(
        &mut self,
        arrivals: &Arrivals<'_>,
        projector: &mut Projector<f64>,
        solution: &mut Solution<f64>,
    ) -> Result<()> {
        let b = arrivals.z.len() as f64;
        let mut step = Step { arrivals, projector, solution, labels: arrivals.labels() };
        let price = self.state.lambda * b;
        // From the gap that the batch has on, nothing is held.
        let (mut lo, mut hi) = (0.0, step.gap(|index| arrivals.clipped(index)));
        if hi > 0.0 && step.cost(0.0)? <= price {
            hi = 0.0;
        }
        let accuracy = (ACCURACY * hi).max(f64::MIN_POSITIVE);
        while hi - lo > accuracy {
            let middle = 0.5 * (lo + hi);
            if step.cost(middle)? <= price {
                hi = middle;
            } else {
                lo = middle;
            }
        }
        step.cost(hi)?;
        let gap = {
            let view = step.solution.read()?;
            gap_of(arrivals, step.projector.constraints(), |index| view.y[index])
        };
        let state = &mut self.state;
        let violation = b * (gap - self.epsilon);
        state.batches += 1;
        state.samples += arrivals.z.len() as u64;
        state.violation += violation;
        state.lambda = (state.lambda + self.eta / (state.batches as f64).sqrt() * violation).max(0.0);
        state.lambda_max = state.lambda_max.max(state.lambda);
        Ok(())
    }
}

/// The primal step of one batch.
struct Step<'a> {
    arrivals: &'a Arrivals<'a>,
    projector: &'a mut Projector<f64>,
    solution: &'a mut Solution<f64>,
    labels: Vec<f64>,
}

impl Step<'_> {
    fn gap(&self, y: impl Fn(usize) -> f64) -> f64 {
        gap_of(self.arrivals, self.projector.constraints(), y)
    }

    /// Projects the batch onto gaps of at most `gap` and returns `2 T(gap)`; infinity where there is no such `y`.
    fn cost(&mut self, gap: f64) -> Result<f64> {
        let Arrivals { z, cells, bounds: (lo, hi), .. } = *self.arrivals;
        let set = self.projector.constraints();
        let spread_rows = set.rows() - set.contrasts().len();
        let levels = vec![gap; set.spreads().len()];
        let (lower, upper) = (vec![-gap; set.contrasts().len()], vec![gap; set.contrasts().len()]);
        let batch = Batch::single(z).cells(cells).labels(&self.labels).bounds(lo, hi);
        self.projector.project_into(&batch.levels(&levels).row_bounds(&lower, &upper), self.solution)?;
        let view = self.solution.read()?;
        if view.outcomes[0].status != Status::Solved {
            return Ok(f64::INFINITY);
        }
        let (spreads, contrasts) = view.multipliers.split_at(spread_rows);
        let size = |nu: &[f64]| nu.iter().map(|nu| nu.abs()).sum::<f64>();
        Ok(size(spreads) + 2.0 * size(contrasts))
    }
}

/// The largest gap of the rows in this batch alone; 0 where nothing is compared.
fn gap_of(arrivals: &Arrivals<'_>, set: &ConstraintSet, y: impl Fn(usize) -> f64) -> f64 {
    let mut totals = Totals::new(set);
    for (index, &cell) in arrivals.cells.iter().enumerate() {
        let (z, clipped) = (arrivals.z[index], arrivals.clipped(index));
        totals.add_sample(usize::from(cell), z, clipped, arrivals.label(index), y(index));
    }
    totals.gaps(set).into_iter().flatten().map(|gap| gap.after.abs()).fold(0.0, f64::max)
}

/// The epsilon that all rows have. The published rule knows one, of absolute gaps.
fn common_epsilon(set: &ConstraintSet) -> Result<f64> {
    let refused = |problem: &str| Err(Error::value("max_gap", problem));
    let mut epsilons = Vec::with_capacity(set.rows());
    for spread in set.spreads() {
        match spread.limit {
            SpreadLimit::Difference(epsilon) => epsilons.push(epsilon),
            SpreadLimit::Ratio(_) => return refused("the published rule has no ratios; use pooled"),
        }
    }
    for contrast in set.contrasts() {
        if contrast.lower != -contrast.upper {
            return refused("the published rule bounds absolute values, -epsilon to epsilon; use pooled");
        }
        epsilons.push(contrast.upper);
    }
    match epsilons.split_first() {
        Some((&first, rest)) if rest.iter().all(|&epsilon| epsilon == first) => Ok(first),
        Some(_) => refused("the published rule has one epsilon for all rows; use pooled"),
        None => refused("there are no rows over groups"),
    }
}
