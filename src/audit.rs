//! How fair a set of scores is: the metrics of `fairlayer audit`, with the names and values of fairlearn 0.15.
//!
//! A *score* becomes a *decision* by `score >= threshold`; fairlearn leaves that step to its user and starts from
//! decisions of 0 and 1, so hand it the same comparison to get the same numbers. A *label* is positive when it is
//! greater than 0.5. With `w_i` the sample weights (1 without weights), `d_i` the decisions, `t_i` the labels as 0 or 1
//! and every sum over the samples of one group:
//!
//! | metric | formula | fairlearn's name |
//! |---|---|---|
//! | selection rate | sum w d / sum w | `selection_rate` |
//! | true positive rate | sum w d t / sum w t | `true_positive_rate` |
//! | false positive rate | sum w d (1 - t) / sum w (1 - t) | `false_positive_rate` |
//! | accuracy | sum w \[d = t\] / sum w | `accuracy_score` (of scikit-learn) |
//! | mean score | sum w score / sum w | `mean_prediction` |
//!
//! The *difference* of a metric is its largest group value minus its smallest, its *ratio* the smallest divided by the
//! largest: the `between_groups` method of `MetricFrame`.
//!
//! # Where a rate has no denominator
//! A group without positives has no true positive rate. fairlearn calls it 0.0, and that 0.0 takes part in the
//! differences and ratios. Here the group's own rate is `None`, since a 0.0 would read as "every good applicant
//! refused"; the differences and ratios still count it as 0.0, so that they **equal fairlearn's**. The same holds for
//! the false positive rate of a group without negatives. So a large equalized odds difference beside a `None` may
//! come from the absence of a label and not from the decisions.
//!
//! Further edges, as in fairlearn unless said otherwise:
//! * Nobody selected in any group: the ratio is 0/0. fairlearn gives NaN, here it is `None`.
//! * The equalized odds ratio is the smaller of two ratios. When the one of the true positive rates is 0/0, fairlearn
//!   gives NaN (here `None`); when only the one of the false positive rates is, it gives the other. That asymmetry is
//!   an accident of how Python compares NaN, kept so that the numbers agree.
//! * One group only: differences are 0, ratios 1 (or `None` for 0/0).
//! * A group without members does not exist for fairlearn; here its metrics are `None` and it enters no comparison.
//! * A group whose weights are all zero is treated the same way. fairlearn does that for the demographic parity metrics
//!   and raises an error for the equalized odds ones.
//! * Negative and non-finite weights, which fairlearn lets through in part, are errors here.
//!
//! ```
//! use fairlayer::audit::audit;
//!
//! let scores = [0.9, 0.6, 0.4, 0.2, 0.8, 0.3, 0.1, 0.2];
//! let labels = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0];
//! let groups = [0, 0, 0, 0, 1, 1, 1, 1];
//! let report = audit(&scores, &labels, &groups, 2, 0.5, None)?;
//! assert_eq!(report.groups[0].selection_rate, Some(0.5));
//! assert_eq!(report.demographic_parity_difference, 0.25);
//! assert_eq!(report.demographic_parity_ratio, Some(0.5));
//! assert_eq!(report.equalized_odds_difference, 0.5);
//! # Ok::<(), fairlayer::Error>(())
//! ```

use crate::sum::Sum;
use crate::{Error, Result};

/// The metrics of one group, or of all samples together. Formulas are in the [module docs](self).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupMetrics {
    /// Samples, those of weight zero included.
    pub count: usize,
    /// Sum of the sample weights; `count` when there are no weights.
    pub weight: f64,
    /// Weighted share of the samples whose decision equals their label, in `[0, 1]`. `None` when `weight` is 0.
    pub accuracy: Option<f64>,
    /// Weighted share of the samples that are selected, in `[0, 1]`. `None` when `weight` is 0.
    pub selection_rate: Option<f64>,
    /// Weighted share of the positives that are selected, in `[0, 1]`. `None` when there is no positive of non-zero
    /// weight, where fairlearn has 0.0.
    pub true_positive_rate: Option<f64>,
    /// Weighted share of the negatives that are selected, in `[0, 1]`. `None` when there is no negative of non-zero
    /// weight, where fairlearn has 0.0.
    pub false_positive_rate: Option<f64>,
    /// Weighted mean of the scores themselves, in their unit. `None` when `weight` is 0.
    pub mean_score: Option<f64>,
}

