//! The passes over two cells with AVX-512: a sum for each, added to under masks.

use super::super::LANES;
use super::super::avx512::{
    Sums, clamp_states, clamp_word, end_words, for_wide_blocks, halves, lanes_of, map_wide_blocks, narrowed, widened,
};
use super::super::sort::Chunk;
use super::{OfChunk, ROUGH_STAGE, of_both};
use crate::reference::cells_newton::split_shift;
use crate::reference::newton::NewtonTask;
use crate::reference::pair::{Grade, Pair, Rough};
use crate::solution::Outcome;
use crate::storage::Storage;
use core::arch::x86_64::{__m512, _CMP_EQ_OQ};
use pulp::NullaryFnOnce;
use pulp::x86::V4;

/// See [`OfChunk::look`].
pub(super) fn look<T: Storage>(simd: V4, of_chunk: OfChunk<'_, T>, chunk: &mut Chunk) -> bool {
    match of_chunk.is_signed() {
        true => simd.vectorize(Look::<T, true> { simd, of_chunk, chunk }),
        false => simd.vectorize(Look::<T, false> { simd, of_chunk, chunk }),
    }
}

/// See [`OfChunk::pass`].
pub(super) fn pass<T: Storage>(
    simd: V4,
    of_chunk: OfChunk<'_, T>,
    grade: Grade,
    shift: [f64; 2],
    chunk: &mut Chunk,
    (y, clamp): (&mut [T], &mut [u32]),
) {
    match of_chunk.is_signed() {
        true => simd.vectorize(Pass::<T, true> { simd, of_chunk, grade, shift, chunk, y, clamp }),
        false => simd.vectorize(Pass::<T, false> { simd, of_chunk, grade, shift, chunk, y, clamp }),
    }
}

/// See [`solve`](super::solve). The whole loop is compiled for these vectors.
pub(super) fn solve<T: Storage>(
    simd: V4,
    of_chunk: OfChunk<'_, T>,
    task: (&NewtonTask, &Pair, Rough),
    first: [[f64; 3]; 2],
    chunk: &mut Chunk,
    (y, clamp, outcome): (&mut [T], &mut [u32], &mut Outcome),
) -> Result<[f64; 2], u32> {
    match of_chunk.is_signed() {
        true => simd.vectorize(Solve::<T, true> { simd, of_chunk, task, first, chunk, y, clamp, outcome }),
        false => simd.vectorize(Solve::<T, false> { simd, of_chunk, task, first, chunk, y, clamp, outcome }),
    }
}

struct Look<'a, T, const SIGNED: bool> {
    simd: V4,
    of_chunk: OfChunk<'a, T>,
    chunk: &'a mut Chunk,
}

impl<T: Storage, const SIGNED: bool> NullaryFnOnce for Look<'_, T, SIGNED> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        sum_roughly::<T, SIGNED, true>(self.simd, &self.of_chunk, [0.0; 2], self.chunk)
    }
}

struct Pass<'a, T, const SIGNED: bool> {
    simd: V4,
    of_chunk: OfChunk<'a, T>,
    grade: Grade,
    shift: [f64; 2],
    chunk: &'a mut Chunk,
    y: &'a mut [T],
    clamp: &'a mut [u32],
}

impl<T: Storage, const SIGNED: bool> NullaryFnOnce for Pass<'_, T, SIGNED> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, of_chunk, grade, shift, chunk, y, clamp } = self;
        match grade {
            Grade::Rough => {
                sum_roughly::<T, SIGNED, false>(simd, &of_chunk, shift, chunk);
            }
            Grade::Exact => write_and_sum::<T, SIGNED>(simd, &of_chunk, shift, chunk, (y, clamp)),
        }
    }
}

struct Solve<'a, T, const SIGNED: bool> {
    simd: V4,
    of_chunk: OfChunk<'a, T>,
    task: (&'a NewtonTask, &'a Pair, Rough),
    first: [[f64; 3]; 2],
    chunk: &'a mut Chunk,
    y: &'a mut [T],
    clamp: &'a mut [u32],
    outcome: &'a mut Outcome,
}

impl<T: Storage, const SIGNED: bool> NullaryFnOnce for Solve<'_, T, SIGNED> {
    type Output = Result<[f64; 2], u32>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { simd, of_chunk, task: (task, pair, rough), first, chunk, y, clamp, outcome } = self;
        pair.solve(
            task,
            rough,
            first,
            #[inline(always)]
            |grade, shift| {
                Pass::<T, SIGNED> { simd, of_chunk, grade, shift, chunk, y, clamp }.call();
                of_both(std::slice::from_ref(chunk))
            },
            outcome,
        )
    }
}

/// A number for each of the two cells: a choice is faster than the look-up that more need.
#[derive(Clone, Copy)]
struct Two(__m512, __m512);

impl Two {
    #[inline(always)]
    fn new(simd: V4, first: f32, second: f32) -> Self {
        Self(simd.avx512f._mm512_set1_ps(first), simd.avx512f._mm512_set1_ps(second))
    }

    #[inline(always)]
    fn of(self, simd: V4, is_second: u16) -> __m512 {
        simd.avx512f._mm512_mask_blend_ps(is_second, self.0, self.1)
    }
}

/// Bounds in all lanes.
#[inline(always)]
fn splat<T: Storage>(simd: V4, (lo, hi): (T, T)) -> (__m512, __m512) {
    let splat = |bound: T| simd.avx512f._mm512_set1_ps(bound.to_f64() as f32);
    (splat(lo), splat(hi))
}

