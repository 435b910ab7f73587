//! What becomes of problems that cannot be solved, and that their neighbours do not notice.

use crate::common::kkt::{Stated, judge, proves};
use crate::common::planted::{contrast, flat, mask, spread};
use crate::common::problems::{Kind, draw_case};
use crate::common::rows::{Limits, dot, live_rows};
use crate::common::run::{
    Answer, EVERYTHING, Inputs, Rig, assert_close, bits, by_weight, gradient_bits, largest, stored,
};
use crate::for_each_storage;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn stated(z: &[f64], cells: &[u8]) -> Stated {
    let of = |value: f64| vec![value; z.len()];
    let (z, cells) = (z.to_vec(), cells.to_vec());
    Stated { weights: of(1.0), labels: of(0.0), lo: of(0.0), hi: of(1.0), z, cells, coefficients: vec![] }
}

/// A batch of three problems, the middle one to be spoilt.
fn three<T: Storage>(set: &ConstraintSet) -> Inputs<T> {
    let cells = [0, 0, 1, 1];
    let mut problems =
        [[0.9, 0.7, 0.2, 0.1], [0.25, 1.5, -0.5, 0.75], [0.8, 0.6, 0.5, 0.1]].map(|z| stated(&z, &cells));
    problems.iter_mut().for_each(|p| p.weights = vec![1.0, 2.0, 1.0, 0.5]);
    let one = Limits::of(set);
    let limits = Limits { levels: one.levels.repeat(3), lower: one.lower.repeat(3), upper: one.upper.repeat(3) };
    let mut inputs = Inputs::new(&problems.iter().collect::<Vec<_>>()).limited(&limits);
    // Bounds that differ, so that they are given element by element.
    inputs.hi[0] = T::from_f64(2.0);
    inputs
}

/// A difference spread, a ratio spread and a contrast over two cells.
fn mixed() -> ConstraintSet {
    let mut set = flat(2);
    let groups = || [mask([0]), mask([1])];
    set.push_spread(spread(groups(), SpreadLimit::Difference(0.25))).expect("a spread");
    set.push_spread(spread(groups(), SpreadLimit::Ratio(0.5))).expect("a spread");
    set.push_contrast(contrast(mask([0]), CellMask::EMPTY, 0.0, 0.0, 1.0)).expect("a contrast");
    set
}

/// `clip` as the crate words it: raised to the lower bound, then lowered to the upper one; a NaN stays a NaN.
fn clipped<T: Storage>(inputs: &Inputs<T>, range: std::ops::Range<usize>) -> Vec<T> {
    let clip = |i: usize| {
        let (z, lo, hi) = (inputs.z[i], inputs.lo[i], inputs.hi[i]);
        let raised = if z < lo { lo } else { z };
        if raised > hi { hi } else { raised }
    };
    range.map(clip).collect()
}

/// Checks that problem 1 of three has this status, clip(z) and zero gradients, and that its neighbours are untouched.
fn check_middle<T: Storage>(device: &Device, set: &ConstraintSet, inputs: &Inputs<T>, what: &str, expected: Status) {
    let g = vec![T::from_f64(1.0); inputs.z.len()];
    let run = |inputs: &Inputs<T>| {
        let mut rig = Rig::new(device, set, &inputs.offsets());
        let answers = Answer::all(&rig.project(&inputs.batch()));
        (answers, gradient_bits(&rig.vjp(&inputs.batch(), &g), &inputs.offsets))
    };
    let (answers, gradients) = run(inputs);
    let what = format!("{what} in {:?}", T::DTYPE);
    assert_eq!(answers[1].status, expected, "{what}");
    assert_eq!(answers[1].y, bits(&clipped(inputs, 4..8)), "{what}");
    assert!(gradients[1].iter().all(|g| f64::from_bits(*g) == 0.0), "{what}");
    let (healthy, healthy_gradients) = run(&three(set));
    for neighbour in [0, 2] {
        assert_eq!(answers[neighbour].status, Status::Solved, "{what}");
        assert_eq!(answers[neighbour], healthy[neighbour], "{what}");
        assert_eq!(gradients[neighbour], healthy_gradients[neighbour], "{what}");
    }
}

