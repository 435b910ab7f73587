//! Budget: a limit on the total cost of the predictions.

use super::Criterion;
use crate::cells::{Population, Strata};
use crate::constraints::{ConstraintSet, DenseRow};
use crate::error::{Error, Result};

/// `sum_i cost_i y_i <= limit` in every problem: a dense row. Its coefficients are the costs, `[n]`, as they are: they
/// need not be positive, and sample weights are not in the sum unless the costs have them.
///
/// A limit of its own for every problem is [`Batch::row_bounds`](crate::Batch::row_bounds).
///
/// ```
/// use fairlayer::*;
///
/// let set = Budget::at_most(1.5).constraints(&Population::default())?;
/// let mut projector = Projector::<f64>::plan(Device::cpu(), &set, Capacities::single(3), Settings::default())?;
/// let batch = Batch::single(&[0.9, 0.6, 0.3]).coefficients(&[1.0, 2.0, 1.0]).bounds(0.0, 1.0);
/// let solution = projector.project(&batch)?;
/// // Over by 0.9, taken back in proportion to the costs.
/// assert_eq!(format!("{:.3?}", solution.read()?.y), "[0.750, 0.300, 0.150]");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The most that a problem may cost, in units of the costs times those of the predictions.
    pub limit: f64,
}

impl Budget {
    /// The total cost of every problem is at most `limit`.
    pub fn at_most(limit: f64) -> Self {
        Self { limit }
    }
}

impl Criterion for Budget {
    fn strata(&self, _: &Population) -> Result<Strata> {
        Ok(Strata::None)
    }

    fn needs_groups(&self) -> bool {
        false
    }

    fn add_rows(&self, _: &Population, set: &mut ConstraintSet) -> Result<()> {
        if !self.limit.is_finite() {
            return Err(Error::value("limit of a budget", format!("{} is not a finite number", self.limit)));
        }
        set.push_dense(DenseRow::new("budget", f64::NEG_INFINITY, self.limit)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_one_row_and_has_a_number() {
        let set = Budget::at_most(-2.0).constraints(&Population::default()).unwrap();
        assert_eq!(set.dense(), [DenseRow::new("budget", f64::NEG_INFINITY, -2.0)]);
        for limit in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Budget::at_most(limit).constraints(&Population::default()).unwrap_err();
            assert!(error.to_string().contains("limit of a budget"), "{error}");
        }
    }
}
