//! CUDA: arrays of the caller's own on the device, read where they lie, by calls that do nothing but launch kernels.

#![cfg(feature = "cuda")]

mod common;

use std::sync::atomic::Ordering;

use common::devices::run_on;
use fairlayer::cudarc::driver::{CudaContext, sys};
use fairlayer::*;

const PROBLEMS: usize = 8;
const N: usize = 300;
const OFFSETS: Offsets<'static> = Offsets::Equal { problems: PROBLEMS, n: N };
const GROUPS: usize = 3;

/// Numbers on a device: the answers of problems whose inputs are fair already, and so come back bit by bit.
struct Resident<T: Storage> {
    projector: Projector<T>,
    solution: Solution<T>,
}

impl<T: Storage + bytemuck::Pod> Resident<T> {
    fn new(device: &Device, values: &[T]) -> Self {
        let set = DemographicParity::within(1e300).constraints(&Population::one_feature(2)).expect("constraints");
        let plan = Projector::plan(device, &set, Capacities::equal(values.len().div_ceil(4), 4), Settings::default());
        let projector = plan.expect("a plan");
        let mut resident = Self { solution: projector.solution(), projector };
        resident.write(values);
        resident
    }

    /// Writes other numbers, as many.
    fn write(&mut self, values: &[T]) {
        let problems = values.len().div_ceil(4);
        let mut padded = values.to_vec();
        padded.resize(4 * problems, T::from_f64(0.0));
        let batch = Batch::new(&padded, Offsets::Equal { problems, n: 4 }).cells(Buffer::host(&[0, 1, 0, 1]).shared());
        self.projector.project_into(&batch, &mut self.solution).expect("a projection");
        let read = self.solution.read().expect("answers");
        assert_eq!(bytemuck::cast_slice::<T, u8>(read.y), bytemuck::cast_slice::<T, u8>(&padded));
    }

    fn address(&self) -> u64 {
        self.solution.y_address().expect("an address")
    }
}

/// Elements on a device.
#[allow(unsafe_code, reason = "nobody else vouches for an address")]
fn at<T>(address: u64, len: usize) -> Buffer<'static, T> {
    // SAFETY: what the tests read lies in a `Resident`, which outlives the reading of all answers, and is not written to while
    // calls are under way; other addresses are refused before anything is read.
    unsafe { Buffer::cuda(address, len) }
}

/// The same numbers in every run, from a seed.
fn numbers(seed: usize, count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |i| ((i ^ (seed << 20)).wrapping_mul(2_654_435_761) >> 7 & 0xFFFF) as f32 / 65_535.0)
}

struct Host {
    z: Vec<f32>,
    g: Vec<f32>,
    /// Four to a word, which is how they come on the device.
    cells: Vec<u8>,
    levels: Vec<f64>,
}

impl Host {
    fn new(seed: usize) -> Self {
        let total = PROBLEMS * N;
        let cells: Vec<u8> = (0..total).map(|i| ((i + seed) % GROUPS) as u8).collect();
        Self {
            z: numbers(seed, total).zip(&cells).map(|(z, cell)| z + 0.2 * f32::from(*cell) - 0.2).collect(),
            g: numbers(seed + 1, total).map(|g| g - 0.3).collect(),
            cells,
            levels: (0..PROBLEMS).map(|problem| 0.01 * problem as f64).collect(),
        }
    }

    fn cells_as_floats(&self) -> Vec<f32> {
        self.cells.chunks_exact(4).map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect()
    }

    fn batch(&self) -> Batch<'_, f32> {
        Batch::new(&self.z, OFFSETS).cells(&self.cells).levels(&self.levels).bounds(0.0, 1.0)
    }
}

/// Inputs on a device.
struct There {
    z: Resident<f32>,
    g: Resident<f32>,
    cells: Resident<f32>,
    levels: Resident<f64>,
}

impl There {
    fn new(device: &Device, host: &Host) -> Self {
        Self {
            z: Resident::new(device, &host.z),
            g: Resident::new(device, &host.g),
            cells: Resident::new(device, &host.cells_as_floats()),
            levels: Resident::new(device, &host.levels),
        }
    }

