//! The plan for a wgpu device: what is uploaded, bound and dispatched for a call.

use std::marker::PhantomData;
use std::ops::Range;

use super::WgpuDevice;
use super::answers::{Answers, SlabAnswers, SlabSlopes, Slopes, results_stride};
use super::memory::Memory;
use super::shaders::{ANY_SIZE, CLASSES, Class, Kernel, STREAMING, Variant, class_of};
use super::tables::{limit, push_limits, push_set, two_floats};
use crate::batch::{Batch, Bound, Buffer, Capacities, CellInput, Offsets, Place, Reals, Sharing};
use crate::cells::Strata;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::{Error, Result};
use crate::params::{ABSENT, MAX_GPU_CELLS, MAX_GPU_ROWS, Params, STATE_HEAD, STATE_ROW, STRATA_BY_LABEL, TOTALS_CELL};
use crate::params::{TOTALS_HEAD, flags, sample_words, wanted};
use crate::reference::components::{Component, components};
use crate::reference::disjoint::is_disjoint;
use crate::settings::{Infeasible, Method, Settings};
use crate::solution::{Wanted, clamp_start};
use crate::storage::{Dtype, Storage};

/// Problems, and their elements, whose arrays fit what the device can bind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slab {
    pub(crate) problems: Range<usize>,
    pub(crate) elements: Range<usize>,
}

impl Slab {
    /// The same of arrays with so many numbers an element.
    fn of_rows(&self, rows: usize) -> Self {
        Self { problems: self.problems.clone(), elements: rows * self.elements.start..rows * self.elements.end }
    }
}

/// Cuts a batch into slabs of no more elements and problems than these; a problem is never cut.
fn slabs(offsets: &Offsets<'_>, most_elements: usize, most_problems: usize) -> Vec<Slab> {
    let mut slabs: Vec<Slab> = Vec::new();
    for problem in 0..offsets.problems() {
        let elements = offsets.range(problem);
        match slabs.last_mut() {
            Some(slab)
                if elements.end - slab.elements.start <= most_elements && slab.problems.len() < most_problems =>
            {
                (slab.problems.end, slab.elements.end) = (problem + 1, elements.end);
            }
            _ => slabs.push(Slab { problems: problem..problem + 1, elements }),
        }
    }
    slabs
}

/// The device memory of a slab's inputs and of what kernels hand each other.
#[derive(Debug, Default)]
struct SlabMemory {
    params: Memory,
    tables: Memory,
    z: Memory,
    groups: Memory,
    control: Memory,
    labels: Memory,
    weights: Memory,
    lower: Memory,
    upper: Memory,
    cells: Memory,
    totals: Memory,
    /// Of problems over cells, their sorted elements where they have no room in a workgroup; of those over samples, all that
    /// kernels work on.
    order: Memory,
    coefficients: Memory,
    g: Memory,
    /// Problems that a dispatch leaves for the next, by turns; how many, for every link of the chain; and their states.
    left: [Memory; 2],
    counts: Vec<Memory>,
    state: Memory,
}

/// The buffers that a call's element inputs are read from: the plan's own, or the caller's.
struct Inputs {
    params: Params,
    cells: wgpu::Buffer,
    groups: wgpu::Buffer,
    control: wgpu::Buffer,
    labels: wgpu::Buffer,
    weights: wgpu::Buffer,
    lower: wgpu::Buffer,
    upper: wgpu::Buffer,
    coefficients: wgpu::Buffer,
}

/// A dispatch: which kernel, in which variant, for which part of the lists, and where its parameters are.
struct Dispatch {
    variant: Variant,
    range: Range<usize>,
    /// Passes of its own.
    passes: u32,
    /// Its place in the chain of `cells_newton`, and whether that ends with it.
    link: Option<u32>,
    is_last: bool,
    params: u32,
}

impl Dispatch {
    fn new(variant: Variant, range: Range<usize>) -> Self {
        Self { variant, range, passes: 0, link: None, is_last: false, params: 0 }
    }

