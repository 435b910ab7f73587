//! `fairlayer audit`: how fair the scores of a CSV file are.

use std::fmt::{self, Display, Formatter};

use super::args::AuditArgs;
use super::failure::{Failure, Result};
use super::figures::{count, optional, table};
use super::needs::require_distinct;
use super::output::Target;
use super::progress::Progress;
use super::records::Source;
use super::report::to_json;
use super::table::{CategoryReader, Column, Numbers, Table};
use super::{Ending, say};
use crate::audit::{FeatureAudit, GroupMetrics, audit};

/// A table of more groups than this is of use to nobody.
const MOST_GROUPS: usize = 4096;

/// Nor is a table on the screen of more than this; the report has them all.
const MOST_SHOWN: usize = 40;

/// Runs the command.
pub fn run(args: &AuditArgs) -> Result<Ending> {
    require_distinct(&args.sensitive)?;
    let report = args.report.as_deref().map(|path| Target::new(path, &[("the input", &args.input)])).transpose()?;
    let audits = read_and_audit(args)?;
    if let Some(target) = report {
        target.write(|out| to_json(&Report::of(args, &audits), out))?.commit()?;
    }
    say(&Summary { args, audits: &audits });
    Ok(Ending::Done)
}

/// A sensitive feature with the names of its groups.
struct Named {
    feature: String,
    groups: Vec<String>,
    audit: FeatureAudit,
}

fn read_and_audit(args: &AuditArgs) -> Result<Vec<Named>> {
    let progress = Progress::new();
    let mut source = Source::open(&args.input)?;
    let (mut score, mut label) = (Numbers::any(&args.score), Numbers::any(&args.label));
    let mut sensitive: Vec<CategoryReader> =
        args.sensitive.iter().map(|name| CategoryReader::new(name, MOST_GROUPS)).collect();
    let mut columns: Vec<&mut dyn Column> = vec![&mut score, &mut label];
    columns.extend(sensitive.iter_mut().map(|column| column as &mut dyn Column));
    Table::open(&mut source)?.read(&mut columns, &progress)?;

    let audit_of = |column: CategoryReader| {
        let column = column.sorted();
        let groups = column.display_texts();
        let audit = audit(&score.values, &label.values, &column.ids, groups.len(), args.threshold, None)
            .map_err(|error| Failure::new(format!("{}: {error}", source.name())))?;
        Ok(Named { feature: column.name, groups, audit })
    };
    sensitive.into_iter().map(audit_of).collect()
}

struct Summary<'a> {
    args: &'a AuditArgs,
    audits: &'a [Named],
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = self.audits.first().map_or(0, |named| named.audit.overall.count);
        let Self { args, .. } = self;
        write!(f, "audit of column {}: {}, selected at >= {}", args.score, count(rows, "row"), args.threshold)?;
        self.audits.iter().try_for_each(|named| {
            write!(f, "\n\n{}", groups(named))?;
            if named.groups.len() > MOST_SHOWN {
                write!(f, "\nthe first {MOST_SHOWN} of {} groups; the rest is in --report", named.groups.len())?;
            }
            write!(f, "\n{}", comparisons(&named.audit))
        })
    }
}

fn groups(named: &Named) -> comfy_table::Table {
    let header = [&*named.feature, "count", "accuracy", "selection rate", "TPR", "FPR", "mean score"];
    let row = |name: &str, metrics: &GroupMetrics| {
        let rates = [
            metrics.accuracy,
            metrics.selection_rate,
            metrics.true_positive_rate,
            metrics.false_positive_rate,
            metrics.mean_score,
        ];
        [name.to_owned(), metrics.count.to_string()].into_iter().chain(rates.map(optional)).collect()
    };
    let shown = named.groups.iter().zip(&named.audit.groups).take(MOST_SHOWN);
    let of_groups = shown.map(|(name, metrics)| row(name, metrics));
    table(&header, 1, of_groups.chain([row("overall", &named.audit.overall)]))
}

fn comparisons(audit: &FeatureAudit) -> String {
    let line = |name: &str, difference, ratio| {
        format!("{name:<18} difference {}, ratio {}", optional(Some(difference)), optional(ratio))
    };
    let parity = line("demographic parity", audit.demographic_parity_difference, audit.demographic_parity_ratio);
    let odds = line("equalized odds", audit.equalized_odds_difference, audit.equalized_odds_ratio);
    format!("{parity}\n{odds}")
}

#[derive(serde::Serialize)]
struct Report<'a> {
    fairlayer: &'static str,
    input: String,
    score: &'a str,
    label: &'a str,
    threshold: f64,
    rows: usize,
    features: Vec<FeatureEntry<'a>>,
}

#[derive(serde::Serialize)]
struct FeatureEntry<'a> {
    feature: &'a str,
    overall: &'a GroupMetrics,
    groups: Vec<GroupEntry<'a>>,
    demographic_parity_difference: f64,
    demographic_parity_ratio: Option<f64>,
    equalized_odds_difference: f64,
    equalized_odds_ratio: Option<f64>,
    equal_opportunity_difference: f64,
    equal_opportunity_ratio: Option<f64>,
    false_positive_rate_difference: f64,
    false_positive_rate_ratio: Option<f64>,
    mean_score_difference: f64,
    mean_score_ratio: Option<f64>,
}

#[derive(serde::Serialize)]
struct GroupEntry<'a> {
    group: &'a str,
    #[serde(flatten)]
    metrics: &'a GroupMetrics,
}

impl<'a> Report<'a> {
    fn of(args: &'a AuditArgs, audits: &'a [Named]) -> Self {
        Self {
            fairlayer: env!("CARGO_PKG_VERSION"),
            input: args.input.display().to_string(),
            score: &args.score,
            label: &args.label,
            threshold: args.threshold,
            rows: audits.first().map_or(0, |named| named.audit.overall.count),
            features: audits.iter().map(FeatureEntry::of).collect(),
        }
    }
}

impl<'a> FeatureEntry<'a> {
    fn of(Named { feature, groups, audit }: &'a Named) -> Self {
        Self {
            feature,
            overall: &audit.overall,
            groups: groups.iter().zip(&audit.groups).map(|(group, metrics)| GroupEntry { group, metrics }).collect(),
            demographic_parity_difference: audit.demographic_parity_difference,
            demographic_parity_ratio: audit.demographic_parity_ratio,
            equalized_odds_difference: audit.equalized_odds_difference,
            equalized_odds_ratio: audit.equalized_odds_ratio,
            equal_opportunity_difference: audit.equal_opportunity_difference,
            equal_opportunity_ratio: audit.equal_opportunity_ratio,
            false_positive_rate_difference: audit.false_positive_rate_difference,
            false_positive_rate_ratio: audit.false_positive_rate_ratio,
            mean_score_difference: audit.mean_score_difference,
            mean_score_ratio: audit.mean_score_ratio,
        }
    }
}
