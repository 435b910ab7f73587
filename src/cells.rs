//! Cells: the one-byte classes that samples fall in, group by group and stratum by stratum.
//!
//! All samples of a cell are moved by the same shift, so a mean over any union of cells is known from per-cell sums alone.

use crate::error::{Error, Result};

/// The most cells that a [`CellMask`] can hold, and the most that the CPU takes.
pub const MAX_CELLS: usize = 256;

/// A set of cells: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CellMask {
    words: [u64; MAX_CELLS / 64],
}

impl CellMask {
    /// No cell.
    pub const EMPTY: Self = Self { words: [0; MAX_CELLS / 64] };

    /// The given cells. An id of 256 or more is an error.
    pub fn of(cells: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut mask = Self::EMPTY;
        for cell in cells {
            if cell >= MAX_CELLS {
                return Err(Error::value("cell mask", format!("cell {cell} is not below {MAX_CELLS}")));
            }
            mask.insert(cell);
        }
        Ok(mask)
    }

    /// The cells `0..count`; all 256 if `count` is larger.
    pub fn first(count: usize) -> Self {
        let mut mask = Self::EMPTY;
        (0..count.min(MAX_CELLS)).for_each(|cell| mask.insert(cell));
        mask
    }

    fn insert(&mut self, cell: usize) {
        self.words[cell / 64] |= 1 << (cell % 64);
    }

    /// Whether the cell is in the set.
    #[inline]
    pub fn contains(&self, cell: usize) -> bool {
        cell < MAX_CELLS && self.words[cell / 64] >> (cell % 64) & 1 == 1
    }

    /// How many cells are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no cell is in the set.
    pub fn is_empty(&self) -> bool {
        self.words == Self::EMPTY.words
    }

    /// The cells in either set.
    pub fn or(&self, other: &Self) -> Self {
        Self { words: std::array::from_fn(|i| self.words[i] | other.words[i]) }
    }

    /// The cells in both sets.
    pub fn and(&self, other: &Self) -> Self {
        Self { words: std::array::from_fn(|i| self.words[i] & other.words[i]) }
    }

    /// The cells of the set, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors((word != 0).then_some(word), |w| Some(w & (w - 1)).filter(|rest| *rest != 0))
                .map(move |w| index * 64 + w.trailing_zeros() as usize)
        })
    }
}

impl std::fmt::Debug for CellMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What cuts the samples across groups into strata that are constrained apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strata {
    /// One stratum.
    None,
    /// Two strata: labels up to 0.5, and labels above.
    Label,
    /// One stratum for each value `0..levels` of a control feature.
    Control {
        /// How many values the control feature has.
        levels: usize,
    },
}

impl Strata {
    /// How many strata there are.
    pub fn count(&self) -> usize {
        match *self {
            Self::None => 1,
            Self::Label => 2,
            Self::Control { levels } => levels,
        }
    }
}

/// A sensitive feature: its name and the names of its groups. A sample's group is an id `0..groups.len()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensitiveFeature {
    /// The feature's name, for reports.
    pub name: String,
    /// The groups' names, for reports; their number is what matters.
    pub groups: Vec<String>,
}

impl SensitiveFeature {
    /// A feature with `groups` groups named `0`, `1`, and so on.
    pub fn new(name: impl Into<String>, groups: usize) -> Self {
        Self { name: name.into(), groups: (0..groups).map(|group| group.to_string()).collect() }
    }
}

/// A control feature, within whose values groups are compared. A sample's value is an id `0..levels.len()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFeature {
    /// The feature's name, for reports.
    pub name: String,
    /// The values' names, for reports; their number is what matters.
    pub levels: Vec<String>,
}

impl ControlFeature {
    /// A feature with `levels` values named `0`, `1`, and so on.
    pub fn new(name: impl Into<String>, levels: usize) -> Self {
        Self { name: name.into(), levels: (0..levels).map(|level| level.to_string()).collect() }
    }
}

/// Who is to be treated fairly: the sensitive features, whether they are taken each alone or by their product, and the
/// control feature if there is one. A [`Criterion`](crate::Criterion) turns it into constraints.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Population {
    /// The sensitive features. `Batch::groups` gives their group ids in this order.
    pub features: Vec<SensitiveFeature>,
    /// Constrain every combination of groups (intersectional) instead of every feature alone (marginal).
    pub intersectional: bool,
    /// The control feature, for criteria that are conditional on one. `Batch::control` gives its value ids.
    pub control: Option<ControlFeature>,
}

