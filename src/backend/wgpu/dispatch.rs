//! Dispatches, and how many there are in the chain of the Newton kernels.

use std::ops::Range;

use super::WgpuDevice;
use super::shaders::{Kernel, Variant};
use super::sizes::{Class, Sizes};
use crate::batch::Batch;
use crate::constraints::ConstraintSet;
use crate::params::{Params, flags, wanted};
use crate::storage::Storage;

/// A dispatch: which kernel, in which variant, for which part of the lists, and where its parameters are.
pub(super) struct Dispatch {
    pub(super) variant: Variant,
    pub(super) range: Range<usize>,
    /// Its place in the chain of its kernel, and whether that ends with it. The first link takes the list, others what is
    /// left.
    pub(super) link: Option<u32>,
    pub(super) is_last: bool,
    /// Its place among all links. What it takes is counted there, what it leaves at the next one.
    pub(super) place: usize,
    pub(super) params: u32,
}

impl Dispatch {
    pub(super) fn new(variant: Variant, range: Range<usize>) -> Self {
        Self { variant, range, link: None, is_last: false, place: 0, params: 0 }
    }

    pub(super) fn workgroups(&self) -> usize {
        self.range.len().div_ceil(self.variant.class.teams() as usize)
    }

    /// Encodes it for its part of the lists, or, if there is a count, for as many workgroups as that says.
    pub(super) fn encode(
        &self,
        device: &WgpuDevice,
        pass: &mut wgpu::ComputePass<'_>,
        group: &wgpu::BindGroup,
        count: Option<&wgpu::Buffer>,
    ) {
        pass.set_pipeline(&device.pipeline(self.variant));
        pass.set_bind_group(0, group, &[self.params]);
        match count {
            Some(count) => pass.dispatch_workgroups_indirect(count, 0),
            None => {
                let count = self.workgroups();
                let columns = columns(device, count);
                pass.dispatch_workgroups(columns, (count as u32).div_ceil(columns), 1);
            }
        }
    }
}

/// The chains of a call, one after the other. What the short cut leaves is counted at place 1.
#[derive(Default)]
pub(super) struct Links {
    pub(super) dispatches: Vec<Dispatch>,
}

impl Links {
    /// Appends a chain of this dispatch; from link 1 on it goes on with what is left at that place.
    pub(super) fn push(&mut self, links: Range<u32>, dispatch: &Dispatch) {
        for link in links.clone() {
            let place = self.dispatches.last().map_or(link as usize, |last| last.place + 1);
            let (link, is_last) = (Some(link), link + 1 == links.end);
            self.dispatches.push(Dispatch { link, is_last, place, range: dispatch.range.clone(), ..*dispatch });
        }
    }

    /// How many places there are, that of what the last link leaves included.
    pub(super) fn places(&self) -> usize {
        self.dispatches.last().map_or(0, |last| last.place) + 2
    }
}

/// How the Newton kernels are cut into dispatches: they end with the last one, whatever is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) links: u32,
    /// Of `disjoint_brackets`, and the most passes of each.
    pub(super) bracket_links: u32,
    pub(super) bracket_passes: u32,
    is_emulated: bool,
}

impl Chain {
    /// A GPU can do all in a few dispatches. A device that the CPU emulates may stop any invocation after 65,535 rounds of
    /// its loops (Mesa's llvmpipe does), and gets many short ones.
    pub(super) fn new(device: &WgpuDevice, set: &ConstraintSet) -> Self {
        let is_emulated = device.is_emulated();
        let of_emulated = if set.dense().is_empty() { 24 } else { 64 };
        let (links, bracket_links) = if is_emulated { (of_emulated, 8) } else { (8, 1) };
        Self { links, bracket_links, bracket_passes: 1000, is_emulated }
    }

    /// The passes of a link of `disjoint_brackets`.
    pub(super) fn passes_of_brackets(&self, set: &ConstraintSet, class: Class, n: usize) -> u32 {
        if !self.is_emulated {
            return self.bracket_passes;
        }
        let largest = set.spreads().iter().map(|spread| spread.unions.len()).max().unwrap_or(0);
        let spreads = set.spreads().len();
        let over_rows = 8 * largest * spreads.div_ceil(class.lanes as usize) + 2 * spreads;
        let rounds = n.div_ceil(class.lanes as usize) + 4 * set.layout().cells() + over_rows + 30;
        self.bracket_passes.min((EMULATED_ROUNDS * 2 / 3 / rounds) as u32)
    }

    /// The passes of a link over a problem of `n` elements: of it alone, so that its end does not depend on its batch.
    pub(super) fn passes(&self, set: &ConstraintSet, n: usize) -> u32 {
        if !self.is_emulated {
            return 128;
        }
        (EMULATED_ROUNDS / 2 / rounds_of_a_pass(set, n)).clamp(1, 64) as u32
    }
}

/// The rounds of its loops after which an emulated device may stop an invocation.
pub(super) const EMULATED_ROUNDS: usize = 60_000;

/// The most rounds of a lane's loops in a pass over a problem of `n` elements and the work after it, on an emulated device.
pub(super) fn rounds_of_a_pass(set: &ConstraintSet, n: usize) -> usize {
    let rows = set.rows();
    let lanes = Sizes::new(false, set, n).newton.lanes as usize;
    let share = n.div_ceil(lanes);
    let over_elements = if set.dense().is_empty() {
        2 * share
    } else {
        // Shifts for the pass, the step and two rays, the rows as they are loaded, and every pair of rows.
        share * 8 * (rows + 1) + n * (rows * (rows + 1) / 2).div_ceil(lanes)
    };
    over_elements + 200 + 8 * rows * rows
}

/// Workgroups in a row: as many as there can be.
pub(super) fn columns(device: &WgpuDevice, count: usize) -> u32 {
    (count as u32).clamp(1, device.limits().max_compute_workgroups_per_dimension)
}

pub(super) fn has_element_bounds(params: &Params) -> bool {
    params.flags & (flags::ELEMENT_LO | flags::ELEMENT_HI) != 0
}

/// The variants of a batch's kernels.
pub(super) fn variants<T: Storage>(
    device: &WgpuDevice,
    batch: &Batch<'_, T>,
    params: &Params,
) -> impl Fn(Kernel, Class) -> Variant {
    let has_subgroups = device.has_subgroups();
    let bounded = has_element_bounds(params);
    let (weighted, labelled) = (batch.weights.is_some(), batch.labels.is_some());
    let valued = params.wanted & (wanted::WEIGHTS | wanted::LABELS) != 0 || params.flags & flags::HAS_RATIO != 0;
    let has_cells = params.flags & flags::GIVEN_CELLS != 0;
    move |kernel, class| {
        let given = has_cells && matches!(kernel, Kernel::CellsPrepare | Kernel::LargePrepare);
        let subgroups = has_subgroups && class.fills_subgroups();
        Variant { kernel, class, dtype: T::DTYPE, given, weighted, labelled, bounded, valued, part: 0, subgroups }
    }
}
