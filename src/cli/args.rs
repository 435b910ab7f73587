//! The arguments of the commands, and the values that they may have.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{Bins, Covariance};

const PROJECT_EXAMPLES: &str = "\
Examples:
  # All pairs of groups within 0.02 of each other, for sex and for age band
  fairlayer project in.csv --output out.csv --score score --sensitive sex,age_band \\
      --criterion demographic-parity --epsilon 0.02
  # The four-fifths rule
  fairlayer project in.csv --output out.csv --score score --sensitive sex \\
      --criterion demographic-parity --ratio 0.8
  # Equalized odds, one problem for every value of the column `region`
  fairlayer project in.csv --output out.csv --score score --sensitive sex \\
      --criterion equalized-odds --label label --epsilon 0.01 --batch region
  # Unbounded predictions, no group over- or under-predicted by more than 100 on average
  fairlayer project in.csv --output out.csv --score income --sensitive sex \\
      --criterion mean-residual --label true_income --epsilon 100 --bounds none
  # No covariance with age and with its square, both in standard deviations
  fairlayer project in.csv --output out.csv --score score --sensitive age \\
      --criterion covariance --moments 2 --standardise --epsilon 0.001
  # The mean score is the mean label in every tenth of the scores between 0.5 and 1, and below
  fairlayer project in.csv --output out.csv --score score --label label \\
      --criterion calibration --edges 0,0.5,0.6,0.7,0.8,0.9,1 --epsilon 0.01
  # Rows of one's own: the loans granted (amount times score, one column) fit the budget
  fairlayer project in.csv --output out.csv --score score --rows amounts.csv --row-bounds limits.csv

Rows of one's own are lower <= sum_i a_i y_i <= upper over the fair scores y of a problem. The coefficients a_i
are numbers of the samples, made where the samples are, so ROWS.csv has a line for every line of IN.csv, in its
order, and a named column for every row. They are taken as they are: weights, or a division by the number of
samples, are in them if they are wanted. The bounds belong to the rows and not to the samples, so they have a
file of their own, BOUNDS.csv: the columns row, lower and upper, and a line for every column of ROWS.csv. A
bound that is left empty is none. There is no default, so that no row is forgotten.";

const AUDIT_EXAMPLES: &str = "\
Example:
  fairlayer audit scores.csv --score score --label label --sensitive sex,age_band --report audit.json";

#[derive(Args)]
#[command(after_help = PROJECT_EXAMPLES)]
pub struct ProjectArgs {
    /// CSV file with a header line; `-` reads standard input
    #[arg(value_name = "IN.csv")]
    pub input: PathBuf,

    /// Where to write the input with one column more, `fair_<score>`; the file appears when it is whole
    #[arg(long, value_name = "OUT.csv")]
    pub output: PathBuf,

    /// Column with the scores to make fair
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub score: String,

    /// Column(s) with the sensitive features, each constrained alone: groups, or numbers for covariance
    #[arg(long, value_name = "COL[,COL]", required_unless_present_any = ["rows", "edges"])]
    #[arg(value_delimiter = ',', allow_hyphen_values = true)]
    pub sensitive: Vec<String>,

    /// What is to be fair
    #[arg(long, value_name = "NAME", required_unless_present = "rows")]
    pub criterion: Option<Criterion>,

    #[command(flatten)]
    pub fairness: FairnessArgs,

    /// Highest power of the sensitive features of covariance [default: 1]
    #[arg(long, value_name = "K", value_parser = moments, allow_hyphen_values = true)]
    pub moments: Option<usize>,

    /// Take the sensitive features of covariance in standard deviations from their mean, so that epsilon is in units of
    /// the score alone
    #[arg(long, visible_alias = "standardize")]
    pub standardise: bool,

    /// CSV file with coefficients of your own: a line for every line of IN.csv, a named column for every row
    #[arg(long, value_name = "ROWS.csv", requires = "row_bounds")]
    pub rows: Option<PathBuf>,

    /// CSV file with the columns row, lower and upper: the bounds of every row of ROWS.csv
    #[arg(long, value_name = "BOUNDS.csv", requires = "rows")]
    pub row_bounds: Option<PathBuf>,

    /// Column with the sample weights, above 0
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub weight: Option<String>,

    /// Bounds of the fair scores; a side may be `-inf` or `inf` [default: 0,1]
    #[arg(long, value_name = "LO,HI|none", value_parser = bounds, allow_hyphen_values = true)]
    pub bounds: Option<Bounds>,