    /// Encodes it for its part of the lists, or, if there is a count, for as many workgroups as that says.
    fn encode(
        &self,
        device: &WgpuDevice,
        pass: &mut wgpu::ComputePass<'_>,
        group: &wgpu::BindGroup,
        count: Option<&wgpu::Buffer>,
    ) {
        pass.set_pipeline(&device.pipeline(self.variant));
        pass.set_bind_group(0, group, &[self.params]);
        match count {
            Some(count) => pass.dispatch_workgroups_indirect(count, 0),
            None => {
                let (count, columns) = (self.range.len() as u32, columns(device, self.range.len()));
                pass.dispatch_workgroups(columns, count.div_ceil(columns), 1);
            }
        }
    }
}

/// A plan: nothing of the data, but memory for it.
#[derive(Debug)]
pub(crate) struct WgpuPlan<T: Storage> {
    device: WgpuDevice,
    capacities: Capacities,
    /// The constraint set as words, and the parameters that it fixes.
    set_words: Vec<u32>,
    set_params: Params,
    /// Whether the short cut's closed form holds for all rows.
    is_disjoint: bool,
    chain: Chain,
    memory: Vec<SlabMemory>,
    /// Scratch for uploads.
    words: Vec<u32>,
    floats: Vec<f32>,
    bytes: Vec<u8>,
    storage: PhantomData<T>,
}

/// How `cells_newton` is cut into dispatches: it ends with the last one, whatever is left.
#[derive(Clone, Copy, Debug)]
struct Chain {
    links: u32,
    /// Passes of a link.
    passes: u32,
}

impl Chain {
    /// A GPU can do all in a few dispatches. A device that the CPU emulates may stop any invocation after 65,535 rounds of
    /// its loops (Mesa's llvmpipe does), and gets many short ones.
    fn new(device: &WgpuDevice, set: &ConstraintSet, largest: usize) -> Self {
        if !device.is_emulated() {
            return Self { links: 8, passes: 128 };
        }
        let links = if set.dense().is_empty() { 24 } else { 64 };
        Self { links, passes: (EMULATED_ROUNDS / 2 / rounds_of_a_pass(set, largest)).clamp(1, 64) as u32 }
    }
}

/// The rounds of its loops after which an emulated device may stop an invocation.
const EMULATED_ROUNDS: usize = 60_000;

/// The most rounds of a lane's loops in a pass over a problem of `n` elements and the work after it.
fn rounds_of_a_pass(set: &ConstraintSet, n: usize) -> usize {
    let rows = set.rows();
    let share = n.div_ceil(ANY_SIZE.lanes as usize);
    let over_elements = if set.dense().is_empty() {
        2 * share
    } else {
        // Shifts for the pass, the step and two rays, the rows as they are loaded, and every pair of rows.
        share * 8 * (rows + 1) + n * (rows * (rows + 1) / 2).div_ceil(ANY_SIZE.lanes as usize)
    };
    over_elements + 200 + 8 * rows * rows
}

/// What this device does not do, and what does.
fn check(set: &ConstraintSet, settings: &Settings, dtype: Dtype) -> Result<()> {
    let unsupported = |what: String, instead| Err(Error::Unsupported { device: "wgpu", what, instead });
    if set.layout().cells() > MAX_GPU_CELLS {
        return Err(Error::TooManyCells { cells: set.layout().cells(), limit: MAX_GPU_CELLS });
    }
    if set.rows() > MAX_GPU_ROWS {
        return unsupported(
            format!("{} rows", set.rows()),
            "it takes 32; use the CPU, constrain fewer features at once, or split the batch by stratum into problems",
        );
    }
    if dtype == Dtype::F64 {
        return unsupported("F64".into(), "it computes in f32; use that, f16 or bf16, or the CPU");
    }
    if settings.method == Method::Admm {
        return unsupported("ADMM".into(), "use the CPU, or Newton's method");
    }
    Ok(())
}

