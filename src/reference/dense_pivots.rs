//! `dense_pivots`: projection onto dense rows by a dual active set method in numbers of twice the digits: the last resort.
//!
//! Rows that meet the bounds in a corner, or that differ by a millionth where few samples are free, leave the dual so flat
//! that neither Newton's steps nor ADMM's end. Here the active rows and bounds are exchanged one at a time, each exchange by
//! the exact solution of a small system, so that flatness is no matter; digits are, and there are twice as many.
//! (Goldfarb, Idnani: A numerically stable dual method for solving strictly convex quadratic programs, 1983.)
//!
//! Held rows are at a bound, pinned samples are at one, both with multipliers of the right sign; `y` is the nearest point
//! under these. One constraint after the other that is violated is brought to its bound by raising its multiplier, the held
//! and pinned ones following; one whose multiplier would change its sign lets go on the way. Every constraint that gets there
//! has raised the dual objective, so this ends. With `G = M W M^T` of the held rows over the samples that are not pinned, a
//! unit of the multiplier of row p with side s moves the others' by `-s G^-1 M W m_p`. Rows that start with a multiplier
//! without being held are brought to their bound, or their multiplier to zero, in the same way.
//!
//! Rows of spreads, whose centres are free, are not for this method.

use super::dense_admm::AdmmData;
use super::linear::{ldl_factor, ldl_solve};
use super::rows::Rows;
use super::sums::vectorised;
use super::two_floats::Twofold;

/// The square of what is left of a constraint that depends on the active ones, at the most, relative to its own. (Rounding of
/// coefficients leaves 1e-32.)
const DEPENDENT: f64 = 1e-26;
/// Pivots that are allowed for a start, and for every row and sample.
const FIRST_PIVOTS: usize = 1000;
const PIVOTS_EACH: usize = 10;

/// What became of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Answer,
    /// The multipliers are a ray along which the dual grows without end.
    Ray,
    /// There was no end to it.
    Nothing,
}

/// A constraint that is not met, and the side of it: 1 above, -1 below.
#[derive(Clone, Copy, Debug)]
enum Violated {
    Row(usize),
    Sample(usize, f64),
}

/// What lets go first along a step.
#[derive(Clone, Copy, Debug)]
enum Release {
    /// By its place among the held ones.
    Row(usize),
    Sample(usize),
    /// The row that the step is about: its multiplier is zero.
    Own(usize),
}

/// The method, with its memory.
#[derive(Clone, Debug)]
pub(crate) struct Pivots {
    left: usize,
    slack: f64,
    lack: f64,
    // Of the rows, `[m]`.
    first: Vec<f64>,
    nu: Vec<Twofold>,
    /// What a unit of the step adds to the multipliers.
    step: Vec<Twofold>,
    /// The side of a held row: 1 at the upper bound, -1 at the lower; 0 of the others.
    side: Vec<f64>,
    held: Vec<usize>,
    /// `[m]`: the right side of a system of the held rows, and its solution.
    solved: Vec<Twofold>,
    /// `[m, m]`: `M W M^T` over the samples that are not pinned.
    gram: Vec<Twofold>,
    /// The factor of its part of the held rows.
    factor: Vec<Twofold>,
    // Of the samples, `[n]`.
    y: Vec<Twofold>,
    /// M^T nu.
    shift: Vec<Twofold>,
    /// What a unit of the step takes from a sample that is not pinned.
    moved: Vec<Twofold>,
    /// 1 at the upper bound, -1 at the lower, 0 between them.
    pin: Vec<f64>,
    /// `[m]`: the answer's multipliers as two numbers.
    parts: [Vec<f64>; 2],
}

impl Pivots {
    /// Room for problems of up to this size.
    pub(crate) fn new(rows: usize, samples: usize) -> Self {
        let of = Vec::with_capacity;
        Self {
            left: 0,
            slack: 0.0,
            lack: 0.0,
            first: Vec::with_capacity(rows),
            nu: of(rows),
            step: of(rows),
            side: Vec::with_capacity(rows),
            held: Vec::with_capacity(rows),
            solved: of(rows),
            gram: of(rows * rows),
            factor: of(rows * rows),
            y: of(samples),
            shift: of(samples),
            moved: of(samples),
            pin: Vec::with_capacity(samples),
            parts: std::array::from_fn(|_| Vec::with_capacity(rows)),
        }
    }

