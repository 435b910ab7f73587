//! Fairness in torch (feature `tch`): projections as nodes of torch's graph ([`FairnessLayer`]), networks whose answers are fair
//! ([`FairModel`]), and their training ([`Trainer`]).

mod autograd;
mod call;
mod checkpoint;
mod dataset;
mod gaps;
mod history;
mod layer;
mod loader;
mod memory;
mod model;
mod optimiser;
mod place;
mod solved;
mod streams;
mod tensors;
mod trainer;

#[doc = include_str!("../../docs/from_fairness_training.md")]
pub mod from_fairness_training {}

pub use call::Inputs;
pub use checkpoint::load_weights;
pub use dataset::Dataset;
pub use gaps::BatchGaps;
pub use history::{EarlyStopping, Epoch, History, Schedule};
pub use layer::FairnessLayer;
pub use loader::Loader;
pub use memory::has_cuda;
pub use model::{Enforce, FairModel, Predicted};
pub use optimiser::{Optimiser, Rule};
pub use solved::{Projected, Report};
pub use trainer::{Evaluation, Trainer};
