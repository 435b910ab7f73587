//! `fairlayer train`: two networks for the label of a CSV file, one of them fair.

mod args;
mod compare;
mod data;
mod features;
mod metrics;
mod plot;
mod split;

pub use args::TrainArgs;
