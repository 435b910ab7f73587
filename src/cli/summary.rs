//! What a projection tells the person who ran it: a table of gaps, then a few lines.

use std::fmt::{self, Display, Formatter};

use super::args::name_of;
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
        writeln!(f, "{} of column {}: {rows}, {problems}", name_of(run.args.criterion), run.args.score)?;
        writeln!(f, "{}", self.gaps())?;
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
    fn gaps(&self) -> comfy_table::Table {
        let Self(run) = self;
        let measure = match run.plan.limit {
            Limit::Ratio { .. } => "ratio",
            Limit::Residual { .. } => "residual",
            Limit::Pairwise { .. } | Limit::Overall { .. } => "gap",
        };
        let of_worst = match run.problems.count() {
            1 => String::new(),
            many => format!(",\nworst of {many} problems"),
        };
        let (before, after) = (format!("{measure} before{of_worst}"), format!("{measure} after{of_worst}"));
        let header = ["sensitive feature", "within", "groups", &before, &after, "limit"];
        // Without strata there is nothing to say in the second column.
        let stratified = run.plan.strata.iter().any(|stratum| stratum.name.is_some());
        let shown = |column: &usize| stratified || *column != 1;
        let shown_header: Vec<&str> = (0..header.len()).filter(shown).map(|column| header[column]).collect();
        let rows = run.comparisons().map(|comparison| {
            let cells = self.row(&comparison).into_iter().enumerate();
            cells.filter(|(column, _)| shown(column)).map(|(_, cell)| cell).collect()
        });
        table(&shown_header, if stratified { 2 } else { 1 }, rows)
    }

    fn row(&self, comparison: &Comparison<'_>) -> [String; 6] {
        let limit = match self.0.plan.limit {
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
        const MOST: usize = 8;
        let Self(run) = self;
        let idle: Vec<bool> = run.plan.features_of_rows().map(|feature| run.plan.is_idle(feature)).collect();
        let absent: Vec<(usize, usize)> = run.inactive_rows().into_iter().filter(|(row, _)| !idle[*row]).collect();
        let named =
            |(row, problems): &(usize, usize)| format!("{} ({})", run.row_names[*row], count(*problems, "problem"));
        let names: Vec<String> = absent.iter().take(MOST).map(named).collect();
        let more = if absent.len() > MOST { "; ..." } else { "" };
        (!absent.is_empty()).then(|| format!("absent from a problem, or alone in it: {}{more}", names.join("; ")))
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
        if unsolved > MOST { write!(f, "\n  and {} more (--report has them all)", unsolved - MOST) } else { Ok(()) }
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
