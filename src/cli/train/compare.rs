//! The three networks: trained without constraints, trained with the layer, and the first projected afterwards.

use crate::cli::plan::Limit;
use crate::torch::Epoch;

/// How far apart the groups are, the worst of all comparisons; the smallest ratio where a ratio is held. `None` where there
/// are no two groups to compare.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Gap {
    /// Over all rows.
    pub pooled: Option<f64>,
    /// The mean over the batches.
    pub batch_mean: Option<f64>,
    /// That of the worst batch.
    pub batch_worst: Option<f64>,
}

/// One of the networks on the test rows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Model {
    pub name: &'static str,
    /// The mean cross-entropy.
    pub loss: f64,
    /// At the threshold 0.5.
    pub accuracy: f64,
    /// `None` where all test rows have one label.
    pub auc: Option<f64>,
    pub gap: Gap,
    /// How many of the batches had no fair scores, and were answered with the unfair ones clipped to the bounds.
    pub unsolved_batches: usize,
    /// None of its own if it was not trained by itself.
    pub seconds_per_epoch: Option<f64>,
}

/// How a network was trained.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Training {
    pub name: &'static str,
    pub epochs: Vec<Epoch>,
    /// The index of the epoch whose weights were kept.
    pub kept: usize,
}

/// All that came of it.
pub struct Comparison {
    pub limit: Limit,
    /// Without constraints, with the layer, projected afterwards.
    pub models: [Model; 3],
    /// Without constraints, with the layer.
    pub trainings: [Training; 2],
}

impl Comparison {
    /// What is measured between groups.
    pub fn measure(&self) -> &'static str {
        match self.limit {
            Limit::Ratio { .. } => "ratio",
            Limit::Residual { .. } => "residual",
            Limit::Pairwise { .. } | Limit::Overall { .. } | Limit::Covariance { .. } => "gap",
        }
    }
}
