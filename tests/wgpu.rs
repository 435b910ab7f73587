//! What only a wgpu device has: inputs in buffers of one's own, answers that stay there, and what it does not take.
#![cfg(feature = "wgpu")]

mod common;

use common::devices::{run_on, takes};
use common::problems::{Kind, draw_case};
use common::run::{Inputs, Rig, assert_close, by_weight, largest, widened};
use fairlayer::wgpu::util::DeviceExt;
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

const PROBLEMS: usize = 30;
const SIZE: usize = 50;

struct Data {
    set: ConstraintSet,
    z: Vec<f32>,
    cells: Vec<u8>,
    weights: Vec<f32>,
    hi: Vec<f32>,
}

fn data() -> Data {
    let unit = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xFFFF) as f32 / 65_535.0;
    let all = 0..PROBLEMS * SIZE;
    let overall = DemographicParity(Parity::Overall { epsilon: 0.01 });
    Data {
        set: overall.constraints(&Population::one_feature(3)).expect("constraints"),
        z: all.clone().map(|i| 1.2 * unit(i) - 0.1 + 0.1 * (i % 3) as f32).collect(),
        cells: all.clone().map(|i| (i % 3) as u8).collect(),
        weights: all.clone().map(|i| 0.5 + unit(i + 7)).collect(),
        hi: all.map(|i| 0.8 + 0.2 * unit(i + 13)).collect(),
    }
}

fn own_device(device: &Device) -> (wgpu::Device, wgpu::Queue) {
    let Device::Wgpu(opened) = device else { panic!("a wgpu device") };
    (opened.device().clone(), opened.queue().clone())
}

/// The contents of a buffer, by a copy and a wait of the caller's own.
fn contents((device, queue): &(wgpu::Device, wgpu::Queue), buffer: &wgpu::Buffer, bytes: u64) -> Vec<f32> {
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
    queue.submit([encoder.finish()]);
    staging.slice(..).map_async(wgpu::MapMode::Read, |result| result.expect("a mapping"));
    device.poll(wgpu::PollType::wait_indefinitely()).expect("a device that answers");
    let view = staging.slice(..).get_mapped_range().expect("a mapped buffer");
    bytemuck::pod_collect_to_vec(&view)
}

#[test]
fn buffers_of_ones_own_are_read_where_they_lie() {
    run_on("wgpu", |device| {
        let own = own_device(device);
        let device = Device::of_wgpu(own.0.clone(), own.1.clone()).expect("a device with room for all bindings");
        let Data { set, z, cells, weights, hi } = data();
        let offsets = Offsets::Equal { problems: PROBLEMS, n: SIZE };
        let plan = || {
            let projector = Projector::<f32>::plan(&device, &set, Capacities::of(&offsets), Settings::default());
            projector.expect("a plan")
        };
        let lo = vec![0.0; z.len()];
        let from_host = Batch::new(&z, offsets).cells(&cells).weights(&weights).element_bounds(&lo, &hi);
        let (mut projector, g) = (plan(), z.clone());
        let solution = projector.project(&from_host).expect("the batch fits");
        let mut gradients = projector.gradients(Wanted::default());
        projector.vjp(&from_host, &solution, &g, &mut gradients).expect("the batch fits");
        let expected =
            (solution.read().expect("answers").y.to_vec(), gradients.read().expect("gradients").predictions.to_vec());
        assert!(solution.read().expect("answers").all_solved() && expected.0 != z);

        // Every array begins somewhere within its buffer.
        let bytes_of = |floats: &[f32]| [&[9.0; 3], floats].concat();
        let upload = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            own.0.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let [z_buffer, weight_buffer, lo_buffer, hi_buffer, g_buffer] =
            [&z, &weights, &lo, &hi, &g].map(|floats| upload(bytemuck::cast_slice(&bytes_of(floats))));
        let mut padded = [&[7; 5], &cells[..]].concat();
        padded.resize(padded.len().next_multiple_of(4), 0);
        let cell_buffer = upload(&padded);
        let floats = |buffer| Buffer::<f32>::wgpu(buffer, 3..3 + z.len());
        let batch = Batch::new(floats(&z_buffer), offsets)
            .cells(Buffer::wgpu(&cell_buffer, 5..5 + z.len()))
            .weights(floats(&weight_buffer))
            .element_bounds(floats(&lo_buffer), floats(&hi_buffer));
        let mut projector = plan();
        let solution = projector.project(&batch).expect("the batch fits");
        let mut gradients = projector.gradients(Wanted::default());
        projector.vjp(&batch, &solution, floats(&g_buffer), &mut gradients).expect("the batch fits");
        let bytes = 4 * z.len() as u64;
        assert_eq!(contents(&own, solution.y_buffer().expect("answers on the device"), bytes), expected.0);
        assert_eq!(contents(&own, gradients.predictions_buffer().expect("gradients there"), bytes), expected.1);
        assert_eq!(solution.read().expect("answers").y, expected.0);
        // A copy of a solution is its own.
        let copy = solution.clone();
        let mut solution = solution;
        let nan = vec![f32::NAN; z.len()];
        let poison = Batch::new(&nan, offsets).cells(&cells);
        projector.project_into(&poison, &mut solution).expect("a batch of NaN is no misuse");
        assert_eq!(copy.read().expect("answers").y, expected.0);
    });
}

