//! Demographic parity: equal mean predictions.

use super::{Criterion, Parity};
use crate::cells::{Population, Strata};
use crate::constraints::ConstraintSet;
use crate::error::Result;

/// Demographic (statistical) parity: the groups' mean predictions are close.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemographicParity(pub Parity);

impl DemographicParity {
    /// The means of all pairs of groups differ by at most `epsilon`.
    pub fn within(epsilon: f64) -> Self {
        Self(Parity::Pairwise { epsilon })
    }
}

impl Criterion for DemographicParity {
    fn strata(&self, _: &Population) -> Result<Strata> {
        Ok(Strata::None)
    }

    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()> {
        self.0.add_rows(population, None, set)
    }
}
