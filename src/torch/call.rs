//! What a call hands over: tensors of predictions and of what goes with them, as the batches that projectors take.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::layer::FairnessLayer;
use super::tensors::{
    Element, buffer, by_column, converted, device_cells, failed, ids, reals, rows_and_columns, tensor_of,
};
use crate::batch::{Batch, Buffer, Offsets, Reals};
use crate::error::{Error, Result};

/// What a layer reads beside the predictions. All are `[n]`, or `[n, K]` of predictions `[n, K]`, of any number type. Those of
/// predictions on a GPU are best on that GPU too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// The group ids, `[n]`, or `[n, F]` of F sensitive features: whole numbers from 0. One that is out of range is an error, or,
    /// on a GPU, which is not waited for, makes the problems bad ones ([`Status::BadNumber`](crate::Status)).
    pub groups: Option<&'a Tensor>,
    /// The labels, for criteria that are about labels. There is no gradient to them.
    pub labels: Option<&'a Tensor>,
    /// The ids of the control feature, `[n]`.
    pub control: Option<&'a Tensor>,
    /// The sample weights; without them all are 1. There is no gradient to them.
    pub weights: Option<&'a Tensor>,
}

/// Numbers of the samples, and whether the columns share them.
#[derive(Debug)]
pub(super) struct OfSamples {
    pub(super) values: Tensor,
    pub(super) is_shared: bool,
}

/// Who belongs where.
#[derive(Debug)]
enum People {
    /// In host memory: the ids of the groups of each sensitive feature, and of the control feature.
    Groups { groups: Vec<Vec<u8>>, control: Option<Vec<u8>> },
    /// The cells of the samples, made of those on the device.
    Cells(OfSamples),
}

/// A call's inputs, as the backward pass needs them again: tensors in host memory, or on a GPU. The columns are problems.
#[derive(Debug)]
pub(super) struct Call<T> {
    /// `[K, n]`, in order.
    z: Tensor,
    shape: Vec<i64>,
    n: usize,
    columns: usize,
    bounds: (T, T),
    people: People,
    labels: Option<OfSamples>,
    weights: Option<OfSamples>,
    /// Whether the tensors are in memory of a GPU.
    on_gpu: bool,
}

impl<T: Element> Call<T> {
    /// What a layer is called with, in host memory; numbers are converted to the type.
    pub(super) fn in_host_memory(layer: &FairnessLayer, predictions: &Tensor, inputs: Inputs<'_>) -> Result<Self> {
        Self::read(layer, predictions, inputs, Device::Cpu, false)
    }

