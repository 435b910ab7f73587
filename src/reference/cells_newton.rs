//! `cells_newton`: projection onto spreads and contrasts by a proximal Newton method on the dual.
//!
//! All that a step needs of the data are per-cell sums, so a pass over the data is the unit of cost and the driver below
//! sees nothing else of it: it is the same for the plain pass in this file and for the vectorised one of the CPU device.

use super::cells_prepare::{CHUNK, CellTotals};
use super::components::Component;
use super::disjoint::{Disjoint, Step, is_disjoint};
use super::newton::{CellSums, Newton, NewtonTask};
use super::rows::Rows;
use crate::batch::{Problem, RealSlice};
use crate::constraints::ConstraintSet;
use crate::solution::{CLAMP_LANES, Outcome, Status};
use crate::storage::{Arithmetic, Storage};

/// What a problem's data can be asked.
pub(crate) trait CellPass {
    /// The sums at these shifts, `[cells]`.
    fn evaluate(&mut self, shift: &[f64], sums: &mut CellSums);
}

/// One element: shifted, and clipped. The shift comes as two numbers, so that an `f32` output is as fine as `f32` allows.
/// What is stored is the clipped value rounded to the storage type: rounding is monotone and the bounds are of that type.
#[inline(always)]
pub(crate) fn element<A: Arithmetic>(z: A, (shift, rest): (A, A), (lo, hi): (A, A)) -> (A, A) {
    let t = (z - shift) - rest;
    (t, t.clip(lo, hi))
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
                let (t, clipped) = element(self.problem.z[i].widen(), split_shift(shift[cell]), self.problem.bounds(i));
                let w = self.problem.weight(i);
                let y = T::narrow(clipped).to_f64();
                self.chunk.y[cell] += w * y;
                self.chunk.size[cell] += w * y.abs();
                self.chunk.free[cell] += if t == clipped { w } else { 0.0 };
                self.chunk.beyond[cell] += w * (t - clipped).to_f64().abs();
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
            let (lo, hi) = problem.bounds(i);
            let (t, clipped) = element(problem.z[i].widen(), split_shift(shift[usize::from(cells[i])]), (lo, hi));
            y[i] = T::narrow(clipped);
            *word |= clamp_bits(t, (lo, hi)) << (i - first);
        }
    }
}

/// The clamp state of one element, for the lowest lane of a word.
#[inline(always)]
pub(crate) fn clamp_bits<A: Arithmetic>(t: A, (lo, hi): (A, A)) -> u32 {
    u32::from(t < lo) | (u32::from(t > hi) * (1 | (1 << CLAMP_LANES)))
}

/// `y = clip(z)` and no element free: what a problem gets that is not solved.
pub(crate) fn write_unsolved<T: Storage>(problem: &Problem<'_, T>, y: &mut [T], clamp: &mut [u32]) {
    for (i, value) in y.iter_mut().enumerate() {
        *value = problem.z[i].clip(problem.lo.at(i), problem.hi.at(i));
    }
    clamp.fill((1 << CLAMP_LANES) - 1);
}

/// The part of a problem that one component is: its method, and what that needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The short cut of a component that has its form.
    disjoint: Option<Disjoint>,
    /// Whether the short cut has the problem in hand; the general method's rows and totals are then those of an earlier
    /// problem.
    in_short_cut: bool,
    pub(crate) rows: Rows,
    pub(crate) totals: CellTotals,
    newton: Newton,
    waiting: bool,
}

/// What a problem's parts are built from.
pub(crate) struct Given<'a, T> {
    pub(crate) set: &'a ConstraintSet,
    pub(crate) problem: &'a Problem<'a, T>,
    /// Of all cells.
    pub(crate) totals: &'a CellTotals,
}

impl Part {
    pub(crate) fn new(set: &ConstraintSet, component: &Component) -> Self {
        Self {
            disjoint: is_disjoint(set, component).then(|| Disjoint::new(set, component)),
            in_short_cut: false,
            rows: Rows::with_capacity(component),
            totals: CellTotals::new(component.cells.len()),
            newton: Newton::new(component),
            waiting: false,
        }
    }

    /// Builds what `newton`, or a backward solve by rows, works on. False if a level or a row bound cannot be used.
    pub(crate) fn build_rows<T: Storage>(&mut self, given: &Given<'_, T>, component: &Component) -> bool {
        self.in_short_cut = false;
        self.totals.gather(component, given.totals);
        self.rows.build(given.set, component, given.problem, &self.totals)
    }

    /// Takes up a problem, by the short cut if it may and can. False if a level or a row bound cannot be used.
    pub(crate) fn take_up<T: Storage>(&mut self, given: &Given<'_, T>, component: &Component, short_cut: bool) -> bool {
        match &mut self.disjoint {
            Some(disjoint) if short_cut => {
                self.in_short_cut = true;
                disjoint.start(given.set, component, given.problem.levels, given.totals)
            }
            _ => self.build_rows(given, component),
        }
    }

    /// The short cut, if it has the problem in hand.
    pub(crate) fn short_cut(&mut self) -> Option<&mut Disjoint> {
        self.disjoint.as_mut().filter(|_| self.in_short_cut)
    }

