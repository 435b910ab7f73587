//! What a projection is, whatever the problem: properties, on random problems.

use crate::common::devices::{enough, takes};
use crate::common::kkt::Stated;
use crate::common::planted::planted_problems;
use crate::common::problems::{Case, Kind, draw_case};
use crate::common::rows::{Limits, Row, dot, excess, live_rows};
use crate::common::run::{Inputs, Rig, assert_close, bits, by_weight, exact, largest, widened};
use crate::for_each_storage;
use fairlayer::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Checks a property on the cases of a strategy, the same ones every time.
pub fn property<S: Strategy>(cases: u32, strategy: S, check: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&strategy, |value| {
        check(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A problem of any kind whose answer can be compared, by kind and seed.
fn any_case() -> impl Strategy<Value = (Kind, u64)> {
    let known: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.well_conditioned()).collect();
    (prop::sample::select(known), any::<u64>())
}

/// Checks a property on so many of these, or as many of them as the device takes.
fn property_of_cases(device: &Device, cases: u32, check: impl Fn(Kind, Case, Pcg64Mcg)) {
    property(cases, any_case(), |(kind, seed)| {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let case = draw_case(&mut rng, kind, 80);
        if takes(device, &case.set) {
            check(kind, case, rng);
        }
    });
}

fn has_ratio(set: &ConstraintSet) -> bool {
    set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)))
}

/// Status and answer of one problem at these limits.
fn solve(device: &Device, set: &ConstraintSet, stated: &Stated, limits: &Limits) -> (Status, Vec<f64>) {
    let inputs = Inputs::<f64>::new(&[stated]).limited(limits);
    let mut rig = Rig::with_settings(device, set, &inputs.offsets(), exact());
    let view = rig.project(&inputs.batch());
    (view.outcomes[0].status, view.y.to_vec())
}

/// The size that rounding is relative to: of everything in the problem.
fn size(p: &Stated) -> f64 {
    let finite = |values: &[f64]| largest(&values.iter().copied().filter(|v| v.is_finite()).collect::<Vec<_>>());
    [&p.z, &p.labels, &p.lo, &p.hi].map(|values| finite(values)).into_iter().fold(1.0, f64::max)
}

/// How much farther from the rows' limits y may be than each of its rows is: one over the least part of a row, over free
/// samples and in the norm of the weights, that the rows before it do not have. (Rows without such a part follow from others.)
fn leverage(rows: &[Row], p: &Stated, free: &[bool]) -> f64 {
    let (mut basis, mut least) = (Vec::<Vec<f64>>::new(), 1.0_f64);
    for row in rows {
        let scaled = |i: usize| row.a[i] / p.weights[i].sqrt();
        let length = (0..free.len()).map(|i| scaled(i) * scaled(i)).sum::<f64>().sqrt();
        let mut part: Vec<f64> = (0..free.len()).map(|i| if free[i] { scaled(i) / length } else { 0.0 }).collect();
        for other in basis.iter().chain(&basis) {
            let along = dot(other, &part);
            part.iter_mut().zip(other).for_each(|(part, other)| *part -= along * other);
        }
        let left = dot(&part, &part).sqrt();
        if left > 1e-9 {
            least = least.min(left);
            basis.push(part.iter().map(|part| part / left).collect());
        }
    }
    1.0 / least
}

pub fn projecting_twice_changes_nothing(device: &Device) {
    for_each_storage!(device, idempotent, [f32, f64]);
}

/// An answer that keeps its limits is a fair input: it comes back bit by bit.
fn idempotent<T: Storage>(device: &Device) {
    property_of_cases(device, enough(device, 3000), |kind, case, _| {
        let inputs = Inputs::<T>::new(&[&case.stated]);
        let mut rig = Rig::new(device, &case.set, &inputs.offsets());
        let view = rig.project(&inputs.batch());
        let once = Inputs { z: view.y.to_vec(), ..inputs.clone() };
        let rows = live_rows(&case.set, &case.stated);
        // (Sums in another order may differ in the last digits.)
        let noise = 1e-14 * size(&case.stated);
        let fair = excess(&case.set, &rows, &Limits::of(&case.set), &widened(view.y)) < -noise;
        if view.all_solved() {
            let free: Vec<bool> = (0..once.z.len()).map(|i| view.clamp_state(0, i) == ClampState::Free).collect();
            let held = |nu: &[f64]| nu.iter().map(|nu| *nu != 0.0).collect::<Vec<bool>>();
            let held_once = held(view.multipliers);
            let view = rig.project(&once.batch());
            assert!(view.all_solved());
            if fair {
                assert_eq!(bits(view.y), bits(&once.z));
            } else {
                let rows: Vec<Row> =
                    rows.into_iter().filter(|row| held_once[row.index] || held(view.multipliers)[row.index]).collect();
                // Contrasts of any unions may nearly depend on each other; the spreads of a criterion do not.
                let leverage = if kind == Kind::RandomContrasts { leverage(&rows, &case.stated, &free) } else { 1.0 };
                let tolerance = leverage * (1e-9 + 64.0 * T::UNIT_ROUNDOFF * size(&case.stated));
                // A light sample's place is known less well: its rows hardly feel it.
                let known = |y: &[T]| by_weight(&widened(y), &case.stated.weights);
                assert_close("y", &known(view.y), &known(&once.z), tolerance);
            }
        }
    });
}

