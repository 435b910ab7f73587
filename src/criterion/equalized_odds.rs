//! Equalized odds and its two halves: parity within the labels.

use super::{Criterion, Parity};
use crate::cells::{Population, Strata};
use crate::constraints::ConstraintSet;
use crate::error::Result;

const NEGATIVE: (usize, &str) = (0, "label=0");
const POSITIVE: (usize, &str) = (1, "label=1");

/// Equalized odds: parity of mean predictions among the samples of label 0, and among those of label 1 (label > 0.5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EqualizedOdds(pub Parity);

/// True-positive-rate parity (equal opportunity): parity of mean predictions among the samples of label 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruePositiveRateParity(pub Parity);

/// False-positive-rate parity (predictive equality): parity of mean predictions among the samples of label 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FalsePositiveRateParity(pub Parity);

macro_rules! within_labels {
    ($criterion:ident, $strata:expr) => {
        impl $criterion {
            /// The means of all pairs of groups differ by at most `epsilon`.
            pub fn within(epsilon: f64) -> Self {
                Self(Parity::Pairwise { epsilon })
            }
        }

        impl Criterion for $criterion {
            fn strata(&self, _: &Population) -> Result<Strata> {
                Ok(Strata::Label)
            }

            fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()> {
                $strata.into_iter().try_for_each(|stratum| self.0.add_rows(population, Some(stratum), set))
            }
        }
    };
}

within_labels!(EqualizedOdds, [NEGATIVE, POSITIVE]);
within_labels!(TruePositiveRateParity, [POSITIVE]);
within_labels!(FalsePositiveRateParity, [NEGATIVE]);
