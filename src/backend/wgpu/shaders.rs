//! The kernels' texts, how they are joined, and the variants that they are compiled in.

use wgpu::ShaderStages;

use super::sizes::Class;
use crate::storage::Dtype;

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name, ".wgsl"))
    };
}

const COMMON: &str = text!("common");
const TEAM: &str = text!("team");
const GATHER_PLAIN: &str = text!("gather_plain");
const GATHER_SUBGROUPS: &str = text!("gather_subgroups");
const STORAGE: &str = text!("storage");
const TWO_FLOATS: &str = text!("two_floats");
const LIMBS: &str = text!("limbs");
const CELL_SUMS: &str = text!("cell_sums");
const CELLS: &str = text!("cells");
const BOUNDS: &str = text!("bounds");
const LABELS: &str = text!("labels");
const ELEMENTS: &str = text!("elements");
const PASS: &str = text!("cells_pass");
const CELL_TOTALS: &str = text!("cell_totals");
const PREPARE: &str = text!("cells_prepare");
const DISJOINT: &str = text!("cells_disjoint");
const ANSWER: &str = text!("answer");
const DISJOINT_SPREADS: &str = text!("disjoint_spreads");
const DISJOINT_BRACKETS: &str = text!("disjoint_brackets");
const LEFT: &str = text!("left");
const LINKS: &str = text!("links");
/// The Newton machine and what drives it, in the order in which its parts build on each other.
const MACHINE: [&str; 10] = [
    ROW_SET,
    text!("newton_problem"),
    ROWS,
    text!("stop_test"),
    CURVATURE,
    text!("active_set"),
    text!("line_search"),
    CERTIFICATE,
    text!("newton"),
    text!("newton_state"),
];
/// What kernels have that go on where the one before left off, and write answers.
const CHAINED: [&str; 3] = [LEFT, LINKS, ANSWER];
const ROW_SET: &str = text!("row_set");
const NEWTON_DRIVER: &str = text!("newton_driver");
/// What ADMM shares with it, and its own parts.
const ROWS: &str = text!("rows");
const CURVATURE: &str = text!("curvature");
const CERTIFICATE: &str = text!("certificate");
const ADMM: [&str; 5] =
    [text!("admm_rows"), text!("admm_samples"), text!("admm_ray"), text!("admm_state"), text!("dense_admm")];
const ROWS_OF_CELLS: &str = text!("rows_of_cells");
const NORMALISED_CELLS: &str = text!("normalised_cells");
const NEWTON: &str = text!("cells_newton");
const SAMPLES: &str = text!("samples");
const SAMPLE_ROWS: &str = text!("sample_rows");
const ROWS_OF_SAMPLES: &str = text!("rows_of_samples");
const DENSE_NEWTON: &str = text!("dense_newton");
const VJP_ELEMENTS: &str = text!("vjp_elements");
const VJP: &str = text!("vjp_driver");
const CELLS_PULL: &str = text!("cells_pull");
const CELLS_VJP: &str = text!("cells_vjp");
const VJP_ROWS_OF_CELLS: &str = text!("vjp_rows_of_cells");
const DENSE_VJP: &str = text!("dense_vjp");
const VJP_DISJOINT: &str = text!("vjp_disjoint");
const VJP_ROWS: &str = text!("vjp_rows");
const OUTPUT_SINGLE: &str = text!("output_single");
const OUTPUT_HALVES: &str = text!("output_halves");
const LARGE: &str = text!("large");
const LARGE_SUMS: &str = text!("large_sums");
const LARGE_PREPARE: &str = text!("large_prepare");
const LARGE_SHIFTS: &str = text!("large_shifts");
const LARGE_PASS: &str = text!("large_pass");
const LARGE_STEP: &str = text!("large_step");
const LARGE_BACKWARD: [&str; 7] =
    [CELL_SUMS, LABELS, VJP_ELEMENTS, CELLS_PULL, LARGE, LARGE_SUMS, text!("large_gradient")];
const LARGE_VJP: &str = text!("large_vjp");
const LARGE_SOLVE: &str = text!("large_solve");

/// What the text of a kernel depends on: whether elements have 16 bits, not 32, and whether there are subgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Dialect {
    pub(crate) halves: bool,
    pub(crate) subgroups: bool,
}

