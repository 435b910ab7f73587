//! Gradients of dense rows that depend on each other: rank-deficient, stated twice, zero, more than there are samples, and
//! over clamped samples only. The rows are `A = C B` with bounds `C b`, so that no change of `B` and `b` makes them
//! contradict each other, and `y` has derivatives; those to `A` and its bounds follow the chain rule.

use crate::common::kkt::Stated;
use crate::common::planted::{flat, with_dense};
use crate::common::rows::{Limits, dot};
use crate::common::run::{Inputs, Rig, assert_close};
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const STEP: f64 = 1e-5;

/// `[k]` rows `B` with right sides `b`, and how the rows of the problem are mixed of them.
#[derive(Clone)]
struct Mixed {
    base: Vec<Vec<f64>>,
    right: Vec<f64>,
    mix: Vec<Vec<f64>>,
    equalities: bool,
    /// A row of its own that holds nothing: over clamped samples only.
    idle: Vec<f64>,
    stated: Stated,
    g: Vec<f64>,
}

fn vector(rng: &mut Pcg64Mcg, n: usize, (from, to): (f64, f64)) -> Vec<f64> {
    (0..n).map(|_| rng.random_range(from..to)).collect()
}

impl Mixed {
    /// A problem whose answer is planted: `k` base rows held by multipliers, and `m` rows mixed of them.
    fn plant(rng: &mut Pcg64Mcg, n: usize, m: usize, equalities: bool) -> Self {
        let k = rng.random_range(1..=2);
        let base: Vec<Vec<f64>> = (0..k).map(|_| vector(rng, n, (-1.0, 1.0))).collect();
        let weights = vector(rng, n, (0.5, 2.0));
        let nu = vector(rng, k, (0.1, 0.3));
        let (lo, hi) = (vector(rng, n, (-0.2, 0.1)), vector(rng, n, (0.9, 1.2)));
        let (mut z, mut y) = (Vec::new(), Vec::new());
        for i in 0..n {
            // A sample in three is clamped, and three at least are free.
            let (at, beyond) = match (i >= 3, rng.random_range(0..6)) {
                (true, 0) => (lo[i], -0.2),
                (true, 1) => (hi[i], 0.2),
                _ => (lo[i] + (hi[i] - lo[i]) * rng.random_range(0.2..0.8), 0.0),
            };
            let shift: f64 = (0..k).map(|r| nu[r] * base[r][i]).sum::<f64>() / weights[i];
            z.push(at + beyond + shift);
            y.push(at);
        }
        let right = base.iter().map(|row| dot(row, &y)).collect();
        let row_of_mix = |rng: &mut Pcg64Mcg, r: usize| -> Vec<f64> {
            let only = |c: usize, factor: f64| (0..k).map(|other| if other == c { factor } else { 0.0 }).collect();
            match r {
                // All base rows are there, then multiples, a row of zeros, and anything.
                _ if r < k => only(r, 1.0),
                _ if r == k => only(0, 1.0),
                _ if r == k + 1 => vec![0.0; k],
                _ if equalities => vector(rng, k, (-2.0, 2.0)),
                _ => only(rng.random_range(0..k), rng.random_range(0.1..10.0)),
            }
        };
        let mix = (0..m.max(k + 2)).map(|r| row_of_mix(rng, r)).collect();
        let idle = (0..n).map(|i| if y[i] == lo[i] || y[i] == hi[i] { 1.0 } else { 0.0 }).collect();
        let (cells, labels) = (vec![0; n], vec![0.0; n]);
        let stated = Stated { z, cells, weights, labels, lo, hi, coefficients: Vec::new() };
        let g = vector(rng, n, (-1.0, 1.0));
        Self { base, right, mix, equalities, idle, stated, g }
    }

