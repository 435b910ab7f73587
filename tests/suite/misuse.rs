//! Misuse is an `Err` that names what is wrong and what to do; nothing is changed by it.

use crate::common::planted::{contrast, flat, mask};
use crate::common::run::{Answer, EVERYTHING};
use fairlayer::*;

fn two_groups() -> ConstraintSet {
    DemographicParity::within(0.1).constraints(&Population::one_feature(2)).expect("constraints")
}

fn plan(device: &Device, set: &ConstraintSet, capacities: Capacities) -> Projector<f64> {
    Projector::plan(device, set, capacities, Settings::default()).expect("a plan")
}

/// Projects a batch that does not fit, and checks the message and that the solution is as before.
#[track_caller]
fn refused(
    device: &Device,
    set: &ConstraintSet,
    capacities: Capacities,
    batch: &Batch<'_, f64>,
    message: &[&str],
) -> Error {
    let mut projector = plan(device, set, capacities);
    let mut solution = projector.solution();
    let z = vec![0.5; capacities.total.min(2)];
    let (cells, labels) = (vec![0; z.len()], vec![0.5; z.len()]);
    let coefficients = vec![0.0; z.len() * set.dense().len()];
    let good = Batch::single(&z).cells(&cells).labels(&labels).bounds(0.0, 1.0).coefficients(&coefficients);
    projector.project_into(&good, &mut solution).expect("this one fits");
    let before = Answer::all(&solution.read().expect("a solution"));
    let error = projector.project_into(batch, &mut solution).expect_err("misuse");
    assert_eq!(Answer::all(&solution.read().expect("a solution")), before, "the solution was changed");
    let mut gradients = projector.gradients(EVERYTHING);
    let g = vec![1.0; batch.total()];
    assert!(projector.vjp(batch, &solution, &g, &mut gradients).is_err());
    let text = error.to_string();
    assert!(message.iter().all(|part| text.contains(part)), "{text:?} lacks one of {message:?}");
    error
}

const Z: [f64; 4] = [0.9, 0.8, 0.2, 0.1];
const CELLS: [u8; 4] = [0, 0, 1, 1];

fn batch() -> Batch<'static, f64> {
    Batch::single(&Z).cells(&CELLS)
}

pub fn arrays_of_wrong_length(device: &Device) {
    let set = two_groups();
    let mut with_contrast = set.clone();
    with_contrast.push_contrast(contrast(mask([0]), CellMask::EMPTY, 0.0, 0.0, 1.0)).expect("a contrast");
    let short = [0.5; 3];
    let ids = [0; 5];
    let room = Capacities::equal(2, 8);
    let is_shape = |batch: &Batch<'_, f64>, what: &str, got: usize, expected: usize| {
        let needed = [what, &format!("{got} elements"), &format!("{expected} are needed")];
        let error = refused(device, &with_contrast, room, batch, &needed);
        assert!(matches!(error, Error::Shape { .. }), "{error:?}");
    };
    is_shape(&batch().cells(&ids), "cells", 5, 4);
    is_shape(&batch().labels(&short), "labels", 3, 4);
    is_shape(&batch().control(&ids), "control", 5, 4);
    is_shape(&batch().weights(&short), "weights", 3, 4);
    is_shape(&batch().element_bounds(&short, &Z), "lower bounds", 3, 4);
    is_shape(&batch().element_bounds(&Z, &short), "upper bounds", 3, 4);
    is_shape(&batch().levels(&short), "levels", 3, 1);
    is_shape(&batch().row_bounds(&short, &[1.0]), "lower row bounds", 3, 1);
    is_shape(&batch().row_bounds(&[0.0], &short), "upper row bounds", 3, 1);
    is_shape(&batch().warm_start(&short[..2]), "warm start", 2, 3);
    is_shape(&Batch::new(&Z, Offsets::Equal { problems: 2, n: 3 }).cells(&CELLS), "predictions", 4, 6);
    is_shape(&Batch::new(&Z, Offsets::Ragged(&[0, 2, 5])).cells(&CELLS), "predictions", 4, 5);
    let overflow = Offsets::Equal { problems: usize::MAX, n: 2 };
    is_shape(&Batch::new(&Z, overflow).cells(&CELLS), "predictions", 4, usize::MAX);
    let one_of_two = [Buffer::host(&CELLS)];
    let features = Population::of_features([SensitiveFeature::new("a", 2), SensitiveFeature::new("b", 2)]);
    let set = DemographicParity::within(0.1).constraints(&features).expect("constraints");
    let error = refused(device, &set, room, &Batch::single(&Z).groups(&one_of_two), &["groups", "1", "2"]);
    assert!(matches!(error, Error::Shape { expected: 2, got: 1, .. }));
}

