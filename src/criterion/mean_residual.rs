//! Mean residual: no group is over- or under-predicted on average.

use super::parity::check_epsilon;
use super::{Criterion, compared_groups};
use crate::cells::{CellMask, Population, Strata};
use crate::constraints::{ConstraintSet, Contrast, Union};
use crate::error::Result;

/// `|mean(y - label | g)| <= epsilon` for every group: the row bounds are data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanResidual {
    /// The largest allowed mean residual, in units of the predictions.
    pub epsilon: f64,
}

impl MeanResidual {
    /// Every group's mean residual is at most `epsilon` in size.
    pub fn within(epsilon: f64) -> Self {
        Self { epsilon }
    }
}

impl Criterion for MeanResidual {
    fn strata(&self, _: &Population) -> Result<Strata> {
        Ok(Strata::None)
    }

    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()> {
        check_epsilon(self.epsilon)?;
        for (cells, name) in compared_groups(population, set.layout(), None).into_iter().flatten() {
            set.push_contrast(Contrast {
                plus: Union::new(cells, name),
                minus: CellMask::EMPTY,
                scale: 0.0,
                lower: -self.epsilon,
                upper: self.epsilon,
                residual: true,
            })?;
        }
        Ok(())
    }
}
