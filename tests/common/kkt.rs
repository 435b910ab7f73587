//! The judge: the KKT residual of an answer, in float64, from the definition of the problem. It shares no code with the
//! crate: rows are expanded here to one coefficient a sample.

use fairlayer::{ConstraintSet, SpreadLimit};

/// One problem as the user states it, all in `f64`.
#[derive(Clone, Debug)]
pub struct Stated {
    pub z: Vec<f64>,
    pub cells: Vec<u8>,
    pub weights: Vec<f64>,
    pub labels: Vec<f64>,
    pub lo: Vec<f64>,
    pub hi: Vec<f64>,
}

/// The parts of the residual, all in units of the predictions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kkt {
    /// By how much a row or a bound is violated.
    pub violation: f64,
    /// By how much `y` differs from `clip(z - W^-1 A^T nu)`.
    pub stationarity: f64,
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

/// One row's coefficients over the samples, or `None` where a side has no sample.
fn coefficients(p: &Stated, plus: &fairlayer::CellMask, minus: &fairlayer::CellMask, scale: f64) -> Option<Vec<f64>> {
    let mass = |mask: &fairlayer::CellMask| -> f64 {
        (0..p.z.len()).filter(|&i| mask.contains(p.cells[i].into())).map(|i| p.weights[i]).sum()
    };
    let (s, t) = (mass(plus), mass(minus));
    if s == 0.0 || (t == 0.0 && !minus.is_empty()) {
        return None;
    }
    let coefficient = |i: usize| {
        let cell = usize::from(p.cells[i]);
        let mut a = if plus.contains(cell) { p.weights[i] / s } else { 0.0 };
        if minus.contains(cell) {
            a -= scale * p.weights[i] / t;
        }
        a
    };
    Some((0..p.z.len()).map(coefficient).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Judges the answer `y` with multipliers `nu` (of all rows of the set). `nothing` is what a multiplier may move a sample
/// by and still count as zero.
pub fn judge(set: &ConstraintSet, p: &Stated, y: &[f64], nu: &[f64], nothing: f64) -> Kkt {
    let n = p.z.len();
    let mut kkt = Kkt::default();
    let mut shift = vec![0.0; n];
    let mut row = 0;
    let reach = |a: &[f64]| (0..n).map(|i| (a[i] / p.weights[i]).abs()).fold(0.0, f64::max);
    for spread in set.spreads() {
        let live: Vec<(usize, Vec<f64>)> = spread
            .unions
            .iter()
            .enumerate()
            .filter_map(|(k, union)| {
                coefficients(p, &union.cells, &fairlayer::CellMask::EMPTY, 0.0).map(|a| (row + k, a))
            })
            .collect();
        row += spread.unions.len();
        if live.len() < 2 {
            continue;
        }
        let means: Vec<f64> = live.iter().map(|(_, a)| dot(a, y)).collect();
        let top = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bottom = means.iter().copied().fold(f64::INFINITY, f64::min);
        let (gap, ratio) = match spread.limit {
            SpreadLimit::Difference(epsilon) => (top - bottom - epsilon, 1.0),
            SpreadLimit::Ratio(ratio) => (ratio * top - bottom, ratio),
        };
        kkt.violation = kkt.violation.max(gap);
        let (mut balance, mut narrowest) = (0.0, f64::INFINITY);
        for ((r, a), mean) in live.iter().zip(&means) {
            let reach = reach(a);
            narrowest = narrowest.min(reach);
            balance += if nu[*r] < 0.0 { ratio * nu[*r] } else { nu[*r] };
            if (nu[*r] * reach).abs() > nothing {
                // Held rows are the extreme ones, and the extremes are as far apart as they may be.
                kkt.complementarity = kkt.complementarity.max(if nu[*r] > 0.0 { top - mean } else { mean - bottom });
                kkt.complementarity = kkt.complementarity.max(-gap);
            }
            (0..n).for_each(|i| shift[i] += nu[*r] * a[i] / p.weights[i]);
        }
        kkt.balance = kkt.balance.max(balance.abs() * narrowest);
    }
    for contrast in set.contrasts() {
        if let Some(a) = coefficients(p, &contrast.plus.cells, &contrast.minus, contrast.scale) {
            let target = if contrast.residual { dot(&a, &p.labels) } else { 0.0 };
            let value = dot(&a, y) - target;
            kkt.violation = kkt.violation.max(value - contrast.upper).max(contrast.lower - value);
            if (nu[row] * reach(&a)).abs() > nothing {
                let side = if nu[row] > 0.0 { contrast.upper } else { contrast.lower };
                kkt.complementarity = kkt.complementarity.max((value - side).abs());
            }
            (0..n).for_each(|i| shift[i] += nu[row] * a[i] / p.weights[i]);
        }
        row += 1;
    }
    for i in 0..n {
        if !(p.lo[i] <= y[i] && y[i] <= p.hi[i]) {
            kkt.violation = f64::INFINITY;
        }
        let expected = (p.z[i] - shift[i]).max(p.lo[i]).min(p.hi[i]);
        kkt.stationarity = kkt.stationarity.max((y[i] - expected).abs());
    }
    kkt
}
