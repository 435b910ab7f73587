//! What launches hand to kernels, as plain structs that both read. A test holds them together with `kernels/`.

use bytemuck::{Pod, Zeroable};

use crate::backend::MAX_GPU_CELLS;

/// `SpreadCall` of `kernels/spread.cuh`, where it is explained; the cells there are its `MOST_CELLS`. Addresses are of the
/// device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct SpreadCall {
    pub(crate) z: u64,
    pub(crate) cells: u64,
    pub(crate) y: u64,
    pub(crate) clamp: u64,
    pub(crate) outcomes: u64,
    pub(crate) offsets: u64,
    pub(crate) list: u64,
    pub(crate) levels: u64,
    pub(crate) g: u64,
    pub(crate) to_predictions: u64,
    pub(crate) to_levels: u64,
    pub(crate) arrivals: u64,
    pub(crate) boards: u64,
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    pub(crate) tolerance: f64,
    pub(crate) count: u32,
    pub(crate) n: u32,
    pub(crate) shared_cells: u32,
    pub(crate) shared_levels: u32,
    pub(crate) max_iterations: u32,
    pub(crate) blocks: u32,
    pub(crate) unused: u32,
    pub(crate) unions: u32,
    pub(crate) union_of_cell: [u8; MAX_GPU_CELLS],
}

/// A row of the constraint set: `SetRow` of `kernels/cells_call.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct SetRow {
    pub(crate) scale: f64,
    pub(crate) plus: u32,
    pub(crate) minus: u32,
    pub(crate) spread: u32,
    pub(crate) residual: u32,
}

/// `SetSpread` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct SetSpread {
    pub(crate) first: u32,
    pub(crate) end: u32,
    pub(crate) is_ratio: u32,
    pub(crate) unused: u32,
}

/// `SetPart` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct SetPart {
    pub(crate) rows: u32,
    pub(crate) cells: u32,
}

/// `Feature` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct Feature {
    pub(crate) start: u64,
    pub(crate) groups: u32,
    pub(crate) shared: u32,
}

/// `NO_SPREAD` there.
pub(crate) const NO_SPREAD: u32 = u32::MAX;

/// Bits of [`CellsCall::flags`], as there.
pub(crate) mod flags {
    pub(crate) const SHARED_CELLS: u32 = 1;
    pub(crate) const SHARED_CONTROL: u32 = 2;
    pub(crate) const SHARED_WEIGHTS: u32 = 4;
    pub(crate) const SHARED_LABELS: u32 = 8;
    pub(crate) const SHARED_LO: u32 = 16;
    pub(crate) const SHARED_HI: u32 = 32;
    pub(crate) const DOUBLE_WEIGHTS: u32 = 64;
    pub(crate) const DOUBLE_LABELS: u32 = 128;
    pub(crate) const STRATA_BY_LABEL: u32 = 256;
    pub(crate) const RELAXES: u32 = 512;
    pub(crate) const HAS_RATIO: u32 = 1024;
    pub(crate) const FOLLOWS_ADMM: u32 = 2048;
    pub(crate) const SHARED_COEFFICIENTS: u32 = 4096;
    pub(crate) const DOUBLE_COEFFICIENTS: u32 = 8192;
}

/// `CellsCall` of `kernels/cells_call.cuh`, where it is explained. Addresses are of the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct CellsCall {
    pub(crate) z: u64,
    pub(crate) cells: u64,
    pub(crate) groups: u64,
    pub(crate) control: u64,
    pub(crate) weights: u64,
    pub(crate) labels: u64,
    pub(crate) lower: u64,
    pub(crate) upper: u64,
    pub(crate) y: u64,
    pub(crate) clamp: u64,
    pub(crate) outcomes: u64,
    pub(crate) offsets: u64,
    pub(crate) list: u64,
    pub(crate) arrivals: u64,
    pub(crate) boards: u64,
    pub(crate) levels: u64,
    pub(crate) row_lower: u64,
    pub(crate) row_upper: u64,
    pub(crate) warm: u64,
    pub(crate) set_rows: u64,
    pub(crate) set_spreads: u64,
    pub(crate) set_parts: u64,
    pub(crate) features: u64,
    pub(crate) own_cells: u64,
    pub(crate) order: u64,
    pub(crate) coefficients: u64,
    pub(crate) iterates: u64,
    pub(crate) g: u64,
    pub(crate) to_predictions: u64,
    pub(crate) to_lo: u64,
    pub(crate) to_hi: u64,
    pub(crate) to_weights: u64,
    pub(crate) to_labels: u64,
    pub(crate) to_coefficients: u64,
    pub(crate) to_levels: u64,
    pub(crate) to_row_lower: u64,
    pub(crate) to_row_upper: u64,
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    pub(crate) tolerance: f64,
    pub(crate) eps_abs: f64,
    pub(crate) eps_rel: f64,
    pub(crate) relaxation: f64,
    pub(crate) sigma: f64,
    pub(crate) rho: f64,
    pub(crate) admm_iterations: u32,
    pub(crate) count: u32,
    pub(crate) n: u32,
    pub(crate) flags: u32,
    pub(crate) cell_count: u32,
    pub(crate) rows: u32,
    pub(crate) spreads: u32,
    pub(crate) contrasts: u32,
    pub(crate) parts: u32,
    pub(crate) feature_count: u32,
    pub(crate) strata: u32,
    pub(crate) level_stride: u32,
    pub(crate) lower_stride: u32,
    pub(crate) upper_stride: u32,
    pub(crate) warm_stride: u32,
    pub(crate) max_iterations: u32,
    pub(crate) blocks: u32,
    pub(crate) dense: u32,
}

