//! A projection that was made, as long as somebody asks for its answers or its gradient; and what it was made with.
#![allow(unsafe_code, reason = "answers that are memory of ours become tensors")]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::Tensor;

use super::call::Call;
use super::memory::wrapped;
use super::tensors::Element;
use crate::backend::Device;
use crate::batch::Capacities;
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::projector::Projector;
use crate::settings::Settings;
use crate::solution::{Gradients, Outcome, Solution, Wanted};
use crate::storage::Storage;

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // (A projector that panicked has scratch memory of no meaning, which the next call fills anew.)
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of a projection.
#[derive(Debug)]
pub struct Projected {
    /// The fair predictions, of the shape and type of the predictions; in the graph if these are.
    pub y: Tensor,
    pub(super) solved: Arc<dyn Reporting>,
}

impl Projected {
    /// What became of the problems. On a GPU this waits for them.
    ///
    /// # Errors
    /// A device that has stopped working.
    pub fn report(&self) -> Result<Report> {
        self.solved.report()
    }
}

/// What became of the problems of a batch, which are the columns of its predictions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What became of every column, `[K]`. One that is not solved is clip(z), and passes no gradient.
    pub outcomes: Vec<Outcome>,
    /// The names of the rows that constrain nothing in this batch, since a group of theirs is absent: it was made fair as to the
    /// others.
    pub inactive: Vec<String>,
    /// The multipliers, `[K, rows]`, in the order of [`ConstraintSet::row_names`].
    pub multipliers: Vec<f64>,
}

impl Report {
    /// Whether all problems have an answer.
    pub fn is_answered(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.status.has_answer())
    }
}

pub(super) trait Reporting: fmt::Debug + Send + Sync {
    fn report(&self) -> Result<Report>;
}

/// A projector, and the memory of answers and gradients that nobody looks at any more.
pub(super) struct Plan<T: Storage> {
    projector: Projector<T>,
    solutions: Vec<Solution<T>>,
    gradients: Vec<Gradients<T>>,
}

pub(super) type SharedPlan<T> = Arc<Mutex<Plan<T>>>;

impl<T: Storage> Plan<T> {
    pub(super) fn new(
        device: &Device,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<SharedPlan<T>> {
        let projector = Projector::<T>::plan(device, set, capacities, settings)?;
        Ok(Arc::new(Mutex::new(Self { projector, solutions: Vec::new(), gradients: Vec::new() })))
    }

    pub(super) fn capacities(&self) -> Capacities {
        self.projector.capacities()
    }
}

/// A projection with its inputs.
pub(super) struct Solved<T: Element> {
    plan: SharedPlan<T>,
    /// (Tensors are not for several threads at once.)
    made: Mutex<Made<T>>,
}

struct Made<T: Element> {
    call: Call<T>,
    /// There until this is dropped.
    solution: Option<Solution<T>>,
}

impl<T: Element> fmt::Debug for Solved<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solved").field("call", &locked(&self.made).call).finish_non_exhaustive()
    }
}

impl<T: Element> Drop for Solved<T> {
    fn drop(&mut self) {
        // (What the device still does with its memory it was given before whatever the memory is used for next.)
        let solution = locked(&self.made).solution.take();
        locked(&self.plan).solutions.extend(solution);
    }
}

impl<T: Element> Solved<T> {
    pub(super) fn new(plan: SharedPlan<T>, call: Call<T>) -> Result<Self> {
        let solution = {
            let Plan { projector, solutions, .. } = &mut *locked(&plan);
            let mut solution = solutions.pop().unwrap_or_else(|| projector.solution());
            call.with_all(|batch| projector.project_into(batch, &mut solution))??;
            solution
        };
        Ok(Self { plan, made: Mutex::new(Made { call, solution: Some(solution) }) })
    }

    /// The answers. In host memory a tensor of their own; on a GPU they are where the kernel has put them, which nobody else gets as
    /// long as the tensor is there.
    pub(super) fn y(self: &Arc<Self>) -> Result<Tensor> {
        let made = locked(&self.made);
        let solution = made.solution()?;
        match address_of_answers(solution) {
            Some(address) => {
                // SAFETY: the kernel wrote so many numbers of this type there, and the solution, which is this one's until it is
                // dropped, is given to no other call before.
                made.call.shaped(unsafe { wrapped(address, made.numbers(), made.call.like(), self.clone()) }?)
            }
            None => made.call.tensor(solution.read()?.y),
        }
    }

    /// The backward pass: from the gradient to the answers to that to the predictions.
    pub(super) fn pull(&self, gradient: &Tensor) -> Result<Tensor> {
        let made = locked(&self.made);
        let (solution, g) = (made.solution()?, made.call.gradient(gradient)?);
        let gradients = {
            let Plan { projector, gradients, .. } = &mut *locked(&self.plan);
            let mut gradients = gradients.pop().unwrap_or_else(|| projector.gradients(Wanted::default()));
            let g = made.call.buffer_of(&g)?;
            made.call.with_all(|batch| projector.vjp(batch, solution, g, &mut gradients))??;
            gradients
        };
        match address_of_gradient(&gradients) {
            Some(address) => {
                let pulled = Pulled { plan: self.plan.clone(), gradients: Some(gradients) };
                // SAFETY: as in `y`, of gradients.
                made.call.shaped(unsafe { wrapped(address, made.numbers(), made.call.like(), Mutex::new(pulled)) }?)
            }
            None => {
                let slope = made.call.tensor(gradients.read()?.predictions);
                locked(&self.plan).gradients.push(gradients);
                slope
            }
        }
    }
}

impl<T: Element> Made<T> {
    fn solution(&self) -> Result<&Solution<T>> {
        // (It is taken when the owner is dropped.)
        self.solution.as_ref().ok_or_else(|| Error::Torch { problem: "the projection is gone".into() })
    }

    fn numbers(&self) -> usize {
        let (columns, n) = self.call.extent();
        columns * n
    }
}

impl<T: Element> Reporting for Solved<T> {
    fn report(&self) -> Result<Report> {
        let made = locked(&self.made);
        let view = made.solution()?.read()?;
        let plan = locked(&self.plan);
        let (columns, _) = made.call.extent();
        let is_inactive = |row: &usize| (0..columns).any(|column| view.is_inactive(column, *row));
        let named = plan.projector.constraints().row_names().enumerate();
        Ok(Report {
            outcomes: view.outcomes.to_vec(),
            inactive: named.filter(|(row, _)| is_inactive(row)).map(|(_, name)| name.to_owned()).collect(),
            multipliers: view.multipliers.to_vec(),
        })
    }
}

/// Gradients that a tensor shows, until that is dropped.
struct Pulled<T: Storage> {
    plan: SharedPlan<T>,
    gradients: Option<Gradients<T>>,
}

impl<T: Storage> Drop for Pulled<T> {
    fn drop(&mut self) {
        let gradients = self.gradients.take();
        locked(&self.plan).gradients.extend(gradients);
    }
}

/// Where the answers are on a GPU; none for those in host memory.
fn address_of_answers<T: Storage>(solution: &Solution<T>) -> Option<u64> {
    #[cfg(feature = "cuda")]
    return solution.y_address();
    #[cfg(not(feature = "cuda"))]
    {
        let _ = solution;
        None
    }
}

fn address_of_gradient<T: Storage>(gradients: &Gradients<T>) -> Option<u64> {
    #[cfg(feature = "cuda")]
    return gradients.predictions_address();
    #[cfg(not(feature = "cuda"))]
    {
        let _ = gradients;
        None
    }
}
