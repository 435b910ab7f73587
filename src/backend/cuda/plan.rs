//! The plan for a GPU: what is uploaded and launched for a call.

use std::marker::PhantomData;
use std::ops::Range;

use super::CudaDevice;
use super::answers::{Answers, Slopes};
use super::calls::SpreadCall;
use super::driver::Launch;
use super::kernels::{Kernel, Team, Variant, largest, team_of, teams};
use super::memory::Memory;
use crate::backend::MAX_GPU_CELLS;
use crate::batch::{Batch, Bound, Buffer, Capacities, CellInput, Offsets, Reals, Sharing};
use crate::cells::Strata;
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::{Error, Result};
use crate::settings::{Method, Settings};
use crate::solution::{Wanted, foreign_solution};
use crate::storage::Storage;

/// A plan: nothing of the data, but memory for it.
#[derive(Debug)]
pub(crate) struct CudaPlan<T: Storage> {
    device: CudaDevice,
    capacities: Capacities,
    /// Forward and backward.
    kernels: [Kernel; 2],
    /// What the set and the settings fix.
    call: SpreadCall,
    z: Memory,
    g: Memory,
    cells: Memory,
    offsets: Memory,
    list: Memory,
    levels: Memory,
    /// The set's own level.
    own_level: Memory,
    /// Scratch for uploads.
    starts: Vec<u64>,
    listed: Vec<u32>,
    reals: Vec<f64>,
    storage: PhantomData<T>,
}

fn unsupported(what: impl Into<String>) -> Error {
    Error::Unsupported {
        device: "cuda",
        what: what.into(),
        instead: "so far it takes one difference spread of up to 32 groups without weights and with the same bounds for \
                  all samples, in problems of up to 8,192 predictions (4,096 of three or more groups in f64); use wgpu or \
                  the CPU",
    }
}

/// The union that each cell is, if the set is one difference spread of unions that are a cell each. (With the same bounds for all
/// samples no such problem is infeasible, so that it makes no difference what is asked for then.)
fn unions(set: &ConstraintSet) -> Option<[u8; MAX_GPU_CELLS]> {
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
    fits.then(|| of_cell.map(|union| union.unwrap_or(0)))
}

/// The problems of a team, where they are listed.
struct Class {
    team: Team,
    listed: Range<usize>,
}