    /// The multipliers of the answer, or a ray, and what single numbers lack of them. `[m]`
    pub(crate) fn multipliers(&self) -> (&[f64], &[f64]) {
        (&self.parts[0], &self.parts[1])
    }

    /// By how much the rows have to be relaxed, at the least, for the last ray not to be one.
    pub(crate) fn lack(&self) -> f64 {
        self.lack
    }

    /// Where the next problem begins: at these multipliers, or at none.
    pub(crate) fn begin_at(&mut self, multipliers: &[f64]) {
        self.first.clear();
        self.first.extend_from_slice(multipliers);
    }

    /// Solves a problem without spreads. The rows, relaxed by `slack`, and the
    /// bounds are met to `tolerance`, all in units of the predictions.
    pub(crate) fn solve(&mut self, rows: &Rows, data: AdmmData<'_>, (tolerance, slack): (f64, f64)) -> Found {
        self.slack = slack;
        self.start(rows, data);
        let found = loop {
            match self.worst(rows, data, tolerance) {
                None => break Found::Answer,
                Some(violated) => match self.resolve(rows, data, violated, tolerance) {
                    Found::Answer => {}
                    found => break found,
                },
            }
        };
        let multipliers = if found == Found::Ray { &self.step } else { &self.nu };
        for (part, value) in self.parts.iter_mut().zip([|nu: &Twofold| nu.large, |nu: &Twofold| nu.small]) {
            part.clear();
            part.extend(multipliers.iter().map(value));
        }
        found
    }

    fn start(&mut self, rows: &Rows, data: AdmmData<'_>) {
        let (m, n) = (rows.m, data.z.len());
        self.left = FIRST_PIVOTS + PIVOTS_EACH * (m + n);
        self.nu.clear();
        self.nu.extend(self.first.iter().map(|nu| Twofold::from(*nu)));
        self.nu.resize(m, Twofold::default());
        self.side.clear();
        self.side.resize(m, 0.0);
        self.held.clear();
        for (array, length) in [(&mut self.step, m), (&mut self.solved, m), (&mut self.gram, m * m)] {
            array.clear();
            array.resize(length, Twofold::default());
        }
        self.factor.clear();
        self.factor.resize(m * m, Twofold::default());
        for array in [&mut self.y, &mut self.shift, &mut self.moved] {
            array.clear();
            array.resize(n, Twofold::default());
        }
        for r in (0..m).filter(|&r| self.nu[r].large != 0.0) {
            add_times(&mut self.shift, rows.row(r), self.nu[r]);
        }
        self.pin.clear();
        for i in 0..n {
            let free = Twofold::from(data.z[i]) - self.shift[i];
            let (lo, hi) = (data.lo[i], data.hi[i]);
            let pin = if free.large < lo || lo == hi { -1.0 } else { f64::from(free.large > hi) };
            self.y[i] = if pin == 0.0 { free } else { Twofold::from(if pin > 0.0 { hi } else { lo }) };
            self.pin.push(pin);
            if pin == 0.0 {
                self.update_gram(rows, data, i, 1.0);
            }
        }
    }

    /// Adds a sample to the Gram matrix, or takes it out.
    fn update_gram(&mut self, rows: &Rows, data: AdmmData<'_>, i: usize, sign: f64) {
        let m = rows.m;
        for r in 0..m {
            let scaled = Twofold::product(sign * data.weight[i], rows.row(r)[i]);
            for q in 0..=r {
                let value = self.gram[r * m + q] + scaled.times(rows.row(q)[i]);
                (self.gram[r * m + q], self.gram[q * m + r]) = (value, value);
            }
        }
    }

    /// Whether a row is held whatever its multiplier.
    fn is_equality(&self, rows: &Rows, r: usize) -> bool {
        rows.is_equality(r) && self.slack == 0.0
    }

    /// What a row takes, less its upper bound or its lower one.
    fn beyond(&self, rows: &Rows, data: AdmmData<'_>, r: usize, side: f64) -> f64 {
        let bound = if side > 0.0 { rows.upper[r] } else { rows.lower[r] };
        if bound.is_infinite() {
            return -bound;
        }
        let start = -(Twofold::from(bound) + Twofold::from(side * self.slack));
        let terms = rows.row(r).iter().zip(data.weight).zip(&self.y);
        terms.fold(start, |sum, ((b, w), y)| sum + Twofold::product(*b, *w) * *y).large
    }

