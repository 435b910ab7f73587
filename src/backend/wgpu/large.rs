//! Problems over cells that are too large for one workgroup: how they are cut into tiles, and their chain of dispatches.
//!
//! A pass over such a problem is a dispatch of all its tiles, whose sums meet in a record of the problem, and a step of the
//! Newton machine, which asks for the next pass. The chain is fixed, and nothing waits for it: once no problem asks, all
//! further dispatches have no workgroups.

use super::WgpuDevice;
use super::dispatch::columns;
use super::memory::Memory;
use super::shaders::{Kernel, Variant};
use super::sizes::{Class, STEPS, TILES};
use super::slabs::Slab;
use crate::batch::Offsets;
use crate::error::Result;
use crate::params::{LARGE_RECORD, MAX_GPU_CELLS, Params};
use crate::solution::CLAMP_LANES;

/// From what size on a problem is cut, and into what. The number of elements, and nothing else, chooses; and how it is cut
/// makes no difference to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Problems of more elements are cut.
    pub(super) above: usize,
    /// Elements of a tile of the smallest of them: a power of two (so that tiles end with words of clamp states, and with rows
    /// of lanes where they have more than one), and no more than [`MOST_IN_TILE`].
    tile: usize,
    /// The passes of a chain, and one for problems that end without an answer: by how much they exceed their rows.
    links: u32,
}

/// Tiles of the largest problem: the sums of more might overflow.
const MOST_TILES: usize = 1024;
/// Elements of the largest tile: as many coarse sums fit a word.
pub(super) const MOST_IN_TILE: usize = 16_384;

impl Default for Tiling {
    fn default() -> Self {
        // (Of 4,377 random problems of the hardest kinds one needed more than 80 passes: 279.)
        Self { above: 32_768, tile: 4096, links: 256 }
    }
}

impl Tiling {
    pub(super) fn new(above: usize, tile: usize, links: u32) -> Self {
        let tile = tile.clamp(CLAMP_LANES, MOST_IN_TILE).next_power_of_two();
        Self { above: above.max(TILES.room as usize), tile, links: links.max(1) }
    }

    pub(super) fn is_large(self, n: usize) -> bool {
        n > self.above
    }

    /// The elements of a tile of a problem of `n`: small ones keep more of a GPU busy.
    fn tile_of(self, n: usize) -> usize {
        self.tile.max(n.div_ceil(MOST_TILES).next_power_of_two())
    }
}

/// The elements of the largest problem.
pub(super) const MOST_ELEMENTS: usize = MOST_TILES * MOST_IN_TILE;

/// Words of the counts of a link: the workgroups of a dispatch over tiles, and those of one over problems.
pub(super) const COUNTS: u64 = 8;

/// The large problems of a slab, and where their lists are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Large {
    problems: u32,
    problems_at: u32,
    tiles: u32,
    tiles_at: u32,
    links: u32,
}

impl Large {
    /// Appends the lists of a slab's large problems, and of their tiles: the problem, its number among them, and from and up
    /// to but without which element.
    pub(super) fn push(tiling: Tiling, offsets: &Offsets<'_>, slab: &Slab, words: &mut Vec<u32>) -> Self {
        let large = slab.problems.clone().filter(|&problem| tiling.is_large(offsets.range(problem).len()));
        let own = |problem: usize| (problem - slab.problems.start) as u32;
        let mut of = Self { problems_at: words.len() as u32, links: tiling.links, ..Self::default() };
        for problem in large.clone() {
            words.extend([own(problem), of.problems, 0, offsets.range(problem).len() as u32]);
            of.problems += 1;
        }
        of.tiles_at = words.len() as u32;
        for (number, problem) in (0..).zip(large) {
            let n = offsets.range(problem).len();
            let tile = tiling.tile_of(n);
            for first in (0..n).step_by(tile) {
                words.extend([own(problem), number, first as u32, n.min(first + tile) as u32]);
                of.tiles += 1;
            }
        }
        of
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems == 0
    }

    /// Words of the records, and of the ends of the tiles' cells.
    fn words(&self) -> usize {
        LARGE_RECORD * self.problems as usize + MAX_GPU_CELLS * self.tiles as usize
    }
}

/// The device memory of the large problems of a slab.
#[derive(Debug, Default)]
pub(super) struct LargeMemory {
    records: Memory,
    /// The counts of every second link, by turns.
    counts: [Memory; 2],
}

impl LargeMemory {
    /// The records, cleared for a call.
    pub(super) fn begin(
        &mut self,
        device: &WgpuDevice,
        large: &Large,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<wgpu::Buffer> {
        let records = self.records.hold(device, 4 * large.words())?;
        if !large.is_empty() {
            encoder.clear_buffer(records, 0, None);
        }
        Ok(records.clone())
    }

    /// The counts of all links, cleared for a projection.
    pub(super) fn begin_chain(
        &mut self,
        device: &WgpuDevice,
        large: &Large,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<[wgpu::Buffer; 2]> {
        let links = if large.is_empty() { 0 } else { large.links as usize };
        let bytes = 4 * COUNTS as usize * (links / 2 + 1);
        for counts in &mut self.counts {
            encoder.clear_buffer(counts.hold_counts(device, bytes)?, 0, None);
        }
        let [even, odd] = &mut self.counts;
        Ok([even.handle(device)?, odd.handle(device)?])
    }
}

/// A dispatch over the tiles of large problems, or over the problems.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargeDispatch {
    variant: Variant,
    over_tiles: bool,
    /// 0 where a chain begins.
    link: u32,
    params: u32,
}

/// Parts of the kernels for large problems, as the shaders number them.
const BEGINS: u32 = 0;
const SUMS: u32 = 1;
const ENDS: u32 = 2;

impl LargeDispatch {
    fn new(variant: &impl Fn(Kernel, Class) -> Variant, kernel: Kernel, over_tiles: bool, part: u32) -> Self {
        let class = if over_tiles { TILES } else { STEPS };
        Self { variant: Variant { part, ..variant(kernel, class) }, over_tiles, link: 0, params: 0 }
    }