    fn inputs(&self) -> (ConstraintSet, Inputs<f64>) {
        let n = self.g.len();
        let mixed =
            |mix: &Vec<f64>| (0..n).map(|i| self.base.iter().zip(mix).map(|(row, c)| c * row[i]).sum()).collect();
        let mut coefficients: Vec<Vec<f64>> = self.mix.iter().map(mixed).collect();
        let mut upper: Vec<f64> = self.mix.iter().map(|mix| dot(mix, &self.right)).collect();
        let mut lower = if self.equalities { upper.clone() } else { vec![f64::NEG_INFINITY; upper.len()] };
        coefficients.push(self.idle.clone());
        lower.push(-100.0);
        upper.push(100.0);
        let set = with_dense(flat(1), coefficients.len());
        let inputs = Inputs::new(&[&Stated { coefficients, ..self.stated.clone() }]);
        (set, inputs.limited(&Limits { levels: Vec::new(), lower, upper }))
    }

    fn rig(&self, device: &Device) -> (Rig<f64>, Inputs<f64>) {
        let (set, inputs) = self.inputs();
        let settings = Settings { tolerance: 0.0, ..Settings::default() };
        (Rig::with_settings(device, &set, &inputs.offsets(), settings), inputs)
    }

    /// `g . y`.
    fn loss(&self, device: &Device) -> f64 {
        let (mut rig, inputs) = self.rig(device);
        let view = rig.project(&inputs.batch());
        assert!(view.all_solved(), "{:?}", view.outcomes[0]);
        dot(&self.g, view.y)
    }

    /// Central differences of the loss in numbers of the problem.
    fn slopes(&self, device: &Device, count: usize, number: impl Fn(&mut Self, usize) -> &mut f64) -> Vec<f64> {
        let at = |i: usize, step: f64| {
            let mut other = self.clone();
            *number(&mut other, i) += step;
            other.loss(device)
        };
        (0..count).map(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP)).collect()
    }

    fn check(&self, device: &Device) {
        let (n, k, m) = (self.g.len(), self.base.len(), self.mix.len());
        let (mut rig, inputs) = self.rig(device);
        let view = rig.project(&inputs.batch());
        assert!(view.all_solved(), "{:?}", view.outcomes[0]);
        let view = rig.vjp(&inputs.batch(), &self.g);
        // C^T dL/dA, and C^T of the gradients to both bounds.
        let mut to_base = vec![0.0; k * n];
        let mut to_right = vec![0.0; k];
        for (r, mix) in self.mix.iter().enumerate() {
            for (c, factor) in mix.iter().enumerate() {
                (0..n).for_each(|i| to_base[c * n + i] += factor * view.coefficients[r * n + i]);
                to_right[c] += factor * (view.lower[r] + view.upper[r]);
            }
        }
        assert!(view.coefficients[m * n..].iter().all(|g| *g == 0.0) && view.upper[m] == 0.0, "an idle row");
        let close = |what: &str, got: &[f64], expected: Vec<f64>| {
            let scale = expected.iter().fold(1.0_f64, |most, slope| most.max(slope.abs()));
            let what = format!("{what}, {k} base rows, {m} rows, n {n}, equalities {}", self.equalities);
            assert_close(&what, got, &expected, 1e-6 * scale);
        };
        close("coefficients", &to_base, self.slopes(device, k * n, |p, i| &mut p.base[i / n][i % n]));
        close("row bounds", &to_right, self.slopes(device, k, |p, i| &mut p.right[i]));
        close("predictions", view.predictions, self.slopes(device, n, |p, i| &mut p.stated.z[i]));
        close("lower bounds", view.lo, self.slopes(device, n, |p, i| &mut p.stated.lo[i]));
        close("upper bounds", view.hi, self.slopes(device, n, |p, i| &mut p.stated.hi[i]));
        close("weights", view.weights, self.slopes(device, n, |p, i| &mut p.stated.weights[i]));
    }
}

pub fn gradients_of_dependent_dense_rows(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(41);
    for round in 0..60 {
        let n = rng.random_range(4..9);
        // More rows than samples every other time.
        let m = if round % 2 == 0 { n + rng.random_range(1..8) } else { rng.random_range(3..=n.max(4)) };
        Mixed::plant(&mut rng, n, m, round % 4 < 2).check(device);
    }
}
