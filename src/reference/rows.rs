//! The live rows of one component of one problem, in the form that the solver works on.

use super::cells_prepare::CellTotals;
use super::components::Component;
use super::point::CellSums;
use super::sums::{combine, combine_part, dot, dot_abs, dot_weighted, largest_size, vectorised};
use super::two_floats::TwoSum;
use crate::batch::Problem;
use crate::constraints::{ConstraintSet, SpreadLimit, check_row_bounds};
use crate::storage::Storage;

/// A spread's rows: those of its unions that hold samples, if there are at least two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The spread's index in the constraint set.
    pub(crate) spread: usize,
    /// First row.
    pub(crate) first: usize,
    /// One past the last row.
    pub(crate) end: usize,
    /// How far apart the block's means may be.
    pub(crate) limit: SpreadLimit,
}

impl Block {
    /// The coefficient of the block's centre `c` in a row held from above (`sign > 0`: mean = c + u) or from below
    /// (mean = c + l; of a ratio: mean = ratio c).
    #[inline]
    pub(crate) fn centre_coefficient(&self, sign: f64) -> f64 {
        match self.limit {
            SpreadLimit::Ratio(ratio) if sign < 0.0 => ratio,
            _ => 1.0,
        }
    }

    /// Whether the balance of the multipliers depends on their signs. (A ratio of 1 is a difference of 0.)
    #[inline]
    pub(crate) fn is_ratio(&self) -> bool {
        matches!(self.limit, SpreadLimit::Ratio(ratio) if ratio < 1.0)
    }

    /// Whether the block asks for equal means.
    #[inline]
    pub(crate) fn is_equality(&self) -> bool {
        matches!(self.limit, SpreadLimit::Difference(0.0) | SpreadLimit::Ratio(1.0))
    }

    /// The balance of the block's multipliers, which is zero where its centre is free, and the sum of their sizes.
    pub(crate) fn balance(&self, multipliers: &[f64]) -> (f64, f64) {
        self.rows().fold((0.0, 0.0), |(balance, size), r| {
            let nu = multipliers[r];
            (balance + self.centre_coefficient(nu) * nu, size + nu.abs())
        })
    }

    /// The rows of the block.
    #[inline]
    pub(crate) fn rows(&self) -> std::ops::Range<usize> {
        self.first..self.end
    }
}

/// Errors of shifts up to this, in units of the predictions, are far below what any tolerance asks for.
const HARMLESS: f64 = 1e-13;

/// Marks rows that belong to no spread.
pub(crate) const NO_BLOCK: usize = usize::MAX;

/// The live rows of a component: `m` rows over its `cells` cells. Rows of spreads come first, block by block.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) m: usize,
    pub(crate) cells: usize,
    /// Whether every cell is one sample.
    pub(crate) by_sample: bool,
    /// `[m, cells]`: the mean (or difference of means) that row r takes is `sum_c matrix[r, c] * (sum of w y in c)`.
    pub(crate) matrix: Vec<f64>,
    /// `[m]`; a row of a difference spread has -epsilon/2, of a ratio spread 0.
    pub(crate) lower: Vec<f64>,
    /// `[m]`.
    pub(crate) upper: Vec<f64>,
    /// `[m]`: the largest coefficient, so that `nu * reach` is how far a multiplier moves a cell at the most.
    pub(crate) reach: Vec<f64>,
    /// `[m]`: the largest coefficient before the two sides of a contrast cancel: what its rounding errors are relative to.
    pub(crate) rough: Vec<f64>,
    /// `[m]`: `sum_c matrix^2 * weight`, 1 where that is 0.
    pub(crate) scale: Vec<f64>,
    /// `[m]`: index into `blocks`, or `NO_BLOCK`.
    pub(crate) block_of: Vec<usize>,
    /// `[m]`: the row's number in the constraint set.
    pub(crate) source: Vec<usize>,
    pub(crate) blocks: Vec<Block>,
    open_block: Option<Block>,
    /// `[m]`: what the row of the set was multiplied by; 1 for means.
    pub(crate) unit: Vec<f64>,
    /// The set's rows that constrain nothing in this problem.
    pub(crate) inactive: Vec<usize>,
    /// By how much the bounds are relaxed, in units of the predictions.
    pub(crate) relaxed: f64,
}

