//! The promises of the crate about every answer, on random problems of every kind.

use crate::common::devices::{enough, measuring_error, takes};
use crate::common::kkt::Stated;
use crate::common::planted::planted_problems;
use crate::common::problems::{Case, Kind, draw_case};
use crate::common::rows::{Limits, Origin, excess, extent, live_rows, shifts};
use crate::common::run::{
    Answer, EVERYTHING, Inputs, Rig, assert_close, bits, by_weight, gradient_bits, largest, widened,
};
use crate::for_each_storage;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Calls `check` with random problems of every kind.
fn for_each_case(device: &Device, per_kind: u32, largest: usize, mut check: impl FnMut(&str, &Case)) {
    for kind in Kind::ALL {
        for seed in 0..u64::from(enough(device, per_kind)) {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, largest);
            if takes(device, &case.set) {
                check(&format!("{kind:?}, seed {seed}"), &case);
            }
        }
    }
}

pub fn bounds_hold_bit_for_bit(device: &Device) {
    for_each_storage!(device, bounds_hold);
}

fn bounds_hold<T: Storage>(device: &Device) {
    for_each_case(device, 200, 300, |what, case| {
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let mut rig = Rig::new(device, &case.set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        let solved = view.all_solved();
        for (i, y) in view.y.iter().enumerate() {
            let (lo, hi) = (inputs.lo[i], inputs.hi[i]);
            assert!(lo <= *y && *y <= hi, "{what} in {:?}: {y:?} is not in [{lo:?}, {hi:?}]", T::DTYPE);
            let bound = match view.clamp_state(0, i) {
                ClampState::Free => continue,
                _ if !solved => continue,
                ClampState::AtLower => lo,
                ClampState::AtUpper => hi,
            };
            assert_eq!(y.to_f64().to_bits(), bound.to_f64().to_bits(), "{what}: a clamped element is not its bound");
        }
    });
}

pub fn gap_never_exceeds_epsilon(device: &Device) {
    for_each_storage!(device, gap_within_epsilon, [f32, f64]);
}

/// For epsilon from `max(1e-6, 2^-18 max |y|)` on; ratios make no such promise. Only the measuring itself is granted
/// two ulp of an f64.
fn gap_within_epsilon<T: Storage>(device: &Device) {
    let mut measured = 0;
    for_each_case(device, 1000, 400, |what, case| {
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let mut rig = Rig::new(device, &case.set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        let (stated, y) = (inputs.stated(0), widened(view.y));
        let promised = case.epsilon >= f64::max(1e-6, largest(&y) / 262_144.0) && !has_ratio(&case.set);
        if view.all_solved() && promised {
            let rows = live_rows(&case.set, &stated);
            let over = excess(&case.set, &rows, &Limits::of(&case.set), &y);
            let outcome = view.outcomes[0];
            let (n, size) = (y.len(), largest(&y));
            let what = format!("{what} in {:?}, n = {n}, values up to {size}", T::DTYPE);
            assert!(over <= 2.0 * f64::EPSILON * size, "{what}: {over:e} too much; {outcome:?}");
            assert!(outcome.excess <= 2.0 * f64::EPSILON * size, "{what}: a false excess is reported; {outcome:?}");
            measured += 1;
        }
    });
    assert!(measured > enough(device, 8000), "only {measured} problems fell under the promise");
}

fn has_ratio(set: &ConstraintSet) -> bool {
    set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)))
}

pub fn excess_is_reported_as_measured(device: &Device) {
    for_each_storage!(device, excess_is_reported);
}

