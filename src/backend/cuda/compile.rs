//! NVRTC: from a kernel's text to what a GPU loads.
#![allow(unsafe_code, reason = "NVRTC has a C interface")]

use std::ffi::{CStr, CString, c_char};

use cudarc::nvrtc::sys;

use super::cache;
use super::kernels::{HEADERS, Source};

/// What a GPU loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The kernel's name in it.
    pub entry: String,
    /// Machine code; or, if NVRTC is older than the GPU, text with a zero at its end that the driver translates.
    pub code: Vec<u8>,
    /// What the compiler said: registers, shared memory, spills.
    pub log: String,
}

/// What all kernels are compiled with, beside the architecture.
const OPTIONS: [&str; 2] = ["--std=c++17", "--ptxas-options=-v"];

/// Whether NVRTC is here.
///
/// # Errors
/// It is not; the message says what to install.
pub fn find_nvrtc() -> Result<(), String> {
    // SAFETY: this looks for NVRTC's library, and loads it if it is there.
    if unsafe { sys::is_culib_present() } {
        Ok(())
    } else {
        Err("NVRTC, which compiles the kernels, was not found (libnvrtc); install the CUDA toolkit, or `pip install \
             nvidia-cuda-nvrtc` and put its folder lib on the library path"
            .into())
    }
}

fn succeeded(what: &str, result: sys::nvrtcResult) -> Result<(), String> {
    result.result().map_err(|error| format!("NVRTC: {what} failed ({error})"))
}

/// A program of NVRTC, which ends with this.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created, and is not used again.
        unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

/// The architecture to compile for: the GPU's own, or the newest before it that NVRTC knows, and then as text.
fn architecture((major, minor): (u32, u32)) -> Result<String, String> {
    let mut count = 0;
    // SAFETY: NVRTC writes the number of architectures, and then so many numbers.
    let known = unsafe {
        succeeded("asking for architectures", sys::nvrtcGetNumSupportedArchs(&mut count))?;
        let mut known = vec![0; count as usize];
        succeeded("asking for architectures", sys::nvrtcGetSupportedArchs(known.as_mut_ptr()))?;
        known
    };
    let wanted = (10 * major + minor) as i32;
    let newest = known.into_iter().filter(|known| *known <= wanted).max();
    let newest = newest.ok_or(format!("NVRTC does not compile for compute capability {major}.{minor}"))?;
    Ok(format!("{}_{newest}", if newest == wanted { "sm" } else { "compute" }))
}

fn version() -> Result<String, String> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC writes two numbers.
    succeeded("asking for its version", unsafe { sys::nvrtcVersion(&mut major, &mut minor) })?;
    Ok(format!("{major}.{minor}"))
}

impl Image {
    /// A kernel of a file for a GPU: from the cache on disk, or compiled, and kept there.
    pub(super) fn of(source: Source, expression: &str, capability: (u32, u32)) -> Result<Self, String> {
        let architecture = architecture(capability)?;
        let texts: Vec<&str> = HEADERS.iter().chain([&source]).map(|source| source.text).collect();
        let about = [expression, &architecture, &version()?, env!("CARGO_PKG_VERSION"), &OPTIONS.join(" ")].join("; ");
        let key = cache::Key::new(about, &texts);
        if let Some((entry, code)) = cache::load(&key) {
            return Ok(Self { entry, code, log: String::new() });
        }
        let image = compile_for(source, expression, &architecture)?;
        cache::store(&key, &image.entry, &image.code);
        Ok(image)
    }
}

/// Compiles a kernel of a file for a compute capability.
///
/// # Errors
/// NVRTC is missing, or does not compile it; the message is the compiler's.
pub fn compile(source: Source, expression: &str, capability: (u32, u32)) -> Result<Image, String> {
    find_nvrtc()?;
    compile_for(source, expression, &architecture(capability)?)
}

fn compile_for(source: Source, expression: &str, architecture: &str) -> Result<Image, String> {
    let c = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (text, name, expression) = (c(source.text)?, c(source.name)?, c(expression)?);
    let headers = HEADERS.iter().map(|header| c(header.text)).collect::<Result<Vec<_>, _>>()?;
    let names = HEADERS.iter().map(|header| c(header.name)).collect::<Result<Vec<_>, _>>()?;
    let options = OPTIONS.iter().map(|option| c(option)).chain([c(&format!("--gpu-architecture={architecture}"))]);
    let options = options.collect::<Result<Vec<_>, _>>()?;
    let pointers = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<*const c_char>>();
    let (header_texts, header_names, option_texts) = (pointers(&headers), pointers(&names), pointers(&options));
    let mut program = Program(std::ptr::null_mut());
    // SAFETY: all texts end with a zero and live until the end; numbers are those of the arrays.
    unsafe {
        succeeded(
            "taking a kernel's text",
            sys::nvrtcCreateProgram(
                &mut program.0,
                text.as_ptr(),
                name.as_ptr(),
                header_texts.len() as i32,
                header_texts.as_ptr(),
                header_names.as_ptr(),
            ),
        )?;
        succeeded("taking a kernel's name", sys::nvrtcAddNameExpression(program.0, expression.as_ptr()))?;
        let compiled = sys::nvrtcCompileProgram(program.0, option_texts.len() as i32, option_texts.as_ptr());
        let log =
            text_of(|size| sys::nvrtcGetProgramLogSize(program.0, size), |to| sys::nvrtcGetProgramLog(program.0, to))?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        succeeded("compiling", compiled).map_err(|error| format!("{error}:\n{log}"))?;
        let mut entry = std::ptr::null();
        succeeded("naming a kernel", sys::nvrtcGetLoweredName(program.0, expression.as_ptr(), &mut entry))?;
        let entry = CStr::from_ptr(entry).to_string_lossy().into_owned();
        let code = if architecture.starts_with("sm") {
            text_of(|size| sys::nvrtcGetCUBINSize(program.0, size), |to| sys::nvrtcGetCUBIN(program.0, to))?
        } else {
            text_of(|size| sys::nvrtcGetPTXSize(program.0, size), |to| sys::nvrtcGetPTX(program.0, to))?
        };
        Ok(Image { entry, code, log })
    }
}

/// What NVRTC writes where it is told, after it said how much.
fn text_of(
    size: impl Fn(*mut usize) -> sys::nvrtcResult,
    write: impl Fn(*mut c_char) -> sys::nvrtcResult,
) -> Result<Vec<u8>, String> {
    let mut bytes = 0;
    succeeded("asking for a size", size(&mut bytes))?;
    let mut text = vec![0_u8; bytes];
    succeeded("asking for a result", write(text.as_mut_ptr().cast()))?;
    Ok(text)
}
