//! What kernels read of a call, as plain structs. The shaders' own words of it are in `shaders/common.wgsl`; a test holds
//! both together.

use bytemuck::{Pod, Zeroable};

pub(crate) use crate::backend::{MAX_GPU_CELLS, MAX_GPU_ROWS};

/// The parameters of one dispatch. Offsets `*_at` into the tables are in words, those into arrays in elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct Params {
    /// Always 0; shaders see through no uniform.
    pub(crate) opaque_zero: u32,
    /// Problems of this dispatch.
    pub(crate) count: u32,
    /// Workgroups in a row.
    pub(crate) columns: u32,
    /// The most that there can be.
    pub(crate) most_columns: u32,
    /// Numbers of problems.
    pub(crate) list_at: u32,
    /// Of every problem its first element, how many it has, its place among the sorted elements, and the passes over it in a
    /// link of a chain.
    pub(crate) problems_at: u32,
    pub(crate) cells: u32,
    pub(crate) rows: u32,
    pub(crate) spreads: u32,
    pub(crate) contrasts: u32,
    /// Rows with a coefficient for every sample.
    pub(crate) dense: u32,
    pub(crate) components: u32,
    pub(crate) features: u32,
    /// 0 for one stratum, [`STRATA_BY_LABEL`], or the values of the control feature.
    pub(crate) strata: u32,
    pub(crate) features_at: u32,
    pub(crate) rows_at: u32,
    pub(crate) spreads_at: u32,
    pub(crate) contrasts_at: u32,
    pub(crate) components_at: u32,
    pub(crate) levels_at: u32,
    /// Words from one problem's levels to the next one's; 0 where problems share them.
    pub(crate) levels_stride: u32,
    pub(crate) lower_at: u32,
    pub(crate) upper_at: u32,
    pub(crate) bounds_stride: u32,
    pub(crate) warm_at: u32,
    pub(crate) warm_stride: u32,
    pub(crate) flags: u32,
    /// The bits of scalar bounds.
    pub(crate) lo: u32,
    pub(crate) hi: u32,
    pub(crate) z_at: u32,
    pub(crate) g_at: u32,
    pub(crate) cells_at: u32,
    pub(crate) control_at: u32,
    pub(crate) weights_at: u32,
    /// Where the second floats are; [`ABSENT`] if there are none.
    pub(crate) weights_low_at: u32,
    pub(crate) labels_at: u32,
    pub(crate) labels_low_at: u32,
    pub(crate) coefficients_at: u32,
    pub(crate) coefficients_low_at: u32,
    pub(crate) lo_at: u32,
    pub(crate) hi_at: u32,
    pub(crate) max_iterations: u32,
    /// As two floats.
    pub(crate) tolerance: f32,
    pub(crate) tolerance_rest: f32,
    pub(crate) unit_roundoff: f32,
    pub(crate) totals_stride: u32,
    pub(crate) results_stride: u32,
    /// Which gradients to elements are wanted.
    pub(crate) wanted: u32,
    /// The place of a dispatch in the chain of `cells_newton`: 0 takes the list of the tables, others what was left before.
    pub(crate) link: u32,
    pub(crate) last_link: u32,
    /// The settings of ADMM, after which Newton goes on where that ended; [`ABSENT`] if Newton is all there is.
    pub(crate) admm_at: u32,
    /// Passes after which `cells_disjoint` leaves a problem.
    pub(crate) search_passes: u32,
    /// Of problems too large for a workgroup: how many tiles there are, how many problems, and the passes of their chain.
    pub(crate) tiles: u32,
    pub(crate) larges: u32,
    pub(crate) large_links: u32,
}

/// Marks what is not there.
pub(crate) const ABSENT: u32 = u32::MAX;
/// `Params::strata` where labels make the strata.
pub(crate) const STRATA_BY_LABEL: u32 = u32::MAX;

/// Bits of `Params::flags`.
pub(crate) mod flags {
    pub(crate) const SHARED_CELLS: u32 = 1;
    pub(crate) const SHARED_CONTROL: u32 = 2;
    pub(crate) const SHARED_WEIGHTS: u32 = 4;
    pub(crate) const SHARED_LABELS: u32 = 8;
    pub(crate) const SHARED_LO: u32 = 16;
    pub(crate) const SHARED_HI: u32 = 32;
    /// Cells are given, and not computed from groups.
    pub(crate) const GIVEN_CELLS: u32 = 64;
    pub(crate) const ELEMENT_LO: u32 = 128;
    pub(crate) const ELEMENT_HI: u32 = 256;
    pub(crate) const HAS_RATIO: u32 = 512;
    pub(crate) const RELAX: u32 = 1024;
    pub(crate) const HAS_WEIGHTS: u32 = 2048;
    pub(crate) const SHARED_COEFFICIENTS: u32 = 4096;
}

/// Bits of `Params::wanted`.
pub(crate) mod wanted {
    pub(crate) const BOUNDS: u32 = 1;
    pub(crate) const WEIGHTS: u32 = 2;
    pub(crate) const LABELS: u32 = 4;
    pub(crate) const COEFFICIENTS: u32 = 8;
}

