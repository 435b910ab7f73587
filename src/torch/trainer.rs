//! Training, and judging what was learnt.

use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use tch::{Kind, Tensor, nn};

use super::checkpoint::{self, Checkpoint, Weights};
use super::gaps::{BatchGaps, Gaps, names};
use super::history::{EarlyStopping, Epoch, History, Schedule};
use super::loader::Loader;
use super::model::FairModel;
use super::optimiser::Optimiser;
use super::solved::Report;
use super::tensors::failed;
use crate::error::{Error, Result};
use crate::solution::Status;

/// Trains a [`FairModel`].
///
/// The loss is of the user's choice: from the fair predictions and the targets to a scalar, the mean over the samples.
///
/// ```no_run
/// # use fairlayer::torch::*;
/// # use tch::{nn, Tensor};
/// # fn train(
/// #     model: FairModel<nn::Sequential>, store: nn::VarStore, train: Dataset, valid: Dataset, test: Dataset,
/// # ) -> fairlayer::Result<()> {
/// let loss = |y: &Tensor, targets: &Tensor| y.binary_cross_entropy::<Tensor>(targets, None, tch::Reduction::Mean);
/// let batches = Loader::stratified(&train, model.layer(), 256, 0)?;
/// let mut trainer = Trainer::new(model, store, loss, Optimiser::adam(1e-3)).early_stopping(25, 1e-5);
/// trainer.fit(&batches, Some(&Loader::in_order(&valid, 256)?), 100)?;
/// let found = trainer.evaluate(&Loader::in_order(&test, 256)?)?;
/// println!("loss {}, gaps {:?}", found.loss, found.gaps);
/// # Ok(())
/// # }
/// ```
pub struct Trainer<M, L> {
    model: FairModel<M>,
    variables: nn::VarStore,
    loss: L,
    optimiser: Optimiser,
    schedule: Schedule,
    stopping: Option<EarlyStopping>,
    seed: i64,
    progress: bool,
    folder: Option<PathBuf>,
    tag: String,
    history: History,
    /// The weights of the best epoch, where training may stop early.
    best: Option<Weights>,
    /// Those of the last epoch, where the variables have those of the best.
    last: Option<Weights>,
}

/// What a model does with samples that it did not learn from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Evaluation {
    /// The mean loss of the samples.
    pub loss: f64,
    /// How many there are.
    pub samples: usize,
    /// In how many batches they came.
    pub batches: usize,
    /// How many batches lacked a group that the rows compare.
    pub incomplete_batches: usize,
    /// How many had no answer, and were answered by clip(z).
    pub unsolved_batches: usize,
    /// The gap of all rows: the largest, or for a ratio the smallest. None if there was nothing to compare.
    pub gaps: Option<BatchGaps>,
    /// By name, every spread (a sensitive feature, in a stratum) and contrast; of several outputs, one after the other.
    pub rows: Vec<(String, Option<BatchGaps>)>,
    /// By name, the multipliers of the last batch, and the largest by size that any batch had; of several outputs, one after
    /// the other.
    pub multipliers: Vec<(String, f64, f64)>,
    /// What the network said, `[n]` or `[n, K]`.
    pub raw: Tensor,
    /// The answers, of the same shape.
    pub y: Tensor,
}

impl<M: nn::ModuleT, L: Fn(&Tensor, &Tensor) -> Tensor> Trainer<M, L> {
    /// A trainer of this model, whose weights are these variables.
    pub fn new(model: FairModel<M>, variables: nn::VarStore, loss: L, optimiser: Optimiser) -> Self {
        Self {
            model,
            variables,
            loss,
            optimiser,
            schedule: Schedule::default(),
            stopping: None,
            seed: 0,
            progress: false,
            folder: None,
            tag: String::new(),
            history: History::default(),
            best: None,
            last: None,
        }
    }

    /// How the learning rate changes. Default: not at all.
    #[must_use]
    pub fn schedule(self, schedule: Schedule) -> Self {
        Self { schedule, ..self }
    }