    /// Column whose values split the rows into problems that are solved apart [default: one problem]
    #[arg(long, value_name = "COL", conflicts_with = "batch_size", allow_hyphen_values = true)]
    pub batch: Option<String>,

    /// Split the rows into problems of N consecutive rows
    #[arg(long, value_name = "N", value_parser = positive_count, allow_hyphen_values = true)]
    pub batch_size: Option<NonZeroUsize>,

    /// Where to compute; see `fairlayer devices`
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,

    /// The number type to compute in
    #[arg(long, value_enum, default_value_t = Dtype::F64)]
    pub dtype: Dtype,

    /// The algorithm
    #[arg(long, value_enum, default_value_t = Method::Newton)]
    pub method: Method,

    /// Write the output even if problems are infeasible or unsolved; these get their scores clipped to the bounds
    #[arg(long)]
    pub keep_going: bool,

    /// Also write a report as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

impl ProjectArgs {
    /// The bounds that were given, or those of probabilities.
    pub fn bounds(&self) -> Bounds {
        self.bounds.unwrap_or(Bounds { lo: 0.0, hi: 1.0 })
    }

    /// What the scores are held to, for people to read.
    pub fn aim(&self) -> String {
        let criterion = self.criterion.map(name_of);
        let rows = self.rows.as_ref().map(|path| path.display().to_string());
        criterion.into_iter().chain(rows).collect::<Vec<_>>().join(" and ")
    }
}

/// What a criterion is told, by the commands that make scores fair.
#[derive(Args)]
pub struct FairnessArgs {
    #[command(flatten)]
    pub limit: LimitArgs,

    /// What `--epsilon` limits: the gap of every two groups, or that of every group to the mean of all
    #[arg(long, value_enum, default_value_t = Compare::Pairwise)]
    pub compare: Compare,

    /// Column with the labels, as numbers; positive above 0.5
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub label: Option<String>,

    /// Column with the control feature of conditional parity
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub control: Option<String>,

    /// Rising edges of the score bins of calibration; the outermost may be `-inf` and `inf`
    #[arg(long, value_name = "E0,E1,...", value_parser = edges, allow_hyphen_values = true)]
    pub edges: Option<Bins>,

    /// Constrain the combinations of several sensitive features instead of each feature alone
    #[arg(long)]
    pub intersectional: bool,
}

impl FairnessArgs {
    /// The column with the labels, if the criterion is about labels.
    pub fn label_of(&self, criterion: Option<Criterion>) -> Option<&str> {
        self.label.as_deref().filter(|_| criterion.is_some_and(Criterion::needs_labels))
    }

    /// The column with the control feature, if the criterion has one.
    pub fn control_of(&self, criterion: Option<Criterion>) -> Option<&str> {
        self.control.as_deref().filter(|_| criterion.is_some_and(Criterion::needs_control))
    }
}

#[derive(Args)]
#[group(multiple = false)]
pub struct LimitArgs {
    /// The largest gap allowed, in units of the score (of covariance: times units of the sensitive feature), at least 0
    #[arg(long, value_name = "E", value_parser = epsilon, allow_hyphen_values = true)]
    pub epsilon: Option<f64>,

    /// The smallest ratio allowed of the lowest mean to the highest, above 0 and at most 1; 0.8 is the four-fifths rule
    #[arg(long, value_name = "R", value_parser = ratio, allow_hyphen_values = true)]
    pub ratio: Option<f64>,
}

#[derive(Args)]
#[command(after_help = AUDIT_EXAMPLES)]
pub struct AuditArgs {
    /// CSV file with a header line; `-` reads standard input
    #[arg(value_name = "IN.csv")]
    pub input: PathBuf,

    /// Column with the scores
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub score: String,

    /// Column with the labels, as numbers; positive above 0.5
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub label: String,

    /// Column(s) with the sensitive features
    #[arg(long, value_name = "COL[,COL]", required = true, value_delimiter = ',', allow_hyphen_values = true)]
    pub sensitive: Vec<String>,

    /// A score of at least this is a positive decision
    #[arg(long, value_name = "T", default_value = "0.5", value_parser = finite, allow_hyphen_values = true)]
    pub threshold: f64,