/// Sums in `f32`, which are added up now and then. If it is to `LOOK`, counts the samples of each cell, too; false if a
/// prediction is not finite then.
#[inline(always)]
fn sum_roughly<T: Storage, const SIGNED: bool, const LOOK: bool>(
    simd: V4,
    of_chunk: &OfChunk<'_, T>,
    shift: [f64; 2],
    chunk: &mut Chunk,
) -> bool {
    let f = simd.avx512f;
    let (lo, hi) = splat(simd, of_chunk.bounds);
    let [first, second] = shift.map(|shift| split_shift::<f32>(shift).0);
    let shift = Two::new(simd, first, second);
    let zero = f._mm512_setzero_ps();
    let (mut sums, mut sizes) = (Sums::<2>::new(simd), Sums::<2>::new(simd));
    let (mut counts, mut free) = ([0; 2], [0; 2]);
    // Stays 0 if all are finite: else one is multiplied by 0 into NaN.
    let mut finite = zero;
    for (z, cells) in of_chunk.z.chunks(ROUGH_STAGE).zip(of_chunk.cells.chunks(ROUGH_STAGE)) {
        let (mut y, mut size) = ([zero; 2], [zero; 2]);
        for_wide_blocks(
            simd,
            (z, cells),
            std::iter::repeat(()),
            #[inline(always)]
            |z, bits: [u64; 2], ()| {
                let mut is_free = 0;
                for (register, z) in z.iter().enumerate() {
                    let z = widened(z);
                    let here = bits.map(|bits| lanes_of(bits, register));
                    let t = if LOOK { z } else { f._mm512_sub_ps(z, shift.of(simd, here[1])) };
                    let clipped = f._mm512_min_ps(hi, f._mm512_max_ps(lo, t));
                    for c in 0..2 {
                        y[c] = f._mm512_mask_add_ps(y[c], here[c], y[c], clipped);
                        if SIGNED {
                            size[c] = f._mm512_mask_add_ps(size[c], here[c], size[c], f._mm512_abs_ps(clipped));
                        }
                    }
                    is_free |= u64::from(f._mm512_cmp_ps_mask::<_CMP_EQ_OQ>(t, clipped)) << (register * LANES);
                    if LOOK {
                        finite = f._mm512_fmadd_ps(z, zero, finite);
                    }
                }
                for c in 0..2 {
                    free[c] += (bits[c] & is_free).count_ones();
                    if LOOK {
                        counts[c] += bits[c].count_ones();
                    }
                }
            },
        );
        for c in 0..2 {
            sums.add(simd, c, u16::MAX, halves(simd, y[c]));
            if SIGNED {
                sizes.add(simd, c, u16::MAX, halves(simd, size[c]));
            }
        }
    }
    if LOOK {
        chunk.set_counts(&counts);
    }
    set_sums::<SIGNED>(simd, chunk, (&sums, &sizes, free));
    f._mm512_cmp_ps_mask::<_CMP_EQ_OQ>(finite, zero) == u16::MAX
}

/// Writes, and sums what is written.
#[inline(always)]
fn write_and_sum<T: Storage, const SIGNED: bool>(
    simd: V4,
    of_chunk: &OfChunk<'_, T>,
    shift: [f64; 2],
    chunk: &mut Chunk,
    (y, clamp): (&mut [T], &mut [u32]),
) {
    let f = simd.avx512f;
    let (lo, hi) = splat(simd, of_chunk.bounds);
    let [first, second] = shift.map(split_shift::<f32>);
    let (shift, rest) = (Two::new(simd, first.0, second.0), Two::new(simd, first.1, second.1));
    let (mut sums, mut sizes) = (Sums::<2>::new(simd), Sums::<2>::new(simd));
    let mut free = [0; 2];
    map_wide_blocks(
        simd,
        (of_chunk.z, of_chunk.cells),
        (&mut *clamp, y),
        #[inline(always)]
        |z, bits: [u64; 2], words, out| {
            let mut clamped = 0;
            for (register, ((z, word), out)) in z.iter().zip(words).zip(out).enumerate() {
                let here = bits.map(|bits| lanes_of(bits, register));
                let t = f._mm512_sub_ps(widened(z), shift.of(simd, here[1]));
                let t = f._mm512_sub_ps(t, rest.of(simd, here[1]));
                let clipped = f._mm512_min_ps(hi, f._mm512_max_ps(lo, t));
                *out = narrowed(clipped);
                let states = clamp_states(simd, t, clipped, hi);
                *word = clamp_word(states);
                clamped |= u64::from(states.0) << (register * LANES);
                let y = halves(simd, widened(out));
                for c in 0..2 {
                    sums.add(simd, c, here[c], y);
                    if SIGNED {
                        sizes.add(simd, c, here[c], y.map(|y| f._mm512_abs_pd(y)));
                    }
                }
            }
            free.iter_mut().zip(bits).for_each(|(free, bits)| *free += (bits & !clamped).count_ones());
        },
    );
    end_words(clamp, of_chunk.z.len());
    set_sums::<SIGNED>(simd, chunk, (&sums, &sizes, free));
}

#[inline(always)]
fn set_sums<const SIGNED: bool>(simd: V4, chunk: &mut Chunk, (sums, sizes, free): (&Sums<2>, &Sums<2>, [u32; 2])) {
    for c in 0..2 {
        let y = sums.total(simd, c);
        let size = if SIGNED { sizes.total(simd, c) } else { y };
        chunk.sums[c] = [y, size, f64::from(free[c]), 0.0];
    }
}
