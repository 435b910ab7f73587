//! Which rows train, which choose the epoch, and which test.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;

/// The rows of a split, by number, in an order that is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Three fifths.
    pub train: Vec<usize>,
    /// A fifth.
    pub valid: Vec<usize>,
    /// A fifth.
    pub test: Vec<usize>,
}

impl Split {
    /// Splits rows by the seed so that every part has its share of every cell (the rows of the same `keys`), and at least a
    /// row of every cell that has three. The rows of smaller cells are split together.
    pub fn by_seed<K: Ord>(seed: u64, keys: impl Iterator<Item = K>) -> Self {
        let mut draw = Pcg64::seed_from_u64(seed);
        let mut cells: BTreeMap<K, Vec<usize>> = BTreeMap::new();
        keys.enumerate().for_each(|(row, key)| cells.entry(key).or_default().push(row));
        let (mut split, mut small) = (Self::default(), Vec::new());
        for mut cell in cells.into_values() {
            cell.shuffle(&mut draw);
            if cell.len() < 3 { small.append(&mut cell) } else { split.share(&cell) }
        }
        split.share(&small);
        [&mut split.train, &mut split.valid, &mut split.test].into_iter().for_each(|part| part.shuffle(&mut draw));
        split
    }

    fn share(&mut self, rows: &[usize]) {
        let fifth = match rows.len() {
            0..3 => 0,
            n => ((n as f64 / 5.0).round() as usize).max(1),
        };
        let (valid, rest) = rows.split_at(fifth);
        let (test, train) = rest.split_at(fifth);
        self.valid.extend(valid);
        self.test.extend(test);
        self.train.extend(train);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells of these sizes, their rows interleaved as far as they go.
    fn keys(sizes: &[usize]) -> Vec<usize> {
        let most = sizes.iter().copied().max().unwrap_or(0);
        (0..most).flat_map(|turn| (0..sizes.len()).filter(move |&cell| turn < sizes[cell])).collect()
    }

    #[test]
    fn every_part_has_its_share_of_every_cell() {
        let sizes = [1000, 333, 57, 5, 4, 3, 2, 1, 1];
        let keys = keys(&sizes);
        let split = Split::by_seed(7, keys.iter());
        let mut all: Vec<usize> = [&split.train, &split.valid, &split.test].into_iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..keys.len()).collect::<Vec<_>>());
        for (cell, &size) in sizes.iter().enumerate().filter(|(_, size)| **size >= 3) {
            let count = |part: &[usize]| part.iter().filter(|&&row| keys[row] == cell).count();
            let [train, valid, test] = [&split.train, &split.valid, &split.test].map(|part| count(part) as f64);
            let fifth = size as f64 / 5.0;
            assert!(valid >= 1.0 && test >= 1.0 && train >= 1.0, "cell {cell}");
            assert!((valid - fifth).abs() <= 0.5 && (test - fifth).abs() <= 0.5, "cell {cell}");
            assert!((train - 3.0 * fifth).abs() <= 1.0, "cell {cell}");
        }
        // The four rows of the cells that are too small are split together.
        let small = |part: &[usize]| part.iter().filter(|&&row| sizes[keys[row]] < 3).count();
        assert_eq!([small(&split.train), small(&split.valid), small(&split.test)], [2, 1, 1]);
    }

    #[test]
    fn the_seed_alone_decides() {
        let keys = keys(&[40, 30]);
        let drawn = |seed| Split::by_seed(seed, keys.iter());
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert!(!drawn(1).train.is_sorted());
    }
}
