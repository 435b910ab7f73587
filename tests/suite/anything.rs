//! Whatever bits the arrays hold, a call returns: with an `Err` for misuse, else with a status for every problem.

use super::properties::property;
use crate::common::devices::{enough, takes};
use crate::common::planted::{contrast, mask};
use crate::common::run::EVERYTHING;
use crate::for_each_storage;
use fairlayer::*;
use proptest::prelude::*;

/// Numbers of every kind: ordinary ones, special ones, and any bits at all.
fn any_number() -> impl Strategy<Value = f64> + Clone {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        f32::MAX as f64,
        1e-45,
    ];
    prop_oneof![
        8 => 0.0..1.0,
        2 => prop::sample::select(special.to_vec()),
        1 => any::<u32>().prop_map(|bits| f32::from_bits(bits).into()),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

/// Arrays of any numbers, or of ordinary ones, so that some calls get past the checks of all inputs but one.
fn numbers(length: usize) -> impl Strategy<Value = Vec<f64>> + Clone {
    prop_oneof![prop::collection::vec(any_number(), length), prop::collection::vec(0.1..0.9, length)]
}

fn ids(length: usize) -> impl Strategy<Value = Vec<u8>> + Clone {
    prop_oneof![3 => prop::collection::vec(0..3_u8, length), 1 => prop::collection::vec(any::<u8>(), length)]
}

#[derive(Clone, Debug)]
struct Anything {
    z: Vec<f64>,
    g: Vec<f64>,
    cells: [Vec<u8>; 3],
    weights: Option<Vec<f64>>,
    labels: Vec<f64>,
    lo: Vec<f64>,
    hi: Vec<f64>,
    scalar_bounds: bool,
    levels: Option<Vec<f64>>,
    row_bounds: Option<(Vec<f64>, Vec<f64>)>,
    start: Option<Vec<f64>>,
    coefficients: Option<Vec<f64>>,
    offsets: Vec<usize>,
    set: usize,
    by_groups: bool,
}

/// Sets of constraints over 3 groups, or 3 groups and 3 strata.
fn sets() -> Vec<ConstraintSet> {
    let people = Population::one_feature(3).with_control(3);
    let overall = Parity::Overall { epsilon: 0.05 };
    let ratio = Parity::Ratio { ratio: 0.8 };
    let criteria: [&dyn Criterion; 8] = [
        &DemographicParity::within(0.1),
        &DemographicParity::within(0.0),
        &DemographicParity(ratio),
        &DemographicParity(overall),
        &EqualizedOdds::within(0.02),
        &ConditionalParity(ratio),
        &ConditionalParity(overall),
        &MeanResidual::within(0.05),
    ];
    let of = |criterion: &&dyn Criterion| criterion.constraints(&people).expect("constraints");
    let mut sets: Vec<ConstraintSet> = criteria.iter().map(of).collect();
    let mut mixed = sets[0].clone();
    for (scale, lower, upper) in [(1.0, 0.0, 0.0), (-1e300, f64::NEG_INFINITY, 0.5), (1e-300, 0.1, f64::INFINITY)] {
        mixed.push_contrast(contrast(mask([0, 1]), mask([1, 2]), scale, lower, upper)).expect("a contrast");
    }
    sets.push(mixed.clone());
    let mut dense = ConstraintSet::new(CellLayout::flat(1).expect("a layout"));
    for (lower, upper) in [(0.0, 0.0), (f64::NEG_INFINITY, 0.5), (0.1, 1e300)] {
        for set in [&mut mixed, &mut dense] {
            set.push_dense(DenseRow::new("dense", lower, upper)).expect("a dense row");
        }
    }
    sets.extend([mixed, dense]);
    sets.push(ConstraintSet::new(CellLayout::flat(3).expect("a layout")));
    sets
}

/// Arrays for 24 samples in three problems; the offsets may be anything.
fn anything() -> impl Strategy<Value = Anything> {
    const N: usize = 24;
    let offsets = prop_oneof![
        6 => Just(vec![0, 2, 11, N]),
        2 => prop::collection::vec(0..=N, 2).prop_map(|mut cuts| {
            cuts.sort_unstable();
            vec![0, cuts[0], cuts[1], N]
        }),
        1 => prop::collection::vec(any::<usize>(), 0..5),
        1 => prop::collection::vec(0..=N, 0..5),
    ];
    // One long array feeds whatever rows there are; wrong lengths are among the cases.
    let rows = |most: usize| prop::option::weighted(0.4, (0..=most).prop_flat_map(numbers));
    let elements = (numbers(N), numbers(N), numbers(N), numbers(N), numbers(N), prop::option::of(numbers(N)));
    let matrix = prop_oneof![6 => numbers(3 * N).prop_map(Some), 1 => rows(3 * N)];
    let tables = (rows(18), rows(18), rows(18), rows(54), matrix);
    let rest = ([ids(N), ids(N), ids(N)], any::<bool>(), offsets, 0..sets().len(), any::<bool>());
    (elements, tables, rest).prop_map(|(elements, tables, (cells, scalar_bounds, offsets, set, by_groups))| {
        let (z, g, labels, lo, hi, weights) = elements;
        let (levels, lower, upper, start, coefficients) = tables;
        let row_bounds = lower.zip(upper);
        Anything {
            z,
            g,
            cells,
            weights,
            labels,
            lo,
            hi,
            scalar_bounds,
            levels,
            row_bounds,
            start,
            coefficients,
            offsets,
            set,
            by_groups,
        }
    })
}

pub fn no_input_panics(device: &Device) {
    for_each_storage!(device, nothing_panics);
}

fn nothing_panics<T: Storage>(device: &Device) {
    let sets = sets();
    property(enough(device, 20_000), anything(), |input| {
        let set = &sets[input.set];
        if !takes(device, set) {
            return;
        }
        let narrow = |values: &[f64]| values.iter().map(|value| T::from_f64(*value)).collect::<Vec<T>>();
        let (z, g, lo, hi) = (narrow(&input.z), narrow(&input.g), narrow(&input.lo), narrow(&input.hi));
        let groups = [Buffer::host(&input.cells[0])];
        let mut batch = Batch::new(&z, Offsets::Ragged(&input.offsets)).labels(&input.labels).control(&input.cells[1]);
        batch = if input.by_groups { batch.groups(&groups) } else { batch.cells(&input.cells[2]) };
        batch = if input.scalar_bounds { batch.bounds(lo[0], hi[0]) } else { batch.element_bounds(&lo, &hi) };
        if let Some(weights) = &input.weights {
            batch = batch.weights(weights);
        }
        if let Some(levels) = &input.levels {
            batch = batch.levels(Reals::from(levels).shared());
        }
        if let Some((lower, upper)) = &input.row_bounds {
            batch = batch.row_bounds(Reals::from(lower).shared(), Reals::from(upper).shared());
        }
        if let Some(coefficients) = input.coefficients.as_ref().filter(|_| !set.dense().is_empty()) {
            batch = batch.coefficients(coefficients);
        }
        if let Some(start) = &input.start {
            batch = batch.warm_start(Reals::from(start).shared());
        }
        let capacities = Capacities::equal(4, 24);
        let mut projector = Projector::plan(device, set, capacities, Settings::default()).expect("a plan");
        let mut solution = projector.solution();
        let mut gradients = projector.gradients(EVERYTHING);
        if projector.project_into(&batch, &mut solution).is_err() {
            return;
        }
        projector.vjp(&batch, &solution, &g, &mut gradients).expect("a batch that was projected");
        let view = solution.read().expect("a solution");
        for (problem, outcome) in view.outcomes.iter().enumerate() {
            if outcome.status == Status::Solved {
                let range = view.offsets[problem]..view.offsets[problem + 1];
                for i in range {
                    let (lo, hi) = if input.scalar_bounds { (lo[0], hi[0]) } else { (lo[i], hi[i]) };
                    let y = view.y[i];
                    assert!(lo <= y && y <= hi, "{y:?} is solved, but not in [{lo:?}, {hi:?}]");
                }
                assert!(view.problem_multipliers(problem).iter().all(|nu| !nu.is_nan()));
            }
        }
    });
}

/// Offsets, capacities, masks and layouts of any numbers.
pub fn no_helper_panics(_: &Device) {
    let sizes = prop::collection::vec(prop_oneof![0..6_usize, any::<usize>()], 0..6);
    property(4000, (sizes, any::<usize>(), any::<usize>()), |(sizes, a, b)| {
        let _ = CellMask::of(sizes.iter().copied()).map(|mask| (mask.count(), mask.contains(a), mask.or(&mask)));
        let _ = CellMask::first(a).and(&CellMask::first(b)).iter().count();
        if let Ok(layout) = CellLayout::new(&sizes, Strata::Control { levels: a % 5 }) {
            let _ = (layout.cells(), layout.union(a, b, Some(a)), layout.stratum(Some(b)));
        }
        let _ = (Capacities::single(a), Capacities::equal(a, b));
        for offsets in [Offsets::Ragged(&sizes), Offsets::Equal { problems: a, n: b }] {
            let _ = (offsets.problems(), offsets.largest());
            let _ = Capacities::of(&offsets);
        }
    });
}

/// Solutions and gradients can be asked for rows that there are not, and be read before they are written.
pub fn no_question_panics(device: &Device) {
    let set = DemographicParity::within(0.1).constraints(&Population::one_feature(2)).expect("constraints");
    let projector = Projector::<f32>::plan(device, &set, Capacities::equal(2, 3), Settings::default()).expect("a plan");
    let solution = projector.solution();
    let view = solution.read().expect("a solution");
    assert!(view.y.is_empty() && view.outcomes.is_empty() && view.all_solved());
    assert!(!view.is_inactive(0, 2) && !view.is_inactive(0, usize::MAX));
    assert!(projector.gradients(EVERYTHING).read().expect("gradients").predictions.is_empty());
}
