//! The arguments of `fairlayer train`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::cli::args::{Criterion, DeviceName, FairnessArgs, positive_count, ranged};

const EXAMPLES: &str = "\
Examples:
  # Credit risk from all other columns, equal mean scores for both sexes
  fairlayer train credit.csv --label good --sensitive sex --criterion demographic-parity --epsilon 0.02 \\
      --report train.json --plot train.png
  # Equalized odds on a label that is a text, with columns that the network sees and the groups not among them
  fairlayer train adult.csv --label income --positive '>50K' --sensitive sex,race --hide-sensitive \\
      --features age,education,hours-per-week,sex --criterion equalized-odds --epsilon 0.05
  # Go on where an earlier run with the same arguments was stopped
  fairlayer train credit.csv --label good --sensitive sex --criterion demographic-parity --epsilon 0.02 \\
      --checkpoint checkpoints

Two networks with the same first weights are trained for a label of two values: a plain one, and one whose last layer is
the projection. What is compared is the plain one, the one with the layer, and the plain one whose scores are projected
afterwards. Columns of which every field is a number are standardised, all others are one column of 0 and 1 for every text.
The rows are split by the seed into 60% to train with, 20% to choose the epoch with and 20% to test with, each with the same
share of every group and label; what is printed is of the last.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("label", |arg| arg.required(true).help("Column with the label: positive above 0.5, or by --positive")))]
#[command(mut_arg("edges", |arg| arg.hide(true)))]
pub struct TrainArgs {
    /// CSV file with a header line; `-` reads standard input
    #[arg(value_name = "IN.csv")]
    pub input: PathBuf,

    /// Column(s) with the sensitive features, each constrained alone
    #[arg(long, value_name = "COL[,COL]", required = true, value_delimiter = ',', allow_hyphen_values = true)]
    pub sensitive: Vec<String>,

    /// What is to be fair; not covariance and calibration
    #[arg(long, value_name = "NAME")]
    pub criterion: Criterion,

    #[command(flatten)]
    pub fairness: FairnessArgs,

    /// The text of the label that is positive; all others are negative
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub positive: Option<String>,

    /// Columns that the network sees [default: all but the label]
    #[arg(long, value_name = "COL[,COL]", value_delimiter = ',', allow_hyphen_values = true)]
    pub features: Vec<String>,

    /// Keep the sensitive columns from the network
    #[arg(long)]
    pub hide_sensitive: bool,

    /// How often to go through the training rows, at most
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "100", allow_hyphen_values = true)]
    pub epochs: NonZeroUsize,

    /// Stop after N epochs in which the loss of the validation rows got no better; the best weights are kept
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "20", allow_hyphen_values = true)]
    pub patience: NonZeroUsize,

    /// Rows in a batch; each batch is made fair by itself
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "256", allow_hyphen_values = true)]
    pub batch_size: NonZeroUsize,

    /// Widths of the hidden layers; `none` is logistic regression
    #[arg(long, value_name = "N[,N]|none", value_parser = hidden, default_value = "64,32", allow_hyphen_values = true)]
    pub hidden: Hidden,

    /// Step size of Adam
    #[arg(long, value_name = "R", value_parser = learning_rate, default_value = "0.001", allow_hyphen_values = true)]
    pub learning_rate: f64,

    /// What the split, the first weights and the order of the rows are drawn by
    #[arg(long, value_name = "S", default_value_t = 0, allow_hyphen_values = true)]
    pub seed: u64,

    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,

    /// Folder to keep the state of the training in, and to go on from if it is there
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,

    /// Also write a report as JSON
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,

    /// Also draw the trade-off and the history
    #[arg(long, value_name = "FILE.png")]
    pub plot: Option<PathBuf>,
}

impl TrainArgs {
    /// The column with the label, which clap sees to.
    pub fn label(&self) -> &str {
        self.fairness.label.as_deref().unwrap_or_default()
    }
}

/// The widths of the hidden layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden(pub Vec<usize>);

/// Wider layers than this are a slip of the finger.
const WIDEST: usize = 1 << 14;

fn hidden(text: &str) -> Result<Hidden, String> {
    if text == "none" {
        return Ok(Hidden(Vec::new()));
    }
    let width = |text: &str| {
        let width = text.trim().parse().ok().filter(|width| (1..=WIDEST).contains(width));
        width.ok_or_else(|| format!("a width is a whole number from 1 to {WIDEST}; none is no hidden layer"))
    };
    text.split(',').map(width).collect::<Result<_, _>>().map(Hidden)
}

fn learning_rate(text: &str) -> Result<f64, String> {
    ranged(text, "above 0 and at most 1", |rate| rate > 0.0 && rate <= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_numbers_or_none() {
        assert_eq!(hidden("64, 32"), Ok(Hidden(vec![64, 32])));
        assert_eq!(hidden("none"), Ok(Hidden(vec![])));
        assert!(["", "0", "64,", "-1", "1.5", "16385", "x"].iter().all(|text| hidden(text).is_err()));
    }
}
