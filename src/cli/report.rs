//! The report of a projection as JSON: the same data as the table, and an entry for every problem.

use std::io::Write;
use std::time::Duration;

use serde::ser::{Serialize, Serializer};

use super::args::{ProjectArgs, name_of};
use super::failure::{Failure, Result};
use super::measure::{Change, Distance, Gaps, RowValues};
use super::plan::{Limit, Plan};
use super::problems::Problems;
use super::solve::{Engine, Solved};
use crate::{Bins, Status};

/// All that is known after a projection.
pub struct Run<'a> {
    pub args: &'a ProjectArgs,
    pub engine: &'a Engine,
    pub plan: &'a Plan,
    pub problems: &'a Problems,
    pub solved: &'a Solved,
    pub gaps: &'a Gaps,
    /// The dense rows.
    pub rows: &'a RowValues,
    pub distance: Distance,
    /// The name of the new column.
    pub fair_column: &'a str,
    pub row_names: &'a [&'a str],
    /// Whether the output is written.
    pub writes: bool,
    /// The time since the command began.
    pub time: Duration,
}

impl Run<'_> {
    /// The rows that were left out of some problem, by index, each with the number of these problems.
    pub fn inactive_rows(&self) -> Vec<(usize, usize)> {
        let mut counts = vec![0; self.row_names.len()];
        for problem in 0..self.problems.count() {
            self.inactive_in(problem).for_each(|row| counts[row] += 1);
        }
        counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect()
    }

    /// The rows with nothing to compare in a problem: groups are absent, or a sensitive feature has one value.
    pub fn inactive_in(&self, problem: usize) -> impl Iterator<Item = usize> + '_ {
        let constant = (0..self.plan.covariance_rows()).filter(move |&row| self.rows.get(problem, row).is_none());
        self.solved.inactive_rows(problem).chain(constant.map(|row| self.plan.first_dense() + row))
    }

    /// The worst gap of a problem; of covariance the largest.
    pub fn gap_in(&self, problem: usize) -> Option<Change> {
        let size = |value: Change| Change { before: value.before.abs(), after: value.after.abs() };
        let larger = |left: Change, right: Change| Change {
            before: left.before.max(right.before),
            after: left.after.max(right.after),
        };
        let covariances = (0..self.plan.covariance_rows()).filter_map(|row| self.rows.get(problem, row));
        covariances.map(size).reduce(larger).or_else(|| self.gaps.worst_of_problem(problem))
    }

    /// By how much the worst gap or dense row of a solved problem exceeds its limit, in units of the score, if one does:
    /// that is rounding.
    pub fn rounding(&self) -> Option<f64> {
        let solved = || (0..self.problems.count()).filter(|&i| self.solved.outcomes[i].status == Status::Solved);
        let gaps = solved().filter_map(|problem| {
            let gap = self.gaps.worst_of_problem(problem)?;
            Some(self.plan.limit?.excess(gap.after))
        });
        let of_rows = |problem| (0..self.rows.rows()).filter_map(move |row| self.rows.scaled_excess(problem, row));
        let excess = gaps.chain(solved().flat_map(of_rows)).fold(0.0, f64::max);
        (excess > 0.0).then_some(excess)
    }

    /// Every comparison (of a sensitive feature's groups within a stratum) with its worst gap over the problems.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison<'_>> {
        let strata = self.plan.strata.iter().map(|stratum| stratum.name.as_deref());
        let pairs = strata.flat_map(|stratum| self.plan.features.iter().map(move |feature| (stratum, feature)));
        pairs.enumerate().map(|(index, (stratum, feature))| Comparison {
            feature: &feature.name,
            stratum,
            groups: &feature.groups,
            worst: self.gaps.worst_of_comparison(index),
        })
    }
}

/// How far apart the groups of a sensitive feature are within a stratum.
pub struct Comparison<'a> {
    pub feature: &'a str,
    pub stratum: Option<&'a str>,
    pub groups: &'a [String],
    /// `None` where no problem has two groups to compare.
    pub worst: Option<Change>,
}

