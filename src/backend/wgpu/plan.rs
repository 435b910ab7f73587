//! The plan for a wgpu device: what is uploaded, bound and dispatched for a call.

use std::marker::PhantomData;
use std::sync::Arc;

use super::WgpuDevice;
use super::admm;
use super::answers::{Answers, Slopes, results_stride};
use super::dispatch::{Chain, EMULATED_ROUNDS, rounds_of_a_pass};
use super::inputs::SlabMemory;
use super::large::{MOST_ELEMENTS, Tiling};
use super::sizes::Sizes;
use super::slabs::{Slab, slabs};
use super::tables::{push_set, two_floats};
use crate::batch::{Batch, Buffer, Capacities};
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::error::{Error, Result};
use crate::params::{
    ABSENT, BRACKETS_ROW, BRACKETS_SPREAD, MAX_GPU_CELLS, MAX_GPU_ROWS, Params, STATE_HEAD, STATE_ROW, TOTALS_CELL,
    TOTALS_HEAD,
};
use crate::params::{flags, sample_words};
use crate::reference::components::{Component, components};
use crate::reference::disjoint::is_disjoint;
use crate::settings::{Infeasible, Method, Settings};
use crate::solution::Wanted;
use crate::storage::{Dtype, Storage};

/// A plan: nothing of the data, but memory for it.
#[derive(Debug)]
pub(crate) struct WgpuPlan<T: Storage> {
    pub(super) device: WgpuDevice,
    pub(super) capacities: Capacities,
    /// The constraint set as words, and the parameters that it fixes.
    pub(super) set_words: Vec<u32>,
    pub(super) set_params: Params,
    /// Whether the short cut's closed form holds for all rows.
    pub(super) is_disjoint: bool,
    pub(super) method: Method,
    pub(super) sizes: Arc<Sizes>,
    pub(super) chain: Chain,
    /// How large problems are cut; none are that have rows over samples, or go to ADMM.
    pub(super) tiling: Option<Tiling>,
    pub(super) memory: Vec<SlabMemory>,
    /// Scratch for uploads.
    pub(super) words: Vec<u32>,
    pub(super) floats: Vec<f32>,
    pub(super) bytes: Vec<u8>,
    pub(super) storage: PhantomData<T>,
}

/// What this device does not do, and what does.
fn check(set: &ConstraintSet, dtype: Dtype) -> Result<()> {
    let unsupported = |what: String, instead| Err(Error::Unsupported { device: "wgpu", what, instead });
    if set.layout().cells() > MAX_GPU_CELLS {
        return Err(Error::TooManyCells { cells: set.layout().cells(), limit: MAX_GPU_CELLS });
    }
    if set.rows() > MAX_GPU_ROWS {
        return unsupported(
            format!("{} rows", set.rows()),
            "it takes 32; use the CPU, constrain fewer features at once, or split the batch by stratum into problems",
        );
    }
    if dtype == Dtype::F64 {
        return unsupported("F64".into(), "it computes in f32; use that, f16 or bf16, or the CPU");
    }
    Ok(())
}

