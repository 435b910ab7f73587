//! Bind groups, kept from one call to the next: most calls bind what the last one did.

use super::WgpuDevice;
use super::inputs::{Inputs, SlabMemory};
use super::shaders::Kernel;
use crate::error::Result;

/// The bind groups of the last call.
#[derive(Debug, Default)]
pub(super) struct BindGroups {
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    kernel: Kernel,
    /// The parameters, and the rest.
    buffers: Vec<wgpu::Buffer>,
    group: wgpu::BindGroup,
    is_used: bool,
}

impl BindGroups {
    /// A call begins: what the last one did not bind is let go, and with it the buffers.
    pub(super) fn begin(&mut self) {
        self.kept.retain_mut(|kept| std::mem::replace(&mut kept.is_used, false));
    }

    /// The bind group of a kernel: parameters, and the rest.
    pub(super) fn bind(
        &mut self,
        device: &WgpuDevice,
        kernel: Kernel,
        params: &wgpu::Buffer,
        buffers: &[wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let is_same =
            |kept: &&mut Kept| kept.kernel == kernel && kept.buffers[0] == *params && kept.buffers[1..] == *buffers;
        if let Some(kept) = self.kept.iter_mut().find(is_same) {
            kept.is_used = true;
            return kept.group.clone();
        }
        let group = kernel.bind(device, params, buffers);
        let buffers = std::iter::once(params).chain(buffers).cloned().collect();
        self.kept.push(Kept { kernel, buffers, group: group.clone(), is_used: true });
        group
    }
}

/// What `cells_prepare` binds.
pub(super) fn prepare_buffers(
    device: &WgpuDevice,
    memory: &mut SlabMemory,
    inputs: &Inputs,
) -> Result<[wgpu::Buffer; 9]> {
    Ok([
        memory.tables.handle(device)?,
        inputs.groups.clone(),
        inputs.control.clone(),
        inputs.labels.clone(),
        inputs.weights.clone(),
        inputs.lower.clone(),
        inputs.upper.clone(),
        inputs.cells.clone(),
        memory.totals.handle(device)?,
    ])
}

/// The records of large problems bound behind all else.
pub(super) fn with(buffers: &[wgpu::Buffer], records: &wgpu::Buffer) -> Vec<wgpu::Buffer> {
    buffers.iter().chain([records]).cloned().collect()
}
