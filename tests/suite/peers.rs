//! An independent solver, clarabel, on small problems of every kind.

use crate::common::clarabel::{Verdict, ask, distance, worth_of};
use crate::common::devices::takes;
use crate::common::problems::{Kind, draw_case};
use crate::common::rows::{Limits, live_rows};
use crate::common::run::{Inputs, Rig, assert_close, by_weight, largest};
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

pub fn answers_agree_with_clarabel(device: &Device) {
    let (mut solved, mut infeasible, mut undecided, mut unlike) = (0, 0, 0, Vec::new());
    for kind in Kind::ALL {
        for seed in 0..16 {
            let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed << 8 | kind as u64), kind, 60);
            if !takes(device, &case.set) {
                continue;
            }
            let what = format!("{kind:?} (seed {seed})");
            let p = &case.stated;
            let rows = live_rows(&case.set, p);
            let verdict = ask(&case.set, p, &rows);
            let inputs = Inputs::<f64>::new(&[p]);
            let mut rig = Rig::new(device, &case.set, &inputs.offsets());
            let view = rig.project(&inputs.batch());
            let status = view.outcomes[0].status;
            match verdict {
                Verdict::Solved(theirs) => {
                    solved += 1;
                    if status != Status::Solved {
                        unlike.push(format!("{what}: {:?}", view.outcomes[0]));
                        continue;
                    }
                    let scale = largest(&p.z).max(1.0);
                    let known = |y: &[f64]| by_weight(y, &p.weights);
                    assert_close(&format!("y of {what}"), &known(view.y), &known(&theirs), 2e-5 * scale);
                    let (ours, other) = (distance(p, view.y), distance(p, &theirs));
                    let beyond = crate::common::rows::excess(&case.set, &rows, &Limits::of(&case.set), &theirs);
                    let outside = (0..theirs.len()).map(|i| (theirs[i] - p.hi[i]).max(p.lo[i] - theirs[i]));
                    let bought = worth_of(beyond.max(0.0) + 1e-11, p, &rows, view.multipliers)
                        + outside.fold(0.0, f64::max) * 2.0 * scale;
                    assert!(ours <= other * (1.0 + 1e-10) + bought + 1e-15, "{what}: {ours:e} against {other:e}");
                }
                Verdict::Infeasible => {
                    infeasible += 1;
                    if status != Status::Infeasible {
                        unlike.push(format!("{what} is infeasible: {:?}", view.outcomes[0]));
                    }
                }
                Verdict::Undecided => undecided += 1,
            }
        }
    }
    assert!(unlike.is_empty(), "other statuses: {unlike:#?}");
    assert!(solved >= 200 && infeasible > 0 && undecided <= 20, "{solved} solved, {infeasible}, {undecided}");
}
