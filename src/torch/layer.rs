//! The layer: predictions to fair predictions, with the projection's own backward pass in torch's graph.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Kind, Tensor};

use super::autograd::node;
use super::tensors::{Element, by_column, failed, ids, reals, rows_and_columns, tensor_of, values};
use crate::backend::Device;
use crate::batch::{Batch, Buffer, Capacities, Offsets, Reals};
use crate::cells::Population;
use crate::constraints::ConstraintSet;
use crate::criterion::Criterion;
use crate::error::{Error, Result};
use crate::projector::Projector;
use crate::settings::Settings;
use crate::solution::{Outcome, Solution, Status, Wanted};
use crate::storage::{Dtype, Storage};

/// What a layer reads beside the predictions. All are `[n]`, or `[n, K]` of predictions `[n, K]`, of any number type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The group ids, `[n]`, or `[n, F]` of F sensitive features: whole numbers from 0.
    pub groups: Option<&'a Tensor>,
    /// The labels, for criteria that are about labels. There is no gradient to them.
    pub labels: Option<&'a Tensor>,
    /// The ids of the control feature, `[n]`.
    pub control: Option<&'a Tensor>,
    /// The sample weights; without them all are 1. There is no gradient to them.
    pub weights: Option<&'a Tensor>,
}

/// What came of a projection.
#[derive(Debug)]
pub struct Projected {
    /// The fair predictions, of the shape and type of the predictions; in the graph if these are.
    pub y: Tensor,
    /// What became of every column, `[K]`. One that is not solved is clip(z), and passes no gradient.
    pub outcomes: Vec<Outcome>,
    /// The names of the rows that constrain nothing in this batch, since a group of theirs is absent.
    pub inactive: Vec<String>,
}

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
    population: Population,
    bounds: (f64, f64),
    settings: Settings,
    plans: Arc<Mutex<Plans>>,
}

/// The projectors of a layer, by number type.
type Plans = HashMap<Dtype, Box<dyn Any + Send>>;
type Plan<T> = Arc<Mutex<Projector<T>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // (A projector that panicked has scratch memory of no meaning, which the next call fills anew.)
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        Ok(Self { set, population: population.clone(), bounds, settings: Settings::default(), plans: Arc::default() })
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

    /// The constraints of the layer.
    pub fn constraints(&self) -> &ConstraintSet {
        &self.set
    }

    /// The fair predictions, of predictions that all have some.
    ///
    /// # Errors
    /// As [`project`](Self::project); and a problem that has no answer, which says which and why.
    pub fn forward(&self, predictions: &Tensor, groups: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        let Projected { y, outcomes, .. } =
            self.project(predictions, Inputs { groups: Some(groups), labels, ..Inputs::default() })?;
        match outcomes.iter().position(|outcome| !matches!(outcome.status, Status::Solved | Status::Relaxed)) {
            None => Ok(y),
            Some(column) => Err(unsolved(column, outcomes.len(), &outcomes[column])),
        }
    }

    /// The fair predictions, and what became of every column: one without an answer is no error here.
    ///
    /// # Errors
    /// Shapes, number types or ids that do not fit, inputs that the criterion needs and were not given, or a device that the
    /// layer does not work on.
    pub fn project(&self, predictions: &Tensor, inputs: Inputs<'_>) -> Result<Projected> {
        if predictions.device() != tch::Device::Cpu {
            return Err(Error::Unsupported {
                device: "torch",
                what: format!("predictions on {:?}", predictions.device()),
                instead: "so far the layer works on the CPU",
            });
        }
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
        let Some((n, columns)) = rows_and_columns(predictions) else {
            let problem = format!("they have the shape {:?}, and [n] or [n, K] is needed", predictions.size());
            return Err(Error::value("predictions", problem));
        };
        let call = Call::<T>::read(self, predictions, inputs, (n, columns))?;
        let plan = self.plan::<T>(Capacities::equal(columns, n))?;
        let (solution, outcomes, inactive, y) = {
            let mut projector = locked(&plan);
            let mut solution = projector.solution();
            call.with_batch(|batch| projector.project_into(batch, &mut solution))??;
            let view = solution.read()?;
            let y = call.tensor(view.y)?;
            let is_inactive = |row: &usize| (0..columns).any(|column| view.is_inactive(column, *row));
            let named = self.set.row_names().enumerate();
            let inactive = named.filter(|(row, _)| is_inactive(row)).map(|(_, name)| name.to_owned()).collect();
            let outcomes = view.outcomes.to_vec();
            (solution, outcomes, inactive, y)
        };
        if !predictions.requires_grad() {
            return Ok(Projected { y, outcomes, inactive });
        }
        let kept = Mutex::new((call, solution));
        let pull = move |gradient: &Tensor| {
            let (call, solution) = &*locked(&kept);
            call.pull(&mut locked(&plan), solution, gradient)
        };
        Ok(Projected { y: node(predictions, &y, pull)?, outcomes, inactive })
    }

    /// The projector for a number type: the one there is, if it is large enough.
    fn plan<T: Storage>(&self, needed: Capacities) -> Result<Plan<T>> {
        let mut plans = locked(&self.plans);
        let kept = plans.get(&T::DTYPE).and_then(|plan| plan.downcast_ref::<Plan<T>>());
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
        let projector = Projector::<T>::plan(Device::cpu(), &self.set, capacities, self.settings)?;
        let plan: Plan<T> = Arc::new(Mutex::new(projector));
        // (Graphs that are still to be pulled back keep the one before.)
        plans.insert(T::DTYPE, Box::new(plan.clone()));
        Ok(plan)
    }
}

