//! Answers and gradients that stay on the device until they are read.

use std::sync::OnceLock;

use super::WgpuDevice;
use super::memory::{Memory, read};
use super::slabs::Slab;
use super::tables::one_float;
use crate::batch::Capacities;
use crate::error::Result;
use crate::params::RESULTS_HEAD;
use crate::solution::{CLAMP_LANES, HostAnswers, HostSlopes, Outcome, Status, Wanted, clamp_start, inactive_words};
use crate::storage::Storage;

/// The answers of the problems of a slab.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlabAnswers {
    pub(crate) slab: Slab,
    pub(crate) y: Memory,
    pub(crate) clamp: Memory,
    pub(crate) results: Memory,
}

/// The answers of a call, and, once they were read, their copy on the host.
#[derive(Debug)]
pub(crate) struct Answers<T: Storage> {
    pub(crate) device: WgpuDevice,
    capacities: Capacities,
    pub(crate) slabs: Vec<SlabAnswers>,
    host: OnceLock<HostAnswers<T>>,
}

/// Words of a problem's results.
pub(crate) fn results_stride(rows: usize) -> usize {
    RESULTS_HEAD + 2 * rows
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn pair(words: &[u32]) -> f64 {
    one_float([f32::from_bits(words[0]), f32::from_bits(words[1])])
}

impl<T: Storage> Answers<T> {
    pub(crate) fn new(device: &WgpuDevice, capacities: Capacities) -> Self {
        Self { device: device.clone(), capacities, slabs: Vec::new(), host: OnceLock::new() }
    }

    /// Forgets what was read: new answers come. Room for so many slabs.
    pub(crate) fn begin(&mut self, slabs: &[Slab]) {
        self.host = OnceLock::new();
        self.slabs.resize_with(slabs.len(), SlabAnswers::default);
        for (answers, slab) in self.slabs.iter_mut().zip(slabs) {
            answers.slab = slab.clone();
        }
    }

    pub(crate) fn y_buffer(&self) -> Option<&wgpu::Buffer> {
        if let [only] = &self.slabs[..] { only.y.buffer() } else { None }
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
        let largest = self.capacities.largest;
        let mut host = HostAnswers::new(rows, Capacities { problems, total, largest });
        for answers in &self.slabs {
            let (Some(y), Some(clamp), Some(results)) =
                (answers.y.buffer(), answers.clamp.buffer(), answers.results.buffer())
            else {
                continue;
            };
            let Slab { problems, elements } = &answers.slab;
            let clamp_words = clamp_start(problems.len(), elements.len());
            let stride = results_stride(rows);
            let parts = [
                (y, size_of::<T>() * elements.len()),
                (clamp, 4 * clamp_words),
                (results, 4 * stride * problems.len()),
            ];
            let take = |part: usize, bytes: &[u8]| match part {
                0 => bytemuck::cast_slice_mut(&mut host.y[elements.clone()]).copy_from_slice(bytes),
                1 => take_clamp(&mut host.clamp, &words(bytes), &answers.slab, offsets),
                _ => {
                    for (problem, record) in problems.clone().zip(words(bytes).chunks_exact(stride)) {
                        take_result(&mut host, problem, rows, record);
                    }
                }
            };
            read(&self.device, &parts, take)?;
        }
        Ok(host)
    }
}

/// Copies the clamp words of a slab, problem by problem: their places follow from the elements before.
fn take_clamp(clamp: &mut [u32], of_slab: &[u32], slab: &Slab, offsets: &[usize]) {
    for problem in slab.problems.clone() {
        let (start, end) = (offsets[problem], offsets[problem + 1]);
        let count = (end - start).div_ceil(CLAMP_LANES);
        let from = clamp_start(problem - slab.problems.start, start - slab.elements.start);
        let to = clamp_start(problem, start);
        clamp[to..to + count].copy_from_slice(&of_slab[from..from + count]);
    }
}

fn take_result<T: Storage>(host: &mut HostAnswers<T>, problem: usize, rows: usize, record: &[u32]) {
    let status = match record[0] {
        0 => Status::Solved,
        1 => Status::IterationLimit,
        2 => Status::Infeasible,
        4 => Status::Relaxed,
        _ => Status::BadNumber,
    };
    host.outcome[problem] = Outcome {
        status,
        iterations: record[1],
        passes: record[2],
        residual: f64::from(f32::from_bits(record[4])),
        excess: pair(&record[5..7]),
    };
    if let Some(word) = host.inactive.get_mut(problem * inactive_words(rows)) {
        *word = record[3];
    }
    for row in 0..rows {
        host.multipliers[problem * rows + row] = pair(&record[RESULTS_HEAD + 2 * row..]);
    }
}

impl<T: Storage> Clone for Answers<T> {
    /// A copy of its own on the device: the two do not change each other.
    fn clone(&self) -> Self {
        let copy = |memory: &Memory| memory.duplicate(&self.device);
        let slabs = self.slabs.iter().map(|slab| SlabAnswers {
            slab: slab.slab.clone(),
            y: copy(&slab.y),
            clamp: copy(&slab.clamp),
            results: copy(&slab.results),
        });
        let (device, capacities, host) = (self.device.clone(), self.capacities, self.host.clone());
        Self { device, capacities, slabs: slabs.collect(), host }
    }
}

/// The gradients of the problems of a slab.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlabSlopes {
    pub(crate) slab: Slab,
    /// To predictions, lower and upper bounds, weights and labels.
    pub(crate) elements: [Memory; 5],
    /// To levels, lower and upper row bounds, two floats each.
    pub(crate) rows: Memory,
    /// To the coefficients of rows over samples.
    pub(crate) coefficients: Memory,
}

