//! Arrays of the caller's own on a GPU, by their address.
#![allow(unsafe_code, reason = "nobody can look behind an address: the caller vouches for it")]

use crate::batch::{Buffer, Place};

impl<T> Buffer<'_, T> {
    /// `len` elements in memory of the CUDA device that the projector is planned for, from this address on. They are read where
    /// they lie, after all work that the device's stream was given before; nothing is copied, and nothing waits.
    ///
    /// All arrays of elements may lie there but the groups of several features and coefficients; levels, bounds of rows and warm
    /// starts in `f64`. If all inputs of a call do, and its problems are of equal size, the call does nothing but launch kernels: it can be captured into a CUDA graph, once it was
    /// made with the same solution and the same gradients before, which allocates their memory.
    ///
    /// # Safety
    /// The address is one of an array of at least so many elements, which the device can read until its stream is through with
    /// the call, or with the last launch of a graph that the call was captured into. Nothing writes to it meanwhile but work that
    /// this stream was given before.
    #[must_use]
    pub unsafe fn cuda(address: u64, len: usize) -> Self {
        Self::at(Place::Cuda { address, len })
    }
}
