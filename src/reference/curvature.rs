//! The curvature of the dual in the rows' multipliers, floored where it would look flat.

use super::cells_prepare::CellTotals;
use super::point::CellSums;
use super::rows::Rows;
use super::sums::dot_weighted;

/// A cell with this part of its weight free needs no floor.
const PLENTY: f64 = 0.25;
/// Added to the diagonal, relative to a row with all its elements free: every system is quasi-definite.
const PROX: f64 = 1e-9;
/// The least of it. Rows that differ by a millionth leave curvatures of 1e-12, which more would drown.
const LEAST_PROX: f64 = 1e-14;

/// The floor of a cell's free weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) factor: f64,
    /// Whether it applies to cells with plenty of free weight too.
    pub(crate) everywhere: bool,
}

/// The matrix of the Newton model.
#[derive(Clone, Debug)]
pub(crate) struct Curvature {
    /// `[m, m]`.
    pub(crate) h: Vec<f64>,
    /// `[cells]`: the free weights, floored.
    cells: Vec<f64>,
    /// Whether they may differ from the free weights.
    floored: bool,
    prox: f64,
}

impl Curvature {
    pub(crate) fn new(m: usize, cells: usize) -> Self {
        Self { h: vec![0.0; m * m], cells: vec![0.0; cells], floored: false, prox: PROX }
    }

    /// Changes the number of cells, within what there was room for.
    pub(crate) fn resize(&mut self, cells: usize) {
        self.cells.resize(cells, 0.0);
    }

    /// Forgets what [`stiffen`](Self::stiffen) added.
    pub(crate) fn reset(&mut self) {
        self.prox = PROX;
    }

    /// After a step that led nowhere: if it was a whole one, what is added may be more than a flat direction has, and becomes
    /// less; if it was cut short, more.
    pub(crate) fn adapt(&mut self, whole: bool) {
        self.prox = if whole { (0.1 * self.prox).max(LEAST_PROX) } else { self.prox.max((10.0 * self.prox).min(PROX)) };
    }

    /// For a system that was not solved: adds more to the diagonal. False if that is no help any more.
    pub(crate) fn stiffen(&mut self) -> bool {
        self.prox *= 100.0;
        self.prox <= 1.0
    }

    /// Fills `h` at these sums, where the residual is `error`. The free weight of a cell is floored while its elements lie
    /// beyond their bounds, so that a cell without a free element does not look flat.
    pub(crate) fn fill(&mut self, rows: &Rows, totals: &CellTotals, sums: &CellSums, error: f64, floor: Floor) {
        if rows.by_sample && !floor.everywhere {
            // A sample is free or not. What may look flat is a row.
            self.floored = false;
            let m = rows.m;
            for r in 0..m {
                for q in 0..=r {
                    let value = sums.of_rows.curvature[r * m + q];
                    (self.h[r * m + q], self.h[q * m + r]) = (value, value);
                }
                self.h[r * m + r] += self.prox * rows.scale[r];
            }
            if (0..m).all(|r| self.h[r * m + r] >= PLENTY * rows.scale[r]) {
                return;
            }
        }
        self.floored = true;
        for (c, curvature) in self.cells.iter_mut().enumerate() {
            let weight = totals.weight[c];
            let distance = sums.beyond[c] / weight.max(1e-300);
            let least = floor.factor * weight * error / (error + distance);
            let plenty = !floor.everywhere && sums.free[c] >= PLENTY * weight;
            *curvature = if plenty { sums.free[c] } else { sums.free[c].max(least) };
        }
        self.fill_from_cells(rows);
    }

    fn fill_from_cells(&mut self, rows: &Rows) {
        let m = rows.m;
        for r in 0..m {
            for q in 0..=r {
                let value = dot_weighted(rows.row(r), rows.row(q), &self.cells);
                self.h[r * m + q] = value;
                self.h[q * m + r] = value;
            }
            self.h[r * m + r] += self.prox * rows.scale[r];
        }
    }

    /// Whether any cell may be steeper here than it is.
    pub(crate) fn may_be_floored(&self) -> bool {
        self.floored
    }

    /// Whether a cell that moves is steeper here than it is. Where nothing lies beyond the bounds the floor is the free
    /// weight but for rounding.
    pub(crate) fn is_floored(&self, free: &[f64], shift: &[f64]) -> bool {
        let floored = |((curvature, free), shift): ((&f64, &f64), &f64)| *curvature > 1.000_001 * free && *shift != 0.0;
        self.floored && self.cells.iter().zip(free).zip(shift).any(floored)
    }
}
