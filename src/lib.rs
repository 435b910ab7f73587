//! Exact projection of model outputs onto the set of fair outputs, many problems at a time, with gradients.
//!
//! # The problem
//! For each problem of a [`Batch`], with predictions `z` and sample weights `w`:
//!
//! ```text
//! minimise over y    1/2 sum_i w_i (y_i - z_i)^2
//! subject to         lo <= y_i <= hi                            bounds: scalars or one per element, infinite allowed
//!                    max_g mean(g) - min_g mean(g) <= epsilon   a spread: the means of k groups lie close together
//!                    lower <= mean(U) - scale mean(V) <= upper  a contrast: one mean, or one against another
//!                    lower <= sum_i a_i y_i <= upper            a dense row: a coefficient for every sample
//! ```
//!
//! A mean is the `w`-weighted mean of `y` over a union of *cells*, and every sample lies in one cell (its groups, times a
//! stratum such as its label). All samples of a cell move by one shift: `y_i = clip(z_i - shift[cell(i)], lo, hi)`. The
//! shifts come from a proximal Newton method on the dual, which has one multiplier a group and not one a pair of groups;
//! its stop test proves the answer, in `f64`, on the numbers as they are stored.
//!
//! # Quick start
//! ```
//! use fairlayer::*;
//!
//! // Once: what is fair, for whom, on which device, and how large the batches get.
//! let people = Population::of_features([SensitiveFeature::new("sex", 2), SensitiveFeature::new("age", 3)]);
//! let set = DemographicParity::within(0.02).constraints(&people)?;
//! let mut projector = Projector::<f32>::plan(Device::cpu(), &set, Capacities::single(6), Settings::default())?;
//! let (mut solution, mut gradients) = (projector.solution(), projector.gradients(Wanted::default()));
//!
//! // Many times: predictions to fair predictions, and a gradient to `y` back to one to the predictions.
//! let scores = [0.9_f32, 0.7, 0.6, 0.4, 0.3, 0.2];
//! let (sex, age) = ([0_u8, 0, 0, 1, 1, 1], [0_u8, 1, 2, 0, 1, 2]);
//! let groups = [Buffer::from(&sex), Buffer::from(&age)];
//! let batch = Batch::single(&scores).groups(&groups).bounds(0.0, 1.0);
//! projector.project_into(&batch, &mut solution)?;
//! let fair = solution.read()?;
//! assert_eq!(fair.outcomes[0].status, Status::Solved);
//! let mean = |sex: usize| fair.y[3 * sex..][..3].iter().map(|y| f64::from(*y)).sum::<f64>() / 3.0;
//! assert!((mean(0) - mean(1)).abs() <= 0.02);
//!
//! projector.vjp(&batch, &solution, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], &mut gradients)?;
//! assert_eq!(gradients.read()?.predictions.len(), 6);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Where to look
//! | for | see |
//! |---|---|
//! | definitions of fairness, and your own | [`Criterion`] and the module [`criterion`]; [`Population`], [`SensitiveFeature`], [`ControlFeature`] |
//! | rows without a criterion | [`ConstraintSet`], [`Spread`], [`Contrast`], [`DenseRow`], [`CellLayout`], [`CellMask`] |
//! | the inputs of a call: predictions, cells or groups, bounds, weights, labels, coefficients, epsilon per problem | [`Batch`], [`Buffer`], [`Offsets`] |
//! | planning and calling | [`Projector`], [`Capacities`], [`Settings`], [`Device`] |
//! | answers | [`Solution`], [`SolutionView`], [`Outcome`], [`Status`], [`ClampState`] |
//! | gradients | [`Gradients`], [`GradientsView`], [`Wanted`] |
//! | number types: `f16`, `bf16`, `f32`, `f64` | [`Storage`], [`Dtype`] |
//! | what answers come to, over any number of batches | [`Totals`], [`PooledGap`] |
//! | small batches that are answered as they come | the module [`streaming`]: [`Streaming`], [`StreamSettings`], [`StreamState`] |
//! | how fair decisions are, with fairlearn's metrics | the module [`audit`] |
//!
//! A problem without a solution, or with a NaN in it, is not an error: it has a [`Status`], and its neighbours are
//! untouched. [`Error`] is for misuse: wrong shapes, missing inputs, more data than was planned for.
//!
//! # Features
//! | feature | default | what it adds |
//! |---|---|---|
//! | `cuda` | yes | NVIDIA GPUs: `Device::cuda` |
//! | `wgpu` | yes | GPUs of any vendor, through Vulkan, Metal or DirectX 12: `Device::wgpu` |
//! | `tch` | no | torch: `torch::FairnessLayer`, `torch::Trainer`; with `cli` the command `train`; needs libtorch to build |
//! | `serde` | with `cli` | [`StreamState`] can be written and read |
//! | `cli` | yes | the program `fairlayer` and what only it needs |
//!
//! `default-features = false` is a lean library.
//!
//! # Limits
//! * GPUs take up to 32 cells and 32 rows of any kind. They compute in `f32`, whatever the type but `f64`, which CUDA takes and
//!   wgpu does not.
//! * Dense rows cost a pass over `[m, n]` coefficients where rows over cells cost one over `[n]`: what can be said with
//!   groups, say with groups.
//! * At most [`MAX_CELLS`] cells: the product of the numbers of groups of all features and of strata. Beyond that, merge
//!   rare groups, or split the batch into problems by stratum.
//! * The gaps are between mean *scores*. Decisions made of the scores by a threshold have gaps of their own, which
//!   [`audit`] measures.
//! * Group ids, and labels where the criterion is about labels, are needed wherever projection takes place.
//! * A ratio ([`Parity::Ratio`]) needs lower bounds of at least 0.
//! * [`Projector::vjp`] can not be differentiated itself.

pub mod audit;
mod backend;
mod batch;
mod cells;
mod constraints;
pub mod criterion;
mod error;
#[cfg(feature = "wgpu")]
mod params;
mod projector;
mod reference;
mod settings;
mod solution;
mod storage;
pub mod streaming;
mod sum;
#[cfg(feature = "tch")]
pub mod torch;
mod totals;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

#[cfg(feature = "cuda")]
pub use backend::cuda::CudaDevice;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub use backend::cuda::texts as cuda_texts;
#[cfg(feature = "wgpu")]
pub use backend::wgpu::WgpuDevice;
pub use backend::{Device, DeviceInfo, devices, devices_of};
pub use batch::{Batch, Bound, Buffer, Capacities, Offsets, Place, Reals, Sharing};
pub use cells::{CellLayout, CellMask, ControlFeature, MAX_CELLS, Population, SensitiveFeature, Strata};
pub use constraints::{ConstraintSet, Contrast, DenseRow, Spread, SpreadLimit, Union};
pub use criterion::{
    Bins, Budget, Calibration, ConditionalParity, Covariance, Criterion, DemographicParity, EqualizedOdds,
    FalsePositiveRateParity, MeanResidual, Parity, TruePositiveRateParity,
};
pub use error::{Error, Result};
pub use projector::Projector;
pub use settings::{AdmmSettings, Infeasible, Method, Settings};
pub use solution::{ClampState, Gradients, GradientsView, Outcome, Solution, SolutionView, Status, Wanted};
pub use storage::{Arithmetic, Dtype, Storage};
pub use streaming::{Answered, StreamRule, StreamSettings, StreamState, Streaming};
pub use totals::{PooledGap, Totals};

#[cfg(feature = "cuda")]
pub use cudarc;
pub use half::{bf16, f16};
#[cfg(feature = "wgpu")]
pub use wgpu;

/// The examples of README.md are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
