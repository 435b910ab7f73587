//! `dense_newton`: projection onto rows with a coefficient for every sample, and onto spreads and contrasts beside them.
//!
//! The method is that of `cells_newton` with every sample as its own cell: a row is `[n]` coefficients per unit of weight,
//! spreads stay blocks with one multiplier a union, contrasts are expanded. Dense rows are scaled so that
//! `a W^-1 a^T = 1`; their residuals are then in units of the predictions, like those of means.

use super::cells_newton::{clamp_bits, element, split_shift};
use super::cells_prepare::CellTotals;
use super::components::Component;
use super::dense_admm::{Admm, AdmmData};
use super::newton::{CellSums, Newton, NewtonTask};
use super::rows::Rows;
use super::sums::vectorised;
use crate::batch::{BoundSlice, Problem, RealSlice};
use crate::cells::CellMask;
use crate::constraints::{ConstraintSet, SpreadLimit, check_row_bounds};
use crate::settings::{AdmmSettings, Method};
use crate::solution::{CLAMP_LANES, Outcome, Status};
use crate::storage::Storage;

/// One problem in the form that the dense kernels work on, with room for the largest.
#[derive(Clone, Debug)]
pub(crate) struct Dense<T: Storage> {
    /// All rows, and every sample as a cell.
    pub(crate) component: Component,
    pub(crate) rows: Rows,
    /// Weights, labels and bounds of every sample.
    pub(crate) totals: CellTotals,
    /// Predictions, bounds and one over the weights, `[n]` each.
    z: Vec<T::Arithmetic>,
    lo: Vec<T::Arithmetic>,
    hi: Vec<T::Arithmetic>,
    inverse: Vec<f64>,
    newton: Newton,
    admm: Admm,
    /// Predictions and bounds as ADMM takes them, `[n]` each.
    data: [Vec<f64>; 3],
    sums: CellSums,
    shift: Vec<f64>,
    /// The cell of every sample; 0 where no row is about cells.
    pub(crate) cells: Vec<u8>,
    /// `[cells of the layout]`: sums of weights, and of labels times weights.
    pub(crate) of_cells: CellTotals,
}

impl<T: Storage> Dense<T> {
    pub(crate) fn new(set: &ConstraintSet, largest: usize) -> Self {
        let component = Component::of_samples(set, largest);
        Self {
            rows: Rows::with_capacity(&component).of_samples(),
            totals: CellTotals::new(largest),
            z: vec![T::Arithmetic::default(); largest],
            lo: vec![T::Arithmetic::default(); largest],
            hi: vec![T::Arithmetic::default(); largest],
            inverse: vec![0.0; largest],
            newton: Newton::new(&component),
            admm: Admm::new(component.rows, largest, component.spreads.len()),
            data: std::array::from_fn(|_| Vec::with_capacity(largest)),
            sums: CellSums::new(largest).with_rows(component.rows),
            shift: vec![0.0; largest],
            cells: vec![0; largest],
            of_cells: CellTotals::new(set.layout().cells()),
            component,
        }
    }

    /// Takes up a problem, whose totals by cell are there. False if a number of it cannot be used.
    pub(crate) fn take_up(&mut self, set: &ConstraintSet, problem: &Problem<'_, T>, cells: &[u8]) -> bool {
        let n = problem.z.len();
        self.resize(n);
        self.cells.copy_from_slice(cells);
        let total = self.of_cells.total;
        match problem.weights {
            None => {
                self.totals.weight.fill(1.0 / total);
                self.inverse.fill(total);
            }
            Some(weights) => {
                for i in 0..n {
                    (self.totals.weight[i], self.inverse[i]) = (weights.at(i) / total, total / weights.at(i));
                }
            }
        }
        self.z.iter_mut().zip(problem.z).for_each(|(own, z)| *own = z.widen());
        load_bound(&problem.lo, &self.totals.weight, &mut self.lo, &mut self.totals.bounds.lo);
        load_bound(&problem.hi, &self.totals.weight, &mut self.hi, &mut self.totals.bounds.hi);
        self.totals.total = total;
        self.build_rows(set, problem)
    }

    fn resize(&mut self, n: usize) {
        let Self { totals, newton, sums, shift, cells, z, lo, hi, inverse, .. } = self;
        for array in
            [&mut totals.weight, &mut totals.label, &mut totals.bounds.lo, &mut totals.bounds.hi, shift, inverse]
        {
            array.resize(n, 0.0);
        }
        sums.arrays().into_iter().for_each(|array| array.resize(n, 0.0));
        cells.resize(n, 0);
        [z, lo, hi].into_iter().for_each(|array| array.resize(n, T::Arithmetic::default()));
        newton.resize(n);
    }

