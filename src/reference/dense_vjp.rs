//! `dense_vjp`: the gradient of a scalar function of `y` to every input of the projection onto dense rows, and onto spreads
//! and contrasts beside them.
//!
//! The small system is that of `cells_vjp`, with every sample as its own cell. With `v = dL/dz` and `nu`, `lambda` of
//! unscaled rows: `dL/dA = -lambda y^T - nu (W^-1 v)^T`; and `dL/dw_i` is what the means say of their weights, and
//! `v_i sum_r nu_r a_ri / w_i^2` of the dense rows.

use super::cells_vjp::{self, CellTerms, ElementGradients, RowGradients, VjpPart, VjpSums};
use super::dense_newton::Dense;
use super::sums::vectorised;
use crate::batch::Problem;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::solution::{CLAMP_LANES, ClampState, clamp_state};
use crate::storage::Storage;

/// Scratch of the backward pass.
#[derive(Clone, Debug)]
pub(crate) struct DenseVjp {
    part: VjpPart,
    sums: VjpSums,
    value_of_cells: Vec<f64>,
    terms: CellTerms,
}

/// What the forward pass left of one problem.
pub(crate) struct Answer<'a, T> {
    pub(crate) y: &'a [T],
    pub(crate) clamp: &'a [u32],
    /// The multipliers of all rows of the set.
    pub(crate) nu: &'a [f64],
}

impl DenseVjp {
    pub(crate) fn new<T: Storage>(set: &ConstraintSet, dense: &Dense<T>, largest: usize) -> Self {
        let cells = set.layout().cells();
        Self {
            part: VjpPart::new(&dense.component),
            sums: VjpSums::new(largest),
            value_of_cells: vec![0.0; cells],
            terms: CellTerms::new(cells),
        }
    }