impl<T: Storage> CudaPlan<T> {
    pub(crate) fn new(
        device: &CudaDevice,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<Self> {
        let union_of_cell = unions(set).ok_or_else(|| unsupported("these constraints"))?;
        let kernels = if set.rows() == 2 {
            [Kernel::CellsPair, Kernel::VjpPair]
        } else {
            [Kernel::CellsSpread, Kernel::VjpSpread]
        };
        if settings.method == Method::Admm {
            return Err(unsupported("ADMM"));
        }
        if capacities.largest > largest(&teams(kernels[0], T::DTYPE)) {
            return Err(unsupported(format!("problems of {} predictions", capacities.largest)));
        }
        let call = SpreadCall {
            unions: set.rows() as u32,
            union_of_cell,
            max_iterations: settings.max_iterations,
            tolerance: settings.tolerance,
            ..SpreadCall::default()
        };
        let level = set.spreads()[0].limit.level();
        let mut plan = Self {
            device: device.clone(),
            capacities,
            kernels,
            call,
            z: Memory::default(),
            g: Memory::default(),
            cells: Memory::default(),
            offsets: Memory::default(),
            list: Memory::default(),
            levels: Memory::default(),
            own_level: Memory::default(),
            starts: Vec::with_capacity(capacities.problems + 1),
            listed: Vec::with_capacity(capacities.problems),
            reals: Vec::with_capacity(capacities.problems),
            storage: PhantomData,
        };
        plan.own_level.upload(device, bytemuck::bytes_of(&level))?;
        plan.reserve()?;
        Ok(plan)
    }

    /// Allocates what every call needs, and compiles what it launches.
    fn reserve(&mut self) -> Result<()> {
        let Capacities { problems, total, largest } = self.capacities;
        let device = &self.device;
        self.z.hold(device, size_of::<T>() * total)?;
        self.g.hold(device, size_of::<T>() * total)?;
        self.cells.hold(device, total)?;
        self.offsets.hold(device, 8 * (problems + 1))?;
        self.list.hold(device, 4 * problems)?;
        self.levels.hold(device, 8 * problems.max(1))?;
        for kernel in self.kernels {
            let teams = teams(kernel, T::DTYPE);
            for &team in &teams[..=team_of(&teams, largest)] {
                let loaded = device.driver().load(Variant { kernel, dtype: T::DTYPE, team });
                loaded.map_err(|problem| device.failed(problem))?;
            }
        }
        Ok(())
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
        let mut call = self.upload_inputs(set, batch)?;
        call.z = self.z.place(&self.device, &batch.predictions)?;
        answers.begin(set.rows())?;
        (call.y, call.clamp, call.outcomes) =
            (answers.y.address(), answers.clamp.address(), answers.outcomes.address());
        self.launch(self.kernels[0], batch, call)
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
        if slopes.wanted.bounds || slopes.wanted.weights {
            return Err(unsupported("gradients to bounds or weights"));
        }
        let mut call = self.upload_inputs(set, batch)?;
        call.g = self.g.place(&self.device, g)?;
        slopes.begin(set.spreads().len())?;
        (call.y, call.clamp, call.outcomes) =
            (answers.y.address(), answers.clamp.address(), answers.outcomes.address());
        (call.to_predictions, call.to_levels) = (slopes.predictions.address(), slopes.levels.address());
        self.launch(self.kernels[1], batch, call)
    }

    /// Uploads what forward and backward passes both read.
    fn upload_inputs(&mut self, set: &ConstraintSet, batch: &Batch<'_, T>) -> Result<SpreadCall> {
        let Self { device, call, .. } = self;
        let mut call = *call;
        let ids = match batch.cells {
            Some(CellInput::Ids(ids)) => ids,
            Some(CellInput::Groups(&[only])) if set.layout().strata() == Strata::None => only,
            _ => return Err(unsupported("several features")),
        };
        call.shared_cells = u32::from(ids.sharing() == Sharing::Shared);
        call.cells = self.cells.place(device, &ids)?;
        let (Bound::Scalar(lo), Bound::Scalar(hi)) = (batch.lo, batch.hi) else {
            return Err(unsupported("bounds for every sample"));
        };
        (call.lo, call.hi) = (lo.to_f64(), hi.to_f64());
        if batch.weights.is_some() {
            return Err(unsupported("sample weights"));
        }
        call.levels = match &batch.levels {
            None => self.own_level.address(),
            Some(Reals::F32(buffer)) => {
                self.reals.clear();
                self.reals.extend(buffer.slice().iter().map(|level| f64::from(*level)));
                self.levels.upload(device, bytemuck::cast_slice(&self.reals))?
            }
            Some(Reals::F64(buffer)) => self.levels.place(device, buffer)?,
        };
        let of_problem = batch.levels.as_ref().is_some_and(|levels| levels.sharing() == Sharing::PerProblem);
        call.shared_levels = u32::from(!of_problem);
        Ok(call)
    }

    /// Launches a kernel for every problem, those of a size together.
    fn launch(&mut self, kernel: Kernel, batch: &Batch<'_, T>, mut call: SpreadCall) -> Result<()> {
        let classes = self.upload_offsets(&batch.offsets(), &teams(kernel, T::DTYPE), &mut call)?;
        for Class { team, listed } in classes {
            let variant = Variant { kernel, dtype: T::DTYPE, team };
            let of_class = SpreadCall {
                count: listed.len() as u32,
                list: if call.list == 0 { 0 } else { call.list + 4 * listed.start as u64 },
                ..call
            };
            let blocks = of_class.count.div_ceil(variant.block().1);
            let shared_bytes = variant.shared_bytes(call.unions);
            let launch = Launch { variant, blocks, shared_bytes, argument: bytemuck::bytes_of(&of_class) };
            self.device.driver().launch(launch).map_err(|problem| self.device.failed(problem))?;
        }
        Ok(())
    }

    /// Uploads where problems begin, and lists of them by size, where they are not all of one size.
    fn upload_offsets(&mut self, offsets: &Offsets<'_>, teams: &[Team], call: &mut SpreadCall) -> Result<Vec<Class>> {
        let problems = offsets.problems();
        let whole = |n: usize| Class { team: teams[team_of(teams, n)], listed: 0..problems };
        match *offsets {
            Offsets::Equal { .. } if problems == 0 => Ok(Vec::new()),
            Offsets::Equal { n, .. } => {
                call.n = n as u32;
                Ok(vec![whole(n)])
            }
            Offsets::Ragged(starts) => {
                self.starts.clear();
                self.starts.extend(starts.iter().map(|start| *start as u64));
                call.offsets = self.offsets.upload(&self.device, bytemuck::cast_slice(&self.starts))?;
                self.listed.clear();
                let mut classes = Vec::new();
                for (index, &team) in teams.iter().enumerate() {
                    let first = self.listed.len();
                    let fits = |problem: &usize| team_of(teams, offsets.range(*problem).len()) == index;
                    self.listed.extend((0..problems).filter(fits).map(|problem| problem as u32));
                    if self.listed.len() > first {
                        classes.push(Class { team, listed: first..self.listed.len() });
                    }
                }
                call.list = self.list.upload(&self.device, bytemuck::cast_slice(&self.listed))?;
                Ok(classes)
            }
        }
    }
}
