//! The judge: the KKT residual of an answer, in float64, from the definition of the problem; and the proof that a problem
//! has none. They share no code with the crate: rows are expanded in [`rows`](super::rows) to one coefficient a sample.
//! What the multipliers move a sample by is summed to twice the digits, so that the judge's own rounding is no part of the
//! verdict where large multipliers cancel.

use super::rows::{Limits, Origin, Row, extent, live_rows, shifts};
use fairlayer::{ConstraintSet, SpreadLimit};

/// One problem as the user states it, all in `f64`.
#[derive(Clone, Debug, Default)]
pub struct Stated {
    pub z: Vec<f64>,
    pub cells: Vec<u8>,
    pub weights: Vec<f64>,
    pub labels: Vec<f64>,
    pub lo: Vec<f64>,
    pub hi: Vec<f64>,
    /// Of the dense rows, one by one.
    pub coefficients: Vec<Vec<f64>>,
}

/// The parts of the residual, all in units of the predictions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kkt {
    /// By how much a row or a bound is violated.
    pub violation: f64,
    /// By how much `y` differs from `clip(z - W^-1 A^T nu)`, beyond `rounding`.
    pub stationarity: f64,
    /// What the last bits of dense rows' coefficients and multipliers move an element by at the most: coefficients are
    /// divided by weights and scaled, multipliers unscaled and reported, which rounds eight times. Nearly dependent rows
    /// have multipliers that cancel to a millionth of their size; to more than this nobody can say where they put y.
    pub rounding: f64,
    /// By how much a row with a multiplier is away from its bound.
    pub complementarity: f64,
    /// The imbalance of a spread's multipliers, as the shift that mends it where that moves the samples the least.
    pub balance: f64,
}

