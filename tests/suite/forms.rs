//! The same problem said in several ways: shared or repeated arrays, groups or cells, f32 or f64 beside the predictions,
//! a warm start or none.

use crate::common::devices::takes;
use crate::common::kkt::judge;
use crate::common::planted::{contrast, mask};
use crate::common::problems::{Kind, draw_case};
use crate::common::rows::Limits;
use crate::common::run::{Answer, Inputs, Rig, assert_close, by_weight, gradient_bits, largest, stored, widened};
use crate::for_each_storage;
use fairlayer::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const PROBLEMS: usize = 5;
const SIZE: usize = 33;

/// Arrays of one problem, and the same for all problems.
fn once_and_repeated<T: Clone>(draw: impl FnMut(usize) -> T) -> (Vec<T>, Vec<T>) {
    let once: Vec<T> = (0..SIZE).map(draw).collect();
    let repeated = (0..PROBLEMS).flat_map(|_| once.iter().cloned()).collect();
    (once, repeated)
}

/// Answers and gradients of a batch, as bits.
fn run<T: Storage>(
    device: &Device,
    set: &ConstraintSet,
    batch: &Batch<'_, T>,
    g: &[T],
) -> (Vec<Answer>, Vec<Vec<u64>>) {
    let offsets = batch.offsets();
    let starts: Vec<usize> = (0..=offsets.problems()).map(|problem| offsets.start(problem)).collect();
    let mut rig = Rig::new(device, set, &offsets);
    let answers = Answer::all(&rig.project(batch));
    (answers, gradient_bits(&rig.vjp(batch, g), &starts))
}

pub fn shared_arrays_equal_repeated_ones(device: &Device) {
    for_each_storage!(device, shared_or_repeated);
}

fn shared_or_repeated<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(21);
    let mut random = |from: f64, to: f64| from + (to - from) * rng.random::<f64>();
    let mut set = MeanResidual::within(0.02).constraints(&Population::one_feature(3)).expect("constraints");
    let unions = [0, 1, 2].map(|cell| Union::new(mask([cell]), "group")).into();
    set.push_spread(Spread { unions, limit: SpreadLimit::Difference(0.05) }).expect("a spread");
    set.push_contrast(contrast(mask([0]), mask([1]), 1.0, -1.0, 1.0)).expect("a contrast");
    let z: Vec<T> = (0..PROBLEMS * SIZE).map(|_| T::from_f64(random(-0.2, 1.2))).collect();
    let g: Vec<T> = (0..PROBLEMS * SIZE).map(|_| T::from_f64(random(-1.0, 1.0))).collect();
    let cells = once_and_repeated(|i| (i % 3) as u8);
    let weights = once_and_repeated(|_| random(0.5, 2.0));
    let labels = once_and_repeated(|_| random(0.3, 0.7));
    let lo = once_and_repeated(|_| T::from_f64(random(0.0, 0.1)));
    let hi = once_and_repeated(|_| T::from_f64(random(0.9, 1.0)));
    let (levels, lower, upper) = ([0.1], [-0.05, -0.04, -0.03, -0.5], [0.05, 0.04, 0.03, 0.5]);
    let offsets = Offsets::Equal { problems: PROBLEMS, n: SIZE };
    let host = |slice| Buffer::host(slice).shared();
    let shared = Batch::new(&z, offsets)
        .cells(Buffer::host(&cells.0).shared())
        .weights(Reals::from(&weights.0).shared())
        .labels(Reals::from(&labels.0).shared())
        .element_bounds(host(&lo.0), host(&hi.0))
        .levels(Reals::from(&levels).shared())
        .row_bounds(Reals::from(&lower).shared(), Reals::from(&upper).shared());
    let (levels, lower, upper) = (levels.repeat(PROBLEMS), lower.repeat(PROBLEMS), upper.repeat(PROBLEMS));
    let repeated = Batch::new(&z, offsets)
        .cells(&cells.1)
        .weights(&weights.1)
        .labels(&labels.1)
        .element_bounds(&lo.1, &hi.1)
        .levels(&levels)
        .row_bounds(&lower, &upper);
    let expected = run(device, &set, &repeated, &g);
    assert!(expected.0.iter().all(|answer| answer.status == Status::Solved));
    assert!(expected.0.iter().any(|answer| answer.counts.0 > 0));
    assert_eq!(run(device, &set, &shared, &g), expected);
    let ragged: Vec<usize> = (0..=PROBLEMS).map(|problem| problem * SIZE).collect();
    let from_offsets = Batch::new(&z, Offsets::Ragged(&ragged)).cells(Buffer::host(&cells.0).shared());
    let from_size = Batch::new(&z, offsets).cells(&cells.1);
    let parity = DemographicParity::within(0.01).constraints(&Population::one_feature(3)).expect("constraints");
    assert_eq!(run(device, &parity, &from_offsets, &g), run(device, &parity, &from_size, &g));
    // The sets' own limits, and the same given with the batch.
    let own = from_size.levels(Reals::from(&[0.01]).shared());
    assert_eq!(run(device, &parity, &own, &g), run(device, &parity, &from_size, &g));
}

