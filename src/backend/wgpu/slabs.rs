//! Batches beyond what a device can bind are cut into slabs of whole problems.

use std::ops::Range;

use crate::batch::Offsets;

/// Problems, and their elements, whose arrays fit what the device can bind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slab {
    pub(crate) problems: Range<usize>,
    pub(crate) elements: Range<usize>,
}

impl Slab {
    /// The same of arrays with so many numbers an element.
    pub(super) fn of_rows(&self, rows: usize) -> Self {
        Self { problems: self.problems.clone(), elements: rows * self.elements.start..rows * self.elements.end }
    }
}

/// Cuts a batch into slabs of no more elements and problems than these; a problem is never cut.
pub(super) fn slabs(offsets: &Offsets<'_>, most_elements: usize, most_problems: usize) -> Vec<Slab> {
    let mut slabs: Vec<Slab> = Vec::new();
    for problem in 0..offsets.problems() {
        let elements = offsets.range(problem);
        match slabs.last_mut() {
            Some(slab)
                if elements.end - slab.elements.start <= most_elements && slab.problems.len() < most_problems =>
            {
                (slab.problems.end, slab.elements.end) = (problem + 1, elements.end);
            }
            _ => slabs.push(Slab { problems: problem..problem + 1, elements }),
        }
    }
    slabs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_hold_whole_problems() {
        let offsets = [0, 3, 3, 10, 11, 14, 15];
        let cut = |elements, problems| {
            let slabs = slabs(&Offsets::Ragged(&offsets), elements, problems);
            assert!(slabs.iter().all(|slab| slab.problems.len() <= problems));
            slabs.into_iter().map(|slab| (slab.problems, slab.elements)).collect::<Vec<_>>()
        };
        assert_eq!(cut(15, 6), [(0..6, 0..15)]);
        assert_eq!(cut(8, 6), [(0..2, 0..3), (2..4, 3..11), (4..6, 11..15)]);
        assert_eq!(cut(15, 4), [(0..4, 0..11), (4..6, 11..15)]);
        assert!(slabs(&Offsets::Ragged(&[0]), 8, 8).is_empty());
    }
}