impl Population {
    /// One sensitive feature with `groups` groups.
    pub fn one_feature(groups: usize) -> Self {
        Self::of_features([SensitiveFeature::new("group", groups)])
    }

    /// Several sensitive features, each constrained alone.
    pub fn of_features(features: impl IntoIterator<Item = SensitiveFeature>) -> Self {
        Self { features: features.into_iter().collect(), intersectional: false, control: None }
    }

    /// Constrain every combination of groups instead of every feature alone.
    #[must_use]
    pub fn intersectional(mut self) -> Self {
        self.intersectional = true;
        self
    }

    /// Say how many values the control feature has; reports call it `control`, and its values by their numbers.
    #[must_use]
    pub fn with_control(self, levels: usize) -> Self {
        self.with_control_feature(ControlFeature::new("control", levels))
    }

    /// Say what the control feature is.
    #[must_use]
    pub fn with_control_feature(mut self, control: ControlFeature) -> Self {
        self.control = Some(control);
        self
    }
}

/// How groups and strata become cells: a mixed-radix number, the stratum its last digit.
///
/// `cell = ((g_0 * k_1 + g_1) * k_2 + ...) * strata + stratum`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CellLayout {
    group_counts: Vec<usize>,
    strata: Strata,
}

impl CellLayout {
    /// The layout for features with these numbers of groups. No feature, an empty feature, an empty control feature, or
    /// more than 256 cells are errors.
    pub fn new(group_counts: &[usize], strata: Strata) -> Result<Self> {
        if group_counts.is_empty() || group_counts.contains(&0) {
            return Err(Error::value("sensitive features", "at least one feature with at least one group is needed"));
        }
        if strata.count() == 0 {
            return Err(Error::value("control feature", "it needs at least one value"));
        }
        let cells = group_counts.iter().fold(strata.count(), |product, &groups| product.saturating_mul(groups));
        if cells > MAX_CELLS {
            return Err(Error::TooManyCells { cells, limit: MAX_CELLS });
        }
        Ok(Self { group_counts: group_counts.to_vec(), strata })
    }

    /// `count` cells whose ids the batch gives directly.
    pub fn flat(count: usize) -> Result<Self> {
        Self::new(&[count], Strata::None)
    }

    /// The number of cells.
    pub fn cells(&self) -> usize {
        self.group_counts.iter().product::<usize>() * self.strata.count()
    }

    /// The number of groups of every sensitive feature.
    pub fn group_counts(&self) -> &[usize] {
        &self.group_counts
    }

    /// What the strata are.
    pub fn strata(&self) -> Strata {
        self.strata
    }

    /// The cells in which `feature` has `group`, in one stratum or (`None`) in all.
    pub fn union(&self, feature: usize, group: usize, stratum: Option<usize>) -> CellMask {
        let below: usize = self.group_counts.iter().skip(feature + 1).product::<usize>() * self.strata.count();
        let count = self.group_counts.get(feature).copied().unwrap_or(1);
        self.select(|cell| cell / below % count == group && stratum.is_none_or(|s| cell % self.strata.count() == s))
    }

    /// All cells of one stratum, or (`None`) all cells.
    pub fn stratum(&self, stratum: Option<usize>) -> CellMask {
        self.select(|cell| stratum.is_none_or(|s| cell % self.strata.count() == s))
    }

    fn select(&self, keep: impl Fn(usize) -> bool) -> CellMask {
        let mut mask = CellMask::EMPTY;
        (0..self.cells()).filter(|&cell| keep(cell)).for_each(|cell| mask.insert(cell));
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_mixed_radix() {
        let layout = CellLayout::new(&[2, 3], Strata::Label).unwrap();
        assert_eq!(layout.cells(), 12);
        let mask = layout.union(1, 2, Some(1));
        assert_eq!(mask.iter().collect::<Vec<_>>(), [5, 11]);
        assert_eq!(layout.union(0, 1, None).iter().collect::<Vec<_>>(), (6..12).collect::<Vec<_>>());
        assert_eq!(layout.stratum(Some(0)).count(), 6);
    }

    #[test]
    fn masks_reach_the_last_cell() {
        let mask = CellMask::of([0, 63, 64, 255]).unwrap();
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 63, 64, 255]);
        assert!(mask.contains(255) && !mask.contains(1) && !mask.contains(400));
        assert!(CellMask::of([256]).is_err());
        assert_eq!(CellMask::first(256).count(), 256);
        assert!(matches!(CellLayout::flat(257), Err(Error::TooManyCells { cells: 257, .. })));
    }
}
