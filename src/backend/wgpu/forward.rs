//! The dispatches of a projection, and what they bind.

use std::ops::Range;

use super::admm;
use super::answers::SlabAnswers;
use super::bindings::{prepare_buffers, with};
use super::dispatch::{Dispatch, Links, has_element_bounds, variants};
use super::inputs::{Lists, place_elements};
use super::large::{LargeChain, LargeDispatch};
use super::memory::Memory;
use super::plan::WgpuPlan;
use super::shaders::{Kernel, Variant};
use super::slabs::Slab;
use crate::batch::Batch;
use crate::constraints::ConstraintSet;
use crate::error::Result;
use crate::settings::Method;
use crate::solution::clamp_start;
use crate::storage::Storage;

impl<T: Storage> WgpuPlan<T> {
    /// Encodes the projection of the problems of a slab.
    pub(super) fn encode_forward(
        &mut self,
        set: &ConstraintSet,
        batch: &Batch<'_, T>,
        slab: &Slab,
        index: usize,
        answers: &mut SlabAnswers,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        let device = self.device.clone();
        let (n, problems) = (slab.elements.len(), slab.problems.len());
        let mut inputs = self.upload_inputs(set, batch, slab, index)?;
        let z = place_elements(&device, &mut self.memory[index].z, &batch.predictions, slab, &mut inputs.params.z_at)?;
        let mut params = inputs.params;
        answers.y.hold(&device, size_of::<T>() * n)?;
        answers.clamp.hold(&device, 4 * clamp_start(problems, n))?;
        answers.results.hold(&device, 4 * params.results_stride as usize * problems)?;
        let is_admm = self.method == Method::Admm;
        let goes_short = self.is_disjoint && !is_admm;
        let has_bounds = has_element_bounds(&params);
        let (sizes, lengths) = (self.sizes.clone(), self.chain);
        let passes = |n: usize| {
            let to_brackets = goes_short && !has_bounds && n <= sizes.brackets().room as usize;
            if to_brackets { lengths.passes_of_brackets(set, sizes.brackets(), n) } else { lengths.passes(set, n) }
        };
        let Lists { classes, small, large } = self.push_problems(batch, slab, index, &mut params, passes)?;
        let variant = variants(&device, batch, &params);
        let prepare = |(class, range): &(usize, Range<usize>)| {
            Dispatch::new(variant(Kernel::CellsPrepare, sizes.preparing(*class)), range.clone())
        };
        let mut dispatches: Vec<Dispatch> = classes.iter().map(prepare).collect();
        let short = |kernel, class| Variant { labelled: false, valued: false, ..variant(kernel, class) };
        // Of what the short cut is for, and where the rest of the list begins: what is too large for it.
        let mut rest = 0..small;
        if goes_short {
            for (class, range) in classes {
                rest.start = range.end;
                if let Some(class) = sizes.disjoint.get(class) {
                    dispatches.push(Dispatch::new(short(Kernel::CellsDisjoint, *class), range));
                } else {
                    rest = range;
                }
            }
        }
        let words = self.sample_words();
        if words > 0 {
            self.memory[index].order.hold(&device, 4 * words * n)?;
        }
        let chained = |kernel, class| Variant { weighted: true, bounded: true, ..short(kernel, class) };
        let general = if set.dense().is_empty() { Kernel::CellsNewton } else { Kernel::DenseNewton };
        let mut chain = Links::default();
        if is_admm {
            let admm = Dispatch::new(chained(Kernel::DenseAdmm, admm::CLASS), 0..problems);
            chain.push(0..admm::links(&device), &admm);
        }
        // What the short cut leaves goes to brackets; but where elements have their own bounds, so that it may have no answer,
        // to the machine, like all that is too large. (The machine takes long to compile.)
        let newton = |range| Dispatch::new(chained(general, sizes.newton), range);
        let links = lengths.links;
        match (goes_short, has_bounds) {
            (false, _) => chain.push(0..links, &newton(rest)),
            (true, false) => {
                let brackets = Dispatch::new(short(Kernel::DisjointBrackets, self.sizes.brackets()), 0..small);
                chain.push(1..1 + lengths.bracket_links, &brackets);
                chain.push(0..if rest.is_empty() { 0 } else { links }, &newton(rest));
            }
            (true, true) => chain.push(u32::from(rest.is_empty())..links, &newton(rest)),
        }
        let places = chain.places();
        dispatches.extend(chain.dispatches);
        let state_bytes = 4 * problems * self.state_words();
        if small == 0 {
            dispatches.clear();
        }
        let mut large_prepare = LargeDispatch::prepare(&variant);
        let mut large_chain = LargeChain::new(&variant);
        let of_large = large_prepare.iter_mut().chain(large_chain.dispatches());
        self.upload_params(&params, &mut dispatches, (&large, of_large), index)?;
        let memory = &mut self.memory[index];
        let records = memory.large.begin(&device, &large, encoder)?;
        let large_counts = memory.large.begin_chain(&device, &large, encoder)?;
        let to_prepare = prepare_buffers(&device, memory, &inputs)?;
        memory.counts.resize_with(places, Memory::default);
        let counts = memory.counts.iter_mut().map(|count| count.hold_count(&device).cloned());
        let counts = counts.collect::<Result<Vec<_>>>()?;
        counts.iter().for_each(|count| encoder.clear_buffer(count, 0, None));
        let [even, odd] = &mut memory.left;
        let left = [even.hold(&device, 4 * problems)?.clone(), odd.hold(&device, 4 * problems)?.clone()];
        let state = memory.state.hold(&device, state_bytes)?.clone();
        let elements = [
            memory.tables.handle(&device)?,
            z,
            inputs.cells,
            inputs.weights,
            inputs.lower,
            inputs.upper,
            memory.totals.handle(&device)?,
            memory.order.handle(&device)?,
            answers.y.handle(&device)?,
            answers.clamp.handle(&device)?,
            answers.results.handle(&device)?,
        ];
        let uniform = memory.params.handle(&device)?;
        memory.forward.begin();
        let prepare = memory.forward.bind(&device, Kernel::CellsPrepare, &uniform, &to_prepare);
        let mut bind = |kernel: Kernel, more: &[&wgpu::Buffer]| {
            let all: Vec<wgpu::Buffer> = elements.iter().chain(more.iter().copied()).cloned().collect();
            memory.forward.bind(&device, kernel, &uniform, &all)
        };
        let large_groups = (!large.is_empty()).then(|| {
            let [even, odd] = [0, 1].map(|turn| bind(Kernel::LargeStep, &[&records, &large_counts[turn]]));
            (bind(Kernel::LargePass, &[&records]), [even, odd])
        });
        let short_cut = goes_short.then(|| bind(Kernel::CellsDisjoint, &[&left[1], &counts[1]]));
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for dispatch in &dispatches {
            match (dispatch.link, &short_cut) {
                (None, Some(short_cut)) if dispatch.variant.kernel == Kernel::CellsDisjoint => {
                    dispatch.encode(&device, &mut pass, short_cut, None);
                }
                (None, _) => dispatch.encode(&device, &mut pass, &prepare, None),
                (Some(link), _) => {
                    let (this, next) = (dispatch.place, dispatch.place + 1);
                    let kernel = dispatch.variant.kernel;
                    let mut more = vec![&left[next % 2], &counts[next], &left[this % 2], &counts[this], &state];
                    let has_rows = !matches!(kernel, Kernel::CellsNewton | Kernel::DisjointBrackets);
                    more.extend(has_rows.then_some(&inputs.coefficients));
                    let group = bind(kernel, &more);
                    dispatch.encode(&device, &mut pass, &group, (link > 0).then_some(&counts[this]));
                }
            }
        }
        if let Some((tiles, steps)) = &large_groups {
            let prepare = memory.forward.bind(&device, Kernel::LargePrepare, &uniform, &with(&to_prepare, &records));
            for dispatch in &large_prepare {
                dispatch.encode(&device, &mut pass, &prepare, &large);
            }
            large_chain.encode(&device, &mut pass, (tiles, steps), &large_counts, &large);
        }
        Ok(())
    }
}
