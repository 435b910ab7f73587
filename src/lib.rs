//! Fair projection.

pub mod audit;
mod backend;
mod batch;
mod cells;
mod constraints;
pub mod criterion;
mod error;
mod projector;
mod reference;
mod settings;
mod solution;
mod storage;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

pub use backend::{Device, DeviceInfo, devices};
pub use batch::{Batch, Bound, Buffer, Capacities, Offsets, Place, Reals, Sharing};
pub use cells::{CellLayout, CellMask, MAX_CELLS, Population, SensitiveFeature, Strata};
pub use constraints::{ConstraintSet, Contrast, Spread, SpreadLimit, Union};
pub use criterion::{
    ConditionalParity, Criterion, DemographicParity, EqualizedOdds, FalsePositiveRateParity, MeanResidual, Parity,
    TruePositiveRateParity,
};
pub use error::{Error, Result};
pub use projector::Projector;
pub use settings::Settings;
pub use solution::{ClampState, Gradients, GradientsView, Outcome, Solution, SolutionView, Status, Wanted};
pub use storage::{Arithmetic, Dtype, Storage};

pub use half::{bf16, f16};
