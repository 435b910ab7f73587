//! Answers and gradients that stay on the device until they are read.

use std::sync::OnceLock;

use super::CudaDevice;
use super::calls::{CellsCall, OutcomeRecord, record_bytes};
use super::memory::Memory;
use crate::batch::Capacities;
use crate::constraints::ConstraintSet;
use crate::error::Result;
use crate::solution::{HostAnswers, HostSlopes, Outcome, Status, Wanted, clamp_start, inactive_words};
use crate::storage::Storage;

/// The answers of a call, and, once they were read, their copy on the host.
#[derive(Debug)]
pub(crate) struct Answers<T: Storage> {
    pub(super) device: CudaDevice,
    capacities: Capacities,
    pub(super) y: Memory,
    pub(super) clamp: Memory,
    /// Of each problem a record of [`record_bytes`].
    pub(super) outcomes: Memory,
    host: OnceLock<HostAnswers<T>>,
}

impl<T: Storage> Answers<T> {
    pub(super) fn new(device: &CudaDevice, capacities: Capacities) -> Self {
        let (y, clamp, outcomes) = Default::default();
        Self { device: device.clone(), capacities, y, clamp, outcomes, host: OnceLock::new() }
    }

    pub(crate) fn forget_read(&mut self) {
        self.host = OnceLock::new();
    }

    pub(crate) fn y_address(&self) -> Option<u64> {
        Some(self.y.address()).filter(|address| *address != 0)
    }

    /// Forgets what was read: new answers come. Room for all that was planned for.
    pub(super) fn begin(&mut self, rows: usize) -> Result<()> {
        self.forget_read();
        let Capacities { problems, total, .. } = self.capacities;
        self.y.hold(&self.device, size_of::<T>().saturating_mul(total))?;
        self.clamp.hold(&self.device, (clamp_start(problems, total) + 1).saturating_mul(4))?;
        self.outcomes.hold(&self.device, record_bytes(rows).saturating_mul(problems))?;
        Ok(())
    }

    /// The answers on the host; the first call after a projection waits for them.
    pub(crate) fn read(&self, offsets: &[usize], rows: usize) -> Result<&HostAnswers<T>> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let host = self.fetch(offsets, rows)?;
        Ok(self.host.get_or_init(|| host))
    }

    fn fetch(&self, offsets: &[usize], rows: usize) -> Result<HostAnswers<T>> {
        let (problems, total) = (offsets.len() - 1, offsets[offsets.len() - 1]);
        let mut host = HostAnswers::new(rows, Capacities { problems, total, ..self.capacities });
        self.y.read(bytemuck::cast_slice_mut(&mut host.y))?;
        if total > 0 {
            let words = clamp_start(problems, total);
            self.clamp.read(bytemuck::cast_slice_mut(&mut host.clamp[..words]))?;
        }
        let mut records = vec![0; record_bytes(rows) * problems];
        self.outcomes.read(&mut records)?;
        for (problem, record) in records.chunks_exact(record_bytes(rows)).enumerate() {
            take_record(&mut host, problem, rows, record);
        }
        Ok(host)
    }
}

fn take_record<T: Storage>(host: &mut HostAnswers<T>, problem: usize, rows: usize, record: &[u8]) {
    let (head, multipliers) = record.split_at(size_of::<OutcomeRecord>());
    let OutcomeRecord { status, iterations, passes, inactive, residual, excess } = bytemuck::pod_read_unaligned(head);
    let status = match status {
        0 => Status::Solved,
        1 => Status::IterationLimit,
        2 => Status::Infeasible,
        4 => Status::Relaxed,
        _ => Status::BadNumber,
    };
    host.outcome[problem] = Outcome { status, iterations, passes, residual, excess };
    if let Some(word) = host.inactive.get_mut(problem * inactive_words(rows)) {
        *word = inactive;
    }
    let values = multipliers.chunks_exact(8).map(bytemuck::pod_read_unaligned);
    host.multipliers[problem * rows..][..rows].iter_mut().zip(values).for_each(|(to, value)| *to = value);
}

impl<T: Storage> Clone for Answers<T> {
    /// A copy of its own on the device: the two do not change each other.
    fn clone(&self) -> Self {
        Self {
            device: self.device.clone(),
            capacities: self.capacities,
            y: self.y.duplicate(),
            clamp: self.clamp.duplicate(),
            outcomes: self.outcomes.duplicate(),
            host: self.host.clone(),
        }
    }
}

