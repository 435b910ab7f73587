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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::certificate::{BoxSums, Within, proves_infeasible};
    use crate::reference::components::Component;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    struct Case {
        rows: Rows,
        z: Vec<f64>,
        weight: Vec<f64>,
        lo: Vec<f64>,
        hi: Vec<f64>,
    }

    impl Case {
        fn new(rng: &mut Pcg64Mcg, n: usize) -> Self {
            let weight: Vec<f64> = (0..n).map(|_| 0.01 + rng.random::<f64>()).collect();
            let total: f64 = weight.iter().sum();
            let mut rows = Rows::with_capacity(&Component::default()).of_samples();
            rows.clear(n);
            Self {
                rows,
                z: (0..n).map(|_| 4.0 * rng.random::<f64>() - 1.5).collect(),
                weight: weight.iter().map(|w| w / total).collect(),
                lo: vec![0.0; n],
                hi: (0..n).map(|i| if i % 5 == 4 { f64::INFINITY } else { 1.0 }).collect(),
            }
        }

        fn push(&mut self, row: &[f64], bounds: impl Fn(f64) -> (f64, f64), point: &[f64]) {
            let value = row.iter().zip(&self.weight).zip(point).map(|((b, w), y)| b * w * y).sum();
            let source = self.rows.m;
            self.rows.push_scaled(&self.weight, row.iter().copied(), bounds(value), source);
        }

        fn data(&self) -> AdmmData<'_> {
            AdmmData { z: &self.z, weight: &self.weight, lo: &self.lo, hi: &self.hi }
        }

        fn solve(&self, first: &[f64]) -> (Found, Pivots) {
            let mut pivots = Pivots::new(self.rows.m, self.z.len());
            pivots.begin_at(first);
            (pivots.solve(&self.rows, self.data(), (1e-13, 0.0)), pivots)
        }

        /// What an answer's multipliers make of every sample; how far its rows are from where they have to be.
        fn judge(&self, pivots: &Pivots) -> (Vec<f64>, f64) {
            let (nu, rest) = pivots.multipliers();
            let mut shift = vec![0.0; self.z.len()];
            self.rows.exact_shifts(nu, rest, &mut shift);
            let y: Vec<f64> =
                (0..shift.len()).map(|i| (self.z[i] - shift[i]).max(self.lo[i]).min(self.hi[i])).collect();
            let mut off = 0.0_f64;
            for (r, &nu) in nu.iter().enumerate() {
                let mean: f64 = self.rows.row(r).iter().zip(&self.weight).zip(&y).map(|((b, w), y)| b * w * y).sum();
                let (lower, upper) = (self.rows.lower[r], self.rows.upper[r]);
                let side = if nu > 0.0 { upper } else { lower };
                off = off.max(mean - upper).max(lower - mean).max(if nu == 0.0 { 0.0 } else { (mean - side).abs() });
            }
            (y, off)
        }
    }

    /// Rows that differ by down to a millionth, met by a point within the bounds.
    fn draw(rng: &mut Pcg64Mcg) -> Case {
        let (n, m) = (rng.random_range(1..12), rng.random_range(1..8));
        let mut case = Case::new(rng, n);
        let point: Vec<f64> = (0..n).map(|_| if rng.random() { 1.0 } else { rng.random() }).collect();
        let shared: Vec<f64> = (0..n).map(|_| rng.random::<f64>() - 0.5).collect();
        let closeness = 10_f64.powf(-6.0 * rng.random::<f64>());
        for _ in 0..m {
            let row: Vec<f64> = shared.iter().map(|b| b + closeness * (rng.random::<f64>() - 0.5)).collect();
            let form = rng.random_range(0..4);
            let bounds = |value: f64| match form {
                0 => (value - 1e-12, f64::INFINITY),
                1 => (f64::NEG_INFINITY, value + 1e-12),
                2 => (value - 1e-3, value + 1e-12),
                _ => (value - 1e-12, value + 0.1),
            };
            case.push(&row, bounds, &point);
        }
        case
    }

    #[test]
    fn answers_are_proved_by_their_multipliers() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for trial in 0..3000 {
            let case = draw(&mut rng);
            let (found, pivots) = case.solve(&[]);
            assert_eq!(found, Found::Answer, "trial {trial}");
            let (y, off) = case.judge(&pivots);
            assert!(off <= 2e-13, "trial {trial}: {off:e}");
            let size: f64 = pivots.multipliers().0.iter().map(|nu| nu.abs()).sum();
            // From anywhere else it is the same, as far as the tolerance lets the objective tell.
            let first: Vec<f64> = (0..case.rows.m).map(|_| rng.random::<f64>() - 0.5).collect();
            let (found, pivots) = case.solve(&first);
            assert_eq!(found, Found::Answer, "trial {trial}");
            let (other, off) = case.judge(&pivots);
            let squares = y.iter().zip(&other).zip(&case.weight).map(|((a, b), w)| w * (a - b) * (a - b));
            let apart: f64 = squares.sum();
            let told = size + pivots.multipliers().0.iter().map(|nu| nu.abs()).sum::<f64>();
            assert!(off <= 2e-13 && apart <= 2e-13 * told + 1e-25, "trial {trial}: {off:e}, {apart:e}, {told:e}");
        }
    }

    #[test]
    fn equalities_take_either_sign() {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        for trial in 0..500 {
            let n = rng.random_range(3..12);
            let mut case = Case::new(&mut rng, n);
            let point: Vec<f64> = (0..n).map(|_| 0.1 + 0.8 * rng.random::<f64>()).collect();
            for _ in 0..rng.random_range(1..4) {
                let row: Vec<f64> = (0..n).map(|_| rng.random::<f64>() - 0.5).collect();
                case.push(&row, |value| (value, value), &point);
            }
            let (found, pivots) = case.solve(&[]);
            assert_eq!(found, Found::Answer, "trial {trial}");
            let (_, off) = case.judge(&pivots);
            assert!(off <= 2e-13, "trial {trial}: {off:e}");
        }
    }

    #[test]
    fn what_cannot_be_met_leaves_a_ray() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        for trial in 0..200 {
            let n = rng.random_range(2..12);
            let mut case = Case::new(&mut rng, n);
            case.hi.fill(1.0);
            let row: Vec<f64> = (0..n).map(|_| 0.1 + rng.random::<f64>()).collect();
            let other: Vec<f64> = (0..n).map(|_| rng.random::<f64>() - 0.5).collect();
            let ones = vec![1.0; n];
            case.push(&other, |value| (f64::NEG_INFINITY, value), &ones);
            case.push(&row, |value| (1.01 * value, f64::INFINITY), &ones);
            let (found, pivots) = case.solve(&[]);
            assert_eq!(found, Found::Ray, "trial {trial}");
            let times = |bounds: &[f64]| bounds.iter().zip(&case.weight).map(|(bound, w)| bound * w).collect();
            let bounds = BoxSums { lo: times(&case.lo), hi: times(&case.hi) };
            let within = Within { bounds: &bounds, weight: &case.weight, size: 1.0 };
            assert!(proves_infeasible(&case.rows, within, pivots.multipliers().0, &mut vec![0.0; n]), "trial {trial}");
            assert!(pivots.lack() > 0.0);
        }
    }
}
