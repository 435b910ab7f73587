//! NVIDIA GPUs: `kernels/` compiled by NVRTC and run through the driver. The tests run the very same files on the CPU, by
//! the same launches.

mod answers;
mod cache;
mod calls;
mod compile;
mod device;
mod driver;
mod emulated;
mod inputs;
mod kernels;
mod memory;
mod plan;
mod real;
mod short_cut;
mod tables;
mod ways;

pub(crate) use answers::{Answers, Slopes};
pub use device::CudaDevice;
pub(crate) use device::list;
pub(crate) use plan::CudaPlan;

/// For the tests of the kernels' texts.
#[doc(hidden)]
pub mod texts {
    pub use super::calls::{Layout, layouts};
    pub use super::compile::{Image, compile, find_nvrtc};
    pub use super::kernels::{SOURCES, Source, VariantText, all_variants};
}