/// Two inputs are never farther apart after than before, in the norm of the weights.
pub fn distances_never_grow(device: &Device) {
    property_of_cases(device, 3000, |_, case, mut rng| {
        let limits = Limits::of(&case.set);
        let reach = rng.random::<f64>();
        let moved = case.stated.z.iter().map(|z| z + reach * (rng.random::<f64>() - 0.5));
        let other = Stated { z: moved.collect(), ..case.stated.clone() };
        let (first, second) =
            (solve(device, &case.set, &case.stated, &limits), solve(device, &case.set, &other, &limits));
        if (first.0, second.0) == (Status::Solved, Status::Solved) {
            let distance = |a: &[f64], b: &[f64]| {
                let squares: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).collect();
                (dot(&squares, &case.stated.weights) / case.stated.weights.iter().sum::<f64>()).sqrt()
            };
            let (after, before) = (distance(&first.1, &second.1), distance(&case.stated.z, &other.z));
            assert!(after <= before + 1e-9 * size(&case.stated), "{after} after {before}");
        }
    });
}

/// Without weights the Jacobian is an orthogonal projection: symmetric, and its own square. (On planted problems, where
/// it exists.)
pub fn the_jacobian_is_a_projection(device: &Device) {
    property(6, any::<u64>(), |seed| {
        for p in planted_problems(&mut Pcg64Mcg::seed_from_u64(seed)) {
            if p.stated.weights.iter().any(|w| *w != 1.0) {
                continue;
            }
            let inputs = Inputs::<f64>::new(&[&p.stated]).limited(&p.limits);
            let mut rig = Rig::new(device, &p.set, &inputs.offsets());
            rig.project(&inputs.batch());
            let n = p.y.len();
            let mut row_of = |i: usize| {
                let mut g = vec![0.0; n];
                g[i] = 1.0;
                rig.vjp(&inputs.batch(), &g).predictions.to_vec()
            };
            let jacobian: Vec<Vec<f64>> = (0..n).map(&mut row_of).collect();
            for i in 0..n {
                let column: Vec<f64> = jacobian.iter().map(|row| row[i]).collect();
                assert_close(&format!("symmetry of {}", p.name), &jacobian[i], &column, 1e-11);
                let square: Vec<f64> =
                    (0..n).map(|j| dot(&jacobian[i], &jacobian.iter().map(|row| row[j]).collect::<Vec<_>>())).collect();
                assert_close(&format!("square of {}", p.name), &jacobian[i], &square, 1e-11);
            }
        }
    });
}

/// Checks that a problem and its image have corresponding answers.
fn check_image(
    device: &Device,
    (set, stated): (&ConstraintSet, &Stated),
    (image_set, image, limits): (&ConstraintSet, &Stated, &Limits),
    tolerance: f64,
    expected: impl Fn(&[f64]) -> Vec<f64>,
) {
    let first = solve(device, set, stated, &Limits::of(set));
    let second = solve(device, image_set, image, limits);
    if first.0 != Status::IterationLimit && second.0 != Status::IterationLimit {
        assert_eq!(first.0, second.0);
        if first.0 == Status::Solved {
            let known = |y: &[f64]| by_weight(y, &image.weights);
            let tolerance = tolerance * size(stated).max(size(image));
            assert_close("y of the image", &known(&second.1), &known(&expected(&first.1)), tolerance);
        }
    }
}

fn permuted<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|&i| values[i]).collect()
}

pub fn the_order_of_samples_does_not_matter(device: &Device) {
    property_of_cases(device, 3000, |_, case, mut rng| {
        let p = &case.stated;
        let mut order: Vec<usize> = (0..p.z.len()).collect();
        order.shuffle(&mut rng);
        let of = |values: &[f64]| permuted(values, &order);
        let cells = permuted(&p.cells, &order);
        let image = Stated {
            z: of(&p.z),
            cells,
            weights: of(&p.weights),
            labels: of(&p.labels),
            lo: of(&p.lo),
            hi: of(&p.hi),
            coefficients: p.coefficients.iter().map(|a| of(a)).collect(),
        };
        let limits = Limits::of(&case.set);
        check_image(device, (&case.set, p), (&case.set, &image, &limits), 1e-10, |y| permuted(y, &order));
    });
}