    fn batch(&self) -> Batch<'static, f32> {
        let batch = Batch::new(at(self.z.address(), PROBLEMS * N), OFFSETS).bounds(0.0, 1.0);
        batch.cells(at(self.cells.address(), PROBLEMS * N)).levels(at::<f64>(self.levels.address(), PROBLEMS))
    }

    fn g(&self) -> Buffer<'static, f32> {
        at(self.g.address(), PROBLEMS * N)
    }
}

/// A plan with its answers.
struct Rig {
    projector: Projector<f32>,
    solution: Solution<f32>,
    gradients: Gradients<f32>,
}

/// All that is read of a call.
type Came = (Vec<f32>, Vec<f64>, Vec<Outcome>, Vec<f32>, Vec<f64>);

impl Rig {
    fn new(device: &Device) -> Self {
        let set = DemographicParity::within(0.02).constraints(&Population::one_feature(GROUPS)).expect("constraints");
        let plan = Projector::plan(device, &set, Capacities::of(&OFFSETS), Settings::default());
        let projector = plan.expect("a plan");
        let (solution, gradients) = (projector.solution(), projector.gradients(Wanted::default()));
        Self { projector, solution, gradients }
    }

    fn call(&mut self, batch: &Batch<'_, f32>, g: Buffer<'_, f32>) {
        self.projector.project_into(batch, &mut self.solution).expect("a projection");
        self.projector.vjp(batch, &self.solution, g, &mut self.gradients).expect("gradients");
    }

    fn came(&self) -> Came {
        let (answers, slopes) = (self.solution.read().expect("answers"), self.gradients.read().expect("gradients"));
        assert!(answers.all_solved());
        (
            answers.y.to_vec(),
            answers.multipliers.to_vec(),
            answers.outcomes.to_vec(),
            slopes.predictions.to_vec(),
            slopes.levels.to_vec(),
        )
    }
}

fn arrays_of_ones_own_are_read_where_they_lie(device: &Device) {
    let host = Host::new(5);
    let there = There::new(device, &host);
    let mut rig = Rig::new(device);
    rig.call(&host.batch(), Buffer::host(&host.g));
    let expected = rig.came();
    let mut rig = Rig::new(device);
    assert_eq!((rig.solution.y_address(), rig.gradients.predictions_address()), (None, None));
    rig.call(&there.batch(), there.g());
    assert!(rig.came() == expected);
    // Some here, some there; and cells that problems share.
    rig.call(&host.batch().cells(at(there.cells.address(), PROBLEMS * N)), Buffer::host(&host.g));
    assert!(rig.came() == expected);
    let mut shared = host.batch().cells(Buffer::host(&host.cells[..N]).shared());
    rig.call(&shared, Buffer::host(&host.g));
    let expected = rig.came();
    shared = there.batch().cells(at(there.cells.address(), N).shared());
    rig.call(&shared, there.g());
    assert!(rig.came() == expected);
    // What one call leaves there the next one reads: projecting twice changes nothing, as far as the rounding margin allows.
    let once = rig.came().0;
    let mut next = Rig::new(device);
    let y = at(rig.solution.y_address().expect("an address"), PROBLEMS * N);
    next.call(&Batch::new(y, OFFSETS).cells(at(there.cells.address(), N).shared()).bounds(0.0, 1.0), there.g());
    assert!(next.came().0.iter().zip(&once).all(|(twice, once)| (twice - once).abs() <= 0.1));
    assert_eq!(y.len(), once.len());
}

