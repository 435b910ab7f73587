//! Conditional parity: equal mean predictions at every value of a control feature.

use super::{Criterion, Parity};
use crate::cells::{Population, Strata};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};

/// Conditional (demographic) parity: the groups' mean predictions are close within every value of a control feature.
///
/// A control feature with many values is better split into problems of one batch: strata multiply the cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConditionalParity(pub Parity);

impl ConditionalParity {
    /// The means of all pairs of groups differ by at most `epsilon`.
    pub fn within(epsilon: f64) -> Self {
        Self(Parity::Pairwise { epsilon })
    }
}

impl Criterion for ConditionalParity {
    fn strata(&self, population: &Population) -> Result<Strata> {
        let hint = "Population::with_control";
        let levels = population.control_levels.ok_or(Error::Missing { what: "a control feature", hint })?;
        Ok(Strata::Control { levels })
    }

    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()> {
        (0..set.layout().strata().count())
            .try_for_each(|level| self.0.add_rows(population, Some((level, &format!("control={level}"))), set))
    }
}