/// Writes the report.
pub fn write(run: &Run<'_>, out: &mut dyn Write) -> Result<()> {
    to_json(&Report::of(run), out)
}

/// Writes anything as JSON for people and programs to read.
pub fn to_json(value: &impl Serialize, out: &mut dyn Write) -> Result<()> {
    let written = serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from);
    let ended = written.and_then(|()| out.write_all(b"\n"));
    ended.map_err(|error| Failure::new(format!("the report cannot be written: {error}")))
}

// JSON has no NaN and no infinity: serde_json writes null for them (a bound that is not there, say).
#[derive(serde::Serialize)]
struct Report<'a> {
    fairlayer: &'static str,
    input: String,
    output: Option<String>,
    fair_column: &'a str,
    score: &'a str,
    sensitive: &'a [String],
    intersectional: bool,
    label: Option<&'a str>,
    control: Option<&'a str>,
    weight: Option<&'a str>,
    criterion: Option<String>,
    moments: Option<usize>,
    standardised: bool,
    edges: Option<&'a [f64]>,
    rows_file: Option<String>,
    row_bounds_file: Option<String>,
    compare: Option<&'static str>,
    epsilon: Option<f64>,
    ratio: Option<f64>,
    lower_bound: f64,
    upper_bound: f64,
    device: &'a str,
    passed_over: &'a [String],
    dtype: String,
    method: String,
    rows: usize,
    solve_seconds: f64,
    total_seconds: f64,
    distance_rms: f64,
    distance_max: f64,
    statuses: Statuses,
    gaps: Vec<GapEntry<'a>>,
    dense_rows: Vec<RowEntry<'a>>,
    inactive_rows: Vec<InactiveEntry<'a>>,
    problems: ProblemEntries<'a>,
}

#[derive(serde::Serialize)]
struct Statuses {
    solved: usize,
    iteration_limit: usize,
    infeasible: usize,
    bad_number: usize,
}

#[derive(serde::Serialize)]
struct GapEntry<'a> {
    feature: &'a str,
    stratum: Option<&'a str>,
    groups: &'a [String],
    before: Option<f64>,
    after: Option<f64>,
    limit: f64,
}

#[derive(serde::Serialize)]
struct RowEntry<'a> {
    row: &'a str,
    before: Option<f64>,
    after: Option<f64>,
    lower: f64,
    upper: f64,
}

#[derive(serde::Serialize)]
struct InactiveEntry<'a> {
    row: &'a str,
    problems: usize,
}

#[derive(serde::Serialize)]
struct ProblemEntry<'a> {
    batch: Option<std::borrow::Cow<'a, str>>,
    n: usize,
    status: &'static str,
    iterations: u32,
    passes: u32,
    residual: f64,
    excess: f64,
    gap_before: Option<f64>,
    gap_after: Option<f64>,
    dense_rows: Vec<RowEntry<'a>>,
    inactive_rows: Vec<&'a str>,
    multipliers: Vec<MultiplierEntry<'a>>,
}

#[derive(serde::Serialize)]
struct MultiplierEntry<'a> {
    row: &'a str,
    value: f64,
}

/// The entries of the problems, made one by one while they are written: there may be a million.
struct ProblemEntries<'a>(&'a Run<'a>);

impl Serialize for ProblemEntries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0.problems.count()).map(|problem| ProblemEntry::of(self.0, problem)))
    }
}

