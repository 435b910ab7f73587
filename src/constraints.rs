//! Constraints on the projected values, means over unions of cells and rows with a coefficient for every sample: what a
//! criterion asks for, without a word of fairness.

use crate::cells::{CellLayout, CellMask};
use crate::error::{Error, Result};

/// The cells that a mean is taken over, and what reports call them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union {
    /// The cells.
    pub cells: CellMask,
    /// What reports call this row, such as `sex=F, label=1`.
    pub name: String,
}

impl Union {
    /// A named union of cells.
    pub fn new(cells: CellMask, name: impl Into<String>) -> Self {
        Self { cells, name: name.into() }
    }
}

/// How far apart the means of a [`Spread`] may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SpreadLimit {
    /// `max mean - min mean <= epsilon`, epsilon >= 0.
    Difference(f64),
    /// `min mean >= ratio * max mean`, 0 < ratio <= 1. Needs lower bounds >= 0.
    Ratio(f64),
}

impl SpreadLimit {
    /// Epsilon or the ratio.
    pub fn level(&self) -> f64 {
        match *self {
            Self::Difference(level) | Self::Ratio(level) => level,
        }
    }

    pub(crate) fn at_level(&self, level: f64) -> Self {
        match self {
            Self::Difference(_) => Self::Difference(level),
            Self::Ratio(_) => Self::Ratio(level),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        match *self {
            Self::Difference(epsilon) if !(epsilon >= 0.0 && epsilon.is_finite()) => {
                Err(Error::value("epsilon", format!("{epsilon} is not a finite number >= 0")))
            }
            Self::Ratio(ratio) if !(ratio > 0.0 && ratio <= 1.0) => {
                Err(Error::value("ratio", format!("{ratio} is not above 0 and at most 1")))
            }
            _ => Ok(()),
        }
    }
}

/// The means of several unions lie close together: parity of all pairs, in one multiplier a union.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The unions, one row each. Fewer than two that hold samples constrain nothing.
    pub unions: Vec<Union>,
    /// How far apart their means may be.
    pub limit: SpreadLimit,
}

/// `lower <= mean(plus) - scale * mean(minus) <= upper`, or the same of the residual `y - label`.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// The cells of the first mean; not empty.
    pub plus: Union,
    /// The cells of the second mean; may be empty, and then there is no second term.
    pub minus: CellMask,
    /// The factor of the second mean.
    pub scale: f64,
    /// The lower bound; may be minus infinity.
    pub lower: f64,
    /// The upper bound; may be infinity; equal bounds make an equality.
    pub upper: f64,
    /// Whether the row is about `y - label` instead of `y`.
    pub residual: bool,
}

/// `lower <= sum_i a_i y_i <= upper`, with a coefficient for every sample. The coefficients are data, and come with each
/// call: [`Batch::coefficients`](crate::Batch::coefficients).
#[derive(Clone, Debug, PartialEq)]
pub struct DenseRow {
    /// What reports call this row.
    pub name: String,
    /// The lower bound; may be minus infinity.
    pub lower: f64,
    /// The upper bound; may be infinity; equal bounds make an equality.
    pub upper: f64,
}

impl DenseRow {
    /// A row within two bounds.
    pub fn new(name: impl Into<String>, lower: f64, upper: f64) -> Self {
        Self { name: name.into(), lower, upper }
    }
}

/// The constraints that every problem of a batch has, over one layout of cells.
///
/// Rows are numbered: the unions of the spreads in order, then the contrasts, then the dense rows. Multipliers, row
/// gradients and the mask of inactive rows follow this order; *bounded rows* are all but those of spreads.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstraintSet {
    layout: CellLayout,
    spreads: Vec<Spread>,
    contrasts: Vec<Contrast>,
    dense: Vec<DenseRow>,
}

impl ConstraintSet {
    /// No constraint yet (the bounds only).
    pub fn new(layout: CellLayout) -> Self {
        Self { layout, spreads: Vec::new(), contrasts: Vec::new(), dense: Vec::new() }
    }

    /// Adds a spread; an empty union, a cell outside the layout, or a limit out of range is an error.
    pub fn push_spread(&mut self, spread: Spread) -> Result<&mut Self> {
        spread.limit.check()?;
        spread.unions.iter().try_for_each(|union| self.check_union("a union of a spread", &union.cells))?;
        self.spreads.push(spread);
        Ok(self)
    }