/// The gradients of a call, and, once they were read, their copy on the host.
#[derive(Debug)]
pub(crate) struct Slopes<T: Storage> {
    pub(super) device: CudaDevice,
    pub(super) wanted: Wanted,
    capacities: Capacities,
    predictions: Memory,
    lo: Memory,
    hi: Memory,
    weights: Memory,
    labels: Memory,
    /// Of each element as many as there are gradients to its coefficients.
    coefficients: Memory,
    dense: usize,
    levels: Memory,
    lower: Memory,
    upper: Memory,
    host: OnceLock<Box<HostSlopes<T>>>,
}

impl<T: Storage> Slopes<T> {
    pub(super) fn new(device: &CudaDevice, wanted: Wanted, capacities: Capacities) -> Self {
        let (predictions, lo, hi, weights, labels) = Default::default();
        let (coefficients, levels, lower, upper) = Default::default();
        let host = OnceLock::new();
        let device = device.clone();
        Self {
            device,
            wanted,
            capacities,
            predictions,
            lo,
            hi,
            weights,
            labels,
            coefficients,
            dense: 0,
            levels,
            lower,
            upper,
            host,
        }
    }

    pub(crate) fn forget_read(&mut self) {
        self.host = OnceLock::new();
    }

    pub(crate) fn predictions_address(&self) -> Option<u64> {
        Some(self.predictions.address()).filter(|address| *address != 0)
    }

    /// Forgets what was read: new gradients come. Room for all that was planned for, and where it is.
    pub(super) fn begin(&mut self, set: &ConstraintSet, call: &mut CellsCall) -> Result<()> {
        self.forget_read();
        let Capacities { problems, total, .. } = self.capacities;
        let Wanted { bounds, weights, labels, coefficients } = self.wanted;
        let device = &self.device;
        self.dense = if coefficients { set.dense().len() } else { 0 };
        let elements = [
            (1, &mut self.predictions, &mut call.to_predictions),
            (usize::from(bounds), &mut self.lo, &mut call.to_lo),
            (usize::from(bounds), &mut self.hi, &mut call.to_hi),
            (usize::from(weights), &mut self.weights, &mut call.to_weights),
            (usize::from(labels), &mut self.labels, &mut call.to_labels),
            (self.dense, &mut self.coefficients, &mut call.to_coefficients),
        ];
        for (count, memory, at) in elements.into_iter().filter(|(count, _, _)| *count > 0) {
            *at = memory.hold(device, (size_of::<T>() * count).saturating_mul(total))?;
        }
        let numbers = |count: usize| (8 * count).saturating_mul(problems);
        call.to_levels = self.levels.hold(device, numbers(set.spreads().len()))?;
        call.to_row_lower = self.lower.hold(device, numbers(set.bounded_rows()))?;
        call.to_row_upper = self.upper.hold(device, numbers(set.bounded_rows()))?;
        Ok(())
    }

    /// The gradients on the host, of so many problems with so many spreads and bounded rows; the first call after a backward
    /// pass waits for them.
    pub(crate) fn read(&self, (problems, total): (usize, usize), rows: (usize, usize)) -> Result<&HostSlopes<T>> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let Wanted { bounds, weights, labels, .. } = self.wanted;
        let elements = |count: usize, memory: &Memory| -> Result<Vec<T>> {
            let mut array = vec![T::default(); count * total];
            memory.read(bytemuck::cast_slice_mut(&mut array))?;
            Ok(array)
        };
        let of_rows = |count: usize, memory: &Memory| -> Result<Vec<f64>> {
            let mut array = vec![0.0; problems * count];
            memory.read(bytemuck::cast_slice_mut(&mut array))?;
            Ok(array)
        };
        let host = HostSlopes {
            predictions: elements(1, &self.predictions)?,
            lo: elements(usize::from(bounds), &self.lo)?,
            hi: elements(usize::from(bounds), &self.hi)?,
            weights: elements(usize::from(weights), &self.weights)?,
            labels: elements(usize::from(labels), &self.labels)?,
            coefficients: elements(self.dense, &self.coefficients)?,
            levels: of_rows(rows.0, &self.levels)?,
            lower: of_rows(rows.1, &self.lower)?,
            upper: of_rows(rows.1, &self.upper)?,
        };
        Ok(self.host.get_or_init(|| Box::new(host)))
    }
}

impl<T: Storage> Clone for Slopes<T> {
    /// A copy of its own on the device: the two do not change each other.
    fn clone(&self) -> Self {
        Self {
            device: self.device.clone(),
            predictions: self.predictions.duplicate(),
            lo: self.lo.duplicate(),
            hi: self.hi.duplicate(),
            weights: self.weights.duplicate(),
            labels: self.labels.duplicate(),
            coefficients: self.coefficients.duplicate(),
            levels: self.levels.duplicate(),
            lower: self.lower.duplicate(),
            upper: self.upper.duplicate(),
            host: self.host.clone(),
            ..*self
        }
    }
}
