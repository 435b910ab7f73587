//! What a training tells the person who ran it: the three networks side by side, then a few lines.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::compare::{Comparison, Model, Training};
use super::report::Run;
use crate::cli::args::name_of;
use crate::cli::figures::{count, figure, given, optional, table, time};
use crate::cli::plan::Limit;
use crate::torch::BatchGaps;

/// The summary of a run.
pub struct Summary<'a>(pub &'a Run<'a>);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Run { args, comparison, device, time: taken, .. } = self.0;
        let Comparison { split, limit, models, trainings, .. } = comparison;
        let parts = [&split.train, &split.valid, &split.test].map(Vec::len);
        let rows = count(parts.iter().sum(), "row");
        writeln!(f, "{} for column {}: {rows}", name_of(args.criterion), args.label())?;
        let sign = if matches!(limit, Limit::Ratio { .. }) { ">=" } else { "<=" };
        writeln!(f, "{}", networks(comparison))?;
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<9} {text}");
        let features: Vec<&str> = comparison.population.features.iter().map(|own| own.name.as_str()).collect();
        let aim = format!("{} {sign} {} in each batch", comparison.measure(), given(limit.level()));
        line("limit", &format!("{aim}, {}", features.join(", ")))?;
        let [train, valid, test] = parts;
        let batches = count(models[0].batches, "batch");
        line(
            "rows",
            &format!("{train} to train with, {valid} to choose the epoch with, {test} to test with, in {batches}"),
        )?;
        let hidden = args.hidden.0.iter().map(|width| format!("{width} - ")).collect::<String>();
        let inputs = comparison.width();
        line("network", &format!("{inputs} - {hidden}1, {} weights", comparison.weights))?;
        line("epochs", &trainings.iter().map(epochs).collect::<Vec<_>>().join("; "))?;
        if let Some(batches) = models.iter().map(|model| model.incomplete_batches).max().filter(|batches| *batches > 0)
        {
            line("groups", &format!("some are absent from {} of test rows", count(batches, "batch")))?;
        }
        if args.criterion.needs_labels() {
            let name = name_of(args.criterion);
            line(
                "labels",
                &format!("{name} reads those of the test rows, too: without labels there are no such scores"),
            )?;
        }
        line("device", device)?;
        let files = [("report", &args.report), ("plot", &args.plot), ("keeps", &args.checkpoint)];
        for (name, path) in files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?))) {
            line(name, &path.display().to_string())?;
        }
        write!(f, "{:<9} {}", "time", time(*taken))
    }
}

fn epochs(training: &Training) -> String {
    format!("{} {}, the best is {}", training.name, training.epochs.len(), training.kept + 1)
}

fn networks(comparison: &Comparison) -> comfy_table::Table {
    let measure = comparison.measure();
    let [pooled, mean, worst] =
        ["pooled", "mean of batches", "worst batch"].map(|which| format!("{measure},\n{which}"));
    let header = ["test rows", "loss", "accuracy", "AUC", &pooled, &mean, &worst, "time an\nepoch"];
    let row = |model: &Model| {
        let gap = |of: fn(&BatchGaps) -> Option<f64>| optional(model.gap.as_ref().and_then(of));
        vec![
            model.name.to_owned(),
            figure(model.loss),
            figure(model.accuracy),
            optional(model.auc),
            gap(|gap| Some(gap.pooled)),
            gap(|gap| gap.mean),
            gap(|gap| gap.worst),
            model.seconds_per_epoch.map_or("-".to_owned(), |seconds| time(Duration::from_secs_f64(seconds))),
        ]
    };
    table(&header, 1, comparison.models.iter().map(row))
}

/// The batches without fair scores, for stderr.
pub struct Unsolved<'a>(pub &'a Comparison);

impl Display for Unsolved<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unsolved = |model: &&Model| model.unsolved_batches > 0;
        let told = self.0.models.iter().filter(unsolved).map(|model| {
            format!("{} of {} of the network {}", model.unsolved_batches, count(model.batches, "batch"), model.name)
        });
        write!(
            f,
            "warning: not solved, and answered with scores that are not fair: {}",
            told.collect::<Vec<_>>().join("; ")
        )
    }
}
