//! What a call uploads, and where kernels find it.

use super::CudaDevice;
use super::calls::{CellsCall, Feature, flags};
use super::memory::Memory;
use super::tables::place_reals;
use crate::batch::{Batch, Bound, Buffer, Capacities, CellInput, Reals, Sharing};
use crate::cells::Strata;
use crate::constraints::ConstraintSet;
use crate::error::Result;
use crate::storage::Storage;

/// The device memory of a plan's inputs.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) z: Memory,
    pub(super) g: Memory,
    pub(super) offsets: Memory,
    pub(super) list: Memory,
    /// The numbers of all problems.
    pub(super) all: Memory,
    cells: Memory,
    groups: Memory,
    features: Memory,
    control: Memory,
    weights: Memory,
    labels: Memory,
    lower: Memory,
    upper: Memory,
    levels: Memory,
    row_lower: Memory,
    row_upper: Memory,
    warm: Memory,
    coefficients: Memory,
    iterates: Memory,
    own_cells: Memory,
    order: Memory,
    arrivals: Memory,
    boards: Memory,
    reals: Vec<f64>,
    ids: Vec<u8>,
    kinds: Vec<Feature>,
}

/// Bytes of `Arrivals` of `kernels/meeting.cuh`, and of what a block brings to two meetings there: `MOST_BROUGHT` numbers to
/// each.
const ARRIVALS_BYTES: usize = 2 * size_of::<u32>();
const BOARD_BYTES: usize = 2 * 128 * size_of::<u64>();

fn if_shared(sharing: Sharing, flag: u32) -> u32 {
    if sharing == Sharing::Shared { flag } else { 0 }
}

/// Where an array of numbers beside the predictions is, as it is; whether it is of `f64`.
fn place_as_is(device: &CudaDevice, memory: &mut Memory, reals: &Reals<'_>) -> Result<(u64, bool)> {
    match reals {
        Reals::F32(buffer) => Ok((memory.place(device, buffer)?, false)),
        Reals::F64(buffer) => Ok((memory.place(device, buffer)?, true)),
    }
}

impl Inputs {
    /// Allocates what every call needs.
    pub(super) fn reserve<T: Storage>(&mut self, device: &CudaDevice, capacities: Capacities) -> Result<()> {
        let Capacities { problems, total, .. } = capacities;
        let elements = size_of::<T>().saturating_mul(total);
        self.z.hold(device, elements)?;
        self.g.hold(device, elements)?;
        self.cells.hold(device, total)?;
        self.own_cells.hold(device, total)?;
        self.order.hold(device, total.saturating_mul(4))?;
        self.offsets.hold(device, problems.saturating_add(1).saturating_mul(8))?;
        self.list.hold(device, problems.saturating_mul(4))?;
        self.levels.hold(device, problems.max(1).saturating_mul(8))?;
        Ok(())
    }

    /// Makes room for so many blocks to meet in, where nobody is yet, and lists all problems, of which some may have to wait.
    pub(super) fn reserve_meetings(
        &mut self,
        device: &CudaDevice,
        blocks: u32,
        problems: usize,
        call: &mut CellsCall,
    ) -> Result<()> {
        let all: Vec<u32> = (0..problems as u32).collect();
        self.all.upload(device, bytemuck::cast_slice(&all))?;
        call.arrivals = self.arrivals.upload(device, &vec![0; ARRIVALS_BYTES * blocks as usize])?;
        call.boards = self.boards.hold(device, BOARD_BYTES * blocks as usize)?;
        Ok(())
    }

    /// Makes room for what ADMM keeps of every element.
    pub(super) fn reserve_iterates(&mut self, device: &CudaDevice, total: usize, call: &mut CellsCall) -> Result<()> {
        call.iterates = self.iterates.hold(device, total.saturating_mul(16))?;
        Ok(())
    }

