//! Device memory that grows to what was asked for and is kept.

use super::WgpuDevice;
use crate::error::{Error, Result};

/// A buffer of at least the size that was last asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    buffer: Option<wgpu::Buffer>,
}

/// How long a device that is done may take to say so.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// How device memory is used.
const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

/// How the counts of problems that are left are used.
const COUNT_USAGE: wgpu::BufferUsages = USAGE.union(wgpu::BufferUsages::INDIRECT);

/// Sizes are whole words, and nothing is empty.
fn rounded(bytes: usize) -> u64 {
    (bytes.max(16) as u64).next_multiple_of(16)
}

impl Memory {
    /// Storage of at least so many bytes; what was in it may be lost.
    pub(crate) fn hold(&mut self, device: &WgpuDevice, bytes: usize) -> Result<&wgpu::Buffer> {
        self.hold_for(device, bytes, USAGE)
    }

    /// Storage that says how many workgroups a dispatch has.
    pub(crate) fn hold_count(&mut self, device: &WgpuDevice) -> Result<&wgpu::Buffer> {
        self.hold_counts(device, 16)
    }

    /// The same for many dispatches.
    pub(crate) fn hold_counts(&mut self, device: &WgpuDevice, bytes: usize) -> Result<&wgpu::Buffer> {
        self.hold_for(device, bytes, COUNT_USAGE)
    }

    fn hold_for(&mut self, device: &WgpuDevice, bytes: usize, usage: wgpu::BufferUsages) -> Result<&wgpu::Buffer> {
        let size = rounded(bytes);
        let limits = device.limits();
        // (Of parameters only a window is bound.)
        let bound = usage.contains(wgpu::BufferUsages::STORAGE);
        let limit = limits.max_buffer_size.min(if bound { limits.max_storage_buffer_binding_size } else { u64::MAX });
        if size > limit {
            return Err(too_large(device, size, limit));
        }
        let fits = self.buffer.as_ref().is_some_and(|buffer| buffer.size() >= size);
        if !fits {
            self.buffer = None;
        }
        Ok(self.buffer.get_or_insert_with(|| {
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            device.device().create_buffer(&descriptor)
        }))
    }

    /// Parameters.
    pub(crate) fn upload_uniform(&mut self, device: &WgpuDevice, bytes: &[u8]) -> Result<&wgpu::Buffer> {
        let usage = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);
        let buffer = self.hold_for(device, bytes.len(), usage)?;
        write(device, buffer, 0, bytes);
        Ok(buffer)
    }

    /// Storage with these bytes at its beginning.
    pub(crate) fn upload(&mut self, device: &WgpuDevice, bytes: &[u8]) -> Result<&wgpu::Buffer> {
        let buffer = self.hold(device, bytes.len())?;
        write(device, buffer, 0, bytes);
        Ok(buffer)
    }

    /// Storage of its own with the same contents.
    pub(crate) fn duplicate(&self, device: &WgpuDevice) -> Self {
        let copy = |buffer: &wgpu::Buffer| {
            let (size, usage) = (buffer.size(), buffer.usage());
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let copy = device.device().create_buffer(&descriptor);
            let mut encoder = device.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, size);
            device.queue().submit([encoder.finish()]);
            copy
        };
        Self { buffer: self.buffer.as_ref().map(copy) }
    }

    /// The buffer as it is; an empty one if nothing was asked for, for bindings that a variant does not read.
    pub(crate) fn handle(&mut self, device: &WgpuDevice) -> Result<wgpu::Buffer> {
        match &self.buffer {
            Some(buffer) => Ok(buffer.clone()),
            None => self.hold(device, 0).cloned(),
        }
    }

    /// The buffer, if anything was asked for yet.
    pub(crate) fn buffer(&self) -> Option<&wgpu::Buffer> {
        self.buffer.as_ref()
    }
}

fn too_large(device: &WgpuDevice, size: u64, limit: u64) -> Error {
    device.failed(format!("a problem needs an array of {size} bytes, and {limit} can be bound; use the CPU for it"))
}

/// Writes bytes whose number need not be a whole number of words; the offset is one of words.
pub(crate) fn write(device: &WgpuDevice, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    let whole = bytes.len() / 4 * 4;
    if whole > 0 {
        device.queue().write_buffer(buffer, offset, &bytes[..whole]);
    }
    if whole < bytes.len() {
        let mut last = [0; 4];
        last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
        device.queue().write_buffer(buffer, offset + whole as u64, &last);
    }
}

/// Copies the beginnings of device buffers to the host, one after the other, each from a multiple of 16 bytes on. Waits.
pub(crate) fn read(
    device: &WgpuDevice,
    parts: &[(&wgpu::Buffer, usize)],
    mut take: impl FnMut(usize, &[u8]),
) -> Result<()> {
    device.check()?;
    let starts: Vec<u64> = parts
        .iter()
        .scan(0, |start, (_, bytes)| {
            let this = *start;
            *start += rounded(*bytes);
            Some(this)
        })
        .collect();
    let size = parts.iter().map(|(_, bytes)| rounded(*bytes)).sum::<u64>().max(16);
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let staging = device.device().create_buffer(&descriptor);
    let mut encoder = device.device().create_command_encoder(&Default::default());
    for ((buffer, bytes), start) in parts.iter().zip(&starts) {
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, *start, rounded(*bytes).min(buffer.size()));
    }
    device.queue().submit([encoder.finish()]);
    let (told, outcome) = std::sync::mpsc::channel();
    staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
        // (Nobody listens after a failure.)
        let _ = told.send(result);
    });
    device.wait()?;
    // Another thread that waits may have taken it on itself to tell.
    if !matches!(outcome.recv_timeout(PATIENCE), Ok(Ok(()))) {
        return Err(device.failed("its answers cannot be read; if it was lost, open it anew and plan again".into()));
    }
    let view = staging
        .slice(..)
        .get_mapped_range()
        .map_err(|error| device.failed(format!("its answers cannot be read: {error}")))?;
    for (index, ((_, bytes), start)) in parts.iter().zip(&starts).enumerate() {
        take(index, &view[*start as usize..*start as usize + bytes]);
    }
    Ok(())
}
