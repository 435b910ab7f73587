//! Trains the examples that `scripts/reference/train.py` made and trained with `fairness_training`: the same samples, first
//! weights, optimiser and epochs. `scripts/reference/compare.sh` runs both and compares.
//!
//! `cargo bench --no-default-features --features tch --bench reference -- FOLDER` leaves in every FOLDER/<example>/<seed>, for each
//! way of training, what `scripts/reference/judge.py` reads: the answers as they were stored, and how long it took.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use fairlayer::torch::{Dataset, Enforce, Evaluation, FairModel, FairnessLayer, Loader, Optimiser, Schedule, Trainer};
use fairlayer::{DemographicParity, MeanResidual, Population, SensitiveFeature};
use serde::Deserialize;
use tch::{Device, Reduction, Tensor, nn};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What `scripts/reference/examples.py` says of an example.
#[derive(Deserialize)]
struct Settings {
    name: String,
    seed: u64,
    columns: i64,
    shares: Vec<f64>,
    criterion: String,
    epsilon: f64,
    bounds: (f64, f64),
    sigmoid: bool,
    loss: String,
    learning_rate: f64,
    halve_on_plateau: Option<usize>,
    patience: usize,
    epochs: usize,
    batch: usize,
    valid_batch: usize,
    test_batch: usize,
    b_tau: usize,
}

/// What `scripts/reference/train.py` says of a training.
#[derive(Deserialize)]
struct Theirs {
    status: String,
    epochs: usize,
}

/// A way of training.
struct Variant {
    name: &'static str,
    /// Whether as `fairness_training` does it: by the batches that it made, over and over, to the weights of the last epoch unless
    /// it stopped early. Otherwise by this crate's own loader, to the weights of the best epoch.
    their_way: bool,
    enforce: Enforce,
}

const VARIANTS: [Variant; 3] = [
    Variant { name: "same batches", their_way: true, enforce: Enforce::Always },
    Variant { name: "own batches", their_way: false, enforce: Enforce::Always },
    Variant { name: "no layer", their_way: false, enforce: Enforce::Never },
];

impl Settings {
    fn layer(&self) -> Result<FairnessLayer> {
        let features = (0..self.shares.len()).map(|index| SensitiveFeature::new(format!("feature {index}"), 2));
        let people = Population::of_features(features);
        let layer = match self.criterion.as_str() {
            "parity" => FairnessLayer::new(&DemographicParity::within(self.epsilon), &people)?,
            "mean_residual" => FairnessLayer::new(&MeanResidual::within(self.epsilon), &people)?,
            other => return Err(format!("there is no criterion {other:?}").into()),
        };
        Ok(layer.bounds(self.bounds.0, self.bounds.1))
    }

    fn network(&self, store: &nn::VarStore) -> nn::Sequential {
        let root = store.root();
        let network = nn::seq()
            .add(nn::linear(&root / "first", self.columns, 64, Default::default()))
            .add_fn(|hidden| hidden.relu())
            .add(nn::linear(&root / "second", 64, 32, Default::default()))
            .add_fn(|hidden| hidden.relu())
            .add(nn::linear(&root / "output", 32, 1, Default::default()));
        if self.sigmoid { network.add_fn(|logits| logits.sigmoid()) } else { network }
    }

    fn loss(&self) -> Result<fn(&Tensor, &Tensor) -> Tensor> {
        Ok(match self.loss.as_str() {
            "bce" => |y, t| y.binary_cross_entropy::<Tensor>(t, None, Reduction::Mean),
            "clamped_bce" => |y, t| y.clamp(1e-6, 1.0 - 1e-6).binary_cross_entropy::<Tensor>(t, None, Reduction::Mean),
            "bce_of_logits" => |y, t| y.binary_cross_entropy_with_logits::<Tensor>(t, None, None, Reduction::Mean),
            "mse" => |y, t| y.mse_loss(t, Reduction::Mean),
            other => return Err(format!("there is no loss {other:?}").into()),
        })
    }

    /// The samples of a part. Their groups stand behind their target too, where the loss sees them.
    fn data(&self, tensors: &HashMap<String, Tensor>, part: &str) -> Result<Dataset> {
        let tensor = |what: &str| tensors[&format!("{part}.{what}")].shallow_clone();
        let (targets, groups) = (tensor("targets"), tensor("groups"));
        let marked = Tensor::cat(&[targets.shallow_clone(), groups.to_kind(targets.kind())], 1);
        Ok(Dataset::new(tensor("inputs"), marked, groups)?.with_labels(targets)?)
    }
}

/// Answers, with targets and groups behind them, batch by batch.
#[derive(Default)]
struct Answers(Vec<(Tensor, Tensor)>);

