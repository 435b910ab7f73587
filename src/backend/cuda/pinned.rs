//! Host memory that a GPU reaches by itself.
#![allow(unsafe_code, reason = "the driver allocates it, and copies behind the back of the host")]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError, result};

use super::driver::Outcome;
use super::staging::Slot;

/// A piece of pinned memory, for copies on one stream.
#[derive(Debug)]
pub(super) struct Pinned {
    memory: *mut u8,
    bytes: usize,
    /// What comes after the last copy.
    done: CudaEvent,
    stream: Arc<CudaStream>,
}

// SAFETY: memory of its own, which any thread may use that has it.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(super) fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self, DriverError> {
        // (An event without timing.)
        let done = stream.context().new_event(None)?;
        // SAFETY: the event's context is bound. The memory is filled before anything reads it.
        let memory = unsafe {
            let memory = result::malloc_host(bytes, 0)?.cast::<u8>();
            memory.write_bytes(0, bytes);
            memory
        };
        Ok(Self { memory, bytes, done, stream: stream.clone() })
    }
}

fn failed(what: &str) -> impl Fn(DriverError) -> String {
    move |error| format!("{what}: {error}")
}

impl Slot for Pinned {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: it was allocated and filled; `Staging` asks for it only when no copy is under way.
        unsafe { std::slice::from_raw_parts_mut(self.memory, self.bytes) }
    }

    fn send(&mut self, to: u64, count: usize) -> Outcome<()> {
        let stream = self.stream.cu_stream();
        // SAFETY: the allocation at `to` holds at least so many bytes; these stay what they are until `done`.
        let copied = unsafe { result::memcpy_htod_async(to, &self.bytes()[..count], stream) };
        copied.and_then(|()| self.done.record(&self.stream)).map_err(failed("an upload failed"))
    }

    fn receive(&mut self, from: u64, count: usize) -> Outcome<()> {
        let stream = self.stream.cu_stream();
        // SAFETY: the allocation at `from` holds at least so many bytes; nobody looks at these before `done`.
        let copied = unsafe { result::memcpy_dtoh_async(&mut self.bytes()[..count], from, stream) };
        copied.and_then(|()| self.done.record(&self.stream)).map_err(failed("a download failed"))
    }

    fn wait(&mut self) -> Outcome<()> {
        self.done.synchronize().map_err(failed("a copy failed"))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // (The last copy is waited for; of a context that is lost there is nothing to free.)
        if self.done.synchronize().is_ok() {
            // SAFETY: memory of ours that nothing uses from here on.
            let _ = unsafe { result::free_host(self.memory.cast::<c_void>()) };
        }
    }
}
