//! The dispatches of a backward pass, and what they bind.

use std::ops::Range;

use super::answers::{SlabAnswers, SlabSlopes};
use super::bindings::{prepare_buffers, with};
use super::dispatch::{Dispatch, variants};
use super::inputs::{Lists, place_elements};
use super::large::LargeDispatch;
use super::memory::Memory;
use super::plan::WgpuPlan;
use super::shaders::Kernel;
use crate::batch::{Batch, Buffer};
use crate::constraints::ConstraintSet;
use crate::error::Result;
use crate::params::wanted;
use crate::solution::Wanted;
use crate::storage::Storage;

impl<T: Storage> WgpuPlan<T> {
    /// Encodes the backward pass of the problems of a slab.
    pub(super) fn encode_backward(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        (answers, g, wants): (&SlabAnswers, &Buffer<'_, T>, Wanted),
        index: usize,
        slopes: &mut SlabSlopes,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        let (device, slab) = (self.device.clone(), &answers.slab);
        let (n, problems) = (slab.elements.len(), slab.problems.len());
        let mut inputs = self.upload_inputs(set, batch, slab, index)?;
        let g = place_elements(&device, &mut self.memory[index].g, g, slab, &mut inputs.params.g_at)?;
        let mut params = inputs.params;
        let Wanted { bounds, weights, labels, coefficients } = wants;
        let parts = [
            (bounds, wanted::BOUNDS),
            (weights, wanted::WEIGHTS),
            (labels, wanted::LABELS),
            (coefficients, wanted::COEFFICIENTS),
        ];
        params.wanted = parts.iter().filter(|(want, _)| *want).map(|(_, bit)| bit).sum();
        for (memory, want) in slopes.elements.iter_mut().zip([true, bounds, bounds, weights, labels]) {
            memory.hold(&device, if want { size_of::<T>() * n } else { 0 })?;
        }
        slopes.rows.hold(&device, 8 * (set.spreads().len() + 2 * set.bounded_rows()) * problems)?;
        let dense = set.dense().len();
        slopes.coefficients.hold(&device, if coefficients { size_of::<T>() * dense * n } else { 0 })?;
        let Lists { classes, small, large } = self.push_problems(batch, slab, index, &mut params, |_| 0)?;
        let variant = variants(&device, batch, &params);
        let kernel = match (dense, self.is_disjoint) {
            (0, true) => Kernel::VjpDisjoint,
            (0, false) => Kernel::VjpRows,
            _ => {
                let words = self.sample_words();
                self.memory[index].order.hold(&device, 4 * words * n)?;
                Kernel::DenseVjp
            }
        };
        let sizes = self.sizes.clone();
        let dispatch = |(kernel, (class, range)): (Kernel, &(usize, Range<usize>))| {
            let class = match kernel {
                Kernel::CellsPrepare => sizes.preparing(*class),
                Kernel::VjpDisjoint => sizes.backward(*class),
                _ => sizes.streaming,
            };
            Dispatch::new(variant(kernel, class), range.clone())
        };
        let kernels = [Kernel::CellsPrepare, kernel].into_iter();
        let mut dispatches: Vec<Dispatch> =
            kernels.flat_map(|kernel| classes.iter().map(move |class| (kernel, class))).map(dispatch).collect();
        let mut large_prepare = LargeDispatch::prepare(&variant);
        let mut large_backward = LargeDispatch::backward(&variant, self.is_disjoint);
        let of_large = large_prepare.iter_mut().chain(&mut large_backward);
        self.upload_params(&params, &mut dispatches, (&large, of_large), index)?;
        let memory = &mut self.memory[index];
        let records = memory.large.begin(&device, &large, encoder)?;
        let to_prepare = prepare_buffers(&device, memory, &inputs)?;
        let read = |memory: &Memory| memory.clone().handle(&device);
        let mut backward = vec![
            memory.tables.handle(&device)?,
            g,
            inputs.cells,
            inputs.weights,
            inputs.labels,
            read(&answers.y)?,
            read(&answers.clamp)?,
            read(&answers.results)?,
            memory.totals.handle(&device)?,
        ];
        for memory in slopes.elements.iter_mut().chain([&mut slopes.rows]) {
            backward.push(memory.handle(&device)?);
        }
        if dense > 0 {
            backward.extend([inputs.coefficients, memory.order.handle(&device)?, slopes.coefficients.handle(&device)?]);
        }
        let uniform = memory.params.handle(&device)?;
        memory.backward.begin();
        let prepare = memory.backward.bind(&device, Kernel::CellsPrepare, &uniform, &to_prepare);
        let of_small = memory.backward.bind(&device, kernel, &uniform, &backward);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        if small > 0 {
            for dispatch in &dispatches {
                let group = if dispatch.variant.kernel == Kernel::CellsPrepare { &prepare } else { &of_small };
                dispatch.encode(&device, &mut pass, group, None);
            }
        }
        if !large.is_empty() {
            let prepare = memory.backward.bind(&device, Kernel::LargePrepare, &uniform, &with(&to_prepare, &records));
            let all = with(&backward, &records);
            for dispatch in &large_prepare {
                dispatch.encode(&device, &mut pass, &prepare, &large);
            }
            for dispatch in &large_backward {
                let group = memory.backward.bind(&device, dispatch.kernel(), &uniform, &all);
                dispatch.encode(&device, &mut pass, &group, &large);
            }
        }
        Ok(())
    }
}
