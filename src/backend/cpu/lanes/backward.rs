//! `cells_vjp`'s passes in vector form: the sums over free elements, and the gradient to the predictions.

use super::sort::{Chunk, Sorted, count, covers, total_sums};
use super::{
    LANES, LaneProblem, MAX_CELLS, STAGE, Table, chunk_range, for_chunks, mask, sum_bytes, sum_lanes, vectorised,
    with_cells,
};
#[cfg(target_arch = "x86_64")]
use super::{avx512, small::MAX_SMALL_CELLS};
use crate::reference::cells_prepare::CHUNK;
use crate::reference::cells_vjp::VjpSums;
use crate::storage::{Arithmetic, Storage};
use rayon::prelude::*;

/// `cells_vjp::sum` for this form, which counts the samples of each cell, too. False if a cell id is out of range.
pub(crate) fn sum<T: Storage>(
    problem: &LaneProblem<'_, T>,
    clamp: &[u32],
    g: &[T],
    sorted: &mut Sorted<T::Arithmetic>,
    sums: &mut VjpSums,
) -> bool {
    let n = problem.n();
    let chunks = sorted.chunks_mut(n);
    for_chunks(chunks, |index, chunk| {
        let (g, cells) = (&g[chunk_range(index, n)], problem.cells_of(index));
        let clamp = &clamp[index * (CHUNK / LANES)..];
        #[cfg(target_arch = "x86_64")]
        if let (pulp::Arch::V4(simd), true) = (problem.arch, avx512::holds::<T>() && problem.count <= MAX_SMALL_CELLS) {
            avx512::with_few_cells!(problem.count, C => {
                simd.vectorize(avx512::BackwardSums::<T, C> { simd, cells, clamp, g, chunk });
            });
            chunk.usable = covers(&chunk.counts[..problem.count], cells);
            return;
        }
        vectorised!(
            problem.arch,
            with_cells!(problem.count, C => {
                chunk.counts = count::<C>(cells);
                chunk_sums::<T, C>(cells, clamp, g, chunk);
            })
        );
        chunk.usable = covers(&chunk.counts[..problem.count], cells);
    });
    let inverse = 1.0 / n as f64;
    for c in 0..problem.count {
        let [gradient, free, ..] = total_sums(chunks, c);
        (sums.gradient[c], sums.free[c]) = (gradient, free * inverse);
    }
    chunks.iter().all(|chunk| chunk.usable)
}

/// Sums the gradients and counts the free elements of every cell.
#[inline(always)]
fn chunk_sums<T: Storage, const C: usize>(cells: &[u8], clamp: &[u32], g: &[T], out: &mut Chunk) {
    const WIDTH: usize = 64;
    let mut gradient = [[0.0_f64; LANES]; C];
    let mut free = [[0_u8; WIDTH]; C];
    let mut clamped = [0_u8; STAGE];
    let mut value = [T::Arithmetic::default(); STAGE];
    let words = clamp.chunks(STAGE / LANES);
    for ((g, cells), words) in g.chunks(STAGE).zip(cells.chunks(STAGE)).zip(words) {
        let n = g.len();
        unpack(words, &mut clamped);
        // A clamped element is in no cell.
        let id = &mut clamped;
        id[..n].iter_mut().zip(cells).for_each(|(id, cell)| *id |= cell);
        id[n..n.next_multiple_of(WIDTH)].fill(u8::MAX);
        let blocks = id[..n.next_multiple_of(WIDTH)].as_chunks::<WIDTH>().0;
        for c in 0..C {
            for block in blocks {
                for lane in 0..WIDTH {
                    free[c][lane] += u8::from(block[lane] == c as u8);
                }
            }
            value[n..n.next_multiple_of(LANES)].fill(T::Arithmetic::default());
            for ((value, g), id) in value[..n].iter_mut().zip(g).zip(&*id) {
                *value = g.widen().masked(mask(*id, c));
            }
            add(&value[..n.next_multiple_of(LANES)], &mut gradient[c]);
        }
    }
    for c in 0..C {
        out.sums[c] = [sum_lanes(gradient[c]), f64::from(sum_bytes(&free[c])), 0.0, 0.0];
    }
}

