//! The kernels' texts, their variants, and which of them a problem gets.

use crate::storage::Dtype;

/// A file of `kernels/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!(concat!("../../../kernels/", $name)) }
    };
}

/// What the files with kernels include.
pub const HEADERS: [Source; 4] =
    [source!("common.cuh"), source!("storage.cuh"), source!("team.cuh"), source!("pair.cuh")];

/// The files with kernels.
pub const SOURCES: [Source; 2] = [source!("cells_pair.cu"), source!("vjp_pair.cu")];

/// What a launch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    CellsPair,
    VjpPair,
}

impl Kernel {
    fn entry(self) -> &'static str {
        match self {
            Self::CellsPair => "cells_pair",
            Self::VjpPair => "vjp_pair",
        }
    }

    pub(crate) fn source(self) -> Source {
        match self {
            Self::CellsPair => SOURCES[0],
            Self::VjpPair => SOURCES[1],
        }
    }
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub(crate) kernel: Kernel,
    pub(crate) dtype: Dtype,
    /// Threads of a problem.
    pub(crate) lanes: u32,
}

/// Elements that a thread holds: `VALUES` of `kernels/pair.cuh`.
const VALUES: usize = 16;
/// `MOST_SUMS` of `kernels/team.cuh`.
const MOST_SUMS: u32 = 4;
const WARP: u32 = 32;

/// The threads that problems can have: the smallest team that holds a problem has it.
pub(crate) const TEAMS: [u32; 6] = [4, 16, 32, 64, 128, 512];

/// The index of the team of a problem of `n` elements; `None` if it is too large for any. The number of elements, and nothing
/// else, chooses.
pub(crate) fn team_of(n: usize) -> Option<usize> {
    TEAMS.iter().position(|&lanes| n <= lanes as usize * VALUES)
}

/// The elements of the largest problem that a team holds.
pub(crate) const LARGEST: usize = TEAMS[TEAMS.len() - 1] as usize * VALUES;

impl Variant {
    /// The kernel's name with what it is compiled for, in C++.
    pub(crate) fn expression(self) -> String {
        let storage = match self.dtype {
            Dtype::F16 => "Half",
            Dtype::Bf16 => "Bfloat",
            Dtype::F32 => "float",
            Dtype::F64 => "double",
        };
        format!("{}<{storage}, {}>", self.kernel.entry(), self.lanes)
    }

    /// Threads of a block, and problems: as `Team` of `kernels/team.cuh` has it.
    pub(crate) fn block(self) -> (u32, u32) {
        let threads = if self.lanes > WARP { self.lanes } else { 128 };
        (threads, threads / self.lanes)
    }

    /// Bytes of shared memory of a block.
    pub(crate) fn shared_bytes(self) -> u32 {
        let warps = self.lanes / WARP;
        if warps > 1 { 2 * MOST_SUMS * warps * 8 } else { 0 }
    }
}

/// All variants that there are, each with its file.
#[must_use]
pub fn all_variants() -> Vec<(Source, String)> {
    let mut all = Vec::new();
    for kernel in [Kernel::CellsPair, Kernel::VjpPair] {
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64] {
            all.extend(TEAMS.map(|lanes| (kernel.source(), Variant { kernel, dtype, lanes }.expression())));
        }
    }
    all
}