/// A device that binds little and has few workgroups in a row gets a batch in parts, and gives the same answers.
#[test]
fn batches_beyond_the_limits_are_split() {
    run_on("wgpu", |device| {
        let adapters = pollster::block_on(wgpu_instance().enumerate_adapters(wgpu::Backends::PRIMARY));
        let name = own_device(device).0.adapter_info().name;
        let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).expect("the same adapter");
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: 4096,
            max_compute_workgroups_per_dimension: 7,
            ..adapter.limits()
        };
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
        let (own, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a device");
        let small = Device::of_wgpu(own, queue).expect("it has all bindings");
        let Data { set: overall, z, cells, weights, hi } = data();
        let parity = DemographicParity::within(0.01).constraints(&Population::one_feature(3)).expect("constraints");
        let mut dense = overall.clone();
        dense.push_dense(DenseRow::new("budget", f64::NEG_INFINITY, 20.0)).expect("a dense row");
        let lo = vec![0.0; z.len()];
        let mut ragged: Vec<usize> = (0..PROBLEMS).map(|problem| problem * SIZE + problem % 3).collect();
        ragged.extend([z.len(), z.len()]);
        ragged[0] = 0;
        let offsets = Offsets::Ragged(&ragged);
        let both = [&parity, &overall, &dense].map(|set| [Method::Newton, Method::Admm].map(|method| (set, method)));
        for (set, method) in both.into_iter().flatten() {
            let batch = Batch::new(&z, offsets).cells(&cells).weights(&weights).element_bounds(&lo, &hi);
            let batch = if set.dense().is_empty() { batch } else { batch.coefficients(&weights) };
            let run = |device: &Device| {
                let settings = Settings { method, ..Settings::default() };
                let mut rig = Rig::with_settings(device, set, &offsets, settings);
                let view = rig.project(&batch);
                assert!(view.all_solved(), "{:?}", view.outcomes);
                let forward = (view.y.to_vec(), view.multipliers.to_vec(), view.outcomes.to_vec());
                let view = rig.vjp(&batch, &z);
                let [to_z, to_w] = [view.predictions, view.weights].map(<[f32]>::to_vec);
                (forward, to_z, to_w, view.levels.to_vec(), view.upper.to_vec(), view.coefficients.to_vec())
            };
            assert!(run(&small) == run(device), "{} dense rows, {method:?}", set.dense().len());
        }
        // One problem is never cut.
        let large = Batch::single(&z[..1200]).cells(&cells[..1200]);
        let mut rig = Rig::<f32>::new(&small, &parity, &large.offsets());
        let error = rig.projector.project(&large).expect_err("too large an array");
        assert!(error.to_string().contains("can be bound"), "{error}");
    });
}

fn wgpu_instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

