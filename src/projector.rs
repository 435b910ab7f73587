//! Plan once, then project and differentiate many times.

use std::borrow::Borrow;

use crate::backend::Device;
use crate::backend::cpu::{self, CpuProjector};
#[cfg(feature = "cuda")]
use crate::backend::cuda;
#[cfg(feature = "wgpu")]
use crate::backend::wgpu;
use crate::batch::{Batch, Buffer, Capacities};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::settings::{Method, Settings};
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::solution::foreign_solution;
use crate::solution::{Answers, Gradients, HostAnswers, HostSlopes, Slopes, Solution, Wanted};
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
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::CudaPlan<T>>),
    #[cfg(feature = "wgpu")]
    Wgpu(Box<wgpu::WgpuPlan<T>>),
}

#[cfg(feature = "wgpu")]
impl<T: Storage> Plan<T> {
    /// Whether arrays may lie in buffers of the device.
    fn has_buffers(&self) -> bool {
        matches!(self, Self::Wgpu(_))
    }
}

impl<T: Storage> Projector<T> {
    /// Plans projections of up to these capacities; all memory is allocated here.
    ///
    /// # Errors
    /// Settings out of range, more cells than the device takes, more memory than can be had, or what the device does not do.
    pub fn plan(
        device: impl Borrow<Device>,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<Self> {
        settings.check()?;
        check_memory(set, capacities, &settings)?;
        let plan = match device.borrow() {
            Device::Cpu => Plan::Cpu(T::plan(set, capacities, settings)),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Plan::Cuda(Box::new(cuda::CudaPlan::new(device, set, capacities, settings)?)),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(device) => Plan::Wgpu(Box::new(wgpu::WgpuPlan::new(device, set, capacities, settings)?)),
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

    /// A solution for [`project_into`](Self::project_into), large enough for the plan's capacities. It lives where the plan
    /// computes.
    pub fn solution(&self) -> Solution<T> {
        let answers = match &self.plan {
            Plan::Cpu(_) => Answers::Host(HostAnswers::new(self.set.rows(), self.capacities)),
            #[cfg(feature = "cuda")]
            Plan::Cuda(plan) => Answers::Cuda(plan.answers()),
            #[cfg(feature = "wgpu")]
            Plan::Wgpu(plan) => Answers::Wgpu(plan.answers()),
        };
        Solution::new(&self.set, self.capacities, answers)
    }

    /// Gradients for [`vjp`](Self::vjp), large enough for the plan's capacities. They live where the plan computes.
    pub fn gradients(&self, wanted: Wanted) -> Gradients<T> {
        let slopes = match &self.plan {
            Plan::Cpu(_) => Slopes::Host(HostSlopes::new(&self.set, self.capacities, wanted)),
            #[cfg(feature = "cuda")]
            Plan::Cuda(plan) => Slopes::Cuda(plan.slopes(wanted)),
            #[cfg(feature = "wgpu")]
            Plan::Wgpu(plan) => Slopes::Wgpu(plan.slopes(wanted)),
        };
        Gradients::new(&self.set, self.capacities, slopes)
    }

    /// Projects every problem of the batch. Allocates nothing on the CPU; on a GPU nothing but what a larger kind of input
    /// than before asks for, and does not wait for it.
    ///
    /// # Errors
    /// Wrong shapes, missing inputs, or more data than was planned for; the solution is then unchanged. What becomes of
    /// each problem is no error but its [`Status`](crate::Status).
    pub fn project_into(&mut self, batch: &Batch<'_, T>, solution: &mut Solution<T>) -> Result<()> {
        batch.check(&self.set, self.capacities)?;
        #[cfg(feature = "wgpu")]
        batch.check_places(&self.set, self.plan.has_buffers())?;
        solution.check_belongs(&self.set, self.capacities)?;
        match (&mut self.plan, &mut solution.answers) {
            (Plan::Cpu(plan), Answers::Host(host)) => plan.project(&self.set, batch, host),
            #[cfg(feature = "cuda")]
            (Plan::Cuda(plan), Answers::Cuda(answers)) => plan.project(&self.set, batch, answers)?,
            #[cfg(feature = "wgpu")]
            (Plan::Wgpu(plan), Answers::Wgpu(answers)) => plan.project(&self.set, batch, answers)?,
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            _ => return Err(foreign_solution()),
        }
        solution.begin(&batch.offsets());
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
        #[cfg(feature = "wgpu")]
        batch.check_places(&self.set, self.plan.has_buffers())?;
        solution.check_belongs(&self.set, self.capacities)?;
        solution.check_offsets(&batch.offsets())?;
        batch.check_output_gradient(&g)?;
        #[cfg(feature = "wgpu")]
        g.check_place("the gradient to the outputs", self.plan.has_buffers())?;
        gradients.check_belongs(&self.set, self.capacities)?;
        match (&mut self.plan, &solution.answers, &mut gradients.slopes) {
            (Plan::Cpu(plan), Answers::Host(host), Slopes::Host(slopes)) => {
                plan.vjp(&self.set, batch, host, g.slice(), slopes);
            }
            #[cfg(feature = "cuda")]
            (Plan::Cuda(plan), Answers::Cuda(answers), Slopes::Cuda(slopes)) => {
                plan.vjp(&self.set, batch, answers, &g, slopes)?;
            }
            #[cfg(feature = "wgpu")]
            (Plan::Wgpu(plan), Answers::Wgpu(answers), Slopes::Wgpu(slopes)) => {
                plan.vjp(&self.set, batch, answers, &g, slopes)?;
            }
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            _ => {
                return Err(Error::Foreign {
                    what: "the solution or the gradients",
                    make: "solution() and gradients()",
                });
            }
        }
        gradients.begin(&batch.offsets());
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
