//! The layer: predictions to fair predictions, with the projection's own backward pass in torch's graph.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tch::{Kind, Tensor};

use super::autograd::node;
use super::call::{Call, Inputs};
use super::place::Place;
use super::solved::{Plan, Projected, Report, SharedPlan, Solved, locked};
use super::tensors::{Element, by_column, converted, values};
use crate::backend::Device;
use crate::batch::Capacities;
use crate::cells::{Population, Strata};
use crate::constraints::ConstraintSet;
use crate::criterion::Criterion;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::solution::{Outcome, Status};
use crate::storage::Dtype;
use crate::totals::Totals;

/// A layer that projects a batch of predictions onto a criterion of fairness, exactly, in every forward pass.
///
/// The predictions are `[n]`, `[n, 1]`, or `[n, K]`: K outputs, of which each is made fair by itself. The result has the same
/// shape, type and device, and its backward pass is the vector-Jacobian product of the projection: gradients reach the
/// predictions as if the projection were any other layer. Two forward passes before a backward pass are fine. A second
/// derivative is an error.
///
/// Memory is planned at the first batch of a number type, and anew for one that is larger than any before.
///
/// ```no_run
/// # fn main() -> fairlayer::Result<()> {
/// use fairlayer::{DemographicParity, Population, torch::FairnessLayer};
/// use tch::{Kind, Tensor};
///
/// let layer = FairnessLayer::new(&DemographicParity::within(0.02), &Population::one_feature(2))?.bounds(0.0, 1.0);
/// let scores = Tensor::rand([64], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
/// let groups = Tensor::randint(2, [64], (Kind::Int64, tch::Device::Cpu));
/// let fair = layer.forward(&scores, &groups, None)?;
/// fair.square().sum(Kind::Float).backward();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FairnessLayer {
    set: ConstraintSet,
    pub(super) population: Population,
    pub(super) bounds: (f64, f64),
    settings: Settings,
    plans: Arc<Mutex<Plans>>,
    /// An emulated GPU, for the tests: it takes what lies in host memory for its own.
    emulated: Option<Device>,
}

/// The projectors of a layer, by number type and by what they work on.
type Plans = HashMap<(Dtype, Place), Box<dyn Any + Send>>;

impl FairnessLayer {
    /// A layer for this criterion and these people, without bounds.
    ///
    /// # Errors
    /// The criterion does not fit the population, or has rows with a coefficient for every sample, which this layer does not take.
    pub fn new(criterion: &dyn Criterion, population: &Population) -> Result<Self> {
        let set = criterion.constraints(population)?;
        if !set.dense().is_empty() {
            let problem = "it has rows with a coefficient for every sample; use a `Projector` for those";
            return Err(Error::value("the criterion", problem));
        }
        let bounds = (f64::NEG_INFINITY, f64::INFINITY);
        Ok(Self {
            set,
            population: population.clone(),
            bounds,
            settings: Settings::default(),
            plans: Arc::default(),
            emulated: None,
        })
    }

    /// Keeps all fair predictions between these bounds, bit for bit; infinite ones are none.
    #[must_use]
    pub fn bounds(self, lo: f64, hi: f64) -> Self {
        Self { bounds: (lo, hi), ..self }
    }