/// The gradients of a call, and, once they were read, their copy on the host.
#[derive(Debug)]
pub(crate) struct Slopes<T: Storage> {
    pub(crate) device: WgpuDevice,
    pub(crate) wanted: Wanted,
    /// Gradients to coefficients, for each element; and room for all.
    dense: usize,
    capacities: Capacities,
    pub(crate) slabs: Vec<SlabSlopes>,
    host: OnceLock<HostSlopes<T>>,
}

impl<T: Storage> Slopes<T> {
    pub(crate) fn new(device: &WgpuDevice, wanted: Wanted, (dense, capacities): (usize, Capacities)) -> Self {
        Self { device: device.clone(), wanted, dense, capacities, slabs: Vec::new(), host: OnceLock::new() }
    }

    /// Which of the five arrays are wanted.
    pub(crate) fn wants(&self) -> [bool; 5] {
        let Wanted { bounds, weights, labels, .. } = self.wanted;
        [true, bounds, bounds, weights, labels]
    }

    /// Forgets what was read: new gradients come.
    pub(crate) fn begin(&mut self, slabs: &[Slab]) {
        self.host = OnceLock::new();
        self.slabs.resize_with(slabs.len(), SlabSlopes::default);
        for (slopes, slab) in self.slabs.iter_mut().zip(slabs) {
            slopes.slab = slab.clone();
        }
    }

    pub(crate) fn predictions_buffer(&self) -> Option<&wgpu::Buffer> {
        if let [only] = &self.slabs[..] { only.elements[0].buffer() } else { None }
    }

    /// The gradients on the host; the first call after a backward pass waits for them. `rows`: spreads and bounded rows.
    pub(crate) fn read(&self, problems: usize, total: usize, rows: (usize, usize)) -> Result<&HostSlopes<T>> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let host = self.fetch(problems, total, rows)?;
        Ok(self.host.get_or_init(|| host))
    }

    fn fetch(&self, problems: usize, total: usize, (spreads, bounded): (usize, usize)) -> Result<HostSlopes<T>> {
        let mut arrays = self.wants().map(|want| vec![T::default(); if want { total } else { 0 }]);
        let mut coefficients = vec![T::default(); self.dense * self.capacities.total];
        let (mut levels, mut lower, mut upper) =
            (vec![0.0; problems * spreads], vec![0.0; problems * bounded], vec![0.0; problems * bounded]);
        let stride = 2 * (spreads + 2 * bounded);
        for slopes in &self.slabs {
            let Slab { problems, elements } = &slopes.slab;
            let bytes = size_of::<T>() * elements.len();
            let of_elements = slopes.elements.iter().enumerate().filter(|(index, _)| self.wants()[*index]);
            let mut parts: Vec<(usize, &wgpu::Buffer, usize)> =
                of_elements.filter_map(|(index, memory)| Some((index, memory.buffer()?, bytes))).collect();
            if self.dense > 0 {
                parts.extend(slopes.coefficients.buffer().map(|buffer| (5, buffer, self.dense * bytes)));
            }
            parts.extend(slopes.rows.buffer().map(|rows| (6, rows, 4 * stride * problems.len())));
            let plain: Vec<(&wgpu::Buffer, usize)> = parts.iter().map(|(_, buffer, bytes)| (*buffer, *bytes)).collect();
            read(&self.device, &plain, |part, bytes| match parts[part].0 {
                index @ 0..5 => bytemuck::cast_slice_mut(&mut arrays[index][elements.clone()]).copy_from_slice(bytes),
                5 => {
                    let of_slab = self.dense * elements.start..self.dense * elements.end;
                    bytemuck::cast_slice_mut(&mut coefficients[of_slab]).copy_from_slice(bytes);
                }
                _ if stride == 0 => {}
                _ => {
                    for (problem, record) in problems.clone().zip(words(bytes).chunks_exact(stride)) {
                        let values = |first: usize, count: usize| {
                            (first..first + count).map(|index| pair(&record[2 * index..])).collect::<Vec<f64>>()
                        };
                        levels[problem * spreads..][..spreads].copy_from_slice(&values(0, spreads));
                        lower[problem * bounded..][..bounded].copy_from_slice(&values(spreads, bounded));
                        upper[problem * bounded..][..bounded].copy_from_slice(&values(spreads + bounded, bounded));
                    }
                }
            })?;
        }
        let [predictions, lo, hi, weights, labels] = arrays;
        Ok(HostSlopes { predictions, lo, hi, weights, labels, coefficients, levels, lower, upper })
    }
}

impl<T: Storage> Clone for Slopes<T> {
    /// A copy of its own on the device: the two do not change each other.
    fn clone(&self) -> Self {
        let slabs = self.slabs.iter().map(|slab| SlabSlopes {
            slab: slab.slab.clone(),
            elements: slab.elements.each_ref().map(|memory| memory.duplicate(&self.device)),
            rows: slab.rows.duplicate(&self.device),
            coefficients: slab.coefficients.duplicate(&self.device),
        });
        let (device, host) = (self.device.clone(), self.host.clone());
        Self { device, slabs: slabs.collect(), host, ..*self }
    }
}