/// The same where kernels for any rows are asked: weights of either precision, labels, bounds of every element, and row bounds.
fn arrays_of_any_kind_are_read_where_they_lie(device: &Device) {
    let (host, total) = (Host::new(4), PROBLEMS * N);
    let residual = MeanResidual::within(0.05).constraints(&Population::one_feature(GROUPS)).expect("constraints");
    let weights: Vec<f64> = numbers(7, total).map(|w| 0.2 + f64::from(w) / 3.0).collect();
    let (lo, hi) = (vec![0.0_f32; total], numbers(8, total).map(|h| 0.8 + 0.2 * h).collect::<Vec<f32>>());
    let labels: Vec<f32> = numbers(9, total).map(|l| f32::from(u8::from(l > 0.6))).collect();
    let row_bounds: [Vec<f64>; 2] =
        [-1.0, 1.0].map(|side| (0..PROBLEMS * GROUPS).map(|i| side * 0.01 * i as f64).collect());
    let there = There::new(device, &host);
    let [lo_there, hi_there, labels_there] = [&lo, &hi, &labels].map(|values| Resident::new(device, values));
    let [weights_there, lower_there, upper_there] =
        [&weights, &row_bounds[0], &row_bounds[1]].map(|values| Resident::new(device, values));
    let on_host = Batch::new(&host.z, OFFSETS).cells(&host.cells).weights(&weights).labels(&labels);
    let on_host = on_host.element_bounds(&lo, &hi).row_bounds(&row_bounds[0], &row_bounds[1]);
    let on_device = Batch::new(at(there.z.address(), total), OFFSETS).cells(at(there.cells.address(), total));
    let on_device = on_device.weights(at::<f64>(weights_there.address(), total));
    let on_device = on_device.labels(at::<f32>(labels_there.address(), total));
    let on_device = on_device.element_bounds(at(lo_there.address(), total), at(hi_there.address(), total));
    let of_rows = |rows: &Resident<f64>| at::<f64>(rows.address(), PROBLEMS * GROUPS);
    let on_device = on_device.row_bounds(of_rows(&lower_there), of_rows(&upper_there));
    let plan = Projector::plan(device, &residual, Capacities::of(&OFFSETS), Settings::default());
    let mut projector = plan.expect("a plan");
    let mut came = |batch: &Batch<'_, f32>, g: Buffer<'_, f32>| {
        let solution = projector.project(batch).expect("a projection");
        let wanted = Wanted { bounds: true, weights: true, labels: true, ..Wanted::default() };
        let mut gradients = projector.gradients(wanted);
        projector.vjp(batch, &solution, g, &mut gradients).expect("gradients");
        let (answers, slopes) = (solution.read().expect("answers"), gradients.read().expect("gradients"));
        let solved = answers.outcomes.iter().filter(|outcome| outcome.status == Status::Solved).count();
        assert!(solved > PROBLEMS / 2, "{:?}", answers.outcomes);
        let elements = [slopes.predictions, slopes.lo, slopes.hi, slopes.weights, slopes.labels].concat();
        (answers.y.to_vec(), answers.outcomes.to_vec(), elements, [slopes.lower, slopes.upper].concat())
    };
    assert!(came(&on_device, there.g()) == came(&on_host, Buffer::host(&host.g)));
}

/// Once planned, and once there is memory for answers, a call with all inputs on the device is a launch and nothing else; with
/// inputs on the host it copies these, and still allocates nothing.
fn a_planned_call_only_launches(_: &Device) {
    // (One of its own, which no other test asks for anything.)
    let device = &common::emulation::library().and_then(|path| Device::emulated_cuda(&path).map_err(|e| e.to_string()));
    let Ok(device @ Device::Cuda(opened)) = device else { panic!("an emulated device") };
    let host = Host::new(9);
    let there = There::new(device, &host);
    let mut rig = Rig::new(device);
    rig.call(&there.batch(), there.g());
    let Some(asked) = opened.asked() else { panic!("an emulated device") };
    let counts = || [&asked.allocations, &asked.copies, &asked.launches].map(|count| count.load(Ordering::Relaxed));
    let [allocations, copies, launches] = counts();
    for calls in 1..4 {
        rig.call(&there.batch(), there.g());
        assert_eq!(counts(), [allocations, copies, launches + 2 * calls]);
    }
    rig.call(&host.batch(), Buffer::host(&host.g));
    // (Predictions, cells and levels; and these and the gradient.)
    assert_eq!(counts(), [allocations, copies + 7, launches + 8]);
    // The set's own level is there already.
    let batch = Batch::new(at(there.z.address(), PROBLEMS * N), OFFSETS).cells(at(there.cells.address(), PROBLEMS * N));
    rig.call(&batch, there.g());
    assert_eq!(counts(), [allocations, copies + 7, launches + 10]);
    // Ragged problems upload where they begin, and nothing grows.
    let starts: Vec<usize> = (0..=PROBLEMS).map(|problem| problem * N).collect();
    let batch = Batch::new(&host.z, Offsets::Ragged(&starts)).cells(&host.cells).levels(&host.levels).bounds(0.0, 1.0);
    rig.call(&batch, Buffer::host(&host.g));
    assert_eq!(counts()[0], allocations);
}

