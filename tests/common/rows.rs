//! The rows of a problem, one coefficient a sample, with sums as exact as two floats allow. Independent of the crate.

use super::kkt::Stated;
use fairlayer::{CellMask, ConstraintSet, SpreadLimit};

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Spread(usize),
    /// A contrast or, numbered on, a dense row.
    Bounded(usize),
}

/// A number as the sum of two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twofold(f64, f64);

impl Twofold {
    fn add(&mut self, Self(large, small): Self) {
        let sum = self.0 + large;
        let part = sum - self.0;
        self.1 += ((self.0 - (sum - part)) + (large - part)) + small;
        self.0 = sum;
    }

    fn times(self, factor: f64) -> Self {
        let product = self.0 * factor;
        Self(product, self.0.mul_add(factor, -product) + self.1 * factor)
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

/// A row `a . y - target`.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number in the constraint set.
    pub index: usize,
    pub origin: Origin,
    pub a: Vec<f64>,
    pub target: f64,
    /// What brings its values to units of the predictions: 1 for means, and for dense rows what makes `a W^-1 a^T = 1`
    /// with weights that sum to 1.
    pub unit: f64,
    /// `a / w`: what a unit of its multiplier moves each sample by.
    moves: Vec<Twofold>,
}

impl Row {
    pub fn value(&self, y: &[f64]) -> f64 {
        dot(&self.a, y) - self.target
    }

    /// What its multiplier moves a sample by.
    pub fn moved(&self, sample: usize, nu: f64) -> f64 {
        self.moves[sample].value() * nu
    }

    /// What a unit of its multiplier moves a sample by at the most.
    pub fn reach(&self) -> f64 {
        self.moves.iter().fold(0.0, |most, moved| most.max(moved.value().abs()))
    }

    /// A row of means: each side a mask and a factor. `None` where a side has no sample.
    fn of_means(p: &Stated, (index, origin): (usize, Origin), sides: &[(&CellMask, f64)]) -> Option<Self> {
        let mut moves = vec![Twofold::default(); p.z.len()];
        for (mask, factor) in sides.iter().filter(|(mask, _)| !mask.is_empty()) {
            let within = || (0..p.z.len()).filter(|&i| mask.contains(p.cells[i].into()));
            let mut mass = Twofold::default();
            within().for_each(|i| mass.add(Twofold(p.weights[i], 0.0)));
            if mass.value() == 0.0 {
                return None;
            }
            let moved = mass.divide(*factor);
            within().for_each(|i| moves[i].add(moved));
        }
        let a = moves.iter().zip(&p.weights).map(|(moved, w)| moved.times(*w).value()).collect();
        Some(Self { index, origin, a, target: 0.0, unit: 1.0, moves })
    }

    fn of_coefficients(p: &Stated, (index, origin): (usize, Origin), a: &[f64]) -> Self {
        let moves = a.iter().zip(&p.weights).map(|(a, w)| Twofold(*w, 0.0).divide(*a)).collect();
        Self { index, origin, a: a.to_vec(), target: 0.0, unit: unit_of(a, &p.weights), moves }
    }
}

/// What a dense row is multiplied by to be in units of the predictions.
pub fn unit_of(a: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let square: f64 = a.iter().zip(weights).map(|(a, w)| a * (a / (w / total))).sum();
    if square > 0.0 { 1.0 / square.sqrt() } else { 1.0 }
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
        let bounds = set.contrasts().iter().map(|contrast| (contrast.lower, contrast.upper));
        let (lower, upper) = bounds.chain(set.dense().iter().map(|row| (row.lower, row.upper))).unzip();
        Self { levels: set.spreads().iter().map(|spread| spread.limit.level()).collect(), lower, upper }
    }

    /// Those of several problems, one after the other.
    pub fn joined<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut joined, one| {
            joined.levels.extend(&one.levels);
            joined.lower.extend(&one.lower);
            joined.upper.extend(&one.upper);
            joined
        })
    }
}

/// A dot product in twice the precision (error-free products and sums, rounded once).
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sum = Twofold::default();
    a.iter().zip(b).for_each(|(a, b)| sum.add(Twofold(*a, 0.0).times(*b)));
    sum.value()
}

/// The rows that have samples on every side (of a spread: at least two such).
pub fn live_rows(set: &ConstraintSet, p: &Stated) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut index = 0;
    for (s, spread) in set.spreads().iter().enumerate() {
        let of_union =
            |(k, union): (usize, &fairlayer::Union)| Row::of_means(p, (k, Origin::Spread(s)), &[(&union.cells, 1.0)]);
        let live: Vec<Row> = (index..).zip(&spread.unions).filter_map(of_union).collect();
        index += spread.unions.len();
        if live.len() > 1 {
            rows.extend(live);
        }
    }
    for (k, contrast) in set.contrasts().iter().enumerate() {
        let sides = [(&contrast.plus.cells, 1.0), (&contrast.minus, -contrast.scale)];
        if let Some(mut row) = Row::of_means(p, (index + k, Origin::Bounded(k)), &sides) {
            row.target = if contrast.residual { dot(&row.a, &p.labels) } else { 0.0 };
            rows.push(row);
        }
    }
    let first = set.contrasts().len();
    let of_dense = |(k, a): (usize, &Vec<f64>)| Row::of_coefficients(p, (index + k, Origin::Bounded(k)), a);
    rows.extend((first..).zip(&p.coefficients).map(of_dense));
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

/// By how much `y` exceeds the worst row's limit, in units of the predictions; negative where all rows have room.
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
        if let Origin::Bounded(k) = row.origin {
            let value = row.value(y);
            worst = worst.max(row.unit * (value - limits.upper[k])).max(row.unit * (limits.lower[k] - value));
        }
    }
    worst
}

/// `W^-1 A^T nu`: what the multipliers of all rows of the set move each of `n` samples by. Summed to twice the digits, so
/// that nothing is lost where large multipliers cancel.
pub fn shifts(rows: &[Row], n: usize, nu: &[f64]) -> Vec<f64> {
    let mut shift = vec![Twofold::default(); n];
    for row in rows.iter().filter(|row| nu[row.index] != 0.0) {
        shift.iter_mut().zip(&row.moves).for_each(|(shift, moved)| shift.add(moved.times(nu[row.index])));
    }
    shift.into_iter().map(Twofold::value).collect()
}
