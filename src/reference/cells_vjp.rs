//! `cells_vjp`: the gradient of a scalar function of `y` to every input of the projection onto spreads and contrasts.
//!
//! With F the free elements, S the rows that are held and `g = dL/dy`: `lambda = pinv(A_S P_F W^-1 A_S^T) A_S P_F W^-1 g`
//! (the multipliers of a spread balanced), and `dL/dz = P_F (g - A_S^T lambda)`.

use super::cells_prepare::CellTotals;
use super::components::Component;
use super::linear::{ldl_factor, ldl_solve_refined, pseudo_solve};
use super::rows::{NO_BLOCK, Rows};
use super::sums::{dot, dot_weighted};
use crate::batch::Problem;
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
    /// Sum of w y, where a gradient needs it.
    pub(crate) value: Vec<f64>,
}

impl VjpSums {
    pub(crate) fn new(cells: usize) -> Self {
        Self { free: vec![0.0; cells], gradient: vec![0.0; cells], value: vec![0.0; cells] }
    }

    /// Changes the number of cells, within what there was room for.
    pub(crate) fn resize(&mut self, cells: usize) {
        [&mut self.free, &mut self.gradient, &mut self.value].into_iter().for_each(|array| array.resize(cells, 0.0));
    }
}

/// What the elements of a cell need to know for their gradients, `[cells]` each.
#[derive(Clone, Debug)]
pub(crate) struct CellTerms {
    /// `A^T lambda` per unit of weight.
    pub(crate) pull: Vec<f64>,
    /// The sum of dL/dz.
    moved: Vec<f64>,
    /// The pull of residual rows alone: the gradient to a label per unit of weight.
    label: Vec<f64>,
    /// The gradient to a weight is `constant - y slope + label label_slope`.
    weight: Vec<WeightTerms>,
}

/// Coefficients of a cell's weight gradients.
#[derive(Clone, Copy, Debug, Default)]
struct WeightTerms {
    constant: f64,
    slope: f64,
    label_slope: f64,
}

impl CellTerms {
    pub(crate) fn new(cells: usize) -> Self {
        Self {
            pull: vec![0.0; cells],
            moved: vec![0.0; cells],
            label: vec![0.0; cells],
            weight: vec![WeightTerms::default(); cells],
        }
    }

    /// Adds to the sum of dL/dz of a cell.
    pub(crate) fn add_moved(&mut self, cell: usize, moved: f64) {
        self.moved[cell] += moved;
    }

    /// Sets all to zero; `whole`: also what only the gradients to weights and labels need.
    pub(crate) fn clear(&mut self, whole: bool) {
        self.pull.fill(0.0);
        if !whole {
            return;
        }
        self.moved.fill(0.0);
        self.label.fill(0.0);
        self.weight.fill(WeightTerms::default());
    }
}

/// Scratch and results of one component's backward solve.
#[derive(Clone, Debug)]
pub(crate) struct VjpPart {
    /// Sums of the component's cells.
    sums: VjpSums,
    /// `[m]`: the gradient to the tight side of each live row.
    lambda: Vec<f64>,
    /// `[blocks]`: what the balance of a block adds (only a ratio's gradient needs it).
    border: Vec<f64>,
    pull: Vec<f64>,
    held: Vec<usize>,
    jacobi: Vec<f64>,
    system: Vec<f64>,
    work: Vec<f64>,
    vectors: Vec<f64>,
    rhs: Vec<f64>,
    x: Vec<f64>,
    residual: Vec<f64>,
    unit: Vec<f64>,
}

impl VjpPart {
    pub(crate) fn new(component: &Component) -> Self {
        let (m, cells) = (component.rows, component.cells.len());
        let (rows, square) = (|| vec![0.0; m], || vec![0.0; m * m]);
        Self {
            sums: VjpSums::new(cells),
            lambda: rows(),
            border: vec![0.0; component.spreads.len()],
            pull: vec![0.0; cells],
            held: Vec::with_capacity(m),
            jacobi: rows(),
            system: square(),
            work: square(),
            vectors: square(),
            rhs: rows(),
            x: rows(),
            residual: rows(),
            unit: rows(),
        }
    }
}

impl VjpPart {
    /// Changes the number of cells, within what there was room for.
    pub(crate) fn resize(&mut self, cells: usize) {
        self.sums.resize(cells);
        self.pull.resize(cells, 0.0);
    }