#[test]
fn arrays_beyond_their_buffer_are_refused() {
    run_on("wgpu", |device| {
        let own = own_device(device);
        let Data { set, cells, .. } = data();
        let buffer = own.0.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 40,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let mut projector =
            Projector::<f32>::plan(device, &set, Capacities::single(20), Settings::default()).expect("a plan");
        for range in [0..11, 5..15, 10..20] {
            let n = range.len();
            let batch = Batch::single(Buffer::wgpu(&buffer, range)).cells(&cells[..n]);
            let error = projector.project(&batch).expect_err("too short a buffer");
            assert!(error.to_string().contains("beyond the end"), "{error}");
        }
        let mut on_cpu =
            Projector::<f32>::plan(Device::cpu(), &set, Capacities::single(10), Settings::default()).expect("a plan");
        let batch = Batch::single(Buffer::wgpu(&buffer, 0..10)).cells(&cells[..10]);
        assert!(on_cpu.project(&batch).expect_err("elsewhere").to_string().contains("host slice"));
        let solution = on_cpu.solution();
        let host = Batch::single(&[0.5; 10]).cells(&cells[..10]);
        let mut foreign = solution;
        let error = projector.project_into(&host, &mut foreign).expect_err("a solution of the CPU");
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    });
}

#[test]
fn what_it_does_not_take_is_an_error_that_says_what_does() {
    run_on("wgpu", |device| {
        let plan = |set: &ConstraintSet, settings| {
            Projector::<f32>::plan(device, set, Capacities::single(10), settings).expect_err("too much").to_string()
        };
        let set = data().set;
        let double = Projector::<f64>::plan(device, &set, Capacities::single(10), Settings::default());
        assert!(double.expect_err("no f64").to_string().contains("f32"));
        let many = DemographicParity::within(0.1).constraints(&Population::one_feature(33)).expect("constraints");
        assert!(plan(&many, Settings::default()).contains("33 cells"));
    });
}

/// Samples whose scores, cells, weights and bounds follow from a number; and what came of projecting them.
struct Samples {
    z: Vec<f32>,
    cells: Vec<u8>,
    weights: Vec<f64>,
    labels: Vec<f64>,
    hi: Vec<f32>,
    g: Vec<f32>,
}

#[derive(Debug, PartialEq)]
struct Came {
    y: Vec<u32>,
    states: Vec<ClampState>,
    multipliers: Vec<f64>,
    outcomes: Vec<Outcome>,
    gradients: Vec<u32>,
    to_rows: Vec<f64>,
}

fn samples(range: std::ops::Range<usize>) -> Samples {
    let unit = |i: usize, salt: usize| ((i ^ (salt << 20)).wrapping_mul(2_654_435_761) >> 7 & 0xFFFF) as f32 / 65_535.0;
    let all = |value: &dyn Fn(usize) -> f32| range.clone().map(value).collect::<Vec<f32>>();
    let wide = |value: &dyn Fn(usize) -> f64| range.clone().map(value).collect::<Vec<f64>>();
    Samples {
        z: all(&|i| 1.2 * unit(i, 0) - 0.1 + 0.04 * (i % 5) as f32),
        cells: range.clone().map(|i| (i % 5) as u8).collect(),
        weights: wide(&|i| 0.1 + f64::from(unit(i, 1)) / 3.0),
        labels: wide(&|i| f64::from(u8::from(unit(i, 2) > 0.6))),
        hi: all(&|i| 0.8 + 0.2 * unit(i, 3)),
        g: all(&|i| unit(i, 4) - 0.3),
    }
}

/// Projects the samples from the first offset to the last, and pulls a gradient back.
fn project_samples<T: Storage>(device: &Device, set: &ConstraintSet, all: &Samples, offsets: &[usize]) -> Came {
    project_some::<T>(device, set, all, offsets, true)
}

