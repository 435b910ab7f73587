//! The three networks: trained without constraints, trained with the layer, and the first projected afterwards.

use tch::{Tensor, nn};

use super::args::TrainArgs;
use super::data::Data;
use super::features::{Input, encode, width};
use super::metrics::{accuracy, auc};
use super::network::{cross_entropy, numbers, perceptron};
use super::split::Split;
use crate::Population;
use crate::cli::failure::{Failure, Result, quoted};
use crate::cli::plan::{Feature, Limit, definition, population};
use crate::cli::table::Categories;
use crate::torch::{BatchGaps, Dataset, Enforce, Epoch, FairModel, FairnessLayer, Loader, Optimiser, Trainer};

const UNCONSTRAINED: &str = "unconstrained";
const WITH_LAYER: &str = "with the layer";
const AFTERWARDS: &str = "projected afterwards";

/// One of the networks on the test rows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Model {
    pub name: &'static str,
    /// The mean cross-entropy.
    pub loss: f64,
    /// At the threshold 0.5.
    pub accuracy: f64,
    /// `None` where all test rows have one label.
    pub auc: Option<f64>,
    /// The worst of all comparisons; `None` where there are no two groups to compare.
    pub gap: Option<BatchGaps>,
    /// Every comparison by the names of its groups.
    pub gaps: Vec<NamedGap>,
    pub batches: usize,
    /// How many batches lacked a group.
    pub incomplete_batches: usize,
    /// How many had no fair scores, and were answered with the unfair ones.
    pub unsolved_batches: usize,
    /// The mean; that of a network that was not trained by itself is with the other one.
    pub seconds_per_epoch: Option<f64>,
}

/// What groups are compared, and how far apart they are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct NamedGap {
    pub groups: String,
    pub gap: Option<BatchGaps>,
}

/// How a network was trained.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Training {
    pub name: &'static str,
    /// The index of the epoch whose weights were kept.
    pub kept: usize,
    pub epochs: Vec<Epoch>,
}

/// All that came of it.
pub struct Comparison {
    pub limit: Limit,
    pub split: Split,
    pub inputs: Vec<Input>,
    /// The names of the columns that are constant in the training rows.
    pub left_out: Vec<String>,
    pub population: Population,
    /// How many numbers a network has learnt.
    pub weights: usize,
    /// Without constraints, with the layer, projected afterwards.
    pub models: [Model; 3],
    /// Without constraints, with the layer.
    pub trainings: [Training; 2],
}

impl Comparison {
    /// Trains the networks and judges them. `tag` is what checkpoints are held against.
    pub fn of(args: &TrainArgs, limit: Limit, data: Data, device: tch::Device, tag: &str) -> Result<Self> {
        let split = Split::by_seed(args.seed, data.cells());
        if split.test.is_empty() {
            return Err(Failure::new(format!(
                "{} rows are too few to be split into some to train with, to choose the epoch with and to test with",
                data.extent.rows
            )));
        }
        let population = people(&data);
        let layer = FairnessLayer::new(&*definition(args.criterion, limit), &population)?.bounds(0.0, 1.0);
        let samples = Samples::new(data, &split)?;
        let task = Task::new(args, &layer, &samples, &split, device)?;

        let (mut free, training) = task.train(UNCONSTRAINED, "unconstrained", Enforce::Never, tag)?;
        let weights = free.variables().trainable_variables().iter().map(Tensor::numel).sum();
        let unconstrained = task.judge(UNCONSTRAINED, &mut free, Some(&training))?;
        free.model_mut().set_enforce(Enforce::Always);
        let afterwards = task.judge(AFTERWARDS, &mut free, None)?;
        let (mut fair, fair_training) = task.train(WITH_LAYER, "layer", Enforce::Always, tag)?;
        let with_layer = task.judge(WITH_LAYER, &mut fair, Some(&fair_training))?;
        Ok(Self {
            limit,
            split,
            inputs: samples.inputs,
            left_out: samples.left_out,
            population,
            weights,
            models: [unconstrained, with_layer, afterwards],
            trainings: [training, fair_training],
        })
    }

    /// What is measured between groups.
    pub fn measure(&self) -> &'static str {
        match self.limit {
            Limit::Ratio { .. } => "ratio",
            Limit::Residual { .. } => "residual",
            Limit::Pairwise { .. } | Limit::Overall { .. } | Limit::Covariance { .. } => "gap",
        }
    }

    /// How many inputs the networks have.
    pub fn width(&self) -> usize {
        width(&self.inputs)
    }

    /// Whether some batch of the test rows had no fair scores.
    pub fn is_unsolved(&self) -> bool {
        self.models.iter().any(|model| model.unsolved_batches > 0)
    }
}

/// The people that the groups are of.
fn people(data: &Data) -> Population {
    let feature = |column: &Categories| Feature { name: column.name.clone(), groups: column.display_texts() };
    let features: Vec<Feature> = data.sensitive.iter().map(feature).collect();
    population(&features, data.control.as_ref())
}

/// The rows as the networks see them.
struct Samples {
    data: Data,
    inputs: Vec<Input>,
    left_out: Vec<String>,
}