/// What a launch hands over.
pub(crate) trait Call: Pod {
    /// The same for some of the problems: where their list is, 0 for the first ones, how many they are, and how many blocks
    /// each has at the most.
    fn of(self, list: u64, count: u32, blocks: u32) -> Self;
}

impl Call for SpreadCall {
    fn of(self, list: u64, count: u32, blocks: u32) -> Self {
        Self { list, count, blocks, ..self }
    }
}

impl Call for CellsCall {
    fn of(self, list: u64, count: u32, blocks: u32) -> Self {
        Self { list, count, blocks, ..self }
    }
}

/// `Outcome` of `kernels/common.cuh`; the multipliers of a problem's rows follow it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct OutcomeRecord {
    pub(crate) status: u32,
    pub(crate) iterations: u32,
    pub(crate) passes: u32,
    pub(crate) inactive: u32,
    pub(crate) residual: f64,
    pub(crate) excess: f64,
}

/// The name of a struct in C++, its size, and the names and places of its fields.
pub type Layout = (&'static str, usize, Vec<(&'static str, usize)>);

/// Of every struct: for the tests.
#[must_use]
pub fn layouts() -> Vec<Layout> {
    macro_rules! layout {
        ($type:ident, $name:literal, $($field:ident),+ $(,)?) => {{
            // A field that is missing here is an error of the compiler.
            let $type { $($field: _),+ } = $type::default();
            ($name, size_of::<$type>(), vec![$((stringify!($field), std::mem::offset_of!($type, $field))),+])
        }};
    }
    vec![
        layout!(
            SpreadCall,
            "SpreadCall",
            z,
            cells,
            y,
            clamp,
            outcomes,
            offsets,
            list,
            levels,
            g,
            to_predictions,
            to_levels,
            arrivals,
            boards,
            lo,
            hi,
            tolerance,
            count,
            n,
            shared_cells,
            shared_levels,
            max_iterations,
            blocks,
            unused,
            unions,
            union_of_cell,
        ),
        layout!(SetRow, "SetRow", scale, plus, minus, spread, residual),
        layout!(SetSpread, "SetSpread", first, end, is_ratio, unused),
        layout!(SetPart, "SetPart", rows, cells),
        layout!(Feature, "Feature", start, groups, shared),
        layout!(
            CellsCall,
            "CellsCall",
            z,
            cells,
            groups,
            control,
            weights,
            labels,
            lower,
            upper,
            y,
            clamp,
            outcomes,
            offsets,
            list,
            arrivals,
            boards,
            levels,
            row_lower,
            row_upper,
            warm,
            set_rows,
            set_spreads,
            set_parts,
            features,
            own_cells,
            order,
            coefficients,
            iterates,
            g,
            to_predictions,
            to_lo,
            to_hi,
            to_weights,
            to_labels,
            to_coefficients,
            to_levels,
            to_row_lower,
            to_row_upper,
            lo,
            hi,
            tolerance,
            eps_abs,
            eps_rel,
            relaxation,
            sigma,
            rho,
            admm_iterations,
            count,
            n,
            flags,
            cell_count,
            rows,
            spreads,
            contrasts,
            parts,
            feature_count,
            strata,
            level_stride,
            lower_stride,
            upper_stride,
            warm_stride,
            max_iterations,
            blocks,
            dense
        ),
        layout!(OutcomeRecord, "Outcome", status, iterations, passes, inactive, residual, excess),
    ]
}

/// Bytes of a problem's record.
pub(crate) fn record_bytes(rows: usize) -> usize {
    size_of::<OutcomeRecord>() + rows * size_of::<f64>()
}
