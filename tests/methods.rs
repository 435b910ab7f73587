//! Dense rows by both methods and by clarabel, on random problems by the thousand: every answer judged by its KKT residual,
//! every status compared.
//!
//! `FAIRLAYER_STRESS=100000 cargo test --release --test methods -- --nocapture` runs a hundred thousand and prints the
//! counts; `FAIRLAYER_SEED` picks others, `FAIRLAYER_LARGEST` sets their largest size. `FAIRLAYER_KINDS=DenseCorner,Dense`
//! runs those kinds alone, `FAIRLAYER_ONLY=DenseCorner:1993414581158468` (or several, with commas) those problems alone.

mod common;

use common::clarabel::{Verdict, ask, distance, least_relaxation, worth_of};
use common::kkt::{judge, mended_stationarity, proves};
use common::problems::{Case, Kind, draw_case};
use common::rows::{Limits, excess, live_rows};
use common::run::{by_weight, largest};
use fairlayer::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

/// Clarabel is asked about problems of up to this size: it takes all rows and bounds as one matrix.
const ASKED: usize = 120;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What one method made of a problem.
struct Answer {
    outcome: Outcome,
    y: Vec<f64>,
    nu: Vec<f64>,
}

fn solve(case: &Case, method: Method, tolerance: f64) -> Answer {
    solve_with(case, Settings { method, tolerance, ..Settings::default() })
}

fn solve_with(case: &Case, settings: Settings) -> Answer {
    let p = &case.stated;
    let coefficients = p.coefficients.concat();
    let mut batch = Batch::single(&p.z).cells(&p.cells).coefficients(&coefficients);
    batch = if case.scalar_bounds { batch.bounds(p.lo[0], p.hi[0]) } else { batch.element_bounds(&p.lo, &p.hi) };
    if case.weighted {
        batch = batch.weights(&p.weights);
    }
    let mut projector =
        Projector::<f64>::plan(Device::cpu(), &case.set, Capacities::single(p.z.len()), settings).unwrap();
    let solution = projector.project(&batch).unwrap();
    let view = solution.read().unwrap();
    Answer { outcome: view.outcomes[0], y: view.y.to_vec(), nu: view.multipliers.to_vec() }
}