pub fn bad_numbers(device: &Device) {
    for_each_storage!(device, bad_numbers_are_contained);
}

fn bad_numbers_are_contained<T: Storage>(device: &Device) {
    type Spoil<T> = fn(&mut Inputs<T>, f64);
    fn limits<T>(inputs: &mut Inputs<T>) -> &mut Limits {
        inputs.limits.as_mut().expect("limits")
    }
    let spoils: [(&str, Spoil<T>, &[f64]); 12] = [
        ("prediction", |b, x| b.z[5] = T::from_f64(x), &[NAN, INF, -INF]),
        ("weight", |b, x| b.weights[6] = x, &[0.0, -0.0, -1.0, NAN, INF, -INF]),
        ("label", |b, x| b.labels[4] = x, &[NAN, INF, -INF]),
        ("cell", |b, x| b.cells[7] = x as u8, &[2.0, 3.0, 255.0]),
        ("lower bound", |b, x| b.lo[5] = T::from_f64(x), &[NAN, INF, 1.5, -0.25]),
        ("upper bound", |b, x| b.hi[6] = T::from_f64(x), &[NAN, -INF, -0.25]),
        ("all lower bounds", |b, x| b.lo[4..8].fill(T::from_f64(x)), &[-INF]),
        ("epsilon", |b, x| limits(b).levels[2] = x, &[NAN, INF, -1e-300, -1.0]),
        ("ratio", |b, x| limits(b).levels[3] = x, &[NAN, INF, 0.0, -0.5, 1.0 + 1e-9]),
        ("lower row bound", |b, x| limits(b).lower[1] = x, &[NAN, INF, 1.5]),
        ("upper row bound", |b, x| limits(b).upper[1] = x, &[NAN, -INF, -0.5]),
        ("weights", |b, x| b.weights[4..8].fill(x), &[f64::MAX, 1e-320]),
    ];
    let set = mixed();
    for (what, spoil, values) in spoils {
        for value in values {
            let mut inputs = three::<T>(&set);
            spoil(&mut inputs, *value);
            check_middle(device, &set, &inputs, &format!("{what} {value}"), Status::BadNumber);
        }
    }
}

/// Group and control ids out of range spoil their own problem only.
pub fn ids_out_of_range(device: &Device) {
    let people = Population::one_feature(2).with_control(2);
    let set = ConditionalParity::within(0.1).constraints(&people).expect("constraints");
    let z = [0.9, 0.1, 0.8, 0.2, 0.9, 0.1, 0.8, 0.2];
    let offsets = [0, 4, 8];
    let run = |groups: &[u8; 8], control: &[u8; 8]| {
        let arrays = [groups.into()];
        let batch = Batch::<f64>::new(&z, Offsets::Ragged(&offsets)).groups(&arrays).control(control);
        let mut rig = Rig::new(device, &set, &batch.offsets());
        let answers = Answer::all(&rig.project(&batch));
        let gradients = gradient_bits(&rig.vjp(&batch, &[1.0; 8]), &offsets);
        (answers, gradients)
    };
    let (groups, control) = ([0, 1, 0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0, 1, 1]);
    let healthy = run(&groups, &control);
    assert!(healthy.0.iter().all(|answer| answer.status == Status::Solved));
    for (at, id) in [(0, 2), (3, 255)] {
        let (mut bad_group, mut bad_control) = (groups, control);
        (bad_group[at], bad_control[at]) = (id, id);
        for (answers, gradients) in [run(&bad_group, &control), run(&groups, &bad_control)] {
            assert_eq!(answers[0].status, Status::BadNumber);
            assert_eq!(answers[0].y, bits(&z[..4]));
            assert!(gradients[0].iter().all(|g| *g == 0));
            assert_eq!((&answers[1], &gradients[1]), (&healthy.0[1], &healthy.1[1]));
        }
    }
}

pub fn infeasible_problems_come_with_a_proof(device: &Device) {
    for_each_storage!(device, infeasible);
}

