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
pub const HEADERS: [Source; 32] = [
    source!("common.cuh"),
    source!("storage.cuh"),
    source!("team.cuh"),
    source!("meeting.cuh"),
    source!("spread.cuh"),
    source!("pair.cuh"),
    source!("columns.cuh"),
    source!("warp.cuh"),
    source!("cells_call.cuh"),
    source!("elements.cuh"),
    source!("row_memory.cuh"),
    source!("cells_memory.cuh"),
    source!("samples_memory.cuh"),
    source!("cell_sums.cuh"),
    source!("two_floats.cuh"),
    source!("linear.cuh"),
    source!("eigen.cuh"),
    source!("rows.cuh"),
    source!("cell_rows.cuh"),
    source!("sample_rows.cuh"),
    source!("live_rows.cuh"),
    source!("rows_of_cells.cuh"),
    source!("rows_of_samples.cuh"),
    source!("admm_rows.cuh"),
    source!("active_set.cuh"),
    source!("basis.cuh"),
    source!("line_search.cuh"),
    source!("stop_test.cuh"),
    source!("certificate.cuh"),
    source!("newton.cuh"),
    source!("vjp_rows.cuh"),
    source!("vjp_elements.cuh"),
];

/// The files with kernels, in the order of `Kernel`; each has one, of the same name.
pub const SOURCES: [Source; 10] = [
    source!("cells_prepare.cu"),
    source!("cells_pair.cu"),
    source!("vjp_pair.cu"),
    source!("cells_spread.cu"),
    source!("vjp_spread.cu"),
    source!("cells_newton.cu"),
    source!("cells_vjp.cu"),
    source!("dense_newton.cu"),
    source!("dense_vjp.cu"),
    source!("dense_admm.cu"),
];

/// What a launch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    CellsPrepare,
    CellsPair,
    VjpPair,
    CellsSpread,
    VjpSpread,
    CellsNewton,
    CellsVjp,
    DenseNewton,
    DenseVjp,
    DenseAdmm,
}

impl Kernel {
    const ALL: [Self; SOURCES.len()] = [
        Self::CellsPrepare,
        Self::CellsPair,
        Self::VjpPair,
        Self::CellsSpread,
        Self::VjpSpread,
        Self::CellsNewton,
        Self::CellsVjp,
        Self::DenseNewton,
        Self::DenseVjp,
        Self::DenseAdmm,
    ];

    /// Whether it is for any rows: a block has a problem.
    pub(crate) fn is_general(self) -> bool {
        matches!(self, Self::CellsNewton | Self::CellsVjp) || self.is_of_samples()
    }

    /// Whether it is for rows over samples.
    pub(crate) fn is_of_samples(self) -> bool {
        matches!(self, Self::DenseNewton | Self::DenseVjp | Self::DenseAdmm)
    }

    /// Whether it is for two cells only.
    fn is_of_pairs(self) -> bool {
        matches!(self, Self::CellsPair | Self::VjpPair)
    }

    /// Whether a team has enough lanes for so many cells: for one spread, each has one in every warp.
    pub(crate) fn is_for(self, team: Team, cells: u32) -> bool {
        !matches!(self, Self::CellsSpread | Self::VjpSpread) || cells <= team.lanes.min(WARP)
    }

    pub(crate) fn source(self) -> Source {
        SOURCES[self as usize]
    }

    fn entry(self) -> &'static str {
        self.source().name.trim_end_matches(".cu")
    }
}

/// What a problem gets: threads, and elements that each holds; or blocks of so many threads, as many as it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Team {
    pub(crate) lanes: u32,
    pub(crate) values: u32,
    pub(crate) several: bool,
}

impl Team {
    /// Elements that it has room for, or one of its blocks.
    pub(crate) fn room(self) -> usize {
        self.lanes as usize * self.values as usize
    }
}

const fn team(lanes: u32, values: u32) -> Team {
    Team { lanes, values, several: false }
}

const fn crowd(lanes: u32, values: u32) -> Team {
    Team { lanes, values, several: true }
}

/// The teams that there are for problems of two cells. (What a thread does for a problem as a whole is shared by few threads
/// with many elements each; registers are the limit, and double precision takes two for each.)
const OF_PAIRS: [Team; 7] =
    [team(4, 16), team(8, 32), team(16, 32), team(32, 32), team(64, 32), team(256, 32), crowd(256, 32)];