/// The audit of one sensitive feature: its groups and how far apart they are. See the [module docs](self) for the
/// formulas and for the edge cases.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FeatureAudit {
    /// All samples together.
    pub overall: GroupMetrics,
    /// The groups, `[k]`; the index is the group id.
    pub groups: Vec<GroupMetrics>,
    /// Largest minus smallest selection rate, in `[0, 1]`.
    pub demographic_parity_difference: f64,
    /// Smallest divided by largest selection rate, in `[0, 1]`; `None` when nobody is selected.
    pub demographic_parity_ratio: Option<f64>,
    /// The larger of [`equal_opportunity_difference`](Self::equal_opportunity_difference) and
    /// [`false_positive_rate_difference`](Self::false_positive_rate_difference), in `[0, 1]`: fairlearn's
    /// `equalized_odds_difference` with `agg = "worst_case"`.
    pub equalized_odds_difference: f64,
    /// The smaller of [`equal_opportunity_ratio`](Self::equal_opportunity_ratio) and
    /// [`false_positive_rate_ratio`](Self::false_positive_rate_ratio), in `[0, 1]`: fairlearn's `equalized_odds_ratio`
    /// with `agg = "worst_case"`. `None` when the former is `None`; the former when only the latter is `None`.
    pub equalized_odds_ratio: Option<f64>,
    /// Largest minus smallest true positive rate, in `[0, 1]`.
    pub equal_opportunity_difference: f64,
    /// Smallest divided by largest true positive rate, in `[0, 1]`; `None` when no positive is selected.
    pub equal_opportunity_ratio: Option<f64>,
    /// Largest minus smallest false positive rate, in `[0, 1]`.
    pub false_positive_rate_difference: f64,
    /// Smallest divided by largest false positive rate, in `[0, 1]`; `None` when no negative is selected.
    pub false_positive_rate_ratio: Option<f64>,
    /// Largest minus smallest mean score, in the unit of the scores: the gap that demographic parity bounds in a
    /// projection. At least 0.
    pub mean_score_difference: f64,
    /// Smallest divided by largest mean score; `None` when the largest is 0. It is a share in `[0, 1]` only when no
    /// group mean is negative.
    pub mean_score_ratio: Option<f64>,
}

/// Audits the decisions `score >= threshold` for one sensitive feature.
///
/// * `scores`: `[n]`, finite, any range.
/// * `labels`: `[n]`, finite; positive when greater than 0.5.
/// * `groups`: `[n]`, ids in `0..k`. Ids without a member are allowed.
/// * `threshold`: any number but NaN; infinities select everybody (negative) or nobody (positive).
/// * `weights`: `[n]`, finite, at least 0 and not all 0; `None` weighs every sample 1.
///
/// One pass over the samples, sums compensated; the result does not depend on anything but the arguments.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ. [`Error::Value`] when there is no sample, a number is not finite, a
/// group id is not below `k`, a weight is negative, all weights are zero, or sums overflow. To keep memory bounded,
/// `k` beyond both 65,536 and n is refused too.
pub fn audit(
    scores: &[f64],
    labels: &[f64],
    groups: &[u32],
    k: usize,
    threshold: f64,
    weights: Option<&[f64]>,
) -> Result<FeatureAudit> {
    let n = scores.len();
    same_length("labels", labels.len(), n)?;
    same_length("groups", groups.len(), n)?;
    if n == 0 {
        return Err(Error::value("scores", "there are no samples; an audit needs at least one"));
    }
    if threshold.is_nan() {
        return Err(Error::value("threshold", "it is NaN; give a number such as 0.5"));
    }
    all_finite("scores", scores)?;
    all_finite("labels", labels)?;
    if let Some(weights) = weights {
        same_length("weights", weights.len(), n)?;
        check_weights(weights)?;
    }
    // A k far beyond the samples is a mistake, and the table of groups would exhaust the memory.
    if k > n.max(MAX_SPARE_GROUPS) {
        return Err(Error::value("k", format!("{k} groups for {n} samples; number the groups from 0 without gaps")));
    }

    let mut tallies = vec![Tally::default(); k];
    let mut total = Tally::default();
    for i in 0..n {
        let Some(tally) = tallies.get_mut(groups[i] as usize) else {
            let problem = format!("element {i} is {}, but ids must be below k = {k}", groups[i]);
            return Err(Error::value("groups", problem));
        };
        let weight = weights.map_or(1.0, |w| w[i]);
        tally.add(scores[i], labels[i] > 0.5, scores[i] >= threshold, weight);
        total.add(scores[i], labels[i] > 0.5, scores[i] >= threshold, weight);
    }
    let total_weight = total.weight.value();
    if !total_weight.is_finite() {
        return Err(Error::value("weights", "their sum overflows; divide them all by a constant"));
    }
    if total_weight == 0.0 {
        return Err(Error::value("weights", "all are zero; give at least one sample a positive weight"));
    }
    if !tallies.iter().chain([&total]).all(|tally| tally.score.value().is_finite()) {
        return Err(Error::value("scores", "their weighted sum overflows; scale them (or the weights) down"));
    }
    Ok(compare(&total, &tallies))
}

