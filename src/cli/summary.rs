//! What a projection tells the person who ran it: a table of gaps, then a few lines.

use std::fmt::{self, Display, Formatter};

use super::args::{Criterion, name_of};
use super::failure::quoted;
use super::figures::{count, figure, given, table, time};
use super::plan::Limit;
use super::report::{Comparison, Run};
use super::solve::Solved;
use crate::Status;

/// The summary of a run.
pub struct Summary<'a>(pub &'a Run<'a>);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(run) = self;
        let rows = count(run.problems.rows(), "row");
        let problems = count(run.problems.count(), "problem");
        writeln!(f, "{} of column {}: {rows}, {problems}", run.args.aim(), run.args.score)?;
        if let Some(limit) = run.plan.limit.filter(|_| !run.plan.features.is_empty()) {
            writeln!(f, "{}", self.gaps(limit))?;
        }
        let of_covariance = run.plan.covariance_rows();
        for (title, rows) in [("covariance with", 0..of_covariance), ("row", of_covariance..run.rows.rows())] {
            if !rows.is_empty() {
                writeln!(f, "{}", self.rows(title, rows))?;
            }
        }
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<9} {text}");
        if let Some(excess) = run.rounding() {
            let dtype = name_of(run.args.dtype);
            line(
                "rounding",
                &format!("the limit is exceeded by {excess:.1e}, measured: {dtype} rounds what is written"),
            )?;
        }
        line("moved", &format!("{} rms, {} at most", figure(run.distance.rms), figure(run.distance.largest)))?;
        line("problems", &statuses(run.solved))?;
        if let Some(text) = self.absent() {
            line("groups", &text)?;
        }
        if let Some(text) = self.constant() {
            line("constant", &text)?;
        }
        let (dtype, method) = (name_of(run.args.dtype), name_of(run.args.method));
        line("device", &format!("{}, {dtype}, {method}", run.engine.device_name()))?;
        for reason in &run.engine.passed_over {
            line("", &format!("not {reason}"))?;
        }
        line("time", &format!("{} to solve, {} in all", time(run.solved.time), time(run.time)))?;
        write!(f, "{:<9} {}, column {}", "output", run.args.output.display(), run.fair_column)
    }
}