/// A kernel: a module and its entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    CellsPrepare,
    /// `cells_newton` where the short cut's closed form holds, and for what that leaves.
    CellsDisjoint,
    DisjointBrackets,
    CellsNewton,
    /// `cells_vjp` of rows of any kind.
    VjpRows,
    /// `cells_vjp` where the short cut's closed form holds.
    VjpDisjoint,
    DenseNewton,
    DenseAdmm,
    DenseVjp,
    /// What the kernels over cells are for problems that are cut into tiles.
    LargePrepare,
    LargePass,
    LargeStep,
    LargeVjp,
    LargeSolveRows,
    LargeSolveDisjoint,
}

/// Binding 0 of every kernel is the parameters, 1 the tables.
const FIRST_BINDING: u32 = 2;

impl Kernel {
    pub(crate) const ALL: [Self; 15] = [
        Self::CellsPrepare,
        Self::CellsDisjoint,
        Self::DisjointBrackets,
        Self::CellsNewton,
        Self::VjpRows,
        Self::VjpDisjoint,
        Self::DenseNewton,
        Self::DenseAdmm,
        Self::DenseVjp,
        Self::LargePrepare,
        Self::LargePass,
        Self::LargeStep,
        Self::LargeVjp,
        Self::LargeSolveRows,
        Self::LargeSolveDisjoint,
    ];

