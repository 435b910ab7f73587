//! What a call hands over: tensors of predictions and of what goes with them, as the batches that projectors take.

use std::ops::Range;

use tch::Tensor;

use super::layer::FairnessLayer;
use super::tensors::{Element, by_column, failed, ids, reals, rows_and_columns, tensor_of, values};
use crate::batch::{Batch, Buffer, Offsets, Reals};
use crate::error::{Error, Result};
use crate::projector::Projector;
use crate::solution::{Solution, Wanted};

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

/// Real numbers of the samples, and whether the columns share them.
type OfSamples = (Vec<f64>, bool);

/// A call's inputs in host memory, as the backward pass needs them again. The columns are problems.
pub(super) struct Call<T> {
    /// `[K, n]`, in order.
    z: Tensor,
    shape: Vec<i64>,
    n: usize,
    columns: usize,
    bounds: (T, T),
    groups: Vec<Vec<u8>>,
    control: Option<Vec<u8>>,
    labels: Option<OfSamples>,
    weights: Option<OfSamples>,
}

impl<T: Element> Call<T> {
    /// What a layer is called with; numbers are converted to the type.
    pub(super) fn read(layer: &FairnessLayer, predictions: &Tensor, inputs: Inputs<'_>) -> Result<Self> {
        let Some((n, columns)) = rows_and_columns(predictions) else {
            let problem = format!("they have the shape {:?}, and [n] or [n, K] is needed", predictions.size());
            return Err(Error::value("predictions", problem));
        };
        let features: Vec<_> = layer.population.features.iter().map(|f| (f.name.as_str(), f.groups.len())).collect();
        let groups = inputs.groups.map(|groups| ids("groups", groups, n, &features)).transpose()?;
        let control = match (&layer.population.control, inputs.control) {
            (Some(feature), Some(control)) => {
                ids("control", control, n, &[(&feature.name, feature.levels.len())])?.pop()
            }
            _ => None,
        };
        let read = |what, tensor: Option<&Tensor>| tensor.map(|own| reals(what, own, (n, columns))).transpose();
        let z = predictions.f_detach().and_then(|z| z.f_to_kind(T::KIND)).map_err(failed)?;
        Ok(Self {
            z: by_column(&z)?,
            shape: predictions.size(),
            n,
            columns,
            bounds: (T::from_f64(layer.bounds.0), T::from_f64(layer.bounds.1)),
            groups: groups.unwrap_or_default(),
            control,
            labels: read("labels", inputs.labels.filter(|_| layer.needs_labels()))?,
            weights: read("weights", inputs.weights)?,
        })
    }

    /// How many columns there are, and how many samples in each.
    pub(super) fn extent(&self) -> (usize, usize) {
        (self.columns, self.n)
    }

    /// Has `with` make the batch of these columns, whose parts lie here; without bounds where these are given elsewhere.
    pub(super) fn with<R>(
        &self,
        columns: Range<usize>,
        bounds: Option<(T, T)>,
        with: impl FnOnce(&Batch<'_, T>) -> R,
    ) -> Result<R> {
        let n = self.n;
        let part = columns.start * n..columns.end * n;
        let groups: Vec<Buffer<'_, u8>> = self.groups.iter().map(|ids| Buffer::from(ids).shared()).collect();
        let offsets = Offsets::Equal { problems: columns.len(), n };
        let mut batch = Batch::new(&values::<T>(&self.z)?[part.clone()], offsets);
        if let Some((lo, hi)) = bounds {
            batch = batch.bounds(lo, hi);
        }
        if !groups.is_empty() {
            batch = batch.groups(&groups);
        }
        if let Some(control) = &self.control {
            batch = batch.control(Buffer::from(control).shared());
        }
        if let Some(labels) = &self.labels {
            batch = batch.labels(of_samples(labels, &part));
        }
        if let Some(weights) = &self.weights {
            batch = batch.weights(of_samples(weights, &part));
        }
        Ok(with(&batch))
    }

    /// The same of all columns, with their bounds.
    pub(super) fn with_all<R>(&self, with: impl FnOnce(&Batch<'_, T>) -> R) -> Result<R> {
        self.with(0..self.columns, Some(self.bounds), with)
    }

    /// Numbers column by column as a tensor of the predictions' shape.
    pub(super) fn tensor(&self, values: &[T]) -> Result<Tensor> {
        let own = tensor_of(values)?;
        if self.shape.len() == 1 {
            return Ok(own);
        }
        let own = own.f_view([self.columns as i64, self.n as i64]).and_then(|own| own.f_transpose(0, 1));
        own.and_then(|own| own.f_contiguous()).map_err(failed)
    }

    /// The backward pass.
    pub(super) fn pull(
        &self,
        projector: &mut Projector<T>,
        solution: &Solution<T>,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let g = by_column(&gradient.f_to_kind(T::KIND).map_err(failed)?)?;
        let mut gradients = projector.gradients(Wanted::default());
        self.with_all(|batch| projector.vjp(batch, solution, values::<T>(&g)?, &mut gradients))??;
        self.tensor(gradients.read()?.predictions)
    }
}

fn of_samples<'a>((values, is_shared): &'a OfSamples, part: &Range<usize>) -> Reals<'a> {
    if *is_shared { Reals::from(values).shared() } else { Reals::from(&values[part.clone()]) }
}
