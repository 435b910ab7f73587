//! Which devices a test body runs on.

use fairlayer::{Device, Dtype};
use std::io::Write;

/// The device of a backend, or why it cannot be had. One that has kernels to compile is opened once for all tests.
pub fn open(backend: &str) -> Result<Device, String> {
    match backend {
        "cpu" => return Ok(Device::cpu()),
        // (Where even small problems are cut into tiles, as large ones are.)
        #[cfg(feature = "wgpu")]
        "wgpu_tiles" => {
            return open("wgpu").map(|device| match device {
                Device::Wgpu(opened) => Device::Wgpu(opened.in_tiles(30, 32, 128)),
                other => other,
            });
        }
        #[cfg(feature = "wgpu")]
        "wgpu" => {
            static OPENED: std::sync::OnceLock<Result<Device, String>> = std::sync::OnceLock::new();
            return OPENED.get_or_init(|| Device::wgpu().map_err(|error| error.to_string())).clone();
        }
        #[cfg(feature = "cuda")]
        "cuda" if fairlayer::devices_of("cuda").iter().any(|device| device.usable.is_ok()) => {
            return Device::cuda(0).map_err(|error| error.to_string());
        }
        #[cfg(feature = "cuda")]
        "cuda_emu" => {
            static BUILT: std::sync::OnceLock<Result<Device, String>> = std::sync::OnceLock::new();
            let open = || Device::emulated_cuda(&super::emulation::library()?).map_err(|error| error.to_string());
            return BUILT.get_or_init(open).clone();
        }
        _ => {}
    }
    match fairlayer::devices().into_iter().find(|device| device.kind == backend) {
        Some(device) => Err(device.usable.err().unwrap_or_else(|| "the tests do not know how to open it".into())),
        None => Err("fairlayer knows no such device".into()),
    }
}

/// Whether a device computes in this storage type. (WGSL has no double precision.)
pub fn has(device: &Device, dtype: Dtype) -> bool {
    device.kind() != "wgpu" || dtype != Dtype::F64
}

/// Whether a device takes as many rows and cells.
pub fn takes(device: &Device, set: &fairlayer::ConstraintSet) -> bool {
    device.kind() == "cpu" || (set.layout().cells() <= 32 && set.rows() <= 32)
}

/// How many of so many random problems are enough on this device: where a call is a submission, a tenth, or as many times
/// as `FAIRLAYER_TIMES` says.
pub fn enough(device: &Device, count: u32) -> u32 {
    let times: Option<u32> = std::env::var("FAIRLAYER_TIMES").ok().and_then(|times| times.parse().ok());
    match (device.kind(), times) {
        ("cpu", _) => count,
        (_, Some(times)) => times * count,
        _ => count.div_ceil(10),
    }
}

/// What a device reports of means of elements up to this size may be off by: f64 sums, relative to them; or sums of integers
/// of 44 bits, relative to what they may become within their bounds, which are about 1.
pub fn measuring_error(device: &Device, size: f64) -> f64 {
    if device.kind() != "wgpu" { 1e-14 * size.max(1e-3) } else { 1e-12 * size.max(1.0) }
}

/// Runs a test body on a backend. Where there is none it says SKIP, past the capture of test output; if
/// `FAIRLAYER_REQUIRE` (a list with commas) names the backend, it fails instead.
pub fn run_on(backend: &str, body: fn(&Device)) {
    let required = std::env::var("FAIRLAYER_REQUIRE").unwrap_or_default();
    let kind = backend.strip_suffix("_tiles").unwrap_or(backend);
    match open(backend) {
        Ok(device) => body(&device),
        Err(reason) if required.split(',').any(|name| name.trim() == kind) => {
            panic!("FAIRLAYER_REQUIRE names {backend}, but: {reason}")
        }
        Err(reason) => {
            let test = std::thread::current().name().unwrap_or(backend).to_owned();
            writeln!(std::io::stderr(), "SKIP {test}: {reason}").expect("stderr takes a line");
        }
    }
}

/// One `#[test]` for every body on every backend, named `backend::body`. The list is complete: a body that it lacks is
/// dead code, which is a warning.
#[macro_export]
macro_rules! on_backends {
    ([$($backend:ident),*] $bodies:tt) => {
        $($crate::on_backends!(@one $backend $bodies);)*
    };
    (@one $backend:ident { $($theme:ident: $($body:ident),+;)* }) => {
        mod $backend {
            $($(
                #[test]
                fn $body() {
                    $crate::common::devices::run_on(stringify!($backend), $crate::suite::$theme::$body);
                }
            )+)*
        }
    };
}

/// Calls a generic function for every storage type that the device has.
#[macro_export]
macro_rules! for_each_storage {
    ($device:expr, $function:ident) => {
        $crate::for_each_storage!($device, $function, [fairlayer::f16, fairlayer::bf16, f32, f64])
    };
    ($device:expr, $function:ident, [$($type:ty),*]) => {
        $(
            if $crate::common::devices::has($device, <$type as fairlayer::Storage>::DTYPE) {
                $function::<$type>($device);
            }
        )*
    };
}