impl Kkt {
    pub fn worst(&self) -> f64 {
        [self.violation, self.stationarity, self.complementarity, self.balance]
            .into_iter()
            .fold(0.0, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
    }
}

/// Judges the answer `y` with multipliers `nu` (of all rows of the set). `nothing` is what a multiplier may move a sample
/// by and still count as zero.
pub fn judge(set: &ConstraintSet, p: &Stated, y: &[f64], nu: &[f64], nothing: f64) -> Kkt {
    let mut kkt = Kkt::default();
    let (rows, limits) = (live_rows(set, p), Limits::of(set));
    let held = |row: &Row| (nu[row.index] * row.reach()).abs() > nothing;
    for (s, spread) in set.spreads().iter().enumerate() {
        let Some((bottom, top)) = extent(&rows, s, y) else { continue };
        let (gap, ratio) = match spread.limit {
            SpreadLimit::Difference(epsilon) => (top - bottom - epsilon, 1.0),
            SpreadLimit::Ratio(ratio) => (ratio * top - bottom, ratio),
        };
        kkt.violation = kkt.violation.max(gap);
        let (mut balance, mut narrowest) = (0.0, f64::INFINITY);
        for row in rows.iter().filter(|row| row.origin == Origin::Spread(s)) {
            let nu = nu[row.index];
            narrowest = narrowest.min(row.reach());
            balance += if nu < 0.0 { ratio * nu } else { nu };
            if held(row) {
                // Held rows are the extreme ones, and the extremes are as far apart as they may be.
                let from_extreme = if nu > 0.0 { top - row.value(y) } else { row.value(y) - bottom };
                kkt.complementarity = kkt.complementarity.max(from_extreme).max(-gap);
            }
        }
        kkt.balance = kkt.balance.max(balance.abs() * narrowest);
    }
    for row in &rows {
        let Origin::Bounded(k) = row.origin else { continue };
        let value = row.value(y);
        let (below, above) = (row.unit * (limits.lower[k] - value), row.unit * (value - limits.upper[k]));
        kkt.violation = kkt.violation.max(above).max(below);
        if held(row) {
            let away = if nu[row.index] > 0.0 { above } else { below };
            kkt.complementarity = kkt.complementarity.max(away.abs());
        }
    }
    let shift = shifts(&rows, p.z.len(), nu);
    let dense = !set.dense().is_empty();
    for (i, shift) in shift.iter().enumerate() {
        if !(p.lo[i] <= y[i] && y[i] <= p.hi[i]) {
            kkt.violation = f64::INFINITY;
        }
        let put = |shift: f64| (p.z[i] - shift).max(p.lo[i]).min(p.hi[i]);
        let size = if dense { rows.iter().map(|row| row.moved(i, nu[row.index]).abs()).sum() } else { 0.0 };
        let rounding = 4.0 * f64::EPSILON * size;
        let (most, least) = (put(shift - rounding), put(shift + rounding));
        kkt.rounding = kkt.rounding.max((most - least) / 2.0);
        kkt.stationarity = kkt.stationarity.max(y[i] - most).max(least - y[i]);
    }
    kkt
}

/// Whether the ray `d` of the multipliers proves that no `y` within its bounds meets the rows: whatever `y` is,
/// `d . A y` is at least `least`, and the rows allow at most `most`.
pub fn proves(set: &ConstraintSet, p: &Stated, limits: &Limits, d: &[f64]) -> Result<(), String> {
    let rows = live_rows(set, p);
    let mut most = 0.0;
    for (s, spread) in set.spreads().iter().enumerate() {
        let of_spread = || rows.iter().filter(|row| row.origin == Origin::Spread(s)).map(|row| d[row.index]);
        let size: f64 = of_spread().map(f64::abs).sum();
        let balance = match spread.limit {
            SpreadLimit::Difference(_) => of_spread().sum::<f64>().abs(),
            SpreadLimit::Ratio(_) => of_spread().map(|d| if d < 0.0 { limits.levels[s] * d } else { d }).sum::<f64>(),
        };
        if balance > 1e-11 * size {
            return Err(format!("spread {s} is out of balance by {balance:e}"));
        }
        if let SpreadLimit::Difference(_) = spread.limit {
            most += limits.levels[s] / 2.0 * size;
        }
    }
    for row in &rows {
        if let (Origin::Bounded(k), true) = (row.origin, d[row.index] != 0.0) {
            let side = if d[row.index] > 0.0 { limits.upper[k] } else { limits.lower[k] };
            most += d[row.index] * (side + row.target);
        }
    }
    // Where there is no bound, what cancelling leaves of a zero counts as if y could be this large.
    let of_samples = p.lo.iter().chain(&p.hi).chain(&p.z).filter(|bound| bound.is_finite());
    let bounds = of_samples.fold(0.0_f64, |far, bound| far.max(bound.abs()));
    let far = 1e3
        * rows.iter().fold(bounds, |far, row| match row.origin {
            Origin::Bounded(k) if d[row.index] != 0.0 => {
                let side = if d[row.index] > 0.0 { limits.upper[k] } else { limits.lower[k] };
                far.max((row.unit * (side + row.target)).abs())
            }
            _ => far,
        });
    let mut least = 0.0;
    for i in 0..p.z.len() {
        let terms = rows.iter().map(|row| d[row.index] * row.a[i]);
        let (pull, size) = (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>());
        let bound = if pull > 0.0 { p.lo[i] } else { p.hi[i] };
        // What cancelling leaves of a zero says nothing about a bound that is not there.
        if pull.abs() > 1e-11 * size || (pull != 0.0 && bound.is_finite()) {
            least += pull * bound;
        } else if pull != 0.0 {
            least -= pull.abs() * far;
        }
        if least == f64::NEG_INFINITY {
            return Err(format!(
                "element {i} is pulled towards no bound by {:e} of the rows' pulls",
                pull.abs() / size
            ));
        }
    }
    if least > most { Ok(()) } else { Err(format!("at least {least:e}, at most {most:e}")) }
}

/// How far an answer is from stationary with multipliers of more digits than it was reported with, those that its own `y`
/// makes of them: where large ones cancel, single numbers do not say where they put y. The reported ones are mended, as least
/// squares over the samples between their bounds ask for, until nothing is left; one that changes its sign is none.
pub fn mended_stationarity(set: &ConstraintSet, p: &Stated, y: &[f64], nu: &[f64]) -> f64 {
    let rows = live_rows(set, p);
    let free: Vec<usize> = (0..y.len()).filter(|&i| p.lo[i] < y[i] && y[i] < p.hi[i]).collect();
    let held: Vec<&Row> = rows.iter().filter(|row| nu[row.index] != 0.0).collect();
    let columns: Vec<Vec<f64>> =
        held.iter().map(|row| free.iter().map(|&i| p.weights[i].sqrt() * row.moved(i, 1.0)).collect()).collect();
    let mut total = nu.to_vec();
    let mut shift = shifts(&rows, y.len(), nu);
    for _ in 0..6 {
        let left: Vec<f64> = free.iter().map(|&i| p.weights[i].sqrt() * (p.z[i] - y[i] - shift[i])).collect();
        let mut part = vec![0.0; nu.len()];
        for (row, mended) in held.iter().zip(least_squares(&columns, left)) {
            part[row.index] = mended;
            total[row.index] += mended;
        }
        shift.iter_mut().zip(shifts(&rows, y.len(), &part)).for_each(|(shift, part)| *shift += part);
    }
    if held.iter().any(|row| total[row.index] * nu[row.index] <= 0.0) {
        return f64::INFINITY;
    }
    let off = |i: usize| ((p.z[i] - shift[i]).max(p.lo[i]).min(p.hi[i]) - y[i]).abs();
    (0..y.len()).map(off).fold(0.0, f64::max)
}

/// `argmin |b - sum_k x_k columns_k|`, by the modified Gram-Schmidt process; columns that depend on those before get 0.
fn least_squares(columns: &[Vec<f64>], mut b: Vec<f64>) -> Vec<f64> {
    let plain = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut columns = columns.to_vec();
    let k = columns.len();
    let lengths: Vec<f64> = columns.iter().map(|column| plain(column, column).sqrt()).collect();
    let (mut upper, mut right) = (vec![vec![0.0; k]; k], vec![0.0; k]);
    for j in 0..k {
        let length = plain(&columns[j], &columns[j]).sqrt();
        if length <= 1e-14 * lengths[j] {
            continue;
        }
        let unit: Vec<f64> = columns[j].iter().map(|value| value / length).collect();
        upper[j][j] = length;
        for other in j + 1..k {
            upper[j][other] = plain(&unit, &columns[other]);
            let factor = upper[j][other];
            columns[other].iter_mut().zip(&unit).for_each(|(value, unit)| *value -= factor * unit);
        }
        right[j] = plain(&unit, &b);
        let factor = right[j];
        b.iter_mut().zip(&unit).for_each(|(value, unit)| *value -= factor * unit);
    }
    let mut x = vec![0.0; k];
    for j in (0..k).rev().filter(|&j| upper[j][j] > 0.0) {
        let known: f64 = (j + 1..k).map(|other| upper[j][other] * x[other]).sum();
        x[j] = (right[j] - known) / upper[j][j];
    }
    x
}