fn arrays_that_cannot_be_there_are_refused(device: &Device) {
    let host = Host::new(3);
    let there = There::new(device, &host);
    let total = PROBLEMS * N;
    let (z, cells) = (there.z.address(), there.cells.address());
    let mut rig = Rig::new(device);
    let mut refused = |batch: Batch<'_, f32>, hint: &str| {
        let error = rig.projector.project_into(&batch, &mut rig.solution).expect_err("refused").to_string();
        assert!(error.contains(hint), "{error}");
    };
    for address in [0, z + 2, u64::MAX - 3] {
        refused(Batch::new(at(address, total), OFFSETS).cells(&host.cells), "no array of 2400 elements can lie");
    }
    refused(Batch::new(at(z, total - 1), OFFSETS).cells(&host.cells), "predictions");
    refused(Batch::new(&host.z, OFFSETS).cells(at(cells, total - 1)), "cells");
    refused(host.batch().levels(at::<f32>(z, PROBLEMS)), "give it as a host slice");
    refused(host.batch().levels(at::<f64>(there.levels.address() + 4, PROBLEMS)), "levels");
    refused(host.batch().weights(at::<f64>(z + 4, total)), "weights");
    refused(host.batch().element_bounds(at(z, total), at(z + 1, total)), "upper bounds");
    let start = Buffer::<f32>::host(&host.z[..PROBLEMS * GROUPS]);
    assert!(rig.projector.project(&host.batch().warm_start(start)).is_ok());
    let mut refused = |batch: Batch<'_, f32>, hint: &str| {
        let error = rig.projector.project(&batch).expect_err("refused").to_string();
        assert!(error.contains(hint), "{error}");
    };
    refused(host.batch().warm_start(at::<f32>(z, PROBLEMS * GROUPS)), "give it as a host slice");
    rig.projector.project_into(&host.batch(), &mut rig.solution).expect("a projection");
    for (address, len) in [(0, total), (z, total - 1)] {
        assert!(rig.projector.vjp(&host.batch(), &rig.solution, at(address, len), &mut rig.gradients).is_err());
    }
    // No other device reads them.
    let error = Rig::new(&Device::cpu()).projector.project(&there.batch()).expect_err("another device");
    assert!(error.to_string().contains("host slice"), "{error}");
}

/// A forward and a backward call, captured into a graph on a stream of one's own: launched again, it projects what is there
/// then.
fn calls_are_captured_into_a_graph(_: &Device) {
    let stream = CudaContext::new(0).and_then(|context| context.new_stream()).expect("a stream");
    let device = Device::of_cuda(stream.clone()).expect("a device");
    let (first, second) = (Host::new(1), Host::new(2));
    let mut there = There::new(&device, &first);
    let (mut rig, mut other) = (Rig::new(&device), Rig::new(&device));
    rig.call(&there.batch(), there.g());
    other.call(&second.batch(), Buffer::host(&second.g));
    let expected = other.came();
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).expect("a capture");
    rig.call(&there.batch(), there.g());
    // (Nor may what lies on the host be part of it: it would be read when the graph is launched.)
    let error = other.projector.project_into(&second.batch(), &mut other.solution).expect_err("not in a graph");
    assert!(error.to_string().contains("Buffer::cuda"), "{error}");
    let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("a graph").expect("launches in it");
    there.z.write(&second.z);
    there.g.write(&second.g);
    there.cells.write(&second.cells_as_floats());
    graph.launch().expect("a launch");
    rig.solution.forget_read();
    rig.gradients.forget_read();
    assert!(rig.came() == expected);
}

macro_rules! on {
    ($backend:ident: $($body:ident),+) => {
        mod $backend {
            $(#[test]
            fn $body() {
                super::run_on(stringify!($backend), super::$body);
            })+
        }
    };
}

on!(
    cuda_emu: arrays_of_ones_own_are_read_where_they_lie,
    arrays_of_any_kind_are_read_where_they_lie,
    a_planned_call_only_launches,
    arrays_that_cannot_be_there_are_refused
);
on!(
    cuda: arrays_of_ones_own_are_read_where_they_lie,
    arrays_of_any_kind_are_read_where_they_lie,
    arrays_that_cannot_be_there_are_refused,
    calls_are_captured_into_a_graph
);
