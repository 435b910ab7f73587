//! Device memory that grows to what was asked for and is kept.

use bytemuck::Pod;

use super::CudaDevice;
use crate::batch::{Buffer, Place};
use crate::error::Result;

/// An array on a device, of at least the size that was last asked for.
#[derive(Debug, Default)]
pub(super) struct Memory {
    held: Option<Allocation>,
}

#[derive(Debug)]
struct Allocation {
    device: CudaDevice,
    address: u64,
    bytes: usize,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.device.driver().release(self.address);
    }
}

impl Memory {
    /// The address of at least so many bytes; what was in them may be lost.
    pub(super) fn hold(&mut self, device: &CudaDevice, bytes: usize) -> Result<u64> {
        match &self.held {
            Some(held) if held.bytes >= bytes => Ok(held.address),
            _ => {
                self.held = None;
                let address = device.driver().allocate(bytes).map_err(|problem| device.failed(problem))?;
                self.held = Some(Allocation { device: device.clone(), address, bytes });
                Ok(address)
            }
        }
    }

    /// The same with these bytes at its beginning.
    pub(super) fn upload(&mut self, device: &CudaDevice, bytes: &[u8]) -> Result<u64> {
        let address = self.hold(device, bytes.len())?;
        device.driver().upload(address, bytes).map_err(|problem| device.failed(problem))?;
        Ok(address)
    }

    /// Where kernels read an array: the caller's own as it lies, or here, a host slice uploaded.
    pub(super) fn place<E: Pod>(&mut self, device: &CudaDevice, array: &Buffer<'_, E>) -> Result<u64> {
        match array.place() {
            Place::Cuda { address, .. } => Ok(address),
            _ => self.upload(device, bytemuck::cast_slice(array.slice())),
        }
    }

    /// Copies its beginning to the host. Waits.
    pub(super) fn read(&self, bytes: &mut [u8]) -> Result<()> {
        match &self.held {
            Some(Allocation { device, address, .. }) if !bytes.is_empty() => {
                device.driver().download(*address, bytes).map_err(|problem| device.failed(problem))
            }
            _ => Ok(()),
        }
    }

    /// The address, 0 if nothing was asked for.
    pub(super) fn address(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.address)
    }

    /// Memory of its own with the same contents; nothing if the device has no more.
    pub(super) fn duplicate(&self) -> Self {
        let copy = |held: &Allocation| {
            let driver = held.device.driver();
            let address = driver.allocate(held.bytes).ok()?;
            let copy = Allocation { device: held.device.clone(), address, bytes: held.bytes };
            driver.copy(address, held.address, held.bytes).ok().map(|()| copy)
        };
        Self { held: self.held.as_ref().and_then(copy) }
    }
}