    /// What `cells_prepare` is of large problems.
    pub(super) fn prepare(variant: &impl Fn(Kernel, Class) -> Variant) -> Vec<Self> {
        let part = |over_tiles, part| Self::new(variant, Kernel::LargePrepare, over_tiles, part);
        let begins = part(true, BEGINS);
        // (Counts alone need no further look.)
        let sums = begins.variant.weighted || begins.variant.labelled || begins.variant.bounded;
        let mut parts = vec![begins];
        parts.extend(sums.then(|| part(true, SUMS)));
        parts.push(part(false, ENDS));
        parts
    }

    /// What `cells_vjp` is.
    pub(super) fn backward(variant: &impl Fn(Kernel, Class) -> Variant, is_disjoint: bool) -> [Self; 4] {
        let solve = if is_disjoint { Kernel::LargeSolveDisjoint } else { Kernel::LargeSolveRows };
        let part = |part| Self::new(variant, Kernel::LargeVjp, true, part);
        [part(BEGINS), part(SUMS), Self::new(variant, solve, false, 0), part(ENDS)]
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.variant.kernel
    }

    /// The parameters of this dispatch; they will begin at `at`.
    pub(super) fn params(&mut self, device: &WgpuDevice, large: &Large, all: &Params, at: usize) -> Params {
        self.params = at as u32;
        let (count, list_at) =
            if self.over_tiles { (large.tiles, large.tiles_at) } else { (large.problems, large.problems_at) };
        Params {
            count,
            columns: columns(device, count as usize),
            list_at,
            link: self.link,
            tiles: large.tiles,
            larges: large.problems,
            large_links: large.links,
            ..*all
        }
    }

    pub(super) fn encode(
        &self,
        device: &WgpuDevice,
        pass: &mut wgpu::ComputePass<'_>,
        group: &wgpu::BindGroup,
        large: &Large,
    ) {
        let count = if self.over_tiles { large.tiles } else { large.problems };
        let columns = columns(device, count as usize);
        pass.set_pipeline(&device.pipeline(self.variant));
        pass.set_bind_group(0, group, &[self.params]);
        pass.dispatch_workgroups(columns, count.div_ceil(columns), 1);
    }
}

/// What `cells_newton` is of large problems: the tiles are sorted, the machine begins; pass and step, as often as any problem
/// asks; and the tiles are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargeChain {
    pub(super) sorts: LargeDispatch,
    pub(super) begins: LargeDispatch,
    pub(super) sums: LargeDispatch,
    pub(super) goes_on: LargeDispatch,
    pub(super) writes: LargeDispatch,
}

impl LargeChain {
    pub(super) fn new(variant: &impl Fn(Kernel, Class) -> Variant) -> Self {
        let tiles = |part| LargeDispatch::new(variant, Kernel::LargePass, true, part);
        let begins = LargeDispatch::new(variant, Kernel::LargeStep, false, 0);
        Self {
            sorts: tiles(BEGINS),
            begins,
            sums: tiles(SUMS),
            goes_on: LargeDispatch { link: 1, ..begins },
            writes: tiles(ENDS),
        }
    }

    pub(super) fn dispatches(&mut self) -> [&mut LargeDispatch; 5] {
        let Self { sorts, begins, sums, goes_on, writes } = self;
        [sorts, begins, sums, goes_on, writes]
    }

    /// Encodes it. `steps`: the bind groups of steps that set the counts of even links, and of odd ones.
    pub(super) fn encode(
        &self,
        device: &WgpuDevice,
        pass: &mut wgpu::ComputePass<'_>,
        (tiles, steps): (&wgpu::BindGroup, &[wgpu::BindGroup; 2]),
        counts: &[wgpu::Buffer; 2],
        large: &Large,
    ) {
        self.sorts.encode(device, pass, tiles, large);
        self.begins.encode(device, pass, &steps[1], large);
        let [sums, goes_on] = [&self.sums, &self.goes_on].map(|dispatch| device.pipeline(dispatch.variant));
        for link in 1..=large.links {
            let this = &counts[link as usize % 2];
            let at = 4 * COUNTS * u64::from(link / 2);
            pass.set_pipeline(&sums);
            pass.set_bind_group(0, tiles, &[self.sums.params]);
            pass.dispatch_workgroups_indirect(this, at);
            pass.set_pipeline(&goes_on);
            pass.set_bind_group(0, &steps[(link as usize + 1) % 2], &[self.goes_on.params]);
            pass.dispatch_workgroups_indirect(this, at + 16);
        }
        self.writes.encode(device, pass, tiles, large);
    }
}
