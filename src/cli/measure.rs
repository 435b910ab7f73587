//! How far apart the groups are, before and after, and how far the scores moved: measured in double precision on the
//! scores as they were read and as they are written, with nothing taken over from the solver.

use super::plan::{Limit, Plan};
use super::problems::Problems;
use super::solve::Samples;
use crate::sum::Sum;

/// A number before the projection and after it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    pub before: f64,
    pub after: f64,
}

/// How far the scores moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// `sqrt(sum w (fair - score)^2 / sum w)`.
    pub rms: f64,
    pub largest: f64,
}

/// A gap for every problem, stratum and sensitive feature.
pub struct Gaps {
    /// `[B, strata, features]`; `None` where there are not two groups to compare.
    gaps: Vec<Option<Change>>,
    comparisons: usize,
    ratio: bool,
}

impl Gaps {
    /// Measures the gaps of all problems.
    pub fn of(plan: &Plan, problems: &Problems, samples: &Samples, fair: &[f64]) -> Self {
        let comparisons = plan.strata.len() * plan.features.len();
        let mut gaps = Vec::with_capacity(problems.count() * comparisons);
        let mut tallies = Tallies::new(plan);
        for problem in 0..problems.count() {
            tallies.clear();
            problems.range(problem).for_each(|place| tallies.add(samples, fair, place));
            for stratum in &plan.strata {
                let gap = |feature| tallies.gap(plan.limit?, stratum.index, feature);
                gaps.extend((0..plan.features.len()).map(gap));
            }
        }
        Self { gaps, comparisons, ratio: matches!(plan.limit, Some(Limit::Ratio { .. })) }
    }

    /// The worst gap of a comparison (`stratum * features + feature`) over all problems, before and after apart.
    pub fn worst_of_comparison(&self, comparison: usize) -> Option<Change> {
        self.worst(self.gaps.iter().skip(comparison).step_by(self.comparisons))
    }

    /// The worst gap of a problem over all its comparisons.
    pub fn worst_of_problem(&self, problem: usize) -> Option<Change> {
        self.worst(&self.gaps[problem * self.comparisons..(problem + 1) * self.comparisons])
    }

    fn worst<'a>(&self, gaps: impl IntoIterator<Item = &'a Option<Change>>) -> Option<Change> {
        let worse: fn(f64, f64) -> f64 = if self.ratio { f64::min } else { f64::max };
        gaps.into_iter().flatten().copied().reduce(|worst, gap| Change {
            before: worse(worst.before, gap.before),
            after: worse(worst.after, gap.after),
        })
    }
}

/// The value of every dense row in every problem.
pub struct RowValues {
    /// `[B, rows]`.
    values: Vec<Change>,
    /// `[B, rows]`: how large a row is, `sqrt(sum a^2 / share)` with the samples' shares of the weight; 0 if all
    /// coefficients are. A change of `y` by 1 (root mean square) changes the row by this at the most.
    sizes: Vec<f64>,
    bounds: Vec<(f64, f64)>,
}

impl RowValues {
    /// Measures the rows of all problems.
    pub fn of(plan: &Plan, problems: &Problems, samples: &Samples, fair: &[f64]) -> Self {
        let bounds: Vec<_> = plan.constraints.dense().iter().map(|row| (row.lower, row.upper)).collect();
        let count = problems.count() * bounds.len();
        let (mut values, mut sizes) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for problem in 0..problems.count() {
            let range = problems.range(problem);
            let (scores, fair) = (&samples.scores[range.clone()], &fair[range.clone()]);
            let matrix = &samples.coefficients[bounds.len() * range.start..bounds.len() * range.end];
            let total = range.clone().map(|place| samples.weight(place)).sum::<f64>();
            for row in matrix.chunks_exact(range.len().max(1)) {
                values.push(Change { before: value(row, scores), after: value(row, fair) });
                // Divided by the largest, the squares neither overflow nor vanish.
                let largest = row.iter().fold(0.0_f64, |largest, a| largest.max(a.abs()));
                let square = |(a, place): (&f64, usize)| (a / largest).powi(2) / (samples.weight(place) / total);
                let squares: f64 = row.iter().zip(range.clone()).map(square).sum();
                sizes.push(if largest > 0.0 { largest * squares.sqrt() } else { 0.0 });
            }
        }
        Self { values, sizes, bounds }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.bounds.len()
    }

    /// A row's bounds.
    pub fn bounds(&self, row: usize) -> (f64, f64) {
        self.bounds[row]
    }

    /// A row in a problem; `None` where it has no coefficient but 0.
    pub fn get(&self, problem: usize, row: usize) -> Option<Change> {
        let index = problem * self.rows() + row;
        (self.sizes[index] > 0.0).then(|| self.values[index])
    }

    /// By how much a row of a problem is beyond its bounds in the end, in units of the score.
    pub fn scaled_excess(&self, problem: usize, row: usize) -> Option<f64> {
        let index = problem * self.rows() + row;
        (self.sizes[index] > 0.0).then(|| self.excess(row, self.values[index].after) / self.sizes[index])
    }

    /// The values that are farthest beyond a row's bounds, or least within them, before and after apart.
    pub fn worst(&self, row: usize) -> Option<Change> {
        let worse = |left: f64, right: f64| if self.excess(row, right) > self.excess(row, left) { right } else { left };
        let problems = self.values.len() / self.rows();
        (0..problems).filter_map(|problem| self.get(problem, row)).reduce(|worst, value| Change {
            before: worse(worst.before, value.before),
            after: worse(worst.after, value.after),
        })
    }