/// Share of `decisions`, `[n]`, that equal 1: fairlearn's `selection_rate` with its default `pos_label`.
///
/// Anything but 1 is "not selected", so compare scores with a threshold first. NaN when there are none (fairlearn raises
/// an error). For weights and groups use [`audit`].
///
/// ```
/// use fairlayer::audit::selection_rate;
/// assert_eq!(selection_rate(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 0.625);
/// ```
#[must_use]
pub fn selection_rate(decisions: &[f64]) -> f64 {
    let selected = decisions.iter().filter(|&&d| d == 1.0).count();
    selected as f64 / decisions.len() as f64
}

/// Mean of `scores`, `[n]`: fairlearn's `mean_prediction`. NaN when there are none. For weights and groups use
/// [`audit`].
///
/// ```
/// assert_eq!(fairlayer::audit::mean_prediction(&[0.25, 0.75, 0.5]), 0.5);
/// ```
#[must_use]
pub fn mean_prediction(scores: &[f64]) -> f64 {
    let mut sum = Sum::default();
    scores.iter().for_each(|&score| sum.add(score));
    sum.value() / scores.len() as f64
}

/// Share of the positive `labels` (greater than 0.5) whose decision is 1: fairlearn's `true_positive_rate`.
///
/// `labels` and `decisions` are `[n]`; decisions are 0 or 1. Without positives it is 0.0, as fairlearn has it; [`audit`]
/// tells the two apart.
///
/// ```
/// let rate = fairlayer::audit::true_positive_rate(&[1.0, 1.0, 0.0], &[1.0, 0.0, 1.0])?;
/// assert_eq!(rate, 0.5);
/// # Ok::<(), fairlayer::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] when the lengths differ; [`Error::Value`] when there is no sample, a label is not finite, or a
/// decision is neither 0 nor 1.
pub fn true_positive_rate(labels: &[f64], decisions: &[f64]) -> Result<f64> {
    Ok(audit_decisions(labels, decisions)?.true_positive_rate.unwrap_or(0.0))
}

/// Share of the negative `labels` (at most 0.5) whose decision is 1: fairlearn's `false_positive_rate`.
///
/// `labels` and `decisions` are `[n]`; decisions are 0 or 1. Without negatives it is 0.0, as fairlearn has it; [`audit`]
/// tells the two apart.
///
/// ```
/// let rate = fairlayer::audit::false_positive_rate(&[0.0, 0.0, 1.0], &[1.0, 0.0, 1.0])?;
/// assert_eq!(rate, 0.5);
/// # Ok::<(), fairlayer::Error>(())
/// ```
///
/// # Errors
/// As [`true_positive_rate`].
pub fn false_positive_rate(labels: &[f64], decisions: &[f64]) -> Result<f64> {
    Ok(audit_decisions(labels, decisions)?.false_positive_rate.unwrap_or(0.0))
}

/// Share of the samples whose decision, 0 or 1, says what the label (positive when greater than 0.5) says:
/// scikit-learn's `accuracy_score`. `labels` and `decisions` are `[n]`.
///
/// ```
/// let share = fairlayer::audit::accuracy(&[1.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 0.0, 0.0])?;
/// assert_eq!(share, 0.75);
/// # Ok::<(), fairlayer::Error>(())
/// ```
///
/// # Errors
/// As [`true_positive_rate`].
pub fn accuracy(labels: &[f64], decisions: &[f64]) -> Result<f64> {
    // `audit` refuses an empty input, so there is a denominator.
    Ok(audit_decisions(labels, decisions)?.accuracy.unwrap_or(0.0))
}

/// Group ids that may lack members, however few the samples are.
const MAX_SPARE_GROUPS: usize = 1 << 16;

/// The metrics of 0/1 decisions, all samples in one group.
fn audit_decisions(labels: &[f64], decisions: &[f64]) -> Result<GroupMetrics> {
    if let Some(i) = decisions.iter().position(|&d| d != 0.0 && d != 1.0) {
        let problem =
            format!("element {i} is {}, but a decision is 0 or 1; compare scores with a threshold", decisions[i]);
        return Err(Error::value("decisions", problem));
    }
    let n = decisions.len();
    same_length("labels", labels.len(), n)?;
    Ok(audit(decisions, labels, &vec![0; n], 1, 0.5, None)?.overall)
}

