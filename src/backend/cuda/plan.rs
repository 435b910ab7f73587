//! The plan for a GPU: what is launched for a call.

use std::marker::PhantomData;
use std::ops::Range;

use super::CudaDevice;
use super::answers::{Answers, Slopes};
use super::calls::{Call, CellsCall, SpreadCall, flags};
use super::driver::Launch;
use super::inputs::Inputs;
use super::kernels::{Kernel, OF_ELEMENTS, SetSize, Team, Variant, largest, team_of, teams};
use super::tables::SetTables;
use crate::backend::{MAX_GPU_CELLS, MAX_GPU_ROWS};
use crate::batch::{Batch, Bound, Buffer, Capacities, Offsets};
use crate::constraints::{ConstraintSet, SpreadLimit};
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
    /// Scratch for uploads.
    starts: Vec<u64>,
    listed: Vec<u32>,
    storage: PhantomData<T>,
}

/// The kernels for one difference spread, forward and backward, and the union that each cell is.
#[derive(Clone, Copy, Debug)]
struct ShortCut {
    kernels: [Kernel; 2],
    union_of_cell: [u8; MAX_GPU_CELLS],
}

impl ShortCut {
    /// The short cut of a set that is one difference spread of unions that are a cell each.
    fn of(set: &ConstraintSet) -> Option<Self> {
        let ([spread], [], []) = (set.spreads(), set.contrasts(), set.dense()) else { return None };
        let count = spread.unions.len();
        let mut of_cell = [None; MAX_GPU_CELLS];
        for (index, union) in spread.unions.iter().enumerate() {
            let cell = union.cells.iter().next().filter(|_| union.cells.count() == 1)?;
            let place = of_cell.get_mut(cell).filter(|of_cell| of_cell.is_none())?;
            *place = Some(index as u8);
        }
        let all = (2..=MAX_GPU_CELLS).contains(&count) && set.layout().cells() == count;
        let fits = all && matches!(spread.limit, SpreadLimit::Difference(_));
        let kernels = match count {
            2 => [Kernel::CellsPair, Kernel::VjpPair],
            _ => [Kernel::CellsSpread, Kernel::VjpSpread],
        };
        fits.then(|| Self { kernels, union_of_cell: of_cell.map(|union| union.unwrap_or(0)) })
    }

    /// Whether it takes the problems of a batch that are not too large: nothing differs between elements but their cells.
    /// (With the same bounds for all samples no such problem is infeasible.)
    fn takes<T: Storage>(batch: &Batch<'_, T>) -> bool {
        let bounded = matches!((batch.lo, batch.hi), (Bound::Scalar(_), Bound::Scalar(_)));
        bounded && batch.weights.is_none() && batch.warm_start.is_none()
    }

