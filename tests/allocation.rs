//! After `plan`, projections and gradients allocate nothing.
//!
//! Where one thread does the work, that is exact. Over several threads rayon's own queues take a block now and then: a
//! few for a whole batch, none for a problem.

#![allow(unsafe_code, reason = "a global allocator that counts can only be written so")]

use fairlayer::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    EVERYWHERE.fetch_add(1, Ordering::Relaxed);
    // A thread that ends may still free and allocate when its counter is gone.
    let _ = HERE.try_with(|here| here.set(here.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `pointer` came from `System` with this layout; the rest is the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A batch over 3 groups and 2 labels, scattered and unfair.
struct Data<T> {
    z: Vec<T>,
    groups: Vec<u8>,
    labels: Vec<f64>,
    weights: Vec<f64>,
    /// Of three dense rows.
    coefficients: Vec<f64>,
    problems: usize,
}

impl<T: Storage> Data<T> {
    fn new(problems: usize, n: usize) -> Self {
        let unit = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xFFFF) as f64 / 65_535.0;
        let all = 0..problems * n;
        Self {
            z: all.clone().map(|i| T::from_f64(1.4 * unit(i) - 0.3 + 0.1 * (i % 3) as f64)).collect(),
            groups: all.clone().map(|i| (i % 3) as u8).collect(),
            labels: all.clone().map(|i| (i / 3 % 2) as f64).collect(),
            weights: all.map(|i| 0.5 + unit(i + 1)).collect(),
            coefficients: (0..3 * problems * n).map(|i| (unit(i + 2) - 0.5) / n as f64).collect(),
            problems,
        }
    }

    /// Plans, runs once to warm up whatever has a first time, then counts: allocations of this thread and of all.
    fn allocations(&self, set: &ConstraintSet, rounds: usize) -> (usize, usize) {
        let groups = [Buffer::host(&self.groups)];
        let n = self.z.len() / self.problems;
        let batch = Batch::new(&self.z, Offsets::Equal { problems: self.problems, n }).groups(&groups);
        let batch = batch.labels(&self.labels).weights(&self.weights).bounds(T::from_f64(0.0), T::from_f64(1.0));
        let batch = batch.coefficients(&self.coefficients[..set.dense().len() * self.z.len()]);
        let capacities = Capacities::of(&batch.offsets());
        let mut projector = Projector::plan(Device::cpu(), set, capacities, Settings::default()).expect("a plan");
        let mut solution = projector.solution();
        let mut gradients =
            projector.gradients(Wanted { bounds: true, weights: true, labels: true, coefficients: true });
        let mut round = || {
            projector.project_into(&batch, &mut solution).expect("the batch fits");
            projector.vjp(&batch, &solution, &self.z, &mut gradients).expect("the batch fits");
        };
        round();
        let before = (HERE.get(), EVERYWHERE.load(Ordering::SeqCst));
        (0..rounds).for_each(|_| round());
        let after = (HERE.get(), EVERYWHERE.load(Ordering::SeqCst));
        let view = solution.read().expect("a solution");
        assert!(view.all_solved() && view.outcomes.iter().any(|outcome| outcome.iterations > 0));
        (after.0 - before.0, after.1 - before.1)
    }
}

fn sets() -> Vec<ConstraintSet> {
    let people = Population::one_feature(3);
    let criteria: [&dyn Criterion; 5] = [
        &DemographicParity::within(0.01),
        &DemographicParity(Parity::Ratio { ratio: 0.95 }),
        &EqualizedOdds::within(0.0),
        &EqualizedOdds(Parity::Overall { epsilon: 0.01 }),
        &MeanResidual::within(0.01),
    ];
    let of = |criterion: &&dyn Criterion| criterion.constraints(&people).expect("constraints");
    let mut sets: Vec<ConstraintSet> = criteria.iter().map(of).collect();
    let mut dense = ConstraintSet::new(CellLayout::flat(3).expect("a layout"));
    let mut beside = sets[0].clone();
    for set in [&mut dense, &mut beside] {
        for (lower, upper) in [(0.0, 0.0), (f64::NEG_INFINITY, 0.0), (-0.1, 0.1)] {
            set.push_dense(DenseRow::new("dense", lower, upper)).expect("a dense row");
        }
    }
    sets.extend([dense, beside]);
    sets
}

/// One test, so that no other one allocates meanwhile.
#[test]
fn nothing_is_allocated_after_the_plan() {
    HERE.set(0);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(HERE.get(), 1, "the counter counts");
    for set in &sets() {
        for (problems, n) in [(1, 32), (1, 4000), (16, 100), (1, 100_000)] {
            assert_eq!(Data::<f32>::new(problems, n).allocations(set, 5).0, 0, "f32: {problems} of {n}");
            assert_eq!(Data::<f64>::new(problems, n).allocations(set, 5).0, 0, "f64: {problems} of {n}");
            assert_eq!(Data::<f16>::new(problems, n).allocations(set, 5).0, 0, "f16: {problems} of {n}");
        }
    }
    // 2,000 problems over all threads, 20 rounds of forward and backward: 80,000 solves.
    for set in &sets() {
        let (_, everywhere) = Data::<f32>::new(2000, 64).allocations(set, 20);
        println!("{everywhere} allocations");
        assert!(everywhere <= 40, "{everywhere} allocations in 40 calls are more than rayon's queues take");
    }
}
