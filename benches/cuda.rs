//! An NVIDIA GPU: what its kernels take beside the time that a copy on the device takes for the same bytes, measured in the
//! same run; and, apart from that, calls from host memory, and the first use. `cargo bench --bench cuda`, with `-- --json FILE`
//! for programs; where there is no GPU it says so.
//!
//! Kernel times: inputs and answers stay on the device, in several sets that together do not fit into the L2 cache (but for a
//! single small problem, which always does); calls on one set after another are captured into a CUDA graph, and a time is what
//! events before and after one launch of it say, divided by its calls. Medians.

#[cfg(feature = "cuda")]
fn main() {
    figures::main();
}

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("built without the feature cuda");
}

#[cfg(feature = "cuda")]
mod figures {
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Instant;

    use fairlayer::cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, sys};
    use fairlayer::*;
    use serde_json::{Value, json};

    type Outcome<T> = std::result::Result<T, Box<dyn std::error::Error>>;

    /// Runs that are timed: as many as take so many seconds, within limits.
    const REPEATS: [usize; 2] = [5, 40];
    const SECONDS: f64 = 0.5;
    /// Calls of a graph at the least, so that launching it is hidden by what runs.
    const CALLS: usize = 64;
    /// Elements of a graph's calls at the most, but for two calls.
    const ELEMENTS: usize = 1 << 26;
    /// Bytes that the copy reads.
    const COPIED: usize = 1 << 30;
    const EPSILON: f64 = 0.05;
    /// What rows with a coefficient for every sample may be, either way.
    const WIDTH: f64 = 0.005;

    struct Gpu {
        stream: Arc<CudaStream>,
        device: Device,
        l2_bytes: usize,
        /// Bytes read and written in a second, by a copy on the device.
        bandwidth: f64,
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Seconds between events around each of some runs of `work`, which only enqueues.
    fn seconds(stream: &Arc<CudaStream>, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
        let mut once = 0.0;
        for _ in 0..2 {
            let start = Instant::now();
            work()?;
            stream.synchronize()?;
            once = start.elapsed().as_secs_f64();
        }
        let repeats = ((SECONDS / once) as usize).clamp(REPEATS[0], REPEATS[1]);
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let mut events = vec![stream.record_event(timed)?];
        for _ in 0..repeats {
            work()?;
            events.push(stream.record_event(timed)?);
        }
        stream.synchronize()?;
        let between = events.windows(2).map(|pair| Ok(f64::from(pair[0].elapsed_ms(&pair[1])?) * 1e-3));
        Ok(median(between.collect::<Outcome<Vec<f64>>>()?))
    }

    /// The same of work that is captured into a graph first.
    fn seconds_of_graph(stream: &Arc<CudaStream>, work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let captured = work();
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
        captured?;
        let graph = graph?.ok_or("nothing was captured")?;
        seconds(stream, || Ok(graph.launch()?))
    }

    impl Gpu {
        fn open() -> Outcome<Self> {
            let context = CudaContext::new(0)?;
            let stream = context.new_stream()?;
            let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
            let l2_bytes = context.attribute(attribute)?.unsigned_abs() as usize;
            let device = Device::of_cuda(stream.clone())?;
            let (from, mut to) = (stream.alloc_zeros::<u8>(COPIED)?, stream.alloc_zeros::<u8>(COPIED)?);
            let copied = seconds(&stream, || Ok(stream.memcpy_dtod(&from, &mut to)?))?;
            Ok(Self { stream, device, l2_bytes, bandwidth: 2.0 * COPIED as f64 / copied })
        }

        /// Bytes on the device.
        fn put(&self, bytes: &[u8]) -> Outcome<CudaSlice<u8>> {
            Ok(self.stream.clone_htod(bytes)?)
        }

        fn address(&self, slice: &CudaSlice<u8>) -> u64 {
            let (address, _) = slice.device_ptr(&self.stream);
            address
        }
    }

    /// Elements of an array that the bench has on the device.
    #[allow(unsafe_code, reason = "nobody else vouches for an address")]
    fn at<T>(address: u64, len: usize) -> Buffer<'static, T> {
        // SAFETY: it is of an array of so many elements, in a `Resident` that lives until all was timed and synchronized, and
        // which nothing writes to.
        unsafe { Buffer::cuda(address, len) }
    }

    /// Parity of groups; or, if there are any, rows with a coefficient for every sample.
    #[derive(Clone, Copy)]
    struct Case {
        problems: usize,
        n: usize,
        groups: usize,
        rows: usize,
    }

    /// What a call reads, on the host.
    struct Host<T> {
        z: Vec<T>,
        cells: Vec<u8>,
        coefficients: Vec<f32>,
        g: Vec<T>,
    }

    impl<T: Storage> Host<T> {
        /// Scores a little beyond their bounds, higher from group to group, and higher where coefficients are, so that no problem is
        /// fair before.
        fn new(case: Case, seed: usize) -> Self {
            let total = case.problems * case.n;
            let unit = |i: usize| ((i ^ (seed << 16)).wrapping_mul(2_654_435_761) >> 7 & 0xFFFF) as f64 / 65_535.0;
            let cell = |i: usize| (i.wrapping_mul(40_503) >> 5) % case.groups;
            let ahead = |i: usize| 0.2 * cell(i) as f64 / (case.groups - 1).max(1) as f64;
            // (Row by row of a problem, and problem by problem.)
            let of_row = |at: usize| {
                let i = at / (case.n * case.rows) * case.n + at % case.n;
                (2.0 * unit(at + total) - 1.0 + 0.3 * (unit(i) - 0.5)) / case.n as f64
            };
            Self {
                z: (0..total).map(|i| T::from_f64(unit(i) + ahead(i) - 0.15)).collect(),
                cells: (0..total).map(|i| cell(i) as u8).collect(),
                coefficients: (0..case.rows * total).map(|at| of_row(at) as f32).collect(),
                g: (0..total).map(|i| T::from_f64(unit(i + 1) - 0.4)).collect(),
            }
        }

        fn batch(&self, case: Case) -> Batch<'_, T> {
            let offsets = Offsets::Equal { problems: case.problems, n: case.n };
            let batch = Batch::new(&self.z, offsets).bounds(T::from_f64(0.0), T::from_f64(1.0));
            if case.rows > 0 { batch.coefficients(&self.coefficients) } else { batch.cells(&self.cells) }
        }
    }

    /// The same on the device, and room for answers.
    struct Resident<T: Storage> {
        z: CudaSlice<u8>,
        cells: CudaSlice<u8>,
        coefficients: CudaSlice<u8>,
        g: CudaSlice<u8>,
        solution: Solution<T>,
        gradients: Gradients<T>,
    }

    impl<T: Storage + bytemuck::Pod> Resident<T> {
        fn new(gpu: &Gpu, projector: &Projector<T>, host: &Host<T>) -> Outcome<Self> {
            Ok(Self {
                z: gpu.put(bytemuck::cast_slice(&host.z))?,
                cells: gpu.put(&host.cells)?,
                coefficients: gpu.put(bytemuck::cast_slice(&host.coefficients))?,
                g: gpu.put(bytemuck::cast_slice(&host.g))?,
                solution: projector.solution(),
                gradients: projector.gradients(Wanted::default()),
            })
        }

        fn batch(&self, gpu: &Gpu, case: Case) -> Batch<'static, T> {
            let (total, offsets) = (case.problems * case.n, Offsets::Equal { problems: case.problems, n: case.n });
            let batch = Batch::new(at(gpu.address(&self.z), total), offsets).bounds(T::from_f64(0.0), T::from_f64(1.0));
            if case.rows > 0 {
                batch.coefficients(at::<f32>(gpu.address(&self.coefficients), case.rows * total))
            } else {
                batch.cells(at(gpu.address(&self.cells), total))
            }
        }

        fn g(&self, gpu: &Gpu, case: Case) -> Buffer<'static, T> {
            at(gpu.address(&self.g), case.problems * case.n)
        }
    }

    fn parity(groups: usize) -> Result<ConstraintSet> {
        DemographicParity::within(EPSILON).constraints(&Population::one_feature(groups))
    }

    fn constraints(case: Case) -> Result<ConstraintSet> {
        if case.rows == 0 {
            return parity(case.groups);
        }
        let mut set = ConstraintSet::new(CellLayout::flat(1)?);
        for row in 0..case.rows {
            set.push_dense(DenseRow::new(row.to_string(), -WIDTH, WIDTH))?;
        }
        Ok(set)
    }

    /// Whether a device's answers are those of the CPU in double precision, for the first problems.
    fn check<T: Storage>(case: Case, host: &Host<T>, solution: &Solution<T>) -> Outcome<()> {
        let some = Case { problems: case.problems.min(8), ..case };
        let total = some.problems * some.n;
        let z: Vec<f64> = host.z[..total].iter().map(|z| z.to_f64()).collect();
        let coefficients = host.coefficients[..case.rows * total].to_vec();
        let wide = Host { z, cells: host.cells[..total].to_vec(), coefficients, g: Vec::new() };
        let batch = wide.batch(some);
        let capacities = Capacities::equal(some.problems, some.n);
        let mut projector = Projector::plan(Device::cpu(), &constraints(case)?, capacities, Settings::default())?;
        let expected = projector.project(&batch)?;
        let (expected, found) = (expected.read()?, solution.read()?);
        if !found.all_solved() {
            return Err("not all problems are solved".into());
        }
        let off = found.y.iter().zip(expected.y).map(|(a, b)| (a.to_f64() - b).abs()).fold(0.0, f64::max);
        let allowed = 5e-6 + 4.0 * T::UNIT_ROUNDOFF;
        if off <= allowed { Ok(()) } else { Err(format!("answers are off by {off:.1e}").into()) }
    }

    /// The least time of some repeats, on the host's clock.
    fn least(mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..8 {
            let start = Instant::now();
            work()?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        Ok(least)
    }

    fn measure<T: Storage + bytemuck::Pod>(gpu: &Gpu, case: Case) -> Outcome<Value> {
        let Case { problems, n, rows, .. } = case;
        let total = problems * n;
        let capacities = Capacities::equal(problems, n);
        let mut projector = Projector::<T>::plan(&gpu.device, &constraints(case)?, capacities, Settings::default())?;
        // What says where an element counts; and what both ways read and write of a set.
        let place = if rows > 0 { rows * size_of::<f32>() } else { 1 };
        let bytes = total * (4 * size_of::<T>() + place);
        let sets = (4 * gpu.l2_bytes).div_ceil(bytes).clamp(2, 16);
        let hosts: Vec<Host<T>> = (0..sets).map(|seed| Host::new(case, seed)).collect();
        let there = hosts.iter().map(|host| Resident::new(gpu, &projector, host));
        let mut there = there.collect::<Outcome<Vec<Resident<T>>>>()?;
        let inputs: Vec<_> = there.iter().map(|set| (set.batch(gpu, case), set.g(gpu, case))).collect();
        gpu.stream.synchronize()?;
        let mut passes = 0.0;
        for ((set, (batch, g)), host) in there.iter_mut().zip(&inputs).zip(&hosts) {
            projector.project_into(batch, &mut set.solution)?;
            projector.vjp(batch, &set.solution, *g, &mut set.gradients)?;
            check(case, host, &set.solution)?;
            let of_set = set.solution.read()?.outcomes.iter().map(|outcome| f64::from(outcome.passes)).sum::<f64>();
            passes += of_set / (problems * sets) as f64;
        }
        let calls = (ELEMENTS / total).clamp(sets, CALLS.max(sets));
        let forward = seconds_of_graph(&gpu.stream, || {
            for call in 0..calls {
                projector.project_into(&inputs[call % sets].0, &mut there[call % sets].solution)?;
            }
            Ok(())
        })? / calls as f64;
        let backward = seconds_of_graph(&gpu.stream, || {
            for call in 0..calls {
                let (batch, g) = &inputs[call % sets];
                let set = &mut there[call % sets];
                projector.vjp(batch, &set.solution, *g, &mut set.gradients)?;
            }
            Ok(())
        })? / calls as f64;
        let host = &hosts[0];
        let (batch, set) = (host.batch(case), &mut there[0]);
        let from_host = least(|| {
            projector.project_into(&batch, &mut set.solution)?;
            set.solution.read()?;
            Ok(())
        })?;
        let both_from_host = least(|| {
            projector.project_into(&batch, &mut set.solution)?;
            projector.vjp(&batch, &set.solution, &host.g, &mut set.gradients)?;
            set.solution.read()?;
            set.gradients.read()?;
            Ok(())
        })?;
        // Predictions and cells or coefficients are read, and values written; backward gradients, with a quarter of a byte of clamp
        // states.
        let least = (2 * size_of::<T>() + place) as f64;
        let floors = [0.0, 0.25].map(|more| (least + more) * total as f64 / gpu.bandwidth);
        let us = |seconds: f64| seconds * 1e6;
        Ok(json!({
            "kernel_forward_us": us(forward), "kernel_backward_us": us(backward),
            "floor_forward_us": us(floors[0]), "floor_backward_us": us(floors[1]),
            "share_forward": floors[0] / forward, "share_backward": floors[1] / backward,
            "passes": passes, "sets": sets, "calls": calls,
            "host_to_host_forward_us": us(from_host), "host_to_host_both_us": us(both_from_host),
        }))
    }

    /// What a process does first, in milliseconds: run in one of its own.
    fn first_use() -> Outcome<Value> {
        let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let device = Device::cuda(0)?;
        let opened = ms(start);
        let start = Instant::now();
        let mut projector =
            Projector::<f32>::plan(&device, &parity(2)?, Capacities::single(4096), Settings::default())?;
        let planned = ms(start);
        let case = Case { problems: 1, n: 4096, groups: 2, rows: 0 };
        let host = Host::new(case, 0);
        let start = Instant::now();
        projector.project(&host.batch(case))?.read()?;
        Ok(json!({ "device_ms": opened, "plan_ms": planned, "projection_ms": ms(start) }))
    }

    /// The first use with nothing compiled, and again with what the first left on disk.
    fn first_uses() -> Outcome<[Value; 2]> {
        let cache = tempfile::tempdir()?;
        let of_process = || -> Outcome<Value> {
            let mut command = Command::new(std::env::current_exe()?);
            let output = command.arg("--first-use").env("FAIRLAYER_CACHE", cache.path()).output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            Ok(serde_json::from_slice(&output.stdout)?)
        };
        Ok([of_process()?, of_process()?])
    }

    fn line(name: &str, row: &Outcome<Value>) -> String {
        let row = match row {
            Ok(row) => row,
            Err(why) => return format!("{name:28}  not measured: {why}"),
        };
        let figure = |of: &str| row[of].as_f64().unwrap_or(f64::NAN);
        format!(
            "{name:28} {:10.2} {:6.1} % {:10.2} {:6.1} %  {:6.2} {:12.1} {:12.1}",
            figure("kernel_forward_us"),
            100.0 * figure("share_forward"),
            figure("kernel_backward_us"),
            100.0 * figure("share_backward"),
            figure("passes"),
            figure("host_to_host_forward_us"),
            figure("host_to_host_both_us"),
        )
    }

    /// All figures, printed as they come.
    fn measure_all() -> Outcome<Value> {
        let gpu = Gpu::open()?;
        println!("{}", devices_of("cuda")[0].name);
        println!("copy on the device: {:.0} GB/s read and written", gpu.bandwidth * 1e-9);
        let [cold, warm] = first_uses()?;
        for (name, first) in [("cold", &cold), ("warm", &warm)] {
            println!("first use, {name}: {first}");
        }
        println!("\nkernels: us, and per cent of the speed of the copy; passes over the data; from host to host: us");
        println!(
            "{:28} {:>10} {:>8} {:>10} {:>8}  {:>6} {:>12} {:>12}",
            "problems x n, groups or rows", "forward", "", "backward", "", "passes", "host forward", "host both"
        );
        let case = |problems, n, groups| Case { problems, n, groups, rows: 0 };
        let dense = |problems, n, rows| Case { problems, n, groups: 1, rows };
        type Measure = fn(&Gpu, Case) -> Outcome<Value>;
        let (single, half): ((&str, Measure), (&str, Measure)) = (("f32", measure::<f32>), ("f16", measure::<f16>));
        let mut rows = Vec::new();
        for ((dtype, measure), case) in [
            (single, case(65_536, 256, 2)),
            (single, case(1024, 8192, 2)),
            (half, case(65_536, 256, 2)),
            (half, case(1024, 8192, 2)),
            (single, case(65_536, 256, 8)),
            (single, case(65_536, 256, 14)),
            (single, case(256, 64, 2)),
            (single, case(256, 256, 2)),
            (single, case(65_536, 64, 2)),
            (single, case(1, 512, 2)),
            (single, case(1, 1_000_000, 2)),
            (single, dense(4096, 256, 1)),
            (single, dense(4096, 256, 4)),
            (single, dense(4096, 256, 16)),
            (single, dense(128, 8192, 1)),
            (single, dense(128, 8192, 4)),
            (single, dense(128, 8192, 16)),
        ] {
            let row = measure(&gpu, case);
            let Case { problems, n, groups, rows: of_samples } = case;
            let (what, width) = match of_samples {
                0 => (format!("{groups} groups"), EPSILON),
                _ => (format!("{of_samples} rows"), WIDTH),
            };
            println!("{}", line(&format!("{problems} x {n}, {what}, {dtype}"), &row));
            let head = json!({
                "problems": problems, "n": n, "groups": groups, "rows": of_samples, "dtype": dtype, "epsilon": width,
            });
            let figures = row.unwrap_or_else(|why| json!({ "not_measured": why.to_string() }));
            rows.push(json!({ "case": head, "figures": figures }));
        }
        Ok(json!({
            "device": devices_of("cuda")[0].name,
            "copy_bytes_per_second": gpu.bandwidth,
            "first_use": { "cold": cold, "warm": warm },
            "rows": rows,
        }))
    }

    pub fn main() {
        let words: Vec<String> = std::env::args().skip(1).collect();
        if let Err(why) = &devices_of("cuda")[0].usable {
            return println!("no figures: {why}");
        }
        let ended = if words.iter().any(|word| word == "--first-use") {
            first_use().map(|figures| println!("{figures}"))
        } else {
            let file =
                words.iter().position(|word| word == "--json").and_then(|at| words.get(at + 1)).map(PathBuf::from);
            measure_all().and_then(|figures| match file {
                Some(file) => Ok(std::fs::write(file, format!("{figures:#}\n"))?),
                None => Ok(()),
            })
        };
        if let Err(why) = ended {
            eprintln!("cuda: {why}");
            std::process::exit(1);
        }
    }
}