    pub(crate) fn entry(self) -> &'static str {
        match self {
            Self::CellsPrepare => "cells_prepare",
            Self::CellsDisjoint => "cells_disjoint",
            Self::DisjointBrackets => "disjoint_brackets",
            Self::CellsNewton => "cells_newton",
            Self::VjpRows | Self::VjpDisjoint => "cells_vjp",
            Self::DenseNewton => "dense_newton",
            Self::DenseAdmm => "dense_admm",
            Self::DenseVjp => "dense_vjp",
            Self::LargePrepare => "large_prepare",
            Self::LargePass => "large_pass",
            Self::LargeStep => "large_step",
            Self::LargeVjp => "large_vjp",
            Self::LargeSolveRows | Self::LargeSolveDisjoint => "large_solve",
        }
    }

    /// The parts that make its module, in order.
    fn parts(self) -> Vec<&'static str> {
        let shared = [COMMON, TEAM, STORAGE, TWO_FLOATS, LIMBS, CELLS];
        let own: &[&str] = match self {
            Self::CellsPrepare => &[CELL_SUMS, BOUNDS, LABELS, CELL_TOTALS, PREPARE],
            Self::CellsDisjoint => &[BOUNDS, ELEMENTS, PASS, ANSWER, LEFT, DISJOINT_SPREADS, DISJOINT],
            Self::DisjointBrackets => {
                &[BOUNDS, ELEMENTS, PASS, ANSWER, LEFT, LINKS, DISJOINT_SPREADS, DISJOINT_BRACKETS]
            }
            Self::CellsNewton => {
                let forward = [BOUNDS, ELEMENTS, PASS, ROWS_OF_CELLS, NORMALISED_CELLS];
                return [&shared[..], &forward, &MACHINE, &CHAINED, &[NEWTON_DRIVER, NEWTON]].concat();
            }
            Self::DenseNewton => {
                let forward = [BOUNDS, ELEMENTS, SAMPLES, SAMPLE_ROWS, ROWS_OF_SAMPLES];
                return [&shared[..], &forward, &MACHINE, &CHAINED, &[NEWTON_DRIVER, DENSE_NEWTON]].concat();
            }
            Self::DenseAdmm => {
                let forward =
                    [BOUNDS, ELEMENTS, SAMPLES, SAMPLE_ROWS, LEFT, LINKS, ROW_SET, ROWS, CURVATURE, CERTIFICATE];
                return [&shared[..], &forward, &ADMM].concat();
            }
            Self::VjpRows => {
                &[CELL_SUMS, LABELS, VJP_ELEMENTS, VJP, CELLS_PULL, VJP_ROWS, VJP_ROWS_OF_CELLS, CELLS_VJP]
            }
            Self::VjpDisjoint => &[CELL_SUMS, LABELS, VJP_ELEMENTS, VJP, CELLS_PULL, VJP_DISJOINT, CELLS_VJP],
            Self::DenseVjp => &[CELL_SUMS, LABELS, VJP_ELEMENTS, VJP, VJP_ROWS, SAMPLES, DENSE_VJP],
            Self::LargePrepare => &[CELL_SUMS, BOUNDS, LABELS, CELL_TOTALS, LARGE, LARGE_SUMS, LARGE_PREPARE],
            Self::LargePass => &[BOUNDS, ELEMENTS, PASS, ANSWER, LARGE, LARGE_SHIFTS, LARGE_PASS],
            Self::LargeStep => {
                let forward = [BOUNDS, ELEMENTS, PASS, ROWS_OF_CELLS, NORMALISED_CELLS, LARGE, LARGE_SHIFTS];
                return [&shared[..], &forward, &MACHINE, &[LARGE_STEP]].concat();
            }
            Self::LargeVjp => return [&shared[..], &LARGE_BACKWARD, &[LARGE_VJP]].concat(),
            Self::LargeSolveRows => {
                let solve = [VJP, VJP_ROWS, VJP_ROWS_OF_CELLS, LARGE_SOLVE];
                return [&shared[..], &LARGE_BACKWARD, &solve].concat();
            }
            Self::LargeSolveDisjoint => {
                return [&shared[..], &LARGE_BACKWARD, &[VJP, VJP_DISJOINT, LARGE_SOLVE]].concat();
            }
        };
        [&shared, own].concat()
    }

    /// Of the bindings from [`FIRST_BINDING`] on: how many there are, and which of them are written.
    fn bindings(self) -> (u32, &'static [u32]) {
        match self {
            Self::CellsPrepare => (8, &[6, 7]),
            Self::CellsDisjoint => (12, &[6, 7, 8, 9, 10, 11]),
            Self::CellsNewton | Self::DisjointBrackets => (15, &[6, 7, 8, 9, 10, 11, 14]),
            Self::DenseNewton | Self::DenseAdmm => (16, &[6, 7, 8, 9, 10, 11, 14]),
            Self::VjpRows | Self::VjpDisjoint => (14, &[8, 9, 10, 11, 12, 13]),
            Self::DenseVjp => (17, &[8, 9, 10, 11, 12, 13, 15, 16]),
            Self::LargePrepare => (9, &[6, 7, 8]),
            Self::LargePass => (11, &[6, 7, 8, 9, 10]),
            Self::LargeStep => (12, &[6, 7, 8, 9, 10, 11]),
            Self::LargeVjp | Self::LargeSolveRows | Self::LargeSolveDisjoint => (15, &[8, 9, 10, 11, 12, 13, 14]),
        }
    }

    /// The arrays that elements are written to, and their bindings.
    fn outputs(self) -> &'static [(&'static str, u32)] {
        const SLOPES: [(&str, u32); 6] = [
            ("to_predictions", 10),
            ("to_lower", 11),
            ("to_upper", 12),
            ("to_weights", 13),
            ("to_labels", 14),
            ("to_coefficients", 18),
        ];
        match self {
            Self::CellsPrepare | Self::DenseAdmm | Self::LargePrepare | Self::LargeStep => &[],
            Self::CellsDisjoint | Self::DisjointBrackets | Self::CellsNewton | Self::DenseNewton | Self::LargePass => {
                &[("y_out", 9)]
            }
            Self::VjpRows | Self::VjpDisjoint | Self::LargeVjp | Self::LargeSolveRows | Self::LargeSolveDisjoint => {
                &SLOPES[..5]
            }
            Self::DenseVjp => &SLOPES,
        }
    }

    /// Its text.
    pub(crate) fn source(self, dialect: Dialect) -> String {
        let output = if dialect.halves { OUTPUT_HALVES } else { OUTPUT_SINGLE };
        // (naga 30 knows the subgroup built-ins, but not `enable subgroups;`, which WGSL asks for before them.)
        let gather = if dialect.subgroups { GATHER_SUBGROUPS } else { GATHER_PLAIN };
        let fill =
            |(array, binding): &(&str, u32)| output.replace("ARRAY", array).replace("BINDING", &binding.to_string());
        let parts = self.parts().into_iter().chain([gather]).map(str::to_owned);
        parts.chain(self.outputs().iter().map(fill)).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn module(self, device: &wgpu::Device, dialect: Dialect) -> wgpu::ShaderModule {
        device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(self.entry()),
            source: wgpu::ShaderSource::Wgsl(self.source(dialect).into()),
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
        let (count, written) = self.bindings();
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true), entry(1, storage(true), false)];
        entries.extend((0..count).map(|k| entry(FIRST_BINDING + k, storage(!written.contains(&k)), false)));
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
            (1..)
                .zip(buffers)
                .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }),
        );
        device.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.entry()),
            layout: device.bind_group_layout(self),
            entries: &entries,
        })
    }
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub(crate) kernel: Kernel,
    pub(crate) class: Class,
    /// The type of predictions, bounds and their gradients.
    pub(crate) dtype: Dtype,
    /// Whether cells are given, of kernels that would compute them.
    pub(crate) given: bool,
    /// Which arrays there are.
    pub(crate) weighted: bool,
    pub(crate) labelled: bool,
    pub(crate) bounded: bool,
    /// Whether a backward pass needs the means of y.
    pub(crate) valued: bool,
    /// Which part of the work, of kernels for large problems.
    pub(crate) part: u32,
    /// Whether lanes gather what they add by subgroups.
    pub(crate) subgroups: bool,
}

