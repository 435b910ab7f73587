//! The rows of a problem, one coefficient a sample, with sums as exact as two floats allow. Independent of the crate.

use super::kkt::Stated;
use fairlayer::{CellMask, ConstraintSet, SpreadLimit};

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Spread(usize),
    Contrast(usize),
}

/// A row `a . y - target`.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number in the constraint set.
    pub index: usize,
    pub origin: Origin,
    pub a: Vec<f64>,
    pub target: f64,
}

impl Row {
    pub fn value(&self, y: &[f64]) -> f64 {
        dot(&self.a, y) - self.target
    }
}

/// Levels and row bounds of one problem, or of several in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub levels: Vec<f64>,
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
}

impl Limits {
    /// Those that the constraint set states.
    pub fn of(set: &ConstraintSet) -> Self {
        Self {
            levels: set.spreads().iter().map(|spread| spread.limit.level()).collect(),
            lower: set.contrasts().iter().map(|contrast| contrast.lower).collect(),
            upper: set.contrasts().iter().map(|contrast| contrast.upper).collect(),
        }
    }
}

/// A dot product in twice the precision (error-free products and sums, rounded once).
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut sum, mut rest) = (0.0_f64, 0.0_f64);
    for (a, b) in a.iter().zip(b) {
        let product = a * b;
        let total = sum + product;
        let part = total - sum;
        rest += (sum - (total - part)) + (product - part) + a.mul_add(*b, -product);
        sum = total;
    }
    sum + rest
}

fn total(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    dot(&values, &vec![1.0; values.len()])
}

fn mean_coefficients(p: &Stated, mask: &CellMask) -> Option<Vec<f64>> {
    let within = |i: usize| mask.contains(p.cells[i].into());
    let mass = total((0..p.z.len()).filter(|&i| within(i)).map(|i| p.weights[i]));
    (mass > 0.0).then(|| (0..p.z.len()).map(|i| if within(i) { p.weights[i] / mass } else { 0.0 }).collect())
}

/// The rows that have samples on every side (of a spread: at least two such).
pub fn live_rows(set: &ConstraintSet, p: &Stated) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut index = 0;
    for (s, spread) in set.spreads().iter().enumerate() {
        let live: Vec<Row> = (spread.unions.iter().enumerate())
            .filter_map(|(k, union)| {
                let a = mean_coefficients(p, &union.cells)?;
                Some(Row { index: index + k, origin: Origin::Spread(s), a, target: 0.0 })
            })
            .collect();
        index += spread.unions.len();
        if live.len() > 1 {
            rows.extend(live);
        }
    }
    for (k, contrast) in set.contrasts().iter().enumerate() {
        let plus = mean_coefficients(p, &contrast.plus.cells);
        let minus =
            if contrast.minus.is_empty() { Some(vec![0.0; p.z.len()]) } else { mean_coefficients(p, &contrast.minus) };
        if let (Some(plus), Some(minus)) = (plus, minus) {
            let a: Vec<f64> = plus.iter().zip(&minus).map(|(a, b)| a - contrast.scale * b).collect();
            let target = if contrast.residual { dot(&a, &p.labels) } else { 0.0 };
            rows.push(Row { index: index + k, origin: Origin::Contrast(k), a, target });
        }
    }
    rows
}

/// The least and the greatest value of a spread's live rows.
pub fn extent(rows: &[Row], spread: usize, y: &[f64]) -> Option<(f64, f64)> {
    let of_spread = rows.iter().filter(|row| row.origin == Origin::Spread(spread)).map(|row| row.value(y));
    of_spread.fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((least, most)) => Some((value.min(least), value.max(most))),
    })
}

/// By how much `y` exceeds the worst row's limit; negative where all rows have room.
pub fn excess(set: &ConstraintSet, rows: &[Row], limits: &Limits, y: &[f64]) -> f64 {
    let mut worst = f64::NEG_INFINITY;
    for (s, spread) in set.spreads().iter().enumerate() {
        if let Some((least, most)) = extent(rows, s, y) {
            worst = worst.max(match spread.limit {
                SpreadLimit::Difference(_) => (most - least) - limits.levels[s],
                SpreadLimit::Ratio(_) => limits.levels[s] * most - least,
            });
        }
    }
    for row in rows {
        if let Origin::Contrast(k) = row.origin {
            let value = row.value(y);
            worst = worst.max(value - limits.upper[k]).max(limits.lower[k] - value);
        }
    }
    worst
}

/// `W^-1 A^T nu`: what the multipliers of all rows of the set move each sample by.
pub fn shifts(rows: &[Row], weights: &[f64], nu: &[f64]) -> Vec<f64> {
    let pulled = |i: usize| rows.iter().map(|row| nu[row.index] * row.a[i]).sum::<f64>();
    weights.iter().enumerate().map(|(i, w)| pulled(i) / w).collect()
}
