//! `dense_newton`: projection onto rows with a coefficient for every sample, and onto spreads and contrasts beside them.
//!
//! The method is that of `cells_newton` with every sample as its own cell: a row is `[n]` coefficients per unit of weight,
//! spreads stay blocks with one multiplier a union, contrasts are expanded. Dense rows are scaled so that
//! `a W^-1 a^T = 1`; their residuals are then in units of the predictions, like those of means.

use super::cells_newton::{clamp_bits, element, split_shift};
use super::cells_prepare::CellTotals;
use super::components::Component;
use super::dense_admm::{Admm, AdmmData};
use super::dense_pivots::{Found, Pivots};
use super::newton::{CellSums, Newton, NewtonTask};
use super::row_sums::{LONGEST_PART, SamplePart, part_length};
use super::rows::Rows;
use super::sums::vectorised;
use crate::batch::{BoundSlice, Problem, RealSlice};
use crate::constraints::{ConstraintSet, check_row_bounds};
use crate::settings::{AdmmSettings, Method};
use crate::solution::{CLAMP_LANES, Outcome, Status};
use crate::storage::Storage;

/// One problem in the form that the dense kernels work on, with room for the largest.
#[derive(Clone, Debug)]
pub(crate) struct Dense<T: Storage> {
    /// All rows, and every sample as a cell.
    pub(crate) component: Component,
    pub(crate) rows: Rows,
    /// Weights and bounds of every sample.
    pub(crate) totals: CellTotals,
    samples: Samples<T>,
    /// `[n]`: one over the weights.
    inverse: Vec<f64>,
    newton: Newton,
    admm: Admm,
    pivots: Pivots,
    /// Predictions and bounds as ADMM takes them, `[n]` each.
    data: [Vec<f64>; 3],
    sums: CellSums,
    scratch: Box<Scratch>,
    /// Spreads and contrasts over the cells of the layout, and their rows before they are expanded.
    pub(crate) over_cells: Component,
    rows_over_cells: Rows,
    /// The cell of every sample; 0 where no row is about cells.
    pub(crate) cells: Vec<u8>,
    /// `[cells of the layout]`: sums of weights, and of labels times weights.
    pub(crate) of_cells: CellTotals,
}

/// The last resort keeps to this part of the tolerance: it can, and Newton's test has to accept it.
const FINER: f64 = 0.01;
/// What rows may be relaxed by where it cannot for rounding: half of what that test accepts at the rounding floor.
const MOST_SLACK: f64 = 4.0;

/// Arrays over the samples of one part.
type Scratch = [[f64; LONGEST_PART]; 4];

/// Predictions and bounds, `[n]` each.
#[derive(Clone, Debug)]
struct Samples<T: Storage> {
    z: Vec<T::Arithmetic>,
    lo: Vec<T::Arithmetic>,
    hi: Vec<T::Arithmetic>,
}

impl<T: Storage> Dense<T> {
    pub(crate) fn new(set: &ConstraintSet, largest: usize) -> Self {
        let component = Component::of_samples(set, largest);
        let over_cells = Component::of_cells(set);
        let values = || vec![T::Arithmetic::default(); largest];
        Self {
            rows: Rows::with_capacity(&component).of_samples(),
            totals: CellTotals::new(largest),
            samples: Samples { z: values(), lo: values(), hi: values() },
            inverse: vec![0.0; largest],
            newton: Newton::new(&component),
            admm: Admm::new(component.rows, largest, component.spreads.len()),
            pivots: Pivots::new(component.rows, largest),
            data: std::array::from_fn(|_| Vec::with_capacity(largest)),
            sums: CellSums::new(largest).with_rows(component.rows),
            scratch: Box::new([[0.0; LONGEST_PART]; 4]),
            rows_over_cells: Rows::with_capacity(&over_cells),
            over_cells,
            cells: vec![0; largest],
            of_cells: CellTotals::new(set.layout().cells()),
            component,
        }
    }

