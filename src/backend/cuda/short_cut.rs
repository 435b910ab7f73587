//! The short cut for one difference spread of a cell each.

use super::calls::{CellsCall, SpreadCall, flags};
use super::kernels::Kernel;
use crate::backend::MAX_GPU_CELLS;
use crate::batch::{Batch, Bound};
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::storage::Storage;

/// The kernels for one difference spread, forward and backward, and the union that each cell is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortCut {
    pub(super) kernels: [Kernel; 2],
    union_of_cell: [u8; MAX_GPU_CELLS],
}

impl ShortCut {
    /// The short cut of a set that is one difference spread of unions that are a cell each.
    pub(super) fn of(set: &ConstraintSet) -> Option<Self> {
        let ([spread], [], []) = (set.spreads(), set.contrasts(), set.dense()) else { return None };
        let count = spread.unions.len();
        let mut of_cell = [None; MAX_GPU_CELLS];
        for (index, union) in spread.unions.iter().enumerate() {
            let cell = union.cells.iter().next().filter(|_| union.cells.count() == 1)?;
            let place = of_cell.get_mut(cell).filter(|of_cell| of_cell.is_none())?;
            *place = Some(index as u8);
        }
        let all = (2..=MAX_GPU_CELLS).contains(&count) && set.layout().cells() == count;
        let fits = all && matches!(spread.limit, SpreadLimit::Difference(_));
        let kernels = match count {
            2 => [Kernel::CellsPair, Kernel::VjpPair],
            _ => [Kernel::CellsSpread, Kernel::VjpSpread],
        };
        fits.then(|| Self { kernels, union_of_cell: of_cell.map(|union| union.unwrap_or(0)) })
    }

    /// Whether it takes the problems of a batch that are not too large: nothing differs between elements but their cells.
    /// (With the same bounds for all samples no such problem is infeasible.)
    pub(super) fn takes<T: Storage>(batch: &Batch<'_, T>) -> bool {
        let bounded = matches!((batch.lo, batch.hi), (Bound::Scalar(_), Bound::Scalar(_)));
        bounded && batch.weights.is_none() && batch.warm_start.is_none()
    }

    /// What its kernels are handed, from what those for any rows are.
    pub(super) fn call(&self, call: &CellsCall) -> SpreadCall {
        SpreadCall {
            z: call.z,
            cells: call.cells,
            y: call.y,
            clamp: call.clamp,
            outcomes: call.outcomes,
            offsets: call.offsets,
            list: call.list,
            levels: call.levels,
            g: call.g,
            to_predictions: call.to_predictions,
            to_levels: call.to_levels,
            arrivals: call.arrivals,
            boards: call.boards,
            lo: call.lo,
            hi: call.hi,
            tolerance: call.tolerance,
            count: call.count,
            n: call.n,
            shared_cells: u32::from(call.flags & flags::SHARED_CELLS != 0),
            shared_levels: u32::from(call.level_stride == 0),
            max_iterations: call.max_iterations,
            blocks: call.blocks,
            unused: 0,
            unions: call.rows,
            union_of_cell: self.union_of_cell,
        }
    }
}
