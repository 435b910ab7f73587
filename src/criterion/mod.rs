//! Definitions of fairness, turned into constraints. Names are those of fairlearn where it has one.
//!
//! Every criterion says what strata it needs and which rows a [`Population`] gets.
//!
//! | criterion | what it bounds | rows |
//! |---|---|---|
//! | [`DemographicParity`] | the gap of the groups' means | cells |
//! | [`EqualizedOdds`], [`TruePositiveRateParity`], [`FalsePositiveRateParity`] | the same within labels | cells |
//! | [`ConditionalParity`] | the same within the values of a control feature | cells |
//! | [`MeanResidual`] | the mean of `y - label` of every group | cells |
//! | [`Calibration`] | the mean of `y - label` of every bin of the scores | cells |
//! | [`Covariance`] | the covariance of `y` with continuous sensitive features and their powers | dense |
//! | [`Budget`] | `sum_i cost_i y_i` | dense |
//!
//! Rows over cells are the fast ones: no coefficient of a sample is ever stored, and a sample costs the same whatever their
//! number. A dense row has a coefficient for every sample, which every pass reads. Both kinds may be in one set:
//! [`Criterion::add_rows`] of several criteria, one after the other, adds up.
//!
//! # A criterion of your own
//! Implement [`Criterion`], or push rows into a [`ConstraintSet`] yourself. README.md has an example over cells. This one
//! is dense: *exposure*. In a ranking, the position of item `i` gives it a share `exposure_i` of the readers' attention;
//! scores `y` spend it well if a group gets about as much of the attention-weighted score as its share of the items:
//! `|sum_(i in g) exposure_i y_i / sum_i exposure_i - share_g mean(y)| <= epsilon`, an affine row for every group.
//!
//! ```
//! use fairlayer::*;
//!
//! struct Exposure {
//!     epsilon: f64,
//!     groups: usize,
//! }
//!
//! impl Criterion for Exposure {
//!     fn strata(&self, _: &Population) -> Result<Strata> {
//!         Ok(Strata::None)
//!     }
//!
//!     // The groups are in the coefficients: the population need not have any.
//!     fn needs_groups(&self) -> bool {
//!         false
//!     }
//!
//!     fn add_rows(&self, _: &Population, set: &mut ConstraintSet) -> Result<()> {
//!         for group in 0..self.groups {
//!             set.push_dense(DenseRow::new(format!("exposure of group {group}"), -self.epsilon, self.epsilon))?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! impl Exposure {
//!     /// The rows' coefficients, problem by problem `[groups, n]`: what `Batch::coefficients` takes.
//!     fn coefficients(&self, exposure: &[f64], group: &[usize], offsets: &Offsets<'_>) -> Vec<f64> {
//!         let mut coefficients = Vec::new();
//!         for problem in 0..offsets.problems() {
//!             let range = offsets.range(problem);
//!             let (exposure, group, n) = (&exposure[range.clone()], &group[range.clone()], range.len() as f64);
//!             let total: f64 = exposure.iter().sum();
//!             for g in 0..self.groups {
//!                 let share = group.iter().filter(|&&other| other == g).count() as f64 / n;
//!                 let of = |(&e, &other): (&f64, &usize)| if other == g { e / total } else { 0.0 } - share / n;
//!                 coefficients.extend(exposure.iter().zip(group).map(of));
//!             }
//!         }
//!         coefficients
//!     }
//! }
//!
//! // Two queries, of four and three ranked items.
//! let scores = [0.9, 0.8, 0.4, 0.3, 0.7, 0.6, 0.2];
//! let exposure = [1.0, 0.63, 0.5, 0.43, 1.0, 0.63, 0.5];
//! let group = [0, 0, 1, 1, 1, 0, 0];
//! let offsets = Offsets::Ragged(&[0, 4, 7]);
//!
//! let criterion = Exposure { epsilon: 0.01, groups: 2 };
//! let set = criterion.constraints(&Population::default())?;
//! let mut projector = Projector::<f64>::plan(Device::cpu(), &set, Capacities::of(&offsets), Settings::default())?;
//! let coefficients = criterion.coefficients(&exposure, &group, &offsets);
//! let batch = Batch::new(&scores, offsets).coefficients(&coefficients).bounds(0.0, 1.0);
//! let solution = projector.project(&batch)?;
//! let fair = solution.read()?;
//! assert!(fair.all_solved());
//! for problem in 0..2 {
//!     let (y, range) = (fair.problem(problem), offsets.range(problem));
//!     let row = &coefficients[2 * range.start..][..range.len()];
//!     assert!(row.iter().zip(y).map(|(a, y)| a * y).sum::<f64>().abs() <= 0.01 + 1e-12);
//! }
//! # Ok::<(), Error>(())
//! ```

mod budget;
mod calibration;
mod conditional_parity;
mod covariance;
mod demographic_parity;
mod equalized_odds;
mod mean_residual;
mod parity;