pub fn values_that_cannot_be_used(device: &Device) {
    let set = two_groups();
    let room = Capacities::equal(2, 8);
    let is_value = |set: &ConstraintSet, batch: &Batch<'_, f64>, parts: &[&str]| {
        let error = refused(device, set, room, batch, parts);
        assert!(matches!(error, Error::Value { .. }), "{error:?}");
    };
    for offsets in [&[][..], &[1, 4], &[0, 3, 2, 4]] {
        is_value(&set, &Batch::new(&Z, Offsets::Ragged(offsets)).cells(&CELLS), &["offsets", "begin with 0"]);
    }
    for (lo, hi) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::NAN), (f64::INFINITY, f64::INFINITY)] {
        is_value(&set, &batch().bounds(lo, hi), &["bounds", "holds no number"]);
    }
    let ratio =
        DemographicParity(Parity::Ratio { ratio: 0.8 }).constraints(&Population::one_feature(2)).expect("a set");
    is_value(&ratio, &batch().bounds(-0.5, 1.0), &["bounds", "ratio", "-0.5"]);
    is_value(&ratio, &batch(), &["bounds", "ratio"]);
    let uneven = Batch::new(&Z, Offsets::Ragged(&[0, 1, 4]));
    is_value(&set, &uneven.cells(Buffer::host(&CELLS[..2]).shared()), &["cells", "equal size"]);
    is_value(&set, &uneven.cells(&CELLS).weights(Reals::from(&Z).shared()), &["weights", "equal size"]);
    is_value(&set, &Batch::single(Buffer::host(&Z).shared()).cells(&CELLS), &["predictions", "shared"]);
}

