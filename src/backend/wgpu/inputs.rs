//! What a call uploads, and where kernels find it.

use std::ops::Range;

use super::WgpuDevice;
use super::bindings::BindGroups;
use super::dispatch::{Dispatch, columns};
use super::large::{Large, LargeDispatch, LargeMemory};
use super::memory::Memory;
use super::plan::WgpuPlan;
use super::sizes::TILES;
use super::slabs::Slab;
use super::tables::{limit, push_limits, two_floats};
use crate::batch::{Batch, Bound, Buffer, CellInput, Place, Reals, Sharing};
use crate::cells::Strata;
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::params::{ABSENT, Params, STRATA_BY_LABEL, flags};
use crate::storage::Storage;

/// The device memory of a slab's inputs and of what kernels hand each other.
#[derive(Debug, Default)]
pub(super) struct SlabMemory {
    pub(super) params: Memory,
    pub(super) tables: Memory,
    pub(super) z: Memory,
    pub(super) groups: Memory,
    pub(super) control: Memory,
    pub(super) labels: Memory,
    pub(super) weights: Memory,
    pub(super) lower: Memory,
    pub(super) upper: Memory,
    pub(super) cells: Memory,
    pub(super) totals: Memory,
    /// Of problems over cells, their sorted elements where they have no room in a workgroup; of those over samples, all that
    /// kernels work on.
    pub(super) order: Memory,
    pub(super) coefficients: Memory,
    pub(super) g: Memory,
    /// Problems that a dispatch leaves for the next, by turns; how many, for every link of the chain; and their states.
    pub(super) left: [Memory; 2],
    pub(super) counts: Vec<Memory>,
    pub(super) state: Memory,
    pub(super) large: LargeMemory,
    /// Of forward calls, and of backward ones.
    pub(super) forward: BindGroups,
    pub(super) backward: BindGroups,
}

/// The problems of a slab, as dispatches take them.
pub(super) struct Lists {
    /// The index of each class that is not empty, with its part of the list.
    pub(super) classes: Vec<(usize, Range<usize>)>,
    /// All problems of these classes.
    pub(super) small: usize,
    pub(super) large: Large,
}

/// The buffers that a call's element inputs are read from: the plan's own, or the caller's.
pub(super) struct Inputs {
    pub(super) params: Params,
    pub(super) cells: wgpu::Buffer,
    pub(super) groups: wgpu::Buffer,
    pub(super) control: wgpu::Buffer,
    pub(super) labels: wgpu::Buffer,
    pub(super) weights: wgpu::Buffer,
    pub(super) lower: wgpu::Buffer,
    pub(super) upper: wgpu::Buffer,
    pub(super) coefficients: wgpu::Buffer,
}

impl<T: Storage> WgpuPlan<T> {
    /// Uploads what forward and backward passes both read, and begins the tables.
    pub(super) fn upload_inputs(
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
    /// empty, with its part of the lists; and those problems that are cut into tiles.
    pub(super) fn push_problems(
        &mut self,
        batch: &Batch<'_, T>,
        slab: &Slab,
        index: usize,
        params: &mut Params,
        passes: impl Fn(usize) -> u32,
    ) -> Result<Lists> {
        let Self { device, memory, words, sizes, tiling, .. } = self;
        let offsets = batch.offsets();
        let is_large = |n: usize| tiling.is_some_and(|tiling| tiling.is_large(n));
        params.problems_at = words.len() as u32;
        let mut ordered = 0;
        for problem in slab.problems.clone() {
            let range = offsets.range(problem);
            let (first, n) = ((range.start - slab.elements.start) as u32, range.len());
            words.extend([first, n as u32, ordered, passes(n)]);
            if is_large(range.len()) {
                ordered += range.len().next_multiple_of(TILES.lanes as usize) as u32;
            } else if range.len() > sizes.newton.room as usize {
                ordered += range.len() as u32;
            }
        }
        params.list_at = words.len() as u32;
        let (mut classes, mut listed) = (Vec::new(), 0);
        for class in 0..=sizes.disjoint.len() {
            let first = listed;
            let size = |problem: &usize| offsets.range(*problem).len();
            let is_here = |problem: &usize| sizes.class_of(size(problem)) == class && !is_large(size(problem));
            for problem in slab.problems.clone().filter(is_here) {
                words.push((problem - slab.problems.start) as u32);
                listed += 1;
            }
            if listed > first {
                classes.push((class, first..listed));
            }
        }
        let large = tiling.map(|tiling| Large::push(tiling, &offsets, slab, words)).unwrap_or_default();
        let memory = &mut memory[index];
        memory.order.hold(device, 4 * ordered as usize)?;
        memory.tables.upload(device, bytemuck::cast_slice(words))?;
        Ok(Lists { classes, small: listed, large })
    }

    /// Uploads the parameters of every dispatch.
    pub(super) fn upload_params<'a>(
        &mut self,
        params: &Params,
        dispatches: &mut [Dispatch],
        (large, of_large): (&Large, impl Iterator<Item = &'a mut LargeDispatch>),
        index: usize,
    ) -> Result<()> {
        let Self { device, memory, bytes, .. } = self;
        let alignment = device.limits().min_uniform_buffer_offset_alignment as usize;
        bytes.clear();
        let push = |bytes: &mut Vec<u8>, own: Params| {
            bytes.extend_from_slice(bytemuck::bytes_of(&own));
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        };
        for dispatch in dispatches {
            let own = Params {
                count: dispatch.range.len() as u32,
                columns: columns(device, dispatch.workgroups()),
                list_at: params.list_at + dispatch.range.start as u32,
                link: dispatch.link.unwrap_or(0),
                last_link: u32::from(dispatch.is_last),
                ..*params
            };
            dispatch.params = bytes.len() as u32;
            push(bytes, own);
        }
        for dispatch in of_large {
            let own = dispatch.params(device, large, params, bytes.len());
            push(bytes, own);
        }
        memory[index].params.upload_uniform(device, bytes)?;
        Ok(())
    }
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
pub(super) fn place_elements<E: bytemuck::Pod>(
    device: &WgpuDevice,
    memory: &mut Memory,
    buffer: &Buffer<'_, E>,
    slab: &Slab,
    at: &mut u32,
) -> Result<wgpu::Buffer> {
    match buffer.place() {
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
        _ => {
            *at = 0;
            memory.upload(device, bytemuck::cast_slice(of_slab(buffer, slab))).cloned()
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