    fn start(&mut self, task: &NewtonTask, warm: Option<RealSlice<'_>>) {
        self.waiting = match &self.disjoint {
            Some(disjoint) if self.in_short_cut => !disjoint.is_trivial(),
            _ => {
                self.newton.start(&self.rows, &self.totals, warm);
                self.newton.relax(task, &mut self.rows, &self.totals);
                self.newton.is_waiting()
            }
        };
    }

    fn receive<T: Storage>(&mut self, task: &NewtonTask, given: &Given<'_, T>, component: &Component, sums: &CellSums) {
        if let Some(disjoint) = self.short_cut() {
            match disjoint.receive(task, component, given.totals, sums) {
                Step::Ask => {}
                Step::Solved => self.waiting = false,
                Step::HandOver => {
                    let spent = disjoint.outcome();
                    // (The short cut found them usable.)
                    self.build_rows(given, component);
                    self.newton.take_over(&self.rows, &self.totals, spent);
                    self.waiting = self.newton.is_waiting();
                }
            }
        } else {
            self.newton.receive(task, component, &self.rows, &self.totals, sums);
            self.newton.relax(task, &mut self.rows, &self.totals);
            self.waiting = self.newton.is_waiting();
        }
    }

    /// The shifts of the point asked for; at the end, of the answer. `[cells]`
    fn shift(&self) -> &[f64] {
        match &self.disjoint {
            Some(disjoint) if self.in_short_cut => disjoint.shift(),
            _ => self.newton.shift(),
        }
    }

    /// What became of the component.
    pub(crate) fn outcome(&self) -> Outcome {
        match &self.disjoint {
            Some(disjoint) if self.in_short_cut => disjoint.outcome(),
            _ => self.newton.outcome(),
        }
    }

    /// Writes the multipliers of the component's rows into those of the set; of an infeasible problem the ray. `total` is
    /// the sum of the problem's weights.
    pub(crate) fn write_multipliers(&self, component: &Component, total: f64, multipliers: &mut [f64]) {
        match &self.disjoint {
            Some(disjoint) if self.in_short_cut => {
                let first = component.spreads[0].1;
                disjoint.multipliers().for_each(|(union, nu)| multipliers[first + union] = nu * total);
            }
            _ => {
                let live = self.rows.source.iter().zip(self.newton.multipliers());
                live.for_each(|(&source, nu)| multipliers[source] = nu * total);
            }
        }
    }

    /// Marks the component's rows that constrain nothing in this problem.
    pub(crate) fn mark_inactive(&self, component: &Component, mask: &mut [u32]) {
        let mut mark = |row: usize| mask[row / 32] |= 1 << (row % 32);
        match &self.disjoint {
            Some(disjoint) if self.in_short_cut => {
                let first = component.spreads[0].1;
                disjoint.inactive().for_each(|union| mark(first + union));
            }
            _ => self.rows.inactive.iter().for_each(|&row| mark(row)),
        }
    }

    /// By how much the component's rows are exceeded at these sums, over all cells.
    fn excess_of<T>(&mut self, given: &Given<'_, T>, component: &Component, sums: &CellSums) -> f64 {
        match self.short_cut() {
            Some(disjoint) => disjoint.excess_of(component, given.totals, sums),
            None => self.newton.excess_of(component, &self.rows, sums),
        }
    }
}

/// Solves a problem that its parts have taken up: all components at once, pass by pass. `shift` ends as the answer's
/// shifts over all cells; `sums` is scratch.
pub(crate) fn solve<T: Storage>(
    task: &NewtonTask,
    given: &Given<'_, T>,
    components: &[Component],
    parts: &mut [Part],
    pass: &mut impl CellPass,
    shift: &mut [f64],
    sums: &mut CellSums,
) -> Outcome {
    shift.fill(0.0);
    for part in parts.iter_mut() {
        part.start(task, given.problem.warm_start);
    }
    if let Some(part) = parts.iter().find(|part| !part.waiting && !part.outcome().status.has_answer()) {
        return part.outcome();
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
            part.receive(task, given, component, sums);
            if !part.waiting && !part.outcome().status.has_answer() {
                // One component without an answer is a problem without one.
                return Outcome { passes: outcome.passes, ..part.outcome() };
            }
        }
    }
    for of_part in parts.iter().map(Part::outcome) {
        outcome.iterations = outcome.iterations.max(of_part.iterations);
        outcome.residual = outcome.residual.max(of_part.residual);
        outcome.excess = outcome.excess.max(of_part.excess);
        if of_part.status == Status::Relaxed {
            outcome.status = Status::Relaxed;
        }
    }
    outcome
}

/// By how much the rows are exceeded at `y = clip(z)`.
pub(crate) fn unsolved_excess<T: Storage>(
    given: &Given<'_, T>,
    components: &[Component],
    parts: &mut [Part],
    pass: &mut impl CellPass,
    shift: &mut [f64],
    sums: &mut CellSums,
) -> f64 {
    shift.fill(0.0);
    pass.evaluate(shift, sums);
    let excess = |(part, component): (&mut Part, &Component)| part.excess_of(given, component, sums);
    parts.iter_mut().zip(components).map(excess).fold(0.0, f64::max)
}
