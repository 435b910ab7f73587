//! The report of a training as JSON.

use std::io::Write;
use std::time::Duration;

use super::args::TrainArgs;
use super::compare::{Comparison, Model, Training};
use super::features::Input;
use crate::cli::args::name_of;
use crate::cli::failure::{Failure, Result};
use crate::cli::report::to_json;

/// All that is known after a training.
pub struct Run<'a> {
    pub args: &'a TrainArgs,
    pub comparison: &'a Comparison,
    pub device: &'a str,
    /// The time since the command began.
    pub time: Duration,
}

/// Writes the report.
pub fn write(run: &Run<'_>, out: &mut dyn Write) -> Result<()> {
    let Run { args, comparison, device, time } = run;
    let population = &comparison.population;
    let features = population.features.iter().map(|own| FeatureEntry { feature: &own.name, groups: &own.groups });
    let control = population.control.as_ref().map(|own| FeatureEntry { feature: &own.name, groups: &own.levels });
    let report = Report {
        fairlayer: env!("CARGO_PKG_VERSION"),
        libtorch: option_env!("FAIRLAYER_LIBTORCH"),
        input: args.input.display().to_string(),
        arguments: Arguments::of(args),
        device,
        measure: comparison.measure(),
        limit: comparison.limit.level(),
        rows: Rows {
            train: comparison.split.train.len(),
            valid: comparison.split.valid.len(),
            test: comparison.split.test.len(),
        },
        features: features.collect(),
        control,
        inputs: comparison.width(),
        columns: &comparison.inputs,
        left_out: &comparison.left_out,
        weights: comparison.weights,
        networks: &comparison.models,
        trainings: &comparison.trainings,
        total_seconds: time.as_secs_f64(),
    };
    to_json(&report, out)
}

#[derive(serde::Serialize)]
struct Report<'a> {
    fairlayer: &'static str,
    libtorch: Option<&'static str>,
    input: String,
    arguments: Arguments<'a>,
    device: &'a str,
    measure: &'static str,
    limit: f64,
    rows: Rows,
    features: Vec<FeatureEntry<'a>>,
    control: Option<FeatureEntry<'a>>,
    inputs: usize,
    columns: &'a [Input],
    left_out: &'a [String],
    weights: usize,
    networks: &'a [Model],
    trainings: &'a [Training],
    total_seconds: f64,
}

#[derive(serde::Serialize)]
struct Rows {
    train: usize,
    valid: usize,
    test: usize,
}

#[derive(serde::Serialize)]
struct FeatureEntry<'a> {
    feature: &'a str,
    groups: &'a [String],
}

/// The arguments that what is learnt depends on.
#[derive(serde::Serialize)]
struct Arguments<'a> {
    label: &'a str,
    positive: Option<&'a str>,
    sensitive: &'a [String],
    intersectional: bool,
    features: &'a [String],
    hide_sensitive: bool,
    criterion: String,
    compare: String,
    epsilon: Option<f64>,
    ratio: Option<f64>,
    control: Option<&'a str>,
    epochs: usize,
    patience: usize,
    batch_size: usize,
    hidden: &'a [usize],
    learning_rate: f64,
    seed: u64,
}

impl<'a> Arguments<'a> {
    fn of(args: &'a TrainArgs) -> Self {
        let fairness = &args.fairness;
        Self {
            label: args.label(),
            positive: args.positive.as_deref(),
            sensitive: &args.sensitive,
            intersectional: fairness.intersectional,
            features: &args.features,
            hide_sensitive: args.hide_sensitive,
            criterion: name_of(args.criterion),
            compare: name_of(fairness.compare),
            epsilon: fairness.limit.epsilon,
            ratio: fairness.limit.ratio,
            control: fairness.control_of(Some(args.criterion)),
            epochs: args.epochs.get(),
            patience: args.patience.get(),
            batch_size: args.batch_size.get(),
            hidden: &args.hidden.0,
            learning_rate: args.learning_rate,
            seed: args.seed,
        }
    }
}

/// What checkpoints are of: these arguments, and what was read.
pub fn tag(args: &TrainArgs, digest: u64) -> Result<String> {
    let written = serde_json::to_value(Arguments::of(args)).map_err(|error| Failure::new(error.to_string()))?;
    let entries = written.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    // (Texts as they are: the tag is shown in quotes.)
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let arguments = entries.map(|(name, value)| format!("{name} {}, ", text(value))).collect::<String>();
    Ok(format!("{arguments}data {digest:016x}"))
}