impl Rows {
    /// Room for the rows of a component.
    pub(crate) fn with_capacity(component: &Component) -> Self {
        let (m, cells) = (component.rows, component.cells.len());
        Self {
            m: 0,
            cells,
            by_sample: false,
            matrix: Vec::with_capacity(m * cells),
            lower: Vec::with_capacity(m),
            upper: Vec::with_capacity(m),
            reach: Vec::with_capacity(m),
            rough: Vec::with_capacity(m),
            scale: Vec::with_capacity(m),
            block_of: Vec::with_capacity(m),
            source: Vec::with_capacity(m),
            blocks: Vec::with_capacity(component.spreads.len()),
            open_block: None,
            unit: Vec::with_capacity(m),
            inactive: Vec::with_capacity(m),
            relaxed: 0.0,
        }
    }

    /// The same, for rows over single samples.
    pub(crate) fn of_samples(self) -> Self {
        Self { by_sample: true, ..self }
    }

    /// Row `r` over the cells.
    #[inline]
    pub(crate) fn row(&self, r: usize) -> &[f64] {
        &self.matrix[r * self.cells..(r + 1) * self.cells]
    }

    /// Builds the component's rows that the problem's cell weights leave alive, and lists the others. `totals` are of the
    /// component's cells. False if a level or a row bound of the problem cannot be used.
    pub(crate) fn build<T: Storage>(
        &mut self,
        set: &ConstraintSet,
        component: &Component,
        problem: &Problem<'_, T>,
        totals: &CellTotals,
    ) -> bool {
        self.clear(component.cells.len());
        let (weight, label) = (&totals.weight[..], &totals.label[..]);
        let mut usable = true;
        let mut row = 0;
        for &(index, first_source) in &component.spreads {
            let spread = &set.spreads()[index];
            let limit = problem.levels.map_or(spread.limit, |levels| spread.limit.at_level(levels.at(index)));
            usable &= limit.check().is_ok();
            let half = if let SpreadLimit::Difference(epsilon) = limit { epsilon / 2.0 } else { 0.0 };
            let rows = row..row + spread.unions.len();
            let live = rows.clone().filter(|&row| dot(component.sides(row).0, weight) > 0.0).count();
            self.begin_block(index, limit);
            for (source, row) in (first_source..).zip(rows.clone()) {
                let plus = component.sides(row).0;
                let mass = dot(plus, weight);
                if live > 1 && mass > 0.0 {
                    self.push(weight, |c| plus[c] / mass, 1.0 / mass, (-half, half), source);
                } else {
                    self.inactive.push(source);
                }
            }
            self.end_block();
            row = rows.end;
        }
        for (&(index, source), row) in component.contrasts.iter().zip(row..) {
            let contrast = &set.contrasts()[index];
            let (mut lower, mut upper) = (contrast.lower, contrast.upper);
            if let Some((lowers, uppers)) = problem.row_bounds {
                (lower, upper) = (lowers.at(index), uppers.at(index));
                usable &= check_row_bounds(lower, upper).is_ok();
            }
            let (plus, minus) = component.sides(row);
            let masses = (dot(plus, weight), dot(minus, weight));
            if masses.0 > 0.0 && (masses.1 > 0.0 || contrast.minus.is_empty()) {
                let factors = (1.0 / masses.0, if masses.1 > 0.0 { -contrast.scale / masses.1 } else { 0.0 });
                if contrast.residual {
                    let target = factors.0 * dot(plus, label) + factors.1 * dot(minus, label);
                    (lower, upper) = (lower + target, upper + target);
                }
                // Where both sides are, the masses are subtracted cell by cell: what is in both cancels before it can round.
                let difference: f64 =
                    (0..weight.len()).map(|c| weight[c] * (minus[c] - contrast.scale * plus[c])).sum();
                let shared = difference * factors.0 / if masses.1 > 0.0 { masses.1 } else { 1.0 };
                let coefficient = |c: usize| match plus[c] * minus[c] {
                    0.0 => plus[c] * factors.0 + minus[c] * factors.1,
                    _ => shared,
                };
                self.push(weight, coefficient, factors.0.max(factors.1.abs()), (lower, upper), source);
            } else {
                self.inactive.push(source);
            }
        }
        usable
    }

