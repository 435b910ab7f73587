//! Parity of group means: the part that all parity criteria share.

use super::compared_groups;
use crate::cells::Population;
use crate::constraints::{ConstraintSet, Contrast, Spread, SpreadLimit, Union};
use crate::error::{Error, Result};

/// How close the groups' means must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parity {
    /// `|mean(g) - mean(h)| <= epsilon` for all pairs of groups: one spread.
    Pairwise {
        /// The largest allowed gap, in units of the predictions.
        epsilon: f64,
    },
    /// `|mean(g) - mean(all)| <= epsilon` for every group: one contrast a group.
    Overall {
        /// The largest allowed gap, in units of the predictions.
        epsilon: f64,
    },
    /// `mean(g) >= ratio * mean(h)` for all pairs (0.8 is the four-fifths rule): one ratio spread. Needs lower
    /// bounds >= 0.
    Ratio {
        /// The smallest allowed ratio, above 0 and at most 1.
        ratio: f64,
    },
}

impl Parity {
    /// Adds the rows of one stratum (`None`: all samples) for every compared feature.
    pub(super) fn add_rows(
        &self,
        population: &Population,
        stratum: Option<(usize, &str)>,
        set: &mut ConstraintSet,
    ) -> Result<()> {
        let index = stratum.map(|(index, _)| index);
        let everyone = set.layout().stratum(index);
        for groups in compared_groups(population, set.layout(), index) {
            let unions = groups.into_iter().map(|(cells, name)| match stratum {
                None => Union::new(cells, name),
                Some((_, label)) => Union::new(cells, format!("{name}, {label}")),
            });
            match *self {
                Self::Pairwise { epsilon } => {
                    set.push_spread(Spread { unions: unions.collect(), limit: SpreadLimit::Difference(epsilon) })?;
                }
                Self::Ratio { ratio } => {
                    set.push_spread(Spread { unions: unions.collect(), limit: SpreadLimit::Ratio(ratio) })?;
                }
                Self::Overall { epsilon } => {
                    check_epsilon(epsilon)?;
                    for plus in unions {
                        set.push_contrast(Contrast {
                            plus,
                            minus: everyone,
                            scale: 1.0,
                            lower: -epsilon,
                            upper: epsilon,
                            residual: false,
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn check_epsilon(epsilon: f64) -> Result<()> {
    if epsilon >= 0.0 && epsilon.is_finite() {
        Ok(())
    } else {
        Err(Error::value("epsilon", format!("{epsilon} is not a finite number >= 0")))
    }
}
