//! From the arguments and the groups of the file to constraints, and to the words that a report uses for them.

use crate::{
    Calibration, CellLayout, ConditionalParity, ConstraintSet, ControlFeature, Covariance, Criterion as _,
    DemographicParity, DenseRow, EqualizedOdds, FalsePositiveRateParity, MeanResidual, Parity, Population,
    SensitiveFeature, TruePositiveRateParity,
};

use super::args::{Bounds, Compare, Criterion, FairnessArgs, LimitArgs, name_of};
use super::failure::{Failure, Result, quoted};
use super::table::Categories;

/// What is compared between groups, and how much of it is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// `max mean - min mean <= epsilon`.
    Pairwise { epsilon: f64 },
    /// `|mean of a group - mean of all| <= epsilon`.
    Overall { epsilon: f64 },
    /// `min mean / max mean >= ratio`.
    Ratio { ratio: f64 },
    /// `|mean of (score - label) in a group| <= epsilon`.
    Residual { epsilon: f64 },
    /// `|covariance of the score and a feature| <= epsilon`.
    Covariance { epsilon: f64 },
}

impl Limit {
    /// The limit that a criterion has by the arguments, if they fit together.
    pub fn of(criterion: Criterion, fairness: &FairnessArgs, bounds: Bounds) -> Result<Self> {
        let FairnessArgs { limit: LimitArgs { epsilon, ratio }, compare, .. } = *fairness;
        let name = || name_of(criterion);
        let does_not_apply = |what: &str| Failure::new(format!("--compare overall does not apply to {what}"));
        let epsilon_only = criterion.is_of_residuals() || criterion == Criterion::Covariance;
        match (criterion, epsilon, ratio, compare) {
            (_, None, Some(_), _) if epsilon_only => {
                Err(Failure::new(format!("{} takes --epsilon, not --ratio", name())))
            }
            (_, None, None, _) if epsilon_only => Err(Failure::new(format!("{} needs --epsilon", name()))),
            (_, _, _, Compare::Overall) if epsilon_only => Err(does_not_apply(&name())),
            (Criterion::Covariance, Some(epsilon), ..) => Ok(Self::Covariance { epsilon }),
            (_, Some(epsilon), ..) if epsilon_only => Ok(Self::Residual { epsilon }),
            (_, None, Some(_), Compare::Overall) => Err(does_not_apply("--ratio")),
            (_, None, Some(ratio), _) => Self::ratio(ratio, bounds),
            (_, Some(epsilon), _, Compare::Pairwise) => Ok(Self::Pairwise { epsilon }),
            (_, Some(epsilon), _, Compare::Overall) => Ok(Self::Overall { epsilon }),
            (_, None, None, _) => Err(Failure::new("one of --epsilon and --ratio is needed")),
        }
    }

    fn ratio(ratio: f64, bounds: Bounds) -> Result<Self> {
        if bounds.lo >= 0.0 {
            return Ok(Self::Ratio { ratio });
        }
        let what = format!("--ratio needs a lower bound of at least 0, not {}; set it with --bounds", bounds.lo);
        Err(Failure::new(what))
    }

    /// Epsilon or the ratio.
    pub fn level(&self) -> f64 {
        match *self {
            Self::Pairwise { epsilon }
            | Self::Overall { epsilon }
            | Self::Residual { epsilon }
            | Self::Covariance { epsilon } => epsilon,
            Self::Ratio { ratio } => ratio,
        }
    }

    /// By how much a measured gap or ratio is beyond the limit; negative within it.
    pub fn excess(&self, measured: f64) -> f64 {
        match *self {
            Self::Ratio { ratio } => ratio - measured,
            _ => measured - self.level(),
        }
    }

    /// Whether one group alone is held to something.
    pub fn concerns_single_groups(&self) -> bool {
        matches!(self, Self::Residual { .. })
    }
}

/// A sensitive feature, as it is constrained.
pub struct Feature {
    pub name: String,
    pub groups: Vec<String>,
}

/// The samples that are compared with each other; those of other strata are compared apart.
pub struct Stratum {
    /// Its number among all values of the label or the control feature.
    pub index: usize,
    /// What reports call it; `None` if it is all samples.
    pub name: Option<String>,
}