    /// Takes up a problem, whose totals by cell are there; if it is to be `solved`, with its predictions and bounds. False if a
    /// number of it cannot be used.
    pub(crate) fn take_up(
        &mut self,
        set: &ConstraintSet,
        problem: &Problem<'_, T>,
        cells: &[u8],
        solved: bool,
    ) -> bool {
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
        if solved {
            let Samples { z, lo, hi } = &mut self.samples;
            z.iter_mut().zip(problem.z).for_each(|(own, z)| *own = z.widen());
            load_bound(&problem.lo, &self.totals.weight, lo, &mut self.totals.bounds.lo);
            load_bound(&problem.hi, &self.totals.weight, hi, &mut self.totals.bounds.hi);
        }
        self.totals.total = total;
        self.build_rows(set, problem)
    }

    fn resize(&mut self, n: usize) {
        let Self { totals, newton, sums, cells, samples, inverse, .. } = self;
        for array in [&mut totals.weight, &mut totals.bounds.lo, &mut totals.bounds.hi, inverse] {
            array.resize(n, 0.0);
        }
        sums.resize(n);
        cells.resize(n, 0);
        let Samples { z, lo, hi } = samples;
        [z, lo, hi].into_iter().for_each(|array| array.resize(n, T::Arithmetic::default()));
        newton.resize(n);
    }