    /// Forgets all rows; those to come are over so many cells.
    pub(super) fn clear(&mut self, cells: usize) {
        (self.m, self.cells, self.relaxed) = (0, cells, 0.0);
        let arrays =
            [&mut self.lower, &mut self.upper, &mut self.reach, &mut self.rough, &mut self.scale, &mut self.unit];
        arrays.into_iter().chain([&mut self.matrix]).for_each(Vec::clear);
        self.blocks.clear();
        self.open_block = None;
        self.block_of.clear();
        self.source.clear();
        self.inactive.clear();
    }

    /// Becomes the rows of others over single samples, whose cells these are.
    pub(crate) fn expand(&mut self, coarse: &Self, cells: &[u8]) {
        self.clear(cells.len());
        for r in 0..coarse.m {
            let row = coarse.row(r);
            self.matrix.extend(cells.iter().map(|&cell| row[usize::from(cell)]));
        }
        self.m = coarse.m;
        self.lower.extend_from_slice(&coarse.lower);
        self.upper.extend_from_slice(&coarse.upper);
        self.reach.extend_from_slice(&coarse.reach);
        self.rough.extend_from_slice(&coarse.rough);
        self.scale.extend_from_slice(&coarse.scale);
        self.unit.extend_from_slice(&coarse.unit);
        self.block_of.extend_from_slice(&coarse.block_of);
        self.source.extend_from_slice(&coarse.source);
        self.blocks.extend_from_slice(&coarse.blocks);
        self.inactive.extend_from_slice(&coarse.inactive);
    }

    /// The rows pushed from here on are those of a spread.
    pub(super) fn begin_block(&mut self, spread: usize, limit: SpreadLimit) {
        self.open_block = Some(Block { spread, first: self.m, end: self.m, limit });
    }

    /// The spread has all its rows; it counts if it has any.
    pub(super) fn end_block(&mut self) {
        let block = self.open_block.take().filter(|block| self.m > block.first);
        self.blocks.extend(block.map(|block| Block { end: self.m, ..block }));
    }

    /// Adds a row. `rough` is its largest coefficient before any cancelling, `source` its number in the constraint set.
    pub(super) fn push(
        &mut self,
        weight: &[f64],
        coefficient: impl Fn(usize) -> f64,
        rough: f64,
        bounds: (f64, f64),
        source: usize,
    ) {
        self.matrix.extend(weight.iter().enumerate().map(|(c, &w)| if w > 0.0 { coefficient(c) } else { 0.0 }));
        let row = &self.matrix[self.m * self.cells..];
        let (reach, scale) = (largest_size(row), dot_weighted(row, row, weight));
        self.finish_row((reach, rough, scale, 1.0), bounds, source);
    }

    /// Adds a row whose coefficients are in any unit, scaled to a scale of 1. A row of zeros stays as it is: it is met, or
    /// nothing can meet it. False if it holds what is no number.
    pub(crate) fn push_scaled(
        &mut self,
        weight: &[f64],
        coefficients: impl Iterator<Item = f64>,
        (lower, upper): (f64, f64),
        source: usize,
    ) -> bool {
        self.matrix.extend(coefficients);
        let row = &mut self.matrix[self.m * self.cells..];
        let largest = largest_size(row);
        // By its largest coefficient first where a square could be lost or infinite.
        let far = largest > 0.0 && largest.is_finite() && !(1e-100..1e100).contains(&largest);
        let first = if far { 1.0 / largest } else { 1.0 };
        if first != 1.0 {
            row.iter_mut().for_each(|b| *b *= first);
        }
        let scale = dot_weighted(row, row, weight);
        let second = if scale > 0.0 { 1.0 / scale.sqrt() } else { 1.0 };
        vectorised(
            #[inline(always)]
            |_| row.iter_mut().for_each(|b| *b *= second),
        );
        let scaled = |value: f64| value * first * second;
        let (reach, unit) = (scaled(largest), first * second);
        self.finish_row((reach, reach, 1.0, unit), (scaled(lower), scaled(upper)), source);
        // (A NaN is lost in the largest, not in the sum of squares.)
        largest.is_finite() && scale.is_finite() && unit.is_finite()
    }

