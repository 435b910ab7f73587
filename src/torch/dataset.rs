//! Samples as tensors that are cut alike.

use tch::{Kind, Tensor};

use super::call::Inputs;
use super::tensors::failed;
use crate::error::{Error, Result};

/// Samples to learn from or to be judged on; a batch is one too.
///
/// ```no_run
/// use fairlayer::torch::Dataset;
/// use tch::{Device, Kind, Tensor};
///
/// let inputs = Tensor::randn([1000, 16], (Kind::Float, Device::Cpu));
/// let groups = inputs.select(1, 0).gt(0.0).to_kind(Kind::Int64);
/// let targets = Tensor::randint(2, [1000, 1], (Kind::Float, Device::Cpu));
/// let data = Dataset::new(inputs, targets, groups)?;
/// # Ok::<(), fairlayer::Error>(())
/// ```
#[derive(Debug)]
pub struct Dataset {
    inputs: Tensor,
    targets: Tensor,
    groups: Tensor,
    labels: Option<Tensor>,
    control: Option<Tensor>,
}

impl Clone for Dataset {
    /// The clone shares the tensors' memory.
    fn clone(&self) -> Self {
        let clone = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            inputs: self.inputs.shallow_clone(),
            targets: self.targets.shallow_clone(),
            groups: self.groups.shallow_clone(),
            labels: clone(&self.labels),
            control: clone(&self.control),
        }
    }
}

impl Dataset {
    /// Samples with what the network reads, `[n, ...]`, what the loss compares its answers with, `[n, ...]`, and the ids of
    /// their groups, `[n]` or `[n, F]` of F sensitive features. The targets are the labels too, for criteria that are about
    /// labels, unless [`with_labels`](Self::with_labels) gives others.
    ///
    /// # Errors
    /// Tensors of different lengths, or of no samples.
    pub fn new(inputs: Tensor, targets: Tensor, groups: Tensor) -> Result<Self> {
        let data = Self { inputs, targets, groups, labels: None, control: None };
        if data.inputs.dim() == 0 || data.is_empty() {
            return Err(Error::value("the inputs", "there are no samples; the first dimension counts them"));
        }
        data.check("targets", &data.targets)?;
        data.check("groups", &data.groups)?;
        Ok(data)
    }

    /// Labels for the criterion, `[n]` or `[n, K]`, that are not the targets of the loss.
    ///
    /// # Errors
    /// Another length.
    pub fn with_labels(self, labels: Tensor) -> Result<Self> {
        self.check("labels", &labels)?;
        Ok(Self { labels: Some(labels), ..self })
    }

    /// The ids of the control feature of conditional parity, `[n]`.
    ///
    /// # Errors
    /// Another length.
    pub fn with_control(self, control: Tensor) -> Result<Self> {
        self.check("control", &control)?;
        Ok(Self { control: Some(control), ..self })
    }

    fn check(&self, what: &'static str, tensor: &Tensor) -> Result<()> {
        match tensor.size().first() {
            Some(&length) if length as usize == self.len() => Ok(()),
            Some(&length) => Err(Error::Shape { what, expected: self.len(), got: length as usize }),
            None => Err(Error::Shape { what, expected: self.len(), got: 1 }),
        }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.inputs.size()[0] as usize
    }

    /// Never, but for a selection of no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the network reads, `[n, ...]`.
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// What the loss compares answers with, `[n, ...]`.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }

    /// The ids of the groups, `[n]` or `[n, F]`.
    pub fn groups(&self) -> &Tensor {
        &self.groups
    }

    /// What a layer reads of them.
    pub fn of_layer(&self) -> Inputs<'_> {
        Inputs {
            groups: Some(&self.groups),
            labels: Some(self.labels.as_ref().unwrap_or(&self.targets)),
            control: self.control.as_ref(),
            weights: None,
        }
    }

    /// These samples of it, in this order.
    ///
    /// # Errors
    /// A number out of range.
    pub fn select(&self, samples: &[i64]) -> Result<Self> {
        if let Some(beyond) = samples.iter().find(|&&sample| !(0..self.len() as i64).contains(&sample)) {
            return Err(Error::value("samples", format!("there is no sample {beyond} among {}", self.len())));
        }
        let rows = Tensor::f_from_slice(samples).map_err(failed)?;
        self.each(|tensor| tensor.f_index_select(0, &rows.f_to_device(tensor.device())?))
    }

    /// The samples from `start` on, `length` of them; they share the memory.
    pub(super) fn part(&self, start: usize, length: usize) -> Result<Self> {
        self.each(|tensor| tensor.f_narrow(0, start as i64, length as i64))
    }

    /// The same samples on a device.
    ///
    /// # Errors
    /// What torch says.
    pub fn to_device(&self, device: tch::Device) -> Result<Self> {
        self.each(|tensor| tensor.f_to_device(device))
    }

    fn each(&self, of: impl Fn(&Tensor) -> std::result::Result<Tensor, tch::TchError>) -> Result<Self> {
        let of = |tensor: &Tensor| of(tensor).map_err(failed);
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(of).transpose();
        Ok(Self {
            inputs: of(&self.inputs)?,
            targets: of(&self.targets)?,
            groups: of(&self.groups)?,
            labels: optional(&self.labels)?,
            control: optional(&self.control)?,
        })
    }

    /// For every sample the cell that a layer compares it in: the ids of its groups, and of its stratum.
    pub(super) fn cells(&self, is_label: bool) -> Result<Vec<Vec<i64>>> {
        let n = self.len() as i64;
        let mut columns = vec![self.groups.f_reshape([n, -1]).map_err(failed)?];
        if let Some(control) = &self.control {
            columns.push(control.f_reshape([n, -1]).map_err(failed)?);
        }
        if is_label {
            let labels = self.labels.as_ref().unwrap_or(&self.targets);
            let positive = labels.f_gt(0.5).and_then(|positive| positive.f_reshape([n, -1]));
            columns.push(positive.map_err(failed)?);
        }
        let whole = |column: &Tensor| column.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Int64);
        let columns = columns.iter().map(whole).collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
        let all = Tensor::f_cat(&columns, 1).map_err(failed)?;
        Vec::try_from(all).map_err(failed)
    }
}
