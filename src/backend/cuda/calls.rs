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
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    pub(crate) tolerance: f64,
    pub(crate) count: u32,
    pub(crate) n: u32,
    pub(crate) shared_cells: u32,
    pub(crate) shared_levels: u32,
    pub(crate) max_iterations: u32,
    pub(crate) unions: u32,
    pub(crate) union_of_cell: [u8; MAX_GPU_CELLS],
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
            lo,
            hi,
            tolerance,
            count,
            n,
            shared_cells,
            shared_levels,
            max_iterations,
            unions,
            union_of_cell,
        ),
        layout!(OutcomeRecord, "Outcome", status, iterations, passes, inactive, residual, excess),
    ]
}

/// Bytes of a problem's record.
pub(crate) fn record_bytes(rows: usize) -> usize {
    size_of::<OutcomeRecord>() + rows * size_of::<f64>()
}
