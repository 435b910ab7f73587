//! A point of the dual: multipliers, and what a pass over the data finds there.

use super::components::Component;
use super::row_sums::RowSums;
use super::rows::Rows;
use super::sums::largest_ratio;

/// Per-cell sums of one pass, over weights that sum to 1.
#[derive(Clone, Debug)]
pub(crate) struct CellSums {
    /// Sum of w y, y as it would be stored.
    pub(crate) y: Vec<f64>,
    /// Sum of w |y|.
    pub(crate) size: Vec<f64>,
    /// Sum of w over free elements, `lo <= t <= hi`: the curvature.
    pub(crate) free: Vec<f64>,
    /// Sum of w |t - y|: how far the elements lie beyond their bounds.
    pub(crate) beyond: Vec<f64>,
    /// Of rows over single samples, what they make of these sums.
    pub(crate) of_rows: RowSums,
}

impl CellSums {
    pub(crate) fn new(cells: usize) -> Self {
        let zeros = || vec![0.0; cells];
        Self { y: zeros(), size: zeros(), free: zeros(), beyond: zeros(), of_rows: RowSums::default() }
    }

    /// Room for sums of rows, too.
    pub(crate) fn with_rows(self, m: usize) -> Self {
        Self { of_rows: RowSums::new(m), ..self }
    }

    /// How far the elements of a cell lie beyond their bounds at the most, on average over it.
    pub(crate) fn farthest(&self, rows: &Rows, weight: &[f64]) -> f64 {
        if rows.by_sample { self.of_rows.farthest } else { largest_ratio(&self.beyond, weight) }
    }

    /// Changes the number of cells, within what there was room for.
    pub(crate) fn resize(&mut self, cells: usize) {
        self.arrays().into_iter().for_each(|array| array.resize(cells, 0.0));
    }

    pub(crate) fn arrays(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.y, &mut self.size, &mut self.free, &mut self.beyond]
    }
}

/// A point of the dual of one component.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// `[m]`: the multipliers.
    pub(crate) nu: Vec<f64>,
    /// `[m]`: what `nu` lacks of them. Where they are large and cancel, `nu` alone does not say where the elements are.
    pub(crate) rest: Vec<f64>,
    /// `[m]`: the rows' means.
    pub(crate) means: Vec<f64>,
    /// The sums that gave them.
    pub(crate) sums: CellSums,
}

impl Point {
    pub(crate) fn new(m: usize, cells: usize) -> Self {
        let sums = CellSums::new(cells).with_rows(m);
        Self { nu: vec![0.0; m], rest: vec![0.0; m], means: vec![0.0; m], sums }
    }

    /// Takes the sums of a pass, over all cells.
    pub(crate) fn take(&mut self, component: &Component, rows: &Rows, all: &CellSums) {
        if rows.by_sample {
            self.sums.free.copy_from_slice(&all.free);
            self.sums.beyond.copy_from_slice(&all.beyond);
            self.sums.of_rows.copy_from(&all.of_rows);
            return self.means[..rows.m].copy_from_slice(&all.of_rows.means[..rows.m]);
        }
        for (all, own) in [&all.y, &all.size, &all.free, &all.beyond].into_iter().zip(self.sums.arrays()) {
            component.gather(all, own);
        }
        rows.means(&self.sums.y, &mut self.means);
    }

    /// The shifts of the cells. (Those of single samples are found in the pass.)
    pub(crate) fn shifts(&self, rows: &Rows, shift: &mut [f64]) {
        if !rows.by_sample {
            rows.exact_shifts(&self.nu, &self.rest, shift);
        }
    }

    /// Makes the multipliers of every difference spread sum to zero.
    pub(crate) fn balance(&mut self, rows: &Rows) {
        rows.balance(&mut self.nu, &mut self.rest);
    }
}
