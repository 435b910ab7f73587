//! Gradients against central differences in f64, on planted problems: their active sets do not change within the steps.

use crate::common::devices::enough;
use crate::common::planted::{Planted, contrast, flat, mask, planted_problems, spread};
use crate::common::rows::dot;
use crate::common::run::{EVERYTHING, Inputs, Rig, assert_close, bits, exact, gradient_bits, largest, stored, widened};
use crate::for_each_storage;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const STEP: f64 = 1e-4;
const ROUNDS: u32 = 4;

/// A planted problem with everything that its differences need.
struct Probe {
    what: String,
    inputs: Inputs<f64>,
    rig: Rig<f64>,
    g: Vec<f64>,
    /// Differences are taken by every so many-th number of the samples.
    every: usize,
}

/// Changes one number of the inputs by a step.
type Nudge<'a> = dyn Fn(&mut Inputs<f64>, f64) + 'a;

impl Probe {
    /// The scalar `g . y` with one number changed.
    fn loss(&mut self, nudge: &Nudge<'_>, step: f64) -> f64 {
        let mut inputs = self.inputs.clone();
        nudge(&mut inputs, step);
        let view = self.rig.project(&inputs.batch());
        assert_eq!(view.outcomes[0].status, Status::Solved, "{}", self.what);
        dot(&self.g, view.y)
    }

    /// The central difference of fourth order.
    fn slope(&mut self, nudge: &Nudge<'_>) -> f64 {
        let mut at = |step: f64| self.loss(nudge, step);
        (8.0 * (at(STEP) - at(-STEP)) - (at(2.0 * STEP) - at(-2.0 * STEP))) / (12.0 * STEP)
    }

