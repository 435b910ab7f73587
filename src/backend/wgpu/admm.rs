//! ADMM on the device: its settings as kernels read them, its memory, and its dispatches.

use super::WgpuDevice;
use super::dispatch::EMULATED_ROUNDS;
use super::sizes::Class;
use crate::constraints::ConstraintSet;
use crate::params::Params;
use crate::settings::AdmmSettings;

/// The workgroup, of a problem of any size. Sums of two floats depend on how many lanes there are, so they are always as many.
pub(super) const CLASS: Class = Class::whole(64, 0);

/// Words of a problem's state between two dispatches, before those of its rows, and of a row. Beside them there are two
/// sums, of two floats each, for every pair of rows.
const HEAD: usize = 8;
const ROW: usize = 8;

/// Words of a problem's state between two dispatches.
pub(super) fn state_words(rows: usize) -> usize {
    HEAD + ROW * rows + 2 * rows * (rows + 1)
}

/// How many dispatches there are: on a GPU as many as the default limit of iterations takes, if a problem is not too large
/// for its part of them in one; emulated ones are short, and there the chain is the limit.
pub(super) fn links(device: &WgpuDevice) -> u32 {
    if device.is_emulated() { 48 } else { 32 }
}

/// The rounds of loops of one dispatch. (A driver may end one that takes seconds.)
const ROUNDS: u32 = 1 << 21;

/// Appends the settings, as single precision holds them.
pub(super) fn push_settings(device: &WgpuDevice, settings: &AdmmSettings, words: &mut Vec<u32>, params: &mut Params) {
    let AdmmSettings { eps_abs, eps_rel, max_iterations, relaxation, sigma, rho } = *settings;
    let rounds = if device.is_emulated() { EMULATED_ROUNDS as u32 / 2 } else { ROUNDS };
    let in_range = |value: f64| value.clamp(1e-18, 1e18);
    params.admm_at = words.len() as u32;
    words.push(max_iterations);
    let numbers = [eps_abs.min(1e18), eps_rel.min(1e18), relaxation, in_range(sigma), in_range(rho)];
    words.extend(numbers.map(|value| (value as f32).to_bits()));
    words.push(rounds);
}

/// The most rounds of a lane's loops in what ADMM does at once in a dispatch, for a problem of `n` elements.
pub(super) fn rounds_at_once(set: &ConstraintSet, n: usize) -> usize {
    let (rows, lanes) = (set.rows(), CLASS.lanes as usize);
    let (share, pairs) = (n.div_ceil(lanes), rows * (rows + 1) / 2);
    let load = share * (4 * set.dense().len() + 4) + n * set.dense().len() / lanes;
    let look = 5 * (share * (rows + 2) + n.div_ceil((lanes / rows.max(1)).max(1))) + 2 * share * (rows + 1);
    load + look.max(n * pairs.div_ceil(lanes) / (lanes / pairs.max(1)).max(1)) + 1000 + 10 * rows * rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::wgpu::shaders::{Dialect, Kernel};
    use crate::params::sample_words;
    use wgpu::naga;

    #[test]
    fn memory_is_laid_out_alike_in_rust_and_in_shaders() {
        let module =
            naga::front::wgsl::parse_str(&Kernel::DenseAdmm.source(Dialect::default())).expect("the module parses");
        for (name, value) in [("ADMM_HEAD", HEAD), ("ADMM_ROW", ROW), ("OWN_PLANES", sample_words(0, true))] {
            let named = |constant: &naga::Constant| constant.name.as_deref() == Some(name);
            let (_, constant) = module.constants.iter().find(|(_, constant)| named(constant)).expect(name);
            let literal = &module.global_expressions[constant.init];
            let naga::Expression::Literal(naga::Literal::U32(found)) = literal else { panic!("{name} is {literal:?}") };
            assert_eq!(*found as usize, value, "{name}");
        }
        let bytes = |lanes: u32| -> u32 {
            let of_variable = |variable: &naga::GlobalVariable| match module.types[variable.ty].inner {
                // (Those of as many elements as there are lanes have no size yet.)
                naga::TypeInner::Array { size: naga::ArraySize::Pending(_), stride, .. } => lanes * stride,
                ref inner => inner.size(module.to_ctx()),
            };
            let variables = module.global_variables.iter().map(|(_, variable)| variable);
            variables.filter(|variable| variable.space == naga::AddressSpace::WorkGroup).map(of_variable).sum()
        };
        println!("{} bytes of workgroup memory", bytes(CLASS.lanes));
        assert!(bytes(CLASS.lanes) <= 32768);
    }
}
