//! Plan once, then project and differentiate many times.

use crate::backend::Device;
use crate::backend::cpu::{self, CpuProjector};
use crate::batch::{Batch, Buffer, Capacities};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::settings::{Method, Settings};
use crate::solution::{Gradients, Solution, Wanted};
use crate::storage::Storage;

/// A plan for one device, one storage type and one set of constraints: it owns scratch memory, and nothing of the data.
///
/// `Send` and `Sync`; calls take `&mut self` because they use the scratch.
#[derive(Debug)]
pub struct Projector<T: Storage> {
    set: ConstraintSet,
    capacities: Capacities,
    plan: Plan<T>,
}

#[derive(Debug)]
enum Plan<T: Storage> {
    Cpu(Box<dyn CpuProjector<T>>),
}

impl<T: Storage> Projector<T> {
    /// Plans projections of up to these capacities; all memory is allocated here.
    ///
    /// # Errors
    /// Settings out of range, more cells than the device takes, or more memory than can be had.
    pub fn plan(device: Device, set: &ConstraintSet, capacities: Capacities, settings: Settings) -> Result<Self> {
        settings.check()?;
        check_memory(set, capacities, &settings)?;
        let plan = match device {
            Device::Cpu => Plan::Cpu(T::plan(set, capacities, settings)),
        };
        Ok(Self { set: set.clone(), capacities, plan })
    }

    /// The constraints that this plan is for.
    pub fn constraints(&self) -> &ConstraintSet {
        &self.set
    }

    /// What this plan was made for.
    pub fn capacities(&self) -> Capacities {
        self.capacities
    }

    /// A solution for [`project_into`](Self::project_into), large enough for the plan's capacities.
    pub fn solution(&self) -> Solution<T> {
        Solution::new(&self.set, self.capacities)
    }

    /// Gradients for [`vjp`](Self::vjp), large enough for the plan's capacities.
    pub fn gradients(&self, wanted: Wanted) -> Gradients<T> {
        Gradients::new(&self.set, self.capacities, wanted)
    }

    /// Projects every problem of the batch. Allocates nothing.
    ///
    /// # Errors
    /// Wrong shapes, missing inputs, or more data than was planned for; the solution is then unchanged. What becomes of
    /// each problem is no error but its [`Status`](crate::Status).
    pub fn project_into(&mut self, batch: &Batch<'_, T>, solution: &mut Solution<T>) -> Result<()> {
        batch.check(&self.set, self.capacities)?;
        solution.begin(&self.set, self.capacities, &batch.offsets())?;
        match &mut self.plan {
            Plan::Cpu(plan) => plan.project(&self.set, batch, solution),
        }
        Ok(())
    }

    /// Projects every problem of the batch into a new solution.
    ///
    /// # Errors
    /// As [`project_into`](Self::project_into).
    pub fn project(&mut self, batch: &Batch<'_, T>) -> Result<Solution<T>> {
        let mut solution = self.solution();
        self.project_into(batch, &mut solution)?;
        Ok(solution)
    }

    /// Vector-Jacobian product: from `g`, the gradient of a scalar to the projected values, `[n]`, to its gradients to
    /// the inputs. `batch` and `solution` are those of the forward call. Allocates nothing.
    ///
    /// # Errors
    /// Wrong shapes, or a solution of another batch or plan.
    pub fn vjp<'a>(
        &mut self,
        batch: &Batch<'_, T>,
        solution: &Solution<T>,
        g: impl Into<Buffer<'a, T>>,
        gradients: &mut Gradients<T>,
    ) -> Result<()> {
        let g = g.into();
        batch.check(&self.set, self.capacities)?;
        solution.check_belongs(&self.set, self.capacities, &batch.offsets())?;
        let g = batch.check_output_gradient(&g)?;
        gradients.begin(&self.set, self.capacities, &batch.offsets())?;
        match &mut self.plan {
            Plan::Cpu(plan) => plan.vjp(&self.set, batch, solution, g, gradients),
        }
        Ok(())
    }
}

/// Whether a solution with all gradients can be allocated, so that later no allocation fails half-way.
fn check_memory(set: &ConstraintSet, capacities: Capacities, settings: &Settings) -> Result<()> {
    let Capacities { problems, total, largest } = capacities;
    // At the most: y and five gradients of 8 bytes, those to coefficients, clamp words; multipliers, three gradients and an
    // outcome of every problem; and the scratch of a worker, with two matrices where rows are dense or may be expanded.
    let (rows, dense) = (set.rows(), set.dense().len());
    let is_dense = dense > 0 || settings.method == Method::Admm || cpu::expands(set, largest);
    let per_sample = if is_dense { 8 * (2 * rows + 48) } else { 32 };
    let bytes = (total.checked_mul(64 + 8 * dense))
        .and_then(|bytes| bytes.checked_add(largest.checked_mul(per_sample)?))
        .and_then(|bytes| bytes.checked_add(problems.checked_mul(64 + 8 * 4 * (1 + rows))?));
    let possible = bytes.is_some_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    if possible { Ok(()) } else { Err(Error::Memory { predictions: total, problems }) }
}