    /// Adds what belongs to the row whose coefficients are there.
    fn finish_row(
        &mut self,
        (reach, rough, scale, unit): (f64, f64, f64, f64),
        (lower, upper): (f64, f64),
        source: usize,
    ) {
        self.lower.push(lower);
        self.upper.push(upper);
        self.reach.push(reach);
        self.rough.push(rough);
        self.scale.push(if scale > 0.0 { scale } else { 1.0 });
        self.source.push(source);
        self.block_of.push(if self.open_block.is_some() { self.blocks.len() } else { NO_BLOCK });
        self.unit.push(unit);
        self.m += 1;
    }

    /// Moves all bounds outward by so much more, a spread's by half on either side.
    pub(crate) fn relax(&mut self, by: f64) {
        self.relaxed += by;
        for r in 0..self.m {
            self.lower[r] += by * self.relaxed_bound(r, -1.0);
            self.upper[r] += by * self.relaxed_bound(r, 1.0);
        }
    }

    /// How the bound of a row moves as the rows are relaxed: the upper one if `sign > 0`, else the lower one. Of a ratio
    /// only the lower ones do: `min >= ratio max - by`.
    pub(crate) fn relaxed_bound(&self, r: usize, sign: f64) -> f64 {
        let outward = if sign > 0.0 { 1.0 } else { -1.0 };
        match self.blocks.get(self.block_of[r]).map(|block| block.limit) {
            None => outward,
            Some(SpreadLimit::Difference(_)) => 0.5 * outward,
            Some(SpreadLimit::Ratio(_)) => outward.min(0.0),
        }
    }

    /// Whether a row is held at its bound whatever its multiplier.
    pub(crate) fn is_equality(&self, r: usize) -> bool {
        self.relaxed == 0.0
            && match self.blocks.get(self.block_of[r]) {
                None => self.lower[r] == self.upper[r],
                Some(block) => block.is_equality(),
            }
    }

    /// A row without coefficients whose bounds exclude 0, which nothing can meet, and the sign of the ray that proves it.
    pub(crate) fn contradiction(&self) -> Option<(usize, f64)> {
        let excluded = |r: usize| if self.upper[r] < 0.0 { 1.0 } else { -f64::from(self.lower[r] > 0.0) };
        let empty = self.contrasts().filter(|&r| self.reach[r] == 0.0);
        empty.map(|r| (r, excluded(r))).find(|(_, sign)| *sign != 0.0)
    }

    /// The rows that belong to no spread.
    pub(crate) fn contrasts(&self) -> std::ops::Range<usize> {
        self.blocks.last().map_or(0, |block| block.end)..self.m
    }

    /// Makes the multipliers of every difference spread, `large + small`, sum to zero: the row that moves its cells the
    /// least pays.
    pub(crate) fn balance(&self, large: &mut [f64], small: &mut [f64]) {
        for block in self.blocks.iter().filter(|block| !block.is_ratio()) {
            let mut sum = TwoSum::default();
            for r in block.rows() {
                sum.add_product(1.0, (large[r], small[r]));
            }
            let held = block.rows().filter(|&r| large[r] != 0.0);
            if let Some(payer) = held.min_by(|&a, &b| self.reach[a].total_cmp(&self.reach[b])) {
                let mut paid = TwoSum::default();
                paid.add_product(1.0, (large[payer], small[payer]));
                paid.add(-sum.value());
                (large[payer], small[payer]) = paid.parts();
            }
        }
    }

    /// The most that the terms can be that any shift is summed from.
    pub(crate) fn largest_shift_size(&self, multipliers: &[f64]) -> f64 {
        self.reach.iter().zip(multipliers).map(|(reach, nu)| reach * nu.abs()).sum()
    }

    /// The same for multipliers that are single numbers.
    pub(crate) fn balance_plainly(&self, multipliers: &mut [f64]) {
        for block in self.blocks.iter().filter(|block| !block.is_ratio()) {
            let sum: f64 = block.rows().map(|r| multipliers[r]).sum();
            let held = block.rows().filter(|&r| multipliers[r] != 0.0);
            if let Some(payer) = held.min_by(|&a, &b| self.reach[a].total_cmp(&self.reach[b])) {
                multipliers[payer] -= sum;
            }
        }
    }