    /// How far a row that is not held is from the bound that its multiplier is of; without a multiplier, by how much it is
    /// violated. Above 0 beyond the upper bound, or inside of the lower.
    fn gap_of_row(&self, rows: &Rows, data: AdmmData<'_>, r: usize) -> f64 {
        let nu = self.nu[r].large;
        if nu != 0.0 && !self.is_equality(rows, r) {
            return self.beyond(rows, data, r, nu.signum());
        }
        let above = self.beyond(rows, data, r, 1.0);
        if above > 0.0 { above } else { self.beyond(rows, data, r, -1.0).min(0.0) }
    }

    /// The constraint that is violated the most; of those within the tolerance, a row with a multiplier that is not held.
    fn worst(&self, rows: &Rows, data: AdmmData<'_>, tolerance: f64) -> Option<Violated> {
        let (mut worst, mut found) = (tolerance, None);
        for (i, y) in self.y.iter().enumerate().filter(|(i, _)| self.pin[*i] == 0.0) {
            for (side, bound) in [(1.0, data.hi[i]), (-1.0, data.lo[i])] {
                let beyond = if bound.is_finite() { side * (*y - Twofold::from(bound)).large } else { 0.0 };
                if beyond > worst {
                    (worst, found) = (beyond, Some(Violated::Sample(i, side)));
                }
            }
        }
        let mut open = None;
        for r in (0..rows.m).filter(|&r| self.side[r] == 0.0) {
            let gap = self.gap_of_row(rows, data, r).abs();
            if gap > worst {
                (worst, found) = (gap, Some(Violated::Row(r)));
            }
            if self.nu[r].large != 0.0 {
                open = Some(Violated::Row(r));
            }
        }
        found.or(open)
    }

    /// Brings a constraint to its bound, or its multiplier to zero.
    fn resolve(&mut self, rows: &Rows, data: AdmmData<'_>, violated: Violated, tolerance: f64) -> Found {
        while self.left > 0 {
            self.left -= 1;
            let (sign, gap, own) = match violated {
                Violated::Row(r) => {
                    let (gap, nu) = (self.gap_of_row(rows, data, r), self.nu[r].large);
                    // One that is where it belongs is held there, or does without its multiplier.
                    let settled = gap.abs() <= tolerance && nu != 0.0;
                    let sign = if settled { -nu.signum() } else { gap.signum() };
                    let shrinks = sign * nu < 0.0 && (settled || !self.is_equality(rows, r));
                    (sign, if settled { 0.0 } else { gap.abs() }, shrinks.then_some(r))
                }
                Violated::Sample(i, side) => {
                    let bound = if side > 0.0 { data.hi[i] } else { data.lo[i] };
                    (side, side * (self.y[i] - Twofold::from(bound)).large, None)
                }
            };
            self.find_step(rows, data, violated, sign);
            // A sample by itself has a length of its weight, in which its gap counts as often.
            let size = match violated {
                Violated::Row(r) => rows.scale[r],
                Violated::Sample(i, _) => data.weight[i],
            };
            let gap = if let Violated::Sample(i, _) = violated { data.weight[i] * gap } else { gap };
            let square = self.square_of_move(data);
            let whole = Twofold::from(gap / square);
            let (first, release) = self.first_release(rows, data, own);
            if square > DEPENDENT * size && whole.large <= first.large {
                self.go(violated, whole);
                self.hold(rows, data, violated);
                return Found::Answer;
            }
            let Some(release) = release else {
                self.lack = gap / self.step.iter().map(|step| step.large.abs()).sum::<f64>();
                return Found::Ray;
            };
            self.go(violated, first);
            match release {
                Release::Row(place) => {
                    let r = self.held.swap_remove(place);
                    (self.nu[r], self.side[r]) = (Twofold::default(), 0.0);
                }
                Release::Sample(i) => {
                    self.pin[i] = 0.0;
                    self.update_gram(rows, data, i, 1.0);
                }
                Release::Own(r) => {
                    self.nu[r] = Twofold::default();
                    return Found::Answer;
                }
            }
        }
        Found::Nothing
    }