    /// By how much a value is beyond a row's bounds; negative within them.
    pub fn excess(&self, row: usize, value: f64) -> f64 {
        let (lower, upper) = self.bounds[row];
        (lower - value).max(value - upper)
    }
}

fn value(row: &[f64], scores: &[f64]) -> f64 {
    let mut sum = Sum::default();
    row.iter().zip(scores).for_each(|(coefficient, score)| sum.add(coefficient * score));
    sum.value()
}

/// Measures the distance between scores and fair scores.
pub fn distance(samples: &Samples, fair: &[f64]) -> Distance {
    let (mut weight, mut squares, mut largest) = (Sum::default(), Sum::default(), 0.0_f64);
    for (place, (score, fair)) in samples.scores.iter().zip(fair).enumerate() {
        let moved = (fair - score).abs();
        weight.add(samples.weight(place));
        squares.add(samples.weight(place) * moved * moved);
        largest = largest.max(moved);
    }
    Distance { rms: (squares.value() / weight.value()).sqrt(), largest }
}

impl Samples {
    fn weight(&self, place: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| weights[place])
    }

    fn label(&self, place: usize) -> f64 {
        self.labels.as_ref().map_or(0.0, |labels| labels[place])
    }
}

/// The sums of one group within one stratum.
#[derive(Clone, Copy, Default)]
struct Tally {
    weight: Sum,
    before: Sum,
    after: Sum,
}

impl Tally {
    /// The means, if there are any samples.
    fn means(&self) -> Option<Change> {
        let weight = self.weight.value();
        (weight > 0.0).then(|| Change { before: self.before.value() / weight, after: self.after.value() / weight })
    }

    fn merge(mut self, other: &Self) -> Self {
        self.weight.add(other.weight.value());
        self.before.add(other.before.value());
        self.after.add(other.after.value());
        self
    }
}

/// The sums of one problem, by feature, then stratum, then group.
struct Tallies {
    of_feature: Vec<Vec<Tally>>,
    group_counts: Vec<usize>,
    strata: usize,
    residual: bool,
}

impl Tallies {
    fn new(plan: &Plan) -> Self {
        let group_counts: Vec<usize> = plan.features.iter().map(|feature| feature.groups.len()).collect();
        let tallies = |count: &usize| vec![Tally::default(); plan.stratum_count * count];
        let residual = matches!(plan.limit, Some(Limit::Residual { .. }));
        Self {
            of_feature: group_counts.iter().map(tallies).collect(),
            group_counts,
            strata: plan.stratum_count,
            residual,
        }
    }

    fn clear(&mut self) {
        self.of_feature.iter_mut().for_each(|tallies| tallies.fill(Tally::default()));
    }

    fn add(&mut self, samples: &Samples, fair: &[f64], place: usize) {
        let stratum = self.stratum(samples, place);
        let weight = samples.weight(place);
        let target = if self.residual { samples.label(place) } else { 0.0 };
        for ((tallies, count), groups) in self.of_feature.iter_mut().zip(&self.group_counts).zip(&samples.groups) {
            let tally = &mut tallies[stratum * count + usize::from(groups[place])];
            tally.weight.add(weight);
            tally.before.add(weight * (samples.scores[place] - target));
            tally.after.add(weight * (fair[place] - target));
        }
    }

    fn stratum(&self, samples: &Samples, place: usize) -> usize {
        match &samples.control {
            Some(control) => control[place].into(),
            None if self.strata > 1 => (samples.label(place) > 0.5).into(),
            None => 0,
        }
    }

    fn gap(&self, limit: Limit, stratum: usize, feature: usize) -> Option<Change> {
        let count = self.group_counts[feature];
        let tallies = &self.of_feature[feature][stratum * count..(stratum + 1) * count];
        let means: Vec<Change> = tallies.iter().filter_map(Tally::means).collect();
        if means.len() < if limit.concerns_single_groups() { 1 } else { 2 } {
            return None;
        }
        let all = tallies.iter().fold(Tally::default(), Tally::merge).means()?;
        let gap = |of: fn(&Change) -> f64| gap(limit, means.iter().map(of), of(&all));
        Some(Change { before: gap(|means| means.before), after: gap(|means| means.after) })
    }
}

fn gap(limit: Limit, means: impl Iterator<Item = f64> + Clone, all: f64) -> f64 {
    let farthest = |from: f64| means.clone().map(|mean| (mean - from).abs()).fold(0.0, f64::max);
    let (low, high) = (means.clone().fold(f64::INFINITY, f64::min), means.clone().fold(f64::NEG_INFINITY, f64::max));
    match limit {
        Limit::Pairwise { .. } => high - low,
        Limit::Overall { .. } => farthest(all),
        Limit::Residual { .. } | Limit::Covariance { .. } => farthest(0.0),
        Limit::Ratio { .. } if low == high => 1.0,
        Limit::Ratio { .. } => low / high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_the_limits_are_about() {
        let means = || [0.2, 0.5, 0.4].into_iter();
        assert_eq!(gap(Limit::Pairwise { epsilon: 0.0 }, means(), 0.3), 0.3);
        assert_eq!(gap(Limit::Overall { epsilon: 0.0 }, means(), 0.3), 0.2);
        assert_eq!(gap(Limit::Residual { epsilon: 0.0 }, means(), 0.3), 0.5);
        assert_eq!(gap(Limit::Ratio { ratio: 0.8 }, means(), 0.3), 0.4);
        assert_eq!(gap(Limit::Ratio { ratio: 0.8 }, [0.0, 0.0].into_iter(), 0.0), 1.0);
    }
}