fn infeasible<T: Storage>(device: &Device) {
    let set = mixed();
    // Targets out of reach of the bounds, a group held away from another, and each through its own row.
    type Spoil<T> = fn(&mut Inputs<T>);
    fn limits<T>(inputs: &mut Inputs<T>) -> &mut Limits {
        inputs.limits.as_mut().expect("limits")
    }
    fn hold<T: Storage>(inputs: &mut Inputs<T>, values: [f64; 4]) {
        for (i, value) in values.into_iter().enumerate() {
            (inputs.lo[4 + i], inputs.hi[4 + i]) = (T::from_f64(value), T::from_f64(value));
        }
    }
    let spoils: [(&str, Spoil<T>); 5] = [
        ("a mean above its bounds", |b| (limits(b).lower[1], limits(b).upper[1]) = (1.25, 1.5)),
        ("a mean below its bounds", |b| (limits(b).lower[1], limits(b).upper[1]) = (-INF, -0.25)),
        ("groups held apart", |b| hold(b, [0.75, 0.75, 0.25, 0.25])),
        ("groups held in a ratio", |b| hold(b, [0.25, 0.25, 0.0625, 0.0625])),
        ("one group held, the other told to leave", |b| {
            hold(b, [0.5, 0.5, 0.5, 0.5]);
            (limits(b).lower[1], limits(b).upper[1]) = (0.625, 1.0);
        }),
    ];
    for (what, spoil) in spoils {
        let mut inputs = three::<T>(&set);
        spoil(&mut inputs);
        check_middle(device, &set, &inputs, what, Status::Infeasible);
        let mut rig = Rig::new(device, &set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        let all = inputs.limits.as_ref().expect("limits");
        let own = Limits { levels: all.levels[2..4].to_vec(), lower: vec![all.lower[1]], upper: vec![all.upper[1]] };
        proves(&set, &inputs.stated(1), &own, view.problem_multipliers(1))
            .unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}

/// Mean residuals whose labels lie outside the bounds.
pub fn unreachable_labels_are_infeasible(device: &Device) {
    let set = MeanResidual::within(0.1).constraints(&Population::one_feature(2)).expect("constraints");
    let mut p = stated(&[0.5, 0.5, 0.5], &[0, 0, 1]);
    p.labels = vec![1.5, 1.0, 0.5];
    let inputs = Inputs::<f64>::new(&[&p]);
    let mut rig = Rig::new(device, &set, &inputs.offsets());
    let view = rig.project(&inputs.batch());
    assert_eq!(view.outcomes[0].status, Status::Infeasible);
    assert_eq!(view.y, p.z);
    proves(&set, &p, &Limits::of(&set), view.multipliers).expect("a proof");
}

/// Contrasts that contradict each other without any bound on the elements.
pub fn contradictions_are_infeasible(device: &Device) {
    let mut set = flat(3);
    for (plus, minus, lower, upper) in [(0, 1, 0.5, 0.6), (1, 2, 0.5, 0.6), (0, 2, -0.2, 0.2)] {
        set.push_contrast(contrast(mask([plus]), mask([minus]), 1.0, lower, upper)).expect("a contrast");
    }
    let mut p = stated(&[0.1, 0.5, 0.9, 0.4], &[0, 1, 2, 2]);
    (p.lo, p.hi) = (vec![-INF; 4], vec![INF; 4]);
    let inputs = Inputs::<f64>::new(&[&p]);
    let mut rig = Rig::new(device, &set, &inputs.offsets());
    let view = rig.project(&inputs.batch());
    assert_eq!(view.outcomes[0].status, Status::Infeasible);
    proves(&set, &p, &Limits::of(&set), view.multipliers).expect("a proof");
}

/// Two groups in their own ranges: feasible exactly where the ranges of the means come within epsilon.
pub fn feasibility_is_decided_rightly(device: &Device) {
    for_each_storage!(device, feasibility, [f32, f64]);
}

fn feasibility<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    let mut counts = [0, 0];
    for _ in 0..600 {
        let n = rng.random_range(2..40);
        let mut random = |from: f64, to: f64| from + (to - from) * rng.random::<f64>();
        let cells: Vec<u8> = (0..n).map(|i| if i < 2 { i as u8 } else { u8::from(random(0.0, 1.0) < 0.4) }).collect();
        let mut p = stated(&vec![0.0; n], &cells);
        for (i, cell) in cells.iter().enumerate() {
            let from = if *cell == 0 { 0.55 } else { 0.1 };
            p.lo[i] = random(from, from + 0.2);
            p.hi[i] = random(p.lo[i], from + 0.3);
            p.z[i] = random(-0.5, 1.5);
            p.weights[i] = random(0.1, 3.0);
        }
        let set = DemographicParity::within(random(0.0, 0.5)).constraints(&Population::one_feature(2)).expect("a set");
        let inputs = Inputs::<T>::new(&[&p]);
        let p = inputs.stated(0);
        let rows = live_rows(&set, &p);
        let gap = rows[0].value(&p.lo) - rows[1].value(&p.hi) - set.spreads()[0].limit.level();
        if gap.abs() < 1e-5 {
            continue;
        }
        let mut rig = Rig::new(device, &set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        let expected = if gap > 0.0 { Status::Infeasible } else { Status::Solved };
        assert_eq!(view.outcomes[0].status, expected, "the gap cannot be below {gap:e} + epsilon: {p:?}");
        if gap > 0.0 {
            proves(&set, &p, &Limits::of(&set), view.multipliers).expect("a proof");
        }
        counts[usize::from(gap > 0.0)] += 1;
    }
    assert!(counts[0] > 50 && counts[1] > 50, "{counts:?}");
}

pub fn the_iteration_limit_is_a_status(device: &Device) {
    for_each_storage!(device, iteration_limit);
}

fn iteration_limit<T: Storage>(device: &Device) {
    let set = DemographicParity::within(0.0).constraints(&Population::one_feature(2)).expect("constraints");
    let z = stored::<T>(&[1.5, 0.5, 0.25, 0.25, 0.5, 0.5]);
    let batch = Batch::new(&z, Offsets::Ragged(&[0, 4, 6])).cells(&[0, 0, 1, 1, 0, 1]);
    let batch = batch.bounds(T::from_f64(0.0), T::from_f64(1.0));
    let admm = AdmmSettings { max_iterations: 0, ..AdmmSettings::default() };
    let settings = Settings { max_iterations: 0, admm, ..Settings::default() };
    let mut rig = Rig::with_settings(device, &set, &batch.offsets(), settings);
    let view = rig.project(&batch);
    assert_eq!(view.outcomes.iter().map(|o| o.status).collect::<Vec<_>>(), [Status::IterationLimit, Status::Solved]);
    assert!(!view.all_solved());
    assert_eq!(bits(view.y), bits(&stored::<T>(&[1.0, 0.5, 0.25, 0.25, 0.5, 0.5])));
    let gradients = gradient_bits(&rig.vjp(&batch, &stored(&[1.0; 6])), &[0, 4, 6]);
    assert!(gradients[0].iter().all(|g| f64::from_bits(*g) == 0.0));
    assert!(gradients[1].iter().any(|g| f64::from_bits(*g) != 0.0));
}

pub fn statuses_have_names(_: &Device) {
    let names = [Status::Solved, Status::IterationLimit, Status::Infeasible, Status::BadNumber].map(|s| s.to_string());
    assert_eq!(names, ["solved", "iteration limit", "infeasible", "bad number"]);
    assert_eq!(Status::default(), Status::Solved);
}

/// A problem whose rows may be relaxed: its outcome, y and a gradient to the predictions.
fn relaxed(device: &Device, set: &ConstraintSet, batch: &Batch<'_, f64>) -> (Outcome, Vec<f64>, Vec<f64>) {
    let settings = Settings { infeasible: Infeasible::NearestFeasible, ..Settings::default() };
    let capacities = Capacities::of(&batch.offsets());
    let mut projector = Projector::<f64>::plan(device, set, capacities, settings).expect("a plan");
    let mut gradients = projector.gradients(Wanted::default());
    let solution = projector.project(batch).expect("the batch fits");
    let g: Vec<f64> = (0..batch.total()).map(|i| 1.0 + i as f64).collect();
    projector.vjp(batch, &solution, &g, &mut gradients).expect("the batch fits");
    let view = solution.read().expect("solution");
    let to_z = gradients.read().expect("gradients").predictions.to_vec();
    (view.outcomes[0], view.y.to_vec(), to_z)
}

/// With `NearestFeasible`, what cannot be met is violated as little as can be, and then the nearest such point is taken.
pub fn infeasible_problems_can_be_relaxed(device: &Device) {
    // A mean that no point of the box reaches: the whole group goes to its bound, 0.4 short. The other group is not asked.
    let mut set = ConstraintSet::new(CellLayout::flat(2).expect("cells"));
    let mean_of = |cell: usize, at: f64, within: f64| Contrast {
        plus: Union::new(CellMask::of([cell]).expect("cell"), "group"),
        minus: CellMask::EMPTY,
        scale: 0.0,
        lower: at - within,
        upper: at + within,
        residual: false,
    };
    set.push_contrast(mean_of(0, 1.5, 0.1)).expect("row");
    set.push_contrast(mean_of(1, 0.5, 0.0)).expect("row");
    let (z, cells) = ([0.2, 0.6, 0.9, 0.7], [0, 0, 1, 1]);
    let batch = Batch::single(&z).cells(&cells).bounds(0.0, 1.0);
    let (outcome, y, _) = relaxed(device, &set, &batch);
    assert_eq!(outcome.status, Status::Relaxed);
    assert_close("y at the bound", &y[..2], &[1.0, 1.0], 1e-8);
    assert!((y[2] + y[3] - 1.0).abs() < 4e-9 && (y[2] - y[3] - 0.2).abs() < 1e-8, "{y:?}");
    assert!((outcome.excess - 0.4).abs() < 1e-8, "{}", outcome.excess);

    // Group means of frozen samples lie 0.7 apart; a spread of 0.1 between them is relaxed to that.
    let set = DemographicParity::within(0.1).constraints(&Population::one_feature(2)).expect("criterion");
    let (z, cells) = ([0.1, 0.1, 0.8, 0.8], [0, 0, 1, 1]);
    let batch = Batch::single(&z).cells(&cells).element_bounds(&z, &z);
    let (outcome, y, _) = relaxed(device, &set, &batch);
    assert_eq!((outcome.status, y), (Status::Relaxed, z.to_vec()));
    assert!((outcome.excess - 0.6).abs() < 1e-12, "{}", outcome.excess);
}

/// Two equalities that contradict each other meet in the middle; the answer is the projection onto that.
pub fn contradicting_dense_rows_can_be_relaxed(device: &Device) {
    let mut set = ConstraintSet::new(CellLayout::flat(1).expect("cells"));
    set.push_dense(DenseRow::new("one", 1.0, 1.0)).expect("row");
    set.push_dense(DenseRow::new("two", 2.0, 2.0)).expect("row");
    let a = [1.0, -2.0, 2.0];
    let coefficients: Vec<f64> = a.iter().chain(&a).copied().collect();
    let z = [0.5, 0.1, -0.4];
    let batch = Batch::single(&z).coefficients(&coefficients);
    let (outcome, y, to_z) = relaxed(device, &set, &batch);
    assert_eq!(outcome.status, Status::Relaxed);
    let short = (1.5 - dot(&a, &z)) / 9.0;
    assert_close("y in the middle", &y, &[z[0] + short, z[1] - 2.0 * short, z[2] + 2.0 * short], 1e-8);
    // The scale of the rows is sqrt(sum a^2 / w), with weights of a third.
    assert!((outcome.excess - 0.5 / 27.0_f64.sqrt()).abs() < 1e-8, "{}", outcome.excess);
    let along = (1.0 - 4.0 + 6.0) / 9.0;
    assert_close("dL/dz", &to_z, &[1.0 - along, 2.0 + 2.0 * along, 3.0 - 2.0 * along], 1e-9);
}

/// What Newton leaves at its limit ADMM solves, with the same answer and gradients; unless a plan for very large problems has
/// no memory set aside for it.
pub fn problems_over_cells_fall_back_to_admm(device: &Device) {
    let (mut fallen, mut same) = (0, 0);
    for kind in [Kind::ThreeFeatures, Kind::EqualizedOdds, Kind::OverallOdds, Kind::Nested, Kind::RandomContrasts] {
        for seed in 0..60 {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 200);
            let inputs = Inputs::<f64>::new(&[&case.stated]);
            let g: Vec<f64> = (0..inputs.z.len()).map(|i| (i % 7) as f64 - 3.0).collect();
            let run = |max_iterations: u32, largest: usize| {
                let settings = Settings { max_iterations, ..Settings::default() };
                let capacities = Capacities { total: largest, largest, ..Capacities::of(&inputs.offsets()) };
                let mut projector = Projector::<f64>::plan(device, &case.set, capacities, settings).expect("a plan");
                let (mut solution, mut gradients) = (projector.solution(), projector.gradients(EVERYTHING));
                projector.project_into(&inputs.batch(), &mut solution).expect("the batch fits");
                projector.vjp(&inputs.batch(), &solution, &g, &mut gradients).expect("the batch fits");
                let (view, to) = (solution.read().expect("solution"), gradients.read().expect("gradients"));
                let kkt = judge(&case.set, &case.stated, view.y, view.multipliers, 1e-9);
                let states: Vec<ClampState> = (0..view.y.len()).map(|i| view.clamp_state(0, i)).collect();
                let held: Vec<bool> = view.multipliers.iter().map(|nu| *nu != 0.0).collect();
                (view.outcomes[0], view.y.to_vec(), kkt, to.predictions.to_vec(), (states, held))
            };
            let n = inputs.z.len();
            let usual = run(600, n);
            if usual.0.status != Status::Solved || usual.0.iterations <= 4 {
                continue;
            }
            let fallback = run(3, n);
            if fallback.0.status == Status::Solved && fallback.0.iterations <= 3 {
                // Newton had an answer by then, and would have looked for a better one.
                continue;
            }
            if fallback.0.status != Status::Solved {
                // After ADMM, too, Newton has its limit.
                assert_eq!(fallback.0.status, Status::IterationLimit, "{kind:?}, seed {seed}");
                continue;
            }
            fallen += 1;
            let what = format!("{kind:?}, seed {seed}");
            assert!(fallback.2.worst() <= 1e-9, "{what}: {:?}", fallback.0);
            let known = |y: &[f64]| by_weight(y, &case.stated.weights);
            let scale = largest(&case.stated.z).max(1.0);
            assert_close(&format!("y of {what}"), &known(&fallback.1), &known(&usual.1), 1e-8 * scale);
            if fallback.4 == usual.4 {
                let size = largest(&usual.3).max(1.0);
                assert_close(&format!("gradient of {what}"), &fallback.3, &usual.3, 1e-7 * size);
                same += 1;
            }
            if fallen == 1 {
                assert_eq!(run(3, 1 << 23).0.status, Status::IterationLimit, "{what}");
            }
        }
    }
    assert!(fallen >= 20 && same >= 10, "{fallen} problems fell back, {same} hold the same rows");
}

/// The means meet only where a score of 65,000 is moved beyond the largest `f16`, 65,504.
pub fn what_is_too_large_for_its_type_is_no_solution(device: &Device) {
    let z = [65000.0, -65000.0, 60000.0, 60000.0].map(half::f16::from_f64);
    let contrasts = {
        let mut set = flat(2);
        set.push_contrast(contrast(mask([0]), mask([1]), 1.0, 0.0, 0.0)).expect("a contrast");
        set
    };
    let spreads = {
        let mut set = flat(2);
        set.push_spread(spread([mask([0]), mask([1])], SpreadLimit::Difference(0.0))).expect("a spread");
        set
    };
    for set in [spreads, contrasts] {
        for method in [Method::Newton, Method::Admm] {
            let settings = Settings { method, ..Settings::default() };
            let mut projector =
                Projector::<half::f16>::plan(device, &set, Capacities::single(4), settings).expect("a plan");
            let solution = projector.project(&Batch::single(&z).cells(&[0, 0, 1, 1])).expect("an answer");
            let view = solution.read().expect("on the host");
            assert_eq!(
                view.outcomes[0].status,
                Status::IterationLimit,
                "{method:?}: {:?}, {:?}",
                view.y,
                view.outcomes[0]
            );
            assert_eq!(view.y, z, "{method:?}");
        }
    }
}
