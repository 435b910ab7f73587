//! The writes with AVX-512, for numbers that are computed in `f32`: what an element needs to know of its cell is looked up
//! in a register, and comparisons are the bits of clamp words. To the bits what `forward` and `backward` write.

use super::LANES;
use crate::reference::cells_newton::split_shift;
use crate::storage::Storage;
use core::arch::x86_64::{__m128i, __m512, _CMP_GT_OQ, _CMP_NEQ_UQ};
use pulp::x86::V4;
use pulp::{NullaryFnOnce, cast};

/// The id that fills up a block: that of no cell.
const NO_CELL: u8 = u8::MAX;

/// Whether numbers of this type are computed in what these registers hold.
pub(super) const fn holds<T: Storage>() -> bool {
    size_of::<T::Arithmetic>() == size_of::<f32>()
}

/// Does something with every block of samples; the last is filled up with samples of no cell. Blocks are `f32`, which
/// holds what is computed in it exactly.
#[inline(always)]
pub(super) fn for_blocks<T: Storage>(values: &[T], cells: &[u8], mut work: impl FnMut(usize, __m512, __m128i)) {
    let widened = |block: &[T; LANES]| cast(block.map(|value| value.to_f64() as f32));
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (cell_blocks, rest_cells) = cells.as_chunks::<LANES>();
    for (index, (block, cells)) in blocks.iter().zip(cell_blocks).enumerate() {
        work(index, widened(block), cast(*cells));
    }
    if !rest.is_empty() {
        let (mut block, mut cells) = ([T::default(); LANES], [NO_CELL; LANES]);
        block.iter_mut().zip(rest).for_each(|(value, rest)| *value = *rest);
        cells.iter_mut().zip(rest_cells).for_each(|(cell, rest)| *cell = *rest);
        work(blocks.len(), widened(&block), cast(cells));
    }
}

/// The values as they would be stored.
#[inline(always)]
pub(super) fn stored<T: Storage>(values: __m512) -> __m512 {
    let values: [f32; LANES] = cast(values);
    cast(values.map(|value| T::from_f64(f64::from(value)).to_f64() as f32))
}

/// Two numbers for every cell, in a register each.
#[derive(Clone, Copy)]
pub(super) struct CellTable(__m512, __m512);

impl CellTable {
    /// The shifts of up to 16 cells, each as two numbers.
    #[inline(always)]
    pub(super) fn of_shifts(shift: &[f64]) -> Self {
        let (mut shifts, mut rests) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for ((first, rest), shift) in shifts.iter_mut().zip(&mut rests).zip(shift) {
            (*first, *rest) = split_shift(*shift);
        }
        Self(cast(shifts), cast(rests))
    }

    #[inline(always)]
    pub(super) fn of(&self, simd: V4, cells: __m128i) -> (__m512, __m512) {
        let id = simd.avx512f._mm512_cvtepu8_epi32(cells);
        (simd.avx512f._mm512_permutexvar_ps(id, self.0), simd.avx512f._mm512_permutexvar_ps(id, self.1))
    }
}

/// Writes a block, or the part of it for which there is room.
#[inline(always)]
fn put<T: Storage>(out: &mut [T], index: usize, values: __m512) {
    let values: [f32; LANES] = cast(values);
    let values = values.map(|value| T::from_f64(f64::from(value)));
    let out = &mut out[index * LANES..];
    match out.first_chunk_mut::<LANES>() {
        Some(block) => *block = values,
        None => out.iter_mut().zip(values).for_each(|(out, value)| *out = value),
    }
}

/// `cells_newton::write` of a problem, or of a part of one.
pub(super) struct Write<'a, T> {
    pub(super) simd: V4,
    pub(super) z: &'a [T],
    pub(super) cells: &'a [u8],
    pub(super) shift: &'a [f64],
    pub(super) bounds: (T, T),
    pub(super) y: &'a mut [T],
    pub(super) clamp: &'a mut [u32],
}

impl<T: Storage> NullaryFnOnce for Write<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, z, cells, shift, bounds, y, clamp } = self;
        let f = simd.avx512f;
        let shift = CellTable::of_shifts(shift);
        let bound = |bound: T| f._mm512_set1_ps(bound.to_f64() as f32);
        let (lo, hi) = (bound(bounds.0), bound(bounds.1));
        let n = z.len();
        for_blocks(
            z,
            cells,
            #[inline(always)]
            |index, z, cells| {
                let (shift, rest) = shift.of(simd, cells);
                let t = f._mm512_sub_ps(f._mm512_sub_ps(z, shift), rest);
                let clipped = f._mm512_min_ps(hi, f._mm512_max_ps(lo, t));
                put(y, index, clipped);
                let clamped = u32::from(f._mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(clipped, t));
                let above = u32::from(f._mm512_cmp_ps_mask::<_CMP_GT_OQ>(t, hi));
                let inside = u32::MAX >> (32 - LANES.min(n - index * LANES));
                clamp[index] = (clamped & inside) | ((above & inside) << LANES);
            },
        );
    }
}

/// `cells_vjp::write` of a problem's gradients to the predictions, or of a part of them.
pub(super) struct WriteGradient<'a, T> {
    pub(super) simd: V4,
    pub(super) cells: &'a [u8],
    pub(super) clamp: &'a [u32],
    pub(super) g: &'a [T],
    /// What each cell is pulled by.
    pub(super) pull: [f32; LANES],
    pub(super) out: &'a mut [T],
}

impl<T: Storage> NullaryFnOnce for WriteGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, cells, clamp, g, pull, out } = self;
        let f = simd.avx512f;
        let pull: __m512 = cast(pull);
        for_blocks(
            g,
            cells,
            #[inline(always)]
            |index, g, cells| {
                let pull = f._mm512_permutexvar_ps(f._mm512_cvtepu8_epi32(cells), pull);
                put(out, index, f._mm512_maskz_sub_ps(!(clamp[index] as u16), g, pull));
            },
        );
    }
}