const OF_PAIRS_OF_DOUBLES: [Team; 7] =
    [team(4, 16), team(16, 16), team(32, 16), team(64, 16), team(128, 16), team(256, 32), crowd(256, 16)];
const BACK_OF_PAIRS_OF_DOUBLES: [Team; 7] =
    [team(4, 16), team(16, 16), team(32, 16), team(64, 16), team(128, 16), team(512, 16), crowd(512, 16)];

/// The same for problems of more cells, each of which a lane has in every warp of the team: those of few cells can have few lanes.
const OF_SPREADS: [Team; 8] =
    [team(8, 8), team(8, 32), team(16, 16), team(32, 16), team(32, 32), team(64, 32), team(256, 32), crowd(256, 32)];
const OF_SPREADS_OF_DOUBLES: [Team; 6] =
    [team(8, 8), team(16, 16), team(32, 16), team(64, 16), team(256, 16), crowd(256, 16)];

/// The same for any rows over cells: what a thread "holds" it reads again for every pass, one after the other. What has no room
/// in a block (`ENOUGH_FOR_A_BLOCK` of `kernels/cells_call.cuh`) gets several blocks of the last team.
const OF_CELLS: [Team; 2] = [team(32, 32), team(256, 64)];
/// The elements of the largest problem that they take.
pub(crate) const LARGEST: usize = 1 << 24;

/// The same for rows over samples, where every warp of a block runs the machine; the last takes what is larger, too.
const OF_SAMPLES: [Team; 2] = [team(32, 32), team(128, 64)];

/// A thread an element, which are of any problem.
pub(crate) const OF_ELEMENTS: [Team; 1] = [team(256, 1)];

/// The teams of a kernel for a storage type, from small problems to large ones.
pub(crate) fn teams(kernel: Kernel, dtype: Dtype) -> &'static [Team] {
    match (kernel, dtype) {
        (Kernel::CellsPrepare, _) => &OF_ELEMENTS,
        (Kernel::CellsPair, Dtype::F64) => &OF_PAIRS_OF_DOUBLES,
        (Kernel::VjpPair, Dtype::F64) => &BACK_OF_PAIRS_OF_DOUBLES,
        (Kernel::CellsPair | Kernel::VjpPair, _) => &OF_PAIRS,
        (Kernel::CellsSpread | Kernel::VjpSpread, Dtype::F64) => &OF_SPREADS_OF_DOUBLES,
        (Kernel::CellsSpread | Kernel::VjpSpread, _) => &OF_SPREADS,
        (Kernel::CellsNewton | Kernel::CellsVjp, _) => &OF_CELLS,
        (Kernel::DenseNewton | Kernel::DenseVjp | Kernel::DenseAdmm, _) => &OF_SAMPLES,
    }
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub(crate) kernel: Kernel,
    pub(crate) dtype: Dtype,
    pub(crate) team: Team,
}

/// `MOST_SUMS` of `kernels/team.cuh`.
const MOST_SUMS: u32 = 4;
const WARP: u32 = 32;

impl Variant {
    /// The kernel's name with what it is compiled for, in C++.
    pub(crate) fn expression(self) -> String {
        let storage = match self.dtype {
            Dtype::F16 => "Half",
            Dtype::Bf16 => "Bfloat",
            Dtype::F32 => "float",
            Dtype::F64 => "double",
        };
        let (entry, Team { lanes, values, several }) = (self.kernel.entry(), self.team);
        match self.kernel {
            Kernel::CellsPrepare => entry.into(),
            kernel if kernel.is_general() => format!("{entry}<{storage}, {lanes}>"),
            _ => format!("{entry}<{storage}, {lanes}, {values}, {several}>"),
        }
    }

    /// Threads of a block, and problems (of `cells_prepare` elements): as `Team` of `kernels/team.cuh` has it.
    pub(crate) fn block(self) -> (u32, u32) {
        let lanes = self.team.lanes;
        match self.kernel {
            Kernel::CellsPrepare => return (lanes, lanes),
            kernel if kernel.is_general() => return (lanes, 1),
            _ => {}
        }
        let threads = if lanes > WARP { lanes } else { 128 };
        (threads, threads / lanes)
    }

