//! What was learnt, epoch by epoch; and what follows from that for the next: how fast to learn, and whether to stop.

use serde::{Deserialize, Serialize};

/// An epoch of a training. Losses are means over the samples. A gap is the largest of all rows (for a ratio the smallest), in
/// units of the predictions, or none where no two groups were there to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Epoch {
    /// The learning rate.
    pub learning_rate: f64,
    /// The loss of the training batches, each before its step.
    pub train_loss: f64,
    /// The gap of all training predictions of the epoch, pooled.
    pub train_gap: Option<f64>,
    /// The worst gap that a training batch had by itself.
    pub train_batch_gap: Option<f64>,
    /// By how much the worst training batch was beyond its limit.
    pub train_batch_excess: f64,
    /// How many training batches lacked a group that the rows compare: they were made fair as to the others.
    pub incomplete_batches: usize,
    /// How many training batches had no answer, such as infeasible ones: they were answered by clip(z), and taught nothing.
    pub unsolved_batches: usize,
    /// The loss of the validation samples.
    pub valid_loss: Option<f64>,
    /// The gap of all validation predictions, pooled.
    pub valid_gap: Option<f64>,
    /// How long training and validation took.
    pub seconds: f64,
}

/// The epochs of a training, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// One after the other, from epoch 0.
    pub epochs: Vec<Epoch>,
}

/// When to stop before the last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// After how many epochs without a better validation loss.
    pub patience: usize,
    /// By how much a loss must be lower to be better.
    pub delta: f64,
}

/// How the learning rate changes from epoch to epoch.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Schedule {
    /// Not at all.
    #[default]
    Constant,
    /// Multiplied by a factor after every so many epochs.
    Step {
        /// How many.
        every: usize,
        /// The factor.
        factor: f64,
    },
    /// Half a cosine from the full rate to 0, over so many epochs; 0 thereafter.
    Cosine {
        /// How many.
        epochs: usize,
    },
    /// Multiplied by a factor whenever the loss (of validation, or of training where there is none) was not better for more
    /// than so many epochs.
    Plateau {
        /// How many.
        patience: usize,
        /// The factor.
        factor: f64,
    },
}

impl Schedule {
    /// The rate of the epoch behind this history, as a part of the first one. (It is a function of nothing else, so that a
    /// training that goes on has the same as one that was never interrupted.)
    pub(super) fn factor(&self, history: &History) -> f64 {
        let epoch = history.epochs.len();
        match *self {
            Self::Constant => 1.0,
            Self::Step { every, factor } => factor.powi((epoch / every.max(1)) as i32),
            Self::Cosine { epochs } => {
                let part = (epoch as f64 / epochs.max(1) as f64).min(1.0);
                0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
            Self::Plateau { patience, factor } => {
                let (mut best, mut waited, mut cuts) = (f64::INFINITY, 0, 0);
                for loss in history.epochs.iter().map(Epoch::judged_by) {
                    (best, waited) = if loss < best { (loss, 0) } else { (best, waited + 1) };
                    if waited > patience {
                        (waited, cuts) = (0, cuts + 1);
                    }
                }
                factor.powi(cuts)
            }
        }
    }
}

impl Epoch {
    /// The loss of validation, or of training where there is none.
    fn judged_by(&self) -> f64 {
        self.valid_loss.unwrap_or(self.train_loss)
    }
}

impl History {
    /// The epoch with the best validation loss so far: one that is better than every best one before by more than `delta`.
    pub fn best(&self, delta: f64) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (epoch, loss) in
            self.epochs.iter().enumerate().filter_map(|(index, epoch)| Some((index, epoch.valid_loss?)))
        {
            if best.is_none_or(|(_, least)| loss < least - delta) {
                best = Some((epoch, loss));
            }
        }
        best.map(|(epoch, _)| epoch)
    }

    /// Whether patience has come to its end.
    pub(super) fn is_over(&self, stopping: EarlyStopping) -> bool {
        self.best(stopping.delta).is_some_and(|best| self.epochs.len() - 1 - best >= stopping.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(losses: &[f64]) -> History {
        let epoch = |&loss: &f64| Epoch {
            learning_rate: 1.0,
            train_loss: 0.0,
            train_gap: None,
            train_batch_gap: None,
            train_batch_excess: 0.0,
            incomplete_batches: 0,
            unsolved_batches: 0,
            valid_loss: Some(loss),
            valid_gap: None,
            seconds: 0.0,
        };
        History { epochs: losses.iter().map(epoch).collect() }
    }

    #[test]
    fn the_best_epoch_and_the_end_of_patience() {
        let losses = [1.0, 0.5, 0.495, 0.6, 0.4, 0.7];
        assert_eq!(history(&losses).best(0.0), Some(4));
        assert_eq!(history(&losses[..4]).best(0.01), Some(1));
        assert_eq!(history(&[]).best(0.0), None);
        let stopping = |patience| EarlyStopping { patience, delta: 0.01 };
        assert!(history(&losses[..4]).is_over(stopping(2)) && !history(&losses[..4]).is_over(stopping(3)));
        assert!(!history(&losses[..5]).is_over(stopping(1)) && !history(&[]).is_over(stopping(1)));
    }

    #[test]
    fn rates_follow_the_history() {
        let at = |schedule: Schedule, losses: &[f64]| schedule.factor(&history(losses));
        assert_eq!(at(Schedule::Step { every: 2, factor: 0.1 }, &[0.0; 3]), 0.1);
        assert_eq!(at(Schedule::Cosine { epochs: 4 }, &[]), 1.0);
        assert!((at(Schedule::Cosine { epochs: 4 }, &[0.0; 2]) - 0.5).abs() < 1e-15);
        assert!(at(Schedule::Cosine { epochs: 4 }, &[0.0; 9]).abs() < 1e-15);
        let plateau = Schedule::Plateau { patience: 1, factor: 0.5 };
        assert_eq!(at(plateau, &[1.0, 1.0]), 1.0);
        assert_eq!(at(plateau, &[1.0, 1.0, 1.0]), 0.5);
        assert_eq!(at(plateau, &[1.0, 1.0, 1.0, 0.9, 0.9, 0.8]), 0.5);
        assert_eq!(at(plateau, &[1.0, 1.0, 1.0, 1.0, 1.0]), 0.25);
    }
}
