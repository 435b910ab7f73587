//! A GPU, through the driver's own interface.
#![allow(unsafe_code, reason = "the driver takes addresses, and runs what it is given")]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use super::compile::{Image, find_nvrtc};
use super::driver::{Launch, Outcome};
use super::kernels::Variant;
use super::pinned::Pinned;
use super::staging::Staging;

/// A stream of a GPU, with what was compiled for it.
#[derive(Debug)]
pub(super) struct Real {
    stream: Arc<CudaStream>,
    /// Major and minor.
    capability: (u32, u32),
    /// Bytes of shared memory that a block can have.
    shared_bytes: i32,
    functions: Mutex<HashMap<Variant, Function>>,
    /// What larger arrays are copied through.
    staging: Mutex<Staging<Pinned>>,
}

/// Pieces that larger arrays are copied in, and how many are under way at a time.
const PIECE: usize = 2 << 20;
const PIECES: usize = 8;
/// What the driver takes along with the command to copy it, so that it need not be pinned.
const SMALL: usize = 64 << 10;

/// A function of a loaded module. Modules stay loaded as long as their context.
#[derive(Clone, Copy, Debug)]
struct Function(sys::CUfunction);

// SAFETY: a handle, which the driver lets any thread use whose context is current.
unsafe impl Send for Function {}

fn failed(what: &str) -> impl Fn(DriverError) -> String {
    move |error| format!("{what}: {error}")
}

/// How many GPUs there are; an error if there is no driver.
pub(super) fn count() -> Outcome<usize> {
    // SAFETY: this looks for the driver's library, and loads it if it is there.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no NVIDIA driver here (libcuda was not found); install one, or use wgpu or cpu".into());
    }
    let count = CudaContext::device_count().map_err(failed("the NVIDIA driver does not work"))?;
    if count > 0 { Ok(count as usize) } else { Err("the NVIDIA driver knows no GPU".into()) }
}

/// Name and properties of a GPU.
pub(super) fn describe(ordinal: usize) -> Outcome<(String, String)> {
    let of_device = || -> Result<(String, String), DriverError> {
        let device = result::device::get(ordinal as i32)?;
        // SAFETY: the device is there.
        let (major, minor, memory) = unsafe {
            let attribute = |which| result::device::get_attribute(device, which);
            let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            (major, minor, result::device::total_mem(device)?)
        };
        let properties = format!("compute capability {major}.{minor}; {} MiB; f16, bf16, f32, f64", memory >> 20);
        Ok((result::device::get_name(device)?, properties))
    };
    of_device().map_err(failed("the GPU cannot be asked"))
}

impl Real {
    /// A GPU, with a stream of its own.
    pub(super) fn open(ordinal: usize) -> Outcome<Self> {
        let context = CudaContext::new(ordinal).map_err(failed("the GPU cannot be opened"))?;
        let stream = context.new_stream().map_err(failed("the GPU has no stream"))?;
        Self::on(stream)
    }

    /// A stream of the caller's.
    pub(super) fn on(stream: Arc<CudaStream>) -> Outcome<Self> {
        find_nvrtc()?;
        let capability = stream.context().compute_capability().map_err(failed("the GPU cannot be asked"))?;
        let capability = (capability.0.unsigned_abs(), capability.1.unsigned_abs());
        if capability < (8, 0) {
            let (major, minor) = capability;
            return Err(format!("its compute capability is {major}.{minor}, and 8.0 is needed; use wgpu or cpu"));
        }
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let shared_bytes = stream.context().attribute(attribute).map_err(failed("the GPU cannot be asked"))?;
        let slots = (0..PIECES).map(|_| Pinned::new(&stream, PIECE)).collect::<Result<Vec<Pinned>, DriverError>>();
        let staging = Mutex::new(Staging::new(slots.map_err(failed("there is no pinned memory"))?));
        Ok(Self { stream, capability, shared_bytes, functions: Mutex::default(), staging })
    }

    /// Makes the GPU's context that of the calling thread.
    fn bind(&self) -> Outcome<()> {
        self.stream.context().bind_to_thread().map_err(failed("the GPU's context cannot be used"))
    }

    /// The same, for what cannot be part of a CUDA graph: a capture would be lost by it.
    fn bind_outside_of_graphs(&self, what: &str) -> Outcome<()> {
        self.bind()?;
        let status = self.stream.capture_status().map_err(failed("the stream cannot be asked"))?;
        match status {
            sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE => Ok(()),
            _ => Err(format!(
                "{what} cannot be captured into a graph: have all inputs on the device (Buffer::cuda) and problems of \
                 equal size, and make the call once before with the same solution and gradients"
            )),
        }
    }

