//! What a device does for the plan: memory, copies and launches, on one stream. There are two: a GPU, and its emulation.

use super::emulated::{self, Emulated};
use super::kernels::Variant;
use super::real::Real;

/// What went wrong, in words.
pub(super) type Outcome<T> = Result<T, String>;

/// A device, or what stands for one.
#[derive(Debug)]
pub(super) enum Driver {
    Real(Real),
    Emulated(Emulated),
}

/// A launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch<'a> {
    pub(super) variant: Variant,
    pub(super) blocks: u32,
    pub(super) shared_bytes: u32,
    /// Whether all blocks have to be there at once, since they wait for each other.
    pub(super) cooperative: bool,
    /// The bytes of the kernel's one argument.
    pub(super) argument: &'a [u8],
}

impl Driver {
    /// Memory of at least one byte, whose contents are anything.
    pub(super) fn allocate(&self, bytes: usize) -> Outcome<u64> {
        match self {
            Self::Real(real) => real.allocate(bytes),
            Self::Emulated(emulated) => emulated.allocate(bytes),
        }
    }

    /// Takes back what `allocate` gave, once what was asked of the device before is done.
    pub(super) fn release(&self, address: u64) {
        match self {
            Self::Real(real) => real.release(address),
            Self::Emulated(emulated) => emulated.release(address),
        }
    }

    /// Copies to the device; the bytes may be changed when this returns.
    pub(super) fn upload(&self, to: u64, bytes: &[u8]) -> Outcome<()> {
        match self {
            Self::Real(real) => real.upload(to, bytes),
            Self::Emulated(emulated) => emulated.upload(to, bytes),
        }
    }

    /// Copies from the device, once what was asked of it before is done.
    pub(super) fn download(&self, from: u64, bytes: &mut [u8]) -> Outcome<()> {
        match self {
            Self::Real(real) => real.download(from, bytes),
            Self::Emulated(emulated) => emulated.download(from, bytes),
        }
    }

    /// Copies on the device.
    pub(super) fn copy(&self, to: u64, from: u64, bytes: usize) -> Outcome<()> {
        match self {
            Self::Real(real) => real.copy(to, from, bytes),
            Self::Emulated(emulated) => emulated.copy(to, from, bytes),
        }
    }

    /// Makes a variant ready to be launched.
    pub(super) fn load(&self, variant: Variant) -> Outcome<()> {
        match self {
            Self::Real(real) => real.load(variant),
            Self::Emulated(_) => Ok(()),
        }
    }

    /// Bytes of shared memory that a block can have.
    pub(super) fn shared_bytes(&self) -> u32 {
        match self {
            Self::Real(real) => real.shared_bytes(),
            Self::Emulated(_) => emulated::SHARED_BYTES,
        }
    }

    /// Blocks that can be there at once.
    pub(super) fn resident(&self, variant: Variant, shared_bytes: u32) -> Outcome<u32> {
        match self {
            Self::Real(real) => real.resident(variant, shared_bytes),
            Self::Emulated(_) => Ok(emulated::RESIDENT),
        }
    }

    /// Launches, and does not wait.
    pub(super) fn launch(&self, launch: Launch<'_>) -> Outcome<()> {
        match self {
            Self::Real(real) => real.launch(launch),
            Self::Emulated(emulated) => emulated.launch(launch),
        }
    }
}
