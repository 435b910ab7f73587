//! Problems that can be solved with a pencil.

use crate::common::planted::{contrast, flat, mask};
use crate::common::run::{Rig, assert_close, bits, stored, widened};
use crate::for_each_storage;
use fairlayer::*;

fn parity(groups: usize, epsilon: f64) -> ConstraintSet {
    DemographicParity::within(epsilon).constraints(&Population::one_feature(groups)).expect("constraints")
}

/// What rounding to the storage type allows for numbers of this size: the margin that keeps the rows' bounds, and an
/// ulp or two of the shift.
fn allowance<T: Storage>(size: f64) -> f64 {
    1e-10 + 16.0 * T::UNIT_ROUNDOFF * size
}

/// A problem with its answer.
struct Pencil<'a> {
    set: &'a ConstraintSet,
    z: &'a [f64],
    cells: &'a [u8],
    weights: Option<&'a [f64]>,
    labels: Option<&'a [f64]>,
    bounds: (f64, f64),
    y: &'a [f64],
    nu: &'a [f64],
}

impl<'a> Pencil<'a> {
    fn new(set: &'a ConstraintSet, z: &'a [f64], cells: &'a [u8], (y, nu): (&'a [f64], &'a [f64])) -> Self {
        let bounds = (f64::NEG_INFINITY, f64::INFINITY);
        Self { set, z, cells, weights: None, labels: None, bounds, y, nu }
    }

    fn check<T: Storage>(&self, device: &Device) -> Vec<ClampState> {
        let z = stored::<T>(self.z);
        let mut batch = Batch::single(&z).cells(self.cells);
        batch = batch.bounds(T::from_f64(self.bounds.0), T::from_f64(self.bounds.1));
        if let Some(weights) = self.weights {
            batch = batch.weights(weights);
        }
        if let Some(labels) = self.labels {
            batch = batch.labels(labels);
        }
        let mut rig = Rig::new(device, self.set, &batch.offsets());
        let view = rig.project(&batch);
        assert_eq!(view.outcomes[0].status, Status::Solved);
        let size = self.z.iter().fold(1.0_f64, |most, z| most.max(z.abs()));
        assert_close("y", &widened(view.y), self.y, allowance::<T>(size));
        let mass = self.weights.map_or(z.len() as f64, |weights| weights.iter().sum());
        assert_close("nu", view.multipliers, self.nu, allowance::<T>(size) * mass);
        (0..z.len()).map(|i| view.clamp_state(0, i)).collect()
    }
}

pub fn two_groups_without_bounds(device: &Device) {
    for_each_storage!(device, two_groups);
}

/// The groups move towards each other by `nu / S_g`, `nu = (gap - epsilon) / (1/S_0 + 1/S_1)`.
fn two_groups<T: Storage>(device: &Device) {
    let set = parity(2, 0.125);
    let (z, cells) = ([0.75, 0.5, 1.0, 0.25, 0.0], [0, 0, 0, 1, 1]);
    let nu = (0.75 - 0.125 - 0.125) / (1.0 / 3.0 + 1.0 / 2.0);
    let y: Vec<f64> =
        z.iter().zip(cells).map(|(z, cell)| if cell == 0 { z - nu / 3.0 } else { z + nu / 2.0 }).collect();
    let states = Pencil::new(&set, &z, &cells, (&y, &[nu, -nu])).check::<T>(device);
    assert!(states.iter().all(|state| *state == ClampState::Free));
}

pub fn equal_means_without_bounds(device: &Device) {
    for_each_storage!(device, equal_means);
}

/// At epsilon 0 all group means become the mean of all.
fn equal_means<T: Storage>(device: &Device) {
    let set = parity(3, 0.0);
    let z = [1.0, 0.5, 0.25, 0.75, -0.5, 0.0];
    let means = [0.75, 0.5, -0.25];
    let cells = [0, 0, 1, 1, 2, 2];
    let centre = 1.0 / 3.0;
    let y: Vec<f64> = z.iter().zip(cells).map(|(z, cell)| z - means[usize::from(cell)] + centre).collect();
    let nu = means.map(|mean| 2.0 * (mean - centre));
    Pencil::new(&set, &z, &cells, (&y, &nu)).check::<T>(device);
}

pub fn fair_input_is_untouched(device: &Device) {
    for_each_storage!(device, fair_input);
}