/// Whatever epsilon and the storage type: the report is what one measures, and it is a few ulp of `max(|y|, |shift|)`;
/// more for a user's rows that depend on each other.
fn excess_is_reported<T: Storage>(device: &Device) {
    let mut measured = 0;
    for_each_case(device, 400, 300, |what, case| {
        // Of rows without room, 8 margins are the most that is accepted; those of nearly dependent ones grow with what
        // their multipliers cancel.
        let margins = match what {
            _ if what.starts_with("RandomContrasts") => 3.0,
            _ if what.starts_with("DenseConditioned") => 80.0,
            _ if what.starts_with("Dense") => 8.0,
            _ => 1.0,
        };
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let mut rig = Rig::new(device, &case.set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        let (stated, y) = (inputs.stated(0), widened(view.y));
        let rows = live_rows(&case.set, &stated);
        let over = excess(&case.set, &rows, &Limits::of(&case.set), &y).max(0.0);
        let reported = view.outcomes[0].excess;
        let error = (reported - over).abs();
        if view.all_solved() {
            assert!(
                error <= measuring_error(device, largest(&y)),
                "{what} in {:?}: {reported:e}, is {over:e}",
                T::DTYPE
            );
            let size = largest(&y).max(largest(&shifts(&rows, y.len(), view.multipliers)));
            let few_ulp = margins * (12.0 * T::UNIT_ROUNDOFF * size + 1e-11 * size.max(1.0));
            assert!(over <= few_ulp, "{what} in {:?}: {over:e} for numbers up to {size}", T::DTYPE);
            measured += 1;
        }
    });
    assert!(measured > enough(device, 5000), "only {measured} problems were solved");
}

pub fn feasible_input_is_bit_identical(device: &Device) {
    for_each_storage!(device, feasible_input);
}

/// Limits are set to what the input has, and the rounding margin more.
fn feasible_input<T: Storage>(device: &Device) {
    for_each_case(device, 200, 300, |what, case| {
        let clip = |i: usize| case.stated.z[i].max(case.stated.lo[i]).min(case.stated.hi[i]);
        let stated = Stated { z: (0..case.stated.z.len()).map(clip).collect(), ..case.stated.clone() };
        let mut inputs = Inputs::<T>::new(&[&stated]);
        let z = widened(&inputs.z);
        let margin = 32.0 * T::UNIT_ROUNDOFF * largest(&z) + 1e-9;
        let mut limits = Limits::of(&case.set);
        let rows = live_rows(&case.set, &inputs.stated(0));
        for (s, spread) in case.set.spreads().iter().enumerate() {
            let Some((least, most)) = extent(&rows, s, &z) else { continue };
            limits.levels[s] = match spread.limit {
                SpreadLimit::Difference(_) => most - least + margin,
                SpreadLimit::Ratio(_) if least > 4.0 * margin => (least - margin) / most,
                SpreadLimit::Ratio(_) => return,
            };
        }
        for row in &rows {
            if let Origin::Bounded(k) = row.origin {
                // The set's own bounds are about y - label, so the value is too.
                let margin = margin / row.unit;
                (limits.lower[k], limits.upper[k]) = (row.value(&z) - margin, row.value(&z) + margin);
            }
        }
        inputs.limits = Some(limits);
        let mut rig = Rig::new(device, &case.set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        assert_eq!(view.outcomes[0].status, Status::Solved, "{what}");
        assert_eq!(view.outcomes[0].iterations, 0, "{what}");
        assert_eq!(bits(view.y), bits(&inputs.z), "{what}");
        assert!(view.multipliers.iter().all(|nu| *nu == 0.0), "{what}");
    });
}

pub fn a_problem_does_not_see_its_batch(device: &Device) {
    for_each_storage!(device, alone_or_in_a_batch);
}

/// Forward and backward of every problem of a ragged batch equal those of the problem alone.
fn alone_or_in_a_batch<T: Storage>(device: &Device) {
    let mut kinds = vec![Kind::TwoGroups, Kind::ThreeFeatures, Kind::Ratio, Kind::MeanResidual, Kind::TinyGroups];
    kinds.extend(Kind::DENSE);
    for kind in kinds {
        let mut rng = Pcg64Mcg::seed_from_u64(kind as u64);
        let (kind, first) = draw_taken(device, &mut rng, kind, 200);
        // (Emulated GPUs have no time for larger dense ones.)
        let large = if Kind::DENSE.contains(&kind) && device.kind() != "cpu" { 3_000 } else { 30_000 };
        let (mut problems, mut limits) = (vec![first.stated.clone()], vec![Limits::of(&first.set)]);
        while problems.len() < 24 {
            let case = draw_case(&mut rng, kind, if problems.len() == 5 { large } else { 400 });
            if has_the_rows_of(&case.set, &first.set) {
                problems.push(case.stated);
                limits.push(Limits::of(&case.set));
            }
        }
        problems.insert(3, empty());
        limits.insert(3, limits[0].clone());
        problems[7].z[0] = f64::NAN;
        let inputs = Inputs::<T>::new(&problems.iter().collect::<Vec<_>>()).limited(&Limits::joined(&limits));
        let g: Vec<T> = (0..inputs.z.len()).map(|_| T::from_f64(rng.random::<f64>() - 0.5)).collect();
        let mut rig = Rig::new(device, &first.set, &inputs.offsets());
        let together = Answer::all(&rig.project(&elementwise(&inputs)));
        let pulled = gradient_bits(&rig.vjp(&elementwise(&inputs), &g), &inputs.offsets);
        for (i, problem) in problems.iter().enumerate() {
            let alone = Inputs::<T>::new(&[problem]).limited(&limits[i]);
            let mut rig = Rig::new(device, &first.set, &alone.offsets());
            let answer = Answer::of(&rig.project(&elementwise(&alone)), 0);
            assert_eq!(answer, together[i], "problem {i} of {kind:?}");
            let part = &g[inputs.offsets[i]..inputs.offsets[i + 1]];
            let gradients = gradient_bits(&rig.vjp(&elementwise(&alone), part), &alone.offsets);
            assert_eq!(gradients[0], pulled[i], "gradients of problem {i} of {kind:?}");
        }
    }
}

/// Whether problems of the one set, with their own limits, are problems of the other.
fn has_the_rows_of(set: &ConstraintSet, other: &ConstraintSet) -> bool {
    set.layout() == other.layout() && set.rows() == other.rows() && set.dense().len() == other.dense().len()
}

/// A case with no more cells and rows than the device takes. (Three features have 40 cells.)
fn draw_taken(device: &Device, rng: &mut Pcg64Mcg, kind: Kind, largest: usize) -> (Kind, Case) {
    let three = kind == Kind::ThreeFeatures && device.kind() != "cpu";
    let kind = if three { Kind::ManyMarginals } else { kind };
    loop {
        let case = draw_case(rng, kind, largest);
        if takes(device, &case.set) {
            return (kind, case);
        }
    }
}

fn empty() -> Stated {
    Stated::default()
}

/// Bounds and weights element by element, whether they are equal or not.
fn elementwise<T: Storage>(inputs: &Inputs<T>) -> Batch<'_, T> {
    inputs.batch().element_bounds(&inputs.lo, &inputs.hi).weights(&inputs.weights)
}

/// A batch with enough work for several threads, one large problem among it.
fn large_batch<T: Storage>(device: &Device, kind: Kind) -> (ConstraintSet, Inputs<T>, Vec<T>) {
    let mut rng = Pcg64Mcg::seed_from_u64(7 + kind as u64);
    // (A dense problem costs its rows times its samples, again and again where it is hostile; the more where a GPU is emulated.)
    let (count, usual, large) = match (Kind::DENSE.contains(&kind), device.kind()) {
        (false, _) => (60, 2_000, 60_000),
        (true, "cpu") => (60, 200, 5_000),
        (true, _) => (12, 100, 1_500),
    };
    let (kind, first) = draw_taken(device, &mut rng, kind, 100);
    let (mut problems, mut limits) = (vec![first.stated], vec![Limits::of(&first.set)]);
    while problems.len() < count {
        let case = draw_case(&mut rng, kind, if problems.len() == count / 3 { large } else { usual });
        if has_the_rows_of(&case.set, &first.set) {
            problems.push(case.stated);
            limits.push(Limits::of(&case.set));
        }
    }
    let inputs = Inputs::new(&problems.iter().collect::<Vec<_>>()).limited(&Limits::joined(&limits));
    let g = (0..inputs.z.len()).map(|_| T::from_f64(rng.random::<f64>() - 0.5)).collect();
    (first.set, inputs, g)
}

fn all_bits<T: Storage>(
    device: &Device,
    (set, inputs, g): &(ConstraintSet, Inputs<T>, Vec<T>),
) -> (Vec<Answer>, Vec<Vec<u64>>) {
    let mut rig = Rig::new(device, set, &inputs.offsets());
    let answers = Answer::all(&rig.project(&inputs.batch()));
    let gradients = gradient_bits(&rig.vjp(&inputs.batch(), g), &inputs.offsets);
    (answers, gradients)
}

pub fn same_bits_on_any_number_of_threads(device: &Device) {
    for_each_storage!(device, threads_do_not_matter);
}

fn threads_do_not_matter<T: Storage>(device: &Device) {
    let kinds =
        [Kind::TwoGroups, Kind::ThreeFeatures, Kind::MeanResidual, Kind::DenseDependent, Kind::DenseBesideMeans];
    for kind in kinds {
        let work = large_batch::<T>(device, kind);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| all_bits(device, &work))
        };
        let one = with(1);
        for threads in [2, 3, 8] {
            assert!(with(threads) == one, "{threads} threads differ from one on {kind:?} in {:?}", T::DTYPE);
        }
        assert!(all_bits(device, &work) == one, "outside a pool it differs");
    }
}