/// Numbers of the samples, and whether the columns share them.
fn of_samples((values, is_shared): &(Vec<f64>, bool)) -> Reals<'_> {
    let own = Reals::from(values);
    if *is_shared { own.shared() } else { own }
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

/// A call's inputs, as the backward pass needs them again.
struct Call<T> {
    /// `[K, n]`, in order.
    z: Tensor,
    shape: Vec<i64>,
    problems: (usize, usize),
    bounds: (T, T),
    groups: Vec<Vec<u8>>,
    control: Option<Vec<u8>>,
    labels: Option<(Vec<f64>, bool)>,
    weights: Option<(Vec<f64>, bool)>,
}

impl<T: Element> Call<T> {
    fn read(layer: &FairnessLayer, predictions: &Tensor, inputs: Inputs<'_>, problems: (usize, usize)) -> Result<Self> {
        let (n, _) = problems;
        let features: Vec<_> = layer.population.features.iter().map(|f| (f.name.as_str(), f.groups.len())).collect();
        let groups = inputs.groups.map(|groups| ids("groups", groups, n, &features)).transpose()?;
        let control = match (&layer.population.control, inputs.control) {
            (Some(feature), Some(control)) => {
                ids("control", control, n, &[(&feature.name, feature.levels.len())])?.pop()
            }
            _ => None,
        };
        let of_samples = |what, tensor: Option<&Tensor>| tensor.map(|tensor| reals(what, tensor, problems)).transpose();
        Ok(Self {
            z: by_column(&predictions.f_detach().map_err(failed)?)?,
            shape: predictions.size(),
            problems,
            bounds: (T::from_f64(layer.bounds.0), T::from_f64(layer.bounds.1)),
            groups: groups.unwrap_or_default(),
            control,
            labels: of_samples("labels", inputs.labels)?,
            weights: of_samples("weights", inputs.weights)?,
        })
    }

    fn offsets(&self) -> Offsets<'static> {
        let (n, problems) = self.problems;
        Offsets::Equal { problems, n }
    }

    /// Has `with` make the batch of this call, whose parts lie here.
    fn with_batch<R>(&self, with: impl FnOnce(&Batch<'_, T>) -> R) -> Result<R> {
        let groups: Vec<Buffer<'_, u8>> = self.groups.iter().map(|ids| Buffer::from(ids).shared()).collect();
        let mut batch = Batch::new(values::<T>(&self.z)?, self.offsets()).bounds(self.bounds.0, self.bounds.1);
        if !groups.is_empty() {
            batch = batch.groups(&groups);
        }
        if let Some(control) = &self.control {
            batch = batch.control(Buffer::from(control).shared());
        }
        if let Some(labels) = &self.labels {
            batch = batch.labels(of_samples(labels));
        }
        if let Some(weights) = &self.weights {
            batch = batch.weights(of_samples(weights));
        }
        Ok(with(&batch))
    }

    /// Numbers column by column as a tensor of the predictions' shape.
    fn tensor(&self, values: &[T]) -> Result<Tensor> {
        let own = tensor_of(values)?;
        let (n, columns) = self.problems;
        let shaped = match self.shape.len() {
            1 => own,
            _ => own.f_view([columns as i64, n as i64]).and_then(|own| own.f_transpose(0, 1)).map_err(failed)?,
        };
        shaped.f_contiguous().map_err(failed)
    }

    /// The backward pass.
    fn pull(&self, projector: &mut Projector<T>, solution: &Solution<T>, gradient: &Tensor) -> Result<Tensor> {
        let g = by_column(&gradient.f_to_kind(T::KIND).map_err(failed)?)?;
        let mut gradients = projector.gradients(Wanted::default());
        self.with_batch(|batch| projector.vjp(batch, solution, values::<T>(&g)?, &mut gradients))??;
        self.tensor(gradients.read()?.predictions)
    }
}