/// The same, or of the scores and cells alone, between scalar bounds.
fn project_some<T: Storage>(
    device: &Device,
    set: &ConstraintSet,
    all: &Samples,
    offsets: &[usize],
    has_all: bool,
) -> Came {
    let own = offsets[0]..offsets[offsets.len() - 1];
    let stored = |values: &[f32]| values[own.clone()].iter().map(|x| T::from_f64(f64::from(*x))).collect::<Vec<T>>();
    let [z, hi, g] = [&all.z, &all.hi, &all.g].map(|values| stored(values));
    let lo = vec![T::from_f64(0.0); z.len()];
    let offsets: Vec<usize> = offsets.iter().map(|offset| offset - own.start).collect();
    let batch = Batch::new(&z, Offsets::Ragged(&offsets)).cells(&all.cells[own.clone()]);
    let batch = if has_all {
        let batch = batch.element_bounds(&lo, &hi);
        batch.weights(&all.weights[own.clone()]).labels(&all.labels[own.clone()])
    } else {
        batch.bounds(T::from_f64(0.0), T::from_f64(1.0))
    };
    let mut rig = Rig::<T>::new(device, set, &batch.offsets());
    let bits = |values: &[T]| values.iter().map(|x| (x.to_f64() as f32).to_bits()).collect::<Vec<u32>>();
    let view = rig.project(&batch);
    let states = (0..offsets.len() - 1).flat_map(|problem| {
        let n = offsets[problem + 1] - offsets[problem];
        (0..n).map(|i| view.clamp_state(problem, i)).collect::<Vec<_>>()
    });
    let (states, outcomes) = (states.collect(), view.outcomes.to_vec());
    let (y, multipliers) = (bits(view.y), view.multipliers.to_vec());
    let view = rig.vjp(&batch, &g);
    let gradients = [view.predictions, view.lo, view.hi, view.weights, view.labels].map(bits).concat();
    let to_rows = [view.levels, view.lower, view.upper].concat();
    Came { y, states, multipliers, outcomes, gradients, to_rows }
}

/// The workgroups that real GPUs get, where small problems share one and lanes gather what they add by subgroups: every bit
/// is as in those that this device gets.
#[test]
fn the_shape_of_workgroups_is_not_seen() {
    run_on("wgpu", |device| {
        let Device::Wgpu(opened) = device else { panic!("a wgpu device") };
        let as_gpu = Device::Wgpu(opened.clone().as_gpu());
        let sizes = [40, 1, 64, 0, 65, 200, 7, 256, 257, 13, 1000, 2048, 2, 63, 2100, 64, 128];
        let mut offsets = vec![0];
        sizes.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        for (groups, is_parity) in [(2_u8, true), (5, true), (17, true), (3, false)] {
            let mut all = samples(0..offsets[sizes.len()]);
            (0..).zip(&mut all.cells).for_each(|(i, cell)| *cell = ((i * 7 / 3) % usize::from(groups)) as u8);
            // One whose numbers cannot be used.
            all.z[offsets[6] - 5] = f32::NAN;
            let epsilon = 0.01;
            let parity = if is_parity { Parity::Pairwise { epsilon } } else { Parity::Overall { epsilon } };
            let set = DemographicParity(parity).constraints(&Population::one_feature(groups.into()));
            let set = set.expect("constraints");
            for has_all in [true, false] {
                let [here, there] =
                    [device, &as_gpu].map(|device| project_some::<f32>(device, &set, &all, &offsets, has_all));
                let what = format!("{parity:?} of {groups}, {has_all}");
                assert_eq!(here.outcomes, there.outcomes, "{what}");
                assert!(here.outcomes.iter().filter(|outcome| outcome.status == Status::Solved).count() >= 14);
                assert!(here == there, "{what}");
            }
        }
    });
}