#[inline(always)]
fn add<A: Arithmetic>(values: &[A], lanes: &mut [f64; LANES]) {
    let mut sums = *lanes;
    for block in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            sums[lane] += block[lane].to_f64();
        }
    }
    *lanes = sums;
}

/// Bytes of all ones where a clamp word says that the element is clamped.
#[inline(always)]
pub(super) fn unpack(words: &[u32], bytes: &mut [u8; STAGE]) {
    for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<LANES>().0) {
        let bytes = bytes.as_chunks_mut::<8>().0;
        bytes[0] = unpack_byte(word & 0xff);
        bytes[1] = unpack_byte((word >> 8) & 0xff);
    }
}

/// The bits of a byte as bytes: all ones for a bit that is set.
#[inline(always)]
fn unpack_byte(bits: u32) -> [u8; 8] {
    let picked = (u64::from(bits) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    // A byte that is not zero carries into its highest bit.
    let top = (picked + 0x7f7f_7f7f_7f7f_7f7f) & 0x8080_8080_8080_8080;
    ((top >> 7) * 255).to_le_bytes()
}

/// `cells_vjp::write` for this form: the gradient to the predictions.
pub(crate) fn write<T: Storage>(problem: &LaneProblem<'_, T>, clamp: &[u32], g: &[T], pull: &[f64], out: &mut [T]) {
    let n = problem.n();
    let inverse = 1.0 / n as f64;
    let mut values = [T::Arithmetic::default(); MAX_CELLS];
    values.iter_mut().zip(pull).for_each(|(value, pull)| *value = T::Arithmetic::from_f64(pull * inverse));
    let of_chunk = |index: usize, out: &mut [T]| {
        let (g, cells) = (&g[chunk_range(index, n)], problem.cells_of(index));
        let clamp = &clamp[index * (CHUNK / LANES)..];
        #[cfg(target_arch = "x86_64")]
        if let (pulp::Arch::V4(simd), true) = (problem.arch, avx512::holds::<T>()) {
            let pull = values.map(|value| value.to_f64() as f32);
            return simd.vectorize(avx512::WriteGradient { simd, cells, clamp, g, pull, out });
        }
        vectorised!(
            problem.arch,
            with_cells!(problem.count, C => {
                let mut of_cells = [T::Arithmetic::default(); C];
                of_cells.copy_from_slice(&values[..C]);
                write_chunk::<T, C>(cells, clamp, g, &Table::new(of_cells), out);
            })
        );
    };
    if super::is_large(n) {
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(index, out)| of_chunk(index, out));
    } else {
        out.chunks_mut(CHUNK).enumerate().for_each(|(index, out)| of_chunk(index, out));
    }
}

#[inline(always)]
fn write_chunk<T: Storage, const C: usize>(
    cells: &[u8],
    clamp: &[u32],
    g: &[T],
    table: &Table<T::Arithmetic, C>,
    out: &mut [T],
) {
    let mut clamped = [0_u8; STAGE];
    let words = clamp.chunks(STAGE / LANES);
    for (((g, cells), out), words) in g.chunks(STAGE).zip(cells.chunks(STAGE)).zip(out.chunks_mut(STAGE)).zip(words) {
        unpack(words, &mut clamped);
        let n = g.len();
        let (cells, clamped, out) = (&cells[..n], &clamped[..n], &mut out[..n]);
        for i in 0..n {
            // Sign extension turns eight ones into 32.
            let free = !(clamped[i].cast_signed() as i32 as u32);
            out[i] = T::narrow((g[i].widen() - table.of(cells[i])).masked(free));
        }
    }
}