pub fn missing_inputs(device: &Device) {
    let room = Capacities::equal(2, 8);
    let people = Population::one_feature(2).with_control(2);
    let groups = [Buffer::host(&CELLS)];
    let by_groups = Batch::single(&Z).groups(&groups);
    let sets: [(&dyn Criterion, Batch<'_, f64>, &[&str]); 4] = [
        (&DemographicParity::within(0.1), Batch::single(&Z), &["groups", "Batch::groups"]),
        (&EqualizedOdds::within(0.1), by_groups, &["labels", "Batch::labels"]),
        (&MeanResidual::within(0.1), by_groups, &["labels", "Batch::labels"]),
        (&ConditionalParity::within(0.1), by_groups, &["control", "Batch::control"]),
    ];
    for (criterion, batch, parts) in sets {
        let set = criterion.constraints(&people).expect("constraints");
        let error = refused(device, &set, room, &batch, parts);
        assert!(matches!(error, Error::Missing { .. }), "{error:?}");
    }
    let error = ConditionalParity::within(0.1).constraints(&Population::one_feature(2)).expect_err("no control");
    assert!(
        matches!(error, Error::Missing { .. }) && error.to_string().contains("Population::with_control"),
        "{error}"
    );
}

pub fn batches_larger_than_planned(device: &Device) {
    let set = two_groups();
    let two = Batch::new(&Z, Offsets::Ragged(&[0, 1, 4])).cells(&CELLS);
    for (problems, total, largest, parts) in [
        (1, 4, 4, ["2 problems", "planned for 1"]),
        (2, 3, 4, ["4 predictions", "planned for 3"]),
        (2, 4, 2, ["3 predictions in one problem", "planned for 2"]),
    ] {
        let error = refused(device, &set, Capacities { problems, total, largest }, &two, &parts);
        assert!(matches!(error, Error::Capacity { .. }), "{error:?}");
    }
    let mut projector = plan(device, &set, Capacities { problems: 2, total: 4, largest: 3 });
    assert!(projector.project(&two).expect("it fits").read().expect("a solution").all_solved());
    let none = Batch::<f64>::new(&[], Offsets::Ragged(&[0])).cells(&[]);
    assert!(projector.project(&none).expect("nothing to do").read().expect("a solution").y.is_empty());
}

pub fn solutions_of_another_plan(device: &Device) {
    let capacities = Capacities::single(4);
    let mut projector = plan(device, &two_groups(), capacities);
    let three = DemographicParity::within(0.1).constraints(&Population::one_feature(3)).expect("constraints");
    let overall = DemographicParity(Parity::Overall { epsilon: 0.1 });
    let overall = overall.constraints(&Population::one_feature(2)).expect("constraints");
    let others = [
        plan(device, &two_groups(), Capacities::single(5)),
        plan(device, &two_groups(), Capacities { problems: 2, ..capacities }),
        plan(device, &three, capacities),
    ];
    let is_foreign = |error: Error, make: &str| {
        assert!(matches!(error, Error::Foreign { .. }) && error.to_string().contains(make), "{error}");
    };
    let own = projector.project(&batch()).expect("it fits");
    for other in &others {
        let mut solution = other.solution();
        is_foreign(projector.project_into(&batch(), &mut solution).expect_err("foreign"), "solution()");
        let mut gradients = projector.gradients(EVERYTHING);
        is_foreign(projector.vjp(&batch(), &solution, &Z, &mut gradients).expect_err("foreign"), "solution()");
    }
    for other in &others[..2] {
        let mut gradients = other.gradients(EVERYTHING);
        is_foreign(projector.vjp(&batch(), &own, &Z, &mut gradients).expect_err("foreign"), "gradients()");
    }
    let mut contrasts = plan(device, &overall, capacities).gradients(EVERYTHING);
    is_foreign(projector.vjp(&batch(), &own, &Z, &mut contrasts).expect_err("foreign"), "gradients()");
}

pub fn backward_passes_that_do_not_fit(device: &Device) {
    let mut projector = plan(device, &two_groups(), Capacities::equal(2, 4));
    let solution = projector.project(&batch()).expect("it fits");
    let mut gradients = projector.gradients(EVERYTHING);
    let error = projector.vjp(&batch(), &solution, &Z[..3], &mut gradients).expect_err("too short");
    assert!(matches!(error, Error::Shape { expected: 4, got: 3, .. }), "{error}");
    let shared = Buffer::host(&Z).shared();
    assert!(projector.vjp(&batch(), &solution, shared, &mut gradients).is_err());
    let cut = Batch::new(&Z, Offsets::Ragged(&[0, 2, 4])).cells(&CELLS);
    let error = projector.vjp(&cut, &solution, &Z, &mut gradients).expect_err("another cut");
    assert!(error.to_string().contains("other offsets"), "{error}");
    let shorter = Batch::single(&Z[..2]).cells(&CELLS[..2]);
    assert!(projector.vjp(&shorter, &solution, &Z[..2], &mut gradients).is_err());
}

pub fn settings_out_of_range(device: &Device) {
    for tolerance in [-1e-9, f64::NAN, f64::INFINITY] {
        let settings = Settings { tolerance, ..Settings::default() };
        let error =
            Projector::<f64>::plan(device, &two_groups(), Capacities::single(1), settings).expect_err("tolerance");
        assert!(error.to_string().contains("tolerance"), "{error}");
    }
}

/// More than an address space holds is refused, not tried.
pub fn plans_beyond_all_memory(device: &Device) {
    let most = usize::MAX;
    for capacities in [
        Capacities::single(most),
        Capacities::equal(most, 1),
        Capacities::equal(most, most),
        Capacities { problems: most, total: 1, largest: 1 },
        Capacities { problems: 1, total: most, largest: 1 },
        Capacities { problems: 1, total: 1, largest: most },
    ] {
        let plan = Projector::<f64>::plan(device, &two_groups(), capacities, Settings::default());
        assert!(plan.is_err(), "a plan for {capacities:?}");
    }
}

pub fn constraints_that_make_no_sense(_: &Device) {
    fn is_value<T: std::fmt::Debug>(result: Result<T>, part: &str) {
        let error = result.expect_err("misuse");
        assert!(matches!(error, Error::Value { .. }) && error.to_string().contains(part), "{error}");
    }
    let people = Population::one_feature(2);
    for epsilon in [-0.1, f64::NAN, f64::INFINITY] {
        let parities = [Parity::Pairwise { epsilon }, Parity::Overall { epsilon }];
        for parity in parities {
            is_value(DemographicParity(parity).constraints(&people), "epsilon");
            is_value(EqualizedOdds(parity).constraints(&people), "epsilon");
        }
        is_value(MeanResidual::within(epsilon).constraints(&people), "epsilon");
    }
    for ratio in [0.0, -0.5, 1.5, f64::NAN] {
        is_value(DemographicParity(Parity::Ratio { ratio }).constraints(&people), "ratio");
    }
    is_value(DemographicParity::within(0.1).constraints(&Population::default()), "feature");
    is_value(DemographicParity::within(0.1).constraints(&Population::one_feature(0)), "group");
    is_value(ConditionalParity::within(0.1).constraints(&people.clone().with_control(0)), "control");
    is_value(CellMask::of([256]), "256");
    is_value(CellLayout::flat(0), "group");
    let (some, outside) = (mask([0]), mask([2]));
    let push = |contrast: Contrast| flat(2).push_contrast(contrast).map(|_| ());
    is_value(push(contrast(CellMask::EMPTY, some, 1.0, 0.0, 1.0)), "first side");
    is_value(push(contrast(outside, some, 1.0, 0.0, 1.0)), "first side");
    is_value(push(contrast(some, outside, 1.0, 0.0, 1.0)), "second side");
    is_value(push(contrast(some, some, f64::NAN, 0.0, 1.0)), "scale");
    for (lower, upper) in [(1.0, 0.0), (f64::NAN, 0.0), (0.0, f64::NAN), (f64::INFINITY, f64::INFINITY)] {
        is_value(push(contrast(some, CellMask::EMPTY, 0.0, lower, upper)), "row bounds");
    }
    for cells in [CellMask::EMPTY, outside] {
        let spread = Spread { unions: vec![Union::new(cells, "u")], limit: SpreadLimit::Difference(0.1) };
        is_value(flat(2).push_spread(spread).map(|_| ()), "spread");
    }
}

pub fn more_cells_than_a_device_takes(_: &Device) {
    let features = |counts: &[usize]| Population::of_features(counts.iter().map(|k| SensitiveFeature::new("f", *k)));
    let cells_of = |error: &Error| if let Error::TooManyCells { cells, .. } = error { Some(*cells) } else { None };
    for (criterion, people, cells) in [
        (&DemographicParity::within(0.1) as &dyn Criterion, features(&[257]), 257),
        (&EqualizedOdds::within(0.1), features(&[16, 9]), 288),
        (&ConditionalParity::within(0.1), features(&[2]).with_control(129), 258),
    ] {
        let error = criterion.constraints(&people).expect_err("too many");
        assert_eq!(cells_of(&error), Some(cells));
        assert!(error.to_string().contains("256") && error.to_string().contains("merge rare groups"), "{error}");
    }
    let error = CellLayout::new(&[usize::MAX, 2], Strata::Label).expect_err("too many");
    assert_eq!(cells_of(&error), Some(usize::MAX));
}