    /// Fills in what the multiplier of a constraint does as it grows on a side: to those of the held rows, and to the samples.
    fn find_step(&mut self, rows: &Rows, data: AdmmData<'_>, violated: Violated, sign: f64) {
        let (m, k) = (rows.m, self.held.len());
        self.step.fill(Twofold::default());
        self.moved.fill(Twofold::default());
        for (a, &r) in self.held.iter().enumerate() {
            for (b, &q) in self.held.iter().enumerate() {
                self.factor[a * k + b] = self.gram[r * m + q];
            }
        }
        ldl_factor(&mut self.factor[..k * k], k);
        match violated {
            Violated::Row(r) => {
                self.step[r] = Twofold::from(sign);
                add_times(&mut self.moved, rows.row(r), Twofold::from(sign));
            }
            Violated::Sample(i, _) => self.moved[i] = Twofold::from(sign),
        }
        // Once to solve, and once more for what rounding leaves of the held rows in the move.
        for _ in 0..2 {
            for (a, &r) in self.held.iter().enumerate() {
                let row = rows.row(r);
                let sum = (0..row.len())
                    .filter(|&i| self.pin[i] == 0.0)
                    .fold(Twofold::default(), |sum, i| sum + Twofold::product(row[i], data.weight[i]) * self.moved[i]);
                self.solved[a] = -sum;
            }
            ldl_solve(&self.factor[..k * k], k, &mut self.solved[..k]);
            for (a, &r) in self.held.iter().enumerate() {
                self.step[r] = self.step[r] + self.solved[a];
                add_times(&mut self.moved, rows.row(r), self.solved[a]);
            }
        }
    }

    /// The square of what a unit of the step moves the samples by, in the norm of the weights.
    fn square_of_move(&self, data: AdmmData<'_>) -> f64 {
        let free = (0..self.moved.len()).filter(|&i| self.pin[i] == 0.0);
        free.map(|i| data.weight[i] * self.moved[i].large * self.moved[i].large).sum()
    }

    /// How far the step can go until a multiplier is zero, and whose. Equalities have no side.
    fn first_release(&self, rows: &Rows, data: AdmmData<'_>, own: Option<usize>) -> (Twofold, Option<Release>) {
        let (mut first, mut release) = (Twofold::from(f64::INFINITY), None);
        let mut consider = |length: Twofold, what: Release| {
            if length.large < first.large {
                (first, release) = (length, Some(what));
            }
        };
        if let Some(r) = own {
            consider(self.nu[r].abs(), Release::Own(r));
        }
        for (place, &r) in self.held.iter().enumerate().filter(|&(_, &r)| !self.is_equality(rows, r)) {
            if self.side[r] * self.step[r].large < 0.0 {
                consider(from_zero(-(self.nu[r] / self.step[r])), Release::Row(place));
            }
        }
        for i in (0..self.pin.len()).filter(|&i| self.pin[i] != 0.0 && data.lo[i] < data.hi[i]) {
            if self.pin[i] * self.moved[i].large > 0.0 {
                let pull = Twofold::from(data.z[i]) - self.shift[i] - self.y[i];
                consider(from_zero(pull / self.moved[i]), Release::Sample(i));
            }
        }
        (first, release)
    }

    /// Goes so far along the step.
    fn go(&mut self, violated: Violated, length: Twofold) {
        self.nu.iter_mut().zip(&self.step).for_each(|(nu, step)| *nu = *nu + length * *step);
        for i in 0..self.y.len() {
            let moved = length * self.moved[i];
            self.shift[i] = self.shift[i] + moved;
            self.y[i] = if self.pin[i] == 0.0 { self.y[i] - moved } else { self.y[i] };
        }
        if let Violated::Sample(i, side) = violated {
            // A part of this move is its own bound's.
            self.shift[i] = self.shift[i] - length.times(side);
        }
    }

    /// The constraint is at its bound, and stays there.
    fn hold(&mut self, rows: &Rows, data: AdmmData<'_>, violated: Violated) {
        match violated {
            Violated::Row(r) => {
                self.held.push(r);
                self.side[r] = if self.nu[r].large > 0.0 { 1.0 } else { -1.0 };
            }
            Violated::Sample(i, side) => {
                self.pin[i] = side;
                self.y[i] = Twofold::from(if side > 0.0 { data.hi[i] } else { data.lo[i] });
                self.update_gram(rows, data, i, -1.0);
            }
        }
    }
}

/// What rounding left below zero is zero.
fn from_zero(length: Twofold) -> Twofold {
    if length.large > 0.0 { length } else { Twofold::default() }
}

/// `x_i += factor a_i`
fn add_times(x: &mut [Twofold], a: &[f64], factor: Twofold) {
    vectorised(
        #[inline(always)]
        |_| x.iter_mut().zip(a).for_each(|(x, a)| *x = *x + factor.times(*a)),
    );
}