impl Answers {
    /// Adds what train.py calls `<part>.answers`, `.targets`, `.groups` and `.sizes`.
    fn tensors(&self, part: &str, tensors: &mut Vec<(String, Tensor)>) {
        if self.0.is_empty() {
            return;
        }
        let (answers, marked): (Vec<_>, Vec<_>) = self.0.iter().map(|(y, t)| (y.flatten(0, -1), t)).unzip();
        let sizes: Vec<i64> = answers.iter().map(|answers| answers.size()[0]).collect();
        let marked = Tensor::cat(&marked, 0);
        let groups = marked.narrow(1, 1, marked.size()[1] - 1).to_kind(tch::Kind::Int64);
        let named = [
            ("answers", Tensor::cat(&answers, 0)),
            ("targets", marked.select(1, 0)),
            ("groups", groups),
            ("sizes", Tensor::from_slice(&sizes)),
        ];
        tensors.extend(named.map(|(name, tensor)| (format!("{part}.{name}"), tensor.contiguous())));
    }
}

fn train(settings: &Settings, variant: &Variant, folder: &Path) -> Result<()> {
    let tensors: HashMap<String, Tensor> =
        Tensor::read_safetensors(folder.join("data.safetensors"))?.into_iter().collect();
    let data = |part: &str| settings.data(&tensors, part);

    let store = nn::VarStore::new(Device::Cpu);
    let network = settings.network(&store);
    tch::no_grad(|| store.read_safetensors(folder.join("weights.safetensors")))?;
    let layer = settings.layer()?;
    let (train, valid) = match variant.their_way {
        true => (Loader::in_order(&data("dealt_train")?, settings.batch)?, data("dealt_valid")?),
        false => (Loader::stratified(&data("train")?, &layer, settings.batch, settings.seed)?, data("valid")?),
    };
    let valid = Loader::in_order(&valid, settings.valid_batch)?;
    let test = Loader::in_order(&data("test")?, settings.test_batch)?;
    let model = FairModel::new(network, layer).b_tau(settings.b_tau).enforce(variant.enforce);

    let learnt = Rc::new(RefCell::new(Answers::default()));
    let (loss, seen) = (settings.loss()?, learnt.clone());
    let loss = move |y: &Tensor, marked: &Tensor| {
        if y.requires_grad() {
            seen.borrow_mut().0.push((y.detach().copy(), marked.shallow_clone()));
        }
        loss(y, &marked.narrow(1, 0, 1))
    };
    let schedule = match settings.halve_on_plateau {
        None => Schedule::Constant,
        Some(patience) => Schedule::Plateau { patience, factor: 0.5 },
    };
    let mut trainer = Trainer::new(model, store, loss, Optimiser::adam(settings.learning_rate)).schedule(schedule);
    let theirs: Theirs = serde_json::from_str(&std::fs::read_to_string(folder.join("fairness_training.json"))?)?;
    if !variant.their_way || (theirs.status == "trained" && theirs.epochs < settings.epochs) {
        trainer = trainer.early_stopping(settings.patience, 1e-5);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let trained = trainer.fit(&train, Some(&valid), settings.epochs).map(|_| ());

    let history = trainer.history().epochs.clone();
    let mut result = serde_json::json!({
        "system": "fairlayer",
        "variant": variant.name,
        "load": load.split(' ').take(3).filter_map(|load| load.parse::<f64>().ok()).collect::<Vec<_>>(),
        "status": if trained.is_ok() { "trained" } else { "crashed" },
        "epochs": history.len(),
        "steps": learnt.borrow().0.len(),
        "seconds": history.iter().map(|epoch| epoch.seconds).collect::<Vec<_>>(),
    });
    let mut kept = Vec::new();
    learnt.borrow().tensors("train", &mut kept);
    match trained {
        Err(error) => result["problem"] = error.to_string().into(),
        Ok(()) => {
            let began = Instant::now();
            let Evaluation { y, .. } = trainer.evaluate(&test)?;
            result["test_seconds"] = began.elapsed().as_secs_f64().into();
            let batches = test.epoch(0).collect::<fairlayer::Result<Vec<_>>>()?;
            let sizes: Vec<i64> = batches.iter().map(|batch| batch.len() as i64).collect();
            let answers = y.split_with_sizes(&sizes, 0).into_iter();
            let marked = batches.iter().map(|batch| batch.targets().shallow_clone());
            Answers(answers.zip(marked).collect()).tensors("test", &mut kept);
        }
    }
    let path = |ending: &str| folder.join(format!("fairlayer.{}.{ending}", variant.name.replace(' ', "_")));
    Tensor::write_safetensors(&kept, path("safetensors"))?;
    std::fs::write(path("json"), serde_json::to_string_pretty(&result)?)?;
    let best = history.iter().map(|epoch| epoch.seconds).fold(f64::INFINITY, f64::min);
    println!(
        "{}, seed {}, {}: {}, {} epochs, {best:.4} s an epoch at best",
        settings.name,
        settings.seed,
        variant.name,
        result["status"].as_str().unwrap_or_default(),
        history.len()
    );
    Ok(())
}

/// The folders in a folder, by name.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    Ok(folders)
}

fn main() -> Result<()> {
    // (Cargo adds options of its own.)
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) else {
        println!("reference: name the folder that scripts/reference/train.py made");
        return Ok(());
    };
    tch::set_num_threads(1);
    for example in folders(Path::new(&folder))? {
        for run in folders(&example)? {
            let settings: Settings = serde_json::from_str(&std::fs::read_to_string(run.join("settings.json"))?)?;
            for variant in &VARIANTS {
                train(&settings, variant, &run)?;
            }
        }
    }
    Ok(())
}
