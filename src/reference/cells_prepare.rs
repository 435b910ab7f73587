//! `cells_prepare`: groups, labels and control values to one-byte cells; per-cell weight, label and bound sums; and
//! whether every number of the problem can be used.

use super::certificate::BoxSums;
use super::components::Component;
use crate::batch::{BoundSlice, CellSource, Problem};
use crate::cells::{CellLayout, Strata};
use crate::constraints::{ConstraintSet, SpreadLimit};
use crate::storage::Storage;

/// Elements whose sums are formed before they are added to the total. Fixed, so that results do not depend on how many
/// threads share a problem, and small enough to keep rounding away from large problems.
pub(crate) const CHUNK: usize = 8192;

/// What `cells_prepare` finds of one problem.
#[derive(Clone, Debug)]
pub(crate) struct CellTotals {
    /// `[cells]`: sum of w, normalised: all cells sum to 1.
    pub(crate) weight: Vec<f64>,
    /// `[cells]`: sum of w * label, normalised likewise; zero without labels.
    pub(crate) label: Vec<f64>,
    /// `[cells]`: sums of w * lo and w * hi.
    pub(crate) bounds: BoxSums,
    /// Sum of w before normalisation.
    pub(crate) total: f64,
}

impl CellTotals {
    pub(crate) fn new(cells: usize) -> Self {
        let zeros = || vec![0.0; cells];
        Self { weight: zeros(), label: zeros(), bounds: BoxSums { lo: zeros(), hi: zeros() }, total: 0.0 }
    }
}

impl CellTotals {
    /// Fills this with the totals of a component's cells.
    pub(crate) fn gather(&mut self, component: &Component, all: &Self) {
        component.gather(&all.weight, &mut self.weight);
        component.gather(&all.label, &mut self.label);
        component.gather(&all.bounds.lo, &mut self.bounds.lo);
        component.gather(&all.bounds.hi, &mut self.bounds.hi);
        self.total = all.total;
    }
}

/// Writes the cell of every sample. False if a group or control id is out of range; such a sample gets cell 0.
pub(crate) fn compute_cells<T>(layout: &CellLayout, problem: &Problem<'_, T>, cells: &mut [u8]) -> bool {
    let CellSource::Groups { groups, range } = &problem.cells else {
        return true;
    };
    let mut usable = true;
    for (i, cell) in cells.iter_mut().enumerate() {
        let mut id = 0;
        let mut within = true;
        for (feature, &count) in layout.group_counts().iter().enumerate() {
            let group = usize::from(CellSource::feature(groups, feature, range)[i]);
            within &= group < count;
            id = id * count + group;
        }
        let stratum = match layout.strata() {
            Strata::None => 0,
            Strata::Label => problem.labels.map_or(0, |labels| usize::from(labels.at(i) > 0.5)),
            Strata::Control { .. } => problem.control.map_or(0, |control| usize::from(control[i])),
        };
        within &= stratum < layout.strata().count();
        id = id * layout.strata().count() + stratum;
        usable &= within;
        // A layout has at most 256 cells, so an id within it is a byte.
        *cell = if within { id as u8 } else { 0 };
    }
    usable
}

/// Sums weights, labels and bounds by cell. False if a number of the problem cannot be used.
pub(crate) fn cell_totals<T: Storage>(
    set: &ConstraintSet,
    problem: &Problem<'_, T>,
    cells: &[u8],
    totals: &mut CellTotals,
) -> bool {
    let count = set.layout().cells();
    if let (CellSource::None, None, BoundSlice::Scalar(lo), BoundSlice::Scalar(hi)) =
        (&problem.cells, problem.weights, problem.lo, problem.hi)
    {
        // Nothing differs between the samples.
        totals.label.fill(0.0);
        (totals.weight[0], totals.total) = (1.0, problem.z.len() as f64);
        (totals.bounds.lo[0], totals.bounds.hi[0]) = (lo.to_f64(), hi.to_f64());
        return problem.z.iter().fold(true, |usable, z| usable & z.is_finite());
    }
    let has_ratio = set.spreads().iter().any(|spread| matches!(spread.limit, SpreadLimit::Ratio(_)));
    let mut usable = true;
    let CellTotals { weight, label, bounds, total } = totals;
    for array in [&mut *weight, &mut *label, &mut bounds.lo, &mut bounds.hi] {
        array.fill(0.0);
    }
    for (i, &cell) in cells.iter().enumerate() {
        let cell = usize::from(cell);
        if cell >= count {
            return false;
        }
        let w = problem.weight(i);
        let (lo, hi) = (problem.lo.at(i).to_f64(), problem.hi.at(i).to_f64());
        let label_here = problem.labels.map_or(0.0, |labels| labels.at(i));
        usable &= w > 0.0 && w < f64::INFINITY && problem.z[i].is_finite() && label_here.is_finite();
        usable &= lo <= hi && lo < f64::INFINITY && hi > f64::NEG_INFINITY;
        usable &= !has_ratio || lo >= 0.0;
        weight[cell] += w;
        label[cell] += w * label_here;
        if let BoundSlice::PerElement(_) = problem.lo {
            bounds.lo[cell] += w * lo;
        }
        if let BoundSlice::PerElement(_) = problem.hi {
            bounds.hi[cell] += w * hi;
        }
    }
    if let BoundSlice::Scalar(lo) = problem.lo {
        (0..count).filter(|&c| weight[c] > 0.0).for_each(|c| bounds.lo[c] = weight[c] * lo.to_f64());
    }
    if let BoundSlice::Scalar(hi) = problem.hi {
        (0..count).filter(|&c| weight[c] > 0.0).for_each(|c| bounds.hi[c] = weight[c] * hi.to_f64());
    }
    *total = weight.iter().sum();
    usable &= *total < f64::INFINITY && *total >= f64::MIN_POSITIVE;
    let inverse = 1.0 / *total;
    for array in [weight, label, &mut bounds.lo, &mut bounds.hi] {
        array.iter_mut().for_each(|sum| *sum *= inverse);
    }
    usable
}