pub fn a_plan_may_be_used_in_another_pool(device: &Device) {
    let work = large_batch::<f64>(device, Kind::ManyMarginals);
    let expected = all_bits(device, &work);
    let (set, inputs, _) = &work;
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    let mut rig = pool(1).install(|| Rig::<f64>::new(device, set, &inputs.offsets()));
    let answers = pool(6).install(|| Answer::all(&rig.project(&inputs.batch())));
    assert_eq!(answers, expected.0);
}

pub fn same_bits_in_repeated_runs(device: &Device) {
    for_each_storage!(device, runs_repeat);
}

fn runs_repeat<T: Storage>(device: &Device) {
    for kind in [Kind::EqualizedOdds, Kind::DenseBesideMeans] {
        let work = large_batch::<T>(device, kind);
        let (set, inputs, g) = &work;
        let first = all_bits(device, &work);
        let mut rig = Rig::new(device, set, &inputs.offsets());
        for _ in 0..3 {
            assert_eq!(Answer::all(&rig.project(&inputs.batch())), first.0);
            assert_eq!(gradient_bits(&rig.vjp(&inputs.batch(), g), &inputs.offsets), first.1);
        }
    }
}

pub fn single_precision_agrees_with_double(device: &Device) {
    for_each_storage!(device, agrees_with_double, [f32]);
}