impl Variant {
    pub(crate) fn dialect(self) -> Dialect {
        Dialect { halves: self.dtype != Dtype::F32, subgroups: self.subgroups }
    }

    /// The values of its text's constants.
    fn constants(self) -> Vec<(&'static str, f64)> {
        let Self { kernel, class, dtype, given, weighted, labelled, bounded, valued, part, subgroups: _ } = self;
        let flag = |on: bool| f64::from(u8::from(on));
        let [weighted, labelled, bounded] =
            [("WEIGHTED", weighted), ("LABELLED", labelled), ("BOUNDED", bounded)].map(|(name, on)| (name, flag(on)));
        let part = ("PART", f64::from(part));
        let given = ("GIVEN", flag(given));
        let storage = match dtype {
            Dtype::F16 => 1.0,
            Dtype::Bf16 => 2.0,
            _ => 0.0,
        };
        let mut constants = match kernel {
            Kernel::CellsPrepare => vec![given, weighted, bounded, labelled],
            Kernel::CellsDisjoint | Kernel::DisjointBrackets => vec![weighted, bounded, ("SPILLS", flag(false))],
            Kernel::CellsNewton | Kernel::DenseNewton | Kernel::DenseAdmm => vec![],
            Kernel::VjpRows | Kernel::VjpDisjoint | Kernel::DenseVjp => {
                vec![weighted, labelled, ("VALUED", flag(valued))]
            }
            Kernel::LargePrepare => vec![given, weighted, bounded, labelled, part],
            Kernel::LargePass | Kernel::LargeStep => vec![weighted, bounded, part],
            Kernel::LargeVjp | Kernel::LargeSolveRows | Kernel::LargeSolveDisjoint => {
                vec![weighted, labelled, ("VALUED", flag(valued)), part]
            }
        };
        constants.extend(class.constants());
        constants.push(("STORAGE", storage));
        constants
    }