    /// `[m]`: the gradient to the tight side of each live row.
    pub(crate) fn lambda(&self) -> &[f64] {
        &self.lambda
    }

    /// `[cells]`: `A^T lambda` per unit of weight.
    pub(crate) fn pull(&self) -> &[f64] {
        &self.pull
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
            sums.free[usize::from(cell)] += problem.weight(i);
            sums.gradient[usize::from(cell)] += g[i].to_f64();
        }
    }
    sums.free.iter_mut().for_each(|sum| *sum /= total);
}

/// Solves one component for lambda, writes its rows' gradients and adds its cells' terms. `nu` are the multipliers of
/// all rows of the set, `total` is the sum of the weights. `out` and `terms` hold zeros where no component has written.
pub(crate) fn solve(
    component: &Component,
    rows: &Rows,
    nu_and_total: (&[f64], f64),
    sums: &VjpSums,
    s: &mut VjpPart,
    out: &mut RowGradients<'_>,
    terms: &mut CellTerms,
) {
    solve_rows(component, rows, nu_and_total, sums, s, out);
    component.scatter(&s.pull, &mut terms.pull);
}

/// Solves for lambda and the pull, and writes the rows' gradients.
pub(crate) fn solve_rows(
    component: &Component,
    rows: &Rows,
    (nu, total): (&[f64], f64),
    sums: &VjpSums,
    s: &mut VjpPart,
    out: &mut RowGradients<'_>,
) {
    component.gather(&sums.free, &mut s.sums.free);
    component.gather(&sums.gradient, &mut s.sums.gradient);
    component.gather(&sums.value, &mut s.sums.value);
    s.lambda[..rows.m].fill(0.0);
    s.pull.fill(0.0);
    collect_held(rows, nu, s);
    match s.held[..] {
        [] => return,
        [a, b] if rows.block_of[a] == rows.block_of[b] && is_difference(rows, a) => solve_pair(rows, (a, b), s),
        _ => solve_held(rows, nu, s),
    }
    rows.shifts(&s.lambda[..rows.m], &mut s.pull);
    write_row_gradients(rows, (nu, total), s, out);
}

/// Rows with a multiplier, and every equality whatever its multiplier.
fn collect_held(rows: &Rows, nu: &[f64], s: &mut VjpPart) {
    s.held.clear();
    for r in 0..rows.m {
        if nu[rows.source[r]] != 0.0 || rows.is_equality(r) {
            s.held.push(r);
        }
    }
}

fn is_difference(rows: &Rows, r: usize) -> bool {
    rows.blocks.get(rows.block_of[r]).is_some_and(|block| !matches!(block.limit, SpreadLimit::Ratio(_)))
}

/// Two rows of one spread: lambda is (x, -x), and one number is divided by.
fn solve_pair(rows: &Rows, (a, b): (usize, usize), s: &mut VjpPart) {
    let (mut curvature, mut pull) = (0.0, 0.0);
    for c in 0..rows.cells {
        let difference = rows.row(a)[c] - rows.row(b)[c];
        curvature += difference * difference * s.sums.free[c];
        pull += difference * s.sums.gradient[c];
    }
    if curvature > 0.0 {
        (s.lambda[a], s.lambda[b]) = (pull / curvature, -pull / curvature);
    }
}

fn solve_held(rows: &Rows, nu: &[f64], s: &mut VjpPart) {
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
            let value = dot_weighted(rows.row(r), rows.row(q), &s.sums.free) * s.jacobi[i] * s.jacobi[j];
            s.system[i * k + j] = value;
            s.system[j * k + i] = value;
        }
        s.rhs[i] = dot(rows.row(r), &s.sums.gradient) * s.jacobi[i];
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
fn set_unit(rows: &Rows, nu: &[f64], s: &mut VjpPart, block: usize) -> f64 {
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
fn write_border(rows: &Rows, nu: &[f64], s: &mut VjpPart) {
    let ratios = rows.blocks.iter().enumerate().filter(|(_, block)| matches!(block.limit, SpreadLimit::Ratio(_)));
    for (index, block) in ratios {
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

fn write_row_gradients(rows: &Rows, (nu, total): (&[f64], f64), s: &VjpPart, out: &mut RowGradients<'_>) {
    // Bounded rows come last in the set.
    let first_bounded = nu.len() - out.lower.len();
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
                let centre = top.map_or(0.0, |r| dot(rows.row(r), &s.sums.value));
                let below = block.rows().filter(|&r| nu_of(r) < 0.0);
                below.map(|r| centre * s.lambda[r] + border * nu_of(r) / total).sum()
            }
        };
    }
    for r in rows.contrasts() {
        let side = if nu_of(r) < 0.0 { &mut *out.lower } else { &mut *out.upper };
        side[rows.source[r] - first_bounded] = s.lambda[r] * rows.unit[r];
    }
}