/// How far apart two answers are; light samples count by the root of their weight.
fn apart(case: &Case, a: &[f64], b: &[f64]) -> f64 {
    let known = |y: &[f64]| by_weight(y, &case.stated.weights);
    known(a).iter().zip(known(b)).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[derive(Default)]
struct Tally {
    /// Newton's steps and ADMM's iterations, of problems that have something to solve.
    steps: [Vec<u32>; 2],
    infeasible: usize,
    worst: f64,
    /// The largest of what rounding the multipliers leaves open.
    rounding: f64,
    /// How many answers leave so much open that it took multipliers of more digits to judge them.
    mended: usize,
    apart: f64,
    /// How many were compared at tolerance 0, since their rows leave y less known.
    finer: usize,
    asked: usize,
    /// How many of clarabel's answers are farther than 2e-5, as far as its own objective lets them be.
    unclear: usize,
    apart_from_clarabel: f64,
    objective: f64,
    /// How far relaxations are from the least that is needed.
    relaxed_more: f64,
    /// Of these, how many by more than 3e-6.
    roomy: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        let [newton, admm] = other.steps;
        self.steps[0].extend(newton);
        self.steps[1].extend(admm);
        self.infeasible += other.infeasible;
        self.finer += other.finer;
        self.mended += other.mended;
        self.asked += other.asked;
        self.unclear += other.unclear;
        self.roomy += other.roomy;
        for (own, other) in [
            (&mut self.worst, other.worst),
            (&mut self.rounding, other.rounding),
            (&mut self.apart, other.apart),
            (&mut self.apart_from_clarabel, other.apart_from_clarabel),
            (&mut self.objective, other.objective),
            (&mut self.relaxed_more, other.relaxed_more),
        ] {
            *own = own.max(other);
        }
        self.wrong.extend(other.wrong);
        self
    }

    fn look_at(&mut self, kind: Kind, seed: u64, largest_n: usize) {
        let case = draw_case(&mut Pcg64Mcg::seed_from_u64(seed), kind, largest_n);
        let answers = [Method::Newton, Method::Admm].map(|method| solve(&case, method, Settings::default().tolerance));
        let what = format!("{kind:?}, seed {seed}, n {}, m {}", case.stated.z.len(), case.set.rows());
        let mut found = Vec::new();
        let mut wrong = |why: String| found.push(format!("{what}: {why}"));
        let [newton, admm] = &answers;
        let status = newton.outcome.status;
        if admm.outcome.status != status {
            wrong(format!("Newton {:?}, ADMM {:?}", newton.outcome, admm.outcome));
        }
        for answer in &answers {
            match answer.outcome.status {
                Status::Solved => {
                    let kkt = judge(&case.set, &case.stated, &answer.y, &answer.nu, 1e-9);
                    self.worst = self.worst.max(kkt.worst());
                    self.rounding = self.rounding.max(kkt.rounding);
                    let (met, told) = (kkt.worst() <= 1e-9, kkt.rounding <= 1e-5 * largest(&case.stated.z).max(1.0));
                    if !met {
                        wrong(format!("{:?}, {kkt:?}", answer.outcome));
                    }
                    if !told {
                        // In exact arithmetic such rows have multipliers that are as large. They have to be right to more
                        // digits than were reported.
                        self.mended += 1;
                        let stationarity = mended_stationarity(&case.set, &case.stated, &answer.y, &answer.nu);
                        let right = stationarity <= 1e-9;
                        if !right {
                            wrong(format!("{:?}, {kkt:?}, mended {stationarity:e}", answer.outcome));
                        }
                    }
                    if case.feasible == Some(false) {
                        wrong("it has no solution".into());
                    }
                }
                Status::Infeasible => {
                    let proof = proves(&case.set, &case.stated, &Limits::of(&case.set), &answer.nu);
                    if case.feasible == Some(true) || proof.is_err() {
                        wrong(format!("called infeasible: {proof:?}"));
                    }
                }
                _ => wrong(format!("{:?}", answer.outcome)),
            }
        }
        if status == Status::Infeasible {
            self.infeasible += 1;
        } else if newton.outcome.iterations > 0 {
            self.steps[0].push(newton.outcome.iterations);
            self.steps[1].push(admm.outcome.iterations);
        }
        if answers.iter().all(|answer| answer.outcome.status == Status::Solved) {
            let scale = largest(&case.stated.z).max(1.0);
            let mut far = apart(&case, &newton.y, &admm.y) / scale;
            if far > 1e-8 {
                // Rows kept to 1e-11 leave y less known than that where they nearly depend on each other.
                let [newton, admm] = [Method::Newton, Method::Admm].map(|method| solve(&case, method, 0.0));
                self.finer += 1;
                for exact in [&newton, &admm] {
                    if exact.outcome.status != Status::Solved {
                        wrong(format!("at tolerance 0: {:?}", exact.outcome));
                    }
                }
                far = apart(&case, &newton.y, &admm.y) / scale;
            }
            self.apart = self.apart.max(far);
            if far > 1e-8 {
                wrong(format!("the methods are {far:.1e} apart"));
            }
        }
        self.wrong.append(&mut found);
        if status == Status::Infeasible {
            self.relax(&case, &what);
        }
        if case.stated.z.len() <= ASKED {
            self.ask_clarabel(&case, newton, &what);
        }
    }

    /// The nearest point of those that violate the rows the least: the same by both methods, and no more than is needed.
    fn relax(&mut self, case: &Case, what: &str) {
        let of = |method| Settings { method, infeasible: Infeasible::NearestFeasible, ..Settings::default() };
        let answers = [Method::Newton, Method::Admm].map(|method| solve_with(case, of(method)));
        let rows = live_rows(&case.set, &case.stated);
        let needed = if case.stated.z.len() <= ASKED { least_relaxation(&case.set, &case.stated, &rows) } else { None };
        for answer in &answers {
            let measured = excess(&case.set, &rows, &Limits::of(&case.set), &answer.y).max(0.0);
            let more = measured - needed.unwrap_or(answers[0].outcome.excess);
            self.relaxed_more = self.relaxed_more.max(more.abs());
            self.roomy += usize::from(more.abs() > 3e-6);
            if answer.outcome.status != Status::Relaxed
                || more.abs() > 2.2e-4
                || (measured - answer.outcome.excess).abs() > 1e-9
            {
                let Outcome { status, excess, .. } = answer.outcome;
                self.wrong.push(format!("{what}: {status} by {excess:e}, measured {measured:e}, needed {needed:?}"));
            }
        }
    }

    fn ask_clarabel(&mut self, case: &Case, ours: &Answer, what: &str) {
        let p = &case.stated;
        let rows = live_rows(&case.set, p);
        let status = match ask(&case.set, p, &rows) {
            Verdict::Undecided => return,
            Verdict::Infeasible => Status::Infeasible,
            Verdict::Solved(theirs) => {
                if ours.outcome.status == Status::Solved {
                    let scale = largest(&p.z).max(1.0);
                    let far = apart(case, &ours.y, &theirs) / scale;
                    self.apart_from_clarabel = self.apart_from_clarabel.max(far);
                    // It is a little outside of its limits, and the closer for it.
                    let beyond = excess(&case.set, &rows, &Limits::of(&case.set), &theirs).max(0.0);
                    let outside = (0..theirs.len()).map(|i| (theirs[i] - p.hi[i]).max(p.lo[i] - theirs[i]));
                    // And ours is a margin inside of them.
                    let inside = judge(&case.set, p, &ours.y, &ours.nu, 1e-9).complementarity;
                    let bought =
                        worth_of(beyond + inside, p, &rows, &ours.nu) + outside.fold(0.0, f64::max) * 2.0 * scale;
                    let (mine, other) = (distance(p, &ours.y), distance(p, &theirs));
                    let more = (mine - other - bought) / other.max(1e-5);
                    self.objective = self.objective.max(more);
                    // The objective is strongly convex: how far it is from the least one bounds how far y is.
                    let explained = (2.0 * (other - mine + bought).max(0.0)).sqrt();
                    self.unclear += usize::from(far > 2e-5);
                    if far * scale > explained.max(2e-5 * scale) || more > 1e-10 {
                        self.wrong.push(format!("{what}: clarabel is {far:.1e} apart, {more:.1e} nearer"));
                    }
                }
                Status::Solved
            }
        };
        self.asked += 1;
        if status != ours.outcome.status {
            self.wrong.push(format!("{what}: clarabel says {status}, {:?}", ours.outcome));
        }
    }
}