    /// Expands the rows that this problem leaves alive. False if a coefficient, a level or a row bound cannot be used.
    fn build_rows(&mut self, set: &ConstraintSet, problem: &Problem<'_, T>) -> bool {
        let n = problem.z.len();
        let (rows, coarse) = (&mut self.rows, &mut self.rows_over_cells);
        let mut usable = coarse.build(set, &self.over_cells, problem, &self.of_cells);
        rows.expand(coarse, &self.cells);
        let (weight, inverse) = (&self.totals.weight[..n], &self.inverse[..n]);
        let first_source = set.rows() - set.dense().len();
        for (index, row) in set.dense().iter().enumerate() {
            let bounds = match problem.row_bounds {
                Some(bounds) => {
                    let bounded = set.contrasts().len() + index;
                    (bounds.0.at(bounded), bounds.1.at(bounded))
                }
                None => (row.lower, row.upper),
            };
            usable &= check_row_bounds(bounds.0, bounds.1).is_ok();
            let Some(coefficients) = problem.coefficients else { return false };
            let source = first_source + index;
            // Coefficients per unit of weight.
            usable &= match coefficients.slice(index * n..(index + 1) * n) {
                RealSlice::F32(row) => {
                    let row = row.iter().zip(inverse).map(|(a, inverse)| f64::from(*a) * inverse);
                    rows.push_scaled(weight, row, bounds, source)
                }
                RealSlice::F64(row) => {
                    let row = row.iter().zip(inverse).map(|(a, inverse)| a * inverse);
                    rows.push_scaled(weight, row, bounds, source)
                }
            };
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
        if !outcome.status.has_answer() {
            self.evaluate(false);
            outcome.excess = self.newton.excess_of(&self.component, &self.rows, &self.sums);
        }
        outcome
    }

    /// Runs Newton from where it stands to its end.
    fn run_newton(&mut self, task: &NewtonTask) {
        // Once for every relaxation: what is rejected would be found again.
        let mut tried = None;
        while self.newton.is_waiting() {
            self.receive(task);
            if !self.newton.is_waiting() && tried != Some(self.rows.relaxed) {
                tried = Some(self.rows.relaxed);
                let outcome = self.newton.outcome();
                // Relaxed rows leave as little room as was needed: before they get more, what there is gets its chance.
                let narrow = outcome.status == Status::IterationLimit && self.rows.relaxed > 0.0;
                if narrow || self.newton.is_lost(&self.rows) {
                    self.pivots.begin_at(&[]);
                    self.solve_by_pivots(task);
                } else if task.tolerance == 0.0 && outcome.status.has_answer() && outcome.iterations > 0 {
                    // This asks for all digits that there are.
                    self.pivots.begin_at(self.newton.multipliers());
                    self.solve_by_pivots(task);
                }
            }
            self.newton.relax(task, &mut self.rows, &self.totals);
        }
    }

    /// The pass that Newton waits for.
    fn receive(&mut self, task: &NewtonTask) {
        self.evaluate(true);
        self.newton.receive(task, &self.component, &self.rows, &self.totals, &self.sums);
    }

    /// The last resort, and the way to multipliers no larger than they need be. What it finds Newton takes if it is an answer.
    fn solve_by_pivots(&mut self, task: &NewtonTask) {
        if !self.rows.blocks.is_empty() {
            return;
        }
        let data = load(&mut self.data, &self.samples, &self.totals);
        let rounding = self.rows.rounding(task.unit_roundoff, &self.sums);
        let tolerance = NewtonTask { tolerance: FINER * task.tolerance, ..*task }.needed(rounding);
        let (mut slack, most) = (0.0, MOST_SLACK * task.needed(rounding));
        loop {
            let found = self.pivots.solve(&self.rows, data, (tolerance, slack));
            let multipliers = self.pivots.multipliers();
            if found == Found::Answer {
                self.newton.end_at(&self.rows, multipliers);
                return self.receive(task);
            }
            // Rows that meet in one point do so but for rounding.
            let disproved = found == Found::Ray && self.newton.ends_at_proof(&self.rows, &self.totals, multipliers.0);
            if found == Found::Nothing || disproved || slack >= most {
                return;
            }
            slack = (4.0 * self.pivots.lack()).max(4.0 * slack).max(0.01 * most).min(most);
        }
    }

    /// ADMM, and from its multipliers on Newton: the stop test that proves the answer is the same.
    fn solve_by_admm(&mut self, task: &NewtonTask, settings: &AdmmSettings) -> Outcome {
        let data = load(&mut self.data, &self.samples, &self.totals);
        let found = self.admm.solve(settings, &self.rows, &self.totals.bounds, data);
        if found.status == Status::Infeasible {
            self.newton.end_at_ray(&self.rows, self.admm.multipliers());
            self.newton.relax(task, &mut self.rows, &self.totals);
        } else {
            self.newton.start_at(&self.rows, self.admm.multipliers());
        }
        self.run_newton(task);
        if self.newton.outcome().status == Status::IterationLimit {
            self.pivots.begin_at(self.admm.multipliers());
            self.solve_by_pivots(task);
        }
        let outcome = self.newton.outcome();
        Outcome { iterations: outcome.iterations + found.iterations, ..outcome }
    }

    /// The pass at the multipliers that Newton asks for, or without any.
    fn evaluate(&mut self, with_multipliers: bool) {
        let nu: (&[f64], &[f64]) = if with_multipliers { self.newton.asked() } else { Default::default() };
        let shifts = PartShifts::new(&self.rows, nu);
        self.samples.evaluate(&self.totals.weight, &shifts, &mut self.sums, &mut self.scratch);
    }

    /// Writes the projected values of the answer and their clamp states: by the very arithmetic of the pass.
    pub(crate) fn write(&mut self, y: &mut [T], clamp: &mut [u32]) {
        let [shift, ..] = &mut *self.scratch;
        let length = part_length(self.rows.m);
        let shifts = PartShifts::new(&self.rows, self.newton.asked());
        let words = clamp.chunks_mut(length / CLAMP_LANES);
        for ((part, y), clamp) in y.chunks_mut(length).enumerate().zip(words) {
            let (first, shift) = (part * length, &mut shift[..y.len()]);
            let of_part = |values: &'_ Vec<T::Arithmetic>| first..values.len().min(first + length);
            let Samples { z, lo, hi } = &self.samples;
            let (z, lo, hi) = (&z[of_part(z)], &lo[of_part(lo)], &hi[of_part(hi)]);
            shifts.fill(first, shift);
            vectorised(
                #[inline(always)]
                |_| {
                    let mut bits = [0; LONGEST_PART];
                    for i in 0..y.len() {
                        let (t, clipped) = element(z[i], split_shift(shift[i]), (lo[i], hi[i]));
                        y[i] = T::narrow(clipped);
                        bits[i] = clamp_bits(t, (lo[i], hi[i]));
                    }
                    for (clamp, bits) in clamp.iter_mut().zip(bits[..y.len()].chunks(CLAMP_LANES)) {
                        *clamp = bits.iter().enumerate().fold(0, |word, (lane, bits)| word | (bits << lane));
                    }
                },
            );
        }
    }

    /// Writes the multipliers of the set's rows; of an infeasible problem the ray.
    pub(crate) fn write_multipliers(&self, multipliers: &mut [f64]) {
        for (r, (&source, nu)) in self.rows.source.iter().zip(self.newton.multipliers()).enumerate() {
            multipliers[source] = nu * self.rows.unit[r] * self.totals.total;
        }
    }
}

/// The shifts of the samples at multipliers, some at a time.
struct PartShifts<'a> {
    rows: &'a Rows,
    nu: (&'a [f64], &'a [f64]),
    may_cancel: bool,
}

