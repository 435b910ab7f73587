//! What a projection tells the person who ran it: a table of gaps, then a few lines.

use std::fmt::{self, Display, Formatter};

use super::args::name_of;
use super::failure::quoted;
use super::figures::{count, figure, table, time};
use super::plan::Limit;
use super::problems::Problems;
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
        line("moved", &format!("{} rms, {} at most", figure(run.distance.rms), figure(run.distance.largest)))?;
        line("problems", &statuses(run.solved))?;
        if let Some(text) = self.inactive() {
            line("inactive", &text)?;
        }
        let (dtype, method) = (name_of(run.args.dtype), name_of(run.args.method));
        line("device", &format!("{}, {dtype}, {method}", run.engine.device_name))?;
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
        let (before, after) = (format!("{measure} before"), format!("{measure} after"));
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
            Limit::Ratio { ratio } => format!(">= {ratio}"),
            other => format!("<= {}", other.level()),
        };
        let (before, after) = match comparison.worst {
            Some(gap) => (figure(gap.before), figure(gap.after)),
            None if comparison.groups.len() == 1 => ("one group".to_owned(), "one group".to_owned()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let stratum = comparison.stratum.unwrap_or_default().to_owned();
        [comparison.feature.to_owned(), stratum, comparison.groups.len().to_string(), before, after, limit]
    }

    /// Which rows of the constraints did nothing where, because groups are absent from problems.
    fn inactive(&self) -> Option<String> {
        const MOST: usize = 8;
        let inactive = self.0.inactive_rows();
        let total: usize = inactive.iter().map(|(_, problems)| problems).sum();
        let named = |(row, problems): &(&str, usize)| format!("{row} in {}", count(*problems, "problem"));
        let names: Vec<String> = inactive.iter().take(MOST).map(named).collect();
        let more = if inactive.len() > MOST { ", ..." } else { "" };
        let rows = count(total, "row");
        (total > 0).then(|| format!("{rows} of constraints without a group to compare: {}{more}", names.join(", ")))
    }
}

fn statuses(solved: &Solved) -> String {
    let all = [Status::Solved, Status::IterationLimit, Status::Infeasible, Status::BadNumber];
    let counted = all.into_iter().map(|status| (status, solved.count(status)));
    let told: Vec<String> = counted.filter(|(_, n)| *n > 0).map(|(status, n)| format!("{n} {status}")).collect();
    told.join(", ")
}

/// The problems without a solution, for stderr: a line that says what became of the output, then one a problem.
pub struct Unsolved<'a> {
    pub problems: &'a Problems,
    pub solved: &'a Solved,
    /// Whether the output is written all the same.
    pub writes: bool,
}

impl Display for Unsolved<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const MOST: usize = 1000;
        let (unsolved, all) = (self.solved.unsolved().count(), count(self.problems.count(), "problem"));
        if self.writes {
            write!(f, "warning: {unsolved} of {all} not solved; their scores were clipped to the bounds")?;
        } else {
            write!(f, "error: {unsolved} of {all} not solved and nothing written (--keep-going writes them clipped)")?;
        }
        for (problem, status) in self.solved.unsolved().take(MOST) {
            match self.problems.name(problem) {
                Some(name) => write!(f, "\n  {}: {status}", quoted(name.as_bytes()))?,
                None => write!(f, "\n  the whole file: {status}")?,
            }
        }
        if unsolved > MOST { write!(f, "\n  and {} more (--report has them all)", unsolved - MOST) } else { Ok(()) }
    }
}