impl<T: Storage> WgpuPlan<T> {
    pub(crate) fn new(
        device: &WgpuDevice,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<Self> {
        check(set, &settings, T::DTYPE)?;
        if device.is_emulated() && rounds_of_a_pass(set, capacities.largest) > EMULATED_ROUNDS {
            return Err(device.failed(format!(
                "it emulates a GPU, and has no time for problems of {} predictions; use the CPU device",
                capacities.largest
            )));
        }
        let components = components(set);
        let is_disjoint =
            set.dense().is_empty() && components.iter().all(|component: &Component| is_disjoint(set, component));
        let (mut set_words, mut set_params) = (Vec::new(), Params::default());
        push_set(set, &components, &mut set_words, &mut set_params);
        let [tolerance, tolerance_rest] = two_floats(settings.tolerance);
        let unit_roundoff = T::UNIT_ROUNDOFF as f32;
        let has_ratio = set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)));
        let mut bits = 0;
        bits |= if has_ratio { flags::HAS_RATIO } else { 0 };
        bits |= if settings.infeasible == Infeasible::NearestFeasible { flags::RELAX } else { 0 };
        set_params = Params {
            tolerance,
            tolerance_rest,
            unit_roundoff,
            flags: bits,
            max_iterations: settings.max_iterations,
            totals_stride: (TOTALS_HEAD + TOTALS_CELL * set.layout().cells()) as u32,
            results_stride: results_stride(set.rows()) as u32,
            most_columns: device.limits().max_compute_workgroups_per_dimension,
            ..set_params
        };
        let mut plan = Self {
            device: device.clone(),
            capacities,
            set_words,
            set_params,
            is_disjoint,
            chain: Chain::new(device, set, capacities.largest),
            memory: Vec::new(),
            words: Vec::new(),
            floats: Vec::new(),
            bytes: Vec::new(),
            storage: PhantomData,
        };
        plan.reserve()?;
        Ok(plan)
    }

    /// Allocates what every call needs.
    fn reserve(&mut self) -> Result<()> {
        let Capacities { problems, total, .. } = self.capacities;
        if total <= self.most_elements() && problems <= self.most_problems() {
            let (device, mut memory) = (&self.device, SlabMemory::default());
            memory.z.hold(device, size_of::<T>() * total)?;
            memory.cells.hold(device, total + 4 * problems)?;
            memory.totals.hold(device, 4 * self.set_params.totals_stride as usize * problems)?;
            self.memory.push(memory);
        }
        self.device.check()
    }

    /// Words of the largest array that can be bound.
    fn most_words(&self) -> usize {
        let limits = self.device.limits();
        (limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 4) as usize
    }

    /// The elements whose widest array can be bound: two floats, or all of a sample's rows.
    fn most_elements(&self) -> usize {
        let dense = self.set_params.dense as usize;
        self.most_words() / if dense > 0 { sample_words(dense) } else { 2 }
    }

    /// The problems whose records can be bound.
    fn most_problems(&self) -> usize {
        let state = (STATE_HEAD + STATE_ROW * self.set_params.rows as usize) as u32;
        let widest = self.set_params.totals_stride.max(self.set_params.results_stride).max(state) as usize;
        self.most_words() / widest
    }

    pub(crate) fn answers(&self) -> Answers<T> {
        Answers::new(&self.device, self.capacities)
    }

    pub(crate) fn slopes(&self, wanted: Wanted) -> Slopes<T> {
        let dense = if wanted.coefficients { self.set_params.dense as usize } else { 0 };
        Slopes::new(&self.device, wanted, (dense, self.capacities))
    }

    /// Projects every problem: uploads, dispatches, and does not wait.
    pub(crate) fn project(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &mut Answers<T>,
    ) -> Result<()> {
        if answers.device != self.device {
            return Err(crate::solution::foreign_solution());
        }
        self.device.check()?;
        let slabs = slabs(&batch.offsets(), self.most_elements(), self.most_problems());
        self.memory.resize_with(self.memory.len().max(slabs.len()), SlabMemory::default);
        answers.begin(&slabs);
        let mut encoder = self.device.device().create_command_encoder(&Default::default());
        for (index, slab) in slabs.iter().enumerate() {
            self.encode_forward(set, batch, slab, index, &mut answers.slabs[index], &mut encoder)?;
        }
        self.device.queue().submit([encoder.finish()]);
        self.device.check()
    }

    fn encode_forward(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        slab: &Slab,
        index: usize,
        answers: &mut SlabAnswers,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        let device = self.device.clone();
        let (n, problems) = (slab.elements.len(), slab.problems.len());
        let mut inputs = self.upload_inputs(set, batch, slab, index)?;
        let z = place_elements(&device, &mut self.memory[index].z, &batch.predictions, slab, &mut inputs.params.z_at)?;
        let mut params = inputs.params;
        answers.y.hold(&device, size_of::<T>() * n)?;
        answers.clamp.hold(&device, 4 * clamp_start(problems, n))?;
        answers.results.hold(&device, 4 * params.results_stride as usize * problems)?;
        let classes = self.push_problems(batch, slab, index, &mut params)?;
        let variant = variants(batch, &params);
        let mut dispatches = vec![Dispatch::new(variant(Kernel::CellsPrepare, STREAMING), 0..problems)];
        if self.is_disjoint {
            for (class, range) in classes {
                // (Without a pass, the short cut leaves what is too large for it.)
                let passes = u32::from(class < CLASSES.len());
                let variant = variant(Kernel::CellsDisjoint, *CLASSES.get(class).unwrap_or(&CLASSES[0]));
                dispatches.push(Dispatch { passes, ..Dispatch::new(variant, range) });
            }
        }
        if !set.dense().is_empty() {
            self.memory[index].order.hold(&device, 4 * sample_words(set.dense().len()) * n)?;
        }
        // Where the short cut goes first, all of the chain takes what is left.
        let Chain { links, passes } = self.chain;
        let first = u32::from(self.is_disjoint);
        let general = if set.dense().is_empty() { Kernel::CellsNewton } else { Kernel::DenseNewton };
        let newton = Variant { weighted: true, bounded: true, ..variant(general, ANY_SIZE) };
        let newton = Variant { labelled: false, valued: false, ..newton };
        for link in first..first + links {
            let is_last = link + 1 == first + links;
            dispatches.push(Dispatch { link: Some(link), is_last, passes, ..Dispatch::new(newton, 0..problems) });
        }
        self.upload_params(&params, &mut dispatches, index)?;
        let prepare = self.bind_prepare(&inputs, index)?;
        let memory = &mut self.memory[index];
        memory.counts.resize_with(links as usize + 2, Memory::default);
        let counts = memory.counts.iter_mut().map(|count| count.hold_count(&device).cloned());
        let counts = counts.collect::<Result<Vec<_>>>()?;
        counts.iter().for_each(|count| encoder.clear_buffer(count, 0, None));
        let [even, odd] = &mut memory.left;
        let left = [even.hold(&device, 4 * problems)?.clone(), odd.hold(&device, 4 * problems)?.clone()];
        let state = memory.state.hold(&device, 4 * problems * (STATE_HEAD + STATE_ROW * set.rows()))?.clone();
        let elements = [
            memory.tables.handle(&device)?,
            z,
            inputs.cells,
            inputs.weights,
            inputs.lower,
            inputs.upper,
            memory.totals.handle(&device)?,
            memory.order.handle(&device)?,
            answers.y.handle(&device)?,
            answers.clamp.handle(&device)?,
            answers.results.handle(&device)?,
        ];
        let uniform = memory.params.handle(&device)?;
        let bind = |kernel: Kernel, more: &[&wgpu::Buffer]| {
            let all: Vec<wgpu::Buffer> = elements.iter().chain(more.iter().copied()).cloned().collect();
            kernel.bind(&device, &uniform, &all)
        };
        let short_cut = bind(Kernel::CellsDisjoint, &[&left[1], &counts[1]]);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for dispatch in &dispatches {
            match dispatch.link {
                None if dispatch.variant.kernel == Kernel::CellsPrepare => {
                    dispatch.encode(&device, &mut pass, &prepare, None);
                }
                None => dispatch.encode(&device, &mut pass, &short_cut, None),
                Some(link) => {
                    let (this, next) = (link as usize, link as usize + 1);
                    let mut more = vec![&left[next % 2], &counts[next], &left[this % 2], &counts[this], &state];
                    more.extend((general == Kernel::DenseNewton).then_some(&inputs.coefficients));
                    let group = bind(general, &more);
                    dispatch.encode(&device, &mut pass, &group, (link > 0).then_some(&counts[this]));
                }
            }
        }
        Ok(())
    }

    /// The gradients of every problem: uploads, dispatches, and does not wait.
    pub(crate) fn vjp(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &Answers<T>,
        g: &Buffer<'_, T>,
        slopes: &mut Slopes<T>,
    ) -> Result<()> {
        if answers.device != self.device || slopes.device != self.device {
            return Err(crate::solution::foreign_solution());
        }
        self.device.check()?;
        let slabs: Vec<Slab> = answers.slabs.iter().map(|answers| answers.slab.clone()).collect();
        self.memory.resize_with(self.memory.len().max(slabs.len()), SlabMemory::default);
        slopes.begin(&slabs);
        let mut encoder = self.device.device().create_command_encoder(&Default::default());
        let wants = slopes.wanted;
        for (index, (answers, slopes)) in answers.slabs.iter().zip(&mut slopes.slabs).enumerate() {
            self.encode_backward(set, batch, (answers, g, wants), index, slopes, &mut encoder)?;
        }
        self.device.queue().submit([encoder.finish()]);
        self.device.check()
    }

    fn encode_backward(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        (answers, g, wants): (&SlabAnswers, &Buffer<'_, T>, Wanted),
        index: usize,
        slopes: &mut SlabSlopes,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        let (device, slab) = (self.device.clone(), &answers.slab);
        let (n, problems) = (slab.elements.len(), slab.problems.len());
        let mut inputs = self.upload_inputs(set, batch, slab, index)?;
        let g = place_elements(&device, &mut self.memory[index].g, g, slab, &mut inputs.params.g_at)?;
        let mut params = inputs.params;
        let Wanted { bounds, weights, labels, coefficients } = wants;
        let parts = [
            (bounds, wanted::BOUNDS),
            (weights, wanted::WEIGHTS),
            (labels, wanted::LABELS),
            (coefficients, wanted::COEFFICIENTS),
        ];
        params.wanted = parts.iter().filter(|(want, _)| *want).map(|(_, bit)| bit).sum();
        for (memory, want) in slopes.elements.iter_mut().zip([true, bounds, bounds, weights, labels]) {
            memory.hold(&device, if want { size_of::<T>() * n } else { 0 })?;
        }
        slopes.rows.hold(&device, 8 * (set.spreads().len() + 2 * set.bounded_rows()) * problems)?;
        let dense = set.dense().len();
        slopes.coefficients.hold(&device, if coefficients { size_of::<T>() * dense * n } else { 0 })?;
        self.push_problems(batch, slab, index, &mut params)?;
        let variant = variants(batch, &params);
        let kernel = match (dense, self.is_disjoint) {
            (0, true) => Kernel::VjpDisjoint,
            (0, false) => Kernel::VjpRows,
            _ => {
                self.memory[index].order.hold(&device, 4 * sample_words(dense) * n)?;
                Kernel::DenseVjp
            }
        };
        let dispatch = |kernel| Dispatch::new(variant(kernel, STREAMING), 0..problems);
        let mut dispatches = [Kernel::CellsPrepare, kernel].map(dispatch);
        self.upload_params(&params, &mut dispatches, index)?;
        let prepare = self.bind_prepare(&inputs, index)?;
        let memory = &mut self.memory[index];
        let read = |memory: &Memory| memory.clone().handle(&device);
        let mut backward = vec![
            memory.tables.handle(&device)?,
            g,
            inputs.cells,
            inputs.weights,
            inputs.labels,
            read(&answers.y)?,
            read(&answers.clamp)?,
            read(&answers.results)?,
            memory.totals.handle(&device)?,
        ];
        for memory in slopes.elements.iter_mut().chain([&mut slopes.rows]) {
            backward.push(memory.handle(&device)?);
        }
        if dense > 0 {
            backward.extend([inputs.coefficients, memory.order.handle(&device)?, slopes.coefficients.handle(&device)?]);
        }
        let backward = kernel.bind(&device, &memory.params.handle(&device)?, &backward);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (dispatch, group) in dispatches.iter().zip([&prepare, &backward]) {
            dispatch.encode(&device, &mut pass, group, None);
        }
        Ok(())
    }

    fn bind_prepare(&mut self, inputs: &Inputs, index: usize) -> Result<wgpu::BindGroup> {
        let Self { device, memory, .. } = self;
        let memory = &mut memory[index];
        let buffers = [
            memory.tables.handle(device)?,
            inputs.groups.clone(),
            inputs.control.clone(),
            inputs.labels.clone(),
            inputs.weights.clone(),
            inputs.lower.clone(),
            inputs.upper.clone(),
            inputs.cells.clone(),
            memory.totals.handle(device)?,
        ];
        Ok(Kernel::CellsPrepare.bind(device, &memory.params.handle(device)?, &buffers))
    }

    /// Uploads what forward and backward passes both read, and begins the tables.
    fn upload_inputs(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        slab: &Slab,
        index: usize,
    ) -> Result<Inputs> {
        let Self { device, set_words, set_params, memory, words, floats, bytes, .. } = self;
        let memory = &mut memory[index];
        let mut params = *set_params;
        words.clear();
        words.extend_from_slice(set_words);
        let computed = slab.elements.len() + 4 * slab.problems.len();
        memory.totals.hold(device, 4 * params.totals_stride as usize * slab.problems.len())?;
        let ids = match batch.cells {
            Some(CellInput::Ids(ids)) => Some(ids),
            Some(CellInput::Groups(&[only])) if set.layout().strata() == Strata::None => Some(only),
            _ => None,
        };
        let cells = match (ids, batch.cells) {
            (Some(ids), _) => {
                params.flags |= flags::GIVEN_CELLS | if_shared(ids.sharing(), flags::SHARED_CELLS);
                place_elements(device, &mut memory.cells, &ids, slab, &mut params.cells_at)?
            }
            (None, Some(CellInput::Groups(groups))) => {
                params.features = groups.len() as u32;
                params.features_at = words.len() as u32;
                bytes.clear();
                for (count, ids) in set.layout().group_counts().iter().zip(groups) {
                    let is_shared = u32::from(ids.sharing() == Sharing::Shared);
                    words.extend([*count as u32, bytes.len() as u32, is_shared]);
                    bytes.extend_from_slice(of_slab(ids, slab));
                }
                memory.groups.upload(device, bytes)?;
                params.strata = match set.layout().strata() {
                    Strata::None => 0,
                    Strata::Label => STRATA_BY_LABEL,
                    Strata::Control { levels } => levels as u32,
                };
                memory.cells.hold(device, computed)?.clone()
            }
            _ => memory.cells.hold(device, computed)?.clone(),
        };
        let control = match &batch.control {
            Some(control) => {
                params.flags |= if_shared(control.sharing(), flags::SHARED_CONTROL);
                place_elements(device, &mut memory.control, control, slab, &mut params.control_at)?
            }
            None => memory.control.handle(device)?,
        };
        (params.weights_low_at, params.labels_low_at) = (ABSENT, ABSENT);
        let weights = match &batch.weights {
            Some(weights) => {
                params.flags |= flags::HAS_WEIGHTS | if_shared(weights.sharing(), flags::SHARED_WEIGHTS);
                let places = (&mut params.weights_at, &mut params.weights_low_at);
                place_reals(device, &mut memory.weights, weights, slab, (floats, two_floats), places)?
            }
            None => memory.weights.handle(device)?,
        };
        let labels = match &batch.labels {
            Some(labels) => {
                params.flags |= if_shared(labels.sharing(), flags::SHARED_LABELS);
                let places = (&mut params.labels_at, &mut params.labels_low_at);
                place_reals(device, &mut memory.labels, labels, slab, (floats, two_floats), places)?
            }
            None => memory.labels.handle(device)?,
        };
        let mut place_bound =
            |bound: &Bound<'_, T>, memory: &mut Memory, (scalar, at): (&mut u32, &mut u32), bits| match bound {
                Bound::Scalar(value) => {
                    *scalar = (value.to_f64() as f32).to_bits();
                    memory.handle(device)
                }
                Bound::PerElement(buffer) => {
                    let (by_element, shared) = bits;
                    params.flags |= by_element | if_shared(buffer.sharing(), shared);
                    place_elements(device, memory, buffer, slab, at)
                }
            };
        let places = (&mut params.lo, &mut params.lo_at);
        let lower = place_bound(&batch.lo, &mut memory.lower, places, (flags::ELEMENT_LO, flags::SHARED_LO))?;
        let places = (&mut params.hi, &mut params.hi_at);
        let upper = place_bound(&batch.hi, &mut memory.upper, places, (flags::ELEMENT_HI, flags::SHARED_HI))?;
        push_limits(set, batch, &slab.problems, words, &mut params);
        let groups = memory.groups.handle(device)?;
        params.coefficients_low_at = ABSENT;
        let coefficients = match &batch.coefficients {
            Some(coefficients) => {
                params.flags |= if_shared(coefficients.sharing(), flags::SHARED_COEFFICIENTS);
                let places = (&mut params.coefficients_at, &mut params.coefficients_low_at);
                let of_rows = slab.of_rows(set.dense().len());
                place_reals(device, &mut memory.coefficients, coefficients, &of_rows, (floats, limit), places)?
            }
            None => memory.coefficients.handle(device)?,
        };
        Ok(Inputs { params, cells, groups, control, labels, weights, lower, upper, coefficients })
    }

    /// Ends the tables with the problems, and lists of them by class, and uploads them. The index of each class that is not
    /// empty, with its part of the lists.
    fn push_problems(
        &mut self,
        batch: &Batch<'_, T>,
        slab: &Slab,
        index: usize,
        params: &mut Params,
    ) -> Result<Vec<(usize, Range<usize>)>> {
        let Self { device, memory, words, .. } = self;
        let offsets = batch.offsets();
        params.problems_at = words.len() as u32;
        let mut ordered = 0;
        for problem in slab.problems.clone() {
            let range = offsets.range(problem);
            words.extend([(range.start - slab.elements.start) as u32, range.len() as u32, ordered]);
            if range.len() > ANY_SIZE.room as usize {
                ordered += range.len().next_multiple_of(ANY_SIZE.lanes as usize) as u32;
            }
        }
        params.list_at = words.len() as u32;
        let (mut classes, mut listed) = (Vec::new(), 0);
        for class in 0..=CLASSES.len() {
            let first = listed;
            for problem in slab.problems.clone().filter(|&problem| class_of(offsets.range(problem).len()) == class) {
                words.push((problem - slab.problems.start) as u32);
                listed += 1;
            }
            if listed > first {
                classes.push((class, first..listed));
            }
        }
        let memory = &mut memory[index];
        memory.order.hold(device, 4 * ordered as usize)?;
        memory.tables.upload(device, bytemuck::cast_slice(words))?;
        Ok(classes)
    }

    /// Uploads the parameters of every dispatch.
    fn upload_params(&mut self, params: &Params, dispatches: &mut [Dispatch], index: usize) -> Result<()> {
        let Self { device, memory, bytes, .. } = self;
        let alignment = device.limits().min_uniform_buffer_offset_alignment as usize;
        bytes.clear();
        for dispatch in dispatches {
            let own = Params {
                count: dispatch.range.len() as u32,
                columns: columns(device, dispatch.range.len()),
                list_at: params.list_at + dispatch.range.start as u32,
                link: dispatch.link.unwrap_or(0),
                last_link: u32::from(dispatch.is_last),
                passes: dispatch.passes,
                ..*params
            };
            dispatch.params = bytes.len() as u32;
            bytes.extend_from_slice(bytemuck::bytes_of(&own));
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        }
        memory[index].params.upload_uniform(device, bytes)?;
        Ok(())
    }
}

