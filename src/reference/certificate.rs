//! The proof that a problem has no solution, the same for every method.

use super::rows::Rows;
use super::sums::sum_of_least;
use crate::constraints::SpreadLimit;

/// Per-cell sums of w * lo and w * hi over the problem's elements; infinite where a bound is.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoxSums {
    pub(crate) lo: Vec<f64>,
    pub(crate) hi: Vec<f64>,
}

/// What a ray is judged by: the bounds of the samples, the weights of the cells, and how large values are, about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within<'a> {
    pub(crate) bounds: &'a BoxSums,
    pub(crate) weight: &'a [f64],
    pub(crate) size: f64,
}

/// Multipliers that move no sample by more than this part of what all of them do are what rounding left of zeros.
const NOISE: f64 = 1e-10;

/// Where a sample has no bound, what is left of a pull there must not do for values up to this many times the size of the
/// present ones, the largest bound of the rows, and the largest of the bounds that there are.
const FAR: f64 = 1e3;

/// Whether the ray `d` of the multipliers proves infeasibility: the least that `d . A y` can be within the bounds exceeds
/// the most that the rows allow. (Farkas: then no y meets both.) `shift` is scratch of one value a cell.
pub(crate) fn proves_infeasible(rows: &Rows, within: Within<'_>, d: &[f64], shift: &mut [f64]) -> bool {
    lack_of_room(rows, within, d, shift).is_some()
}

/// By how much all rows have to be relaxed at the least, in units of the predictions, for what the ray proves not to hold
/// any more. `None` if it proves nothing.
pub(crate) fn least_relaxation(rows: &Rows, within: Within<'_>, d: &[f64], shift: &mut [f64]) -> Option<f64> {
    let lack = lack_of_room(rows, within, d, shift)?;
    let per_unit: f64 = (0..rows.m).map(|r| d[r] * rows.relaxed_bound(r, d[r])).sum();
    (per_unit > 0.0).then(|| lack / per_unit)
}

/// By how much the least that `d . A y` can be exceeds the most that the rows allow, if that is beyond doubt.
fn lack_of_room(rows: &Rows, within: Within<'_>, d: &[f64], shift: &mut [f64]) -> Option<f64> {
    let Within { bounds, weight, size: mut largest } = within;
    let (mut most, mut size) = (0.0_f64, 0.0_f64);
    for block in &rows.blocks {
        // A spread allows any centre, so only rays that are balanced over it are bounded.
        let (balance, total) = block.balance(d);
        let slack = 1e-12 * total;
        let balanced = match block.limit {
            SpreadLimit::Difference(_) => balance.abs() <= slack,
            SpreadLimit::Ratio(_) => balance <= slack,
        };
        if !balanced {
            return None;
        }
    }
    let longest = rows.largest_shift_size(&d[..rows.m]);
    let mut noise = 0.0;
    for (r, &d) in d.iter().enumerate().take(rows.m).filter(|(_, d)| **d != 0.0) {
        let bound = if d > 0.0 { rows.upper[r] } else { rows.lower[r] };
        let allowed = d * bound;
        largest = largest.max(bound.abs());
        most += allowed;
        size += allowed.abs();
        // What a multiplier pulls may vanish below; what its bound is worth must not count then.
        let moved = d.abs() * rows.reach[r];
        noise += if moved > 0.0 && moved <= NOISE * longest { allowed.abs() } else { 0.0 };
    }
    if !most.is_finite() {
        return None;
    }
    rows.shifts(d, shift);
    // Most rays prove nothing, which a plain sum shows. (An infinite one may be made of what cancels.)
    let plain = sum_of_least(shift, &bounds.lo, &bounds.hi);
    if plain.is_finite() && plain <= most {
        return None;
    }
    for ((lo, hi), w) in bounds.lo.iter().zip(&bounds.hi).zip(weight).filter(|(_, w)| **w > 0.0) {
        largest = largest.max(finite(*lo) / w).max(finite(*hi) / w);
    }
    let (mut least, mut doubt) = (0.0, 1e-10 * size + noise);
    for (cell, &s) in shift.iter().enumerate() {
        let (lo, hi) = (bounds.lo[cell], bounds.hi[cell]);
        let magnitude = rows.shift_size(d, cell);
        // What cancellation leaves of a zero must not meet an infinite bound.
        let vanishes = s.abs() <= 1e-11 * magnitude;
        let bound = if s > 0.0 { lo } else { hi };
        let term = if vanishes { 0.0 } else { s * bound };
        least += term;
        doubt += 1e-10 * term.abs();
        // (Of what is left of a zero the sign is not known, either.)
        let known = finite(lo).max(finite(hi));
        let reached = if bound.is_finite() { known } else { known.max(FAR * largest * weight[cell]) };
        // (Coefficients that were scaled are rounded, and so is what is left of them.)
        let left = s.abs() + 4.0 * f64::EPSILON * magnitude;
        doubt += if vanishes { left * reached } else { 1e-14 * magnitude * bound.abs() };
    }
    let gap: f64 = least - most;
    (gap.is_finite() && gap > doubt).then_some(gap)
}

fn finite(bound: f64) -> f64 {
    if bound.is_finite() { bound.abs() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::components::Component;

    #[test]
    fn what_nearly_cancels_proves_nothing_without_bounds() {
        // x + y <= 0 and x + (1 + 2e-11) y >= 4e-10: (-20, 20) meets both.
        let weight = [0.5, 0.5];
        let mut rows = Rows::with_capacity(&Component::default()).of_samples();
        rows.clear(2);
        rows.push_scaled(&weight, [1.0, 1.0].into_iter(), (f64::NEG_INFINITY, 0.0), 0);
        rows.push_scaled(&weight, [1.0, 1.0 + 2e-11].into_iter(), (2e-10, f64::INFINITY), 1);
        let proves = |lo: f64, hi: f64| {
            let bounds = BoxSums { lo: vec![lo; 2], hi: vec![hi; 2] };
            let within = Within { bounds: &bounds, weight: &weight, size: 1.0 };
            proves_infeasible(&rows, within, &[1.0, -1.0], &mut [0.0; 2])
        };
        assert!(!proves(f64::NEG_INFINITY, f64::INFINITY));
        // Where 20 is out of bounds it is a proof.
        assert!(proves(-0.5, 0.5));
    }
}
