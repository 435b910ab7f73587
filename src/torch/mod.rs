//! A fairness layer for torch (feature `tch`): projections as nodes of torch's graph.

mod autograd;
mod layer;
mod tensors;

pub use layer::{FairnessLayer, Inputs, Projected};