    pub(super) fn allocate(&self, bytes: usize) -> Outcome<u64> {
        self.bind_outside_of_graphs("an allocation")?;
        // SAFETY: the context is bound; nothing reads the memory before it is written.
        unsafe { result::malloc_sync(bytes.max(1)) }
            .map_err(|error| format!("{bytes} bytes are more GPU memory than can be had ({error})"))
    }

    pub(super) fn release(&self, address: u64) {
        if self.bind().is_ok() {
            // SAFETY: an allocation of ours that nothing uses from here on; the driver waits for what still does. (Of a
            // context that is lost there is nothing to free.)
            let _ = unsafe { result::free_sync(address) };
        }
    }

    pub(super) fn upload(&self, to: u64, bytes: &[u8]) -> Outcome<()> {
        self.bind_outside_of_graphs("an upload")?;
        if bytes.len() > SMALL {
            return self.staging.lock().unwrap_or_else(PoisonError::into_inner).upload(to, bytes);
        }
        // SAFETY: the allocation holds at least so many bytes. They are pageable, so that the driver has taken its copy when
        // it returns.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(failed("an upload failed"))
    }

    pub(super) fn download(&self, from: u64, bytes: &mut [u8]) -> Outcome<()> {
        self.bind_outside_of_graphs("a download")?;
        if bytes.len() > SMALL {
            return self.staging.lock().unwrap_or_else(PoisonError::into_inner).download(from, bytes);
        }
        // SAFETY: the allocation holds at least so many bytes, and they stay where they are until the stream is done.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) };
        let done = self.stream.synchronize();
        copied.and(done).map_err(failed("a download failed"))
    }

    pub(super) fn copy(&self, to: u64, from: u64, bytes: usize) -> Outcome<()> {
        self.bind()?;
        // SAFETY: both allocations hold at least so many bytes.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.map_err(failed("a copy failed"))
    }

    pub(super) fn load(&self, variant: Variant) -> Outcome<()> {
        self.function(variant).map(|_| ())
    }

    /// A variant's function, compiled and loaded when it is first asked for.
    fn function(&self, variant: Variant) -> Outcome<Function> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&variant) {
            return Ok(*function);
        }
        self.bind()?;
        let image = Image::of(variant.kernel.source(), &variant.expression(), self.capability)?;
        let name = CString::new(image.entry).map_err(|error| error.to_string())?;
        let loaded = || -> Result<sys::CUfunction, DriverError> {
            // SAFETY: the image is what NVRTC made, with the zero at its end that text needs, and has a function of this
            // name.
            unsafe {
                let module = result::module::load_data(image.code.as_ptr().cast())?;
                let function = result::module::get_function(module, name)?;
                let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                result::function::set_function_attribute(function, attribute, self.shared_bytes)?;
                Ok(function)
            }
        };
        let function = Function(loaded().map_err(failed("a kernel cannot be loaded"))?);
        functions.insert(variant, function);
        Ok(function)
    }

    pub(super) fn shared_bytes(&self) -> u32 {
        self.shared_bytes.unsigned_abs()
    }

    /// Blocks that can be there at once.
    pub(super) fn resident(&self, variant: Variant, shared_bytes: u32) -> Outcome<u32> {
        let Function(function) = self.function(variant)?;
        self.bind()?;
        let threads = variant.block().0 as i32;
        // SAFETY: the function is there.
        let of_one =
            unsafe { result::occupancy::max_active_block_per_multiprocessor(function, threads, shared_bytes as usize) };
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = self.stream.context().attribute(attribute);
        let both = of_one.and_then(|of_one| Ok(of_one * multiprocessors?));
        both.map(|blocks| blocks.unsigned_abs().max(1)).map_err(failed("the GPU cannot be asked"))
    }

    pub(super) fn launch(&self, launch: Launch<'_>) -> Outcome<()> {
        let Launch { variant, blocks, shared_bytes, cooperative, argument } = launch;
        let Function(function) = self.function(variant)?;
        self.bind()?;
        let mut arguments = [argument.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the kernel takes one struct by value, whose bytes the driver copies before it returns. The arrays that it
        // names are the plan's and the caller's, which stay until the stream is done.
        unsafe {
            let launch = if cooperative { result::launch_cooperative_kernel } else { result::launch_kernel };
            let (grid, block) = ((blocks, 1, 1), (variant.block().0, 1, 1));
            launch(function, grid, block, shared_bytes, self.stream.cu_stream(), &mut arguments)
        }
        .map_err(failed("a kernel cannot be launched"))
    }
}