impl Samples {
    fn new(mut data: Data, split: &Split) -> Result<Self> {
        let (mut inputs, mut left_out) = (Vec::new(), Vec::new());
        for feature in data.features.drain(..) {
            let name = feature.name.clone();
            match Input::of(feature, &split.train) {
                Some(input) => inputs.push(input),
                None => left_out.push(name),
            }
        }
        if inputs.is_empty() {
            let names: Vec<String> = left_out.iter().map(|name| quoted(name.as_bytes())).collect();
            let why = match names.as_slice() {
                [] => "there is no column but the label and what is hidden".to_owned(),
                names => format!("all columns are constant in the training rows: {}", names.join(", ")),
            };
            return Err(Failure::new(format!("nothing is left for the network to see: {why}")));
        }
        Ok(Self { data, inputs, left_out })
    }

    fn dataset(&self, rows: &[usize], device: tch::Device) -> Result<Dataset> {
        let n = rows.len() as i64;
        let inputs = Tensor::from_slice(&encode(&self.inputs, rows)?).view([n, width(&self.inputs) as i64]);
        let labels: Vec<f32> = self.labels(rows).into_iter().map(f32::from).collect();
        let ids = |columns: &[&Categories]| {
            let of_row = |&row: &usize| columns.iter().map(move |column| i64::from(column.ids[row]));
            Tensor::from_slice(&rows.iter().flat_map(of_row).collect::<Vec<_>>()).view([n, columns.len() as i64])
        };
        let groups = ids(&self.data.sensitive.iter().collect::<Vec<_>>());
        let data = Dataset::new(inputs, Tensor::from_slice(&labels).view([n, 1]), groups)?;
        let data = match &self.data.control {
            Some(control) => data.with_control(ids(&[control]))?,
            None => data,
        };
        Ok(data.to_device(device)?)
    }

    /// Whether the labels of these rows are positive.
    fn labels(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().map(|&row| self.data.positive[row]).collect()
    }
}

/// What all networks are given.
struct Task<'a> {
    args: &'a TrainArgs,
    layer: &'a FairnessLayer,
    device: tch::Device,
    /// How many inputs there are.
    width: usize,
    train: Loader,
    valid: Loader,
    test: Loader,
    /// Whether the labels of the test rows are positive.
    positive: Vec<bool>,
}

type Network = Trainer<nn::Sequential, fn(&Tensor, &Tensor) -> Tensor>;

impl<'a> Task<'a> {
    fn new(
        args: &'a TrainArgs,
        layer: &'a FairnessLayer,
        samples: &Samples,
        split: &Split,
        device: tch::Device,
    ) -> Result<Self> {
        let size = args.batch_size.get();
        let train = Loader::stratified(&samples.dataset(&split.train, device)?, layer, size, args.seed)?;
        // Batches of nearly the same size, in the order that was drawn when the rows were split.
        let in_order = |rows: &[usize]| -> Result<Loader> {
            let even = rows.len().div_ceil(rows.len().div_ceil(size));
            Ok(Loader::in_order(&samples.dataset(rows, device)?, even)?)
        };
        let (valid, test) = (in_order(&split.valid)?, in_order(&split.test)?);
        let positive = samples.labels(&split.test);
        Ok(Self { args, layer, device, width: width(&samples.inputs), train, valid, test, positive })
    }

    /// Trains a network; its checkpoints are in a folder of this name.
    fn train(&self, name: &'static str, folder: &str, enforce: Enforce, tag: &str) -> Result<(Network, Training)> {
        let args = self.args;
        let variables = nn::VarStore::new(self.device);
        let network = perceptron(&variables, self.width, &args.hidden.0, args.seed);
        // (Every batch is projected, however small.)
        let model = FairModel::new(network, self.layer.clone()).b_tau(1).enforce(enforce);
        let loss: fn(&Tensor, &Tensor) -> Tensor = cross_entropy;
        let mut trainer = Trainer::new(model, variables, loss, Optimiser::adam(args.learning_rate))
            .early_stopping(args.patience.get(), 0.0)
            .seed(args.seed as i64)
            .progress(true);
        if let Some(checkpoints) = &args.checkpoint {
            trainer = trainer.checkpoints(checkpoints.join(folder)).tag(tag);
            trainer.resume()?;
        }
        let history = trainer.fit(&self.train, Some(&self.valid), args.epochs.get())?;
        let training = Training { name, kept: history.best(0.0).unwrap_or(0), epochs: history.epochs.clone() };
        Ok((trainer, training))
    }

    /// What a network does with the test rows.
    fn judge(&self, name: &'static str, trainer: &mut Network, training: Option<&Training>) -> Result<Model> {
        let found = trainer.evaluate(&self.test)?;
        let scores = numbers(&found.y)?;
        let seconds = |training: &Training| training.epochs.iter().map(|epoch| epoch.seconds).sum::<f64>();
        Ok(Model {
            name,
            loss: found.loss,
            accuracy: accuracy(&scores, &self.positive),
            auc: auc(&scores, &self.positive),
            gap: found.gaps,
            gaps: found.rows.into_iter().map(|(groups, gap)| NamedGap { groups, gap }).collect(),
            batches: found.batches,
            incomplete_batches: found.incomplete_batches,
            unsolved_batches: found.unsolved_batches,
            seconds_per_epoch: training.map(|training| seconds(training) / training.epochs.len() as f64),
        })
    }
}
