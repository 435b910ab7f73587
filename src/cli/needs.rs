//! What a criterion needs of the arguments, and which of them it does not use.

use std::collections::HashSet;

use super::args::{Criterion, FairnessArgs, name_of};
use super::failure::{Failure, Result, quoted};

/// Fails if a column that the criterion needs is not named, or bins are that it has no use for.
pub fn require_columns(criterion: Criterion, fairness: &FairnessArgs, sensitive: &[String]) -> Result<()> {
    let calibration = criterion == Criterion::Calibration;
    let missing = [
        ("--label", criterion.needs_labels() && fairness.label.is_none()),
        ("--control", criterion.needs_control() && fairness.control.is_none()),
        ("--sensitive", sensitive.is_empty() && !calibration),
        ("--edges", fairness.edges.is_none() && calibration),
    ];
    if let Some((option, _)) = missing.into_iter().find(|(_, missing)| *missing) {
        return Err(Failure::new(format!("{} needs {option}", name_of(criterion))));
    }
    require_places(criterion, &[("--edges", fairness.edges.is_some() && !calibration)])
}

/// Fails at the first of the options that is said to be misplaced.
pub fn require_places(criterion: Criterion, misplaced: &[(&str, bool)]) -> Result<()> {
    match misplaced.iter().find(|(_, misplaced)| *misplaced) {
        Some((option, _)) => Err(Failure::new(format!("{option} does not apply to {}", name_of(criterion)))),
        None => Ok(()),
    }
}

/// Fails if a sensitive feature is named twice.
pub fn require_distinct(sensitive: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match sensitive.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Failure::new(format!("--sensitive names the column {} twice", quoted(name.as_bytes())))),
        None => Ok(()),
    }
}

/// A note on every column that is named and not used; `aim` is what the scores are held to.
pub fn unused(criterion: Option<Criterion>, fairness: &FairnessArgs, aim: &str) -> impl Iterator<Item = String> {
    let named = [
        ("--label", fairness.label.is_some() && fairness.label_of(criterion).is_none()),
        ("--control", fairness.control.is_some() && fairness.control_of(criterion).is_none()),
    ];
    let unused = named.into_iter().filter(|(_, unused)| *unused);
    unused.map(move |(option, _)| not_used(aim, option))
}

/// The note on an option that is given and not used.
pub fn not_used(aim: &str, option: &str) -> String {
    format!("note: {aim} does not use {option}")
}

/// The note on a sensitive feature with one group.
pub fn one_group(feature: &str, group: &str) -> String {
    let (feature, group) = (quoted(feature.as_bytes()), quoted(group.as_bytes()));
    format!("note: {feature} has one group only, {group}: there is nothing to compare")
}