impl<'a> Report<'a> {
    fn of(run: &'a Run<'a>) -> Self {
        let Run { args, plan, solved, .. } = run;
        let compare = match plan.limit {
            Some(Limit::Pairwise { .. }) => Some("pairwise"),
            Some(Limit::Overall { .. }) => Some("overall"),
            _ => None,
        };
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let gap = |comparison: Comparison<'a>| GapEntry {
            feature: comparison.feature,
            stratum: comparison.stratum,
            groups: comparison.groups,
            before: comparison.worst.map(|gap| gap.before),
            after: comparison.worst.map(|gap| gap.after),
            limit: plan.limit.map_or(f64::NAN, |limit| limit.level()),
        };
        Self {
            fairlayer: env!("CARGO_PKG_VERSION"),
            input: args.input.display().to_string(),
            output: run.writes.then(|| args.output.display().to_string()),
            fair_column: run.fair_column,
            score: &args.score,
            sensitive: &args.sensitive,
            intersectional: args.fairness.intersectional,
            label: args.fairness.label.as_deref(),
            control: args.fairness.control.as_deref(),
            weight: args.weight.as_deref(),
            criterion: args.criterion.map(name_of),
            moments: plan.covariance.as_ref().map(|covariance| covariance.moments),
            standardised: args.standardise,
            edges: args.fairness.edges.as_ref().map(Bins::edges),
            rows_file: path(&args.rows),
            row_bounds_file: path(&args.row_bounds),
            compare,
            epsilon: args.fairness.limit.epsilon,
            ratio: args.fairness.limit.ratio,
            lower_bound: args.bounds().lo,
            upper_bound: args.bounds().hi,
            device: run.engine.device_name(),
            passed_over: &run.engine.passed_over,
            dtype: name_of(args.dtype),
            method: name_of(args.method),
            rows: run.problems.rows(),
            solve_seconds: solved.time.as_secs_f64(),
            total_seconds: run.time.as_secs_f64(),
            distance_rms: run.distance.rms,
            distance_max: run.distance.largest,
            statuses: Statuses {
                solved: solved.count(Status::Solved),
                iteration_limit: solved.count(Status::IterationLimit),
                infeasible: solved.count(Status::Infeasible),
                bad_number: solved.count(Status::BadNumber),
            },
            gaps: run.comparisons().map(gap).collect(),
            dense_rows: row_entries(run, |row| run.rows.worst(row)),
            inactive_rows: run
                .inactive_rows()
                .into_iter()
                .map(|(row, problems)| InactiveEntry { row: run.row_names[row], problems })
                .collect(),
            problems: ProblemEntries(run),
        }
    }
}

impl<'a> ProblemEntry<'a> {
    fn of(run: &'a Run<'a>, problem: usize) -> Self {
        let outcome = &run.solved.outcomes[problem];
        let gap = run.gap_in(problem);
        let values = run.solved.multipliers(problem).iter();
        Self {
            batch: run.problems.name(problem),
            n: run.problems.range(problem).len(),
            status: key(outcome.status),
            iterations: outcome.iterations,
            passes: outcome.passes,
            residual: outcome.residual,
            excess: outcome.excess,
            gap_before: gap.map(|gap| gap.before),
            gap_after: gap.map(|gap| gap.after),
            dense_rows: row_entries(run, |row| run.rows.get(problem, row)),
            inactive_rows: run.inactive_in(problem).map(|row| run.row_names[row]).collect(),
            multipliers: run
                .row_names
                .iter()
                .zip(values)
                .map(|(&row, &value)| MultiplierEntry { row, value })
                .collect(),
        }
    }
}

fn row_entries<'a>(run: &'a Run<'a>, value: impl Fn(usize) -> Option<Change>) -> Vec<RowEntry<'a>> {
    let entry = |row| {
        let (value, (lower, upper)) = (value(row), run.rows.bounds(row));
        let name = run.row_names[run.plan.first_dense() + row];
        RowEntry { row: name, before: value.map(|v| v.before), after: value.map(|v| v.after), lower, upper }
    };
    (0..run.rows.rows()).map(entry).collect()
}

fn key(status: Status) -> &'static str {
    match status {
        Status::Solved => "solved",
        Status::IterationLimit => "iteration_limit",
        Status::Infeasible => "infeasible",
        Status::BadNumber => "bad_number",
        Status::Relaxed => "relaxed",
    }
}