fn fair_input<T: Storage>(device: &Device) {
    let z = stored::<T>(&[0.9, 0.1, 0.3, 0.5, 0.4]);
    let batch = Batch::single(&z).cells(&[0, 0, 1, 1, 1]).bounds(T::from_f64(0.0), T::from_f64(1.0));
    let mut rig = Rig::new(device, &parity(2, 0.2), &batch.offsets());
    let view = rig.project(&batch);
    assert_eq!(bits(view.y), bits(&z));
    assert_eq!(view.multipliers, [0.0, 0.0]);
    assert_eq!((view.outcomes[0].status, view.outcomes[0].iterations), (Status::Solved, 0));
    assert_eq!((view.outcomes[0].residual, view.outcomes[0].excess), (0.0, 0.0));
}

pub fn one_sample_a_group(device: &Device) {
    for_each_storage!(device, one_sample_each);
}

fn one_sample_each<T: Storage>(device: &Device) {
    let set = parity(3, 0.25);
    let answer = (&[0.625, 0.375, 0.5][..], &[0.25, -0.25, 0.0][..]);
    Pencil::new(&set, &[0.875, 0.125, 0.5], &[0, 1, 2], answer).check::<T>(device);
}

pub fn equal_groups_stay(device: &Device) {
    for_each_storage!(device, equal_groups);
}

/// Groups with the same scores are fair at epsilon 0 and are not moved by one bit.
fn equal_groups<T: Storage>(device: &Device) {
    let z = stored::<T>(&[0.1, 0.7, 0.9, 0.1, 0.7, 0.9, 0.1, 0.7, 0.9]);
    let batch = Batch::single(&z).cells(&[0, 0, 0, 1, 1, 1, 2, 2, 2]);
    let mut rig = Rig::new(device, &parity(3, 0.0), &batch.offsets());
    let view = rig.project(&batch);
    assert!(view.all_solved());
    assert_eq!(bits(view.y), bits(&z));
}

pub fn all_beyond_their_bounds(device: &Device) {
    for_each_storage!(device, all_beyond);
}

/// No element is free at the start, so the first curvature is zero.
fn all_beyond<T: Storage>(device: &Device) {
    let set = parity(2, 0.5);
    let nu = 2.0 * 4.25;
    let answer = (&[0.75, 0.75, 0.25, 0.25][..], &[nu, -nu][..]);
    let p = Pencil::new(&set, &[5.0, 5.0, -4.0, -4.0], &[0, 0, 1, 1], answer);
    Pencil { bounds: (0.0, 1.0), ..p }.check::<T>(device);
    let answer = (&[1.0, 1.0, 1.0, 1.0][..], &[0.0, 0.0][..]);
    let p = Pencil::new(&set, &[5.0, 2.0, 4.0, 9.0], &[0, 0, 1, 1], answer);
    let states = Pencil { bounds: (0.0, 1.0), ..p }.check::<T>(device);
    assert!(states.iter().all(|state| *state == ClampState::AtUpper));
}

pub fn mean_residual_by_hand(device: &Device) {
    for_each_storage!(device, mean_residual);
}

/// The first group predicts 0.375 too much on average, the second 0.0625 too little, which is within epsilon.
fn mean_residual<T: Storage>(device: &Device) {
    let set = MeanResidual::within(0.125).constraints(&Population::one_feature(2)).expect("constraints");
    let answer = (&[0.75, 0.25, 0.25, 0.25, 0.625][..], &[3.0 * 0.25, 0.0][..]);
    let mut p = Pencil::new(&set, &[1.0, 0.5, 0.5, 0.25, 0.625], &[0, 0, 0, 1, 1], answer);
    p.labels = Some(&[1.0, 0.0, -0.125, 1.0, 0.0]);
    p.check::<T>(device);
}

pub fn ratio_by_hand(device: &Device) {
    for_each_storage!(device, ratio);
}

/// Two samples: the projection onto the line `b = 0.8 a`.
fn ratio<T: Storage>(device: &Device) {
    let people = Population::one_feature(2);
    let set = DemographicParity(Parity::Ratio { ratio: 0.8 }).constraints(&people).expect("constraints");
    let a = (0.875 + 0.8 * 0.5) / 1.64;
    let nu = 0.8 * a - 0.5;
    let (y, nu) = ([a, 0.8 * a], [0.8 * nu, -nu]);
    let p = Pencil::new(&set, &[0.875, 0.5], &[0, 1], (&y, &nu));
    Pencil { bounds: (0.0, 1.0), ..p }.check::<T>(device);
}

pub fn weights_by_hand(device: &Device) {
    for_each_storage!(device, weights);
}