pub fn shared_groups_equal_repeated_ones(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(22);
    let people =
        Population::of_features([SensitiveFeature::new("a", 2), SensitiveFeature::new("b", 3)]).with_control(2);
    let set = ConditionalParity::within(0.03).constraints(&people).expect("constraints");
    let z: Vec<f64> = (0..PROBLEMS * SIZE).map(|_| rng.random()).collect();
    let a = once_and_repeated(|_| rng.random_range(0..2_u8));
    let b = once_and_repeated(|_| rng.random_range(0..3_u8));
    let control = once_and_repeated(|_| rng.random_range(0..2_u8));
    let offsets = Offsets::Equal { problems: PROBLEMS, n: SIZE };
    let mixed = [Buffer::host(&a.0).shared(), Buffer::host(&b.1)];
    let repeated = [Buffer::host(&a.1), Buffer::host(&b.1)];
    let shared = Batch::new(&z, offsets).groups(&mixed).control(Buffer::host(&control.0).shared());
    let expected = Batch::new(&z, offsets).groups(&repeated).control(&control.1);
    assert_eq!(run(device, &set, &shared, &z), run(device, &set, &expected, &z));
}

/// Cells computed by hand from groups and strata: `((g0 * k1 + g1) * strata + stratum`.
pub fn groups_and_strata_equal_cells(device: &Device) {
    for_each_storage!(device, groups_or_cells);
}

fn groups_or_cells<T: Storage>(device: &Device) {
    let mut rng = Pcg64Mcg::seed_from_u64(23);
    let n = 3 * SIZE;
    let offsets = [0, 10, 10 + SIZE, n];
    let z: Vec<T> = (0..n).map(|_| T::from_f64(rng.random())).collect();
    let (a, b): (Vec<u8>, Vec<u8>) = (0..n).map(|_| (rng.random_range(0..2), rng.random_range(0..4))).unzip();
    let labels: Vec<f64> = (0..n).map(|_| [0.0, 0.25, 0.5, 0.500001, 1.0][rng.random_range(0..5)]).collect();
    let control: Vec<u8> = (0..n).map(|_| rng.random_range(0..3)).collect();
    let features = [SensitiveFeature::new("a", 2), SensitiveFeature::new("b", 4)];
    let people = Population::of_features(features).with_control(3);
    let criteria: [(&dyn Criterion, usize); 6] = [
        (&DemographicParity::within(0.02), 1),
        (&EqualizedOdds::within(0.02), 2),
        (&TruePositiveRateParity::within(0.02), 2),
        (&FalsePositiveRateParity::within(0.02), 2),
        (&ConditionalParity::within(0.02), 3),
        (&MeanResidual::within(0.02), 1),
    ];
    for (criterion, strata) in criteria {
        for people in [people.clone(), people.clone().intersectional()] {
            let set = criterion.constraints(&people).expect("constraints");
            let stratum = |i: usize| match strata {
                2 => usize::from(labels[i] > 0.5),
                3 => control[i].into(),
                _ => 0,
            };
            let cell = |i: usize| ((usize::from(a[i]) * 4 + usize::from(b[i])) * strata + stratum(i)) as u8;
            let cells: Vec<u8> = (0..n).map(cell).collect();
            let arrays = [Buffer::host(&a), Buffer::host(&b)];
            let batch = Batch::new(&z, Offsets::Ragged(&offsets)).labels(&labels);
            let by_groups = run(device, &set, &batch.groups(&arrays).control(&control), &z);
            assert_eq!(by_groups, run(device, &set, &batch.cells(&cells), &z));
            assert!(by_groups.0.iter().any(|answer| answer.counts.0 > 0));
        }
    }
}

