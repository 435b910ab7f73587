//! `cells_newton`: projection onto spreads and contrasts by a proximal Newton method on the dual.
//!
//! All that a step needs of the data are per-cell sums, so a pass over the data is the unit of cost and the driver below
//! sees nothing else of it: it is the same for the plain pass in this file and for the vectorised one of the CPU device.

use super::cells_prepare::{CHUNK, CellTotals};
use super::components::Component;
use super::newton::{CellSums, Newton, NewtonTask};
use super::pair::{Pair, Step, is_pair};
use super::rows::Rows;
use crate::batch::{Problem, RealSlice};
use crate::constraints::ConstraintSet;
use crate::solution::{CLAMP_LANES, Outcome, Status};
use crate::storage::Storage;

/// What a problem's data can be asked.
pub(crate) trait CellPass {
    /// The sums at these shifts, `[cells]`.
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums);
}

/// One element: shifted, and as it will be stored. The shift comes as two numbers, so that an `f32` output is as fine as
/// `f32` allows.
#[inline(always)]
pub(crate) fn element<T: Storage>(
    z: T,
    (shift, rest): (T::Arithmetic, T::Arithmetic),
    lo: T,
    hi: T,
) -> (T::Arithmetic, T) {
    let t = (z.widen() - shift) - rest;
    // Clipped before it is rounded: rounding is monotone and the bounds are of the storage type.
    (t, T::narrow(t.clip(lo.widen(), hi.widen())))
}

/// A shift as the sum of two numbers of the arithmetic type. Large ones are cut, so that no infinity arises.
#[inline]
pub(crate) fn split_shift<A: Storage>(shift: f64) -> (A, A) {
    let shift = shift.clamp(-1e30, 1e30);
    let first = A::from_f64(shift);
    (first, A::from_f64(shift - first.to_f64()))
}

/// The plain pass: element by element, chunk by chunk.
pub(crate) struct PlainPass<'a, T> {
    pub(crate) problem: &'a Problem<'a, T>,
    pub(crate) cells: &'a [u8],
    /// Sum of the weights.
    pub(crate) total: f64,
    /// Scratch for the sums of one chunk.
    pub(crate) chunk: &'a mut CellSums,
}

impl<T: Storage> CellPass for PlainPass<'_, T> {
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums) {
        sums.arrays().into_iter().for_each(|array| array.fill(0.0));
        for start in (0..self.cells.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(self.cells.len());
            self.chunk.arrays().into_iter().for_each(|array| array.fill(0.0));
            for i in start..end {
                let cell = usize::from(self.cells[i]);
                let (lo, hi) = (self.problem.lo.at(i), self.problem.hi.at(i));
                let (t, y) = element(self.problem.z[i], split_shift(shift[cell]), lo, hi);
                let w = self.problem.weight(i);
                let y = y.to_f64();
                self.chunk.y[cell] += w * y;
                self.chunk.size[cell] += w * y.abs();
                self.chunk.free[cell] += if lo.widen() <= t && t <= hi.widen() { w } else { 0.0 };
                self.chunk.beyond[cell] += w * (t.to_f64() - y).abs();
            }
            for (total, part) in sums.arrays().into_iter().zip(self.chunk.arrays()) {
                total.iter_mut().zip(part).for_each(|(total, part)| *total += *part);
            }
        }
        for array in sums.arrays() {
            array.iter_mut().for_each(|sum| *sum /= self.total);
        }
    }
}

/// Writes the projected values and their clamp states at these shifts: by the very arithmetic of the pass, so that the
/// last sums are those of what is stored.
pub(crate) fn write<T: Storage>(problem: &Problem<'_, T>, cells: &[u8], shift: &[f64], y: &mut [T], clamp: &mut [u32]) {
    for (chunk, word) in clamp.iter_mut().enumerate().take(cells.len().div_ceil(CLAMP_LANES)) {
        *word = 0;
        let first = chunk * CLAMP_LANES;
        for i in first..(first + CLAMP_LANES).min(cells.len()) {
            let (lo, hi) = (problem.lo.at(i), problem.hi.at(i));
            let (t, value) = element(problem.z[i], split_shift(shift[usize::from(cells[i])]), lo, hi);
            y[i] = value;
            *word |= u32::from(t < lo.widen()) << (i - first);
            *word |= (u32::from(t > hi.widen()) * (1 | (1 << CLAMP_LANES))) << (i - first);
        }
    }
}

/// `y = clip(z)` and no element free: what a problem gets that is not solved.
pub(crate) fn write_unsolved<T: Storage>(problem: &Problem<'_, T>, y: &mut [T], clamp: &mut [u32]) {
    for (i, value) in y.iter_mut().enumerate() {
        *value = problem.z[i].clip(problem.lo.at(i), problem.hi.at(i));
    }
    clamp.fill((1 << CLAMP_LANES) - 1);
}