impl<T: Storage> WgpuPlan<T> {
    pub(crate) fn new(
        device: &WgpuDevice,
        set: &ConstraintSet,
        capacities: Capacities,
        settings: Settings,
    ) -> Result<Self> {
        check(set, T::DTYPE)?;
        let is_admm = settings.method == Method::Admm;
        let tiling = Some(device.tiling()).filter(|_| set.dense().is_empty() && !is_admm);
        if tiling.is_some() && capacities.largest > MOST_ELEMENTS {
            return Err(Error::Unsupported {
                device: "wgpu",
                what: format!("a problem of {} predictions", capacities.largest),
                instead: "it takes 16777216; use the CPU, or split the problem by stratum",
            });
        }
        // (Of more than this a workgroup does not all alone.)
        let largest = tiling.map_or(capacities.largest, |tiling| capacities.largest.min(tiling.above));
        let of_admm = if is_admm { admm::rounds_at_once(set, largest) } else { 0 };
        if device.is_emulated() && rounds_of_a_pass(set, largest).max(of_admm) > EMULATED_ROUNDS {
            let what = if is_admm { "ADMM" } else { "dense rows" };
            return Err(device.failed(format!(
                "it emulates a GPU, and has no time for {what} over {} predictions; use the CPU device",
                capacities.largest
            )));
        }
        let components = components(set);
        let is_disjoint =
            set.dense().is_empty() && components.iter().all(|component: &Component| is_disjoint(set, component));
        let (mut set_words, mut set_params) = (Vec::new(), Params::default());
        push_set(set, &components, &mut set_words, &mut set_params);
        set_params.admm_at = ABSENT;
        if is_admm {
            admm::push_settings(device, &settings.admm, &mut set_words, &mut set_params);
        }
        let [tolerance, tolerance_rest] = two_floats(settings.tolerance);
        let unit_roundoff = T::UNIT_ROUNDOFF as f32;
        let has_ratio = set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)));
        let mut bits = 0;
        bits |= if has_ratio { flags::HAS_RATIO } else { 0 };
        bits |= if settings.infeasible == Infeasible::NearestFeasible { flags::RELAX } else { 0 };
        set_params = Params {
            tolerance,
            tolerance_rest,
            unit_roundoff,
            flags: bits,
            max_iterations: settings.max_iterations,
            totals_stride: (TOTALS_HEAD + TOTALS_CELL * set.layout().cells()) as u32,
            results_stride: results_stride(set.rows()) as u32,
            search_passes: 24,
            most_columns: device.limits().max_compute_workgroups_per_dimension,
            ..set_params
        };
        let mut plan = Self {
            device: device.clone(),
            capacities,
            set_words,
            set_params,
            is_disjoint,
            method: settings.method,
            sizes: Arc::new(Sizes::new(device.has_gpu_sizes(), set, largest)),
            chain: Chain::new(device, set),
            tiling,
            memory: Vec::new(),
            words: Vec::new(),
            floats: Vec::new(),
            bytes: Vec::new(),
            storage: PhantomData,
        };
        plan.reserve()?;
        Ok(plan)
    }

    /// Allocates what every call needs.
    fn reserve(&mut self) -> Result<()> {
        let Capacities { problems, total, .. } = self.capacities;
        if total <= self.most_elements() && problems <= self.most_problems() {
            let (device, mut memory) = (&self.device, SlabMemory::default());
            memory.z.hold(device, size_of::<T>() * total)?;
            memory.cells.hold(device, total + 4 * problems)?;
            memory.totals.hold(device, 4 * self.set_params.totals_stride as usize * problems)?;
            self.memory.push(memory);
        }
        self.device.check()
    }

    /// Words of the largest array that can be bound.
    fn most_words(&self) -> usize {
        let limits = self.device.limits();
        (limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 4) as usize
    }

    /// The elements whose widest array can be bound: two floats, or all of a sample's rows.
    fn most_elements(&self) -> usize {
        self.most_words() / self.sample_words().max(2)
    }

    /// Words of a sample in what kernels over samples work on; 0 if there are none of those.
    pub(super) fn sample_words(&self) -> usize {
        let (dense, is_admm) = (self.set_params.dense as usize, self.method == Method::Admm);
        if dense > 0 || is_admm { sample_words(dense, is_admm) } else { 0 }
    }

    /// Words of a problem's state between two dispatches.
    pub(super) fn state_words(&self) -> usize {
        let rows = self.set_params.rows as usize;
        let of_brackets = BRACKETS_ROW * rows + BRACKETS_SPREAD * self.set_params.spreads as usize;
        let of_newton = (STATE_HEAD + STATE_ROW * rows).max(of_brackets);
        if self.method == Method::Admm { of_newton.max(admm::state_words(rows)) } else { of_newton }
    }

    /// The problems whose records can be bound.
    fn most_problems(&self) -> usize {
        let widest = self.set_params.totals_stride.max(self.set_params.results_stride) as usize;
        self.most_words() / widest.max(self.state_words())
    }

    pub(crate) fn answers(&self) -> Answers<T> {
        Answers::new(&self.device, self.capacities)
    }

    pub(crate) fn slopes(&self, wanted: Wanted) -> Slopes<T> {
        let dense = if wanted.coefficients { self.set_params.dense as usize } else { 0 };
        Slopes::new(&self.device, wanted, (dense, self.capacities))
    }

    /// Projects every problem: uploads, dispatches, and does not wait.
    pub(crate) fn project(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &mut Answers<T>,
    ) -> Result<()> {
        if answers.device != self.device {
            return Err(crate::solution::foreign_solution());
        }
        self.device.check()?;
        let slabs = slabs(&batch.offsets(), self.most_elements(), self.most_problems());
        self.memory.resize_with(self.memory.len().max(slabs.len()), SlabMemory::default);
        answers.begin(&slabs);
        let mut encoder = self.device.device().create_command_encoder(&Default::default());
        for (index, slab) in slabs.iter().enumerate() {
            self.encode_forward(set, batch, slab, index, &mut answers.slabs[index], &mut encoder)?;
        }
        self.device.queue().submit([encoder.finish()]);
        self.device.check()
    }

    /// The gradients of every problem: uploads, dispatches, and does not wait.
    pub(crate) fn vjp(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        answers: &Answers<T>,
        g: &Buffer<'_, T>,
        slopes: &mut Slopes<T>,
    ) -> Result<()> {
        if answers.device != self.device || slopes.device != self.device {
            return Err(crate::solution::foreign_solution());
        }
        self.device.check()?;
        let slabs: Vec<Slab> = answers.slabs.iter().map(|answers| answers.slab.clone()).collect();
        self.memory.resize_with(self.memory.len().max(slabs.len()), SlabMemory::default);
        slopes.begin(&slabs);
        let mut encoder = self.device.device().create_command_encoder(&Default::default());
        let wants = slopes.wanted;
        for (index, (answers, slopes)) in answers.slabs.iter().zip(&mut slopes.slabs).enumerate() {
            self.encode_backward(set, batch, (answers, g, wants), index, slopes, &mut encoder)?;
        }
        self.device.queue().submit([encoder.finish()]);
        self.device.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Criterion, DemographicParity, EqualizedOdds, Offsets, Population, Projector, Settings};
    use rand::{RngExt, SeedableRng};

    /// Brackets, which hardly any problem needs, find what steps find.
    #[test]
    fn brackets_have_the_answer_of_the_cpu() {
        let device = match WgpuDevice::first() {
            Ok(device) => device,
            Err(why) => {
                let required = std::env::var("FAIRLAYER_REQUIRE").unwrap_or_default();
                assert!(!required.split(',').any(|device| device == "wgpu"), "{why}");
                return eprintln!("SKIP: {why}");
            }
        };
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(5);
        let (problems, n) = (40, 60);
        for (groups, epsilon) in [(2, 0.05), (2, 0.0), (5, 0.1), (6, 0.02)] {
            let population = Population::one_feature(groups);
            let ids: Vec<u8> = (0..problems * n).map(|_| rng.random_range(0..groups as u8)).collect();
            let labels: Vec<f64> = (0..problems * n).map(|_| f64::from(rng.random_range(0..2_u8))).collect();
            // From scores within their bounds to such that are all far beyond.
            let scale = |i: usize| [1.0, 1.0, 5.0, 100.0][i / n % 4];
            let score = |i: usize, rng: &mut rand_pcg::Pcg64Mcg| {
                (scale(i) * (rng.random_range(-0.3..1.2) + 0.05 * f64::from(ids[i]))) as f32
            };
            let z: Vec<f32> = (0..problems * n).map(|i| score(i, &mut rng)).collect();
            let parity = DemographicParity::within(epsilon).constraints(&population).unwrap();
            let odds = EqualizedOdds::within(epsilon).constraints(&population).unwrap();
            for set in [parity, odds] {
                let offsets = Offsets::Equal { problems, n };
                let columns = [crate::Buffer::from(&ids[..])];
                let batch = Batch::new(&z, offsets).groups(&columns).labels(&labels).bounds(0.0, 1.0);
                let settings = Settings::default();
                let mut plan = WgpuPlan::<f32>::new(&device, &set, Capacities::of(&offsets), settings).unwrap();
                plan.set_params.search_passes = 1;
                let mut answers = plan.answers();
                plan.project(&set, &batch, &mut answers).unwrap();
                let offsets_read = (0..=problems).map(|k| k * n).collect::<Vec<_>>();
                let found = answers.read(&offsets_read, set.rows()).unwrap();
                // As a chain of short links, which is not seen.
                plan.chain.bracket_links = 200;
                plan.chain.bracket_passes = 6;
                let mut in_links = plan.answers();
                plan.project(&set, &batch, &mut in_links).unwrap();
                let in_links = in_links.read(&offsets_read, set.rows()).unwrap();
                assert_eq!(found.outcome, in_links.outcome);
                assert!(found.y == in_links.y && found.multipliers == in_links.multipliers);
                let wide: Vec<f64> = z.iter().map(|z| f64::from(*z)).collect();
                let batch = Batch::new(&wide, offsets).groups(&columns).labels(&labels).bounds(0.0, 1.0);
                let cpu = Projector::<f64>::plan(crate::Device::cpu(), &set, Capacities::of(&offsets), settings);
                let expected = cpu.unwrap().project(&batch).unwrap();
                let expected = expected.read().unwrap();
                for (i, (y, expected)) in found.y.iter().zip(expected.y).enumerate() {
                    let outcome = found.outcome[i / n];
                    assert_eq!(
                        outcome.status,
                        crate::Status::Solved,
                        "{outcome:?} of {groups} groups, {epsilon}, {}",
                        scale(i)
                    );
                    let error = (f64::from(*y) - expected).abs();
                    assert!(error <= 5e-6 * scale(i), "{y} is {expected}, of {}: {outcome:?}", z[i]);
                }
            }
        }
    }
}
