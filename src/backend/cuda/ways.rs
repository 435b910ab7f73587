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

/// The ways of a short cut from small problems to large ones, up to what is needed; `resident` says how many blocks of a
/// team can be there at once.
pub(super) fn of_short_cut<E>(
    kernel: Kernel,
    dtype: Dtype,
    needed: usize,
    resident: impl Fn(Team) -> Result<u32, E>,
) -> Result<Vec<Way>, E> {
    let mut ways: Vec<Way> = Vec::new();
    for &team in teams(kernel, dtype) {
        if ways.last().is_some_and(|way| way.room >= needed) {
            break;
        }
        let blocks = if team.several { resident(team)? as usize } else { 1 };
        ways.push(Way { kernel, team, room: team.room() * blocks, several: team.several });
    }
    Ok(ways)
}

/// The ways of a kernel for any rows, for problems above so many elements.
pub(super) fn of_any_rows(kernel: Kernel, dtype: Dtype, above: usize) -> impl Iterator<Item = Way> {
    let teams = teams(kernel, dtype);
    let whole = teams.iter().map(move |&team| Way { kernel, team, room: team.room(), several: false });
    let last = teams.last().map(|&team| Way { kernel, team, room: LARGEST, several: true });
    whole.chain(last).filter(move |way| way.room > above)
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

/// Puts problems into classes and lists those of a class one after the other; problems of one size that have a block at the
/// most each need no list.
pub(super) fn classify(ways: &[Way], offsets: &Offsets<'_>, classes: &mut Vec<Class>, listed: &mut Vec<u32>) {
    let problems = offsets.problems();
    classes.clear();
    listed.clear();
    let size = |problem: usize| offsets.range(problem).len();
    match *offsets {
        Offsets::Equal { .. } if problems == 0 => {}
        Offsets::Equal { n, .. } => {
            let way = way_of(ways, n);
            if way.several {
                listed.extend(0..problems as u32);
            }
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

/// The classes of a kernel for any rows, by its ways, for what the short cuts leave of theirs. Neighbours with the same way
/// are one.
pub(super) fn taking_over<'a>(
    classes: impl Iterator<Item = &'a Class>,
    ways: &'a [Way],
) -> impl Iterator<Item = Class> {
    // (Of a class with several blocks a problem all are large.)
    let way = |class: &Class| way_of(ways, if class.way.several { LARGEST } else { class.way.room });
    let mut rest = classes.map(move |class| Class { way: way(class), ..class.clone() }).peekable();
    std::iter::from_fn(move || {
        let mut all = rest.next()?;
        while let Some(next) = rest.next_if(|next| next.way == all.way) {
            all.listed.end = next.listed.end;
            all.largest = all.largest.max(next.largest);
        }
        Some(all)
    })
}
