//! Which rows make up which problem, and the way from the order of the file to that of the problems and back.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use super::table::Categories;

/// The rows of a file, cut into problems.
pub struct Problems {
    /// Problem `i` is places `offsets[i]..offsets[i + 1]` of the problem order.
    pub offsets: Vec<usize>,
    /// The row of the file at every place; `None` if it is the same.
    rows: Option<Vec<usize>>,
    names: Names,
}

enum Names {
    Whole,
    Consecutive,
    Values(Vec<Box<[u8]>>),
}

impl Problems {
    /// One problem of all rows.
    pub fn whole(rows: usize) -> Self {
        Self { offsets: vec![0, rows], rows: None, names: Names::Whole }
    }

    /// Problems of `size` consecutive rows; the last may have fewer.
    pub fn consecutive(rows: usize, size: NonZeroUsize) -> Self {
        let mut offsets: Vec<usize> = (0..rows).step_by(size.get()).collect();
        offsets.push(rows);
        Self { offsets, rows: None, names: Names::Consecutive }
    }

    /// Rows of the same category are one problem, wherever they are; problems come in the order of their first rows.
    pub fn of_categories(column: Categories) -> Self {
        let mut offsets = vec![0; column.texts.len() + 1];
        for &id in &column.ids {
            offsets[id as usize + 1] += 1;
        }
        (1..offsets.len()).for_each(|problem| offsets[problem] += offsets[problem - 1]);
        let rows = (!column.ids.is_sorted()).then(|| {
            let mut next = offsets.clone();
            let mut rows = vec![0; column.ids.len()];
            for (row, &id) in column.ids.iter().enumerate() {
                rows[next[id as usize]] = row;
                next[id as usize] += 1;
            }
            rows
        });
        Self { offsets, rows, names: Names::Values(column.texts) }
    }

    /// The number of problems.
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.offsets[self.count()]
    }

    /// The places of a problem.
    pub fn range(&self, problem: usize) -> std::ops::Range<usize> {
        self.offsets[problem]..self.offsets[problem + 1]
    }

    /// What reports call a problem; `None` if it is the whole file.
    pub fn name(&self, problem: usize) -> Option<Cow<'_, str>> {
        match &self.names {
            Names::Whole => None,
            Names::Consecutive => {
                let range = self.range(problem);
                Some(Cow::Owned(format!("rows {}-{}", range.start + 1, range.end)))
            }
            Names::Values(values) => Some(String::from_utf8_lossy(&values[problem])),
        }
    }

    /// Brings the values of a column from the order of the file into that of the problems.
    pub fn gather<T: Copy>(&self, column: Vec<T>) -> Vec<T> {
        match &self.rows {
            None => column,
            Some(rows) => rows.iter().map(|&row| column[row]).collect(),
        }
    }

    /// The way back of [`gather`](Self::gather).
    pub fn scatter<'a, T: Copy + Default>(&self, values: &'a [T]) -> Cow<'a, [T]> {
        let Some(rows) = &self.rows else { return Cow::Borrowed(values) };
        let mut column = vec![T::default(); values.len()];
        for (&row, &value) in rows.iter().zip(values) {
            column[row] = value;
        }
        Cow::Owned(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::{CategoryReader, Column};

    #[test]
    fn scattered_rows_are_gathered_and_scattered_back() {
        let mut column = CategoryReader::new("x", usize::MAX);
        "b a b c a b".split(' ').for_each(|text| column.push(text.as_bytes()).unwrap());
        let problems = Problems::of_categories(column.in_order_of_rows());
        assert_eq!(problems.offsets, [0, 3, 5, 6]);
        let gathered = problems.gather(vec![0, 1, 2, 3, 4, 5]);
        assert_eq!(gathered, [0, 2, 5, 1, 4, 3]);
        assert_eq!(*problems.scatter(&gathered), [0, 1, 2, 3, 4, 5]);
        assert_eq!(problems.name(1).as_deref(), Some("a"));
    }

    #[test]
    fn the_last_of_consecutive_problems_may_be_short() {
        let problems = Problems::consecutive(5, NonZeroUsize::new(2).unwrap());
        assert_eq!((problems.count(), problems.range(2)), (3, 4..5));
        assert_eq!(problems.name(1).as_deref(), Some("rows 3-4"));
        assert_eq!(Problems::whole(5).name(0), None);
    }
}
