//! The arguments of `fairlayer stream`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::{Bounds, Criterion, FairnessArgs, bounds, positive_count};

const EXAMPLES: &str = "\
Examples:
  # Every row is answered as it comes
  producer | fairlayer stream - --score score --sensitive sex --criterion demographic-parity --epsilon 0.02
  # The same, going on where an earlier run stopped
  producer | fairlayer stream - --score score --sensitive sex --criterion demographic-parity --epsilon 0.02 \\
      --state state.json

stdout has the rows, each with one field more, and nothing else; all else goes to stderr. Groups need not be known
beforehand: a new one joins when its first row comes. What is held to epsilon are the gaps over all rows answered so
far, those of earlier runs with the same --state among them. At the first rows there is not much to go by; the gaps
come to within epsilon as rows come.

The state is written after the answers. A kill at any moment leaves a whole state, which may lack the last
--state-every batches: feed the rows that follow the number \"rows\" in it again, and their answers are the same.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct StreamArgs {
    /// CSV file with a header line, read once as it comes; `-` reads standard input
    #[arg(value_name = "IN.csv")]
    pub input: PathBuf,

    /// Column with the scores to make fair
    #[arg(long, value_name = "COL", allow_hyphen_values = true)]
    pub score: String,

    /// Column(s) with the sensitive features, each constrained alone
    #[arg(long, value_name = "COL[,COL]", required_unless_present = "edges")]
    #[arg(value_delimiter = ',', allow_hyphen_values = true)]
    pub sensitive: Vec<String>,

    /// What is to be fair
    #[arg(long, value_name = "NAME")]
    pub criterion: Criterion,

    #[command(flatten)]
    pub fairness: FairnessArgs,

    /// Bounds of the fair scores; a side may be `-inf` or `inf`
    #[arg(long, value_name = "LO,HI|none", value_parser = bounds, default_value = "0,1", allow_hyphen_values = true)]
    pub bounds: Bounds,

    /// Wait for N rows and answer them together
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "1", allow_hyphen_values = true)]
    pub batch_size: NonZeroUsize,

    /// Project batches of at least N rows, each by itself
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "64", allow_hyphen_values = true)]
    pub b_tau: NonZeroUsize,

    /// How smaller batches are answered
    #[arg(long, value_enum, default_value_t = Algorithm::Pooled)]
    pub algorithm: Algorithm,

    /// File with what was learnt: read at the beginning if it is there, replaced as rows are answered
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Write the state after every N batches (and at the end)
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "1", requires = "state")]
    #[arg(allow_hyphen_values = true)]
    pub state_every: NonZeroUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// The gaps over all rows come to within the limit
    Pooled,
    /// The update published with fairness_training, for comparison: bounds the mean gap within batches only
    #[value(name = "max_gap", alias = "max-gap")]
    MaxGap,
}
