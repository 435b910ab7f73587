//! Memory of ours as tensors, and torch's stream as ours.
#![allow(unsafe_code, reason = "the border to C++: what crosses it is an address")]

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::error::{Error, Result};

unsafe extern "C" {
    fn fairlayer_wrap(
        address: *mut c_void,
        numbers: i64,
        like: *const C_tensor,
        owner: *mut c_void,
        drop: unsafe extern "C" fn(*mut c_void),
        message: *mut c_char,
        room: usize,
    ) -> *mut C_tensor;
    #[cfg(feature = "cuda")]
    fn fairlayer_stream(of: *const C_tensor, message: *mut c_char, room: usize, stream: *mut *mut c_void) -> bool;
}

/// Room for a message that crosses the border, with its final zero.
const ROOM: usize = 1024;

fn said(message: &[c_char; ROOM]) -> Error {
    // SAFETY: whoever failed left a message that ends with a zero, within the room.
    let message = unsafe { CStr::from_ptr(message.as_ptr()) };
    Error::Torch { problem: message.to_string_lossy().into_owned() }
}

/// So many numbers of `like`'s type, on its device from this address on, as a tensor `[n]` that keeps the owner of the memory.
///
/// # Safety
/// They are there as long as the owner is, and nobody else writes to them.
///
/// # Errors
/// What torch says.
pub(super) unsafe fn wrapped(
    address: u64,
    numbers: usize,
    like: &Tensor,
    owner: impl Send + Sync + 'static,
) -> Result<Tensor> {
    let mut message = [0; ROOM];
    let owner: Box<Owner> = Box::new(Box::new(owner));
    // SAFETY: the tensor is valid for the call; the owner was made by `Box::into_raw`, of the type that `drop_owner` takes it for,
    // which is called once; the message has the room that is said.
    let made = unsafe {
        let (owner, numbers) = (Box::into_raw(owner).cast(), numbers as i64);
        let address = address as *mut c_void;
        fairlayer_wrap(address, numbers, like.as_ptr(), owner, drop_owner, message.as_mut_ptr(), ROOM)
    };
    if made.is_null() {
        return Err(said(&message));
    }
    // SAFETY: a tensor that we own.
    Ok(unsafe { Tensor::from_ptr(made) })
}

/// Anything that is dropped with its tensor, from whatever thread.
type Owner = Box<dyn Send + Sync>;

unsafe extern "C" fn drop_owner(owner: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `wrapped`, and dropped here only.
    drop(unsafe { Box::from_raw(owner.cast::<Owner>()) });
}

/// The stream that torch gives its work to on the device of a tensor: a handle of CUDA's, as a number.
///
/// # Errors
/// What torch says.
#[cfg(feature = "cuda")]
pub(super) fn stream_of(tensor: &Tensor) -> Result<u64> {
    let (mut message, mut stream) = ([0; ROOM], std::ptr::null_mut());
    // SAFETY: the tensor and the place of the answer are valid for the call; the message has the room that is said.
    let found = unsafe { fairlayer_stream(tensor.as_ptr(), message.as_mut_ptr(), ROOM, &mut stream) };
    if found { Ok(stream as u64) } else { Err(said(&message)) }
}

/// Whether torch has an NVIDIA GPU here. Ask this rather than `tch`: linkers leave out libtorch's part for CUDA, since no program names
/// anything of it, and this loads it where it is.
#[cfg(all(feature = "cuda", unix))]
#[must_use]
pub fn has_cuda() -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: loading it registers CUDA with the libtorch that is linked, which is all that its constructors do; it stays for good.
    if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        std::mem::forget(library);
    }
    tch::Cuda::is_available()
}

/// Whether torch has an NVIDIA GPU here.
#[cfg(not(all(feature = "cuda", unix)))]
#[must_use]
pub fn has_cuda() -> bool {
    tch::Cuda::is_available()
}

/// A GPU, on a stream of torch's. (Torch uses the GPU's primary context, and so does `CudaContext::new`.)
///
/// # Errors
/// A driver or NVRTC that is not there, or a GPU that cannot be used.
#[cfg(feature = "cuda")]
pub(super) fn device_of(ordinal: usize, stream: u64) -> Result<crate::backend::Device> {
    use cudarc::driver::CudaContext;
    let context = CudaContext::new(ordinal).map_err(|error| Error::Device {
        device: format!("NVIDIA GPU {ordinal}"),
        problem: format!("it cannot be opened: {error}"),
    })?;
    // SAFETY: a stream of this context's, which torch keeps as long as the process lives. What goes to it goes in order with torch's
    // own work, which is why it is used.
    let stream = unsafe { context.wrap_borrowed_stream(stream as cudarc::driver::sys::CUstream) };
    crate::backend::Device::of_cuda(stream)
}