    /// Also write a report as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Criterion {
    /// Equal mean scores
    DemographicParity,
    /// Equal mean scores among the negatives, and among the positives
    EqualizedOdds,
    /// Equal mean scores among the positives
    TprParity,
    /// Equal mean scores among the negatives
    FprParity,
    /// Equal mean scores at every value of a control feature
    ConditionalParity,
    /// No group over- or under-predicted on average
    MeanResidual,
    /// No bin of the scores over- or under-predicted on average; with --sensitive no bin of any group
    Calibration,
    /// No covariance with sensitive features that are numbers, or with their powers
    Covariance,
}

impl Criterion {
    pub fn needs_labels(self) -> bool {
        !matches!(self, Self::DemographicParity | Self::ConditionalParity | Self::Covariance)
    }

    pub fn needs_control(self) -> bool {
        self == Self::ConditionalParity
    }

    /// Whether it is about `score - label`, of which there is no ratio.
    pub fn is_of_residuals(self) -> bool {
        matches!(self, Self::MeanResidual | Self::Calibration)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compare {
    /// Every two groups
    Pairwise,
    /// Every group with all samples
    Overall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// The processor
    Cpu,
    /// The fastest device that is there
    Auto,
    /// A GPU through wgpu
    Wgpu,
    /// An NVIDIA GPU
    Cuda,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// Single precision
    F32,
    /// Double precision
    F64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Proximal Newton steps on the dual
    Newton,
    /// The alternating direction method of multipliers, finished by Newton steps
    Admm,
}

/// The name by which the command line knows a value.
pub fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Bounds of the fair scores; infinite where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub lo: f64,
    pub hi: f64,
}

pub fn bounds(text: &str) -> Result<Bounds, String> {
    if text == "none" {
        return Ok(Bounds { lo: f64::NEG_INFINITY, hi: f64::INFINITY });
    }
    let (lo, hi) = text.split_once(',').ok_or("give two numbers as LO,HI, or none")?;
    let (lo, hi) = (number(lo)?, number(hi)?);
    if lo < hi { Ok(Bounds { lo, hi }) } else { Err(format!("the lower bound {lo} is not below the upper bound {hi}")) }
}

fn number(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| format!("\"{}\" is not a number", text.trim()))
}

fn epsilon(text: &str) -> Result<f64, String> {
    ranged(text, "a finite number of at least 0", |value| value >= 0.0 && value.is_finite())
}

fn ratio(text: &str) -> Result<f64, String> {
    ranged(text, "above 0 and at most 1", |value| value > 0.0 && value <= 1.0)
}

fn moments(text: &str) -> Result<usize, String> {
    let most = Covariance::MAX_MOMENTS;
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| format!("it must be a whole number from 1 to {most}"))
}

fn edges(text: &str) -> Result<Bins, String> {
    let edges = text.split(',').map(number).collect::<Result<Vec<_>, _>>()?;
    Bins::new(&edges).map_err(|error| error.to_string())
}

fn finite(text: &str) -> Result<f64, String> {
    ranged(text, "a finite number", f64::is_finite)
}

pub fn ranged(text: &str, wanted: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    let value = number(text)?;
    if fits(value) { Ok(value) } else { Err(format!("it must be {wanted}")) }
}

pub fn positive_count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "it must be a whole number of at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_two_rising_numbers_or_none() {
        assert_eq!(bounds("-3.5, 3.5"), Ok(Bounds { lo: -3.5, hi: 3.5 }));
        assert_eq!(bounds("0,inf"), Ok(Bounds { lo: 0.0, hi: f64::INFINITY }));
        assert_eq!(bounds("none"), bounds("-inf,inf"));
        for bad in ["", "1", "1,0", "0,0", "nan,1", "0,nan", "inf,inf", "0,1,2", "a,b"] {
            assert!(bounds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(epsilon("0").is_ok() && ratio("1").is_ok() && positive_count("1").is_ok());
        assert!(["-1e-9", "nan", "inf", "x", ""].iter().all(|text| epsilon(text).is_err()));
        assert!(["0", "1.01", "-1", "nan"].iter().all(|text| ratio(text).is_err()));
        assert!(["0", "-1", "1.5", ""].iter().all(|text| positive_count(text).is_err()));
        assert!(moments("32").is_ok() && ["0", "33", "-1", "1.5", ""].iter().all(|text| moments(text).is_err()));
        assert!(edges("-inf, 0,inf").is_ok());
        assert!(["0", "", "0,0", "1,0", "0,nan", "0,,1"].iter().all(|text| edges(text).is_err()));
    }
}