    /// Expands the rows that this problem leaves alive. False if a coefficient, a level or a row bound cannot be used.
    fn build_rows(&mut self, set: &ConstraintSet, problem: &Problem<'_, T>) -> bool {
        let n = problem.z.len();
        let (rows, cells, weight, inverse) = (&mut self.rows, &self.cells, &self.totals.weight, &self.inverse[..n]);
        let (of_cell, label_of_cell) = (&self.of_cells.weight, &self.of_cells.label);
        let over = |mask: &CellMask, sums: &[f64]| mask.iter().map(|cell| sums[cell]).sum::<f64>();
        let inside = |mask: &CellMask, i: usize| mask.contains(usize::from(cells[i]));
        rows.clear(n);
        let mut usable = true;
        let mut source = 0;
        for (index, spread) in set.spreads().iter().enumerate() {
            let limit = problem.levels.map_or(spread.limit, |levels| spread.limit.at_level(levels.at(index)));
            usable &= limit.check().is_ok();
            let half = if let SpreadLimit::Difference(epsilon) = limit { epsilon / 2.0 } else { 0.0 };
            let mass = |union: &crate::constraints::Union| over(&union.cells, of_cell);
            let live = spread.unions.iter().filter(|union| mass(union) > 0.0).count() > 1;
            rows.begin_block(index, limit);
            for union in &spread.unions {
                let mass = mass(union);
                if live && mass > 0.0 {
                    let coefficient = |i: usize| if inside(&union.cells, i) { 1.0 / mass } else { 0.0 };
                    rows.push(weight, coefficient, 1.0 / mass, (-half, half), source);
                } else {
                    rows.inactive.push(source);
                }
                source += 1;
            }
            rows.end_block();
        }
        let bounds_of = |bounded: usize, own: (f64, f64)| match problem.row_bounds {
            Some((lower, upper)) => (lower.at(bounded), upper.at(bounded)),
            None => own,
        };
        for (index, contrast) in set.contrasts().iter().enumerate() {
            let (mut lower, mut upper) = bounds_of(index, (contrast.lower, contrast.upper));
            usable &= check_row_bounds(lower, upper).is_ok();
            let (plus, minus) = (&contrast.plus.cells, &contrast.minus);
            let masses = (over(plus, of_cell), over(minus, of_cell));
            if masses.0 > 0.0 && (masses.1 > 0.0 || minus.is_empty()) {
                let factors = (1.0 / masses.0, if masses.1 > 0.0 { -contrast.scale / masses.1 } else { 0.0 });
                if contrast.residual {
                    let target = factors.0 * over(plus, label_of_cell) + factors.1 * over(minus, label_of_cell);
                    (lower, upper) = (lower + target, upper + target);
                }
                let side = |mask: &CellMask, factor: f64, i: usize| if inside(mask, i) { factor } else { 0.0 };
                let coefficient = |i: usize| side(plus, factors.0, i) + side(minus, factors.1, i);
                rows.push(weight, coefficient, factors.0.max(factors.1.abs()), (lower, upper), source);
            } else {
                rows.inactive.push(source);
            }
            source += 1;
        }
        for (index, row) in set.dense().iter().enumerate() {
            let (lower, upper) = bounds_of(set.contrasts().len() + index, (row.lower, row.upper));
            usable &= check_row_bounds(lower, upper).is_ok();
            let Some(coefficients) = problem.coefficients else { return false };
            // Coefficients per unit of weight.
            match coefficients.slice(index * n..(index + 1) * n) {
                RealSlice::F32(row) => {
                    rows.begin_row(row.iter().zip(inverse).map(|(a, inverse)| f64::from(*a) * inverse))
                }
                RealSlice::F64(row) => rows.begin_row(row.iter().zip(inverse).map(|(a, inverse)| a * inverse)),
            }
            rows.end_row(weight, 0.0, (lower, upper), source);
            usable &= rows.scale_last(weight);
            source += 1;
        }
        usable
    }

    /// Solves the problem taken up, by either method; what Newton cannot, ADMM tries. The answer's shifts are those of the
    /// samples.
    pub(crate) fn solve(
        &mut self,
        task: &NewtonTask,
        problem: &Problem<'_, T>,
        (method, admm): (Method, &AdmmSettings),
    ) -> Outcome {
        self.newton.start(&self.rows, &self.totals, problem.warm_start);
        self.newton.relax(task, &mut self.rows, &self.totals);
        let mut outcome = Outcome { status: Status::IterationLimit, ..Outcome::default() };
        if method == Method::Newton || !self.newton.outcome().status.has_answer() {
            self.run_newton(task);
            outcome = self.newton.outcome();
        }
        // Once; and again as long as rays are found that relax the rows further.
        let mut relaxed = None;
        while outcome.status == Status::IterationLimit && relaxed != Some(self.rows.relaxed) {
            relaxed = Some(self.rows.relaxed);
            let spent = outcome.iterations;
            outcome = self.solve_by_admm(task, admm);
            outcome.iterations += spent;
        }
        self.shift.copy_from_slice(self.newton.shift());
        if !outcome.status.has_answer() {
            self.shift.fill(0.0);
            self.evaluate();
            outcome.excess = self.newton.excess_of(&self.component, &self.rows, &self.sums);
        }
        outcome
    }