impl<'a> PartShifts<'a> {
    /// Without multipliers all shifts are zero.
    fn new(rows: &'a Rows, nu: (&'a [f64], &'a [f64])) -> Self {
        Self { rows, nu, may_cancel: rows.may_cancel(nu.0) }
    }

    /// Fills in the shifts of the samples from `start` on.
    fn fill(&self, start: usize, shift: &mut [f64]) {
        self.rows.part_of_shifts(self.nu, self.may_cancel, start, shift);
    }
}

impl<T: Storage> Samples<T> {
    /// The pass: what every sample adds to the rows at these multipliers.
    fn evaluate(&self, weight: &[f64], shifts: &PartShifts<'_>, sums: &mut CellSums, scratch: &mut Scratch) {
        let (n, m, matrix) = (shifts.rows.cells, shifts.rows.m, &shifts.rows.matrix[..]);
        let CellSums { free, beyond, of_rows, .. } = sums;
        of_rows.begin(m);
        let length = part_length(m);
        for start in (0..n).step_by(length) {
            let part = start..n.min(start + length);
            let length = part.len();
            let [shift, y, size, distance] = scratch.each_mut().map(|array| &mut array[..length]);
            let (z, lo, hi) = (&self.z[part.clone()], &self.lo[part.clone()], &self.hi[part.clone()]);
            let (weight, free, beyond) = (&weight[part.clone()], &mut free[part.clone()], &mut beyond[part]);
            shifts.fill(start, shift);
            vectorised(
                #[inline(always)]
                |_| {
                    for i in 0..length {
                        let w = weight[i];
                        let (t, clipped) = element(z[i], split_shift(shift[i]), (lo[i], hi[i]));
                        let stored = T::narrow(clipped).to_f64();
                        y[i] = w * stored;
                        size[i] = w * stored.abs();
                        free[i] = if t == clipped { w } else { 0.0 };
                        distance[i] = (t - clipped).to_f64();
                        beyond[i] = w * distance[i].abs();
                    }
                },
            );
            of_rows.add(SamplePart { matrix, m, n, start, y, size, free, distance });
        }
        of_rows.end(m);
    }
}

/// Fills in the predictions and bounds as ADMM takes them.
fn load<'a, T: Storage>(data: &'a mut [Vec<f64>; 3], samples: &Samples<T>, totals: &'a CellTotals) -> AdmmData<'a> {
    let Samples { z, lo, hi } = samples;
    for (array, source) in data.iter_mut().zip([z, lo, hi]) {
        array.clear();
        array.extend(source.iter().map(|value| value.to_f64()));
    }
    let [z, lo, hi] = &*data;
    AdmmData { z, weight: &totals.weight, lo, hi }
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
