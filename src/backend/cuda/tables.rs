//! What kernels know of a constraint set, on the device.

use super::CudaDevice;
use super::calls::{CellsCall, NO_SPREAD, SetPart, SetRow, SetSpread, flags};
use super::kernels::SetSize;
use super::memory::Memory;
use crate::batch::{Reals, Sharing};
use crate::cells::CellMask;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::Result;
use crate::reference::components::components;

/// A mask of up to 32 cells.
fn bits(mask: &CellMask) -> u32 {
    mask.iter().map(|cell| 1 << cell).sum()
}

/// The set's arrays, which a plan keeps.
#[derive(Debug, Default)]
pub(super) struct SetTables {
    rows: Memory,
    spreads: Memory,
    parts: Memory,
    levels: Memory,
    lower: Memory,
    upper: Memory,
}

impl SetTables {
    /// Uploads the set, of at most 32 rows over as many cells, and notes where it is.
    pub(super) fn upload(&mut self, device: &CudaDevice, set: &ConstraintSet, call: &mut CellsCall) -> Result<SetSize> {
        let mut rows = Vec::with_capacity(set.rows());
        let mut spreads = Vec::with_capacity(set.spreads().len());
        for (index, spread) in set.spreads().iter().enumerate() {
            let first = rows.len() as u32;
            rows.extend(spread.unions.iter().map(|union| SetRow {
                plus: bits(&union.cells),
                spread: index as u32,
                ..SetRow::default()
            }));
            let is_ratio = matches!(spread.limit, SpreadLimit::Ratio(_));
            call.flags |= if is_ratio { flags::HAS_RATIO } else { 0 };
            let end = rows.len() as u32;
            spreads.push(SetSpread { first, end, is_ratio: u32::from(is_ratio), ..SetSpread::default() });
        }
        rows.extend(set.contrasts().iter().map(|contrast| SetRow {
            scale: contrast.scale,
            plus: bits(&contrast.plus.cells),
            minus: bits(&contrast.minus),
            spread: NO_SPREAD,
            residual: u32::from(contrast.residual),
        }));
        let components = components(set);
        let dense = set.dense().len() as u32;
        let parts = components.iter().map(|part| {
            let of_spreads = part.spreads.iter().flat_map(|&(spread, _)| spreads[spread].first..spreads[spread].end);
            let of_contrasts = part.contrasts.iter().map(|&(_, row)| row as u32);
            SetPart {
                rows: of_spreads.chain(of_contrasts).map(|row| 1 << row).sum(),
                cells: part.cells.iter().map(|cell| 1 << cell).sum(),
            }
        });
        let parts: Vec<SetPart> = parts.collect();
        let levels: Vec<f64> = set.spreads().iter().map(|spread| spread.limit.level()).collect();
        let of_contrasts = set.contrasts().iter().map(|contrast| (contrast.lower, contrast.upper));
        let of_dense = set.dense().iter().map(|row| (row.lower, row.upper));
        let (lower, upper): (Vec<f64>, Vec<f64>) = of_contrasts.chain(of_dense).unzip();
        call.set_rows = self.rows.upload(device, bytemuck::cast_slice(&rows))?;
        call.set_spreads = self.spreads.upload(device, bytemuck::cast_slice(&spreads))?;
        call.set_parts = self.parts.upload(device, bytemuck::cast_slice(&parts))?;
        call.levels = self.levels.upload(device, bytemuck::cast_slice(&levels))?;
        call.row_lower = self.lower.upload(device, bytemuck::cast_slice(&lower))?;
        call.row_upper = self.upper.upload(device, bytemuck::cast_slice(&upper))?;
        let size = SetSize {
            cells: set.layout().cells() as u32,
            rows: set.rows() as u32,
            spreads: spreads.len() as u32,
            parts: parts.len() as u32,
            dense,
        };
        (call.cell_count, call.rows, call.spreads, call.parts) = (size.cells, size.rows, size.spreads, size.parts);
        (call.contrasts, call.dense) = (set.contrasts().len() as u32, dense);
        Ok(size)
    }
}

/// Where numbers of problems are, `count` each, as `f64`, and how far apart problems are.
pub(super) fn place_reals(
    device: &CudaDevice,
    memory: &mut Memory,
    scratch: &mut Vec<f64>,
    reals: &Reals<'_>,
    count: usize,
) -> Result<(u64, u32)> {
    let at = match reals {
        Reals::F32(buffer) => {
            scratch.clear();
            scratch.extend(buffer.slice().iter().map(|value| f64::from(*value)));
            memory.upload(device, bytemuck::cast_slice(scratch))?
        }
        Reals::F64(buffer) => memory.place(device, buffer)?,
    };
    Ok((at, if reals.sharing() == Sharing::Shared { 0 } else { count as u32 }))
}
