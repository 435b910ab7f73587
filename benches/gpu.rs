//! A wgpu device end to end: the first use, and projections with their results on the host, beside launches of a plain
//! workgroup reduction over the same data. Each figure is the least of some repeats. `cargo bench --bench gpu`; the adapter
//! is the one that `Device::wgpu` takes.

#[cfg(feature = "wgpu")]
fn main() {
    figures::print();
}

#[cfg(not(feature = "wgpu"))]
fn main() {
    println!("built without the feature wgpu");
}

#[cfg(feature = "wgpu")]
mod figures {
    use std::time::{Duration, Instant};

    use fairlayer::wgpu::util::DeviceExt;
    use fairlayer::*;

    const REDUCTION: &str = "
        @group(0) @binding(0) var<storage, read> values: array<f32>;
        @group(0) @binding(1) var<storage, read_write> sums: array<f32>;
        var<workgroup> part: array<f32, 64>;
        @compute @workgroup_size(64)
        fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
            let n = arrayLength(&values) / arrayLength(&sums);
            var sum = 0.0;
            for (var i = lane; i < n; i += 64u) {
                sum += values[group.x * n + i];
            }
            part[lane] = sum;
            for (var half = 32u; half > 0u; half /= 2u) {
                workgroupBarrier();
                if lane < half {
                    part[lane] += part[lane + half];
                }
            }
            if lane == 0u {
                sums[group.x] = part[0];
            }
        }";

    /// The least time of some repeats, fewer of what takes long.
    fn least(elements: usize, mut work: impl FnMut()) -> Duration {
        let repeats = (0..(4_000_000 / elements).clamp(3, 20)).map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        });
        repeats.min().unwrap_or_default()
    }

    fn scores(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 7 & 0xFFFF) as f32 / 65_535.0).collect()
    }

    /// Ten launches over so many problems, and the sums on the host.
    fn reductions(device: &wgpu::Device, queue: &wgpu::Queue, z: &[f32], problems: usize) -> Duration {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(REDUCTION.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let usage = wgpu::BufferUsages::STORAGE;
        let contents = bytemuck::cast_slice(z);
        let values = device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage });
        let size = 4 * problems as u64;
        let sums = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let sums = device.create_buffer(&sums);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: values.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: sums.as_entire_binding() },
            ],
        });
        least(z.len(), || {
            for _ in 0..10 {
                let mut encoder = device.create_command_encoder(&Default::default());
                {
                    let mut pass = encoder.begin_compute_pass(&Default::default());
                    pass.set_pipeline(&pipeline);
                    pass.set_bind_group(0, &group, &[]);
                    pass.dispatch_workgroups(problems as u32, 1, 1);
                }
                queue.submit([encoder.finish()]);
            }
            device.poll(wgpu::PollType::wait_indefinitely()).expect("a device that answers");
        })
    }

    /// Forward, and both ways, each with the results on the host. One group's scores are higher by `lift`.
    fn projections(
        device: &Device,
        set: &ConstraintSet,
        (problems, n): (usize, usize),
        lift: f32,
    ) -> (Duration, Duration) {
        let (mut z, cells) = (scores(problems * n), (0..problems * n).map(|i| (i % 2) as u8).collect::<Vec<_>>());
        z.iter_mut().zip(&cells).for_each(|(z, cell)| *z += lift * f32::from(*cell));
        let offsets = Offsets::Equal { problems, n };
        let batch = Batch::new(&z, offsets).cells(&cells).bounds(0.0, 1.0);
        let plan = Projector::<f32>::plan(device, set, Capacities::of(&offsets), Settings::default());
        let mut projector = plan.expect("a plan");
        let (mut solution, mut gradients) = (projector.solution(), projector.gradients(Wanted::default()));
        let mut forward = |solution: &mut Solution<f32>| {
            projector.project_into(&batch, solution).expect("the batch fits");
            assert!(solution.read().expect("answers").all_solved());
        };
        forward(&mut solution);
        let alone = least(z.len(), || forward(&mut solution));
        let both = least(z.len(), || {
            projector.project_into(&batch, &mut solution).expect("the batch fits");
            projector.vjp(&batch, &solution, &z, &mut gradients).expect("the batch fits");
            gradients.read().expect("gradients");
        });
        (alone, both)
    }

    pub fn print() {
        let parity = DemographicParity::within(0.05).constraints(&Population::one_feature(2)).expect("constraints");
        let overall = DemographicParity(Parity::Overall { epsilon: 0.05 });
        let overall = overall.constraints(&Population::one_feature(2)).expect("constraints");
        let start = Instant::now();
        let device = match Device::wgpu() {
            Ok(device) => device,
            Err(error) => return println!("{error}"),
        };
        println!("{}", devices_of("wgpu")[0].name);
        println!("first use: instance and device {:.1?}", start.elapsed());
        for (name, set) in [("parity", &parity), ("overall", &overall)] {
            let start = Instant::now();
            let batch = Batch::single(&[0.9_f32, 0.8, 0.2, 0.1]).cells(&[0, 0, 1, 1]);
            let plan = Projector::<f32>::plan(&device, set, Capacities::single(4), Settings::default());
            let solution = plan.expect("a plan").project(&batch).expect("the batch fits");
            assert!(solution.read().expect("answers").all_solved());
            println!("first use: pipelines and first projection, {name} {:.1?}", start.elapsed());
        }
        for (problems, n) in [(1, 512), (100, 256), (1000, 256), (10_000, 256), (10, 25_600)] {
            for (name, set) in [("parity", &parity), ("overall", &overall)] {
                let (forward, both) = projections(&device, set, (problems, n), 0.0);
                println!("{problems} x {n}, {name}: forward {forward:.2?}, with backward {both:.2?}");
            }
        }
        // One problem, shared by workgroups where it is too large for one, and not fair before.
        for n in [10_000, 100_000, 1_000_000, 10_000_000] {
            let (forward, both) = projections(&device, &overall, (1, n), 0.2);
            println!("1 x {n}, overall: forward {forward:.2?}, with backward {both:.2?}");
        }
        let Device::Wgpu(opened) = &device else { return };
        let sums = reductions(opened.device(), opened.queue(), &scores(256_000), 1000);
        println!("1000 x 256: ten launches of a workgroup reduction {sums:.2?}");
    }
}