/// All that follows from the arguments and the groups.
pub struct Plan {
    /// That of the criterion; rows of the user's own have bounds of their own.
    pub limit: Option<Limit>,
    pub features: Vec<Feature>,
    pub strata: Vec<Stratum>,
    /// How many values the label or the control feature has; 1 if all samples are compared.
    pub stratum_count: usize,
    /// The criterion if it is covariance: its rows are the first dense ones.
    pub covariance: Option<Covariance>,
    pub constraints: ConstraintSet,
}

impl Plan {
    /// The constraints of a criterion, if there is one, on these sensitive features and on this control feature if it
    /// wants one, or on the features of the covariance; and the rows of the user's own.
    pub fn new(
        criterion: Option<(Criterion, Limit)>,
        sensitive: &[Categories],
        control: Option<&Categories>,
        covariance: Option<Covariance>,
        own: &[DenseRow],
    ) -> Result<Self> {
        let features: Vec<Feature> = sensitive
            .iter()
            .map(|column| Feature { name: column.name.clone(), groups: column.display_texts() })
            .collect();
        let levels = control.map(|column| (column.name.as_str(), column.display_texts()));
        let levels = levels.as_ref().map(|(name, levels)| (*name, levels.as_slice()));
        let (strata, stratum_count) = strata(criterion.map(|(criterion, _)| criterion), levels);
        let mut constraints = match (criterion, &covariance) {
            (Some((criterion, _)), Some(covariance)) => {
                named(criterion, covariance.constraints(&Population::default()))?
            }
            (Some((criterion, limit)), None) => constraints(criterion, limit, &population(&features, control))?,
            (None, _) => ConstraintSet::new(CellLayout::flat(1)?),
        };
        for row in own {
            if constraints.row_names().any(|name| name == row.name) {
                let what = format!("--rows: there is a row {} already; rename one", quoted(row.name.as_bytes()));
                return Err(Failure::new(what));
            }
            constraints.push_dense(row.clone())?;
        }
        let limit = criterion.map(|(_, limit)| limit);
        Ok(Self { limit, features, strata, stratum_count, covariance, constraints })
    }

    /// The number of the first dense row.
    pub fn first_dense(&self) -> usize {
        self.constraints.rows() - self.constraints.dense().len()
    }

    /// How many dense rows are of a covariance.
    pub fn covariance_rows(&self) -> usize {
        self.covariance.as_ref().map_or(0, Covariance::rows)
    }

    /// The feature of every row that is about groups: for every stratum the features in order, with a row for every group.
    pub fn features_of_rows(&self) -> impl Iterator<Item = &Feature> {
        let of_stratum = || self.features.iter().flat_map(|feature| feature.groups.iter().map(move |_| feature));
        self.strata.iter().flat_map(move |_| of_stratum())
    }

    /// Whether the feature has nothing to compare in any problem.
    pub fn is_idle(&self, feature: &Feature) -> bool {
        feature.groups.len() == 1 && !self.limit.is_some_and(|limit| limit.concerns_single_groups())
    }
}

/// The strata that the criterion compares within, and how many there are in all. The control feature has a name and values.
pub fn strata(criterion: Option<Criterion>, control: Option<(&str, &[String])>) -> (Vec<Stratum>, usize) {
    let label = |index: usize| Stratum { index, name: Some(format!("label={index}")) };
    match (criterion, control) {
        (Some(Criterion::EqualizedOdds), _) => (vec![label(0), label(1)], 2),
        (Some(Criterion::TprParity), _) => (vec![label(1)], 2),
        (Some(Criterion::FprParity), _) => (vec![label(0)], 2),
        (Some(Criterion::ConditionalParity), Some((name, levels))) => {
            let level = |(index, text)| Stratum { index, name: Some(format!("{name}={text}")) };
            (levels.iter().enumerate().map(level).collect(), levels.len())
        }
        _ => (vec![Stratum { index: 0, name: None }], 1),
    }
}

/// The people that these columns speak of.
pub fn population(features: &[Feature], control: Option<&Categories>) -> Population {
    let features =
        features.iter().map(|feature| SensitiveFeature { name: feature.name.clone(), groups: feature.groups.clone() });
    let control = control.map(|column| ControlFeature { name: column.name.clone(), levels: column.display_texts() });
    Population { control, ..Population::of_features(features) }
}

