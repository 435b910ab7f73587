//! The plan for a GPU: what is launched for a call.

use std::marker::PhantomData;

use super::CudaDevice;
use super::answers::{Answers, Slopes};
use super::calls::{Call, CellsCall, flags};
use super::driver::Launch;
use super::inputs::Inputs;
use super::kernels::{Kernel, LARGEST, OF_ELEMENTS, SetSize, Team, Variant};
use super::short_cut::ShortCut;
use super::tables::SetTables;
use super::ways::{self, Class, Way};
use crate::backend::{MAX_GPU_CELLS, MAX_GPU_ROWS};
use crate::batch::{Batch, Buffer, Capacities, Offsets};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::settings::{Infeasible, Method, Settings};
use crate::solution::{Wanted, foreign_solution};
use crate::storage::Storage;

/// A plan: nothing of the data, but memory for it.
#[derive(Debug)]
pub(crate) struct CudaPlan<T: Storage> {
    device: CudaDevice,
    capacities: Capacities,
    /// What the set and the settings fix.
    call: CellsCall,
    size: SetSize,
    /// The kernels for any rows of the set's kind, forward and backward.
    general: [Kernel; 2],
    /// Whether ADMM comes before Newton's method.
    is_admm: bool,
    /// Where the set is one difference spread of a cell each.
    short_cut: Option<ShortCut>,
    /// What `call` names.
    _tables: SetTables,
    inputs: Inputs,
    /// The ways of forward calls and of backward ones, each without the short cut and with it.
    ways: [[Vec<Way>; 2]; 2],
    /// Scratch of calls.
    starts: Vec<u64>,
    listed: Vec<u32>,
    classes: Vec<Class>,
    storage: PhantomData<T>,
}

fn unsupported(what: impl Into<String>, instead: &'static str) -> Error {
    Error::Unsupported { device: "cuda", what: what.into(), instead }
}

/// What this device does not do, and what does.
fn check(set: &ConstraintSet) -> Result<()> {
    if set.layout().cells() > MAX_GPU_CELLS {
        return Err(Error::TooManyCells { cells: set.layout().cells(), limit: MAX_GPU_CELLS });
    }
    if set.rows() > MAX_GPU_ROWS {
        let instead =
            "it takes 32; use the CPU, constrain fewer features at once, or split the batch by stratum into problems";
        return Err(unsupported(format!("{} rows", set.rows()), instead));
    }
    Ok(())
}

