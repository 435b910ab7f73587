//! GPUs of any vendor through wgpu: the kernels of `shaders/`, compiled at run time.
//!
//! Problems of a call are sorted into classes by their size, and every class is one dispatch; all of a call is one
//! submission, and nothing waits for it but `Solution::read` and `Gradients::read`. A batch whose arrays exceed what the
//! device can bind is cut into slabs of whole problems, still in one submission.

mod admm;
mod answers;
mod backward;
mod bindings;
mod device;
mod dispatch;
mod forward;
mod inputs;
mod large;
mod memory;
mod plan;
mod shaders;
mod sizes;
mod slabs;
mod tables;

pub(crate) use answers::{Answers, Slopes};
pub use device::WgpuDevice;
pub(crate) use device::{Found, adapters};
pub(crate) use plan::WgpuPlan;
