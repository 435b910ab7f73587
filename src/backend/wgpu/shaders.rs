//! The kernels' texts, how they are joined, and the variants that they are compiled in.

use wgpu::ShaderStages;

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name, ".wgsl"))
    };
}

const COMMON: &str = text!("common");
const TWO_FLOATS: &str = text!("two_floats");
const LIMBS: &str = text!("limbs");
const CELL_SUMS: &str = text!("cell_sums");
const CELLS: &str = text!("cells");
const BOUNDS: &str = text!("bounds");
const LABELS: &str = text!("labels");
const PASS: &str = text!("cells_pass");
const PREPARE: &str = text!("cells_prepare");
const DISJOINT: &str = text!("cells_disjoint");
const VJP: &str = text!("cells_vjp");
const VJP_DISJOINT: &str = text!("vjp_disjoint");

/// A kernel: a module and its entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    CellsPrepare,
    CellsDisjoint,
    /// `cells_vjp` where the short cut's closed form holds.
    VjpDisjoint,
}

/// Binding 0 of every kernel is the parameters, 1 the tables.
const FIRST_BINDING: u32 = 2;

impl Kernel {
    pub(crate) const ALL: [Self; 3] = [Self::CellsPrepare, Self::CellsDisjoint, Self::VjpDisjoint];

    pub(crate) fn entry(self) -> &'static str {
        match self {
            Self::CellsPrepare => "cells_prepare",
            Self::CellsDisjoint => "cells_disjoint",
            Self::VjpDisjoint => "cells_vjp",
        }
    }

    /// The parts that make its module, in order.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::CellsPrepare => &[COMMON, TWO_FLOATS, LIMBS, CELL_SUMS, CELLS, BOUNDS, LABELS, PREPARE],
            Self::CellsDisjoint => &[COMMON, TWO_FLOATS, LIMBS, CELLS, BOUNDS, PASS, DISJOINT],
            Self::VjpDisjoint => &[COMMON, TWO_FLOATS, LIMBS, CELL_SUMS, CELLS, LABELS, VJP, VJP_DISJOINT],
        }
    }

    /// Of the bindings from [`FIRST_BINDING`] on: how many there are, and which the first that is written.
    fn bindings(self) -> (u32, u32) {
        match self {
            Self::CellsPrepare => (8, 6),
            Self::CellsDisjoint => (10, 6),
            Self::VjpDisjoint => (14, 8),
        }
    }

    pub(crate) fn source(self) -> String {
        self.parts().join("\n")
    }

    pub(crate) fn module(self, device: &wgpu::Device) -> wgpu::ShaderModule {
        device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(self.entry()),
            source: wgpu::ShaderSource::Wgsl(self.source().into()),
        })
    }

    pub(crate) fn layouts(self, device: &wgpu::Device) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let entry = |binding: u32, ty: wgpu::BufferBindingType, has_dynamic_offset: bool| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        };
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let (count, first_written) = self.bindings();
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true), entry(1, storage(true), false)];
        entries.extend((0..count).map(|k| entry(FIRST_BINDING + k, storage(k < first_written), false)));
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(self.entry()), entries: &entries };
        let layout = device.create_bind_group_layout(&descriptor);
        let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(self.entry()),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        (layout, pipeline)
    }

    /// A bind group of this kernel: parameters (a window of a buffer, moved by dynamic offsets), tables, and the rest.
    pub(crate) fn bind(
        self,
        device: &super::WgpuDevice,
        params: &wgpu::Buffer,
        buffers: &[wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let size = std::num::NonZeroU64::new(size_of::<crate::params::Params>() as u64);
        let window = wgpu::BufferBinding { buffer: params, offset: 0, size };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(window) }];
        entries.extend(
            (1..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            }),
        );
        device.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.entry()),
            layout: device.bind_group_layout(self),
            entries: &entries,
        })
    }
}

/// The sizes of workgroups, and of the problems that each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    pub(crate) lanes: u32,
    /// Elements that the workgroup has room for; a larger problem's lie in global memory.
    pub(crate) room: Option<u32>,
}

/// From small problems to large ones. The number of elements, and nothing else, chooses.
pub(crate) const CLASSES: [Class; 4] = [
    Class { lanes: 32, room: Some(256) },
    Class { lanes: 64, room: Some(1024) },
    Class { lanes: 256, room: Some(2048) },
    Class { lanes: 256, room: None },
];

/// The index of the class of problems of `n` elements.
pub(crate) fn class_of(n: usize) -> usize {
    CLASSES.iter().position(|class| class.room.is_none_or(|room| n <= room as usize)).unwrap_or(CLASSES.len() - 1)
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub(crate) kernel: Kernel,
    pub(crate) class: Class,
    /// Which arrays there are.
    pub(crate) weighted: bool,
    pub(crate) labelled: bool,
    pub(crate) bounded: bool,
    /// Whether a backward pass needs the means of y.
    pub(crate) valued: bool,
}

impl Variant {
    pub(crate) fn compile(
        self,
        device: &wgpu::Device,
        module: &wgpu::ShaderModule,
        layout: &wgpu::PipelineLayout,
    ) -> wgpu::ComputePipeline {
        let Self { kernel, class, weighted, labelled, bounded, valued } = self;
        let flag = |on: bool| f64::from(u8::from(on));
        let [weighted, labelled, bounded] =
            [("WEIGHTED", weighted), ("LABELLED", labelled), ("BOUNDED", bounded)].map(|(name, on)| (name, flag(on)));
        let lanes = ("LANES", f64::from(class.lanes));
        let constants = match kernel {
            Kernel::CellsPrepare => vec![lanes, weighted, bounded, labelled],
            Kernel::CellsDisjoint => vec![
                lanes,
                weighted,
                bounded,
                ("CAPACITY", f64::from(class.room.unwrap_or(1))),
                ("IN_GROUP", flag(class.room.is_some())),
            ],
            Kernel::VjpDisjoint => vec![lanes, weighted, labelled, ("VALUED", flag(valued))],
        };
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.entry()),
            layout: Some(layout),
            module,
            entry_point: Some(kernel.entry()),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::naga;

    /// Without a GPU: every module is valid, has its entry point, and uses no more workgroup memory than is asked for.
    #[test]
    fn every_kernel_is_valid() {
        for kernel in Kernel::ALL {
            let source = kernel.source();
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(&source)));
            let mut validator =
                naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
            validator.validate(&module).unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(&source)));
            assert_eq!(module.entry_points.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [kernel.entry()]);
        }
    }
}