impl Summary<'_> {
    /// What the figures of a table are of.
    fn of_worst(&self) -> String {
        match self.0.problems.count() {
            1 => String::new(),
            many => format!(",\nworst of {many} problems"),
        }
    }

    /// The dense rows.
    fn rows(&self, title: &str, rows: std::ops::Range<usize>) -> comfy_table::Table {
        let Self(run) = self;
        let of_worst = self.of_worst();
        let (before, after) = (format!("before{of_worst}"), format!("after{of_worst}"));
        let lines = rows.map(|row| {
            let (before, after) = match run.rows.worst(row) {
                Some(value) => (figure(value.before), figure(value.after)),
                None if title == "row" => ("0".to_owned(), "0".to_owned()),
                None => ("one value".to_owned(), "one value".to_owned()),
            };
            vec![run.row_names[run.plan.first_dense() + row].to_owned(), before, after, within(run.rows.bounds(row))]
        });
        table(&[title, &before, &after, "limit"], 1, lines)
    }

    fn gaps(&self, limit: Limit) -> comfy_table::Table {
        let Self(run) = self;
        let measure = match limit {
            Limit::Ratio { .. } => "ratio",
            Limit::Residual { .. } => "residual",
            Limit::Pairwise { .. } | Limit::Overall { .. } | Limit::Covariance { .. } => "gap",
        };
        let of_worst = self.of_worst();
        let (before, after) = (format!("{measure} before{of_worst}"), format!("{measure} after{of_worst}"));
        let (of, parts) = match run.args.criterion {
            Some(Criterion::Calibration) => ("bins of", "bins"),
            _ => ("sensitive feature", "groups"),
        };
        let header = [of, "within", parts, &before, &after, "limit"];
        // Without strata there is nothing to say in the second column.
        let stratified = run.plan.strata.iter().any(|stratum| stratum.name.is_some());
        let shown = |column: &usize| stratified || *column != 1;
        let shown_header: Vec<&str> = (0..header.len()).filter(shown).map(|column| header[column]).collect();
        let rows = run.comparisons().map(|comparison| {
            let cells = self.row(&comparison, limit).into_iter().enumerate();
            cells.filter(|(column, _)| shown(column)).map(|(_, cell)| cell).collect()
        });
        table(&shown_header, if stratified { 2 } else { 1 }, rows)
    }

    fn row(&self, comparison: &Comparison<'_>, limit: Limit) -> [String; 6] {
        let limit = match limit {
            Limit::Ratio { ratio } => format!(">= {}", given(ratio)),
            other => format!("<= {}", given(other.level())),
        };
        let (before, after) = match comparison.worst {
            Some(gap) => (figure(gap.before), figure(gap.after)),
            None if comparison.groups.len() == 1 => ("one group".to_owned(), "one group".to_owned()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let stratum = comparison.stratum.unwrap_or_default().to_owned();
        [comparison.feature.to_owned(), stratum, comparison.groups.len().to_string(), before, after, limit]
    }

    /// Which groups could not be compared where. A feature of one group has a note of its own.
    fn absent(&self) -> Option<String> {
        let Self(run) = self;
        let idle: Vec<bool> = run.plan.features_of_rows().map(|feature| run.plan.is_idle(feature)).collect();
        let names = self.inactive(|row| idle.get(row) == Some(&false))?;
        Some(format!("absent from a problem, or alone in it: {names}"))
    }

    /// Which sensitive features had one value where. What has one value in all problems is in the table.
    fn constant(&self) -> Option<String> {
        let Self(run) = self;
        let dense = |row: usize| row.checked_sub(run.plan.first_dense());
        let names = self.inactive(|row| dense(row).is_some_and(|row| run.rows.worst(row).is_some()))?;
        Some(format!("in a problem, so that there is nothing to compare in it: {names}"))
    }

    /// The names of these of the inactive rows, if there are any.
    fn inactive(&self, these: impl Fn(usize) -> bool) -> Option<String> {
        const MOST: usize = 8;
        let Self(run) = self;
        let inactive: Vec<(usize, usize)> = run.inactive_rows().into_iter().filter(|(row, _)| these(*row)).collect();
        let named =
            |(row, problems): &(usize, usize)| format!("{} ({})", run.row_names[*row], count(*problems, "problem"));
        let names: Vec<String> = inactive.iter().take(MOST).map(named).collect();
        let more = if inactive.len() > MOST { "; ..." } else { "" };
        (!inactive.is_empty()).then(|| names.join("; ") + more)
    }
}

/// The bounds of a row.
fn within((lower, upper): (f64, f64)) -> String {
    if lower == upper {
        format!("= {}", given(lower))
    } else if lower == f64::NEG_INFINITY {
        format!("<= {}", given(upper))
    } else if upper == f64::INFINITY {
        format!(">= {}", given(lower))
    } else {
        format!("{} to {}", given(lower), given(upper))
    }
}

fn statuses(solved: &Solved) -> String {
    let all = [Status::Solved, Status::IterationLimit, Status::Infeasible, Status::BadNumber];
    let counted = all.into_iter().map(|status| (status, solved.count(status)));
    let told: Vec<String> = counted.filter(|(_, n)| *n > 0).map(|(status, n)| format!("{n} {status}")).collect();
    told.join(", ")
}

/// The problems without a solution, for stderr: a line that says what became of the output, then one a problem.
pub struct Unsolved<'a>(pub &'a Run<'a>);

impl Display for Unsolved<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const MOST: usize = 1000;
        let Self(run) = self;
        let unsolved = run.solved.unsolved().count();
        let (which, whose) = match run.problems.count() {
            1 => ("the problem is".to_owned(), "its"),
            all if unsolved == 1 => (format!("1 of {all} problems is"), "its"),
            all => (format!("{unsolved} of {all} problems are"), "their"),
        };
        if run.writes {
            write!(f, "warning: {which} not solved; {whose} scores were clipped to the bounds")?;
        } else {
            write!(
                f,
                "error: {which} not solved and nothing was written (--keep-going writes {whose} scores clipped)"
            )?;
        }
        for (problem, status) in run.solved.unsolved().take(MOST) {
            match run.problems.name(problem) {
                Some(name) => write!(f, "\n  {}: {status}", quoted(name.as_bytes()))?,
                None => write!(f, "\n  the whole file: {status}")?,
            }
            if status == Status::Infeasible {
                write!(f, "{}", self.proof(problem))?;
            }
        }
        if unsolved > MOST {
            write!(f, "\n  and {} more (--report has them all)", unsolved - MOST)?;
        }
        let raw_powers = run.plan.covariance.as_ref().is_some_and(|of| of.moments > 1 && !of.standardised);
        if raw_powers && run.solved.count(Status::IterationLimit) > 0 {
            write!(f, "\n  raw powers of a feature may be nearly the same row; --standardise takes them apart")?;
        }
        Ok(())
    }
}

impl Unsolved<'_> {
    /// The rows that the proof of infeasibility is about, those that count most first.
    fn proof(&self, problem: usize) -> String {
        const MOST: usize = 3;
        let Self(run) = self;
        let sizes = run.solved.multipliers(problem).iter().map(|multiplier| multiplier.abs());
        let mut rows: Vec<(&str, f64)> = run.row_names.iter().copied().zip(sizes).collect();
        rows.sort_by(|(_, left), (_, right)| right.total_cmp(left));
        // What is left of a zero is no part of the proof.
        let least = rows.first().map_or(0.0, |(_, largest)| 1e-9 * largest);
        rows.retain(|(_, size)| *size > least);
        if rows.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = rows.iter().take(MOST).map(|(name, _)| *name).collect();
        let more = if rows.len() > MOST { format!("; and {} more", rows.len() - MOST) } else { String::new() };
        format!(" (no scores within the bounds meet {}{more})", names.join("; "))
    }
}