impl<T: Storage> CudaPlan<T> {
    pub(crate) fn new(
        device: &CudaDevice,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<Self> {
        check(set)?;
        let relaxes = settings.infeasible == Infeasible::NearestFeasible;
        let mut call = CellsCall {
            max_iterations: settings.max_iterations,
            tolerance: settings.tolerance,
            flags: if relaxes { flags::RELAXES } else { 0 },
            eps_abs: settings.admm.eps_abs,
            eps_rel: settings.admm.eps_rel,
            relaxation: settings.admm.relaxation,
            sigma: settings.admm.sigma,
            rho: settings.admm.rho,
            admm_iterations: settings.admm.max_iterations,
            ..CellsCall::default()
        };
        let (is_admm, has_dense) = (settings.method == Method::Admm, !set.dense().is_empty());
        let mut tables = SetTables::default();
        let size = tables.upload(device, set, &mut call)?;
        let mut plan = Self {
            device: device.clone(),
            capacities,
            call,
            size,
            // (ADMM takes every sample as its own cell; the way back does not know the method.)
            general: [
                if is_admm || has_dense { Kernel::DenseNewton } else { Kernel::CellsNewton },
                if has_dense { Kernel::DenseVjp } else { Kernel::CellsVjp },
            ],
            is_admm,
            short_cut: if is_admm { None } else { ShortCut::of(set) },
            _tables: tables,
            inputs: Inputs::default(),
            ways: Default::default(),
            starts: Vec::with_capacity(capacities.problems + 1),
            listed: Vec::with_capacity(capacities.problems),
            classes: Vec::new(),
            storage: PhantomData,
        };
        if capacities.largest > LARGEST {
            let instead = "it takes 16,777,216; split it, or use the CPU";
            return Err(unsupported(format!("a problem of {} predictions", capacities.largest), instead));
        }
        plan.reserve()?;
        Ok(plan)
    }

    /// Allocates what every call needs, and compiles what it launches. (What a short cut does not take is compiled when the
    /// first such call comes: it takes seconds.)
    fn reserve(&mut self) -> Result<()> {
        self.inputs.reserve::<T>(&self.device, self.capacities)?;
        if self.is_admm {
            self.inputs.reserve_iterates(&self.device, self.capacities.total, &mut self.call)?;
        }
        self.load(self.variant(Kernel::CellsPrepare, OF_ELEMENTS[0]))?;
        let (mut most, mut meet) = (0, false);
        for (direction, short_cut) in [(0, false), (0, true), (1, false), (1, true)] {
            let ways = self.find_ways(direction, short_cut)?;
            let needed = ways.iter().position(|way| way.room >= self.capacities.largest).map_or(1, |last| last + 1);
            for way in &ways[..needed] {
                meet |= way.several;
                if short_cut {
                    self.load(self.variant(way.kernel, way.team))?;
                }
                if self.is_admm && way.kernel == Kernel::DenseNewton {
                    self.load(self.variant(Kernel::DenseAdmm, way.team))?;
                }
            }
            most = most.max(ways.len());
            self.ways[direction][usize::from(short_cut)] = ways;
        }
        self.classes.reserve(most);
        if meet {
            self.inputs.reserve_meetings(&self.device, MOST_BLOCKS, self.capacities.problems, &mut self.call)?;
        }
        Ok(())
    }

    fn variant(&self, kernel: Kernel, team: Team) -> Variant {
        Variant { kernel, dtype: T::DTYPE, team }
    }

    fn load(&self, variant: Variant) -> Result<()> {
        self.device.driver().load(variant).map_err(|problem| self.device.failed(problem))
    }

    /// The blocks of a variant that can wait for each other.
    fn resident(&self, variant: Variant) -> Result<u32> {
        let blocks = self.device.driver().resident(variant, variant.shared_bytes(self.size));
        blocks.map(|blocks| blocks.min(MOST_BLOCKS)).map_err(|problem| self.device.failed(problem))
    }

    fn find_ways(&self, direction: usize, short_cut: bool) -> Result<Vec<Way>> {
        let mut ways = Vec::new();
        if let Some(short) = self.short_cut.filter(|_| short_cut) {
            let kernel = short.kernels[direction];
            let resident = |team| self.resident(self.variant(kernel, team));
            ways = ways::of_short_cut(kernel, T::DTYPE, self.size.cells, self.capacities.largest, resident)?;
        }
        let reach = ways.last().map_or(0, |way| way.room);
        let kernel = self.general[direction];
        let most = self.device.driver().shared_bytes();
        let fits = |team| self.variant(kernel, team).shared_bytes(self.size) <= most;
        ways.extend(ways::of_any_rows(kernel, T::DTYPE, reach, fits));
        Ok(ways)
    }

    pub(crate) fn answers(&self) -> Answers<T> {
        Answers::new(&self.device, self.capacities)
    }

    pub(crate) fn slopes(&self, wanted: Wanted) -> Slopes<T> {
        Slopes::new(&self.device, wanted, self.capacities)
    }

    /// Projects every problem: uploads, launches, and does not wait.
    pub(crate) fn project(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &mut Answers<T>,
    ) -> Result<()> {
        if answers.device != self.device {
            return Err(foreign_solution());
        }
        let mut call = self.call;
        self.inputs.upload(&self.device, set, batch, &mut call)?;
        call.z = self.inputs.z.place(&self.device, &batch.predictions)?;
        answers.begin(set.rows())?;
        (call.y, call.clamp, call.outcomes) =
            (answers.y.address(), answers.clamp.address(), answers.outcomes.address());
        self.launch(0, ShortCut::takes(batch), batch, call)
    }

    /// The gradients of every problem: uploads, launches, and does not wait.
    pub(crate) fn vjp(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &Answers<T>,
        g: &Buffer<'_, T>,
        slopes: &mut Slopes<T>,
    ) -> Result<()> {
        if answers.device != self.device || slopes.device != self.device {
            return Err(foreign_solution());
        }
        let mut call = self.call;
        self.inputs.upload(&self.device, set, batch, &mut call)?;
        call.z = self.inputs.z.place(&self.device, &batch.predictions)?;
        call.g = self.inputs.g.place(&self.device, g)?;
        (call.y, call.clamp, call.outcomes) =
            (answers.y.address(), answers.clamp.address(), answers.outcomes.address());
        slopes.begin(set, &mut call)?;
        let Wanted { bounds, weights, labels, .. } = slopes.wanted;
        self.launch(1, ShortCut::takes(batch) && !(bounds || weights || labels), batch, call)
    }

    /// Launches a kernel for every problem, those of a size together: forward (0) or backward (1), with the short cut where it
    /// may be taken.
    fn launch(&mut self, direction: usize, short_cut: bool, batch: &Batch<'_, T>, mut call: CellsCall) -> Result<()> {
        let offsets = batch.offsets();
        let ways = &self.ways[direction][usize::from(short_cut)];
        ways::classify(ways, &offsets, &mut self.classes, &mut self.listed);
        self.upload_offsets(&offsets, &mut call)?;
        if call.cells == 0 {
            self.prepare(batch, &mut call)?;
        }
        for class in &self.classes {
            match self.short_cut.filter(|_| !class.way.kernel.is_general()) {
                Some(short) => self.launch_class(class, short.call(&call))?,
                None if self.is_admm && class.way.kernel == Kernel::DenseNewton => self.launch_admm(class, call)?,
                None => self.launch_class(class, call)?,
            }
        }
        Ok(())
    }

    /// Launches ADMM, and Newton's method from where it ends.
    fn launch_admm(&self, class: &Class, mut call: CellsCall) -> Result<()> {
        let way = Way { kernel: Kernel::DenseAdmm, ..class.way };
        self.launch_class(&Class { way, ..class.clone() }, call)?;
        call.flags |= flags::FOLLOWS_ADMM;
        self.launch_class(class, call)
    }

    /// Turns groups and strata into cells.
    fn prepare(&self, batch: &Batch<'_, T>, call: &mut CellsCall) -> Result<()> {
        let variant = self.variant(Kernel::CellsPrepare, OF_ELEMENTS[0]);
        let blocks = batch.total().div_ceil(variant.block().1 as usize) as u32;
        if blocks > 0 {
            self.run(variant, blocks, 1, call.of(0, batch.offsets().problems() as u32, 1))?;
        }
        call.cells = call.own_cells;
        Ok(())
    }

    /// Launches the kernel of a class: where problems have several blocks each, for as many problems at a time as can have
    /// all their blocks at once.
    fn launch_class<C: Call>(&self, class: &Class, call: C) -> Result<()> {
        let Class { way, ref listed, largest } = *class;
        let variant = self.variant(way.kernel, way.team);
        let resident = if way.several { self.resident(variant)? } else { 1 };
        let most = if way.kernel.is_general() { resident.min(MOST_OF_ANY_ROWS) } else { resident };
        let each = way.blocks(largest, most);
        let at_once = if each > 1 { (resident / each) as usize } else { listed.len() };
        for first in listed.clone().step_by(at_once.max(1)) {
            let count = at_once.min(listed.end - first) as u32;
            let list = match (self.listed.is_empty(), first) {
                (true, 0) => 0,
                (true, _) => self.inputs.all.address() + 4 * first as u64,
                _ => self.inputs.list.address() + 4 * first as u64,
            };
            let blocks = if each > 1 { each * count } else { count.div_ceil(variant.block().1) };
            self.run(variant, blocks, each, call.of(list, count, each))?;
        }
        Ok(())
    }

    fn run(&self, variant: Variant, blocks: u32, each: u32, call: impl Call) -> Result<()> {
        let shared_bytes = variant.shared_bytes(self.size);
        let argument = bytemuck::bytes_of(&call);
        let launch = Launch { variant, blocks, shared_bytes, cooperative: each > 1, argument };
        self.device.driver().launch(launch).map_err(|problem| self.device.failed(problem))
    }

    /// Uploads where problems begin, and the list of them, where they are not all of one size.
    fn upload_offsets(&mut self, offsets: &Offsets<'_>, call: &mut CellsCall) -> Result<()> {
        match *offsets {
            Offsets::Equal { n, .. } => call.n = n as u32,
            Offsets::Ragged(starts) => {
                self.starts.clear();
                self.starts.extend(starts.iter().map(|start| *start as u64));
                call.offsets = self.inputs.offsets.upload(&self.device, bytemuck::cast_slice(&self.starts))?;
            }
        }
        if !self.listed.is_empty() {
            self.inputs.list.upload(&self.device, bytemuck::cast_slice(&self.listed))?;
        }
        Ok(())
    }
}

/// Blocks that wait for each other, at the most; and those of a problem with any rows, whose sums each of them adds up.
const MOST_BLOCKS: u32 = 512;
const MOST_OF_ANY_ROWS: u32 = 128;