/// Forward to 5e-6 max(1, |z|) against f64 on the same stored numbers; backward to 2e-5 of the largest gradient.
fn agrees_with_double<T: Storage>(device: &Device) {
    for seed in 0..20 {
        let mut rng = Pcg64Mcg::seed_from_u64(1000 + seed);
        for p in planted_problems(&mut rng) {
            let single = Inputs::<T>::new(&[&p.stated]).limited(&p.limits);
            let double = Inputs::<f64>::new(&[&single.stated(0)]).limited(&p.limits);
            let g: Vec<T> = single.z.iter().map(|_| T::from_f64(rng.random::<f64>() - 0.5)).collect();
            let mut rigs =
                (Rig::new(device, &p.set, &single.offsets()), Rig::new(&Device::cpu(), &p.set, &double.offsets()));
            let y = (widened(rigs.0.project(&single.batch()).y), rigs.1.project(&double.batch()).y.to_vec());
            let scale = largest(&p.stated.z).max(1.0);
            assert_close(&format!("y of {}", p.name), &y.0, &y.1, 5e-6 * scale);
            let (a, b) = (rigs.0.vjp(&single.batch(), &g), rigs.1.vjp(&double.batch(), &widened(&g)));
            let pairs = [
                ("predictions", widened(a.predictions), b.predictions),
                ("lo", widened(a.lo), b.lo),
                ("hi", widened(a.hi), b.hi),
                ("weights", widened(a.weights), b.weights),
                ("labels", widened(a.labels), b.labels),
                ("levels", a.levels.to_vec(), b.levels),
                ("lower", a.lower.to_vec(), b.lower),
                ("upper", a.upper.to_vec(), b.upper),
                ("coefficients", widened(a.coefficients), b.coefficients),
            ];
            for (what, a, b) in pairs {
                // Some are as good as the multipliers of dense rows, which are as good as y is beside shifts of 0.04.
                let by_multipliers = !p.set.dense().is_empty() && ["coefficients", "weights"].contains(&what);
                let allowed = if by_multipliers { 1e-4 } else { 2e-5 };
                let what = format!("gradient to the {what} of {} (seed {seed})", p.name);
                assert_close(&what, &a, b, allowed * largest(b).max(1e-3));
            }
        }
    }
}

