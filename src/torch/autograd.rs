//! Functions of a tensor whose backward pass is a Rust closure, as nodes of torch's graph.

#![allow(unsafe_code, reason = "the border to C++: what crosses it is an address")]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::error::{Error, Result};

/// From the gradient to the output to that to the input, both of the output's shape.
type Pull = dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync;

type PullFunction = unsafe extern "C" fn(*mut c_void, *const C_tensor, *mut c_char, usize) -> *mut C_tensor;

unsafe extern "C" {
    fn fairlayer_node(
        input: *const C_tensor,
        output: *const C_tensor,
        closure: *mut c_void,
        pull: PullFunction,
        drop: unsafe extern "C" fn(*mut c_void),
        message: *mut c_char,
        room: usize,
    ) -> *mut C_tensor;
}

/// Room for a message that crosses the border, with its final zero.
const ROOM: usize = 1024;

/// `output`, computed outside of the graph, as a function of `input` with this backward pass. An error in it, or a panic, is an
/// error of torch's backward call. The closure lives as long as the graph.
///
/// # Errors
/// What torch says.
pub(super) fn node(
    input: &Tensor,
    output: &Tensor,
    pull: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let closure: Box<Box<Pull>> = Box::new(Box::new(pull));
    let mut message = [0; ROOM];
    // SAFETY: the tensors are valid for the call; the closure was made by `Box::into_raw`, of the type that both functions
    // take it for, and is dropped once, by `drop_closure`; the message has the room that is said.
    let made = unsafe {
        let closure = Box::into_raw(closure).cast();
        fairlayer_node(input.as_ptr(), output.as_ptr(), closure, pull_back, drop_closure, message.as_mut_ptr(), ROOM)
    };
    if made.is_null() {
        // SAFETY: whoever failed left a message that ends with a zero, within the room.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        return Err(Error::Torch { problem: message.to_string_lossy().into_owned() });
    }
    // SAFETY: a tensor that we own.
    Ok(unsafe { Tensor::from_ptr(made) })
}

unsafe extern "C" fn pull_back(
    closure: *mut c_void,
    gradient: *const C_tensor,
    message: *mut c_char,
    room: usize,
) -> *mut C_tensor {
    // SAFETY: the closure of `node`, which the graph keeps; torch may call it from several threads at once, and it is `Sync`.
    let pull = unsafe { &*closure.cast::<Box<Pull>>() };
    let pulled = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: a tensor that is valid for the call; the clone is another owner of it.
        let gradient = unsafe { Tensor::clone_from_ptr(gradient.cast_mut()) };
        tch::no_grad(|| pull(&gradient))
    }));
    let problem = match pulled {
        Ok(Ok(mut tensor)) => {
            let pointer = tensor.as_mut_ptr();
            // (The caller owns it.)
            std::mem::forget(tensor);
            return pointer;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the backward pass of a projection panicked; this is a bug of fairlayer".to_owned(),
    };
    let length = problem.len().min(room.saturating_sub(1));
    // SAFETY: the caller says that there is this room, and the text ends within it.
    unsafe {
        std::ptr::copy_nonoverlapping(problem.as_ptr(), message.cast(), length);
        *message.add(length) = 0;
    }
    null_mut()
}

unsafe extern "C" fn drop_closure(closure: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `node`, and dropped here only.
    drop(unsafe { Box::from_raw(closure.cast::<Box<Pull>>()) });
}