pub use budget::Budget;
pub use calibration::{Bins, Calibration};
pub use conditional_parity::ConditionalParity;
pub use covariance::Covariance;
pub use demographic_parity::DemographicParity;
pub use equalized_odds::{EqualizedOdds, FalsePositiveRateParity, TruePositiveRateParity};
pub use mean_residual::MeanResidual;
pub use parity::Parity;

use crate::batch::Offsets;
use crate::cells::{CellLayout, CellMask, Population, Strata};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};

/// A definition of fairness that is affine in the predictions.
pub trait Criterion {
    /// What the samples are stratified by. An error says what the population lacks.
    fn strata(&self, population: &Population) -> Result<Strata>;

    /// Adds this criterion's rows for the population to the set.
    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()>;

    /// Whether the rows are about groups, so that a population without a sensitive feature is a mistake. Criteria of
    /// dense rows alone say no; their batches need no groups.
    fn needs_groups(&self) -> bool {
        true
    }

    /// The constraints of this criterion for a population.
    fn constraints(&self, population: &Population) -> Result<ConstraintSet> {
        let mut counts: Vec<usize> = population.features.iter().map(|feature| feature.groups.len()).collect();
        if counts.is_empty() && !self.needs_groups() {
            counts.push(1);
        }
        let mut set = ConstraintSet::new(CellLayout::new(&counts, self.strata(population)?)?);
        self.add_rows(population, &mut set)?;
        Ok(set)
    }
}

/// The coefficients of several criteria of dense rows in one set, in the order in which their rows were added. Each part
/// has whole rows, problem by problem `[m, n]` for an `m` of its own; so has the result, with all the rows.
///
/// # Errors
/// A part that is not a whole number of rows.
pub fn join_coefficients(parts: &[&[f64]], offsets: &Offsets<'_>) -> Result<Vec<f64>> {
    let total = offsets.start(offsets.problems());
    offsets.check(total)?;
    if let Some(part) = parts.iter().find(|part| if total == 0 { !part.is_empty() } else { part.len() % total != 0 }) {
        let what = format!("{} are not a whole number of rows over {total} samples", part.len());
        return Err(Error::value("coefficients", what));
    }
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for problem in 0..offsets.problems() {
        let range = offsets.range(problem);
        for part in parts {
            let rows = part.len() / total.max(1);
            joined.extend_from_slice(&part[rows * range.start..rows * range.end]);
        }
    }
    Ok(joined)
}

/// The groups to compare with each other: one list for every sensitive feature, or one list of all combinations of
/// groups if the population is intersectional. Each entry is the group's cells in the stratum, and its name.
pub fn compared_groups(
    population: &Population,
    layout: &CellLayout,
    stratum: Option<usize>,
) -> Vec<Vec<(CellMask, String)>> {
    let of_feature = |index: usize| -> Vec<(CellMask, String)> {
        let feature = &population.features[index];
        let named = feature.groups.iter().enumerate();
        named.map(|(id, name)| (layout.union(index, id, stratum), format!("{}={name}", feature.name))).collect()
    };
    let lists = (0..population.features.len()).map(of_feature);
    if !population.intersectional {
        return lists.collect();
    }
    let product = |left: Vec<(CellMask, String)>, right: Vec<(CellMask, String)>| -> Vec<(CellMask, String)> {
        left.iter()
            .flat_map(|(cells, name)| {
                right.iter().map(move |(other, also)| (cells.and(other), format!("{name} & {also}")))
            })
            .collect()
    };
    lists.reduce(product).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_are_joined_problem_by_problem() {
        let offsets = Offsets::Ragged(&[0, 2, 3]);
        // Two rows and one, over problems of two samples and of one.
        let (two, one) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0]);
        let joined = join_coefficients(&[&two, &one], &offsets).unwrap();
        assert_eq!(joined, [1.0, 2.0, 3.0, 4.0, 7.0, 8.0, 5.0, 6.0, 9.0]);
        assert!(join_coefficients(&[&two[..4]], &offsets).unwrap_err().to_string().contains("4 are not"));
        assert!(join_coefficients(&[&one], &Offsets::Ragged(&[0, 3, 2])).is_err());
        assert!(join_coefficients(&[&one], &Offsets::Ragged(&[0, 0])).is_err());
        assert!(join_coefficients(&[&[]], &Offsets::Ragged(&[0, 0])).unwrap().is_empty());
    }

    #[test]
    fn only_criteria_of_dense_rows_do_without_groups() {
        let nobody = Population::default();
        assert!(DemographicParity::within(0.1).constraints(&nobody).is_err());
        assert!(Calibration::within(0.1).constraints(&nobody).is_err());
        assert!(!Budget::at_most(1.0).constraints(&nobody).unwrap().needs_cells());
    }
}