pub fn random_problems_agree_with_double(device: &Device) {
    for_each_storage!(device, random_agrees_with_double, [f32]);
}

/// Answers and gradients of random problems against f64 on the same stored numbers, of kinds whose rows do not depend on
/// each other: where they do, the rounding margin of the answer in single precision is magnified by their condition, on
/// every device. Gradients are compared where both have the same active set.
fn random_agrees_with_double<T: Storage>(device: &Device) {
    let (cpu, mut compared) = (Device::cpu(), (0, 0));
    for_each_case(device, 600, 200, |what, case| {
        let independent = ["TwoGroups", "ManyGroups", "Intersectional", "EqualizedOdds", "Conditional", "MeanResidual"];
        if !case.scores.ordinary() || !independent.iter().any(|kind| what.starts_with(kind)) {
            return;
        }
        let single = Inputs::<T>::new(&[&case.stated]);
        let double = Inputs::<f64>::new(&[&single.stated(0)]);
        let mut rigs = (Rig::new(device, &case.set, &single.offsets()), Rig::new(&cpu, &case.set, &double.offsets()));
        let (a, b) = (rigs.0.project(&single.batch()), rigs.1.project(&double.batch()));
        if b.outcomes[0].status != Status::Solved {
            return;
        }
        assert_eq!(a.outcomes[0].status, Status::Solved, "{what}: {:?}", a.outcomes[0]);
        let (scale, known) = (largest(&case.stated.z).max(1.0), |y: &[f64]| by_weight(y, &case.stated.weights));
        assert_close(&format!("y of {what}"), &known(&widened(a.y)), &known(b.y), 5e-6 * scale);
        compared.0 += 1;
        let n = single.z.len();
        let of_single: Vec<ClampState> = (0..n).map(|i| a.clamp_state(0, i)).collect();
        let same_states = (0..n).all(|i| of_single[i] == b.clamp_state(0, i));
        let held = |nu: &[f64]| nu.iter().map(|nu| nu.total_cmp(&0.0)).collect::<Vec<_>>();
        if !same_states || held(a.multipliers) != held(b.multipliers) {
            return;
        }
        let g: Vec<T> = (0..n).map(|i| T::from_f64((0.7 * i as f64).sin())).collect();
        let (a, b) = (rigs.0.vjp(&single.batch(), &g), rigs.1.vjp(&double.batch(), &widened(&g)));
        for (of, a, b) in [("predictions", a.predictions, b.predictions), ("lo", a.lo, b.lo), ("hi", a.hi, b.hi)] {
            let allowed = 2e-5 * largest(b).max(1e-3);
            assert_close(&format!("gradient to the {of} of {what}"), &widened(a), b, allowed);
        }
        compared.1 += 1;
    });
    println!("{compared:?} answers and gradients compared");
    assert!(compared.0 > enough(device, 1500) && compared.1 > enough(device, 1000), "{compared:?}");
}

pub fn public_types_can_cross_threads(_: &Device) {
    fn crosses<T: Send + Sync + 'static>() {}
    fn of_storage<T: Storage>() {
        crosses::<Projector<T>>();
        crosses::<Solution<T>>();
        crosses::<Gradients<T>>();
        crosses::<Batch<'static, T>>();
        crosses::<SolutionView<'static, T>>();
    }
    of_storage::<f16>();
    of_storage::<bf16>();
    of_storage::<f32>();
    of_storage::<f64>();
    crosses::<ConstraintSet>();
    crosses::<Device>();
    crosses::<Error>();
    crosses::<Status>();
    assert_eq!(EVERYTHING, Wanted { bounds: true, weights: true, labels: true, coefficients: true });
}