/// Cells are renumbered, and the unions of every spread stand in another order.
pub fn the_order_of_groups_does_not_matter(device: &Device) {
    property_of_cases(device, 3000, |_, case, mut rng| {
        let count = case.set.layout().cells();
        let mut names: Vec<usize> = (0..count).collect();
        names.shuffle(&mut rng);
        let renamed = |mask: &CellMask| CellMask::of(mask.iter().map(|cell| names[cell])).expect("cells below 256");
        let mut set = ConstraintSet::new(CellLayout::flat(count).expect("a layout"));
        for spread in case.set.spreads() {
            let mut unions: Vec<Union> =
                spread.unions.iter().map(|union| Union::new(renamed(&union.cells), &union.name[..])).collect();
            unions.shuffle(&mut rng);
            set.push_spread(Spread { unions, limit: spread.limit }).expect("a spread");
        }
        for contrast in case.set.contrasts() {
            let plus = Union::new(renamed(&contrast.plus.cells), "renamed");
            let contrast = Contrast { plus, minus: renamed(&contrast.minus), ..contrast.clone() };
            set.push_contrast(contrast).expect("a contrast");
        }
        for row in case.set.dense() {
            set.push_dense(row.clone()).expect("a dense row");
        }
        let cells = case.stated.cells.iter().map(|cell| names[usize::from(*cell)] as u8).collect();
        let image = Stated { cells, ..case.stated.clone() };
        check_image(device, (&case.set, &case.stated), (&set, &image, &Limits::of(&set)), 1e-9, <[f64]>::to_vec);
    });
}

/// A problem with every number changed by an affine function. Levels and row bounds are those of `limits`.
fn mapped(p: &Stated, f: impl Fn(f64) -> f64 + Copy) -> Stated {
    let all = |values: &[f64]| values.iter().map(|value| f(*value)).collect();
    Stated { z: all(&p.z), labels: all(&p.labels), lo: all(&p.lo), hi: all(&p.hi), ..p.clone() }
}

/// What the bounded rows' values change by where all values change by `step`; contrasts compare means of all.
fn moves_of_bounds(case: &Case, step: f64) -> Vec<f64> {
    let of_dense = case.stated.coefficients.iter().map(|a| step * dot(a, &vec![1.0; a.len()]));
    vec![0.0; case.set.contrasts().len()].into_iter().chain(of_dense).collect()
}

/// `y -> 1 - y`: what is favourable does not matter. (To ratios it does.)
pub fn reflection_does_not_matter(device: &Device) {
    property_of_cases(device, 3000, |_, case, _| {
        if has_ratio(&case.set) {
            return;
        }
        let mut image = mapped(&case.stated, |value| 1.0 - value);
        std::mem::swap(&mut image.lo, &mut image.hi);
        let own = Limits::of(&case.set);
        let moved = moves_of_bounds(&case, 1.0);
        let mirrored = |values: &[f64]| values.iter().zip(&moved).map(|(value, moved)| moved - value).collect();
        let limits = Limits { levels: own.levels, lower: mirrored(&own.upper), upper: mirrored(&own.lower) };
        let expected = |y: &[f64]| y.iter().map(|y| 1.0 - y).collect();
        check_image(device, (&case.set, &case.stated), (&case.set, &image, &limits), 1e-9, expected);
    });
}

/// `y -> y + 3/4`. (Ratios are about the distance from 0.)
pub fn translation_does_not_matter(device: &Device) {
    property_of_cases(device, 3000, |_, case, _| {
        if has_ratio(&case.set) {
            return;
        }
        let image = mapped(&case.stated, |value| value + 0.75);
        let expected = |y: &[f64]| y.iter().map(|y| y + 0.75).collect();
        let own = Limits::of(&case.set);
        let moved = moves_of_bounds(&case, 0.75);
        let along = |values: &[f64]| values.iter().zip(&moved).map(|(value, moved)| value + moved).collect();
        let limits = Limits { lower: along(&own.lower), upper: along(&own.upper), ..own };
        check_image(device, (&case.set, &case.stated), (&case.set, &image, &limits), 1e-9, expected);
    });
}

/// `y -> 2 y`, and epsilon with it.
pub fn scaling_by_two_does_not_matter(device: &Device) {
    property_of_cases(device, 3000, |_, case, _| {
        let image = mapped(&case.stated, |value| 2.0 * value);
        let doubled = |values: &[f64]| -> Vec<f64> { values.iter().map(|value| 2.0 * value).collect() };
        let own = Limits::of(&case.set);
        let levels = if has_ratio(&case.set) { own.levels } else { doubled(&own.levels) };
        let limits = Limits { levels, lower: doubled(&own.lower), upper: doubled(&own.upper) };
        check_image(device, (&case.set, &case.stated), (&case.set, &image, &limits), 1e-9, doubled);
    });
}

/// The weights' unit does not matter.
pub fn scaling_the_weights_does_not_matter(device: &Device) {
    property_of_cases(device, 3000, |_, case, _| {
        let image = Stated { weights: case.stated.weights.iter().map(|w| 8.0 * w).collect(), ..case.stated.clone() };
        let limits = Limits::of(&case.set);
        check_image(device, (&case.set, &case.stated), (&case.set, &image, &limits), 1e-9, <[f64]>::to_vec);
    });
}
