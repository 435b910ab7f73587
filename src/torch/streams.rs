//! Streams of tensors: one for every column of a network's answers.

use tch::{Device, Kind, Tensor};

use super::call::{Call, Inputs};
use super::layer::FairnessLayer;
use super::model::{Predicted, Source};
use super::tensors::{by_column, converted, values};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};
use crate::solution::Status;
use crate::streaming::{StreamSettings, StreamState, Streaming};

#[derive(Debug)]
pub(super) struct Streams(Vec<Streaming>);

impl Streams {
    pub(super) fn new(set: &ConstraintSet, settings: StreamSettings, columns: usize) -> Result<Self> {
        (0..columns).map(|_| Streaming::new(set, settings)).collect::<Result<_>>().map(Self)
    }

    pub(super) fn restore(set: &ConstraintSet, settings: StreamSettings, states: Vec<StreamState>) -> Result<Self> {
        states.into_iter().map(|state| Streaming::restore(set, settings, state)).collect::<Result<_>>().map(Self)
    }

    pub(super) fn all(&self) -> &[Streaming] {
        &self.0
    }

    /// Answers a batch that is too small to be projected.
    pub(super) fn answer(&mut self, layer: &FairnessLayer, raw: Tensor, inputs: Inputs<'_>) -> Result<Predicted> {
        let call = Call::<f64>::in_host_memory(layer, &raw, inputs)?;
        let (columns, n) = call.extent();
        let mut y = vec![0.0; columns * n];
        let mut incomplete = false;
        for (column, stream) in self.0.iter_mut().enumerate() {
            let own = &mut y[column * n..(column + 1) * n];
            let answered = call.with(column..column + 1, None, |batch| stream.answer_into(batch, own))??;
            if answered.status == Status::BadNumber {
                let problem = "one is no number that can be used, or a label is not";
                return Err(Error::value("predictions", problem));
            }
            incomplete |= answered.incomplete;
        }
        let y = converted(&call.tensor(&y)?, raw.device(), raw.kind())?;
        let multipliers = self.0.iter().flat_map(|stream| stream.multipliers()).copied().collect();
        Ok(Predicted { raw, y, streamed: true, source: Source::Stream { multipliers, incomplete } })
    }

    /// Takes in a batch that was projected.
    pub(super) fn record(&mut self, layer: &FairnessLayer, raw: &Tensor, y: &Tensor, inputs: Inputs<'_>) -> Result<()> {
        let call = Call::<f64>::in_host_memory(layer, raw, inputs)?;
        let (_, n) = call.extent();
        let y = by_column(&converted(y, Device::Cpu, Kind::Double)?)?;
        let y = values::<f64>(&y)?;
        for (column, stream) in self.0.iter_mut().enumerate() {
            let own = &y[column * n..(column + 1) * n];
            call.with(column..column + 1, None, |batch| stream.record(batch, own))??;
        }
        Ok(())
    }
}
