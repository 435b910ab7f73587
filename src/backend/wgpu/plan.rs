//! The plan for a wgpu device: what is uploaded, bound and dispatched for a call.

use std::marker::PhantomData;
use std::ops::Range;

use super::WgpuDevice;
use super::admm;
use super::answers::{Answers, SlabAnswers, SlabSlopes, Slopes, results_stride};
use super::dispatch::{Chain, Dispatch, EMULATED_ROUNDS, Links, rounds_of_a_pass};
use super::inputs::{Inputs, Lists, SlabMemory, place_elements};
use super::large::{LargeChain, LargeDispatch, MOST_ELEMENTS, Tiling};
use super::memory::Memory;
use super::shaders::{Kernel, Variant};
use super::sizes::{Class, Sizes};
use super::slabs::{Slab, slabs};
use super::tables::{push_set, two_floats};
use crate::batch::{Batch, Buffer, Capacities};
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::{Error, Result};
use crate::params::{ABSENT, MAX_GPU_CELLS, MAX_GPU_ROWS, Params, STATE_HEAD, STATE_ROW, TOTALS_CELL, TOTALS_HEAD};
use crate::params::{flags, sample_words, wanted};
use crate::reference::components::{Component, components};
use crate::reference::disjoint::is_disjoint;
use crate::settings::{Infeasible, Method, Settings};
use crate::solution::{Wanted, clamp_start};
use crate::storage::{Dtype, Storage};

/// A plan: nothing of the data, but memory for it.
#[derive(Debug)]
pub(crate) struct WgpuPlan<T: Storage> {
    pub(super) device: WgpuDevice,
    pub(super) capacities: Capacities,
    /// The constraint set as words, and the parameters that it fixes.
    pub(super) set_words: Vec<u32>,
    pub(super) set_params: Params,
    /// Whether the short cut's closed form holds for all rows.
    pub(super) is_disjoint: bool,
    pub(super) method: Method,
    pub(super) sizes: Sizes,
    pub(super) chain: Chain,
    /// How large problems are cut; none are that have rows over samples, or go to ADMM.
    pub(super) tiling: Option<Tiling>,
    pub(super) memory: Vec<SlabMemory>,
    /// Scratch for uploads.
    pub(super) words: Vec<u32>,
    pub(super) floats: Vec<f32>,
    pub(super) bytes: Vec<u8>,
    pub(super) storage: PhantomData<T>,
}

/// What this device does not do, and what does.
fn check(set: &ConstraintSet, dtype: Dtype) -> Result<()> {
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
    Ok(())
}

