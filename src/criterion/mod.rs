//! Definitions of fairness, turned into constraints. Names are those of fairlearn where it has one.
//!
//! Every criterion says what strata it needs and which rows a [`Population`] gets. To add your own, implement
//! [`Criterion`], or push spreads and contrasts into a [`ConstraintSet`] yourself.

mod conditional_parity;
mod demographic_parity;
mod equalized_odds;
mod mean_residual;
mod parity;

pub use conditional_parity::ConditionalParity;
pub use demographic_parity::DemographicParity;
pub use equalized_odds::{EqualizedOdds, FalsePositiveRateParity, TruePositiveRateParity};
pub use mean_residual::MeanResidual;
pub use parity::Parity;

use crate::cells::{CellLayout, CellMask, Population, Strata};
use crate::constraints::ConstraintSet;
use crate::error::Result;

/// A definition of fairness that is affine in the predictions.
pub trait Criterion {
    /// What the samples are stratified by. An error says what the population lacks.
    fn strata(&self, population: &Population) -> Result<Strata>;

    /// Adds this criterion's rows for the population to the set.
    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()>;

    /// The constraints of this criterion for a population.
    fn constraints(&self, population: &Population) -> Result<ConstraintSet> {
        let counts: Vec<usize> = population.features.iter().map(|feature| feature.groups.len()).collect();
        let mut set = ConstraintSet::new(CellLayout::new(&counts, self.strata(population)?)?);
        self.add_rows(population, &mut set)?;
        Ok(set)
    }
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