    /// `f` of the gradients at the planted point.
    fn gradient<R>(&mut self, f: impl Fn(&GradientsView<'_, f64>) -> R) -> R {
        self.rig.project(&self.inputs.batch());
        f(&self.rig.vjp(&self.inputs.batch(), &self.g))
    }

    /// Compares a gradient with differences by its numbers.
    #[track_caller]
    fn compare(&mut self, of: &str, gradient: &[f64], nudge: impl Fn(usize, &mut Inputs<f64>, f64)) {
        let is_of_samples = gradient.len() >= self.inputs.z.len();
        let numbers = (0..gradient.len()).step_by(if is_of_samples { self.every } else { 1 });
        let (probed, slopes): (Vec<f64>, Vec<f64>) = numbers
            .map(|i| (gradient[i], self.slope(&|inputs: &mut Inputs<f64>, step| nudge(i, inputs, step))))
            .unzip();
        assert_close(&format!("gradient to {of} of {}", self.what), &probed, &slopes, 1e-7 * scale(&slopes));
    }
}

/// What differences are compared relative to; differences themselves are no better than 1e-10.
fn scale(slopes: &[f64]) -> f64 {
    largest(slopes).max(1e-2)
}

/// Calls `check` with probes of all planted problems.
fn probe_each(device: &Device, mut check: impl FnMut(&mut Probe, &Planted)) {
    for seed in 0..enough(device, ROUNDS) {
        let mut rng = Pcg64Mcg::seed_from_u64(2000 + u64::from(seed));
        for p in planted_problems(&mut rng) {
            let inputs = Inputs::<f64>::new(&[&p.stated]).limited(&p.limits);
            let g = inputs.z.iter().map(|_| 2.0 * rng.random::<f64>() - 1.0).collect();
            let rig = Rig::with_settings(device, &p.set, &inputs.offsets(), exact());
            let what = format!("{} (seed {seed})", p.name);
            // (Where a call takes long, a third.)
            let every = if device.kind() == "cpu" { 1 } else { 3 };
            check(&mut Probe { what, inputs, rig, g, every }, &p);
        }
    }
}

fn limits(inputs: &mut Inputs<f64>) -> &mut crate::common::rows::Limits {
    inputs.limits.as_mut().expect("a planted problem has limits")
}

pub fn gradient_to_predictions(device: &Device) {
    probe_each(device, |probe, _| {
        let gradient = probe.gradient(|view| view.predictions.to_vec());
        probe.compare("the predictions", &gradient, |i, inputs, step| inputs.z[i] += step);
    });
}

pub fn gradient_to_element_bounds(device: &Device) {
    probe_each(device, |probe, p| {
        let (lo, hi) = probe.gradient(|view| (view.lo.to_vec(), view.hi.to_vec()));
        // The planted problem with unequal bounds is the same; every element has its own.
        assert!(lo.iter().zip(&p.states).all(|(g, state)| *g == 0.0 || *state == ClampState::AtLower));
        probe.compare("the lower bounds", &lo, |i, inputs, step| inputs.lo[i] += step);
        probe.compare("the upper bounds", &hi, |i, inputs, step| inputs.hi[i] += step);
    });
}

pub fn gradient_to_weights(device: &Device) {
    probe_each(device, |probe, _| {
        let gradient = probe.gradient(|view| view.weights.to_vec());
        probe.compare("the weights", &gradient, |i, inputs, step| inputs.weights[i] += step);
    });
}

pub fn gradient_to_coefficients(device: &Device) {
    let mut held = 0;
    probe_each(device, |probe, p| {
        let gradient = probe.gradient(|view| view.coefficients.to_vec());
        assert_eq!(gradient.len(), p.set.dense().len() * p.y.len());
        held += usize::from(gradient.iter().any(|g| *g != 0.0));
        probe.compare("the coefficients", &gradient, |i, inputs, step| inputs.coefficients[i] += step);
    });
    assert!(held >= 5 * enough(device, ROUNDS) as usize, "only {held} problems hold a dense row");
}

pub fn gradient_to_labels(device: &Device) {
    probe_each(device, |probe, p| {
        let gradient = probe.gradient(|view| view.labels.to_vec());
        assert_eq!(gradient.iter().all(|g| *g == 0.0), !holds_residuals(p), "{}", probe.what);
        probe.compare("the labels", &gradient, |i, inputs, step| inputs.labels[i] += step);
    });
}

fn holds_residuals(p: &Planted) -> bool {
    let first = p.set.rows() - p.set.bounded_rows();
    p.set.contrasts().iter().zip(&p.nu[first..]).any(|(contrast, nu)| contrast.residual && *nu != 0.0)
}

pub fn gradient_to_levels(device: &Device) {
    probe_each(device, |probe, p| {
        if p.limits.levels.iter().all(|level| *level > 0.0) {
            let gradient = probe.gradient(|view| view.levels.to_vec());
            probe.compare("the levels", &gradient, |s, inputs, step| limits(inputs).levels[s] += step);
        }
    });
}

/// At epsilon 0 the gradient is the right derivative. The projection is linear there up to the next change of the
/// active set, so that a difference to the right is exact.
pub fn gradient_to_epsilon_at_zero(device: &Device) {
    let mut checked = 0;
    probe_each(device, |probe, p| {
        if p.limits.levels.contains(&0.0) {
            let gradient = probe.gradient(|view| view.levels.to_vec());
            let nudge = |inputs: &mut Inputs<f64>, step| limits(inputs).levels[0] += step;
            let slope = (probe.loss(&nudge, STEP) - probe.loss(&nudge, 0.0)) / STEP;
            assert_close(&probe.what, &gradient, &[slope], 1e-7 * scale(&[slope]));
        }
    });
    for p in planted_problems(&mut Pcg64Mcg::seed_from_u64(2000)) {
        checked += usize::from(p.limits.levels.contains(&0.0));
    }
    assert!(checked > 0);
}

/// Of an equality, both bounds move together, and the gradient is the sum of both.
pub fn gradient_to_row_bounds(device: &Device) {
    probe_each(device, |probe, p| {
        let (lower, upper) = probe.gradient(|view| (view.lower.to_vec(), view.upper.to_vec()));
        let both: Vec<f64> = lower.iter().zip(&upper).map(|(lower, upper)| lower + upper).collect();
        probe.compare("both row bounds", &both, |k, inputs, step| {
            limits(inputs).lower[k] += step;
            limits(inputs).upper[k] += step;
        });
        let open: Vec<usize> = (0..lower.len()).filter(|&k| p.limits.lower[k] < p.limits.upper[k]).collect();
        let of_open = |array: &[f64]| open.iter().map(|&k| array[k]).collect::<Vec<_>>();
        let nudge = |k: usize, inputs: &mut Inputs<f64>, step| limits(inputs).lower[open[k]] += step;
        probe.compare("the lower row bounds", &of_open(&lower), nudge);
        let nudge = |k: usize, inputs: &mut Inputs<f64>, step| limits(inputs).upper[open[k]] += step;
        probe.compare("the upper row bounds", &of_open(&upper), nudge);
    });
}

fn two_groups(epsilon: f64) -> ConstraintSet {
    DemographicParity::within(epsilon).constraints(&Population::one_feature(2)).expect("constraints")
}

pub fn gradients_by_hand(device: &Device) {
    for_each_storage!(device, by_hand);
}

/// The problem of `clipping_by_hand`: the first sample is clamped, so `M = 3/4`, and `lambda = 2/3` for `g = (1, 1, 0, 0)`.
fn by_hand<T: Storage>(device: &Device) {
    let z = stored::<T>(&[1.5, 0.625, 0.25, 0.125]);
    let batch = Batch::single(&z).cells(&[0, 0, 1, 1]).bounds(T::from_f64(0.0), T::from_f64(1.0));
    let mut rig = Rig::new(device, &two_groups(0.25), &batch.offsets());
    rig.project(&batch);
    let view = rig.vjp(&batch, &stored(&[1.0, 1.0, 0.0, 0.0]));
    let third = 1.0 / 3.0;
    let tolerance = 1e-10 + T::UNIT_ROUNDOFF;
    assert_close("predictions", &widened(view.predictions), &[0.0, 2.0 * third, third, third], tolerance);
    assert_close("upper bounds", &widened(view.hi), &[2.0 * third, 0.0, 0.0, 0.0], tolerance);
    assert_close("lower bounds", &widened(view.lo), &[0.0; 4], 0.0);
    assert_close("epsilon", view.levels, &[2.0 * third], 1e-10);
}

/// Two samples: `y = (t, R t)` with `t = (z0 + R z1) / (1 + R^2)`.
pub fn gradient_to_a_ratio_by_hand(device: &Device) {
    let (z, ratio) = ([0.875, 0.5], 0.8);
    let criterion = DemographicParity(Parity::Ratio { ratio });
    let set = criterion.constraints(&Population::one_feature(2)).expect("constraints");
    let square = 1.0 + ratio * ratio;
    let t = (z[0] + ratio * z[1]) / square;
    let dt = (z[1] - 2.0 * ratio * t) / square;
    for (g, expected) in [([1.0, 0.0], dt), ([0.0, 1.0], t + ratio * dt)] {
        let batch = Batch::single(&z).cells(&[0, 1]).bounds(0.0, 1.0);
        let mut rig = Rig::<f64>::new(device, &set, &batch.offsets());
        rig.project(&batch);
        assert_close("the ratio", rig.vjp(&batch, &g).levels, &[expected], 1e-9);
    }
}

pub fn scores_on_their_bounds_pass_gradients(device: &Device) {
    for_each_storage!(device, on_their_bounds);
}

/// A fair problem of hard 0/1 scores: nothing is pushed, so everything is free.
fn on_their_bounds<T: Storage>(device: &Device) {
    let z = stored::<T>(&[1.0, 0.0, 0.0, 1.0]);
    let g = stored::<T>(&[1.0, 2.0, -3.0, 4.0]);
    let batch = Batch::single(&z).cells(&[0, 0, 1, 1]).bounds(T::from_f64(0.0), T::from_f64(1.0));
    let mut rig = Rig::new(device, &two_groups(0.25), &batch.offsets());
    rig.project(&batch);
    let view = rig.vjp(&batch, &g);
    assert_eq!(bits(view.predictions), bits(&g));
    assert!(view.levels.iter().all(|level| *level == 0.0));
}

/// An equality holds its row even where its multiplier is 0: the gradient is projected.
pub fn equalities_hold_without_a_multiplier(device: &Device) {
    let z = [0.75, 0.25, 0.5, 0.5];
    let g = [1.0, 0.0, 0.0, 0.0];
    let mut contrasts = flat(2);
    contrasts.push_contrast(contrast(mask([0]), mask([1]), 1.0, 0.0, 0.0)).expect("a contrast");
    for set in [two_groups(0.0), contrasts] {
        let batch = Batch::single(&z).cells(&[0, 0, 1, 1]);
        let mut rig = Rig::<f64>::new(device, &set, &batch.offsets());
        let view = rig.project(&batch);
        assert_eq!((view.y, view.outcomes[0].iterations), (&z[..], 0));
        assert!(view.multipliers.iter().all(|nu| *nu == 0.0));
        let view = rig.vjp(&batch, &g);
        assert_close("predictions", view.predictions, &[0.75, -0.25, 0.25, 0.25], 1e-12);
    }
}

/// A row that is stated twice changes no gradient to the predictions; those to its bounds are halved (minimum norm).
pub fn duplicate_rows_share_their_gradient(device: &Device) {
    let z = [0.9, 0.8, 0.4, 0.1, 0.3];
    let g = [1.0, -0.5, 2.0, 0.25, 0.0];
    let [once, twice] = [1, 2].map(|times| {
        let mut set = flat(2);
        for _ in 0..times {
            set.push_contrast(contrast(mask([0]), mask([1]), 1.0, -0.125, 0.125)).expect("a contrast");
        }
        let batch = Batch::single(&z).cells(&[0, 0, 1, 1, 1]).bounds(0.0, 1.0);
        let mut rig = Rig::<f64>::new(device, &set, &batch.offsets());
        let y = rig.project(&batch).y.to_vec();
        // Both copies are held, whichever of them carries the multiplier.
        let view = rig.vjp(&batch, &g);
        (y, view.predictions.to_vec(), view.upper.iter().sum::<f64>())
    });
    assert_close("y", &once.0, &twice.0, 1e-9);
    assert_close("predictions", &once.1, &twice.1, 1e-9);
    assert_close("upper bounds", &[once.2], &[twice.2], 1e-9);
}

/// Gradient accumulation: two forwards with one plan, then their two backwards.
pub fn two_forwards_before_one_backward(device: &Device) {
    for_each_storage!(device, two_forwards, [f32, f64]);
}

fn two_forwards<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let mut set = flat(3);
    set.push_spread(spread([0, 1, 2].map(|cell| mask([cell])), SpreadLimit::Difference(0.05))).expect("a spread");
    let cells: Vec<u8> = (0..30).map(|i| i % 3).collect();
    let mut random = |shift: f64| -> Vec<T> {
        (0..30).map(|i| T::from_f64(rng.random::<f64>() + shift * f64::from(i % 3))).collect()
    };
    let (z, g) = ([random(0.2), random(-0.4)], random(0.0));
    let batches: Vec<Batch<'_, T>> =
        z.iter().map(|z| Batch::single(z).cells(&cells).bounds(T::from_f64(0.0), T::from_f64(1.0))).collect();
    let separately: Vec<_> = (batches.iter())
        .map(|batch| {
            let mut rig = Rig::new(device, &set, &batch.offsets());
            rig.project(batch);
            gradient_bits(&rig.vjp(batch, &g), &[0, 30])
        })
        .collect();
    assert_ne!(separately[0], separately[1]);
    let mut projector = Projector::plan(device, &set, Capacities::single(30), Settings::default()).expect("a plan");
    let solutions: Vec<_> = batches.iter().map(|batch| projector.project(batch).expect("the batch fits")).collect();
    for i in [1, 0, 1] {
        let mut gradients = projector.gradients(EVERYTHING);
        projector.vjp(&batches[i], &solutions[i], &g, &mut gradients).expect("the batch fits");
        assert_eq!(gradient_bits(&gradients.read().expect("gradients"), &[0, 30]), separately[i]);
    }
}