/// Problems that are too large for a workgroup, among others that are not: each comes out as it does alone, bit for bit, and
/// however it is cut; and as in double precision.
#[test]
fn large_problems_are_shared_by_workgroups() {
    run_on("wgpu", |device| {
        let sizes = [33_000, 50, 0, 32_768, 130_001, 1, 40_000, 3000];
        let mut offsets = vec![0];
        sizes.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        let mut all = samples(0..offsets[sizes.len()]);
        // One whose numbers cannot be used, and does no harm to others.
        all.z[offsets[7] - 5] = f32::NAN;
        let parity = DemographicParity::within(0.01).constraints(&Population::one_feature(5)).expect("constraints");
        let residual = MeanResidual::within(0.05).constraints(&Population::one_feature(5)).expect("constraints");
        let Device::Wgpu(opened) = device else { panic!("a wgpu device") };
        for (name, set) in [("parity", &parity), ("residual", &residual)] {
            let together = project_samples::<f32>(device, set, &all, &offsets);
            let cut_finely = Device::Wgpu(opened.clone().in_tiles(32_768, 512, 256));
            assert!(together == project_samples::<f32>(&cut_finely, set, &all, &offsets), "{name}, in other tiles");
            let double = project_samples::<f64>(&Device::cpu(), set, &all, &offsets);
            for (problem, own) in offsets.windows(2).enumerate() {
                let (what, range) = (format!("{name}, problem {problem}"), own[0]..own[1]);
                let alone = project_samples::<f32>(device, set, &all, own);
                let rows = set.rows() * problem..set.rows() * (problem + 1);
                assert_eq!(alone.outcomes, together.outcomes[problem..=problem], "{what}");
                assert_eq!(alone.multipliers, together.multipliers[rows], "{what}");
                assert!(alone.y == together.y[range.clone()], "y of {what}");
                assert!(alone.states == together.states[range.clone()], "states of {what}");
                for (k, of_alone) in alone.gradients.chunks(range.len().max(1)).enumerate() {
                    let at = k * all.z.len();
                    assert!(
                        of_alone == &together.gradients[at + range.start..at + range.end],
                        "gradient {k} of {what}"
                    );
                }
                let expected = if problem == 6 { Status::BadNumber } else { Status::Solved };
                assert_eq!(together.outcomes[problem].status, expected, "{what}");
                assert_eq!(double.outcomes[problem].status, expected, "{what}");
            }
            // Gradients where the active sets are the same.
            let mut compared = 0;
            let held = |came: &Came, rows: std::ops::Range<usize>| {
                came.multipliers[rows].iter().map(|nu| nu.total_cmp(&0.0)).collect::<Vec<_>>()
            };
            for problem in [0, 3, 4, 7] {
                let (what, range) = (format!("{name}, problem {problem}"), offsets[problem]..offsets[problem + 1]);
                let floats = |of: &[u32]| of.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect::<Vec<f64>>();
                let part = |of: &[u32], k: usize| floats(&of[k * all.z.len()..][range.clone()]);
                assert_close(&format!("y of {what}"), &part(&together.y, 0), &part(&double.y, 0), 5e-6);
                let rows = set.rows() * problem..set.rows() * (problem + 1);
                if together.states[range.clone()] == double.states[range.clone()]
                    && held(&together, rows.clone()) == held(&double, rows)
                {
                    compared += 1;
                    for k in 0..5 {
                        let (a, b) = (part(&together.gradients, k), part(&double.gradients, k));
                        assert_close(&format!("gradient {k} of {what}"), &a, &b, 2e-5 * largest(&b).max(1e-3));
                    }
                }
            }
            assert!(compared >= 2, "{name}: {compared} compared");
        }
    });
}

/// A chain that ends too early for a large problem is the iteration limit: clip(z), and by how much that exceeds its rows.
#[test]
fn a_chain_too_short_is_the_iteration_limit() {
    run_on("wgpu", |device| {
        let Device::Wgpu(opened) = device else { panic!("a wgpu device") };
        let all = samples(0..4000);
        let parity = DemographicParity::within(0.01).constraints(&Population::one_feature(5)).expect("constraints");
        let offsets = [0, 1500, 1510, 4000];
        let come = |passes| {
            let device = Device::Wgpu(opened.clone().in_tiles(1000, 256, passes));
            project_samples::<f32>(&device, &parity, &all, &offsets)
        };
        let (short, long) = (come(2), come(256));
        assert!(long.outcomes.iter().all(|outcome| outcome.status == Status::Solved), "{:?}", long.outcomes);
        let needed = long.outcomes.iter().map(|outcome| outcome.passes);
        assert!(needed.clone().max() == Some(long.outcomes[0].passes.max(long.outcomes[2].passes)));
        for problem in [0, 2] {
            let outcome = &short.outcomes[problem];
            assert_eq!((outcome.status, outcome.passes), (Status::IterationLimit, 1), "{outcome:?}");
            let range = offsets[problem]..offsets[problem + 1];
            let clipped = |i: usize| all.z[i].clamp(0.0, all.hi[i]);
            assert!(range.clone().all(|i| short.y[i] == clipped(i).to_bits()));
            let mean = |cell: usize| {
                let of = || range.clone().filter(move |i| i % 5 == cell);
                let sum: f64 = of().map(|i| all.weights[i] * f64::from(clipped(i))).sum();
                sum / of().map(|i| all.weights[i]).sum::<f64>()
            };
            let means = (0..5).map(mean);
            let gap = means.clone().fold(f64::MIN, f64::max) - means.fold(f64::MAX, f64::min);
            assert!((outcome.excess - (gap - 0.01)).abs() < 1e-6, "{outcome:?}, gap {gap}");
            assert!(range.clone().all(|i| short.gradients[i] == 0));
        }
        assert_eq!(short.outcomes[1], long.outcomes[1]);
        // As long as it is long enough, its length is not seen.
        let most = needed.max().expect("problems");
        assert!(come(most + 1) == long);
    });
}