    /// How large the terms are that the shift of a cell is summed from: what its rounding errors are relative to.
    pub(crate) fn shift_size(&self, multipliers: &[f64], cell: usize) -> f64 {
        let term = |r: usize| match self.row(r)[cell] {
            0.0 => 0.0,
            coefficient if self.by_sample => (coefficient * multipliers[r]).abs(),
            _ => (self.rough[r] * multipliers[r]).abs(),
        };
        (0..self.m).map(term).sum()
    }

    /// `means = matrix * sums`, one for each row.
    pub(crate) fn means(&self, sums: &[f64], means: &mut [f64]) {
        for (r, mean) in means.iter_mut().enumerate().take(self.m) {
            *mean = dot(self.row(r), sums);
        }
    }

    /// `shift = matrix^T * multipliers`, one for each cell.
    pub(crate) fn shifts(&self, multipliers: &[f64], shift: &mut [f64]) {
        combine(&self.matrix, &multipliers[..self.m], &mut shift[..self.cells]);
    }

    /// The shifts of multipliers `large + small`, rounded only at the end: what cancels between the rows leaves no error.
    pub(crate) fn exact_shifts(&self, large: &[f64], small: &[f64], shift: &mut [f64]) {
        self.part_of_shifts((large, small), self.may_cancel(large), 0, shift);
    }

    /// Whether the shifts of these multipliers have to be summed to twice the digits.
    pub(crate) fn may_cancel(&self, large: &[f64]) -> bool {
        4.0 * f64::EPSILON * self.largest_shift_size(large) > HARMLESS
    }

    /// The same of the cells from `start` on, where it is known whether they [`may_cancel`](Self::may_cancel).
    pub(crate) fn part_of_shifts(
        &self,
        (large, small): (&[f64], &[f64]),
        may_cancel: bool,
        start: usize,
        shift: &mut [f64],
    ) {
        if !may_cancel {
            return combine_part(&self.matrix, (self.cells, start), &large[..self.m.min(large.len())], shift);
        }
        for (c, shift) in (start..).zip(shift) {
            let mut sum = TwoSum::default();
            for r in 0..self.m {
                let factor = self.matrix[r * self.cells + c];
                if factor != 0.0 && large[r] != 0.0 {
                    sum.add_product(factor, (large[r], small[r]));
                }
            }
            *shift = sum.value();
        }
    }

    /// The rows' bounds moved inward by `margin` a mean row, so that a solution's rounding stays within the true ones.
    /// A row without that much room collapses to its middle. Ratios are not tightened: near 0 they have no room.
    pub(crate) fn tighten(&self, margin: f64, lower: &mut [f64], upper: &mut [f64]) {
        for r in 0..self.m {
            let inward = match self.block_of[r] {
                NO_BLOCK => margin,
                block if self.blocks[block].is_ratio() => 0.0,
                _ => margin / 2.0,
            };
            (lower[r], upper[r]) = (self.lower[r] + inward, self.upper[r] - inward);
            if lower[r] > upper[r] {
                let middle = self.lower[r] / 2.0 + self.upper[r] / 2.0;
                (lower[r], upper[r]) = (middle, middle);
            }
        }
    }

    /// Whether the rows together may allow a single point only: equalities do, and one-sided contrasts can.
    pub(crate) fn may_lack_room(&self) -> bool {
        let narrow = |r: usize| !(self.upper[r] - self.lower[r] > 0.0 && self.upper[r] - self.lower[r] < f64::INFINITY);
        self.relaxed > 0.0 || self.blocks.iter().any(Block::is_equality) || self.contrasts().any(narrow)
    }

    /// Four times what rounding the stored values may move a row by at the worst: a mean of values of this size, two means
    /// of a spread.
    pub(crate) fn rounding(&self, unit_roundoff: f64, sums: &CellSums) -> f64 {
        let mut worst = 0.0_f64;
        for r in 0..self.m {
            let size = if self.by_sample { sums.of_rows.sizes[r] } else { dot_abs(self.row(r), &sums.size) };
            worst = worst.max(size * if self.block_of[r] == NO_BLOCK { 4.0 } else { 8.0 });
        }
        worst * unit_roundoff
    }

