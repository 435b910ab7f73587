//! Groups as they come: a stream does not know beforehand which there are.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::cli::needs::one_group;
use crate::{CellLayout, ControlFeature, Error, MAX_CELLS, Population, SensitiveFeature};

/// The texts of a column, numbered in the order in which they came.
pub struct Names {
    pub column: String,
    pub texts: Vec<Box<[u8]>>,
    ids: HashMap<Box<[u8]>, u32>,
}

impl Names {
    pub fn new(column: &str) -> Self {
        Self { column: column.to_owned(), texts: Vec::new(), ids: HashMap::new() }
    }

    fn id(&mut self, text: &[u8]) -> Result<u32, String> {
        match self.known(text)? {
            Some(id) => Ok(id),
            None => self.add(text),
        }
    }

    fn known(&self, text: &[u8]) -> Result<Option<u32>, String> {
        let missing = text.trim_ascii().is_empty();
        if missing { Err("the value is missing".to_owned()) } else { Ok(self.ids.get(text).copied()) }
    }

    /// Adds a text that is not known.
    pub fn add(&mut self, text: &[u8]) -> Result<u32, String> {
        if self.texts.len() >= MAX_CELLS {
            let merge = "is it a column of numbers? If not, merge rare ones";
            return Err(format!("more than {MAX_CELLS} different values; {merge}"));
        }
        let id = self.texts.len() as u32;
        self.texts.push(text.into());
        self.ids.insert(text.into(), id);
        Ok(id)
    }

    fn display(&self, id: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.texts[id as usize])
    }
}

/// A sensitive feature: a column, or the combinations of several that came.
pub struct Feature {
    pub columns: Vec<usize>,
    /// The texts of every group, by column.
    pub groups: Vec<Vec<u32>>,
    ids: HashMap<Vec<u32>, u8>,
}

impl Feature {
    pub fn of(columns: Vec<usize>) -> Self {
        Self { columns, groups: Vec::new(), ids: HashMap::new() }
    }

    /// Adds a group that is not known; there are fewer than 256.
    pub fn add(&mut self, texts: Vec<u32>) {
        self.ids.insert(texts.clone(), self.groups.len() as u8);
        self.groups.push(texts);
    }
}

/// All groups that came, and the values of the control feature.
pub struct Groups {
    pub columns: Vec<Names>,
    pub features: Vec<Feature>,
    pub control: Option<Names>,
    /// Values of the stratum that are known beforehand: 2 for labels, 1 for none. (Those of a control feature come.)
    fixed_strata: usize,
    texts: Vec<u32>,
    key: Vec<u32>,
}

/// Where a row belongs.
#[derive(Default)]
pub struct Place {
    /// Its group in every feature.
    pub groups: Vec<u8>,
    pub control: u8,
}

impl Groups {
    pub fn new(columns: Vec<Names>, features: Vec<Feature>, control: Option<Names>, fixed_strata: usize) -> Self {
        Self { columns, features, control, fixed_strata, texts: Vec::new(), key: Vec::new() }
    }

    /// Finds where a row with these texts belongs, a new group if it must be. What is wrong is told by the number of the
    /// column; the control feature is the one behind all.
    pub fn place(&mut self, texts: &[&[u8]], control: Option<&[u8]>, place: &mut Place) -> Result<(), (usize, String)> {
        self.texts.clear();
        for (index, (names, text)) in self.columns.iter_mut().zip(texts).enumerate() {
            self.texts.push(names.id(text).map_err(|what| (index, what))?);
        }
        place.groups.clear();
        for index in 0..self.features.len() {
            self.key.clear();
            self.key.extend(self.features[index].columns.iter().map(|&column| self.texts[column]));
            let id = match self.features[index].ids.get(self.key.as_slice()) {
                Some(&id) => id,
                None => {
                    let column = self.features[index].columns[0];
                    self.make_room(Some(index), self.strata_count()).map_err(|what| (column, what))?;
                    self.features[index].add(self.key.clone());
                    (self.features[index].groups.len() - 1) as u8
                }
            };
            place.groups.push(id);
        }
        if let (Some(names), Some(text)) = (&self.control, control) {
            let behind = |what| (self.columns.len(), what);
            let known = names.known(text).map_err(behind)?;
            if known.is_none() {
                self.make_room(None, names.texts.len() + 1).map_err(behind)?;
            }
        }
        if let (Some(names), Some(text)) = (&mut self.control, control) {
            place.control = names.id(text).map_err(|what| (self.columns.len(), what))? as u8;
        }
        Ok(())
    }