    fn call(&self, call: &CellsCall) -> SpreadCall {
        SpreadCall {
            z: call.z,
            cells: call.cells,
            y: call.y,
            clamp: call.clamp,
            outcomes: call.outcomes,
            offsets: call.offsets,
            list: call.list,
            levels: call.levels,
            g: call.g,
            to_predictions: call.to_predictions,
            to_levels: call.to_levels,
            lo: call.lo,
            hi: call.hi,
            tolerance: call.tolerance,
            count: call.count,
            n: call.n,
            shared_cells: u32::from(call.flags & flags::SHARED_CELLS != 0),
            shared_levels: u32::from(call.level_stride == 0),
            max_iterations: call.max_iterations,
            unions: call.rows,
            union_of_cell: self.union_of_cell,
        }
    }
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

/// The problems of a team, where they are listed.
struct Class {
    kernel: Kernel,
    team: Team,
    listed: Range<usize>,
}

/// The kernels and teams that a batch's problems are given to, from small to large.
fn ways(short_cut: Option<Kernel>, general: Kernel, dtype: crate::storage::Dtype) -> Vec<(Kernel, Team)> {
    let of_kernel = |kernel: Kernel| teams(kernel, dtype).iter().map(move |&team| (kernel, team));
    let short = short_cut.into_iter().flat_map(of_kernel);
    let reach = short_cut.map_or(0, |kernel| largest(teams(kernel, dtype)));
    short.chain(of_kernel(general).filter(|(_, team)| team.room() > reach)).collect()
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
            starts: Vec::with_capacity(capacities.problems + 1),
            listed: Vec::with_capacity(capacities.problems),
            storage: PhantomData,
        };
        if capacities.largest > largest(teams(plan.general[0], T::DTYPE)) {
            let instead = "it takes 16,777,216; split it, or use the CPU";
            return Err(unsupported(format!("a problem of {} predictions", capacities.largest), instead));
        }
        plan.reserve()?;
        Ok(plan)
    }

    /// Allocates what every call needs, and compiles what it launches. (What backward calls launch that a short cut does not
    /// take is compiled when the first one comes.)
    fn reserve(&mut self) -> Result<()> {
        let device = &self.device;
        self.inputs.reserve::<T>(device, self.capacities)?;
        if self.is_admm {
            self.inputs.reserve_iterates(device, self.capacities.total, &mut self.call)?;
        }
        let load = |kernel, team| {
            let loaded = device.driver().load(Variant { kernel, dtype: T::DTYPE, team });
            loaded.map_err(|problem| device.failed(problem))
        };
        load(Kernel::CellsPrepare, OF_ELEMENTS[0])?;
        for (way, short_cut) in [(0, true), (0, false), (1, true)] {
            let ways = self.ways(way, short_cut);
            let last = ways.iter().position(|(_, team)| team.room() >= self.capacities.largest).unwrap_or(0);
            for &(kernel, team) in &ways[..=last] {
                load(kernel, team)?;
                if self.is_admm && kernel == Kernel::DenseNewton {
                    load(Kernel::DenseAdmm, team)?;
                }
            }
        }
        Ok(())
    }

    /// The kernels and teams of forward calls (0) or backward ones (1), with the short cut where it is taken.
    fn ways(&self, way: usize, short_cut: bool) -> Vec<(Kernel, Team)> {
        let short = self.short_cut.filter(|_| short_cut).map(|short| short.kernels[way]);
        ways(short, self.general[way], T::DTYPE)
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
        call.z = self.inputs.z.upload(&self.device, bytemuck::cast_slice(batch.predictions.slice()))?;
        answers.begin(set.rows())?;
        (call.y, call.clamp, call.outcomes) =
            (answers.y.address(), answers.clamp.address(), answers.outcomes.address());
        let ways = self.ways(0, ShortCut::takes(batch));
        self.launch(&ways, batch, call)
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
        call.z = self.inputs.z.upload(&self.device, bytemuck::cast_slice(batch.predictions.slice()))?;
        call.g = self.inputs.g.upload(&self.device, bytemuck::cast_slice(g.slice()))?;
        (call.y, call.clamp, call.outcomes) =
            (answers.y.address(), answers.clamp.address(), answers.outcomes.address());
        slopes.begin(set, &mut call)?;
        let Wanted { bounds, weights, labels, .. } = slopes.wanted;
        let ways = self.ways(1, ShortCut::takes(batch) && !(bounds || weights || labels));
        self.launch(&ways, batch, call)
    }

    /// Launches a kernel for every problem, those of a size together.
    fn launch(&mut self, ways: &[(Kernel, Team)], batch: &Batch<'_, T>, mut call: CellsCall) -> Result<()> {
        let classes = self.upload_offsets(&batch.offsets(), ways, &mut call)?;
        if call.cells == 0 {
            self.prepare(batch, &mut call)?;
        }
        for class in &classes {
            match self.short_cut.filter(|_| !class.kernel.is_general()) {
                Some(short) => self.launch_class(class, short.call(&call))?,
                None if self.is_admm && class.kernel == Kernel::DenseNewton => self.launch_admm(class, call)?,
                None => self.launch_class(class, call)?,
            }
        }
        let forward =
            classes.into_iter().filter(|class| matches!(class.kernel, Kernel::CellsPair | Kernel::CellsSpread));
        self.take_over(forward, call)
    }

    /// Launches Newton's method for the problems of short cuts that these left unfinished, which is known on the device only.
    fn take_over(&self, classes: impl Iterator<Item = Class>, mut call: CellsCall) -> Result<()> {
        call.flags |= flags::TAKES_OVER;
        let kernel = self.general[0];
        let general = teams(kernel, T::DTYPE);
        // (Neighbours share a launch.)
        let mut waiting: Option<Class> = None;
        for class in classes {
            let team = general[team_of(general.iter().copied(), class.team.room())];
            match &mut waiting {
                Some(last) if last.team == team => last.listed.end = class.listed.end,
                _ => {
                    let last = waiting.replace(Class { kernel, team, listed: class.listed });
                    last.map_or(Ok(()), |last| self.launch_left(&last, call))?;
                }
            }
        }
        waiting.map_or(Ok(()), |last| self.launch_left(&last, call))
    }

    /// Launches ADMM, and Newton's method from where it ends.
    fn launch_admm(&self, class: &Class, mut call: CellsCall) -> Result<()> {
        self.launch_class(&Class { kernel: Kernel::DenseAdmm, listed: class.listed.clone(), ..*class }, call)?;
        call.flags |= flags::TAKES_OVER;
        self.launch_class(class, call)
    }

    fn launch_left(&self, class: &Class, call: CellsCall) -> Result<()> {
        let blocks = (class.listed.len() as u32).div_ceil(LOOKED_AT).min(MOST_LOOKING);
        self.launch_on(class, blocks, call)
    }

    /// Turns groups and strata into cells.
    fn prepare(&self, batch: &Batch<'_, T>, call: &mut CellsCall) -> Result<()> {
        let variant = Variant { kernel: Kernel::CellsPrepare, dtype: T::DTYPE, team: OF_ELEMENTS[0] };
        let blocks = batch.predictions.slice().len().div_ceil(variant.block().1 as usize) as u32;
        if blocks > 0 {
            self.run(variant, blocks, call.of(0, batch.offsets().problems() as u32))?;
        }
        call.cells = call.own_cells;
        Ok(())
    }

    fn launch_class(&self, class: &Class, call: impl Call) -> Result<()> {
        let variant = Variant { kernel: class.kernel, dtype: T::DTYPE, team: class.team };
        self.launch_on(class, (class.listed.len() as u32).div_ceil(variant.block().1), call)
    }

    fn launch_on(&self, class: &Class, blocks: u32, call: impl Call) -> Result<()> {
        let variant = Variant { kernel: class.kernel, dtype: T::DTYPE, team: class.team };
        let list = if self.listed.is_empty() { 0 } else { self.inputs.list.address() + 4 * class.listed.start as u64 };
        self.run(variant, blocks, call.of(list, class.listed.len() as u32))
    }

    fn run(&self, variant: Variant, blocks: u32, call: impl Call) -> Result<()> {
        let shared_bytes = variant.shared_bytes(self.size);
        let launch = Launch { variant, blocks, shared_bytes, argument: bytemuck::bytes_of(&call) };
        self.device.driver().launch(launch).map_err(|problem| self.device.failed(problem))
    }

    /// Uploads where problems begin, and lists of them by size, where they are not all of one size.
    fn upload_offsets(
        &mut self,
        offsets: &Offsets<'_>,
        ways: &[(Kernel, Team)],
        call: &mut CellsCall,
    ) -> Result<Vec<Class>> {
        let problems = offsets.problems();
        self.listed.clear();
        let way_of = |n: usize| ways[team_of(ways.iter().map(|(_, team)| *team), n)];
        match *offsets {
            Offsets::Equal { .. } if problems == 0 => Ok(Vec::new()),
            Offsets::Equal { n, .. } => {
                call.n = n as u32;
                let (kernel, team) = way_of(n);
                Ok(vec![Class { kernel, team, listed: 0..problems }])
            }
            Offsets::Ragged(starts) => {
                self.starts.clear();
                self.starts.extend(starts.iter().map(|start| *start as u64));
                call.offsets = self.inputs.offsets.upload(&self.device, bytemuck::cast_slice(&self.starts))?;
                let mut classes = Vec::new();
                for &way in ways {
                    let first = self.listed.len();
                    let fits = |problem: &usize| way_of(offsets.range(*problem).len()) == way;
                    self.listed.extend((0..problems).filter(fits).map(|problem| problem as u32));
                    if self.listed.len() > first {
                        classes.push(Class { kernel: way.0, team: way.1, listed: first..self.listed.len() });
                    }
                }
                self.inputs.list.upload(&self.device, bytemuck::cast_slice(&self.listed))?;
                Ok(classes)
            }
        }
    }
}

/// Problems that a block which takes over looks at, one after the other, and such blocks at the most: about as many as a GPU
/// has room for.
const LOOKED_AT: u32 = 32;
const MOST_LOOKING: u32 = 256;