/// The variants of a batch's kernels.
fn variants<T: Storage>(batch: &Batch<'_, T>, params: &Params) -> impl Fn(Kernel, Class) -> Variant {
    let bounded = params.flags & (flags::ELEMENT_LO | flags::ELEMENT_HI) != 0;
    let (weighted, labelled) = (batch.weights.is_some(), batch.labels.is_some());
    let valued = params.wanted & (wanted::WEIGHTS | wanted::LABELS) != 0 || params.flags & flags::HAS_RATIO != 0;
    move |kernel, class| Variant { kernel, class, dtype: T::DTYPE, weighted, labelled, bounded, valued }
}

fn if_shared(sharing: Sharing, flag: u32) -> u32 {
    if sharing == Sharing::Shared { flag } else { 0 }
}

/// The part of an array of elements that a slab reads.
fn of_slab<'a, E>(buffer: &Buffer<'a, E>, slab: &Slab) -> &'a [E] {
    match buffer.sharing() {
        Sharing::PerProblem => &buffer.slice()[slab.elements.clone()],
        Sharing::Shared => buffer.slice(),
    }
}

/// An array where kernels can read it: a caller's buffer as it is, or the slab's part of a host slice uploaded. `at` is
/// where its first element is.
fn place_elements<E: bytemuck::Pod>(
    device: &WgpuDevice,
    memory: &mut Memory,
    buffer: &Buffer<'_, E>,
    slab: &Slab,
    at: &mut u32,
) -> Result<wgpu::Buffer> {
    match buffer.place() {
        Place::Host(_) => {
            *at = 0;
            memory.upload(device, bytemuck::cast_slice(of_slab(buffer, slab))).cloned()
        }
        Place::Wgpu { buffer: own, first, .. } => {
            let limit = device.limits().max_storage_buffer_binding_size;
            if own.size() > limit {
                return Err(Error::value(
                    "a wgpu buffer",
                    format!("it has {} bytes, and {limit} can be bound", own.size()),
                ));
            }
            let skipped = if buffer.sharing() == Sharing::Shared { 0 } else { slab.elements.start };
            *at = (first + skipped) as u32;
            Ok(own.clone())
        }
    }
}