/// Rows with a coefficient for every sample, alone and beside means: the answers are those in double precision of the same
/// stored numbers, and where the active set is the same, the gradients to every input.
#[test]
fn dense_rows_agree_with_double() {
    run_on("wgpu", |device| {
        let (mut compared, mut infeasible) = ((0, 0), (0, 0));
        for (kind, seed) in [Kind::Dense, Kind::DenseBesideMeans, Kind::DenseContradictory]
            .into_iter()
            .flat_map(|kind| (0..40).map(move |seed| (kind, seed)))
        {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 100);
            let what = format!("{kind:?}, seed {seed}");
            if !takes(device, &case.set) {
                continue;
            }
            let single = Inputs::<f32>::new(&[&case.stated]);
            let double = Inputs::<f64>::new(&[&single.stated(0)]);
            let mut rigs = (
                Rig::new(device, &case.set, &single.offsets()),
                Rig::new(&Device::cpu(), &case.set, &double.offsets()),
            );
            let (a, b) = (rigs.0.project(&single.batch()), rigs.1.project(&double.batch()));
            if kind == Kind::DenseContradictory {
                // Contradictory by much is found; by little, the margin of single precision may find a way through.
                let proven = [a.outcomes[0].status, b.outcomes[0].status].map(|status| status == Status::Infeasible);
                assert!(proven[1] || !proven[0], "{what}");
                infeasible.0 += usize::from(proven[0]);
                infeasible.1 += usize::from(proven[1]);
                continue;
            }
            if b.outcomes[0].status != Status::Solved || !case.scores.ordinary() {
                continue;
            }
            assert_eq!(a.outcomes[0].status, Status::Solved, "{what}");
            compared.0 += 1;
            let states = |i| a.clamp_state(0, i) == b.clamp_state(0, i);
            let held = |nu: &[f64]| nu.iter().map(|nu| nu.total_cmp(&0.0)).collect::<Vec<_>>();
            let scale = largest(&case.stated.z).max(1.0);
            // The margin that rounding asks for is magnified by the condition of the rows, on the CPU as here.
            let known = |y: &[f64]| by_weight(y, &case.stated.weights);
            let peer = widened(Rig::new(&Device::cpu(), &case.set, &single.offsets()).project(&single.batch()).y);
            let off: Vec<f64> = known(&peer).iter().zip(known(b.y)).map(|(a, b)| a - b).collect();
            let allowed = (5e-6 * scale).max(1.5 * largest(&off));
            assert_close(&format!("y of {what}"), &known(&widened(a.y)), &known(b.y), allowed);
            if !(0..single.z.len()).all(states) || held(a.multipliers) != held(b.multipliers) {
                continue;
            }
            compared.1 += 1;
            let g: Vec<f32> = (0..single.z.len()).map(|i| (0.7 * i as f32).sin()).collect();
            let (a, b) = (rigs.0.vjp(&single.batch(), &g), rigs.1.vjp(&double.batch(), &widened(&g)));
            for (of, a, b) in [
                ("predictions", widened(a.predictions), b.predictions),
                ("lower bounds", widened(a.lo), b.lo),
                ("upper row bounds", a.upper.to_vec(), b.upper),
                ("levels", a.levels.to_vec(), b.levels),
            ] {
                assert_close(&format!("gradient to the {of} of {what}"), &a, b, 2e-5 * largest(b).max(1e-3));
            }
        }
        println!("{compared:?} compared, {infeasible:?} infeasible");
        assert!(compared.0 > 30 && compared.1 > 20 && infeasible.0 > 10, "{compared:?}, {infeasible:?}");
    });
}

/// An adapter is chosen by a part of its name; one that is not there is an error.
#[test]
fn adapters_are_found_by_name() {
    run_on("wgpu", |_| {
        let first = devices().into_iter().find(|device| device.kind == "wgpu").expect("a wgpu device");
        assert!(Device::wgpu_named(&first.name.to_uppercase()).is_ok());
        let error = Device::wgpu_named("no such adapter").expect_err("no such adapter");
        assert!(error.to_string().contains("fairlayer devices"), "{error}");
    });
}