/// Arrays that are not wanted are empty, and what is wanted does not depend on them but for rounding.
pub fn unwanted_gradients_are_empty(device: &Device) {
    for p in planted_problems(&mut Pcg64Mcg::seed_from_u64(5)) {
        let inputs = Inputs::<f64>::new(&[&p.stated]).limited(&p.limits);
        let batch = inputs.batch();
        let g: Vec<f64> = (0..p.y.len()).map(|i| 1.0 / (i + 1) as f64).collect();
        let mut rig = Rig::new(device, &p.set, &batch.offsets());
        rig.project(&batch);
        let arrays = |view: &GradientsView<'_, f64>| {
            let always = [view.predictions, view.levels, view.lower, view.upper];
            let chosen = [view.lo, view.hi, view.weights, view.labels, view.coefficients];
            always.into_iter().chain(chosen).map(<[f64]>::to_vec).collect::<Vec<_>>()
        };
        let all = arrays(&rig.vjp(&batch, &g));
        for choice in 0..16 {
            let wanted = Wanted {
                bounds: choice & 1 > 0,
                weights: choice & 2 > 0,
                labels: choice & 4 > 0,
                coefficients: choice & 8 > 0,
            };
            let mut gradients = rig.projector.gradients(wanted);
            rig.projector.vjp(&batch, &rig.solution, &g, &mut gradients).expect("the batch fits");
            let some = arrays(&gradients.read().expect("gradients"));
            let is_wanted = [wanted.bounds, wanted.bounds, wanted.weights, wanted.labels, wanted.coefficients];
            for (i, is_wanted) in [true; 4].into_iter().chain(is_wanted).enumerate() {
                let expected = if is_wanted { &all[i][..] } else { &[] };
                let what = format!("array {i} of {} with {wanted:?}", p.name);
                assert_close(&what, &some[i], expected, 1e-13 * largest(expected));
            }
        }
    }
}