    pub(crate) fn compile(
        self,
        device: &wgpu::Device,
        module: &wgpu::ShaderModule,
        layout: &wgpu::PipelineLayout,
    ) -> wgpu::ComputePipeline {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(self.kernel.entry()),
            layout: Some(layout),
            module,
            entry_point: Some(self.kernel.entry()),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &self.constants(),
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
        let both = [false, true];
        let dialects = both.map(|halves| both.map(|subgroups| Dialect { halves, subgroups }));
        let dialects = dialects.as_flattened();
        for (kernel, dialect) in Kernel::ALL.into_iter().flat_map(|kernel| dialects.iter().map(move |d| (kernel, *d))) {
            let source = kernel.source(dialect);
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(&source)));
            let mut validator =
                naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::SUBGROUP);
            validator.validate(&module).unwrap_or_else(|error| panic!("{kernel:?}: {}", error.emit_to_string(&source)));
            assert_eq!(module.entry_points.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [kernel.entry()]);
        }
    }

    /// Bytes of workgroup memory that a variant takes.
    fn workgroup_bytes(variant: Variant) -> u32 {
        let module = naga::front::wgsl::parse_str(&variant.kernel.source(variant.dialect())).expect("a module");
        let capabilities = naga::valid::Capabilities::SUBGROUP;
        let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities).validate(&module);
        let constants = variant.constants().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let entry = Some((naga::ShaderStage::Compute, variant.kernel.entry()));
        let info = info.expect("a valid module");
        let told = naga::back::pipeline_constants::process_overrides(&module, &info, entry, &constants);
        let (module, _) = told.expect("its constants");
        let context = module.to_ctx();
        let held = module.global_variables.iter().filter(|(_, global)| global.space == naga::AddressSpace::WorkGroup);
        let bytes = held.map(|(_, global)| match module.types[global.ty].inner {
            naga::TypeInner::Array { size, stride, .. } => match size.resolve(context) {
                Ok(naga::proc::IndexableLength::Known(length)) => length * stride,
                other => panic!("{:?} has a size of {other:?}", global.name),
            },
            ref inner => inner.size(context),
        });
        bytes.sum()
    }

    /// The workgroups of GPUs have no more memory than every GPU has, and as many lanes as some.
    #[test]
    fn workgroups_fit_into_every_gpu() {
        use super::super::sizes::{GPU_BYTES, STEPS, Sizes, TILES};
        use crate::{Criterion, DemographicParity, Population};
        for groups in [2, 8, 9, 32] {
            let set =
                DemographicParity::within(0.1).constraints(&Population::one_feature(groups)).expect("constraints");
            let sizes = Sizes::new(true, &set, 1 << 24);
            let classes = 0..sizes.disjoint.len();
            let mut variants = vec![
                (Kernel::DisjointBrackets, sizes.brackets()),
                (Kernel::CellsNewton, sizes.newton),
                (Kernel::DenseNewton, sizes.newton),
                (Kernel::DenseAdmm, super::super::admm::CLASS),
                (Kernel::VjpRows, sizes.streaming),
                (Kernel::DenseVjp, sizes.streaming),
                (Kernel::LargePrepare, TILES),
                (Kernel::LargePass, TILES),
                (Kernel::LargeStep, STEPS),
                (Kernel::LargeVjp, TILES),
                (Kernel::LargeSolveRows, STEPS),
                (Kernel::LargeSolveDisjoint, STEPS),
            ];
            for class in classes {
                variants.push((Kernel::CellsPrepare, sizes.preparing(class)));
                variants.push((Kernel::CellsDisjoint, sizes.disjoint[class]));
                variants.push((Kernel::VjpDisjoint, sizes.backward(class)));
            }
            assert!(Kernel::ALL.iter().all(|kernel| variants.iter().any(|(of, _)| of == kernel)));
            for (kernel, class) in variants {
                let (given, valued) = (false, true);
                let (weighted, labelled, bounded, part, subgroups) = (true, true, true, 0, true);
                let dtype = Dtype::F32;
                let variant =
                    Variant { kernel, class, dtype, given, weighted, labelled, bounded, valued, part, subgroups };
                let bytes = workgroup_bytes(variant);
                let most = if class.teams() > 1 { GPU_BYTES } else { super::super::device::WORKGROUP_BYTES };
                assert!(bytes <= most, "{kernel:?} of {groups}: {bytes} in {class:?}");
                assert!(class.lanes <= super::super::device::WORKGROUP_LANES, "{kernel:?}: {class:?}");
            }
        }
    }

    /// The value of a constant in a kernel's text.
    fn in_shader(kernel: Kernel, name: &str) -> usize {
        let module = naga::front::wgsl::parse_str(&kernel.source(Dialect::default())).expect("a kernel parses");
        let named = |constant: &naga::Constant| constant.name.as_deref() == Some(name);
        let (_, constant) = module.constants.iter().find(|(_, constant)| named(constant)).expect(name);
        match module.global_expressions[constant.init] {
            naga::Expression::Literal(naga::Literal::U32(value)) => value as usize,
            ref other => panic!("{name} is {other:?}"),
        }
    }

    /// The shaders and the host know the same records, which hold all that is put in them.
    #[test]
    fn records_lie_alike() {
        use super::super::large;
        use crate::params::{BRACKETS_ROW, BRACKETS_SPREAD, LARGE_RECORD, MAX_GPU_ROWS, STATE_HEAD, STATE_ROW};
        let of_large = |name| in_shader(Kernel::LargeStep, name);
        assert_eq!(of_large("LARGE_RECORD"), LARGE_RECORD);
        assert_eq!(of_large("LARGE_STATE") + STATE_HEAD + STATE_ROW * MAX_GPU_ROWS, LARGE_RECORD);
        assert_eq!(of_large("LARGE_ROOM"), large::MOST_IN_TILE);
        assert_eq!(of_large("COUNTS_OF_LINK"), large::COUNTS as usize);
        assert_eq!(in_shader(Kernel::DisjointBrackets, "ROW_WORDS"), BRACKETS_ROW);
        assert_eq!(in_shader(Kernel::DisjointBrackets, "SPREAD_WORDS"), BRACKETS_SPREAD);
    }
}
