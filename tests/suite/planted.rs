//! Planted solutions: the answer is known to the last digit, and no solver was asked.

use crate::common::planted::{MARGIN, planted_problems};
use crate::common::run::{Inputs, Rig, assert_close, exact, largest, widened};
use crate::for_each_storage;
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

const ROUNDS: u64 = 20;

pub fn planted_solutions_are_found(device: &Device) {
    for seed in 0..ROUNDS {
        for p in planted_problems(&mut Pcg64Mcg::seed_from_u64(seed)) {
            let inputs = Inputs::<f64>::new(&[&p.stated]).limited(&p.limits);
            // A multiplier is a shift times the weight of its rows: what y is off by is magnified in it.
            for (settings, of_nu) in [(Settings::default(), 1e-8), (exact(), 1e-10)] {
                let mut rig = Rig::with_settings(device, &p.set, &inputs.offsets(), settings);
                let view = rig.project(&inputs.batch());
                let what = format!("{} (seed {seed})", p.name);
                assert_eq!(view.outcomes[0].status, Status::Solved, "{what}");
                assert_close(&format!("y of {what}"), view.y, &p.y, 1e-9);
                assert_close(&format!("nu of {what}"), view.multipliers, &p.nu, of_nu * largest(&p.nu));
                for (i, state) in p.states.iter().enumerate() {
                    assert_eq!(view.clamp_state(0, i), *state, "element {i} of {what}");
                }
            }
        }
    }
}

pub fn planted_solutions_are_found_in_every_storage(device: &Device) {
    for_each_storage!(device, planted_in_storage);
}

/// Rounding the problem, and the margin that keeps the stored answer within its limits, move the solution by some ulp,
/// magnified by the condition of the rows. Clamp states stay where that is within the planted margin.
fn planted_in_storage<T: Storage>(device: &Device) {
    let tolerance = 1e-9 + 64.0 * T::UNIT_ROUNDOFF;
    for seed in 0..ROUNDS {
        for p in planted_problems(&mut Pcg64Mcg::seed_from_u64(seed)) {
            let inputs = Inputs::<T>::new(&[&p.stated]).limited(&p.limits);
            let mut rig = Rig::new(device, &p.set, &inputs.offsets());
            let view = rig.project(&inputs.batch());
            let what = format!("{} in {:?} (seed {seed})", p.name, T::DTYPE);
            assert_eq!(view.outcomes[0].status, Status::Solved, "{what}");
            assert_close(&format!("y of {what}"), &widened(view.y), &p.y, tolerance);
            let clamped = (0..p.y.len()).filter(|&i| tolerance < MARGIN && view.clamp_state(0, i) != p.states[i]);
            assert_eq!(clamped.count(), 0, "clamp states of {what}");
        }
    }
}
