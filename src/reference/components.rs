//! Rows that share no cell, directly or through others, are problems of their own: each stops when it is solved.
//!
//! Strata, and groups that are each held to a target, fall apart like this. Which rows belong together follows from the
//! constraint set alone.

use crate::cells::CellMask;
use crate::constraints::ConstraintSet;

/// Rows that hang together, and the cells they are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Component {
    /// Indices of spreads, each with the number of its first row in the constraint set.
    pub(crate) spreads: Vec<(usize, usize)>,
    /// Indices of contrasts, each with the number of its row.
    pub(crate) contrasts: Vec<(usize, usize)>,
    /// The cells, in rising order; solvers number them from 0.
    pub(crate) cells: Vec<usize>,
    /// How many rows it has: the unions of its spreads, then its contrasts.
    pub(crate) rows: usize,
    /// `[rows, cells]`: 1 where the row's first (or only) mean is over the cell, else 0.
    plus: Vec<f64>,
    /// The same of the second mean.
    minus: Vec<f64>,
}

impl Component {
    /// Which cells the first mean of a row is over, and which the second. Rows are numbered from 0.
    pub(crate) fn sides(&self, row: usize) -> (&[f64], &[f64]) {
        let range = row * self.cells.len()..(row + 1) * self.cells.len();
        (&self.plus[range.clone()], &self.minus[range])
    }

    /// All rows of the set over samples, up to so many: each sample is a cell of its own. (The sides are not known.)
    pub(crate) fn of_samples(set: &ConstraintSet, samples: usize) -> Self {
        Self { rows: set.rows(), ..Self::whole(set, (0..samples).collect()) }
    }

    /// All spreads and contrasts of the set together, over all cells of its layout.
    pub(crate) fn of_cells(set: &ConstraintSet) -> Self {
        let mut whole = Self::whole(set, (0..set.layout().cells()).collect());
        whole.fill_sides(set);
        whole
    }

    fn whole(set: &ConstraintSet, cells: Vec<usize>) -> Self {
        let mut row = 0;
        let mut next = |rows: usize| {
            row += rows;
            row - rows
        };
        let spreads = set.spreads().iter().map(|spread| next(spread.unions.len())).enumerate().collect();
        let contrasts = set.contrasts().iter().map(|_| next(1)).enumerate().collect();
        Self { spreads, contrasts, cells, rows: row, ..Self::default() }
    }

    fn fill_sides(&mut self, set: &ConstraintSet) {
        let unions = self.spreads.iter().flat_map(|&(spread, _)| &set.spreads()[spread].unions);
        let contrasts = self.contrasts.iter().map(|&(contrast, _)| &set.contrasts()[contrast]);
        let rows = unions.map(|union| (union.cells, CellMask::EMPTY));
        for (plus, minus) in rows.chain(contrasts.map(|contrast| (contrast.plus.cells, contrast.minus))) {
            let indicator = |mask: CellMask| self.cells.iter().map(move |&cell| f64::from(mask.contains(cell)));
            self.plus.extend(indicator(plus));
            self.minus.extend(indicator(minus));
        }
    }

    /// Copies the values of the component's cells out of an array over all cells; of samples, of as many as `local` has.
    pub(crate) fn gather(&self, global: &[f64], local: &mut [f64]) {
        let count = local.len();
        // They rise: if the last is at its own place, all are.
        if self.cells.get(count.wrapping_sub(1)).is_some_and(|last| last + 1 == count) {
            return local.copy_from_slice(&global[..count]);
        }
        self.cells.iter().zip(local).for_each(|(&cell, value)| *value = global[cell]);
    }

    /// Copies the values of the component's cells into an array over all cells.
    pub(crate) fn scatter(&self, local: &[f64], global: &mut [f64]) {
        self.cells.iter().zip(local).for_each(|(&cell, value)| global[cell] = *value);
    }
}

/// Takes the constraint set apart.
pub(crate) fn components(set: &ConstraintSet) -> Vec<Component> {
    let spread_cells = set.spreads().iter().map(|spread| {
        let unions = spread.unions.iter();
        (unions.fold(CellMask::EMPTY, |all, union| all.or(&union.cells)), spread.unions.len())
    });
    let contrast_cells = set.contrasts().iter().map(|contrast| (contrast.plus.cells.or(&contrast.minus), 1));
    let spreads = set.spreads().len();
    let mut parts: Vec<(CellMask, Component)> = Vec::new();
    let mut row = 0;
    for (index, (mask, rows)) in spread_cells.chain(contrast_cells).enumerate() {
        let mut joined = (mask, Component::default());
        for (other_mask, other) in parts.extract_if(.., |(other, _)| !other.and(&mask).is_empty()) {
            joined.0 = joined.0.or(&other_mask);
            joined.1.spreads.extend(other.spreads);
            joined.1.contrasts.extend(other.contrasts);
            joined.1.rows += other.rows;
        }
        match index.checked_sub(spreads) {
            None => joined.1.spreads.push((index, row)),
            Some(contrast) => joined.1.contrasts.push((contrast, row)),
        }
        joined.1.rows += rows;
        row += rows;
        parts.push(joined);
    }
    let finish = |(mask, mut part): (CellMask, Component)| {
        part.cells = mask.iter().collect();
        part.spreads.sort_unstable();
        part.contrasts.sort_unstable();
        part.fill_sides(set);
        part
    };
    parts.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Criterion, DemographicParity, EqualizedOdds, MeanResidual, Parity, Population, SensitiveFeature};

    #[test]
    fn strata_and_targets_fall_apart_and_overlaps_do_not() {
        let people = Population::of_features([SensitiveFeature::new("sex", 2), SensitiveFeature::new("age", 3)]);
        let count =
            |criterion: &dyn Criterion, people: &Population| components(&criterion.constraints(people).unwrap()).len();
        assert_eq!(count(&DemographicParity::within(0.1), &people), 1);
        assert_eq!(count(&EqualizedOdds::within(0.1), &people), 2);
        assert_eq!(count(&EqualizedOdds(Parity::Overall { epsilon: 0.1 }), &Population::one_feature(4)), 2);
        assert_eq!(count(&MeanResidual::within(0.1), &Population::one_feature(5)), 5);
        let parts = components(&EqualizedOdds::within(0.1).constraints(&people).unwrap());
        assert_eq!(parts[1].cells, [1, 3, 5, 7, 9, 11]);
        assert_eq!(parts[1].spreads, [(2, 5), (3, 7)]);
        assert_eq!(parts.iter().map(|part| part.rows).sum::<usize>(), 10);
    }
}