    /// Whether there may be as many cells as there are, with one group more of a feature and so many strata.
    fn make_room(&self, grows: Option<usize>, strata: usize) -> Result<(), String> {
        let groups = |(index, feature): (usize, &Feature)| {
            let more = usize::from(grows == Some(index));
            (feature.groups.len() + more).max(1)
        };
        let cells = self.features.iter().enumerate().map(groups).fold(strata, usize::saturating_mul);
        if cells <= MAX_CELLS { Ok(()) } else { Err(Error::TooManyCells { cells, limit: MAX_CELLS }.to_string()) }
    }

    fn strata_count(&self) -> usize {
        self.control.as_ref().map_or(self.fixed_strata, |names| names.texts.len().max(1))
    }

    /// Whether these are the groups and strata of a layout.
    pub fn fit(&self, layout: &CellLayout) -> bool {
        let counts = self.features.iter().map(|feature| feature.groups.len());
        counts.eq(layout.group_counts().iter().copied()) && self.strata_count() == layout.strata().count()
    }

    /// Who came so far.
    pub fn population(&self) -> Population {
        let name = |feature: &Feature| {
            let of = |&column: &usize| self.columns[column].column.as_str();
            feature.columns.iter().map(of).collect::<Vec<_>>().join(" & ")
        };
        let group = |feature: &Feature, texts: &Vec<u32>| {
            let texts = feature.columns.iter().zip(texts).map(|(&column, &text)| self.columns[column].display(text));
            texts.collect::<Vec<_>>().join(" & ")
        };
        let features = self.features.iter().map(|feature| SensitiveFeature {
            name: name(feature),
            groups: feature.groups.iter().map(|texts| group(feature, texts)).collect(),
        });
        let control = self.control.as_ref().map(|names| ControlFeature {
            name: names.column.clone(),
            levels: (0..names.texts.len() as u32).map(|id| names.display(id).into_owned()).collect(),
        });
        Population { control, ..Population::of_features(features) }
    }

    /// A note for every feature of one group.
    pub fn single(&self) -> impl Iterator<Item = String> {
        let single = self.population().features.into_iter().filter(|feature| feature.groups.len() == 1);
        single.map(|feature| one_group(&feature.name, &feature.groups[0]))
    }
}

/// Where the cells of a layout are in one that has more groups or strata, in the order of their coming.
pub fn places(from: &CellLayout, to: &CellLayout) -> Vec<usize> {
    let radices = |layout: &CellLayout| {
        let mut radices = layout.group_counts().to_vec();
        radices.push(layout.strata().count());
        radices
    };
    let (old, new) = (radices(from), radices(to));
    let place = |mut cell: usize| {
        let (mut id, mut unit) = (0, 1);
        for (had, has) in old.iter().zip(&new).rev() {
            id += cell % had * unit;
            cell /= had;
            unit *= has;
        }
        id
    };
    (0..from.cells()).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Strata;

    #[test]
    fn cells_keep_their_groups_and_strata() {
        let from = CellLayout::new(&[2, 1], Strata::Control { levels: 2 }).unwrap();
        let to = CellLayout::new(&[3, 2], Strata::Control { levels: 3 }).unwrap();
        // Cells are (g0, g1, stratum): 0 = (0, 0, 0), 1 = (0, 0, 1), 2 = (1, 0, 0), 3 = (1, 0, 1).
        assert_eq!(places(&from, &to), [0, 1, 6, 7]);
        assert_eq!(places(&to, &to), (0..18).collect::<Vec<_>>());
    }

    #[test]
    fn combinations_are_groups_when_they_come() {
        let columns = vec![Names::new("a"), Names::new("b")];
        let mut groups = Groups::new(columns, vec![Feature::of(vec![0, 1])], None, 1);
        let mut place = Place::default();
        for (a, b, id) in [("x", "y", 0), ("z", "y", 1), ("x", "y", 0)] {
            groups.place(&[a.as_bytes(), b.as_bytes()], None, &mut place).unwrap();
            assert_eq!(place.groups, [id]);
        }
        assert_eq!(groups.population().features[0].name, "a & b");
        assert_eq!(groups.population().features[0].groups, ["x & y", "z & y"]);
        assert!(groups.place(&[b"x", b" "], None, &mut place).unwrap_err().1.contains("missing"));
    }

    #[test]
    fn there_are_at_most_256_cells() {
        let mut groups = Groups::new(
            vec![Names::new("a"), Names::new("b")],
            vec![Feature::of(vec![0]), Feature::of(vec![1])],
            None,
            2,
        );
        let mut place = Place::default();
        let mut failed = None;
        for i in 0..20 {
            let text = format!("{i}");
            if let Err((column, what)) = groups.place(&[text.as_bytes(), text.as_bytes()], None, &mut place) {
                failed = Some((i, column, what));
                break;
            }
        }
        // 11 groups times 11 times 2 labels fit, 12 times 11 do not.
        let (row, column, what) = failed.unwrap();
        assert_eq!((row, column), (11, 0));
        assert!(what.contains("264 cells"), "{what}");
    }
}