    /// Uploads what forward and backward passes both read.
    pub(super) fn upload<T: Storage>(
        &mut self,
        device: &CudaDevice,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        call: &mut CellsCall,
    ) -> Result<()> {
        let strata = set.layout().strata();
        (call.own_cells, call.order) = (self.own_cells.address(), self.order.address());
        match batch.cells {
            None => {}
            Some(CellInput::Ids(ids)) => self.place_ids(device, &ids, call)?,
            Some(CellInput::Groups(&[only])) if strata == Strata::None => self.place_ids(device, &only, call)?,
            Some(CellInput::Groups(groups)) => {
                self.ids.clear();
                self.kinds.clear();
                for (count, ids) in set.layout().group_counts().iter().zip(groups) {
                    let shared = u32::from(ids.sharing() == Sharing::Shared);
                    self.kinds.push(Feature { start: self.ids.len() as u64, groups: *count as u32, shared });
                    self.ids.extend_from_slice(ids.slice());
                }
                call.groups = self.groups.upload(device, &self.ids)?;
                call.features = self.features.upload(device, bytemuck::cast_slice(&self.kinds))?;
                call.feature_count = groups.len() as u32;
                call.strata = if strata == Strata::None { 0 } else { strata.count() as u32 };
                call.flags |= if strata == Strata::Label { flags::STRATA_BY_LABEL } else { 0 };
            }
        }
        if let Some(control) = &batch.control {
            call.flags |= if_shared(control.sharing(), flags::SHARED_CONTROL);
            call.control = self.control.place(device, control)?;
        }
        if let Some(weights) = &batch.weights {
            let (at, is_double) = place_as_is(device, &mut self.weights, weights)?;
            call.weights = at;
            call.flags |= if_shared(weights.sharing(), flags::SHARED_WEIGHTS);
            call.flags |= if is_double { flags::DOUBLE_WEIGHTS } else { 0 };
        }
        if let Some(labels) = &batch.labels {
            let (at, is_double) = place_as_is(device, &mut self.labels, labels)?;
            call.labels = at;
            call.flags |= if_shared(labels.sharing(), flags::SHARED_LABELS);
            call.flags |= if is_double { flags::DOUBLE_LABELS } else { 0 };
        }
        if let Some(coefficients) = &batch.coefficients {
            let (at, is_double) = place_as_is(device, &mut self.coefficients, coefficients)?;
            call.coefficients = at;
            call.flags |= if_shared(coefficients.sharing(), flags::SHARED_COEFFICIENTS);
            call.flags |= if is_double { flags::DOUBLE_COEFFICIENTS } else { 0 };
        }
        let bounds = [
            (&batch.lo, &mut self.lower, &mut call.lo, &mut call.lower, flags::SHARED_LO),
            (&batch.hi, &mut self.upper, &mut call.hi, &mut call.upper, flags::SHARED_HI),
        ];
        for (bound, memory, scalar, at, flag) in bounds {
            match bound {
                Bound::Scalar(value) => *scalar = value.to_f64(),
                Bound::PerElement(buffer) => {
                    *at = memory.place(device, buffer)?;
                    call.flags |= if_shared(buffer.sharing(), flag);
                }
            }
        }
        self.upload_limits(device, set, batch, call)
    }

    fn place_ids(&mut self, device: &CudaDevice, ids: &Buffer<'_, u8>, call: &mut CellsCall) -> Result<()> {
        call.flags |= if_shared(ids.sharing(), flags::SHARED_CELLS);
        call.cells = self.cells.place(device, ids)?;
        Ok(())
    }

    /// Uploads what the batch says of levels, row bounds and starts; the set's own stand where it says nothing.
    fn upload_limits<T: Storage>(
        &mut self,
        device: &CudaDevice,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        call: &mut CellsCall,
    ) -> Result<()> {
        let scratch = &mut self.reals;
        if let Some(levels) = &batch.levels {
            (call.levels, call.level_stride) =
                place_reals(device, &mut self.levels, scratch, levels, set.spreads().len())?;
        }
        if let Some((lower, upper)) = &batch.row_bounds {
            let count = set.bounded_rows();
            (call.row_lower, call.lower_stride) = place_reals(device, &mut self.row_lower, scratch, lower, count)?;
            (call.row_upper, call.upper_stride) = place_reals(device, &mut self.row_upper, scratch, upper, count)?;
        }
        if let Some(warm) = &batch.warm_start {
            (call.warm, call.warm_stride) = place_reals(device, &mut self.warm, scratch, warm, set.rows())?;
        }
        Ok(())
    }
}
