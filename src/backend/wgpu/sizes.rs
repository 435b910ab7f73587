//! The sizes of workgroups, and of the problems that each is for.

use crate::constraints::ConstraintSet;
use crate::params::MAX_GPU_CELLS;

/// Workgroup memory that problems may share: half of what there is, so that a GPU holds several workgroups at once; and all
/// that an emulation has.
pub(crate) const GPU_BYTES: u32 = 16384;
const EMULATED_BYTES: u32 = 32768;
/// Words of it that `cells_disjoint`, and the backward pass of the same, take for a slot of a team at the most, and for what
/// is no slot's; and `cells_prepare`.
const SLOT_WORDS: u32 = 58;
const PREPARE_SLOT_WORDS: u32 = 18;
const TEAM_WORDS: u32 = 64;

/// A workgroup: how many lanes it has, how many of them share a problem, and what a problem may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    pub(crate) lanes: u32,
    /// Lanes that have a problem together.
    pub(crate) team: u32,
    /// The cells and rows that there is room for.
    slots: u32,
    /// Elements that there is room for; a larger problem's lie in global memory.
    pub(crate) room: u32,
}

impl Class {
    /// A workgroup for a problem.
    pub(crate) const fn whole(lanes: u32, room: u32) -> Self {
        Self { lanes, team: lanes, slots: MAX_GPU_CELLS as u32, room }
    }

    /// The same for as many problems at once as there is so much memory for, which each of them takes `words` of; or with
    /// more lanes each, where the workgroup has `least` lanes in any case.
    fn divided(self, team: u32, least: u32, words: u32, memory: u32) -> Self {
        let mut teams = self.lanes / team;
        while teams > 1 && teams * words > memory {
            teams /= 2;
        }
        let lanes = least.max(team * teams);
        Self { lanes, team: lanes / teams, ..self }
    }

    pub(crate) fn teams(self) -> u32 {
        self.lanes / self.team
    }

    /// Whether its teams have the lanes of a subgroup, or nearly so.
    pub(crate) fn fills_subgroups(self) -> bool {
        self.team >= 32
    }

    /// The constants of shaders that this is told by.
    pub(crate) fn constants(self) -> [(&'static str, f64); 4] {
        let Self { lanes, team, slots, room } = self;
        [("LANES", lanes), ("TEAM", team), ("SLOTS", slots), ("CAPACITY", room)].map(|(name, x)| (name, f64::from(x)))
    }
}

/// The workgroups of a plan. Sums over cells are integers, so their bits do not depend on the lanes.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// Of `cells_disjoint`, from small problems to large ones; larger ones are left to `cells_newton`. The number of
    /// elements, and nothing else, chooses.
    pub(crate) disjoint: Vec<Class>,
    /// Of `cells_prepare`, for the same problems.
    preparing: Vec<Class>,
    /// Of `cells_newton`, for problems of any size, with a lane for every row and cell; and of `dense_newton`.
    pub(crate) newton: Class,
    /// Of kernels that hold no elements, where problems do not share a workgroup.
    pub(crate) streaming: Class,
}

impl Sizes {
    pub(crate) fn new(of_gpu: bool, set: &ConstraintSet, largest: usize) -> Self {
        // (Two sizes, so that there are few variants to compile.)
        let is_narrow = set.rows().max(set.layout().cells()) <= 8;
        let slots = if is_narrow { 8 } else { MAX_GPU_CELLS as u32 };
        let small = |(lanes, least): (u32, u32), team: u32, room: u32, memory: u32| {
            let whole = Class::whole(lanes, room);
            let words = room + SLOT_WORDS * slots + TEAM_WORDS;
            let words_of_prepare = PREPARE_SLOT_WORDS * whole.slots + TEAM_WORDS;
            let disjoint = Class { slots, ..whole }.divided(team, least, words, memory);
            (disjoint, whole.divided(team, least, words_of_prepare, memory))
        };
        let has_dense = !set.dense().is_empty();
        let (classes, newton, streaming) = if of_gpu {
            // A problem has a lane for every 8 elements or so; workgroups fill whole subgroups of 32 or 64 lanes.
            let streaming = Class::whole(64, 0);
            let small = [small((64, 32), 8, 64, GPU_BYTES / 4), small((128, 32), 32, 256, GPU_BYTES / 4)];
            (small.to_vec(), 64, streaming)
        } else {
            // A CPU goes through a workgroup in vectors of some 8 lanes, one after the other from barrier to barrier: one
            // vector has no barriers to wait at, and each of its lanes can have its own problem. (In long loops that is too
            // many rounds: see `EMULATED_ROUNDS`.)
            let (newton, streaming) = match largest {
                _ if has_dense => (64, 64),
                0..=4096 => (if is_narrow { 8 } else { 32 }, 8),
                _ => (32, 64),
            };
            (vec![small((8, 8), 1, 256, EMULATED_BYTES / 4)], newton, Class::whole(streaming, 0))
        };
        let middle = Class::whole(if of_gpu { 256 } else { 32 }, 2048);
        let (mut disjoint, mut preparing): (Vec<_>, Vec<_>) = classes.into_iter().unzip();
        disjoint.push(middle);
        preparing.push(streaming);
        Self { disjoint, preparing, newton: Class::whole(newton, 1024), streaming }
    }

    /// Of `disjoint_brackets`, for all problems of `cells_disjoint`.
    pub(crate) fn brackets(&self) -> Class {
        self.disjoint[self.disjoint.len() - 1]
    }

    /// The index of the class of `cells_disjoint` for problems of `n` elements; one past the last for what is too large.
    pub(crate) fn class_of(&self, n: usize) -> usize {
        self.disjoint.iter().position(|class| n <= class.room as usize).unwrap_or(self.disjoint.len())
    }

    /// Of `cells_prepare`, for problems of that class.
    pub(crate) fn preparing(&self, class: usize) -> Class {
        self.preparing.get(class).copied().unwrap_or(self.streaming)
    }

    /// Of the backward pass by the short cut's closed form.
    pub(crate) fn backward(&self, class: usize) -> Class {
        self.disjoint.get(class).copied().filter(|class| class.teams() > 1).unwrap_or(self.streaming)
    }
}

/// Of the kernels over tiles of large problems, and of those over such problems.
pub(crate) const TILES: Class = Class::whole(256, 1);
pub(crate) const STEPS: Class = Class::whole(64, 0);