pub fn single_and_double_arrays_are_the_same(device: &Device) {
    for_each_storage!(device, single_or_double);
}

/// Labels, weights, levels, row bounds and warm starts may be f32 or f64: the same values give the same bits.
fn single_or_double<T: Storage>(device: &Device) {
    for kind in Kind::ALL {
        let mut case = draw_case(&mut Pcg64Mcg::seed_from_u64(24), kind, 200);
        if !takes(device, &case.set) {
            continue;
        }
        let round = |values: &[f64]| widened(&stored::<f32>(values));
        (case.stated.weights, case.stated.labels) = (round(&case.stated.weights), round(&case.stated.labels));
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let limits = Limits::of(&case.set);
        let starts: Vec<f64> = (0..case.set.rows()).map(|row| 0.001 * row as f64).collect();
        let coefficients = case.stated.coefficients.concat();
        let Limits { levels, lower, upper } = &limits;
        let numbers = [&case.stated.weights, &case.stated.labels, levels, lower, upper, &starts, &coefficients];
        let single = numbers.map(|array| stored::<f32>(array));
        let double: [Vec<f64>; 7] = std::array::from_fn(|i| widened(&single[i]));
        let plain = Batch::new(&inputs.z, inputs.offsets()).cells(&inputs.cells).element_bounds(&inputs.lo, &inputs.hi);
        let [weights, labels, levels, lower, upper, starts, coefficients] = &single;
        let of_single = plain.weights(weights).labels(labels).levels(levels).row_bounds(lower, upper);
        let of_single = of_single.warm_start(starts).coefficients(coefficients);
        let [weights, labels, levels, lower, upper, starts, coefficients] = &double;
        let of_double = plain.weights(weights).labels(labels).levels(levels).row_bounds(lower, upper);
        let of_double = of_double.warm_start(starts).coefficients(coefficients);
        assert_eq!(
            run(device, &case.set, &of_single, &inputs.z),
            run(device, &case.set, &of_double, &inputs.z),
            "{kind:?}"
        );
    }
}