/// Words of a problem's totals before those of its cells, and of a cell.
pub(crate) const TOTALS_HEAD: usize = 4;
pub(crate) const TOTALS_CELL: usize = 9;
/// Words of a problem's results before its multipliers.
pub(crate) const RESULTS_HEAD: usize = 8;
/// Words of the record of a problem that is cut into tiles.
pub(crate) const LARGE_RECORD: usize = 1456;
/// Words of a problem's state between two dispatches, before those of its rows, and of a row.
pub(crate) const STATE_HEAD: usize = 32;
pub(crate) const STATE_ROW: usize = 14;
/// The same of brackets: of a row, and of a spread.
pub(crate) const BRACKETS_ROW: usize = 12;
pub(crate) const BRACKETS_SPREAD: usize = 16;

/// Words of a sample in what kernels over samples work on: its rows' coefficients, its weight, value and distance beyond
/// its bounds; for ADMM its weight and three numbers, as two floats each.
pub(crate) fn sample_words(dense_rows: usize, is_admm: bool) -> usize {
    2 * dense_rows + if is_admm { 8 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::naga;

    fn common() -> naga::Module {
        let text = concat!(include_str!("../shaders/common.wgsl"), "@compute @workgroup_size(1) fn main() {}");
        naga::front::wgsl::parse_str(text).expect("common.wgsl parses")
    }

    /// Names and places of the fields as Rust has them.
    fn fields() -> Vec<(&'static str, usize)> {
        macro_rules! fields {
            ($($name:ident),+ $(,)?) => {{
                // A field that is missing here is an error of the compiler.
                let Params { $($name: _),+ } = Params::default();
                vec![$((stringify!($name), std::mem::offset_of!(Params, $name))),+]
            }};
        }
        fields!(
            opaque_zero,
            count,
            columns,
            most_columns,
            list_at,
            problems_at,
            cells,
            rows,
            spreads,
            contrasts,
            dense,
            components,
            features,
            strata,
            features_at,
            rows_at,
            spreads_at,
            contrasts_at,
            components_at,
            levels_at,
            levels_stride,
            lower_at,
            upper_at,
            bounds_stride,
            warm_at,
            warm_stride,
            flags,
            lo,
            hi,
            z_at,
            g_at,
            cells_at,
            control_at,
            weights_at,
            weights_low_at,
            labels_at,
            labels_low_at,
            coefficients_at,
            coefficients_low_at,
            lo_at,
            hi_at,
            max_iterations,
            tolerance,
            tolerance_rest,
            unit_roundoff,
            totals_stride,
            results_stride,
            wanted,
            link,
            last_link,
            admm_at,
            search_passes,
            tiles,
            larges,
            large_links,
        )
    }

    #[test]
    fn params_lie_alike_in_rust_and_in_shaders() {
        let module = common();
        let (_, params) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).expect("Params");
        let naga::TypeInner::Struct { members, span } = &params.inner else { panic!("Params is a struct") };
        let of_shader: Vec<(&str, usize)> =
            members.iter().map(|member| (member.name.as_deref().unwrap_or(""), member.offset as usize)).collect();
        assert_eq!(of_shader, fields());
        assert_eq!(*span as usize, size_of::<Params>());
    }

    #[test]
    fn constants_are_alike_in_rust_and_in_shaders() {
        let module = common();
        let in_shader = |name: &str| {
            let (_, constant) =
                module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name)).expect(name);
            match module.global_expressions[constant.init] {
                naga::Expression::Literal(naga::Literal::U32(value)) => value,
                ref other => panic!("{name} is {other:?}"),
            }
        };
        for (name, value) in [
            ("SHARED_CELLS", flags::SHARED_CELLS),
            ("SHARED_CONTROL", flags::SHARED_CONTROL),
            ("SHARED_WEIGHTS", flags::SHARED_WEIGHTS),
            ("SHARED_LABELS", flags::SHARED_LABELS),
            ("SHARED_LO", flags::SHARED_LO),
            ("SHARED_HI", flags::SHARED_HI),
            ("GIVEN_CELLS", flags::GIVEN_CELLS),
            ("ELEMENT_LO", flags::ELEMENT_LO),
            ("ELEMENT_HI", flags::ELEMENT_HI),
            ("HAS_RATIO", flags::HAS_RATIO),
            ("RELAX", flags::RELAX),
            ("HAS_WEIGHTS", flags::HAS_WEIGHTS),
            ("SHARED_COEFFICIENTS", flags::SHARED_COEFFICIENTS),
            ("WANT_BOUNDS", wanted::BOUNDS),
            ("WANT_WEIGHTS", wanted::WEIGHTS),
            ("WANT_LABELS", wanted::LABELS),
            ("WANT_COEFFICIENTS", wanted::COEFFICIENTS),
            ("NONE", ABSENT),
            ("NONE", STRATA_BY_LABEL),
            ("TOTALS_HEAD", TOTALS_HEAD as u32),
            ("TOTALS_CELL", TOTALS_CELL as u32),
            ("RESULTS_HEAD", RESULTS_HEAD as u32),
            ("MAX_CELLS", MAX_GPU_CELLS as u32),
            ("MAX_ROWS", MAX_GPU_ROWS as u32),
            ("CLAMP_LANES", crate::solution::CLAMP_LANES as u32),
            ("STATUS_SOLVED", crate::Status::Solved as u32),
            ("STATUS_ITERATION_LIMIT", crate::Status::IterationLimit as u32),
            ("STATUS_INFEASIBLE", crate::Status::Infeasible as u32),
            ("STATUS_BAD_NUMBER", crate::Status::BadNumber as u32),
            ("STATUS_RELAXED", crate::Status::Relaxed as u32),
        ] {
            assert_eq!(in_shader(name), value, "{name}");
        }
    }
}