    /// Runs Newton from where it stands to its end.
    fn run_newton(&mut self, task: &NewtonTask) {
        while self.newton.is_waiting() {
            self.shift.copy_from_slice(self.newton.shift());
            self.evaluate();
            self.newton.receive(task, &self.component, &self.rows, &self.totals, &self.sums);
            self.newton.relax(task, &mut self.rows, &self.totals);
        }
    }

    /// ADMM, and from its multipliers on Newton: the stop test that proves the answer is the same.
    fn solve_by_admm(&mut self, task: &NewtonTask, settings: &AdmmSettings) -> Outcome {
        for (array, source) in self.data.iter_mut().zip([&self.z, &self.lo, &self.hi]) {
            array.clear();
            array.extend(source.iter().map(|value| value.to_f64()));
        }
        let [z, lo, hi] = &self.data;
        let data = AdmmData { z, weight: &self.totals.weight, lo, hi };
        let found = self.admm.solve(settings, &self.rows, &self.totals.bounds, data);
        if found.status == Status::Infeasible {
            self.newton.end_at_ray(&self.rows, self.admm.multipliers());
            self.newton.relax(task, &mut self.rows, &self.totals);
        } else {
            self.newton.start_at(&self.rows, self.admm.multipliers());
        }
        self.run_newton(task);
        let outcome = self.newton.outcome();
        Outcome { iterations: outcome.iterations + found.iterations, ..outcome }
    }

    /// The pass: what every sample adds to the rows at the present shifts.
    fn evaluate(&mut self) {
        let n = self.shift.len();
        let shift = &self.shift[..n];
        let CellSums { y, size, free, beyond, of_rows } = &mut self.sums;
        let (y, size, free, beyond) = (&mut y[..n], &mut size[..n], &mut free[..n], &mut beyond[..n]);
        let (z, lo, hi, weight) = (&self.z[..n], &self.lo[..n], &self.hi[..n], &self.totals.weight[..n]);
        vectorised(
            #[inline(always)]
            |_| {
                for i in 0..n {
                    let w = weight[i];
                    let (t, clipped) = element(z[i], split_shift(shift[i]), (lo[i], hi[i]));
                    let stored = T::narrow(clipped).to_f64();
                    y[i] = w * stored;
                    size[i] = w * stored.abs();
                    free[i] = if t == clipped { w } else { 0.0 };
                    beyond[i] = w * (t - clipped).to_f64().abs();
                }
            },
        );
        of_rows.sweep(&self.rows.matrix, self.rows.m, (y, size, free));
    }

    /// The shift of every sample in the answer. `[n]`
    pub(crate) fn shift(&self) -> &[f64] {
        &self.shift
    }

    /// Writes the multipliers of the set's rows; of an infeasible problem the ray.
    pub(crate) fn write_multipliers(&self, multipliers: &mut [f64]) {
        for (r, (&source, nu)) in self.rows.source.iter().zip(self.newton.multipliers()).enumerate() {
            multipliers[source] = nu * self.rows.unit[r] * self.totals.total;
        }
    }
}

/// Writes the projected values and their clamp states at the samples' shifts: by the very arithmetic of the pass.
pub(crate) fn write<T: Storage>(problem: &Problem<'_, T>, shift: &[f64], y: &mut [T], clamp: &mut [u32]) {
    let words = y.chunks_mut(CLAMP_LANES).zip(shift.chunks(CLAMP_LANES)).zip(clamp).enumerate();
    for (word, ((y, shift), clamp)) in words {
        let first = word * CLAMP_LANES;
        let mut bits = 0;
        for (lane, (y, &shift)) in y.iter_mut().zip(shift).enumerate() {
            let bounds = problem.bounds(first + lane);
            let (t, clipped) = element(problem.z[first + lane].widen(), split_shift(shift), bounds);
            *y = T::narrow(clipped);
            bits |= clamp_bits(t, bounds) << lane;
        }
        *clamp = bits;
    }
}

/// Loads a bound of every sample, and its product with the weight.
fn load_bound<T: Storage>(bound: &BoundSlice<'_, T>, weight: &[f64], own: &mut [T::Arithmetic], weighted: &mut [f64]) {
    match bound {
        BoundSlice::Scalar(bound) => {
            own.fill(bound.widen());
            let bound = bound.to_f64();
            weighted.iter_mut().zip(weight).for_each(|(weighted, weight)| *weighted = weight * bound);
        }
        BoundSlice::PerElement(bounds) => {
            for (((own, weighted), weight), bound) in own.iter_mut().zip(weighted).zip(weight).zip(*bounds) {
                (*own, *weighted) = (bound.widen(), weight * bound.to_f64());
            }
        }
    }
}