fn quantiles(mut values: Vec<u32>) -> [u32; 3] {
    values.sort_unstable();
    [0.5, 0.99, 1.0].map(|q| values.get(((values.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(0))
}

/// The comma-separated parts of an environment variable; none where it is not set.
fn parts(name: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_default();
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn kind_named(name: &str) -> Kind {
    let named = |kind: &Kind| format!("{kind:?}") == name;
    Kind::DENSE.into_iter().find(named).unwrap_or_else(|| panic!("{name} is none of {:?}", Kind::DENSE))
}

/// The problems that `FAIRLAYER_ONLY` names: all that is found of each.
fn look_at_only(problems: &[String], largest_n: usize) {
    let mut wrong = Vec::new();
    for problem in problems {
        let (kind, seed) = problem.split_once(':').expect("kind:seed");
        let mut tally = Tally::default();
        tally.look_at(kind_named(kind), seed.parse().expect("a seed"), largest_n);
        let Tally { steps, worst, rounding, apart, relaxed_more, .. } = &tally;
        println!(
            "{problem}: steps {steps:?}, residual {worst:.1e}, rounding {rounding:.1e}, {apart:.1e} apart, relaxed {relaxed_more:.1e} off"
        );
        tally.wrong.iter().for_each(|wrong| println!("    {wrong}"));
        wrong.append(&mut tally.wrong);
    }
    assert!(wrong.is_empty(), "{} wrong", wrong.len());
}

/// Where neither method came to an end, where one of them called infeasible what is not, or where the multipliers were
/// needlessly large.
#[test]
fn problems_that_were_hard_are_solved() {
    let problems = [
        "DenseConditioned:1990116046275508",
        "DenseConditioned:1990116046277573",
        "DenseConditioned:1990116046278102",
        "DenseConditioned:1990116046280291",
        "DenseConditioned:1990116046282835",
        "DenseConditioned:1990116046291187",
        "DenseCorner:1993414581158181",
        "DenseCorner:1993414581158468",
        "DenseCorner:1993414581159466",
        "DenseCorner:1993414581161035",
    ];
    look_at_only(&problems.map(str::to_owned), 4_096);
}

#[test]
fn both_methods_and_clarabel_agree() {
    let count = (number("FAIRLAYER_STRESS", 3_000) as usize).div_ceil(Kind::DENSE.len());
    let largest_n = number("FAIRLAYER_LARGEST", 4_096) as usize;
    let first = number("FAIRLAYER_SEED", 1) << 48;
    let (only, named) = (parts("FAIRLAYER_ONLY"), parts("FAIRLAYER_KINDS"));
    if !only.is_empty() {
        return look_at_only(&only, largest_n);
    }
    let kinds: Vec<Kind> =
        if named.is_empty() { Kind::DENSE.into() } else { named.iter().map(|name| kind_named(name)).collect() };
    let mut all = Tally::default();
    for kind in kinds {
        let one = |index: usize| {
            let mut tally = Tally::default();
            tally.look_at(kind, first ^ ((kind as u64) << 40) ^ index as u64, largest_n);
            tally
        };
        let tally = (0..count).into_par_iter().map(one).reduce(Tally::default, Tally::add);
        println!(
            "{kind:?}: {count} problems, {} infeasible, Newton {:?} steps, ADMM {:?}, residual {:.1e}, rounding {:.1e} ({} mended), {:.1e} apart ({} at tolerance 0), {} asked of clarabel, {:.1e} from it ({} beyond 2e-5), {:.1e} farther, relaxed {:.1e} off ({} by more than 3e-6), {} wrong",
            tally.infeasible,
            quantiles(tally.steps[0].clone()),
            quantiles(tally.steps[1].clone()),
            tally.worst,
            tally.rounding,
            tally.mended,
            tally.apart,
            tally.finer,
            tally.asked,
            tally.apart_from_clarabel,
            tally.unclear,
            tally.objective,
            tally.relaxed_more,
            tally.roomy,
            tally.wrong.len(),
        );
        tally.wrong.iter().take(12).for_each(|wrong| println!("    {wrong}"));
        all = all.add(tally);
    }
    let newton = quantiles(all.steps[0].clone());
    println!(
        "in all: Newton {newton:?} steps, ADMM {:?} iterations (median, p99, most)",
        quantiles(all.steps[1].clone())
    );
    assert!(newton[0] <= 4, "Newton takes {} steps at the median", newton[0]);
    assert!(all.roomy * 25 <= all.infeasible, "{} of {} are relaxed needlessly far", all.roomy, all.infeasible);
    assert!(all.wrong.is_empty(), "{} wrong", all.wrong.len());
}
