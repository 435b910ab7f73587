//! The emulation that the tests build: kernels as functions of a library, memory as the host's.
#![allow(unsafe_code, reason = "a library is loaded, called, and given memory by its address")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::driver::{Launch, Outcome};

type Allocate = unsafe extern "C" fn(usize) -> *mut c_void;
type Release = unsafe extern "C" fn(*mut c_void) -> c_int;
type Run = unsafe extern "C" fn(
    *const c_char,
    *const c_uint,
    *const c_uint,
    usize,
    *mut *mut c_void,
    c_int,
    c_int,
    u64,
) -> *const c_char;

/// A loaded library.
#[derive(Debug)]
pub(super) struct Emulated {
    allocate: Allocate,
    release: Release,
    run: Run,
    asked: Asked,
    // What the functions are in.
    _library: libloading::Library,
}

/// What an emulated device was asked for so far.
#[derive(Debug, Default)]
pub struct Asked {
    /// Allocations.
    pub allocations: AtomicU64,
    /// Copies from the host, on the device, and to the host, which waits.
    pub copies: AtomicU64,
    /// Launches: each takes its threads and blocks in another order.
    pub launches: AtomicU64,
}

/// More than any machine has.
const MOST_BYTES: usize = 1 << 46;

/// Shared memory that a block can have, `MOST_SHARED` of `tests/emulation/engine.hpp`.
pub(super) const SHARED_BYTES: u32 = 227 << 10;

/// Blocks that are there at once, of those that have to be: each takes memory for the stacks of its threads.
pub(super) const RESIDENT: u32 = 8;

/// Orders that threads can run in.
const ORDERS: u64 = 3;

impl Emulated {
    /// Loads a library.
    pub(super) fn open(path: &Path) -> Outcome<Self> {
        let failed = |error: libloading::Error| format!("{} is no emulation of a GPU: {error}", path.display());
        // SAFETY: the file is one that the tests of this crate have built: loading it runs nothing but constructors of
        // tables, and its functions have these types (`tests/emulation/library.hpp`). They are used while it is loaded.
        unsafe {
            let library = libloading::Library::new(path).map_err(failed)?;
            let allocate = *library.get::<Allocate>(b"cuda_emulation_allocate\0").map_err(failed)?;
            let release = *library.get::<Release>(b"cuda_emulation_release\0").map_err(failed)?;
            let run = *library.get::<Run>(b"cuda_emulation_launch\0").map_err(failed)?;
            Ok(Self { allocate, release, run, asked: Asked::default(), _library: library })
        }
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(super) fn allocate(&self, bytes: usize) -> Outcome<u64> {
        self.asked.allocations.fetch_add(1, Ordering::Relaxed);
        // SAFETY: any number of bytes that an array can have may be asked for; null says that there are none.
        let data = if bytes > MOST_BYTES { std::ptr::null_mut() } else { unsafe { (self.allocate)(bytes) } };
        if data.is_null() { Err(format!("{bytes} bytes are more memory than can be had")) } else { Ok(data as u64) }
    }

    pub(super) fn release(&self, address: u64) {
        // SAFETY: an address that is not of this memory is not touched.
        unsafe { (self.release)(address as *mut c_void) };
    }

    pub(super) fn upload(&self, to: u64, bytes: &[u8]) -> Outcome<()> {
        self.asked.copies.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `to` begins an allocation of the plan's that holds at least so many bytes, and no kernel runs meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    pub(super) fn download(&self, from: u64, bytes: &mut [u8]) -> Outcome<()> {
        self.asked.copies.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as in `upload`.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    pub(super) fn copy(&self, to: u64, from: u64, bytes: usize) -> Outcome<()> {
        self.asked.copies.fetch_add(1, Ordering::Relaxed);
        // SAFETY: two allocations of so many bytes, which do not overlap, and no kernel runs meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    pub(super) fn launch(&self, launch: Launch<'_>) -> Outcome<()> {
        let Launch { variant, blocks, shared_bytes, cooperative, argument } = launch;
        let name = CString::new(variant.expression()).map_err(|error| error.to_string())?;
        let (grid, block) = ([blocks, 1, 1], [variant.block().0, 1, 1]);
        // (The kernel reads its argument where a struct of eight-byte numbers may lie.)
        let mut words: Vec<u64> = argument.chunks(8).map(word).collect();
        let mut arguments = [words.as_mut_ptr().cast::<c_void>()];
        let number = self.asked.launches.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the kernel takes one struct by value, whose bytes these are; it reads and writes arrays of the plan's, and
        // what it touches outside of them is caught. Text is null, or valid until this thread launches again.
        let message = unsafe {
            let shared = shared_bytes as usize;
            let order = (number % ORDERS) as c_int;
            let run = self.run;
            let cooperative = c_int::from(cooperative);
            run(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                shared,
                arguments.as_mut_ptr(),
                cooperative,
                order,
                number,
            )
        };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(message) };
        Err(text.to_string_lossy().into_owned())
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}
