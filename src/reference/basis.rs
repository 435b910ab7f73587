//! Dependent rows leave the multipliers a freedom in which they can grow without end. Here they are moved, shifts and
//! signs kept, onto rows that are independent: then they are no larger than the rows make them.

use super::rows::{NO_BLOCK, Rows};

/// What is left of a row that depends on others, at the most, relative to the row.
const DEPENDENT: f64 = 1e-12;

/// Scratch of the elimination.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    width: usize,
    /// `[m, width]`: the independent rows so far, each reduced by those before it.
    reduced: Vec<f64>,
    /// `[m, m]`: how each is combined from the rows.
    combined: Vec<f64>,
    /// `[m]`: the column of each where it is largest; later rows are reduced to zero there.
    pivot: Vec<usize>,
}

impl Basis {
    /// Room for `m` rows over `cells` cells in `blocks` blocks.
    pub(crate) fn with_capacity(m: usize, cells: usize, blocks: usize) -> Self {
        let width = cells + blocks;
        Self { width, reduced: vec![0.0; m * width], combined: vec![0.0; m * m], pivot: vec![0; m] }
    }

    /// Moves the multipliers until the rows that have one are independent. False if they are already.
    pub(crate) fn reduce(&mut self, rows: &Rows, nu: &mut [f64]) -> bool {
        let mut moved = false;
        while let Some(last) = self.find_dependent(rows, nu) {
            let null = &self.combined[last * rows.m..(last + 1) * rows.m];
            if !walk_to_zero(rows, null, nu) {
                break;
            }
            moved = true;
        }
        moved
    }

    /// The place in `combined` of a combination of the rows with a multiplier that is zero, if there is one.
    fn find_dependent(&mut self, rows: &Rows, nu: &[f64]) -> Option<usize> {
        let (m, width) = (rows.m, self.width);
        for (count, r) in (0..m).filter(|&r| nu[r] != 0.0).enumerate() {
            let (before, row) = self.reduced.split_at_mut(count * width);
            let (combined_before, combined) = self.combined.split_at_mut(count * m);
            let (row, combined) = (&mut row[..width], &mut combined[..m]);
            row.fill(0.0);
            row[..rows.cells].iter_mut().zip(rows.row(r)).for_each(|(value, b)| *value = b / rows.reach[r]);
            if rows.block_of[r] != NO_BLOCK {
                let block = &rows.blocks[rows.block_of[r]];
                let narrowest = block.rows().map(|r| rows.reach[r]).fold(f64::INFINITY, f64::min);
                row[rows.cells + rows.block_of[r]] = block.centre_coefficient(nu[r]) * narrowest / rows.reach[r];
            }
            combined.fill(0.0);
            combined[r] = 1.0 / rows.reach[r];
            for k in 0..count {
                let other = &before[k * width..(k + 1) * width];
                let factor = row[self.pivot[k]] / other[self.pivot[k]];
                row.iter_mut().zip(other).for_each(|(value, other)| *value -= factor * other);
                row[self.pivot[k]] = 0.0;
                let other = &combined_before[k * m..(k + 1) * m];
                combined.iter_mut().zip(other).for_each(|(value, other)| *value -= factor * other);
            }
            let largest = (0..width).fold(0, |most, c| if row[c].abs() > row[most].abs() { c } else { most });
            if row[largest].abs() <= DEPENDENT {
                return Some(count);
            }
            self.pivot[count] = largest;
        }
        None
    }
}

/// Moves the multipliers along `null`, the way in which they shrink, until one is zero. False if none gets there.
fn walk_to_zero(rows: &Rows, null: &[f64], nu: &mut [f64]) -> bool {
    let growth: f64 = (0..rows.m).map(|r| null[r] * nu[r].signum() * rows.reach[r]).sum();
    let way = if growth > 0.0 { -1.0 } else { 1.0 };
    let step_of = |r: usize, nu: f64| {
        let d = way * null[r];
        if nu * d < 0.0 { -nu / d } else { f64::INFINITY }
    };
    let step = (0..rows.m).map(|r| step_of(r, nu[r])).fold(f64::INFINITY, f64::min);
    if step == f64::INFINITY {
        return false;
    }
    for r in 0..rows.m {
        nu[r] = if step_of(r, nu[r]) <= step { 0.0 } else { nu[r] + step * way * null[r] };
    }
    true
}