    /// Stops when the validation loss was not lower by `delta` for `patience` epochs, and in any case takes the weights of the
    /// best epoch when training ends, whatever ends it. Needs validation samples.
    #[must_use]
    pub fn early_stopping(self, patience: usize, delta: f64) -> Self {
        Self { stopping: Some(EarlyStopping { patience, delta }), ..self }
    }

    /// What torch's own random numbers follow from, such as those of dropout: epoch `e` begins with
    /// `tch::manual_seed(seed + e)`. Default 0.
    #[must_use]
    pub fn seed(self, seed: i64) -> Self {
        Self { seed, ..self }
    }

    /// Shows how far it is on standard error, if that is a terminal. Default: no.
    #[must_use]
    pub fn progress(self, progress: bool) -> Self {
        Self { progress, ..self }
    }

    /// Leaves a checkpoint in this folder after every epoch, from which [`resume`](Self::resume) goes on. It is whole at any
    /// moment: a new one takes the place of the one before when all of it is on disk.
    #[must_use]
    pub fn checkpoints(self, folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..self }
    }

    /// What its checkpoints are of, such as arguments: only a trainer with the same tag goes on from one. Default: nothing.
    #[must_use]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), ..self }
    }

    /// Goes on from the checkpoint in the folder, if there is one, and says whether there is: weights, the best ones,
    /// optimiser, history and streams. On the CPU what follows has the very bits that it would have had without the interruption.
    ///
    /// # Errors
    /// No folder of checkpoints; a file that cannot be read, is damaged, or is of another network, optimiser, criterion or tag.
    pub fn resume(&mut self) -> Result<bool> {
        let Some(folder) = &self.folder else {
            return Err(Error::value("checkpoints", "there is no folder to resume from; name one with `checkpoints`"));
        };
        let path = checkpoint::path(folder);
        let Some(Checkpoint { state, weights, best, slots }) = checkpoint::read(&path)? else { return Ok(false) };
        let refused = |problem: String| checkpoint::refused(&path, problem);
        if state.tag != self.tag {
            return Err(refused(format!("it is of {:?}, and this training of {:?}", state.tag, self.tag)));
        }
        if state.held_to != self.held_to() {
            return Err(refused("its training was held to another criterion, limit or bounds".to_owned()));
        }
        for weights in [Some(&weights), best.as_ref()].into_iter().flatten() {
            checkpoint::check(&self.variables, weights).map_err(refused)?;
        }
        self.optimiser.restore(state.optimiser, slots).map_err(refused)?;
        self.model.restore_streams(state.streams)?;
        (self.history, self.best, self.last) = (state.history, best, None);
        checkpoint::load(&self.variables, &weights)?;
        Ok(true)
    }

    /// Trains until the history has so many epochs, or stops early. The weights are then those of the last epoch; with early
    /// stopping those of the best, even if training ends with an error. May be called again to go on.
    ///
    /// # Errors
    /// Early stopping without validation samples; a checkpoint in the folder that is not this training's; what the layer and torch
    /// do not take; a loss that is no number.
    pub fn fit(&mut self, train: &Loader, valid: Option<&Loader>, epochs: usize) -> Result<&History> {
        if self.stopping.is_some() && valid.is_none() {
            let problem = "it needs validation samples; give them to `fit`";
            return Err(Error::value("early stopping", problem));
        }
        if let Some(folder) = &self.folder {
            checkpoint::make_folder(folder)?;
            let path = checkpoint::path(folder);
            if self.history.epochs.is_empty() && path.exists() {
                let problem = "there is a checkpoint already; call `resume` before, or use another folder";
                return Err(checkpoint::refused(&path, problem.to_owned()));
            }
        }
        if let Some(last) = self.last.take() {
            checkpoint::load(&self.variables, &last)?;
        }
        let bar = self.bar(train, epochs);
        let trained = self.train(train, valid, epochs, &bar);
        bar.finish_and_clear();
        if let Some(best) = self.best.take() {
            self.last = Some(self.weights()?);
            checkpoint::load(&self.variables, &best)?;
            self.best = Some(best);
        }
        trained.map(|()| &self.history)
    }

    fn train(&mut self, train: &Loader, valid: Option<&Loader>, epochs: usize, bar: &ProgressBar) -> Result<()> {
        while self.history.epochs.len() < epochs && !self.stopping.is_some_and(|own| self.history.is_over(own)) {
            let number = self.history.epochs.len();
            tch::manual_seed(self.seed.wrapping_add(number as i64));
            let began = Instant::now();
            let mut epoch = self.train_epoch(train, number, bar)?;
            if let Some(valid) = valid {
                let found = self.evaluate(valid)?;
                (epoch.valid_loss, epoch.valid_gap) = (Some(found.loss), found.gaps.map(|gaps| gaps.pooled));
            }
            epoch.seconds = began.elapsed().as_secs_f64();
            bar.set_message(message(&epoch));
            self.history.epochs.push(epoch);
            if let Some(EarlyStopping { delta, .. }) = self.stopping
                && self.history.best(delta) == Some(number)
            {
                self.best = Some(self.weights()?);
            }
            self.keep()?;
        }
        Ok(())
    }

    fn train_epoch(&mut self, train: &Loader, number: usize, bar: &ProgressBar) -> Result<Epoch> {
        let learning_rate = self.optimiser.learning_rate() * self.schedule.factor(&self.history);
        let (mut losses, mut gaps) = (Tensor::zeros([], (Kind::Double, self.variables.device())), Gaps::new());
        let (mut incomplete_batches, mut unsolved_batches) = (0, 0);
        for batch in train.epoch(number) {
            let batch = batch?;
            let predicted = self.model.forward(&batch)?;
            let report = predicted.report()?;
            check_numbers(&report, "in training")?;
            let loss = (self.loss)(&predicted.y, batch.targets());
            loss.f_backward().map_err(failed)?;
            self.optimiser.step(&self.variables, learning_rate)?;
            losses += loss.f_detach().map_err(failed)? * batch.len() as f64;
            gaps.add(self.model.layer(), &predicted.raw, &predicted.y, batch.of_layer())?;
            incomplete_batches += usize::from(predicted.is_incomplete()?);
            unsolved_batches += usize::from(!report.is_answered());
            bar.inc(1);
        }
        let train_loss = losses.double_value(&[]) / train.data().len() as f64;
        if !train_loss.is_finite() {
            let problem = format!("it is {train_loss} in epoch {number}; a lower learning rate may help");
            return Err(Error::value("the loss", problem));
        }
        let gaps = gaps.worst(self.model.layer().constraints());
        Ok(Epoch {
            learning_rate,
            train_loss,
            train_gap: gaps.map(|gaps| gaps.pooled),
            train_batch_gap: gaps.and_then(|gaps| gaps.worst),
            train_batch_excess: gaps.map_or(0.0, |gaps| gaps.worst_excess),
            incomplete_batches,
            unsolved_batches,
            valid_loss: None,
            valid_gap: None,
            seconds: 0.0,
        })
    }

    /// Has the model answer these batches, as in inference and from a new stream, and says what came of it. What the model has
    /// inferred before stays as it is.
    ///
    /// # Errors
    /// What the layer, the stream and torch do not take, predictions or a loss that are no numbers.
    pub fn evaluate(&mut self, batches: &Loader) -> Result<Evaluation> {
        let kept = self.model.take_streams();
        let found = self.evaluate_anew(batches);
        self.model.put_streams(kept);
        found
    }

    fn evaluate_anew(&mut self, batches: &Loader) -> Result<Evaluation> {
        self.model.reset_streams();
        let set = self.model.layer().constraints().clone();
        let (mut losses, mut gaps) = (0.0, Gaps::new());
        let (mut incomplete_batches, mut unsolved_batches) = (0, 0);
        let (mut raw, mut y) = (Vec::new(), Vec::new());
        let mut multipliers: Vec<(f64, f64)> = Vec::new();
        for batch in batches.epoch(0) {
            let batch = batch?;
            let predicted = self.model.infer(&batch)?;
            let report = predicted.report()?;
            check_numbers(&report, "in evaluation")?;
            let loss = tch::no_grad(|| (self.loss)(&predicted.y, batch.targets()));
            losses += loss.f_double_value(&[]).map_err(failed)? * batch.len() as f64;
            gaps.add(self.model.layer(), &predicted.raw, &predicted.y, batch.of_layer())?;
            incomplete_batches += usize::from(predicted.is_incomplete()?);
            unsolved_batches += usize::from(!report.is_answered());
            multipliers.resize(multipliers.len().max(report.multipliers.len()), (0.0, 0.0));
            for (kept, &now) in multipliers.iter_mut().zip(&report.multipliers) {
                *kept = (now, if now.abs() > kept.1.abs() { now } else { kept.1 });
            }
            raw.push(predicted.raw);
            y.push(predicted.y);
        }
        let loss = losses / batches.data().len() as f64;
        if !loss.is_finite() {
            return Err(Error::value("the loss", format!("it is {loss} in evaluation")));
        }
        let cycled = |names: Vec<String>| names.into_iter().cycle();
        let of_rows = set.row_names().map(str::to_owned).collect();
        Ok(Evaluation {
            loss,
            samples: batches.data().len(),
            batches: batches.batches(),
            incomplete_batches,
            unsolved_batches,
            gaps: gaps.worst(&set),
            rows: cycled(names(&set)).zip(gaps.of_rows(&set)).collect(),
            multipliers: cycled(of_rows).zip(multipliers).map(|(name, (last, most))| (name, last, most)).collect(),
            raw: Tensor::f_cat(&raw, 0).map_err(failed)?,
            y: Tensor::f_cat(&y, 0).map_err(failed)?,
        })
    }

    /// What was learnt so far, epoch by epoch.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The model.
    pub fn model(&self) -> &FairModel<M> {
        &self.model
    }

    /// The model, to change what it does.
    pub fn model_mut(&mut self) -> &mut FairModel<M> {
        &mut self.model
    }

    /// The variables, which are the model's weights.
    pub fn variables(&self) -> &nn::VarStore {
        &self.variables
    }

    /// The model and its weights.
    pub fn into_model(self) -> (FairModel<M>, nn::VarStore) {
        (self.model, self.variables)
    }

    fn held_to(&self) -> String {
        let layer = self.model.layer();
        format!("{:?} within {:?}", layer.constraints(), layer.bounds)
    }

    /// Leaves a checkpoint, if there is a folder for it.
    fn keep(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let state = checkpoint::State {
            tag: self.tag.clone(),
            held_to: self.held_to(),
            optimiser: self.optimiser.memory(),
            history: self.history.clone(),
            streams: self.model.save_streams(),
        };
        let slots = self.optimiser.tensors().map(|(name, tensor)| (name, tensor.shallow_clone())).collect();
        let weights = self.variables.variables().into_iter().collect();
        let shallow = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.shallow_clone());
        let best = self.best.as_ref().map(|best| best.iter().map(shallow).collect());
        checkpoint::write(&checkpoint::path(folder), &Checkpoint { state, weights, best, slots })
    }

    /// A copy of all variables.
    fn weights(&self) -> Result<Weights> {
        let copied = |(name, tensor): (String, Tensor)| Ok((name, tensor.f_detach_copy().map_err(failed)?));
        self.variables.variables().into_iter().map(copied).collect()
    }

    fn bar(&self, train: &Loader, epochs: usize) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let done = (self.history.epochs.len() * train.batches()) as u64;
        let bar = ProgressBar::new((epochs * train.batches()) as u64).with_position(done);
        // (A template that is a constant is right or wrong for good.)
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % {eta:>4} left, {msg}") {
            bar.set_style(style);
        }
        bar
    }
}

fn check_numbers(report: &Report, when: &str) -> Result<()> {
    match report.outcomes.iter().any(|outcome| outcome.status == Status::BadNumber) {
        false => Ok(()),
        true => {
            let problem = format!("one is NaN or infinite {when}, or a label is; a lower learning rate may help");
            Err(Error::value("the predictions", problem))
        }
    }
}

fn message(epoch: &Epoch) -> String {
    let valid = epoch.valid_loss.map_or_else(String::new, |loss| format!(", in validation {loss:.4}"));
    format!("loss {:.4}{valid}", epoch.train_loss)
}