impl<T: Storage> WgpuPlan<T> {
    pub(crate) fn new(
        device: &WgpuDevice,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<Self> {
        check(set, T::DTYPE)?;
        let is_admm = settings.method == Method::Admm;
        let tiling = Some(device.tiling()).filter(|_| set.dense().is_empty() && !is_admm);
        if tiling.is_some() && capacities.largest > MOST_ELEMENTS {
            return Err(Error::Unsupported {
                device: "wgpu",
                what: format!("a problem of {} predictions", capacities.largest),
                instead: "it takes 16777216; use the CPU, or split the problem by stratum",
            });
        }
        // (Of more than this a workgroup does not all alone.)
        let largest = tiling.map_or(capacities.largest, |tiling| capacities.largest.min(tiling.above));
        let of_admm = if is_admm { admm::rounds_at_once(set, largest) } else { 0 };
        if device.is_emulated() && rounds_of_a_pass(set, largest).max(of_admm) > EMULATED_ROUNDS {
            let what = if is_admm { "ADMM" } else { "dense rows" };
            return Err(device.failed(format!(
                "it emulates a GPU, and has no time for {what} over {} predictions; use the CPU device",
                capacities.largest
            )));
        }
        let components = components(set);
        let is_disjoint =
            set.dense().is_empty() && components.iter().all(|component: &Component| is_disjoint(set, component));
        let (mut set_words, mut set_params) = (Vec::new(), Params::default());
        push_set(set, &components, &mut set_words, &mut set_params);
        set_params.admm_at = ABSENT;
        if is_admm {
            admm::push_settings(device, &settings.admm, &mut set_words, &mut set_params);
        }
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
            search_passes: 24,
            most_columns: device.limits().max_compute_workgroups_per_dimension,
            ..set_params
        };
        let mut plan = Self {
            device: device.clone(),
            capacities,
            set_words,
            set_params,
            is_disjoint,
            method: settings.method,
            sizes: Sizes::new(device.has_gpu_sizes(), set, largest),
            chain: Chain::new(device, set),
            tiling,
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
        self.most_words() / self.sample_words().max(2)
    }

    /// Words of a sample in what kernels over samples work on; 0 if there are none of those.
    fn sample_words(&self) -> usize {
        let (dense, is_admm) = (self.set_params.dense as usize, self.method == Method::Admm);
        if dense > 0 || is_admm { sample_words(dense, is_admm) } else { 0 }
    }

    /// Words of a problem's state between two dispatches.
    fn state_words(&self) -> usize {
        let rows = self.set_params.rows as usize;
        let of_newton = STATE_HEAD + STATE_ROW * rows;
        if self.method == Method::Admm { of_newton.max(admm::state_words(rows)) } else { of_newton }
    }

    /// The problems whose records can be bound.
    fn most_problems(&self) -> usize {
        let widest = self.set_params.totals_stride.max(self.set_params.results_stride) as usize;
        self.most_words() / widest.max(self.state_words())
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
        let is_admm = self.method == Method::Admm;
        let goes_short = self.is_disjoint && !is_admm;
        let has_bounds = has_element_bounds(&params);
        let (sizes, lengths) = (self.sizes.clone(), self.chain);
        let passes = |n: usize| {
            let to_brackets = goes_short && !has_bounds && n <= sizes.brackets().room as usize;
            if to_brackets { lengths.passes_of_brackets(set, sizes.brackets(), n) } else { lengths.passes(set, n) }
        };
        let Lists { classes, small, large } = self.push_problems(batch, slab, index, &mut params, passes)?;
        let variant = variants(&device, batch, &params);
        let prepare = |(class, range): &(usize, Range<usize>)| {
            Dispatch::new(variant(Kernel::CellsPrepare, sizes.preparing(*class)), range.clone())
        };
        let mut dispatches: Vec<Dispatch> = classes.iter().map(prepare).collect();
        let short = |kernel, class| Variant { labelled: false, valued: false, ..variant(kernel, class) };
        // Of what the short cut is for, and where the rest of the list begins: what is too large for it.
        let mut rest = 0..small;
        if goes_short {
            for (class, range) in classes {
                rest.start = range.end;
                if let Some(class) = sizes.disjoint.get(class) {
                    dispatches.push(Dispatch::new(short(Kernel::CellsDisjoint, *class), range));
                } else {
                    rest = range;
                }
            }
        }
        let words = self.sample_words();
        if words > 0 {
            self.memory[index].order.hold(&device, 4 * words * n)?;
        }
        let chained = |kernel, class| Variant { weighted: true, bounded: true, ..short(kernel, class) };
        let general = if set.dense().is_empty() { Kernel::CellsNewton } else { Kernel::DenseNewton };
        let mut chain = Links::default();
        if is_admm {
            let admm = Dispatch::new(chained(Kernel::DenseAdmm, admm::CLASS), 0..problems);
            chain.push(0..admm::links(&device), &admm);
        }
        // What the short cut leaves goes to brackets; but where elements have their own bounds, so that it may have no answer,
        // to the machine, like all that is too large. (The machine takes long to compile.)
        let newton = |range| Dispatch::new(chained(general, sizes.newton), range);
        let links = lengths.links;
        match (goes_short, has_bounds) {
            (false, _) => chain.push(0..links, &newton(rest)),
            (true, false) => {
                let brackets = Dispatch::new(short(Kernel::DisjointBrackets, self.sizes.brackets()), 0..small);
                chain.push(1..2, &brackets);
                chain.push(0..if rest.is_empty() { 0 } else { links }, &newton(rest));
            }
            (true, true) => chain.push(u32::from(rest.is_empty())..links, &newton(rest)),
        }
        let places = chain.places();
        dispatches.extend(chain.dispatches);
        let state_bytes = 4 * problems * self.state_words();
        if small == 0 {
            dispatches.clear();
        }
        let mut large_prepare = LargeDispatch::prepare(&variant);
        let mut large_chain = LargeChain::new(&variant);
        let of_large = large_prepare.iter_mut().chain(large_chain.dispatches());
        self.upload_params(&params, &mut dispatches, (&large, of_large), index)?;
        let memory = &mut self.memory[index];
        let records = memory.large.begin(&device, &large, encoder)?;
        let large_counts = memory.large.begin_chain(&device, &large, encoder)?;
        let to_prepare = prepare_buffers(&device, memory, &inputs)?;
        memory.counts.resize_with(places, Memory::default);
        let counts = memory.counts.iter_mut().map(|count| count.hold_count(&device).cloned());
        let counts = counts.collect::<Result<Vec<_>>>()?;
        counts.iter().for_each(|count| encoder.clear_buffer(count, 0, None));
        let [even, odd] = &mut memory.left;
        let left = [even.hold(&device, 4 * problems)?.clone(), odd.hold(&device, 4 * problems)?.clone()];
        let state = memory.state.hold(&device, state_bytes)?.clone();
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
        memory.forward.begin();
        let prepare = memory.forward.bind(&device, Kernel::CellsPrepare, &uniform, &to_prepare);
        let mut bind = |kernel: Kernel, more: &[&wgpu::Buffer]| {
            let all: Vec<wgpu::Buffer> = elements.iter().chain(more.iter().copied()).cloned().collect();
            memory.forward.bind(&device, kernel, &uniform, &all)
        };
        let large_groups = (!large.is_empty()).then(|| {
            let [even, odd] = [0, 1].map(|turn| bind(Kernel::LargeStep, &[&records, &large_counts[turn]]));
            (bind(Kernel::LargePass, &[&records]), [even, odd])
        });
        let short_cut = goes_short.then(|| bind(Kernel::CellsDisjoint, &[&left[1], &counts[1]]));
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for dispatch in &dispatches {
            match (dispatch.link, &short_cut) {
                (None, Some(short_cut)) if dispatch.variant.kernel == Kernel::CellsDisjoint => {
                    dispatch.encode(&device, &mut pass, short_cut, None);
                }
                (None, _) => dispatch.encode(&device, &mut pass, &prepare, None),
                (Some(link), _) => {
                    let (this, next) = (dispatch.place, dispatch.place + 1);
                    let kernel = dispatch.variant.kernel;
                    let mut more = vec![&left[next % 2], &counts[next], &left[this % 2], &counts[this], &state];
                    let has_rows = !matches!(kernel, Kernel::CellsNewton | Kernel::DisjointBrackets);
                    more.extend(has_rows.then_some(&inputs.coefficients));
                    let group = bind(kernel, &more);
                    dispatch.encode(&device, &mut pass, &group, (link > 0).then_some(&counts[this]));
                }
            }
        }
        if let Some((tiles, steps)) = &large_groups {
            let prepare = memory.forward.bind(&device, Kernel::LargePrepare, &uniform, &with(&to_prepare, &records));
            for dispatch in &large_prepare {
                dispatch.encode(&device, &mut pass, &prepare, &large);
            }
            large_chain.encode(&device, &mut pass, (tiles, steps), &large_counts, &large);
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
        let Lists { classes, small, large } = self.push_problems(batch, slab, index, &mut params, |_| 0)?;
        let variant = variants(&device, batch, &params);
        let kernel = match (dense, self.is_disjoint) {
            (0, true) => Kernel::VjpDisjoint,
            (0, false) => Kernel::VjpRows,
            _ => {
                let words = self.sample_words();
                self.memory[index].order.hold(&device, 4 * words * n)?;
                Kernel::DenseVjp
            }
        };
        let sizes = self.sizes.clone();
        let dispatch = |(kernel, (class, range)): (Kernel, &(usize, Range<usize>))| {
            let class = match kernel {
                Kernel::CellsPrepare => sizes.preparing(*class),
                Kernel::VjpDisjoint => sizes.backward(*class),
                _ => sizes.streaming,
            };
            Dispatch::new(variant(kernel, class), range.clone())
        };
        let kernels = [Kernel::CellsPrepare, kernel].into_iter();
        let mut dispatches: Vec<Dispatch> =
            kernels.flat_map(|kernel| classes.iter().map(move |class| (kernel, class))).map(dispatch).collect();
        let mut large_prepare = LargeDispatch::prepare(&variant);
        let mut large_backward = LargeDispatch::backward(&variant, self.is_disjoint);
        let of_large = large_prepare.iter_mut().chain(&mut large_backward);
        self.upload_params(&params, &mut dispatches, (&large, of_large), index)?;
        let memory = &mut self.memory[index];
        let records = memory.large.begin(&device, &large, encoder)?;
        let to_prepare = prepare_buffers(&device, memory, &inputs)?;
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
        let uniform = memory.params.handle(&device)?;
        memory.backward.begin();
        let prepare = memory.backward.bind(&device, Kernel::CellsPrepare, &uniform, &to_prepare);
        let of_small = memory.backward.bind(&device, kernel, &uniform, &backward);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        if small > 0 {
            for dispatch in &dispatches {
                let group = if dispatch.variant.kernel == Kernel::CellsPrepare { &prepare } else { &of_small };
                dispatch.encode(&device, &mut pass, group, None);
            }
        }
        if !large.is_empty() {
            let prepare = memory.backward.bind(&device, Kernel::LargePrepare, &uniform, &with(&to_prepare, &records));
            let all = with(&backward, &records);
            for dispatch in &large_prepare {
                dispatch.encode(&device, &mut pass, &prepare, &large);
            }
            for dispatch in &large_backward {
                let group = memory.backward.bind(&device, dispatch.kernel(), &uniform, &all);
                dispatch.encode(&device, &mut pass, &group, &large);
            }
        }
        Ok(())
    }
}

/// The records of large problems bound behind all else.
fn with(buffers: &[wgpu::Buffer], records: &wgpu::Buffer) -> Vec<wgpu::Buffer> {
    buffers.iter().chain([records]).cloned().collect()
}

/// What `cells_prepare` binds.
fn prepare_buffers(device: &WgpuDevice, memory: &mut SlabMemory, inputs: &Inputs) -> Result<[wgpu::Buffer; 9]> {
    Ok([
        memory.tables.handle(device)?,
        inputs.groups.clone(),
        inputs.control.clone(),
        inputs.labels.clone(),
        inputs.weights.clone(),
        inputs.lower.clone(),
        inputs.upper.clone(),
        inputs.cells.clone(),
        memory.totals.handle(device)?,
    ])
}

fn has_element_bounds(params: &Params) -> bool {
    params.flags & (flags::ELEMENT_LO | flags::ELEMENT_HI) != 0
}

/// The variants of a batch's kernels.
fn variants<T: Storage>(
    device: &WgpuDevice,
    batch: &Batch<'_, T>,
    params: &Params,
) -> impl Fn(Kernel, Class) -> Variant {
    let has_subgroups = device.has_subgroups();
    let bounded = has_element_bounds(params);
    let (weighted, labelled) = (batch.weights.is_some(), batch.labels.is_some());
    let valued = params.wanted & (wanted::WEIGHTS | wanted::LABELS) != 0 || params.flags & flags::HAS_RATIO != 0;
    let has_cells = params.flags & flags::GIVEN_CELLS != 0;
    move |kernel, class| {
        let given = has_cells && matches!(kernel, Kernel::CellsPrepare | Kernel::LargePrepare);
        let subgroups = has_subgroups && class.fills_subgroups();
        Variant { kernel, class, dtype: T::DTYPE, given, weighted, labelled, bounded, valued, part: 0, subgroups }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Criterion, DemographicParity, EqualizedOdds, Offsets, Population, Projector, Settings};
    use rand::{RngExt, SeedableRng};

    /// Brackets, which hardly any problem needs, find what steps find.
    #[test]
    fn brackets_have_the_answer_of_the_cpu() {
        let device = match WgpuDevice::first() {
            Ok(device) => device,
            Err(why) => {
                let required = std::env::var("FAIRLAYER_REQUIRE").unwrap_or_default();
                assert!(!required.split(',').any(|device| device == "wgpu"), "{why}");
                return eprintln!("SKIP: {why}");
            }
        };
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(5);
        let (problems, n) = (40, 60);
        for (groups, epsilon) in [(2, 0.05), (2, 0.0), (5, 0.1), (6, 0.02)] {
            let population = Population::one_feature(groups);
            let ids: Vec<u8> = (0..problems * n).map(|_| rng.random_range(0..groups as u8)).collect();
            let labels: Vec<f64> = (0..problems * n).map(|_| f64::from(rng.random_range(0..2_u8))).collect();
            // From scores within their bounds to such that are all far beyond.
            let scale = |i: usize| [1.0, 1.0, 5.0, 100.0][i / n % 4];
            let score = |i: usize, rng: &mut rand_pcg::Pcg64Mcg| {
                (scale(i) * (rng.random_range(-0.3..1.2) + 0.05 * f64::from(ids[i]))) as f32
            };
            let z: Vec<f32> = (0..problems * n).map(|i| score(i, &mut rng)).collect();
            let parity = DemographicParity::within(epsilon).constraints(&population).unwrap();
            let odds = EqualizedOdds::within(epsilon).constraints(&population).unwrap();
            for set in [parity, odds] {
                let offsets = Offsets::Equal { problems, n };
                let columns = [crate::Buffer::from(&ids[..])];
                let batch = Batch::new(&z, offsets).groups(&columns).labels(&labels).bounds(0.0, 1.0);
                let settings = Settings::default();
                let mut plan = WgpuPlan::<f32>::new(&device, &set, Capacities::of(&offsets), settings).unwrap();
                plan.set_params.search_passes = 1;
                let mut answers = plan.answers();
                plan.project(&set, &batch, &mut answers).unwrap();
                let found = answers.read(&(0..=problems).map(|k| k * n).collect::<Vec<_>>(), set.rows()).unwrap();
                let wide: Vec<f64> = z.iter().map(|z| f64::from(*z)).collect();
                let batch = Batch::new(&wide, offsets).groups(&columns).labels(&labels).bounds(0.0, 1.0);
                let cpu = Projector::<f64>::plan(crate::Device::cpu(), &set, Capacities::of(&offsets), settings);
                let expected = cpu.unwrap().project(&batch).unwrap();
                let expected = expected.read().unwrap();
                for (i, (y, expected)) in found.y.iter().zip(expected.y).enumerate() {
                    let outcome = found.outcome[i / n];
                    assert_eq!(
                        outcome.status,
                        crate::Status::Solved,
                        "{outcome:?} of {groups} groups, {epsilon}, {}",
                        scale(i)
                    );
                    let error = (f64::from(*y) - expected).abs();
                    assert!(error <= 5e-6 * scale(i), "{y} is {expected}, of {}: {outcome:?}", z[i]);
                }
            }
        }
    }
}