/// The constraints of a criterion for a population.
pub fn constraints(criterion: Criterion, limit: Limit, population: &Population) -> Result<ConstraintSet> {
    named(criterion, definition(criterion, limit).constraints(population))
}

/// What the library knows a criterion by.
pub fn definition(criterion: Criterion, limit: Limit) -> Box<dyn crate::Criterion> {
    let parity = match limit {
        Limit::Pairwise { epsilon } => Parity::Pairwise { epsilon },
        Limit::Overall { epsilon } | Limit::Residual { epsilon } | Limit::Covariance { epsilon } => {
            Parity::Overall { epsilon }
        }
        Limit::Ratio { ratio } => Parity::Ratio { ratio },
    };
    match criterion {
        Criterion::DemographicParity => Box::new(DemographicParity(parity)),
        Criterion::EqualizedOdds => Box::new(EqualizedOdds(parity)),
        Criterion::TprParity => Box::new(TruePositiveRateParity(parity)),
        Criterion::FprParity => Box::new(FalsePositiveRateParity(parity)),
        Criterion::ConditionalParity => Box::new(ConditionalParity(parity)),
        Criterion::MeanResidual => Box::new(MeanResidual::within(limit.level())),
        Criterion::Calibration => Box::new(Calibration::within(limit.level())),
        Criterion::Covariance => Box::new(Covariance::within(limit.level())),
    }
}

/// Errors say which criterion they are about.
fn named(criterion: Criterion, set: crate::Result<ConstraintSet>) -> Result<ConstraintSet> {
    set.map_err(|error| Failure::new(format!("{}: {error}", name_of(criterion))))
}

/// One feature in place of two: its groups are the combinations of groups that occur in the file.
pub fn combination(left: &Categories, right: &Categories) -> Categories {
    let width = right.texts.len();
    let codes = || left.ids.iter().zip(&right.ids).map(|(&left, &right)| left as usize * width + right as usize);
    let mut occurs = vec![false; left.texts.len() * width];
    codes().for_each(|code| occurs[code] = true);
    let mut texts: Vec<Box<[u8]>> = Vec::new();
    let mut rank = vec![0; occurs.len()];
    for ((code, _), next) in occurs.iter().enumerate().filter(|(_, occurs)| **occurs).zip(0..) {
        rank[code] = next;
        texts.push([&left.texts[code / width], &b" & "[..], &right.texts[code % width]].concat().into());
    }
    let ids = codes().map(|code| rank[code]).collect();
    Categories { name: format!("{} & {}", left.name, right.name), ids, texts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::{CategoryReader, Column};

    fn column(name: &str, texts: &str) -> Categories {
        let mut column = CategoryReader::new(name, 256);
        texts.split(' ').for_each(|text| column.push(text.as_bytes()).unwrap());
        column.sorted()
    }

    #[test]
    fn only_combinations_that_occur_are_groups() {
        let combined = combination(&column("sex", "m f m f"), &column("age", "old old young old"));
        assert_eq!(combined.name, "sex & age");
        assert_eq!(combined.display_texts(), ["f & old", "m & old", "m & young"]);
        assert_eq!(combined.ids, [1, 0, 2, 0]);
    }

    #[test]
    fn rows_are_those_of_strata_then_features_then_groups() {
        let (sensitive, control) = ([column("sex", "m f"), column("x", "a a")], column("region", "north south"));
        for limit in [Limit::Pairwise { epsilon: 0.1 }, Limit::Overall { epsilon: 0.1 }, Limit::Ratio { ratio: 0.8 }] {
            let aim = Some((Criterion::ConditionalParity, limit));
            let own = [DenseRow::new("own", 0.0, 1.0)];
            let plan = Plan::new(aim, &sensitive, Some(&control), None, &own).unwrap();
            let names: Vec<&str> = plan.constraints.row_names().collect();
            assert_eq!(names[..3], ["sex=f, region=north", "sex=m, region=north", "x=a, region=north"]);
            assert_eq!(names[3..6], ["sex=f, region=south", "sex=m, region=south", "x=a, region=south"]);
            assert_eq!((plan.first_dense(), names[6]), (6, "own"));
            let features: Vec<&str> = plan.features_of_rows().map(|feature| feature.name.as_str()).collect();
            assert_eq!(features, ["sex", "sex", "x", "sex", "sex", "x"]);
        }
    }
}
