//! Which kernel and team a problem is given to: the number of its elements, nothing else, chooses.

use std::ops::Range;

use super::kernels::{Kernel, LARGEST, Team, teams};
use crate::batch::Offsets;
use crate::storage::Dtype;

/// A kernel with a team, for problems of up to so many elements; of several blocks each, or of one at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) kernel: Kernel,
    pub(super) team: Team,
    pub(super) room: usize,
    pub(super) several: bool,
}

impl Way {
    /// The blocks of a problem, where there are at most so many.
    pub(super) fn blocks(&self, n: usize, most: u32) -> u32 {
        if self.several { (n.div_ceil(self.team.room()) as u32).clamp(1, most) } else { 1 }
    }
}

/// The ways of a short cut from small problems to large ones, of so many cells, up to what is needed; `resident` says how many
/// blocks of a team can be there at once.
pub(super) fn of_short_cut<E>(
    kernel: Kernel,
    dtype: Dtype,
    cells: u32,
    needed: usize,
    resident: impl Fn(Team) -> Result<u32, E>,
) -> Result<Vec<Way>, E> {
    let mut ways: Vec<Way> = Vec::new();
    for &team in teams(kernel, dtype).iter().filter(|team| kernel.is_for(**team, cells)) {
        if ways.last().is_some_and(|way| way.room >= needed) {
            break;
        }
        let blocks = if team.several { resident(team)? as usize } else { 1 };
        ways.push(Way { kernel, team, room: team.room() * blocks, several: team.several });
    }
    Ok(ways)
}

/// The ways of a kernel for any rows, for problems above so many elements, by teams that the device's shared memory is enough
/// for. (For the smallest it always is.) Of rows over samples a problem has one block, however large it is.
pub(super) fn of_any_rows(kernel: Kernel, dtype: Dtype, above: usize, fits: impl Fn(Team) -> bool) -> Vec<Way> {
    let teams = teams(kernel, dtype).iter().enumerate().filter(|&(index, team)| index == 0 || fits(*team));
    let mut ways: Vec<Way> = teams.map(|(_, &team)| Way { kernel, team, room: team.room(), several: false }).collect();
    match ways.last_mut() {
        Some(last) if kernel.is_of_samples() => last.room = LARGEST,
        Some(&mut last) => ways.push(Way { room: LARGEST, several: true, ..last }),
        None => {}
    }
    ways.retain(|way| way.room > above);
    ways
}

/// The way of a problem of `n` elements, the first that has room for it; the last has room for all that plans take.
pub(super) fn way_of(ways: &[Way], n: usize) -> Way {
    *ways.iter().find(|way| n <= way.room).unwrap_or(&ways[ways.len() - 1])
}

/// The problems of a way, where they are listed, and the size of the largest.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) way: Way,
    pub(super) listed: Range<usize>,
    pub(super) largest: usize,
}

/// Puts problems into classes and lists those of a class one after the other; problems of one size need no list.
pub(super) fn classify(ways: &[Way], offsets: &Offsets<'_>, classes: &mut Vec<Class>, listed: &mut Vec<u32>) {
    let problems = offsets.problems();
    classes.clear();
    listed.clear();
    let size = |problem: usize| offsets.range(problem).len();
    match *offsets {
        Offsets::Equal { .. } if problems == 0 => {}
        Offsets::Equal { n, .. } => {
            let way = way_of(ways, n);
            classes.push(Class { way, listed: 0..problems, largest: n });
        }
        Offsets::Ragged(_) => {
            for &way in ways {
                let first = listed.len();
                let fits = |problem: &usize| way_of(ways, size(*problem)) == way;
                listed.extend((0..problems).filter(fits).map(|problem| problem as u32));
                if let Some(largest) = listed[first..].iter().map(|problem| size(*problem as usize)).max() {
                    classes.push(Class { way, listed: first..listed.len(), largest });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::kernels::{SetSize, Variant};

    #[test]
    fn the_smallest_team_fits_into_every_gpu() {
        // What a block can have with compute capability 8.6 and 8.9, the least.
        const LEAST: u32 = 99 << 10;
        for (spreads, parts, dense) in [(16, 16, 0), (16, 1, 0), (1, 1, 0), (0, 32, 0), (0, 1, 32), (8, 1, 16)] {
            let size = SetSize { cells: 32, rows: 32, spreads, parts, dense };
            for kernel in
                [Kernel::CellsNewton, Kernel::CellsVjp, Kernel::DenseNewton, Kernel::DenseVjp, Kernel::DenseAdmm]
            {
                let bytes = |team| Variant { kernel, dtype: Dtype::F64, team }.shared_bytes(size);
                assert!(bytes(teams(kernel, Dtype::F64)[0]) <= LEAST, "{kernel:?}, {size:?}");
                let ways = of_any_rows(kernel, Dtype::F64, 0, |team| bytes(team) <= LEAST);
                assert!(ways.iter().all(|way| bytes(way.team) <= LEAST && way.several <= !kernel.is_of_samples()));
                assert_eq!(ways.last().map(|way| way.room), Some(LARGEST));
            }
        }
    }
}