    /// The same on the device of the predictions, or, for the emulation of a GPU, where that has them.
    pub(super) fn read(
        layer: &FairnessLayer,
        predictions: &Tensor,
        inputs: Inputs<'_>,
        device: Device,
        on_gpu: bool,
    ) -> Result<Self> {
        let Some((n, columns)) = rows_and_columns(predictions) else {
            let problem = format!("they have the shape {:?}, and [n] or [n, K] is needed", predictions.size());
            return Err(Error::value("predictions", problem));
        };
        let read = |what, tensor: Option<&Tensor>| tensor.map(|own| reals(what, own, (n, columns), device)).transpose();
        let z = converted(predictions, device, T::KIND)?;
        let labels = inputs.labels.filter(|_| layer.needs_labels());
        let people = if on_gpu {
            People::Cells(device_cells(layer, inputs, (n, columns), device)?)
        } else {
            let features: Vec<_> =
                layer.population.features.iter().map(|f| (f.name.as_str(), f.groups.len())).collect();
            let groups = inputs.groups.map(|groups| ids("groups", groups, n, &features)).transpose()?;
            let control = match (&layer.population.control, inputs.control) {
                (Some(feature), Some(control)) => {
                    ids("control", control, n, &[(&feature.name, feature.levels.len())])?.pop()
                }
                _ => None,
            };
            People::Groups { groups: groups.unwrap_or_default(), control }
        };
        Ok(Self {
            z: by_column(&z)?,
            shape: predictions.size(),
            n,
            columns,
            bounds: (T::from_f64(layer.bounds.0), T::from_f64(layer.bounds.1)),
            people,
            labels: read("labels", labels)?,
            weights: read("weights", inputs.weights)?,
            on_gpu,
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
        let offsets = Offsets::Equal { problems: columns.len(), n: self.n };
        let part = columns.start * self.n..columns.end * self.n;
        let mut batch = Batch::new(buffer(&self.z, T::KIND, part.clone(), self.on_gpu)?, offsets);
        if let Some((lo, hi)) = bounds {
            batch = batch.bounds(lo, hi);
        }
        let groups;
        match &self.people {
            People::Cells(cells) => batch = batch.cells(self.of_samples::<u8>(cells, Kind::Uint8, &part)?),
            People::Groups { groups: all, control } => {
                groups = all.iter().map(|own| Buffer::from(own).shared()).collect::<Vec<Buffer<'_, u8>>>();
                if !groups.is_empty() {
                    batch = batch.groups(&groups);
                }
                if let Some(control) = control {
                    batch = batch.control(Buffer::from(control).shared());
                }
            }
        }
        if let Some(labels) = &self.labels {
            batch = batch.labels(self.numbers(labels, &part)?);
        }
        if let Some(weights) = &self.weights {
            batch = batch.weights(self.numbers(weights, &part)?);
        }
        Ok(with(&batch))
    }

    fn of_samples<'a, R: bytemuck::Pod>(
        &self,
        own: &'a OfSamples,
        kind: Kind,
        part: &Range<usize>,
    ) -> Result<Buffer<'a, R>> {
        if own.is_shared {
            return Ok(buffer(&own.values, kind, 0..self.n, self.on_gpu)?.shared());
        }
        buffer(&own.values, kind, part.clone(), self.on_gpu)
    }

    fn numbers<'a>(&self, own: &'a OfSamples, part: &Range<usize>) -> Result<Reals<'a>> {
        Ok(match own.values.kind() {
            Kind::Float => self.of_samples::<f32>(own, Kind::Float, part)?.into(),
            _ => self.of_samples::<f64>(own, Kind::Double, part)?.into(),
        })
    }

    /// The same of all columns, with their bounds.
    pub(super) fn with_all<R>(&self, with: impl FnOnce(&Batch<'_, T>) -> R) -> Result<R> {
        self.with(0..self.columns, Some(self.bounds), with)
    }

    /// A gradient to the answers, as the backward pass takes it: a tensor to be handed to [`buffer_of`](Self::buffer_of).
    pub(super) fn gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        by_column(&converted(gradient, self.z.device(), T::KIND)?)
    }

    /// All numbers of such a tensor.
    pub(super) fn buffer_of<'a>(&self, tensor: &'a Tensor) -> Result<Buffer<'a, T>> {
        buffer(tensor, T::KIND, 0..self.columns * self.n, self.on_gpu)
    }

    /// A tensor of the type and on the device of the call's.
    pub(super) fn like(&self) -> &Tensor {
        &self.z
    }

    /// Numbers in host memory, column by column, as a tensor of the predictions' shape.
    pub(super) fn tensor(&self, values: &[T]) -> Result<Tensor> {
        match self.columns {
            1 => tensor_of(values, &self.shape),
            _ => self.shaped(tensor_of(values, &[values.len() as i64])?),
        }
    }

    /// The same of numbers that are a tensor, `[K * n]`, already.
    pub(super) fn shaped(&self, values: Tensor) -> Result<Tensor> {
        if self.columns == 1 {
            return values.f_view(&self.shape[..]).map_err(failed);
        }
        let own = values.f_view([self.columns as i64, self.n as i64]).and_then(|own| own.f_transpose(0, 1));
        own.and_then(|own| own.f_contiguous()).map_err(failed)
    }
}
