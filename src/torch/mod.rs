//! A fairness layer for torch (feature `tch`): projections as nodes of torch's graph.

mod autograd;
mod call;
mod layer;
mod tensors;

pub use call::Inputs;
pub use layer::{FairnessLayer, Projected};
