//! What a stream leaves to the next process that goes on with it.

use super::max_gap::MaxGapState;
use super::pooled::PooledState;
use crate::constraints::{ConstraintSet, Contrast, SpreadLimit};
use crate::error::{Error, Result};
use crate::totals::Totals;

/// The form of the state that this version writes and reads.
pub(crate) const VERSION: u32 = 1;

/// Everything that a [`Streaming`](super::Streaming) has learnt: [`Streaming::save`](super::Streaming::save) makes it,
/// [`Streaming::restore`](super::Streaming::restore) goes on from it, and gives the very bits that a stream without the
/// interruption gives. With the feature `serde` it can be written and read; use a format that keeps every `f64` (for
/// `serde_json` the feature `float_roundtrip`).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StreamState {
    pub(crate) version: u32,
    /// What the stream was held to, line by line: a state goes on under the same only.
    pub(crate) held_to: Vec<String>,
    pub(crate) totals: Totals,
    pub(crate) rule: RuleState,
}

/// The part of the rule.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum RuleState {
    Pooled(PooledState),
    MaxGap(MaxGapState),
}

impl StreamState {
    /// How many samples the stream had answered.
    pub fn count(&self) -> u64 {
        self.totals.count()
    }

    /// Whether a stream that is held to `now` can go on from this.
    pub(crate) fn check(&self, set: &ConstraintSet, now: &[String]) -> Result<()> {
        let refused = |problem: String| Err(Error::value("the state of the stream", problem));
        if self.version != VERSION {
            return refused(format!("it has version {}, and this library reads {VERSION}", self.version));
        }
        let differs = (0..self.held_to.len().max(now.len())).find(|&line| self.held_to.get(line) != now.get(line));
        if let Some(line) = differs {
            let text =
                |lines: &[String]| lines.get(line).map_or_else(|| "nothing".to_owned(), |line| format!("`{line}`"));
            return refused(format!("it was made under {}, and this stream has {}", text(&self.held_to), text(now)));
        }
        let usable = self.totals.is_usable(set.layout().cells())
            && match &self.rule {
                RuleState::Pooled(state) => state.is_usable(set),
                RuleState::MaxGap(state) => state.is_usable(),
            };
        if usable { Ok(()) } else { refused("it is damaged: begin anew, or take an older copy".to_owned()) }
    }
}

/// What a stream is held to, in words that differ where anything does.
pub(crate) fn held_to(set: &ConstraintSet, (lo, hi): (f64, f64), rule: &str) -> Vec<String> {
    let layout = set.layout();
    let mut lines = vec![
        format!("rule {rule}"),
        format!("bounds {lo} to {hi}"),
        format!("groups {:?}, strata {:?}", layout.group_counts(), layout.strata()),
    ];
    for spread in set.spreads() {
        let unions: Vec<String> =
            spread.unions.iter().map(|union| format!("{} {:?}", union.name, union.cells)).collect();
        let limit = match spread.limit {
            SpreadLimit::Difference(epsilon) => format!("means within {epsilon}"),
            SpreadLimit::Ratio(ratio) => format!("means in a ratio of {ratio}"),
        };
        lines.push(format!("{limit}: {}", unions.join(", ")));
    }
    for Contrast { plus, minus, scale, lower, upper, residual } in set.contrasts() {
        let of = if *residual { "residual" } else { "mean" };
        let (name, cells) = (&plus.name, &plus.cells);
        lines.push(format!("{of} from {lower} to {upper}: {name} {cells:?} less {scale} times {minus:?}"));
    }
    lines
}