/// Per-cell sums of w y, which the gradients to weights and ratios need.
pub(crate) fn sum_values<T: Storage>(problem: &Problem<'_, T>, cells: &[u8], y: &[T], total: f64, sums: &mut VjpSums) {
    sums.value.fill(0.0);
    for (i, &cell) in cells.iter().enumerate() {
        sums.value[usize::from(cell)] += problem.weight(i) * y[i].to_f64();
    }
    sums.value.iter_mut().for_each(|sum| *sum /= total);
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
        let w = problem.weight(i) / total;
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

/// Adds what a component's rows say of the gradients to weights and labels.
///
/// The weights stand in the distance and in the means alike. For each side U of a row, of sign s and mass S:
/// `s (-lambda (y - mean_U) / S + nu V / S^2)`, V the sum of dL/dz over U; `y - label` for y in residual rows. A label
/// moves the bounds of the residual rows that its sample is in. `value` are the sums of w y of
/// all cells, `terms` knows those of dL/dz; `nu` and `lambda` are asked for by
/// the row's number in the set, lambda of a row that is not live is none.
pub(crate) fn add_weight_and_label_terms(
    set: &ConstraintSet,
    component: &Component,
    totals: &CellTotals,
    value: &[f64],
    (nu, lambda): (&[f64], &dyn Fn(usize) -> Option<f64>),
    terms: &mut CellTerms,
) {
    let of_spread =
        |&(spread, first): &(usize, usize)| (0..set.spreads()[spread].unions.len()).map(move |u| (first + u, None));
    let of_contrast = |&(contrast, row): &(usize, usize)| (row, Some(&set.contrasts()[contrast]));
    let sources = component.spreads.iter().flat_map(of_spread).chain(component.contrasts.iter().map(of_contrast));
    for (row, (source, contrast)) in sources.enumerate() {
        let Some(lambda) = lambda(source) else { continue };
        let (scale, residual) = contrast.map_or((0.0, false), |contrast| (contrast.scale, contrast.residual));
        let nu = nu[source] / totals.total;
        let (plus, minus) = component.sides(row);
        for (sign, side) in [(1.0, plus), (-scale, minus)] {
            let inside =
                || component.cells.iter().zip(side).filter(|(_, inside)| **inside > 0.0).map(|(&cell, _)| cell);
            let over = |sums: &[f64]| inside().map(|cell| sums[cell]).sum::<f64>();
            let mass = over(&totals.weight);
            if mass <= 0.0 {
                continue;
            }
            let label = if residual { over(&totals.label) } else { 0.0 };
            let mean = (over(value) - label) / mass;
            let slope = sign * lambda / mass;
            let moved = over(&terms.moved);
            for cell in inside() {
                let weight = &mut terms.weight[cell];
                weight.constant += slope * mean + sign * nu * moved / (mass * mass);
                weight.slope += slope;
                if residual {
                    weight.label_slope += slope;
                    terms.label[cell] += slope;
                }
            }
        }
    }
}

/// The gradients to the sample weights and to the labels, where they are wanted.
pub(crate) fn write_weights_and_labels<T: Storage>(
    problem: &Problem<'_, T>,
    (cells, y, total): (&[u8], &[T], f64),
    terms: &CellTerms,
    out: &mut ElementGradients<'_, T>,
) {
    for (i, &cell) in cells.iter().enumerate() {
        let cell = usize::from(cell);
        if !out.weights.is_empty() {
            let WeightTerms { constant, slope, label_slope } = terms.weight[cell];
            let label = problem.labels.map_or(0.0, |labels| labels.at(i));
            out.weights[i] = T::from_f64((constant - y[i].to_f64() * slope + label * label_slope) / total);
        }
        if !out.labels.is_empty() {
            out.labels[i] = T::from_f64(problem.weight(i) / total * terms.label[cell]);
        }
    }
}
