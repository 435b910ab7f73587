//! ADMM, the second method, against the first: the same statuses, answers, relaxations, proofs and gradients.

use crate::common::devices::{enough, takes};
use crate::common::kkt::{Stated, judge, proves};
use crate::common::problems::{Case, Kind, draw_case};
use crate::common::rows::Limits;
use crate::common::run::{Answer, Inputs, Rig, assert_close, bits, by_weight, gradient_bits, largest, stored, widened};
use crate::for_each_storage;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

fn by(method: Method) -> Settings {
    Settings { method, ..Settings::default() }
}

/// Calls `check` with random problems of these kinds that the device takes.
fn for_each_case(device: &Device, kinds: &[Kind], count: u32, most: usize, mut check: impl FnMut(&str, Kind, &Case)) {
    for kind in kinds {
        for seed in 0..u64::from(enough(device, count)) {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | *kind as u64), *kind, most);
            if takes(device, &case.set) {
                check(&format!("{kind:?}, seed {seed}"), *kind, &case);
            }
        }
    }
}

/// How far apart two answers are at the most, those of light samples scaled down.
fn apart(case: &Case, a: &[f64], b: &[f64]) -> f64 {
    let known = |y: &[f64]| by_weight(y, &case.stated.weights);
    known(a).iter().zip(known(b)).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// Random problems of every kind in single precision by ADMM, against Newton's answers on the CPU in double precision of the
/// same stored numbers: within 5e-6; or, where the rows magnify what single precision needs for a margin, not twice as far as
/// other answers in single precision. Nearly dependent rows magnify it without end, and are judged by their KKT residual, as
/// all are.
pub fn admm_agrees_with_double(device: &Device) {
    let (mut solved, mut proved, mut unlike, mut farthest) = (0, 0, 0, 0.0_f64);
    for_each_case(device, &Kind::ALL, 60, 200, |what, kind, case| {
        let single = Inputs::<f32>::new(&[&case.stated]);
        let double = Inputs::<f64>::new(&[&single.stated(0)]);
        let mut rig = Rig::<f32>::with_settings(device, &case.set, &single.offsets(), by(Method::Admm));
        let view = rig.project(&single.batch());
        let (outcome, y) = (view.outcomes[0], widened(view.y));
        let mut rig = Rig::<f64>::new(&Device::cpu(), &case.set, &double.offsets());
        let exact = rig.project(&double.batch());
        let status = exact.outcomes[0].status;
        let mut rig = Rig::<f32>::new(device, &case.set, &single.offsets());
        let newton = rig.project(&single.batch());
        if outcome.status != status {
            // Hardly feasible, or nearly dependent: single precision may end at its limit, or find a way within its margin. It
            // never proves what is not so.
            assert!(!kind.well_conditioned(), "{what}: {outcome:?}, where {status:?} is right");
            assert_ne!(outcome.status, Status::Infeasible, "{what}");
            unlike += 1;
            return;
        }
        match status {
            Status::Solved => {
                let scale = largest(&case.stated.z).max(1.0);
                let (own, others) =
                    (apart(case, &y, exact.y) / scale, apart(case, &widened(newton.y), exact.y) / scale);
                // The margin is 8 roundings, grown 8 times at the most, and 8 margins are the most that is accepted.
                let kkt = judge(&case.set, &single.stated(0), &y, view.multipliers, 1e-6 * scale);
                assert!(kkt.worst() <= 512.0 * 2.0_f64.powi(-24) * scale, "{what}: {kkt:?}");
                // The same in the same precision on the CPU, where that is another device.
                let mut rig = Rig::<f32>::with_settings(&Device::cpu(), &case.set, &single.offsets(), by(Method::Admm));
                let twin = apart(case, &widened(rig.project(&single.batch()).y), exact.y) / scale;
                let margin = if device.kind() == "cpu" { others } else { others.max(twin) };
                assert!(
                    !kind.well_conditioned() || own <= f64::max(5e-6, 2.0 * margin),
                    "{what}: {own:e} off, by Newton {others:e}, on the CPU {twin:e}; {outcome:?}"
                );
                farthest = if margin <= 5e-6 { farthest.max(own) } else { farthest };
                solved += 1;
            }
            _ => proved += 1,
        }
    });
    println!("{solved} solved, {farthest:.1e} off; {proved} infeasible; {unlike} unlike");
    assert!(solved > enough(device, 1000) && proved > enough(device, 20) && unlike <= proved / 4);
}

/// Infeasible problems: the rays that ADMM ends with prove it, and relaxed, they violate their rows by as little as by Newton.
pub fn admm_proves_and_relaxes(device: &Device) {
    for_each_storage!(device, proves_and_relaxes, [f32, f64]);
}

fn proves_and_relaxes<T: Storage>(device: &Device) {
    let (mut proved, mut relaxed) = (0, 0);
    let kinds = [Kind::DenseContradictory, Kind::MeanResidual, Kind::DenseBesideMeans];
    for_each_case(device, &kinds, 100, 100, |what, kind, case| {
        let mut stated = case.stated.clone();
        if kind == Kind::MeanResidual {
            // Out of reach.
            stated.labels.iter_mut().for_each(|label| *label += 1.5);
        }
        let mut inputs = Inputs::<T>::new(&[&stated]);
        if kind == Kind::DenseBesideMeans {
            // The last row asks for more than the bounds allow, by far.
            let mut limits = Limits::of(&case.set);
            let last = limits.lower.len() - 1;
            let size: f64 = stated.coefficients[stated.coefficients.len() - 1].iter().map(|a| a.abs()).sum();
            let farthest = stated.lo.iter().chain(&stated.hi).fold(0.0_f64, |most, bound| most.max(bound.abs()));
            if !(farthest.is_finite() && size > 0.0) {
                return;
            }
            (limits.lower[last], limits.upper[last]) = (2.0 * size * farthest, f64::INFINITY);
            inputs.limits = Some(limits);
        }
        let limits = inputs.limits.clone().unwrap_or_else(|| Limits::of(&case.set));
        let own = inputs.stated(0);
        let mut rig = Rig::<T>::with_settings(device, &case.set, &inputs.offsets(), by(Method::Admm));
        let view = rig.project(&inputs.batch());
        if view.outcomes[0].status != Status::Infeasible {
            return;
        }
        proves(&case.set, &own, &limits, view.multipliers).unwrap_or_else(|why| panic!("{what}: {why}"));
        let clip = |i: usize| inputs.z[i].to_f64().max(own.lo[i]).min(own.hi[i]);
        assert!((0..own.z.len()).all(|i| view.y[i].to_f64() == clip(i)), "{what}");
        proved += 1;
        let excess = [Method::Newton, Method::Admm].map(|method| {
            let settings = Settings { infeasible: Infeasible::NearestFeasible, ..by(method) };
            let mut rig = Rig::<T>::with_settings(device, &case.set, &inputs.offsets(), settings);
            let outcome = rig.project(&inputs.batch()).outcomes[0];
            (outcome.status == Status::Relaxed).then_some(outcome.excess)
        });
        if let [Some(newton), Some(admm)] = excess {
            let size = largest(&own.z).max(1.0);
            assert!((newton - admm).abs() <= 1e-5 * size, "{what}: {newton:e} and {admm:e}");
            relaxed += 1;
        } else {
            assert_eq!(excess[0].is_some(), excess[1].is_some(), "{what}");
        }
    });
    println!("{proved} proved, {relaxed} relaxed");
    assert!(proved > enough(device, 100) && relaxed > enough(device, 80), "{proved} {relaxed}");
}

pub fn admm_answers_in_every_storage(device: &Device) {
    for_each_storage!(device, answers_in_storage);
}

/// Solved, or the same status as by Newton; bounds kept, and no more above the limits than that may be.
fn answers_in_storage<T: Storage>(device: &Device) {
    let (mut solved, mut unlike) = (0, Vec::new());
    let kinds = [Kind::Overall, Kind::Ratio, Kind::MeanResidual, Kind::DenseBesideMeans];
    for_each_case(device, &kinds, 60, 100, |what, _, case| {
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let [newton, admm] = [Method::Newton, Method::Admm].map(|method| {
            let mut rig = Rig::<T>::with_settings(device, &case.set, &inputs.offsets(), by(method));
            let view = rig.project(&inputs.batch());
            (view.outcomes[0], widened(view.y))
        });
        let own = inputs.stated(0);
        assert!((0..own.z.len()).all(|i| own.lo[i] <= admm.1[i] && admm.1[i] <= own.hi[i]), "{what} in {:?}", T::DTYPE);
        if ![newton.0.status, Status::Solved].contains(&admm.0.status) {
            unlike.push(format!("{what}: {:?} and {:?}", newton.0, admm.0));
        }
        if admm.0.status == Status::Solved && newton.0.status == Status::Solved {
            let size = largest(&own.z).max(largest(&newton.1)).max(1.0);
            let allowed = 64.0 * T::UNIT_ROUNDOFF * size + 1e-10 * size;
            assert!(admm.0.excess <= newton.0.excess + allowed, "{what} in {:?}: {:?}", T::DTYPE, admm.0);
            solved += 1;
        }
    });
    assert!(solved > enough(device, 180) && unlike.len() <= solved as usize / 50, "{solved} solved, {unlike:?}");
}

/// Limits far from what the input has: it comes back as it is, without an iteration.
pub fn admm_leaves_fair_inputs_alone(device: &Device) {
    for_each_storage!(device, fair_inputs);
}

fn fair_inputs<T: Storage>(device: &Device) {
    let kinds = [Kind::TwoGroups, Kind::Overall, Kind::EqualizedOdds, Kind::DenseBesideMeans];
    for_each_case(device, &kinds, 40, 100, |what, _, case| {
        let clip = |i: usize| case.stated.z[i].max(case.stated.lo[i]).min(case.stated.hi[i]);
        let stated = Stated { z: (0..case.stated.z.len()).map(clip).collect(), ..case.stated.clone() };
        let mut limits = Limits::of(&case.set);
        limits.levels.fill(1e6);
        limits.lower.fill(-1e9);
        limits.upper.fill(1e9);
        let inputs = Inputs::<T>::new(&[&stated]).limited(&limits);
        let mut rig = Rig::<T>::with_settings(device, &case.set, &inputs.offsets(), by(Method::Admm));
        let view = rig.project(&inputs.batch());
        assert_eq!((view.outcomes[0].status, view.outcomes[0].iterations), (Status::Solved, 0), "{what}");
        assert_eq!(bits(view.y), bits(&inputs.z), "{what}");
        assert!(view.multipliers.iter().all(|nu| *nu == 0.0), "{what}");
    });
}

/// Forward and backward of every problem of a ragged batch equal those of the problem alone, one of them empty and one
/// with a NaN.
pub fn a_problem_by_admm_does_not_see_its_batch(device: &Device) {
    for_each_storage!(device, alone_or_in_a_batch, [f32, f64]);
}

fn alone_or_in_a_batch<T: Storage>(device: &Device) {
    for kind in [Kind::EqualizedOdds, Kind::DenseBesideMeans, Kind::DenseContradictory] {
        let mut rng = Pcg64Mcg::seed_from_u64(kind as u64);
        let draw = |rng: &mut Pcg64Mcg, most| loop {
            let case = draw_case(rng, kind, most);
            if takes(device, &case.set) && case.set.rows() <= 12 {
                return case;
            }
        };
        let first = draw(&mut rng, 60);
        let (mut problems, mut limits) = (vec![first.stated.clone()], vec![Limits::of(&first.set)]);
        while problems.len() < 12 {
            let case = draw(&mut rng, if problems.len() == 5 { 700 } else { 60 });
            let alike = (case.set.rows(), case.set.dense().len()) == (first.set.rows(), first.set.dense().len());
            if alike && case.set.layout() == first.set.layout() {
                problems.push(case.stated);
                limits.push(Limits::of(&case.set));
            }
        }
        problems.insert(3, Stated::default());
        limits.insert(3, limits[0].clone());
        problems[7].z[0] = f64::NAN;
        let inputs = Inputs::<T>::new(&problems.iter().collect::<Vec<_>>()).limited(&Limits::joined(&limits));
        let g: Vec<T> = (0..inputs.z.len()).map(|_| T::from_f64(rng.random::<f64>() - 0.5)).collect();
        let run = |inputs: &Inputs<T>, g: &[T]| {
            let batch = inputs.batch().element_bounds(&inputs.lo, &inputs.hi).weights(&inputs.weights);
            let mut rig = Rig::<T>::with_settings(device, &first.set, &inputs.offsets(), by(Method::Admm));
            let answers = Answer::all(&rig.project(&batch));
            (answers, gradient_bits(&rig.vjp(&batch, g), &inputs.offsets))
        };
        let (together, pulled) = run(&inputs, &g);
        assert_eq!(together[7].status, Status::BadNumber);
        for (i, problem) in problems.iter().enumerate() {
            let alone = Inputs::<T>::new(&[problem]).limited(&limits[i]);
            let (answers, gradients) = run(&alone, &g[inputs.offsets[i]..inputs.offsets[i + 1]]);
            assert_eq!(answers[0], together[i], "problem {i} of {kind:?}");
            assert_eq!(gradients[0], pulled[i], "gradients of problem {i} of {kind:?}");
        }
    }
}

/// Where both methods hold the same rows and elements, gradients are the same.
pub fn gradients_do_not_know_the_method(device: &Device) {
    for_each_storage!(device, gradients_of_both, [f32, f64]);
}

fn gradients_of_both<T: Storage>(device: &Device) {
    let (mut compared, allowed) = (0, if T::DTYPE == Dtype::F64 { 1e-7 } else { 2e-5 });
    let kinds = [Kind::TwoGroups, Kind::Overall, Kind::EqualizedOdds, Kind::Dense, Kind::DenseBesideMeans];
    for_each_case(device, &kinds, 60, 100, |what, _, case| {
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let g: Vec<T> = stored(&(0..inputs.z.len()).map(|i| (0.7 * i as f64).sin()).collect::<Vec<_>>());
        let [newton, admm] = [Method::Newton, Method::Admm].map(|method| {
            let mut rig = Rig::<T>::with_settings(device, &case.set, &inputs.offsets(), by(method));
            let view = rig.project(&inputs.batch());
            let states: Vec<ClampState> = (0..g.len()).map(|i| view.clamp_state(0, i)).collect();
            let signs: Vec<_> = view.multipliers.iter().map(|nu| nu.total_cmp(&0.0)).collect();
            let held = (view.outcomes[0].status, states, signs);
            let to = rig.vjp(&inputs.batch(), &g);
            (held, [widened(to.predictions), widened(to.lo), widened(to.hi)])
        });
        if newton.0 == admm.0 {
            for (a, b) in admm.1.iter().zip(&newton.1) {
                assert_close(&format!("gradient of {what}"), a, b, allowed * largest(b).max(1.0));
            }
            compared += 1;
        }
    });
    assert!(compared > enough(device, 150), "only {compared} problems hold the same");
}

/// Whatever ADMM is told to do, Newton has the last word.
pub fn settings_of_admm_change_no_answer(device: &Device) {
    for_each_storage!(device, settings_change_nothing, [f32, f64]);
}

fn settings_change_nothing<T: Storage>(device: &Device) {
    let usual = AdmmSettings::default();
    let settings = [
        AdmmSettings { max_iterations: 0, ..usual },
        AdmmSettings { max_iterations: 3, ..usual },
        AdmmSettings { eps_abs: 0.0, eps_rel: 0.0, max_iterations: 200, ..usual },
        AdmmSettings { eps_abs: 1e300, ..usual },
        AdmmSettings { rho: 1e-300, sigma: 1e300, max_iterations: 200, ..usual },
        AdmmSettings { rho: 1e300, sigma: 1e-300, max_iterations: 200, ..usual },
        AdmmSettings { relaxation: 1.99, ..usual },
        AdmmSettings { relaxation: 1e-3, max_iterations: 200, ..usual },
    ];
    for_each_case(device, &[Kind::TwoGroups, Kind::Overall, Kind::DenseBesideMeans], 30, 60, |what, _, case| {
        if !case.scores.ordinary() {
            return;
        }
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let run = |settings| {
            let mut rig = Rig::<T>::with_settings(device, &case.set, &inputs.offsets(), settings);
            let view = rig.project(&inputs.batch());
            (view.outcomes[0].status, widened(view.y))
        };
        let (status, y) = run(by(Method::Newton));
        let allowed = (64.0 * T::UNIT_ROUNDOFF + 1e-8) * largest(&case.stated.z).max(1.0);
        for admm in settings {
            let own = run(Settings { admm, ..by(Method::Admm) });
            assert_eq!(own.0, status, "{what}: {admm:?}");
            let far = apart(case, &own.1, &y);
            assert!(far <= allowed, "{what}: {far:e} off with {admm:?}");
        }
    });
}
