//! A network whose answers are fair.

use std::sync::Arc;

use tch::{Tensor, nn};

use super::call::Inputs;
use super::dataset::Dataset;
use super::layer::FairnessLayer;
use super::solved::{Projected, Report, Reporting};
use super::streams::Streams;
use super::tensors::failed;
use crate::error::{Error, Result};
use crate::streaming::{StreamRule, StreamSettings, StreamState, Streaming};

/// Whether the layer is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Enforce {
    /// In training and in inference.
    #[default]
    Always,
    /// Nowhere: the network by itself, to compare with. What is never enforced can still be measured.
    Never,
}

/// What a model makes of a batch.
#[derive(Debug)]
pub struct Predicted {
    /// What the network says, `[n]` or `[n, K]`.
    pub raw: Tensor,
    /// The same made fair, or as it is where nothing is enforced.
    pub y: Tensor,
    /// Whether it was answered by the stream, being smaller than `b_tau`.
    pub streamed: bool,
    pub(super) source: Source,
}

/// Where what became of a batch is known from.
#[derive(Debug)]
pub(super) enum Source {
    /// A projection, which may still be under way.
    Projection(Arc<dyn Reporting>),
    Stream {
        multipliers: Vec<f64>,
        incomplete: bool,
    },
    Nothing,
}

impl Predicted {
    /// What became of a projection; of a stream the multipliers; nothing where the network answered by itself. On a GPU this waits.
    ///
    /// # Errors
    /// A device that has stopped working.
    pub fn report(&self) -> Result<Report> {
        match &self.source {
            Source::Projection(solved) => solved.report(),
            Source::Stream { multipliers, .. } => Ok(Report { multipliers: multipliers.clone(), ..Report::default() }),
            Source::Nothing => Ok(Report::default()),
        }
    }

    /// Whether some group that the rows compare had no sample in the batch.
    ///
    /// # Errors
    /// A device that has stopped working.
    pub fn is_incomplete(&self) -> Result<bool> {
        match &self.source {
            Source::Projection(solved) => Ok(!solved.report()?.inactive.is_empty()),
            Source::Stream { incomplete, .. } => Ok(*incomplete),
            Source::Nothing => Ok(false),
        }
    }
}

/// Any network of `tch` with a [`FairnessLayer`] behind it.
///
/// In training every batch is projected, whatever its size. In inference, batches of at least `b_tau` samples are; smaller ones
/// are streamed ([`Streaming`]), so that all answers together are fair. The bounds are those of the layer: none, unless it was
/// given some.
///
/// ```no_run
/// use fairlayer::{DemographicParity, Population, torch::{FairModel, FairnessLayer}};
/// use tch::{Device, nn, nn::Module};
///
/// let store = nn::VarStore::new(Device::Cpu);
/// let root = store.root();
/// let network = nn::seq()
///     .add(nn::linear(&root / "hidden", 15, 64, Default::default()))
///     .add_fn(|hidden| hidden.relu())
///     .add(nn::linear(&root / "output", 64, 1, Default::default()))
///     .add_fn(|logits| logits.sigmoid());
/// let layer = FairnessLayer::new(&DemographicParity::within(0.05), &Population::one_feature(2))?.bounds(0.0, 1.0);
/// // The inputs have 16 columns, of which the first is the group: the network is not to see it.
/// let model = FairModel::new(network, layer).hiding_columns(&[0]);
/// # Ok::<(), fairlayer::Error>(())
/// ```
#[derive(Debug)]
pub struct FairModel<M> {
    network: M,
    layer: FairnessLayer,
    enforce: Enforce,
    hidden: Vec<i64>,
    stream: StreamSettings,
    streams: Option<Streams>,
}

impl<M: nn::ModuleT> FairModel<M> {
    /// A network, whose answers are `[n]` or `[n, K]`, and the layer that makes them fair.
    pub fn new(network: M, layer: FairnessLayer) -> Self {
        let stream = StreamSettings { bounds: layer.bounds, ..StreamSettings::default() };
        Self { network, layer, enforce: Enforce::default(), hidden: Vec::new(), stream, streams: None }
    }

    /// Keeps these columns of the inputs, `[n, d]`, from the network, such as those of the sensitive features.
    #[must_use]
    pub fn hiding_columns(self, columns: &[usize]) -> Self {
        Self { hidden: columns.iter().map(|&column| column as i64).collect(), ..self }
    }

    /// From how many samples on a batch is projected by itself in inference. Default 64.
    #[must_use]
    pub fn b_tau(mut self, b_tau: usize) -> Self {
        self.stream.b_tau = b_tau;
        Self { streams: None, ..self }
    }

    /// How smaller batches are answered. Default: [`StreamRule::Pooled`].
    #[must_use]
    pub fn stream_rule(mut self, rule: StreamRule) -> Self {
        self.stream.rule = rule;
        Self { streams: None, ..self }
    }

    /// Whether the layer is at work. Default: [`Enforce::Always`].
    #[must_use]
    pub fn enforce(self, enforce: Enforce) -> Self {
        Self { enforce, ..self }
    }