    /// The worst of violation and complementarity, in units of the predictions. A multiplier counts as zero if it moves no
    /// cell by more than `tolerance`; one of a spread, if it would not even in the spread's lightest union, for what holds
    /// one union from below holds others from above.
    pub(crate) fn residual(
        &self,
        lower: &[f64],
        upper: &[f64],
        means: &[f64],
        multipliers: &[f64],
        tolerance: f64,
    ) -> f64 {
        let mut residual = 0.0_f64;
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        if !finite(&means[..self.m]) || !finite(&multipliers[..self.m]) {
            return f64::INFINITY;
        }
        let side = |r: usize, reach: f64| {
            let moved = multipliers[r] * reach;
            if moved > tolerance { 1 } else { -i32::from(moved < -tolerance) }
        };
        for block in &self.blocks {
            // The centre must lie above all of `least` and below all of `most`.
            let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
            let (widest, narrowest) = block.rows().fold((0.0_f64, f64::INFINITY), |(widest, narrowest), r| {
                (widest.max(self.reach[r]), narrowest.min(self.reach[r]))
            });
            for r in block.rows() {
                let from_above = (means[r] - upper[r]) / block.centre_coefficient(1.0);
                let from_below = (means[r] - lower[r]) / block.centre_coefficient(-1.0);
                let side = side(r, widest);
                least = least.max(if side < 0 { from_below } else { from_above });
                most = most.min(if side > 0 { from_above } else { from_below });
            }
            residual = residual.max(least - most);
            if block.is_ratio() {
                // A line search may leave the cone's boundary; differences keep their sum of zero. The shift that would
                // mend it is that of the heaviest union.
                residual = residual.max(block.balance(multipliers).0.abs() * narrowest);
            }
        }
        for r in self.contrasts() {
            let side = side(r, self.reach[r]);
            residual = residual.max(means[r] - if side < 0 { lower[r] } else { upper[r] });
            residual = residual.max(if side > 0 { upper[r] } else { lower[r] } - means[r]);
        }
        residual
    }

    /// Whether the rows' own bounds are kept: equalities, which have no room, to what `rounding` may move a row.
    pub(crate) fn are_met(&self, means: &[f64], rounding: f64) -> bool {
        self.excesses(means).all(|(equality, excess)| excess <= if equality { rounding } else { 0.0 })
    }

    /// The excess as it is reported: 0 below what the measurement itself rounds.
    pub(crate) fn measured_excess(&self, means: &[f64]) -> f64 {
        // (All bounds were relaxed alike.)
        let excess = self.excess(means) + self.relaxed;
        let largest = means.iter().fold(0.0_f64, |most, mean| most.max(mean.abs()));
        if excess > 4.0 * f64::EPSILON * largest { excess } else { 0.0 }
    }

    /// By how much the worst row exceeds its own bound, as it is relaxed, in units of the predictions; of a ratio spread
    /// `ratio * max - min`. Not above 0 if none does.
    pub(crate) fn excess(&self, means: &[f64]) -> f64 {
        // (Of values too large for their type a mean may be no number.)
        let worse = |worst: f64, excess: f64| if excess.is_nan() { f64::INFINITY } else { worst.max(excess) };
        self.excesses(means).fold(f64::NEG_INFINITY, |worst, (_, excess)| worse(worst, excess))
    }

    /// The same of every spread and every other row, each with whether it is an equality.
    fn excesses(&self, means: &[f64]) -> impl Iterator<Item = (bool, f64)> {
        let of_blocks = self.blocks.iter().map(move |block| {
            let of_block = &means[block.rows()];
            let top = of_block.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let bottom = of_block.iter().copied().fold(f64::INFINITY, f64::min);
            let excess = match block.limit {
                SpreadLimit::Difference(epsilon) => (top - bottom) - (epsilon + self.relaxed),
                SpreadLimit::Ratio(ratio) => (ratio * top - bottom) - self.relaxed,
            };
            (self.is_equality(block.first), excess)
        });
        let excess = move |r: usize| (means[r] - self.upper[r]).max(self.lower[r] - means[r]);
        of_blocks.chain(self.contrasts().map(move |r| (self.is_equality(r), excess(r))))
    }
}
