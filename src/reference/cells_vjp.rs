//! `cells_vjp`: the gradient of a scalar function of `y` to every input of the projection onto spreads and contrasts.
//!
//! With F the free elements, S the rows that are held and `g = dL/dy`: `lambda = pinv(A_S P_F W^-1 A_S^T) A_S P_F W^-1 g`
//! (the multipliers of a spread balanced), and `dL/dz = P_F (g - A_S^T lambda)`.

use super::cells_prepare::CellTotals;
use super::linear::{ldl_factor, ldl_solve_refined, pseudo_solve};
use super::rows::{NO_BLOCK, Rows};
use crate::batch::{Problem, RealSlice};
use crate::cells::CellMask;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::solution::{CLAMP_LANES, ClampState, clamp_state};
use crate::storage::Storage;

/// Eigenvalues up to this part of the largest count as zero.
const RANK_CUT: f64 = 1e-9;

/// Per-cell sums of the backward pass, over weights that sum to 1.
#[derive(Clone, Debug)]
pub(crate) struct VjpSums {
    /// Sum of w over free elements.
    pub(crate) free: Vec<f64>,
    /// Sum of g over free elements.
    pub(crate) gradient: Vec<f64>,
}

/// Scratch and results of the backward solve.
#[derive(Clone, Debug)]
pub(crate) struct VjpScratch {
    pub(crate) sums: VjpSums,
    /// `[m]`: the gradient to the tight side of each live row.
    lambda: Vec<f64>,
    /// `[blocks]`: what the balance of a block adds (only a ratio's gradient needs it).
    border: Vec<f64>,
    /// `[cells]`: `A^T lambda` of a cell's elements, per unit of weight.
    pub(crate) pull: Vec<f64>,
    held: Vec<usize>,
    jacobi: Vec<f64>,
    system: Vec<f64>,
    work: Vec<f64>,
    vectors: Vec<f64>,
    rhs: Vec<f64>,
    x: Vec<f64>,
    residual: Vec<f64>,
    unit: Vec<f64>,
    /// `[cells]`: sums of w y, where a gradient needs them.
    value: Vec<f64>,
    weight_terms: Vec<WeightTerms>,
}

impl VjpScratch {
    pub(crate) fn new(set: &ConstraintSet) -> Self {
        let (m, cells) = (set.rows(), set.layout().cells());
        let (rows, square, of_cells) = (|| vec![0.0; m], || vec![0.0; m * m], || vec![0.0; cells]);
        Self {
            sums: VjpSums { free: of_cells(), gradient: of_cells() },
            lambda: rows(),
            border: vec![0.0; set.spreads().len()],
            pull: of_cells(),
            held: Vec::with_capacity(m),
            jacobi: rows(),
            system: square(),
            work: square(),
            vectors: square(),
            rhs: rows(),
            x: rows(),
            residual: rows(),
            unit: rows(),
            value: of_cells(),
            weight_terms: vec![WeightTerms::default(); cells],
        }
    }
}

/// The rows' gradients of one problem, in the order of the constraint set.
pub(crate) struct RowGradients<'a> {
    pub(crate) levels: &'a mut [f64],
    pub(crate) lower: &'a mut [f64],
    pub(crate) upper: &'a mut [f64],
}

/// The elements' gradients of one problem; empty slices where they are not wanted.
pub(crate) struct ElementGradients<'a, T> {
    pub(crate) predictions: &'a mut [T],
    pub(crate) lo: &'a mut [T],
    pub(crate) hi: &'a mut [T],
    pub(crate) weights: &'a mut [T],
    pub(crate) labels: &'a mut [T],
}

impl<T: Storage> ElementGradients<'_, T> {
    pub(crate) fn fill_zero(&mut self) {
        for array in [&mut *self.predictions, self.lo, self.hi, self.weights, self.labels] {
            array.fill(T::default());
        }
    }
}