/// The part of a problem that one component is: its live rows, its totals, and its method.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) rows: Rows,
    pub(crate) totals: CellTotals,
    newton: Newton,
    /// The short cut of a component that has its form.
    pair: Option<Pair>,
    /// Whether the short cut has the problem in hand.
    in_pair: bool,
    waiting: bool,
}

impl Part {
    pub(crate) fn new(set: &ConstraintSet, component: &Component) -> Self {
        Self {
            rows: Rows::with_capacity(component),
            totals: CellTotals::new(component.cells.len()),
            newton: Newton::new(component),
            pair: is_pair(set, component).then(|| Pair::new(component)),
            in_pair: false,
            waiting: false,
        }
    }

    fn start(&mut self, warm: Option<RealSlice<'_>>) {
        self.in_pair = match &mut self.pair {
            Some(pair) if warm.is_none() => pair.start(&self.rows),
            _ => false,
        };
        self.waiting = true;
        if !self.in_pair {
            self.newton.start(&self.rows, &self.totals, warm);
            self.waiting = self.newton.is_waiting();
        }
    }

    fn receive(&mut self, task: &NewtonTask, component: &Component, sums: &CellSums) {
        match &mut self.pair {
            Some(pair) if self.in_pair => match pair.receive(task, component, &self.rows, &self.totals, sums) {
                Step::Ask => {}
                Step::Solved => self.waiting = false,
                Step::HandOver => {
                    self.in_pair = false;
                    self.newton.take_over(&self.rows, &self.totals, pair.outcome());
                }
            },
            _ => {
                self.newton.receive(task, component, &self.rows, &self.totals, sums);
                self.waiting = self.newton.is_waiting();
            }
        }
    }

    fn active_pair(&self) -> Option<&Pair> {
        self.pair.as_ref().filter(|_| self.in_pair)
    }

    /// The shifts of the point asked for; at the end, of the answer. `[cells]`
    fn shift(&self) -> &[f64] {
        self.active_pair().map_or(self.newton.shift(), Pair::shift)
    }

    /// The multipliers of the live rows, over weights that sum to 1; of an infeasible problem the ray.
    pub(crate) fn multipliers(&self) -> &[f64] {
        self.active_pair().map_or(self.newton.multipliers(), Pair::multipliers)
    }

    /// What became of the component.
    pub(crate) fn outcome(&self) -> Outcome {
        self.active_pair().map_or(self.newton.outcome(), Pair::outcome)
    }
}

/// Solves a problem whose parts hold their rows and totals: all components at once, pass by pass. `shift` ends as the
/// answer's shifts over all cells; `sums` is scratch.
pub(crate) fn solve(
    task: &NewtonTask,
    components: &[Component],
    parts: &mut [Part],
    warm: Option<RealSlice<'_>>,
    pass: &mut impl CellPass,
    shift: &mut [f64],
    sums: &mut CellSums,
) -> Outcome {
    shift.fill(0.0);
    for part in parts.iter_mut() {
        part.start(warm);
    }
    let mut outcome = Outcome::default();
    loop {
        let mut waiting = false;
        for (part, component) in parts.iter().zip(components) {
            component.scatter(part.shift(), shift);
            waiting |= part.waiting;
        }
        if !waiting {
            break;
        }
        pass.evaluate(shift, sums);
        outcome.passes += 1;
        for (part, component) in parts.iter_mut().zip(components).filter(|(part, _)| part.waiting) {
            part.receive(task, component, sums);
            if !part.waiting && part.outcome().status != Status::Solved {
                // One component without an answer is a problem without one.
                return Outcome { passes: outcome.passes, ..part.outcome() };
            }
        }
    }
    for of_part in parts.iter().map(Part::outcome) {
        outcome.iterations = outcome.iterations.max(of_part.iterations);
        outcome.residual = outcome.residual.max(of_part.residual);
        outcome.excess = outcome.excess.max(of_part.excess);
    }
    outcome
}

/// By how much the rows are exceeded at `y = clip(z)`.
pub(crate) fn unsolved_excess(
    components: &[Component],
    parts: &mut [Part],
    pass: &mut impl CellPass,
    shift: &mut [f64],
    sums: &mut CellSums,
) -> f64 {
    shift.fill(0.0);
    pass.evaluate(shift, sums);
    let excess = |(part, component): (&mut Part, &Component)| part.newton.excess_of(component, &part.rows, sums);
    parts.iter_mut().zip(components).map(excess).fold(0.0, f64::max)
}