    /// Adds a contrast; an empty first side, a cell outside the layout, or crossed or NaN bounds are errors.
    pub fn push_contrast(&mut self, contrast: Contrast) -> Result<&mut Self> {
        self.check_union("the first side of a contrast", &contrast.plus.cells)?;
        if !contrast.minus.is_empty() {
            self.check_union("the second side of a contrast", &contrast.minus)?;
        }
        if !contrast.scale.is_finite() {
            return Err(Error::value("scale of a contrast", format!("{} is not finite", contrast.scale)));
        }
        check_row_bounds(contrast.lower, contrast.upper)?;
        self.contrasts.push(contrast);
        Ok(self)
    }

    /// Adds a row with a coefficient for every sample; crossed or NaN bounds are errors.
    pub fn push_dense(&mut self, row: DenseRow) -> Result<&mut Self> {
        check_row_bounds(row.lower, row.upper)?;
        self.dense.push(row);
        Ok(self)
    }

    fn check_union(&self, what: &'static str, cells: &CellMask) -> Result<()> {
        let all = self.layout.stratum(None);
        if cells.is_empty() || cells.and(&all) != *cells {
            return Err(Error::value(
                what,
                format!("{cells:?} is empty or not within the {} cells", self.layout.cells()),
            ));
        }
        Ok(())
    }

    /// The layout of the cells.
    pub fn layout(&self) -> &CellLayout {
        &self.layout
    }

    /// The spreads, in row order.
    pub fn spreads(&self) -> &[Spread] {
        &self.spreads
    }

    /// The contrasts, in row order.
    pub fn contrasts(&self) -> &[Contrast] {
        &self.contrasts
    }

    /// The rows with a coefficient for every sample, in row order.
    pub fn dense(&self) -> &[DenseRow] {
        &self.dense
    }

    /// The number of rows, that is of multipliers of a problem.
    pub fn rows(&self) -> usize {
        self.spreads.iter().map(|spread| spread.unions.len()).sum::<usize>() + self.bounded_rows()
    }

    /// The number of rows that have bounds of their own: contrasts and dense rows.
    pub fn bounded_rows(&self) -> usize {
        self.contrasts.len() + self.dense.len()
    }

    /// What reports call each row.
    pub fn row_names(&self) -> impl Iterator<Item = &str> {
        let unions = self.spreads.iter().flat_map(|spread| &spread.unions);
        let named = unions.chain(self.contrasts.iter().map(|contrast| &contrast.plus)).map(|union| union.name.as_str());
        named.chain(self.dense.iter().map(|row| row.name.as_str()))
    }

    /// Whether any row is about cells; without one the samples need none.
    pub fn needs_cells(&self) -> bool {
        !self.spreads.is_empty() || !self.contrasts.is_empty()
    }

    /// Whether any row is about `y - label`.
    pub fn needs_label_means(&self) -> bool {
        self.contrasts.iter().any(|contrast| contrast.residual)
    }
}

pub(crate) fn check_row_bounds(lower: f64, upper: f64) -> Result<()> {
    if lower <= upper && lower < f64::INFINITY && upper > f64::NEG_INFINITY {
        Ok(())
    } else {
        Err(Error::value("row bounds", format!("[{lower}, {upper}] holds no number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misuse_is_an_error_that_names_it() {
        let mut set = ConstraintSet::new(CellLayout::flat(2).unwrap());
        let unions = || vec![Union::new(CellMask::of([0]).unwrap(), "a"), Union::new(CellMask::of([1]).unwrap(), "b")];
        for limit in [-0.1, f64::NAN, f64::INFINITY].map(SpreadLimit::Difference) {
            let error = set.push_spread(Spread { unions: unions(), limit }).unwrap_err();
            assert!(error.to_string().contains("epsilon"), "{error}");
        }
        for limit in [0.0, 1.5, f64::NAN].map(SpreadLimit::Ratio) {
            assert!(set.push_spread(Spread { unions: unions(), limit }).is_err());
        }
        let outside = vec![Union::new(CellMask::of([2]).unwrap(), "c")];
        assert!(set.push_spread(Spread { unions: outside, limit: SpreadLimit::Difference(0.1) }).is_err());
        let contrast = Contrast {
            plus: unions().remove(0),
            minus: CellMask::EMPTY,
            scale: 1.0,
            lower: 1.0,
            upper: 0.0,
            residual: false,
        };
        assert!(set.push_contrast(contrast.clone()).is_err());
        assert!(set.push_contrast(Contrast { lower: f64::NEG_INFINITY, upper: f64::INFINITY, ..contrast }).is_ok());
        assert_eq!((set.rows(), set.spreads().len()), (1, 0));
    }
}
