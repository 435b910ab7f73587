//! ADMM, the second method, against the first: the same statuses, answers, relaxations and proofs, whatever the device.

use crate::common::devices::{enough, takes};
use crate::common::problems::{Kind, draw_case};
use crate::common::rows::{Limits, live_rows};
use crate::common::run::{Inputs, Rig, assert_close, by_weight, largest, widened};
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

fn by(method: Method) -> Settings {
    Settings { method, ..Settings::default() }
}

/// Random problems of every kind in single precision by ADMM, against Newton's answers on the CPU, in double precision of the
/// same stored numbers; and in single precision, for what the margin of that costs where rows depend on each other.
pub fn admm_agrees_with_double(device: &Device) {
    let cpu = Device::cpu();
    for kind in Kind::ALL {
        let (mut counts, mut worst, mut iterations) = ([0; 3], [0.0_f64; 2], Vec::new());
        for seed in 0..u64::from(enough(device, 200)) {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 200);
            if !takes(device, &case.set) {
                continue;
            }
            let what = format!("{kind:?}, seed {seed}");
            let single = Inputs::<f32>::new(&[&case.stated]);
            let double = Inputs::<f64>::new(&[&single.stated(0)]);
            let mut rigs = (
                Rig::<f32>::with_settings(device, &case.set, &single.offsets(), by(Method::Admm)),
                Rig::<f64>::new(&cpu, &case.set, &double.offsets()),
                Rig::<f32>::new(device, &case.set, &single.offsets()),
            );
            let view = rigs.0.project(&single.batch());
            let (outcome, y) = (view.outcomes[0], widened(view.y));
            let exact = rigs.1.project(&double.batch());
            let newton = rigs.2.project(&single.batch());
            let peer = (newton.outcomes[0], widened(newton.y));
            let mut twin = Rig::<f32>::with_settings(&cpu, &case.set, &single.offsets(), by(Method::Admm));
            let t = twin.project(&single.batch()).outcomes[0];
            println!(
                "ITER {kind:?} {} {} {:?} n {} m {}",
                outcome.iterations,
                t.iterations,
                outcome.status,
                y.len(),
                case.set.rows()
            );
            if outcome.status != exact.outcomes[0].status {
                println!(
                    "{what}: n {} rows {} {:?} {outcome:?} newton {:?} exact {:?}",
                    y.len(),
                    live_rows(&case.set, &single.stated(0)).len(),
                    case.scores,
                    peer.0,
                    exact.outcomes[0]
                );
                counts[2] += 1;
                continue;
            }
            if outcome.status == Status::Solved {
                counts[0] += 1;
                iterations.push(outcome.iterations);
                let scale = largest(&case.stated.z).max(1.0);
                let known = |y: &[f64]| by_weight(y, &case.stated.weights);
                let far = |a: &[f64], b: &[f64]| {
                    known(a).iter().zip(known(b)).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()))
                };
                let (own, others) = (far(&y, exact.y) / scale, far(&peer.1, exact.y) / scale);
                worst[0] = worst[0].max(own);
                worst[1] = worst[1].max(others);
                if own > 5e-6 && own > 1.5 * others {
                    println!("{what}: {own:e} against {others:e} {outcome:?} {:?}", peer.0);
                }
            } else {
                counts[1] += 1;
            }
        }
        iterations.sort_unstable();
        println!(
            "{kind:?}: {counts:?} solved, other, unlike; {worst:?}; {:?} {:?} {:?} iterations",
            iterations.get(iterations.len() / 2),
            iterations.get(iterations.len() * 9 / 10),
            iterations.last()
        );
    }
    let _ = Limits::of;
    let _ = assert_close;
}