/// The plain first pass: sums over free elements.
pub(crate) fn sum<T: Storage>(
    problem: &Problem<'_, T>,
    cells: &[u8],
    clamp: &[u32],
    g: &[T],
    total: f64,
    sums: &mut VjpSums,
) {
    sums.free.fill(0.0);
    sums.gradient.fill(0.0);
    for (i, &cell) in cells.iter().enumerate() {
        if clamp_state(clamp[i / CLAMP_LANES], i % CLAMP_LANES) == ClampState::Free {
            sums.free[usize::from(cell)] += problem.weights.map_or(1.0, |weights: RealSlice<'_>| weights.at(i));
            sums.gradient[usize::from(cell)] += g[i].to_f64();
        }
    }
    sums.free.iter_mut().for_each(|sum| *sum /= total);
}

/// Solves for lambda and writes the gradients of the rows. `nu` are the multipliers of all rows of the set.
pub(crate) fn solve(rows: &Rows, nu: &[f64], s: &mut VjpScratch, out: &mut RowGradients<'_>) {
    s.lambda[..rows.m].fill(0.0);
    s.border.fill(0.0);
    s.pull.fill(0.0);
    collect_held(rows, nu, s);
    if !s.held.is_empty() {
        solve_held(rows, nu, s);
        rows.shifts(&s.lambda[..rows.m], &mut s.pull);
    }
    write_row_gradients(rows, nu, s, out);
}

/// Rows with a multiplier, and every equality whatever its multiplier.
fn collect_held(rows: &Rows, nu: &[f64], s: &mut VjpScratch) {
    s.held.clear();
    for r in 0..rows.m {
        let equality = match rows.block_of[r] {
            NO_BLOCK => rows.lower[r] == rows.upper[r],
            block => matches!(rows.blocks[block].limit, SpreadLimit::Difference(epsilon) if epsilon == 0.0),
        };
        if nu[rows.source[r]] != 0.0 || equality {
            s.held.push(r);
        }
    }
}

fn solve_held(rows: &Rows, nu: &[f64], s: &mut VjpScratch) {
    let k = s.held.len();
    // One scale for all rows of a spread: minimum norm then means the same for every one of them.
    for (i, &r) in s.held.iter().enumerate() {
        let scale = match rows.block_of[r] {
            NO_BLOCK => rows.scale[r],
            block => rows.blocks[block].rows().map(|q| rows.scale[q]).fold(0.0, f64::max),
        };
        s.jacobi[i] = 1.0 / scale.sqrt();
    }
    for (i, &r) in s.held.iter().enumerate() {
        for (j, &q) in s.held.iter().enumerate().take(i + 1) {
            let product = rows.row(r).iter().zip(rows.row(q)).zip(&s.sums.free);
            let value = product.map(|((a, b), f)| a * b * f).sum::<f64>() * s.jacobi[i] * s.jacobi[j];
            s.system[i * k + j] = value;
            s.system[j * k + i] = value;
        }
        let dot: f64 = rows.row(r).iter().zip(&s.sums.gradient).map(|(b, g)| b * g).sum();
        s.rhs[i] = dot * s.jacobi[i];
    }
    // The balance of every block confines lambda to the complement of one direction a block: project onto it.
    s.work[..k * k].copy_from_slice(&s.system[..k * k]);
    s.x[..k].copy_from_slice(&s.rhs[..k]);
    let trace: f64 = (0..k).map(|i| s.system[i * k + i]).sum();
    let lift = if trace > 0.0 { trace / k as f64 } else { 1.0 };
    for block in 0..rows.blocks.len() {
        if set_unit(rows, nu, s, block) > 0.0 {
            project(&mut s.work, &mut s.x, &s.unit, k);
        }
    }
    s.rhs[..k].copy_from_slice(&s.x[..k]);
    // Lifting the confined directions makes the system regular where the rows are independent.
    s.vectors[..k * k].copy_from_slice(&s.work[..k * k]);
    for block in 0..rows.blocks.len() {
        if set_unit(rows, nu, s, block) > 0.0 {
            for i in 0..k {
                (0..k).for_each(|j| s.vectors[i * k + j] += lift * s.unit[i] * s.unit[j]);
            }
        }
    }
    let lifted = &s.vectors[..k * k];
    let factor = &mut s.system[..k * k];
    factor.copy_from_slice(lifted);
    ldl_factor(factor, k);
    let pivots = (0..k).map(|i| factor[i * k + i]);
    let (least, most) = pivots.fold((f64::INFINITY, 0.0_f64), |(lo, hi), pivot| (lo.min(pivot), hi.max(pivot)));
    if least > 1e-6 * most {
        ldl_solve_refined(lifted, factor, k, &s.rhs, &mut s.x[..k], &mut s.residual[..k]);
    } else {
        pseudo_solve(&mut s.work[..k * k], k, &s.rhs, RANK_CUT, &mut s.vectors, &mut s.x[..k]);
    }
    for (i, &r) in s.held.iter().enumerate() {
        s.lambda[r] = s.x[i] * s.jacobi[i];
    }
    write_border(rows, nu, s);
}

/// The unit vector of a block's balance over the held rows, scaled like the system; its length before, 0 if the block is
/// not held.
fn set_unit(rows: &Rows, nu: &[f64], s: &mut VjpScratch, block: usize) -> f64 {
    let k = s.held.len();
    let mut square = 0.0;
    for (i, &r) in s.held.iter().enumerate() {
        s.unit[i] = if rows.block_of[r] == block {
            rows.blocks[block].centre_coefficient(nu[rows.source[r]]) * s.jacobi[i]
        } else {
            0.0
        };
        square += s.unit[i] * s.unit[i];
    }
    let length = square.sqrt();
    if length > 0.0 {
        s.unit[..k].iter_mut().for_each(|u| *u /= length);
    }
    length
}

/// `a <- (I - u u^T) a (I - u u^T)`, `b <- (I - u u^T) b`.
fn project(a: &mut [f64], b: &mut [f64], u: &[f64], k: usize) {
    let remove = |vector: &mut [f64], stride: usize, at: usize| {
        let dot: f64 = (0..k).map(|j| u[j] * vector[at + j * stride]).sum();
        (0..k).for_each(|j| vector[at + j * stride] -= dot * u[j]);
    };
    (0..k).for_each(|i| remove(a, 1, i * k));
    (0..k).for_each(|i| remove(a, k, i));
    remove(b, 1, 0);
}

/// The border part of the bordered system's solution, for ratio blocks: `e . (A g - M lambda) / e . e`.
fn write_border(rows: &Rows, nu: &[f64], s: &mut VjpScratch) {
    for (index, block) in rows.blocks.iter().enumerate().filter(|(_, block)| block.is_ratio()) {
        let (mut dot, mut square) = (0.0, 0.0);
        for (i, &r) in s.held.iter().enumerate().filter(|(_, r)| rows.block_of[**r] == index) {
            let free: f64 = (0..rows.cells)
                .map(|c| {
                    let pull: f64 = s.held.iter().map(|&q| rows.row(q)[c] * s.lambda[q]).sum();
                    rows.row(r)[c] * (s.sums.gradient[c] - s.sums.free[c] * pull)
                })
                .sum();
            let e = block.centre_coefficient(nu[rows.source[r]]) * s.jacobi[i];
            dot += e * free * s.jacobi[i];
            square += e * e;
        }
        s.border[index] = if square > 0.0 { dot / square } else { 0.0 };
    }
}

fn write_row_gradients(rows: &Rows, nu: &[f64], s: &VjpScratch, out: &mut RowGradients<'_>) {
    for array in [&mut *out.levels, out.lower, out.upper] {
        array.fill(0.0);
    }
    let nu_of = |r: usize| nu[rows.source[r]];
    for (block, &border) in rows.blocks.iter().zip(&s.border) {
        out.levels[block.spread] = match block.limit {
            SpreadLimit::Difference(_) => {
                let held = block.rows().filter(|&r| nu_of(r) != 0.0);
                held.map(|r| 0.5 * nu_of(r).signum() * s.lambda[r]).sum()
            }
            SpreadLimit::Ratio(_) => {
                // Rows held from below have the mean ratio * centre, and the ratio is in their balance too.
                let top = block.rows().find(|&r| nu_of(r) > 0.0);
                let centre = top.map_or(0.0, |r| dot(rows.row(r), &s.value));
                let below = block.rows().filter(|&r| nu_of(r) < 0.0);
                below.map(|r| centre * s.lambda[r] + border * nu_of(r)).sum()
            }
        };
    }
    for r in (0..rows.m).filter(|&r| rows.block_of[r] == NO_BLOCK) {
        let side = if nu_of(r) < 0.0 { &mut *out.lower } else { &mut *out.upper };
        side[rows.source[r] - rows.first_contrast] = s.lambda[r];
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Per-cell sums of w y, which the gradients to weights and ratios need.
pub(crate) fn sum_values<T: Storage>(problem: &Problem<'_, T>, cells: &[u8], y: &[T], total: f64, s: &mut VjpScratch) {
    s.value.fill(0.0);
    for (i, &cell) in cells.iter().enumerate() {
        s.value[usize::from(cell)] += problem.weights.map_or(1.0, |weights| weights.at(i)) * y[i].to_f64();
    }
    s.value.iter_mut().for_each(|sum| *sum /= total);
}

/// The plain last pass: the gradients to predictions and bounds.
pub(crate) fn write<T: Storage>(
    problem: &Problem<'_, T>,
    cells: &[u8],
    clamp: &[u32],
    g: &[T],
    (total, pull): (f64, &[f64]),
    out: &mut ElementGradients<'_, T>,
) {
    for (i, &cell) in cells.iter().enumerate() {
        let w = problem.weights.map_or(1.0, |weights| weights.at(i)) / total;
        let value = T::from_f64(g[i].to_f64() - w * pull[usize::from(cell)]);
        let state = clamp_state(clamp[i / CLAMP_LANES], i % CLAMP_LANES);
        let when = |wanted: ClampState| if state == wanted { value } else { T::default() };
        out.predictions[i] = when(ClampState::Free);
        if !out.lo.is_empty() {
            out.lo[i] = when(ClampState::AtLower);
            out.hi[i] = when(ClampState::AtUpper);
        }
    }
}

/// The gradients to the sample weights, which stand in the distance and in the means alike. For each side U of a row,
/// of sign s and mass S: `s (-lambda (y - mean_U) / S + nu V / S^2)`, V the sum of dL/dz over U; `y - label` for y in
/// residual rows. Summed over the rows this is `constant_c - y slope_c + label label_slope_c` for a sample of cell c.
pub(crate) fn write_weights<T: Storage>(
    set: &ConstraintSet,
    problem: &Problem<'_, T>,
    (cells, y): (&[u8], &[T]),
    (rows, totals, nu): (&Rows, &CellTotals, &[f64]),
    s: &mut VjpScratch,
    weights: &mut [T],
) {
    let VjpScratch { sums, lambda, pull, value, weight_terms, .. } = s;
    for terms in weight_terms.iter_mut() {
        *terms = WeightTerms::default();
    }
    let mass_of = |mask: &CellMask, array: &[f64]| -> f64 { mask.iter().map(|c| array[c]).sum() };
    for r in 0..rows.m {
        let (sides, residual) = sides(set, rows.source[r]);
        let nu = nu[rows.source[r]] / totals.total;
        for (sign, mask) in sides.into_iter().flatten() {
            let mass = mass_of(&mask, &totals.weight);
            if mass <= 0.0 {
                continue;
            }
            let mut mean = mass_of(&mask, value) / mass;
            if residual {
                mean -= mass_of(&mask, &totals.label) / mass;
            }
            let moved: f64 = mask.iter().map(|c| sums.gradient[c] - sums.free[c] * pull[c]).sum();
            let slope = sign * lambda[r] / mass;
            for cell in mask.iter() {
                weight_terms[cell].constant += slope * mean + sign * nu * moved / (mass * mass);
                weight_terms[cell].slope += slope;
                weight_terms[cell].label_slope += if residual { slope } else { 0.0 };
            }
        }
    }
    for (i, &cell) in cells.iter().enumerate() {
        let terms = &weight_terms[usize::from(cell)];
        let label = problem.labels.map_or(0.0, |labels| labels.at(i));
        let gradient = terms.constant - y[i].to_f64() * terms.slope + label * terms.label_slope;
        weights[i] = T::from_f64(gradient / totals.total);
    }
}

/// Coefficients of a cell's weight gradients.
#[derive(Clone, Copy, Debug, Default)]
struct WeightTerms {
    constant: f64,
    slope: f64,
    label_slope: f64,
}

/// The signed sides of a row of the set, and whether it is about residuals.
fn sides(set: &ConstraintSet, row: usize) -> ([Option<(f64, CellMask)>; 2], bool) {
    let unions = set.spreads().iter().flat_map(|spread| &spread.unions);
    let spread_rows: usize = set.spreads().iter().map(|spread| spread.unions.len()).sum();
    if row < spread_rows {
        return ([unions.skip(row).next().map(|union| (1.0, union.cells)), None], false);
    }
    let contrast = &set.contrasts()[row - spread_rows];
    let minus = (!contrast.minus.is_empty()).then_some((-contrast.scale, contrast.minus));
    ([Some((1.0, contrast.plus.cells)), minus], contrast.residual)
}

/// The gradients to the labels, which move the bounds of residual rows.
pub(crate) fn write_labels<T: Storage>(
    set: &ConstraintSet,
    problem: &Problem<'_, T>,
    cells: &[u8],
    (rows, total): (&Rows, f64),
    s: &mut VjpScratch,
    labels: &mut [T],
) {
    let VjpScratch { lambda, value, .. } = s;
    value.fill(0.0);
    for r in 0..rows.m {
        if sides(set, rows.source[r]).1 {
            rows.row(r).iter().zip(value.iter_mut()).for_each(|(b, v)| *v += b * lambda[r]);
        }
    }
    for (i, &cell) in cells.iter().enumerate() {
        let w = problem.weights.map_or(1.0, |weights| weights.at(i)) / total;
        labels[i] = T::from_f64(w * value[usize::from(cell)]);
    }
}
