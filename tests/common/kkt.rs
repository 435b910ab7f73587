//! The judge: the KKT residual of an answer, in float64, from the definition of the problem. It shares no code with the
//! crate: rows are expanded here to one coefficient a sample. What the multipliers move a sample by is summed to twice the
//! digits, so that the judge's own rounding is no part of the verdict where large multipliers cancel.

use fairlayer::{CellMask, ConstraintSet, SpreadLimit};

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

/// A number as the sum of two.
#[derive(Clone, Copy, Default)]
struct Twofold(f64, f64);

impl Twofold {
    fn add(&mut self, Self(large, small): Self) {
        let sum = self.0 + large;
        let part = sum - self.0;
        self.1 += ((self.0 - (sum - part)) + (large - part)) + small;
        self.0 = sum;
    }

    /// `numerator / self`.
    fn divide(self, numerator: f64) -> Self {
        let quotient = numerator / self.0;
        Self(quotient, ((-quotient).mul_add(self.0, numerator) - quotient * self.1) / self.0)
    }

    fn value(self) -> f64 {
        self.0 + self.1
    }
}

/// One row over the samples: the sides that a sample may be on, each with its weight and its sign.
struct Row {
    sides: Vec<(CellMask, Twofold, f64)>,
}

impl Row {
    /// `None` where a side has no sample.
    fn new(p: &Stated, plus: CellMask, minus: CellMask, scale: f64) -> Option<Self> {
        let mut sides = Vec::new();
        for (mask, factor) in [(plus, 1.0), (minus, -scale)].into_iter().filter(|(mask, _)| !mask.is_empty()) {
            let mut mass = Twofold::default();
            (0..p.z.len())
                .filter(|&i| mask.contains(p.cells[i].into()))
                .for_each(|i| mass.add(Twofold(p.weights[i], 0.0)));
            if mass.value() == 0.0 {
                return None;
            }
            sides.push((mask, mass, factor));
        }
        Some(Self { sides })
    }

    /// The coefficient of each sample.
    fn coefficients(&self, p: &Stated) -> Vec<f64> {
        let of_side = |i: usize, (mask, mass, factor): &(CellMask, Twofold, f64)| {
            if mask.contains(p.cells[i].into()) { factor * p.weights[i] / mass.value() } else { 0.0 }
        };
        (0..p.z.len()).map(|i| self.sides.iter().map(|side| of_side(i, side)).sum()).collect()
    }

    /// Adds what the multiplier `nu` moves each sample by.
    fn shift(&self, p: &Stated, nu: f64, shift: &mut [Twofold]) {
        for (mask, mass, factor) in &self.sides {
            let moved = mass.divide(factor * nu);
            (0..p.z.len()).filter(|&i| mask.contains(p.cells[i].into())).for_each(|i| shift[i].add(moved));
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Judges the answer `y` with multipliers `nu` (of all rows of the set). `nothing` is what a multiplier may move a sample
/// by and still count as zero.
pub fn judge(set: &ConstraintSet, p: &Stated, y: &[f64], nu: &[f64], nothing: f64) -> Kkt {
    let n = p.z.len();
    let mut kkt = Kkt::default();
    let mut shift = vec![Twofold::default(); n];
    let mut row = 0;
    let reach = |a: &[f64]| (0..n).map(|i| (a[i] / p.weights[i]).abs()).fold(0.0, f64::max);
    for spread in set.spreads() {
        let rows = spread.unions.iter().map(|union| Row::new(p, union.cells, CellMask::EMPTY, 0.0));
        let live: Vec<(usize, Row, Vec<f64>)> = (row..)
            .zip(rows)
            .filter_map(|(r, of_union)| of_union.map(|of_union| (r, of_union)))
            .map(|(r, of_union)| {
                let a = of_union.coefficients(p);
                (r, of_union, a)
            })
            .collect();
        row += spread.unions.len();
        if live.len() < 2 {
            continue;
        }
        let means: Vec<f64> = live.iter().map(|(_, _, a)| dot(a, y)).collect();
        let top = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bottom = means.iter().copied().fold(f64::INFINITY, f64::min);
        let (gap, ratio) = match spread.limit {
            SpreadLimit::Difference(epsilon) => (top - bottom - epsilon, 1.0),
            SpreadLimit::Ratio(ratio) => (ratio * top - bottom, ratio),
        };
        kkt.violation = kkt.violation.max(gap);
        let (mut balance, mut narrowest) = (0.0, f64::INFINITY);
        for ((r, of_union, a), mean) in live.iter().zip(&means) {
            let reach = reach(a);
            narrowest = narrowest.min(reach);
            balance += if nu[*r] < 0.0 { ratio * nu[*r] } else { nu[*r] };
            if (nu[*r] * reach).abs() > nothing {
                // Held rows are the extreme ones, and the extremes are as far apart as they may be.
                kkt.complementarity = kkt.complementarity.max(if nu[*r] > 0.0 { top - mean } else { mean - bottom });
                kkt.complementarity = kkt.complementarity.max(-gap);
            }
            of_union.shift(p, nu[*r], &mut shift);
        }
        kkt.balance = kkt.balance.max(balance.abs() * narrowest);
    }
    for contrast in set.contrasts() {
        if let Some(of_contrast) = Row::new(p, contrast.plus.cells, contrast.minus, contrast.scale) {
            let a = of_contrast.coefficients(p);
            let target = if contrast.residual { dot(&a, &p.labels) } else { 0.0 };
            let value = dot(&a, y) - target;
            kkt.violation = kkt.violation.max(value - contrast.upper).max(contrast.lower - value);
            if (nu[row] * reach(&a)).abs() > nothing {
                let side = if nu[row] > 0.0 { contrast.upper } else { contrast.lower };
                kkt.complementarity = kkt.complementarity.max((value - side).abs());
            }
            of_contrast.shift(p, nu[row], &mut shift);
        }
        row += 1;
    }
    for i in 0..n {
        if !(p.lo[i] <= y[i] && y[i] <= p.hi[i]) {
            kkt.violation = f64::INFINITY;
        }
        let expected = (p.z[i] - shift[i].value()).max(p.lo[i]).min(p.hi[i]);
        kkt.stationarity = kkt.stationarity.max((y[i] - expected).abs());
    }
    kkt
}