/// Means 0.6875 (mass 4) and 0.125 (mass 2): `nu = (0.5625 - 0.1875) / (1/4 + 1/2)`.
fn weights<T: Storage>(device: &Device) {
    let set = parity(2, 0.1875);
    let answer = (&[0.625, 0.375, 0.375][..], &[0.5, -0.5][..]);
    let mut p = Pencil::new(&set, &[0.75, 0.5, 0.125], &[0, 0, 1], answer);
    p.weights = Some(&[3.0, 1.0, 2.0]);
    p.check::<T>(device);
}

pub fn clipping_by_hand(device: &Device) {
    for_each_storage!(device, clipping);
}

/// With a shift s each way: `0.5 (1 + 0.625 - s) - 0.5 (0.25 + 0.125 + 2 s) = 0.25` gives s = 0.25.
fn clipping<T: Storage>(device: &Device) {
    let set = parity(2, 0.25);
    let answer = (&[1.0, 0.375, 0.5, 0.375][..], &[0.5, -0.5][..]);
    let p = Pencil::new(&set, &[1.5, 0.625, 0.25, 0.125], &[0, 0, 1, 1], answer);
    let states = Pencil { bounds: (0.0, 1.0), ..p }.check::<T>(device);
    assert_eq!(states, [ClampState::AtUpper, ClampState::Free, ClampState::Free, ClampState::Free]);
}

pub fn frozen_elements_by_hand(device: &Device) {
    for_each_storage!(device, frozen_elements);
}

/// Two of the first group's three samples have lo = hi. With the multiplier nu the means are `(2.4 - nu/3) / 3` and
/// `0.2 + nu/3`, equal at nu = 1.35.
fn frozen_elements<T: Storage>(device: &Device) {
    let z = stored::<T>(&[0.8, 0.8, 0.8, 0.2, 0.2, 0.2]);
    let (mut lo, mut hi) = (stored::<T>(&[0.0; 6]), stored::<T>(&[1.0; 6]));
    (lo[0], hi[0], lo[1], hi[1]) = (z[0], z[0], z[1], z[1]);
    let batch = Batch::single(&z).cells(&[0, 0, 0, 1, 1, 1]).element_bounds(&lo, &hi);
    let mut rig = Rig::new(device, &parity(2, 0.0), &batch.offsets());
    let view = rig.project(&batch);
    assert!(view.all_solved());
    assert_eq!(bits(&view.y[..2]), bits(&z[..2]));
    let tolerance = allowance::<T>(1.0);
    assert_close("y", &widened(view.y), &[0.8, 0.8, 0.35, 0.65, 0.65, 0.65], tolerance);
    assert_close("nu", view.multipliers, &[1.35, -1.35], 9.0 * tolerance);
    let states: Vec<ClampState> = (0..3).map(|i| view.clamp_state(0, i)).collect();
    assert_eq!(states, [ClampState::AtLower, ClampState::AtLower, ClampState::Free]);
}

pub fn absent_groups_are_reported(device: &Device) {
    for_each_storage!(device, absent_groups);
}

/// Of four groups two are there: the others' rows are out. With one group there is nothing to compare. A contrast whose
/// second side is absent is out too.
fn absent_groups<T: Storage>(device: &Device) {
    let mut set = flat(4);
    let unions = (0..4).map(|cell| Union::new(mask([cell]), "group")).collect();
    set.push_spread(Spread { unions, limit: SpreadLimit::Difference(0.0) }).expect("a spread");
    set.push_contrast(contrast(mask([0]), mask([1, 2]), 1.0, 0.0, 0.0)).expect("a contrast");
    set.push_contrast(contrast(mask([0]), CellMask::EMPTY, 0.0, 0.0, 10.0)).expect("a contrast");
    let z = stored::<T>(&[0.25, 0.75, 0.25, 0.5]);
    let cells = [0, 3, 0, 0];
    let batch = Batch::new(&z, Offsets::Ragged(&[0, 2, 4, 4])).cells(&cells);
    let mut rig = Rig::new(device, &set, &batch.offsets());
    let view = rig.project(&batch);
    assert!(view.all_solved());
    let inactive = |problem| (0..set.rows()).map(|row| view.is_inactive(problem, row)).collect::<Vec<_>>();
    assert_eq!(inactive(0), [false, true, true, false, true, false]);
    assert_eq!(inactive(1), [true, true, true, true, true, false]);
    assert_eq!(inactive(2), [true; 6]);
    assert_close("y", &widened(view.y), &[0.5, 0.5, 0.25, 0.5], allowance::<T>(1.0));
    assert_eq!(view.problem_multipliers(0)[1..3], [0.0, 0.0]);
}
