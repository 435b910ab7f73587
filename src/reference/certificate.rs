//! The proof that a problem has no solution, the same for every method.

use super::rows::Rows;
use crate::constraints::SpreadLimit;

/// Per-cell sums of w * lo and w * hi over the problem's elements; infinite where a bound is.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoxSums {
    pub(crate) lo: Vec<f64>,
    pub(crate) hi: Vec<f64>,
}

/// Whether the ray `d` of the multipliers proves infeasibility: the least that `d . A y` can be within the bounds exceeds
/// the most that the rows allow. (Farkas: then no y meets both.) `shift` is scratch of one value a cell.
pub(crate) fn proves_infeasible(rows: &Rows, bounds: &BoxSums, d: &[f64], shift: &mut [f64]) -> bool {
    let (mut most, mut size) = (0.0_f64, 0.0_f64);
    for block in &rows.blocks {
        // A spread allows any centre, so only rays that are balanced over it are bounded.
        let balance: f64 = block.rows().map(|r| block.centre_coefficient(d[r]) * d[r]).sum();
        let total: f64 = block.rows().map(|r| d[r].abs()).sum();
        let slack = 1e-12 * total;
        let balanced = match block.limit {
            SpreadLimit::Difference(_) => balance.abs() <= slack,
            SpreadLimit::Ratio(_) => balance <= slack,
        };
        if !balanced {
            return false;
        }
    }
    for r in 0..rows.m {
        let allowed = if d[r] > 0.0 {
            rows.upper[r] * d[r]
        } else if d[r] < 0.0 {
            rows.lower[r] * d[r]
        } else {
            0.0
        };
        most += allowed;
        size += allowed.abs();
    }
    if !most.is_finite() {
        return false;
    }
    rows.shifts(d, shift);
    let mut least = 0.0;
    for cell in 0..rows.cells {
        let magnitude: f64 = (0..rows.m).map(|r| (rows.row(r)[cell] * d[r]).abs()).sum();
        let s = shift[cell];
        // What cancellation leaves of a zero must not meet an infinite bound.
        let term = if s.abs() <= 1e-11 * magnitude {
            0.0
        } else if s > 0.0 {
            s * bounds.lo[cell]
        } else {
            s * bounds.hi[cell]
        };
        least += term;
        size += term.abs();
    }
    let gap: f64 = least - most;
    gap.is_finite() && size > 0.0 && gap > 1e-10 * size
}