    /// Bytes of shared memory of a block, for a set of this size: as `Team` and, for more than two cells, `Columns` have it, or
    /// `Memory` or `SampleMemory`.
    pub(crate) fn shared_bytes(self, size: SetSize) -> u32 {
        let lanes = self.team.lanes;
        match self.kernel {
            Kernel::CellsPrepare => return 0,
            kernel if kernel.is_general() => return size.shared_bytes(lanes / WARP, kernel.is_of_samples()),
            _ => {}
        }
        let warps = lanes.div_ceil(WARP);
        let of_team = if warps > 1 { 2 * MOST_SUMS * warps * 8 } else { 0 };
        if self.kernel.is_of_pairs() {
            return of_team;
        }
        let sums = 2 * size_of::<f64>() as u32;
        let width = lanes.min(WARP);
        let table = (width + 1) * (WARP / width) * sums;
        let told = if warps > 1 { 2 * warps * WARP * sums } else { 0 };
        of_team + told + self.block().0 / WARP * (table + (size.cells + 1) * WARP * sums)
    }
}

/// How large a constraint set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetSize {
    pub(crate) cells: u32,
    pub(crate) rows: u32,
    pub(crate) spreads: u32,
    pub(crate) parts: u32,
    /// Of the rows, those over samples.
    pub(crate) dense: u32,
}

impl SetSize {
    /// Doubles of `CellMemory` of `kernels/cells_memory.cuh`, in its order, for a block of so many warps.
    fn of_cells(self, rows: u32, warps: u32) -> u32 {
        const SUMS: u32 = 4;
        let cells = self.cells;
        (4 + SUMS + 1 + 2 + POINTS * SUMS + 2 + warps * SUMS) * cells + cells / 2 + 1 + rows * (cells | 1) + 2
    }

    /// Doubles of `RowMemory` of `kernels/row_memory.cuh`, likewise.
    fn of_rows(self, parts: u32, work: u32) -> u32 {
        const STATE: u32 = 48;
        let Self { rows, spreads, .. } = self;
        let system = rows + spreads;
        let work = work.max(system * (system | 1) + 2 * system);
        (5 + 3 * POINTS + 7 + 1) * rows + rows * (rows | 1) + work + 2 * spreads + STATE * parts
    }

    /// Bytes of `Memory` for a block of so many warps; or, of samples, of `SampleMemory` of `kernels/samples_memory.cuh`.
    fn shared_bytes(self, warps: u32, of_samples: bool) -> u32 {
        let Self { cells, rows, spreads, parts, dense } = self;
        if !of_samples {
            return 8 * (self.of_cells(rows, warps) + self.of_rows(parts, rows * (cells + spreads + rows + 1)));
        }
        let pairs = rows * (rows + 1) / 2;
        let sums = POINTS * (pairs + 2 * rows + 1) + pairs;
        let work = rows * (WARP + 1) + 5 * WARP + pairs.max(WARP) + (2 * rows).max(WARP);
        8 * (self.of_cells(rows - dense, warps) + 2 * dense + sums + 2 * warps + warps * self.of_rows(1, work))
    }
}

/// `POINTS` of `kernels/row_memory.cuh`.
const POINTS: u32 = 3;

/// What the tests know of a variant.
#[derive(Clone, Debug)]
pub struct VariantText {
    /// The file that it is in.
    pub source: Source,
    /// Its name with what it is compiled for, in C++.
    pub expression: String,
    /// What it stores.
    pub dtype: Dtype,
    /// Whether it is for the smallest problems.
    pub smallest: bool,
    /// Whether it is for any rows.
    pub general: bool,
}

/// All variants that there are.
#[must_use]
pub fn all_variants() -> Vec<VariantText> {
    let mut all = Vec::new();
    for kernel in Kernel::ALL {
        let dtypes = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16];
        // (Cells know nothing of what predictions are stored in.)
        let dtypes = if kernel == Kernel::CellsPrepare { &dtypes[..1] } else { &dtypes };
        for &dtype in dtypes {
            all.extend(teams(kernel, dtype).iter().enumerate().map(|(index, &team)| VariantText {
                source: kernel.source(),
                expression: Variant { kernel, dtype, team }.expression(),
                dtype,
                smallest: index == 0,
                general: kernel.is_general(),
            }));
        }
    }
    all
}