    /// Writes all gradients of a problem that `dense` has taken up. The arrays of `out` hold zeros.
    pub(crate) fn solve<T: Storage>(
        &mut self,
        set: &ConstraintSet,
        problem: &Problem<'_, T>,
        dense: &Dense<T>,
        answer: &Answer<'_, T>,
        g: &[T],
        (rows_out, out, coefficients): (&mut RowGradients<'_>, &mut ElementGradients<'_, T>, &mut [T]),
    ) {
        let n = problem.z.len();
        let total = dense.totals.total;
        let state = |i: usize| clamp_state(answer.clamp[i / CLAMP_LANES], i % CLAMP_LANES);
        self.resize(n);
        let weight = &dense.totals.weight[..n];
        let wants_values = !coefficients.is_empty() || !out.weights.is_empty() || !out.labels.is_empty();
        if wants_values || set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_))) {
            let values = self.sums.value.iter_mut().zip(weight).zip(answer.y);
            values.for_each(|((value, weight), y)| *value = weight * y.to_f64());
        }
        let VjpSums { free, gradient, .. } = &mut self.sums;
        vectorised(
            #[inline(always)]
            |_| {
                let lanes = free.chunks_mut(CLAMP_LANES).zip(gradient.chunks_mut(CLAMP_LANES));
                let given = weight.chunks(CLAMP_LANES).zip(g.chunks(CLAMP_LANES)).zip(answer.clamp);
                for ((free, gradient), ((weight, g), clamp)) in lanes.zip(given) {
                    for lane in 0..free.len() {
                        let is_free = (clamp >> lane) & 1 == 0;
                        free[lane] = if is_free { weight[lane] } else { 0.0 };
                        gradient[lane] = if is_free { g[lane].to_f64() } else { 0.0 };
                    }
                }
            },
        );
        let part = &mut self.part;
        cells_vjp::solve_rows(&dense.component, &dense.rows, (answer.nu, total), &self.sums, part, rows_out);
        // What an element would pass on were it alone.
        let pull = &part.pull()[..n];
        let value = |i: usize| T::from_f64(g[i].to_f64() - weight[i] * pull[i]);
        let (free, predictions) = (&self.sums.free[..n], &mut out.predictions[..n]);
        vectorised(
            #[inline(always)]
            |_| {
                for i in 0..n {
                    predictions[i] = if free[i] > 0.0 { value(i) } else { T::default() };
                }
            },
        );
        if !out.lo.is_empty() {
            for i in 0..n {
                let when = |wanted: ClampState| if state(i) == wanted { value(i) } else { T::default() };
                (out.lo[i], out.hi[i]) = (when(ClampState::AtLower), when(ClampState::AtUpper));
            }
        }
        if !coefficients.is_empty() {
            self.write_coefficients(set, dense, answer, coefficients);
        }
        if !out.weights.is_empty() || !out.labels.is_empty() {
            self.write_weights_and_labels(set, problem, dense, answer, out);
        }
    }

    fn resize(&mut self, n: usize) {
        self.sums.resize(n);
        self.part.resize(n);
    }

    /// `dL/dz` of a sample.
    fn moved<T: Storage>(&self, dense: &Dense<T>, i: usize) -> f64 {
        let w = dense.totals.weight[i];
        if self.sums.free[i] > 0.0 { self.sums.gradient[i] - w * self.part.pull()[i] } else { 0.0 }
    }

    fn write_coefficients<T: Storage>(
        &self,
        set: &ConstraintSet,
        dense: &Dense<T>,
        answer: &Answer<'_, T>,
        out: &mut [T],
    ) {
        let n = dense.totals.weight.len();
        let first = set.rows() - set.dense().len();
        for (r, &source) in dense.rows.source.iter().enumerate().filter(|(_, source)| **source >= first) {
            let lambda = self.part.lambda()[r] * dense.rows.unit[r];
            let nu = answer.nu[source] / dense.totals.total;
            let row = &mut out[(source - first) * n..(source - first + 1) * n];
            for (i, out) in row.iter_mut().enumerate() {
                let v = self.moved(dense, i) / dense.totals.weight[i];
                *out = T::from_f64(-lambda * answer.y[i].to_f64() - nu * v);
            }
        }
    }

    fn write_weights_and_labels<T: Storage>(
        &mut self,
        set: &ConstraintSet,
        problem: &Problem<'_, T>,
        dense: &Dense<T>,
        answer: &Answer<'_, T>,
        out: &mut ElementGradients<'_, T>,
    ) {
        let n = problem.z.len();
        let total = dense.totals.total;
        self.value_of_cells.fill(0.0);
        self.terms.clear(true);
        for i in 0..n {
            let cell = usize::from(dense.cells[i]);
            self.value_of_cells[cell] += self.sums.value[i];
            let moved = self.moved(dense, i);
            self.terms.add_moved(cell, moved);
        }
        let lambda = |source: usize| {
            let row = dense.rows.source.iter().position(|row| *row == source);
            row.map(|row| self.part.lambda()[row])
        };
        let of_rows = (answer.nu, &lambda as &dyn Fn(usize) -> Option<f64>);
        let (totals, value) = (&dense.of_cells, &self.value_of_cells);
        cells_vjp::add_weight_and_label_terms(set, &dense.over_cells, totals, value, of_rows, &mut self.terms);
        let cells = &dense.cells[..n];
        cells_vjp::write_weights_and_labels(problem, (cells, answer.y, total), &self.terms, out);
        if out.weights.is_empty() {
            return;
        }
        let first = set.rows() - set.dense().len();
        for (r, &source) in dense.rows.source.iter().enumerate().filter(|(_, source)| **source >= first) {
            let nu = answer.nu[source] / (total * dense.rows.unit[r]);
            for i in 0..n {
                // The row holds coefficients per unit of weight.
                let term = self.moved(dense, i) * nu * dense.rows.row(r)[i] / (dense.totals.weight[i] * total);
                out.weights[i] = T::from_f64(out.weights[i].to_f64() + term);
            }
        }
    }
}