/// Groups of one spread are solved in closed form; weight gradients, and warm starts, take the general way. Both find the
/// same, where groups have no free element and where one is absent, too.
pub fn closed_forms_agree_with_the_general_way(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(41);
    let mut held = 0;
    for round in 0..300 {
        let groups = rng.random_range(2..7_usize);
        let n = rng.random_range(2..60_usize);
        let epsilon = [0.0, 0.01, 0.2][round % 3];
        let set = DemographicParity::within(epsilon).constraints(&Population::one_feature(groups)).expect("criterion");
        let saturated = rng.random_range(0..=groups) as u8;
        let absent = rng.random_range(0..2 * groups) as u8;
        let cells: Vec<u8> =
            (0..n).map(|_| rng.random_range(0..groups) as u8).map(|c| if c == absent { 0 } else { c }).collect();
        // One group has all its scores far beyond the bounds.
        let far = |cell: u8| if cell == saturated { 3.0 } else { 0.0 };
        let z: Vec<f64> =
            cells.iter().map(|&cell| rng.random_range(-0.3..1.3) + 0.1 * f64::from(cell) + far(cell)).collect();
        let g: Vec<f64> = z.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        let batch = Batch::single(&z).cells(&cells).bounds(0.0, 1.0);
        let mut rig = Rig::<f64>::with_settings(device, &set, &batch.offsets(), exact());
        rig.project(&batch);
        held += usize::from(rig.solution.read().expect("solution").outcomes[0].iterations > 0);
        let answers = [Wanted::default(), EVERYTHING].map(|wanted| {
            let mut gradients = rig.projector.gradients(wanted);
            rig.projector.vjp(&batch, &rig.solution, &g, &mut gradients).expect("the batch fits");
            let view = gradients.read().expect("gradients");
            (view.predictions.to_vec(), view.levels.to_vec())
        });
        let what = format!("round {round}, epsilon {epsilon}");
        assert_close(&what, &answers[0].0, &answers[1].0, 1e-9);
        assert_close(&what, &answers[0].1, &answers[1].1, 1e-9 * (1.0 + largest(&answers[1].1)));

        let y = rig.solution.read().expect("solution").y.to_vec();
        let start = vec![0.0; set.rows()];
        let general = rig.project(&batch.warm_start(&start)).y.to_vec();
        assert_close(&what, &y, &general, 1e-8);
    }
    assert!(held > 200, "only {held} problems had anything to solve");
}
