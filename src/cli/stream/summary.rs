//! What a stream tells, on stderr, when it ends.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::Stream;
use super::args::Algorithm;
use crate::cli::args::name_of;
use crate::cli::figures::{count, figure, given, table, time};
use crate::cli::plan::{Limit, strata};
use crate::{PooledGap, Streaming};

/// The summary of a run.
pub struct Summary<'a> {
    pub stream: &'a Stream<'a>,
    pub time: Duration,
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { stream, time: taken } = self;
        let args = stream.args;
        let (rows, batches) = (count(stream.rows as usize, "row"), count(stream.batches as usize, "batch"));
        write!(
            f,
            "{} of column {}: {rows}, {batches}, {}",
            name_of(args.criterion),
            args.score,
            name_of(args.algorithm)
        )?;
        let Some(streaming) = &stream.streaming else { return Ok(()) };
        writeln!(f, "\n{}", self.gaps(streaming))?;
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<9} {text}");
        line("moved", &format!("{} rms", figure(streaming.mean_square().sqrt())))?;
        if stream.incomplete > 0 && args.batch_size.get() > 1 {
            line("groups", &format!("absent from {} of {batches}", stream.incomplete))?;
        }
        if let (Algorithm::MaxGap, Some(state)) = (args.algorithm, streaming.max_gap()) {
            let gap = state.mean_gap(stream.limit.level()).map_or("-".to_owned(), figure);
            line("max_gap", &format!("mean gap within batches {gap}, multiplier {}", figure(state.lambda)))?;
        }
        if let Some(path) = &args.state {
            line("state", &format!("{}, {} in all", path.display(), count(streaming.count() as usize, "row")))?;
        }
        write!(f, "{:<9} {}", "time", time(*taken))
    }
}

impl Summary<'_> {
    /// The pooled gaps of all rows answered, with those of earlier runs.
    fn gaps(&self, streaming: &Streaming) -> comfy_table::Table {
        let Self { stream, .. } = self;
        let limit = stream.limit;
        let (measure, allowed) = match limit {
            Limit::Ratio { ratio } => ("ratio", format!(">= {}", given(ratio))),
            Limit::Residual { epsilon } => ("residual", format!("<= {}", given(epsilon))),
            other => ("gap", format!("<= {}", given(other.level()))),
        };
        let population = stream.groups.population();
        let levels = population.control.as_ref().map(|control| (control.name.as_str(), control.levels.as_slice()));
        let strata = strata(Some(stream.args.criterion), levels).0;
        let by_group = matches!(limit, Limit::Overall { .. } | Limit::Residual { .. });
        let mut gaps = streaming.gaps().into_iter();
        let mut lines = Vec::new();
        for stratum in &strata {
            for feature in &population.features {
                let rows = if by_group { feature.groups.len() } else { 1 };
                let found: Vec<PooledGap> = gaps.by_ref().take(rows).flatten().collect();
                let largest = |of: fn(&PooledGap) -> f64| found.iter().map(of).fold(0.0, f64::max);
                let shown = |value: f64| if found.is_empty() { "-".to_owned() } else { figure(value) };
                let (before, after) = (largest(|gap| gap.before.abs()), largest(|gap| gap.after.abs()));
                let name = stratum.name.clone().unwrap_or_default();
                let groups = feature.groups.len().to_string();
                lines.push(vec![feature.name.clone(), name, groups, shown(before), shown(after), allowed.clone()]);
            }
        }
        let stratified = strata.iter().any(|stratum| stratum.name.is_some());
        let (before, after) = (format!("{measure} before,\npooled"), format!("{measure} after,\npooled"));
        let mut header = vec!["sensitive feature", "within", "groups", &before, &after, "limit"];
        if !stratified {
            header.remove(1);
            lines.iter_mut().for_each(|line| drop(line.remove(1)));
        }
        table(&header, if stratified { 2 } else { 1 }, lines)
    }
}

/// The batches without a solution.
pub struct Unsolved<'a>(pub &'a Stream<'a>);

impl Display for Unsolved<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const MOST: usize = 20;
        let unsolved = &self.0.unsolved;
        write!(f, "warning: batches that are not solved: {}; their scores were clipped to the bounds", unsolved.len())?;
        for (first, rows, status) in unsolved.iter().take(MOST) {
            write!(f, "\n  rows {first}-{}: {status}", first + *rows as u64 - 1)?;
        }
        if unsolved.len() > MOST { write!(f, "\n  ...") } else { Ok(()) }
    }
}