    /// Changes whether the layer is at work, such as after an unconstrained training.
    pub fn set_enforce(&mut self, enforce: Enforce) {
        self.enforce = enforce;
    }

    /// The layer.
    pub fn layer(&self) -> &FairnessLayer {
        &self.layer
    }

    /// The network.
    pub fn network(&self) -> &M {
        &self.network
    }

    /// What the network says, `[n]` or `[n, K]`, before anything is made fair. Dropout and the like are at work if `train`.
    ///
    /// # Errors
    /// Hidden columns that the inputs do not have; what torch says of their kind or device.
    pub fn raw(&self, inputs: &Tensor, train: bool) -> Result<Tensor> {
        if self.hidden.is_empty() {
            return Ok(self.network.forward_t(inputs, train));
        }
        let width = match inputs.size()[..] {
            [_, width] if self.hidden.iter().all(|&column| column < width) => width,
            _ => {
                let problem = format!(
                    "they have the shape {:?}, and the columns {:?} are to be hidden",
                    inputs.size(),
                    self.hidden
                );
                return Err(Error::value("the inputs", problem));
            }
        };
        let seen: Vec<i64> = (0..width).filter(|column| !self.hidden.contains(column)).collect();
        let seen = Tensor::f_from_slice(&seen).and_then(|seen| seen.f_to_device(inputs.device())).map_err(failed)?;
        Ok(self.network.forward_t(&inputs.f_index_select(1, &seen).map_err(failed)?, train))
    }

    /// The answers in training: projected, in torch's graph.
    ///
    /// # Errors
    /// As [`FairnessLayer::project`].
    pub fn forward(&self, batch: &Dataset) -> Result<Predicted> {
        let raw = self.raw(batch.inputs(), true)?;
        match self.enforce {
            Enforce::Never => Ok(unprojected(raw)),
            Enforce::Always => self.project(raw, batch.of_layer()),
        }
    }

    /// The answers in inference: projected, or streamed where the batch is smaller than `b_tau`. Both count in the sums of
    /// the stream. There is no gradient.
    ///
    /// # Errors
    /// As [`FairnessLayer::project`], and what a stream does not take.
    pub fn infer(&mut self, batch: &Dataset) -> Result<Predicted> {
        tch::no_grad(|| {
            let raw = self.raw(batch.inputs(), false)?;
            match self.enforce {
                Enforce::Never => Ok(unprojected(raw)),
                Enforce::Always if batch.len() >= self.stream.b_tau => {
                    let predicted = self.project(raw, batch.of_layer())?;
                    if predicted.report()?.is_answered() {
                        let Predicted { raw, y, .. } = &predicted;
                        streams_for(&mut self.streams, &self.layer, self.stream, raw)?.record(
                            &self.layer,
                            raw,
                            y,
                            batch.of_layer(),
                        )?;
                    }
                    Ok(predicted)
                }
                Enforce::Always => streams_for(&mut self.streams, &self.layer, self.stream, &raw)?.answer(
                    &self.layer,
                    raw,
                    batch.of_layer(),
                ),
            }
        })
    }

    fn project(&self, raw: Tensor, inputs: Inputs<'_>) -> Result<Predicted> {
        let Projected { y, solved } = self.layer.project(&raw, inputs)?;
        Ok(Predicted { raw, y, streamed: false, source: Source::Projection(solved) })
    }

    pub(super) fn take_streams(&mut self) -> Option<Streams> {
        self.streams.take()
    }

    pub(super) fn put_streams(&mut self, streams: Option<Streams>) {
        self.streams = streams;
    }

    /// Forgets what was inferred so far: the next stream begins anew.
    pub fn reset_streams(&mut self) {
        self.streams = None;
    }

    /// What was inferred so far, for every column of the answers; nothing before the first batch.
    pub fn streams(&self) -> &[Streaming] {
        self.streams.as_ref().map_or(&[], Streams::all)
    }

    /// What was learnt in inference, to go on from in another process: a state for every column.
    pub fn save_streams(&self) -> Vec<StreamState> {
        self.streams().iter().map(Streaming::save).collect()
    }

    /// Goes on from saved states.
    ///
    /// # Errors
    /// As [`Streaming::restore`].
    pub fn restore_streams(&mut self, states: Vec<StreamState>) -> Result<()> {
        self.streams = match states.is_empty() {
            true => None,
            false => Some(Streams::restore(self.layer.constraints(), self.stream, states)?),
        };
        Ok(())
    }
}

/// The streams for answers of this shape, one for every column: those there are, or new ones.
fn streams_for<'a>(
    streams: &'a mut Option<Streams>,
    layer: &FairnessLayer,
    settings: StreamSettings,
    raw: &Tensor,
) -> Result<&'a mut Streams> {
    let columns = raw.size().get(1).map_or(1, |&columns| columns as usize);
    let own = match streams.take() {
        Some(own) if own.all().len() == columns => own,
        _ => Streams::new(layer.constraints(), settings, columns)?,
    };
    Ok(streams.insert(own))
}

fn unprojected(raw: Tensor) -> Predicted {
    let y = raw.shallow_clone();
    Predicted { raw, y, streamed: false, source: Source::Nothing }
}