/// From its own multipliers a problem is solved at once, and from those of a problem nearby in no more passes on the
/// whole; the answer stays the right one.
pub fn a_warm_start_saves_passes(device: &Device) {
    let (mut passes, mut slower) = ([0, 0, 0], Vec::new());
    for kind in Kind::ALL {
        for seed in 0..20 {
            let mut rng = Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64);
            let case = draw_case(&mut rng, kind, 200);
            if !takes(device, &case.set) {
                continue;
            }
            let inputs = Inputs::<f64>::new(&[&case.stated]);
            let mut rig = Rig::new(device, &case.set, &inputs.offsets());
            let view = rig.project(&inputs.batch());
            let (cold, y, nu) = (view.outcomes[0], view.y.to_vec(), view.multipliers.to_vec());
            if cold.status != Status::Solved {
                continue;
            }
            let near: Vec<f64> = nu.iter().map(|nu| nu * (1.0 + 0.02 * (rng.random::<f64>() - 0.5))).collect();
            for (i, start) in [&nu, &near].into_iter().enumerate() {
                let view = rig.project(&inputs.batch().warm_start(start));
                let (what, outcome) = (format!("{kind:?} (seed {seed}), start {i}"), view.outcomes[0]);
                assert_eq!(outcome.status, Status::Solved, "{what}");
                let scale = largest(&case.stated.z).max(1.0);
                let nothing = 1e-9 * scale;
                let kkt = judge(&case.set, &case.stated, view.y, view.multipliers, nothing);
                assert!(kkt.worst() <= 1e-9 * scale, "{what}: {kkt:?}");
                let known = |y: &[f64]| by_weight(y, &case.stated.weights);
                if kind.well_conditioned() {
                    assert_close(&format!("y of {what}"), &known(view.y), &known(&y), 1e-8 * scale);
                }
                // (Large multipliers of dense rows are no good start for a method that takes long anyway.)
                if i == 0 && !Kind::DENSE.contains(&kind) && outcome.passes > cold.passes.max(2) {
                    slower.push(format!("{what}: {} passes after {}", outcome.passes, cold.passes));
                }
                passes[i + 1] += outcome.passes;
            }
            passes[0] += cold.passes;
        }
    }
    assert!(slower.is_empty(), "slower from their own multipliers: {slower:#?}");
    assert!(2 * passes[1] < passes[0] && passes[2] < passes[0], "cold, own and near starts take {passes:?} passes");
}

/// Multipliers that mean nothing change no answer: at worst a problem takes longer.
pub fn a_wild_warm_start_does_no_harm(device: &Device) {
    let means = [Kind::TwoGroups, Kind::ThreeFeatures, Kind::Overall, Kind::Ratio, Kind::MeanResidual];
    for kind in means.into_iter().chain([Kind::Dense, Kind::DenseBesideMeans]) {
        for seed in 0..40 {
            let mut rng = Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64);
            let case = draw_case(&mut rng, kind, 200);
            if !takes(device, &case.set) {
                continue;
            }
            let inputs = Inputs::<f64>::new(&[&case.stated]);
            let mut rig = Rig::new(device, &case.set, &inputs.offsets());
            let (status, y) = {
                let view = rig.project(&inputs.batch());
                (view.outcomes[0].status, view.y.to_vec())
            };
            let start: Vec<f64> = (0..case.set.rows()).map(|_| 4.0 * (rng.random::<f64>() - 0.5)).collect();
            let view = rig.project(&inputs.batch().warm_start(&start));
            let what = format!("{kind:?} (seed {seed})");
            assert_eq!(view.outcomes[0].status, status, "{what}");
            let known = |y: &[f64]| by_weight(y, &case.stated.weights);
            assert_close(&what, &known(view.y), &known(&y), 1e-8 * largest(&case.stated.z).max(1.0));
        }
    }
}

/// Not a number, or infinite: the start is of no use, and the answer is a status.
pub fn an_unusable_warm_start_is_survived(device: &Device) {
    let set = DemographicParity::within(0.1).constraints(&Population::one_feature(2)).expect("constraints");
    for start in [[f64::NAN, 0.0], [f64::INFINITY, f64::NEG_INFINITY], [1e300, -1e300], [f64::MAX, f64::MAX]] {
        let batch = Batch::single(&[0.9, 0.1]).cells(&[0, 1]).bounds(0.0, 1.0).warm_start(&start);
        let mut rig = Rig::<f64>::new(device, &set, &batch.offsets());
        let view = rig.project(&batch);
        match view.outcomes[0].status {
            Status::Solved => assert_close("y", view.y, &[0.55, 0.45], 1e-9),
            _ => assert_eq!(view.y, [0.9, 0.1]),
        }
    }
}