fn same_length(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::Shape { what, expected, got }) }
}

fn all_finite(what: &'static str, values: &[f64]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::value(what, format!("element {i} is {}; every one must be a finite number", values[i]))),
        None => Ok(()),
    }
}

fn check_weights(weights: &[f64]) -> Result<()> {
    all_finite("weights", weights)?;
    match weights.iter().position(|&w| w < 0.0) {
        Some(i) => Err(Error::value("weights", format!("element {i} is {}; weights must be at least 0", weights[i]))),
        None => Ok(()),
    }
}

/// The weighted sums of one group from which every metric follows.
///
/// Negatives have a sum of their own: `weight - positives` could round to something other than zero for a group
/// without negatives, and turn an undefined rate into a made-up one.
#[derive(Debug, Clone, Default)]
struct Tally {
    count: usize,
    weight: Sum,
    correct: Sum,
    selected: Sum,
    positives: Sum,
    negatives: Sum,
    true_positives: Sum,
    false_positives: Sum,
    score: Sum,
}

impl Tally {
    fn add(&mut self, score: f64, positive: bool, selected: bool, weight: f64) {
        self.count += 1;
        self.weight.add(weight);
        self.score.add(weight * score);
        let (label, selected_of_label) = if positive {
            (&mut self.positives, &mut self.true_positives)
        } else {
            (&mut self.negatives, &mut self.false_positives)
        };
        label.add(weight);
        if selected {
            selected_of_label.add(weight);
            self.selected.add(weight);
        }
        if selected == positive {
            self.correct.add(weight);
        }
    }

    fn metrics(&self) -> GroupMetrics {
        GroupMetrics {
            count: self.count,
            weight: self.weight.value(),
            accuracy: share(self.correct, self.weight),
            selection_rate: share(self.selected, self.weight),
            true_positive_rate: share(self.true_positives, self.positives),
            false_positive_rate: share(self.false_positives, self.negatives),
            mean_score: over(self.score, self.weight),
        }
    }
}

fn over(part: Sum, whole: Sum) -> Option<f64> {
    let whole = whole.value();
    (whole != 0.0).then(|| part.value() / whole)
}

/// A part of a whole of non-negative terms; rounding must not lift it over 1.
fn share(part: Sum, whole: Sum) -> Option<f64> {
    over(part, whole).map(|share| share.min(1.0))
}

/// The smallest and the largest value of one metric among the groups.
#[derive(Debug, Clone, Copy)]
struct Range {
    min: f64,
    max: f64,
}

impl Range {
    fn of(metrics: impl Iterator<Item = f64>) -> Self {
        metrics.fold(Self { min: f64::INFINITY, max: f64::NEG_INFINITY }, |range, x| Self {
            min: range.min.min(x),
            max: range.max.max(x),
        })
    }

    fn difference(self) -> f64 {
        self.max - self.min
    }

    fn ratio(self) -> Option<f64> {
        (self.max != 0.0).then(|| self.min / self.max)
    }
}

/// Turns the sums into metrics and compares the groups that have weight, of which there is at least one.
fn compare(total: &Tally, tallies: &[Tally]) -> FeatureAudit {
    let groups: Vec<GroupMetrics> = tallies.iter().map(Tally::metrics).collect();
    // The 0.0 is fairlearn's value of a rate without denominator.
    let range = |metric: fn(&GroupMetrics) -> Option<f64>| {
        Range::of(groups.iter().filter(|g| g.weight > 0.0).map(|g| metric(g).unwrap_or(0.0)))
    };
    let selection = range(|g| g.selection_rate);
    let true_positive = range(|g| g.true_positive_rate);
    let false_positive = range(|g| g.false_positive_rate);
    let mean = range(|g| g.mean_score);

    // Python's min(tpr, fpr) starts at tpr and replaces it when fpr < tpr: a NaN first stays, a NaN second loses.
    let equalized_odds_ratio = true_positive.ratio().map(|tpr| false_positive.ratio().map_or(tpr, |fpr| tpr.min(fpr)));
    FeatureAudit {
        overall: total.metrics(),
        demographic_parity_difference: selection.difference(),
        demographic_parity_ratio: selection.ratio(),
        equalized_odds_difference: true_positive.difference().max(false_positive.difference()),
        equalized_odds_ratio,
        equal_opportunity_difference: true_positive.difference(),
        equal_opportunity_ratio: true_positive.ratio(),
        false_positive_rate_difference: false_positive.difference(),
        false_positive_rate_ratio: false_positive.ratio(),
        mean_score_difference: mean.difference(),
        mean_score_ratio: mean.ratio(),
        groups,
    }
}