    /// How problems are solved, and what becomes of those without a solution.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, plans: Arc::default(), ..self }
    }

    /// Takes tensors in host memory for those of this emulated GPU: how the tests run what is between torch and a GPU.
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    #[must_use]
    pub fn emulated(self, device: Device) -> Self {
        Self { emulated: Some(device), plans: Arc::default(), ..self }
    }

    /// The constraints of the layer.
    pub fn constraints(&self) -> &ConstraintSet {
        &self.set
    }

    /// Whether the criterion is about labels. Where it is not, none need be given, and none are looked at.
    pub fn needs_labels(&self) -> bool {
        self.set.layout().strata() == Strata::Label || self.set.needs_label_means()
    }

    /// What these predictions and their answers come to, a column each: the gaps of all rows, from sums in double precision.
    /// Totals of several batches can be merged.
    ///
    /// # Errors
    /// As [`project`](Self::project); sample weights, which totals do not take; and numbers that are not finite.
    pub fn totals(&self, predictions: &Tensor, y: &Tensor, inputs: Inputs<'_>) -> Result<Vec<Totals>> {
        let call = Call::<f64>::in_host_memory(self, predictions, inputs)?;
        let (columns, n) = call.extent();
        if y.size() != predictions.size() {
            let problem = format!("they have the shape {:?}, the predictions {:?}", y.size(), predictions.size());
            return Err(Error::value("the answers", problem));
        }
        let y = by_column(&converted(y, tch::Device::Cpu, Kind::Double)?)?;
        let y = values::<f64>(&y)?;
        let of = |column: usize| {
            let mut totals = Totals::new(&self.set);
            let own = &y[column * n..(column + 1) * n];
            call.with(column..column + 1, Some(self.bounds), |batch| totals.add(&self.set, batch, 0, own))??;
            Ok(totals)
        };
        (0..columns).map(of).collect()
    }

    /// The fair predictions, of predictions that all have some.
    ///
    /// On a GPU nothing waits for the answers, so that nobody knows yet whether there are any: where there is none, `y` is clip(z),
    /// and passes no gradient. [`project`](Self::project) can be asked.
    ///
    /// # Errors
    /// As [`project`](Self::project); and, in host memory, a problem that has no answer, which says which and why.
    pub fn forward(&self, predictions: &Tensor, groups: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        let projected = self.project(predictions, Inputs { groups: Some(groups), labels, ..Inputs::default() })?;
        if predictions.device() != tch::Device::Cpu {
            return Ok(projected.y);
        }
        let (y, Report { outcomes, .. }) = (projected.y.shallow_clone(), projected.report()?);
        match outcomes.iter().position(|outcome| !matches!(outcome.status, Status::Solved | Status::Relaxed)) {
            None => Ok(y),
            Some(column) => Err(unsolved(column, outcomes.len(), &outcomes[column])),
        }
    }

    /// The fair predictions, and what became of every column: one without an answer is no error here.
    ///
    /// Predictions in host memory are projected on the CPU; those on an NVIDIA GPU there (feature `cuda`): their tensors are read
    /// and written where they lie, on torch's current stream, and nothing waits, but the first calls, which plan.
    ///
    /// # Errors
    /// Shapes, number types or ids that do not fit, inputs that the criterion needs and were not given, or a device that the
    /// layer does not work on.
    pub fn project(&self, predictions: &Tensor, inputs: Inputs<'_>) -> Result<Projected> {
        match predictions.kind() {
            Kind::Half => self.project_as::<crate::f16>(predictions, inputs),
            Kind::BFloat16 => self.project_as::<crate::bf16>(predictions, inputs),
            Kind::Float => self.project_as::<f32>(predictions, inputs),
            Kind::Double => self.project_as::<f64>(predictions, inputs),
            other => {
                Err(Error::value("predictions", format!("they are {other:?}; use Half, BFloat16, Float or Double")))
            }
        }
    }

    fn project_as<T: Element>(&self, predictions: &Tensor, inputs: Inputs<'_>) -> Result<Projected> {
        let place = Place::of(predictions)?;
        let on_gpu = place != Place::Host || self.emulated.is_some();
        let call = Call::<T>::read(self, predictions, inputs, predictions.device(), on_gpu)?;
        let plan = self.plan::<T>(place, Capacities::equal(call.extent().0, call.extent().1))?;
        let solved = Arc::new(Solved::new(plan, call)?);
        let y = solved.y()?;
        if !predictions.requires_grad() {
            return Ok(Projected { y, solved });
        }
        let own = solved.clone();
        Ok(Projected { y: node(predictions, &y, move |gradient| own.pull(gradient))?, solved })
    }

    /// The projector for a number type and a place: the one there is, if it is large enough.
    fn plan<T: Element>(&self, place: Place, needed: Capacities) -> Result<SharedPlan<T>> {
        let mut plans = locked(&self.plans);
        let key = (T::DTYPE, place);
        let kept = plans.get(&key).and_then(|plan| plan.downcast_ref::<SharedPlan<T>>());
        let before = kept.map(|plan| locked(plan).capacities());
        let holds = |has: Capacities| {
            needed.problems <= has.problems && needed.total <= has.total && needed.largest <= has.largest
        };
        if let Some(plan) = kept.filter(|_| before.is_some_and(holds)) {
            return Ok(plan.clone());
        }
        let before = before.unwrap_or(Capacities::single(0));
        let capacities = Capacities {
            problems: needed.problems.max(before.problems),
            total: needed.total.max(before.total),
            largest: needed.largest.max(before.largest),
        };
        let device = self.emulated.clone().map_or_else(|| place.device(), Ok)?;
        let plan = Plan::<T>::new(&device, &self.set, capacities, self.settings)?;
        // (Graphs that are still to be pulled back keep the one before.)
        plans.insert(key, Box::new(plan.clone()));
        Ok(plan)
    }
}

fn unsolved(column: usize, columns: usize, outcome: &Outcome) -> Error {
    let which = if columns == 1 { String::new() } else { format!("column {column}: ") };
    let why = match outcome.status {
        Status::BadNumber => {
            "a prediction, weight, label or bound is no number that can be used, NaN or infinite".into()
        }
        Status::Infeasible => format!(
            "no predictions within the bounds are this fair (by {:.3e}); widen epsilon or the bounds, or set \
             Infeasible::NearestFeasible",
            outcome.excess
        ),
        _ => format!(
            "not solved after {} steps, at a residual of {:.3e}; raise max_iterations or the tolerance",
            outcome.iterations, outcome.residual
        ),
    };
    Error::value("predictions", which + &why)
}