/// How a number is split in two.
type Split = fn(f64) -> [f32; 2];

/// The same for numbers of either precision; those of double precision become two floats by `split`, all first ones and
/// then all second ones, whose place is `low_at`.
fn place_reals(
    device: &WgpuDevice,
    memory: &mut Memory,
    reals: &Reals<'_>,
    slab: &Slab,
    (floats, split): (&mut Vec<f32>, Split),
    (at, low_at): (&mut u32, &mut u32),
) -> Result<wgpu::Buffer> {
    match reals {
        Reals::F32(buffer) => {
            *low_at = ABSENT;
            place_elements(device, memory, buffer, slab, at)
        }
        Reals::F64(buffer) => {
            let values = of_slab(buffer, slab);
            floats.clear();
            floats.extend(values.iter().map(|value| split(*value)[0]));
            floats.extend(values.iter().map(|value| split(*value)[1]));
            (*at, *low_at) = (0, values.len() as u32);
            memory.upload(device, bytemuck::cast_slice(floats)).cloned()
        }
    }
}

/// Workgroups in a row: as many as there can be.
fn columns(device: &WgpuDevice, count: usize) -> u32 {
    (count as u32).clamp(1, device.limits().max_compute_workgroups_per_dimension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_hold_whole_problems() {
        let offsets = [0, 3, 3, 10, 11, 14, 15];
        let cut = |elements, problems| {
            let slabs = slabs(&Offsets::Ragged(&offsets), elements, problems);
            assert!(slabs.iter().all(|slab| slab.problems.len() <= problems));
            slabs.into_iter().map(|slab| (slab.problems, slab.elements)).collect::<Vec<_>>()
        };
        assert_eq!(cut(15, 6), [(0..6, 0..15)]);
        assert_eq!(cut(8, 6), [(0..2, 0..3), (2..4, 3..11), (4..6, 11..15)]);
        assert_eq!(cut(15, 4), [(0..4, 0..11), (4..6, 11..15)]);
        assert!(slabs(&Offsets::Ragged(&[0]), 8, 8).is_empty());
    }
}
