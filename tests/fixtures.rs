//! The exact cases of `../shared/fixtures/projection`, through the library. Skipped, aloud, where they are absent.

mod common;

use fairlayer::*;
use std::collections::BTreeMap;
use std::io::Write;

struct Table {
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &std::path::Path) -> Self {
        let mut reader = csv::Reader::from_path(path).unwrap();
        let names = reader.headers().unwrap().iter().map(String::from).collect();
        let rows = reader.records().map(|row| row.unwrap().iter().map(String::from).collect()).collect();
        Self { names, rows }
    }
    fn text(&self, name: &str) -> Vec<String> {
        let column = self.names.iter().position(|other| other == name).unwrap();
        self.rows.iter().map(|row| row[column].clone()).collect()
    }
    fn numbers(&self, name: &str) -> Vec<f64> {
        self.text(name).iter().map(|text| text.parse().unwrap()).collect()
    }
    fn ids(&self, name: &str) -> (Vec<u8>, usize) {
        let text = self.text(name);
        let mut ids = BTreeMap::new();
        text.iter().for_each(|value| {
            ids.insert(value.clone(), 0);
        });
        ids.values_mut().enumerate().for_each(|(id, slot)| *slot = id as u8);
        (text.iter().map(|value| ids[value]).collect(), ids.len())
    }
}

fn worst_error<T: Storage>(device: &Device, table: &Table, arguments: &BTreeMap<String, String>) -> f64 {
    let number = |name: &str| arguments.get(name).map(|text| text.parse::<f64>().unwrap());
    let parity = match (number("--epsilon"), arguments.get("--compare").map(String::as_str)) {
        (None, _) => Parity::Ratio { ratio: number("--ratio").unwrap() },
        (Some(epsilon), Some("overall")) => Parity::Overall { epsilon },
        (Some(epsilon), _) => Parity::Pairwise { epsilon },
    };
    let criterion: Box<dyn Criterion> = match arguments["--criterion"].as_str() {
        "demographic-parity" => Box::new(DemographicParity(parity)),
        "equalized-odds" => Box::new(EqualizedOdds(parity)),
        "tpr-parity" => Box::new(TruePositiveRateParity(parity)),
        "conditional-parity" => Box::new(ConditionalParity(parity)),
        "mean-residual" => Box::new(MeanResidual { epsilon: number("--epsilon").unwrap() }),
        other => panic!("{other}"),
    };
    let features: Vec<_> = arguments["--sensitive"].split(',').map(|name| (name, table.ids(name))).collect();
    let mut population =
        Population::of_features(features.iter().map(|(name, (_, groups))| SensitiveFeature::new(*name, *groups)));
    let control = arguments.get("--control").map(|name| table.ids(name));
    if let Some((_, levels)) = &control {
        population = population.with_control(*levels);
    }
    let set = criterion.constraints(&population).unwrap();
    let z: Vec<T> = table.numbers("score").iter().map(|z| T::from_f64(*z)).collect();
    let problem = table.numbers("problem");
    let mut offsets = vec![0];
    offsets.extend((1..problem.len()).filter(|&i| problem[i] != problem[i - 1]));
    offsets.push(problem.len());
    let groups: Vec<Buffer<u8>> = features.iter().map(|(_, (ids, _))| ids.into()).collect();
    let bounds: Vec<f64> = arguments["--bounds"].split(',').map(|text| text.parse().unwrap()).collect();
    let labels = arguments.get("--label").map(|name| table.numbers(name));
    let weights = arguments.get("--weight").map(|name| table.numbers(name));
    let mut batch = Batch::new(&z, Offsets::Ragged(&offsets)).groups(&groups);
    batch = batch.bounds(T::from_f64(bounds[0]), T::from_f64(bounds[1]));
    if let Some(labels) = &labels {
        batch = batch.labels(labels);
    }
    if let Some(weights) = &weights {
        batch = batch.weights(weights);
    }
    if let Some((control, _)) = &control {
        batch = batch.control(control);
    }
    let capacities = Capacities::of(&batch.offsets());
    let mut projector = Projector::<T>::plan(device, &set, capacities, Settings::default()).unwrap();
    let solution = projector.project(&batch).unwrap();
    let view = solution.read().unwrap();
    assert!(view.all_solved(), "{:?}", view.outcomes);
    let exact = table.numbers("expected");
    let errors = view.y.iter().zip(&exact).map(|(y, exact)| (y.to_f64() - exact).abs());
    let worst = errors.fold(0.0, f64::max);
    let most = |f: fn(&Outcome) -> f64| view.outcomes.iter().map(f).fold(0.0, f64::max);
    println!(
        "    {:?} worst error {worst:.1e}, steps {}, passes {}, residual {:.1e}, excess {:.1e}",
        T::DTYPE,
        most(|o| f64::from(o.iterations)),
        most(|o| f64::from(o.passes)),
        most(|o| o.residual),
        most(|o| o.excess)
    );
    worst
}

#[test]
fn exact_cases() {
    check_cases(&Device::cpu());
}

#[test]
fn exact_cases_on_wgpu() {
    common::devices::run_on("wgpu", check_cases);
}

#[test]
fn exact_cases_on_cuda_emu() {
    common::devices::run_on("cuda_emu", check_cases);
}

#[test]
fn exact_cases_on_cuda() {
    common::devices::run_on("cuda", check_cases);
}

fn check_cases(device: &Device) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/projection");
    let Ok(cases) = std::fs::read_to_string(folder.join("cases.json")) else {
        // Past the capture of test output.
        writeln!(std::io::stderr(), "SKIP exact_cases: {} is absent", folder.display()).expect("stderr takes a line");
        return;
    };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() > 10);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let words: Vec<&str> = case["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let arguments = words.chunks(2).map(|pair| (pair[0].to_string(), pair[1].to_string())).collect();
        let table = Table::read(&folder.join(format!("{name}.csv")));
        println!("{name}");
        if common::devices::has(device, Dtype::F64) {
            let double = worst_error::<f64>(device, &table, &arguments);
            assert!(double <= 1e-9, "{name}: {double} in f64");
        }
        let single = worst_error::<f32>(device, &table, &arguments);
        assert!(single <= 5e-6, "{name}: {single} in f32");
    }
}
