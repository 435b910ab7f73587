//! Training: no sample is lost, optimisers step as torch's own, batches are fair, the best weights are kept, and a training
//! that was interrupted goes on as if it had not been.
#![cfg(feature = "tch")]

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fairlayer::torch::*;
use fairlayer::*;
use tch::nn::OptimizerConfig;
use tch::{Kind, Tensor, nn};

#[path = "../examples/4_train.rs"]
mod example;

#[test]
fn the_example_runs() {
    let _alone = alone();
    example::main().unwrap();
}

/// Torch has one generator of random numbers for all threads.
static GENERATOR: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

const CPU: tch::Device = tch::Device::Cpu;
const EPSILON: f64 = 0.05;

fn host(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).contiguous().flatten(0, -1)).expect("numbers")
}

/// `n` samples of 8 features, of which the first is the group; its targets depend on both.
fn draw(seed: i64, n: i64) -> Dataset {
    tch::manual_seed(seed);
    let groups = Tensor::rand([n, 1], (Kind::Float, CPU)).lt(0.4);
    let rest = Tensor::randn([n, 7], (Kind::Float, CPU));
    let logit = rest.select(1, 0) * 1.5 - rest.select(1, 1) + groups.select(1, 0).to_kind(Kind::Float) * 1.5 - 0.5;
    let targets = Tensor::rand([n], (Kind::Float, CPU)).lt_tensor(&logit.sigmoid()).to_kind(Kind::Float).unsqueeze(1);
    let inputs = Tensor::cat(&[groups.to_kind(Kind::Float), rest], 1);
    Dataset::new(inputs, targets, groups.to_kind(Kind::Int64)).expect("a dataset")
}

/// A network with all that has a state of its own: weights, running means, and random numbers in training.
#[derive(Debug)]
struct Net {
    first: nn::Linear,
    norm: nn::BatchNorm,
    second: nn::Linear,
}

impl Net {
    fn new(store: &nn::VarStore, inputs: i64) -> Self {
        let root = store.root();
        Self {
            first: nn::linear(&root / "first", inputs, 16, Default::default()),
            norm: nn::batch_norm1d(&root / "norm", 16, Default::default()),
            second: nn::linear(&root / "second", 16, 1, Default::default()),
        }
    }
}

impl nn::ModuleT for Net {
    fn forward_t(&self, inputs: &Tensor, train: bool) -> Tensor {
        let hidden = inputs.apply(&self.first).apply_t(&self.norm, train).relu().dropout(0.2, train);
        hidden.apply(&self.second).sigmoid()
    }
}

fn parity() -> FairnessLayer {
    FairnessLayer::new(&DemographicParity::within(EPSILON), &Population::one_feature(2)).unwrap().bounds(0.0, 1.0)
}

fn model(seed: i64) -> (FairModel<Net>, nn::VarStore) {
    tch::manual_seed(seed);
    let store = nn::VarStore::new(CPU);
    (FairModel::new(Net::new(&store, 8), parity()), store)
}

fn cross_entropy(y: &Tensor, targets: &Tensor) -> Tensor {
    y.clamp(1e-6, 1.0 - 1e-6).binary_cross_entropy::<Tensor>(targets, None, tch::Reduction::Mean)
}

type Loss = fn(&Tensor, &Tensor) -> Tensor;

fn trainer(seed: i64) -> Trainer<Net, Loss> {
    let (model, store) = model(seed);
    Trainer::new(model, store, cross_entropy as Loss, Optimiser::adam(1e-2)).seed(seed)
}

fn weights(store: &nn::VarStore) -> HashMap<String, Vec<f64>> {
    store.variables().into_iter().map(|(name, tensor)| (name, host(&tensor))).collect()
}

#[test]
fn every_sample_is_dealt_once_and_every_cell_to_every_batch() {
    let _alone = alone();
    let n = 1003;
    let sizes = [(0, 400), (1, 560), (2, 40), (3, 3)];
    let groups: Vec<i64> = sizes.iter().flat_map(|&(group, count)| vec![group; count]).collect();
    let data = Dataset::new(
        Tensor::arange(n, (Kind::Int64, CPU)),
        Tensor::zeros([n], (Kind::Float, CPU)),
        Tensor::from_slice(&groups),
    )
    .unwrap();
    let layer = FairnessLayer::new(&DemographicParity::within(0.1), &Population::one_feature(4)).unwrap();
    let batches = |seed, epoch| -> Vec<Vec<i64>> {
        let loader = Loader::stratified(&data, &layer, 64, seed).unwrap();
        assert_eq!(loader.batches(), 16);
        loader.epoch(epoch).map(|batch| Vec::try_from(batch.unwrap().inputs()).unwrap()).collect()
    };
    let dealt = batches(7, 0);
    let mut all: Vec<i64> = dealt.concat();
    all.sort_unstable();
    assert_eq!(all, (0..n).collect::<Vec<_>>());
    for batch in &dealt {
        assert!((62..=63).contains(&batch.len()));
        for (group, count) in sizes {
            let own = batch.iter().filter(|&&sample| groups[sample as usize] == group).count();
            assert!(own == count / 16 || own == count.div_ceil(16), "{own} of group {group}");
        }
    }
    assert_eq!(dealt, batches(7, 0));
    // Who is with whom changes in every epoch.
    let together = |epoch| {
        let mut dealt = batches(7, epoch);
        dealt.iter_mut().for_each(|batch| batch.sort_unstable());
        dealt.sort();
        dealt
    };
    assert_ne!(together(1), together(2));
    assert_ne!(dealt, batches(7, 1));
    assert_ne!(dealt, batches(8, 0));
    // In order: as they are, the rest in a smaller batch.
    let loader = Loader::in_order(&data, 1000).unwrap();
    let sizes: Vec<usize> = loader.epoch(3).map(|batch| batch.unwrap().len()).collect();
    assert_eq!(sizes, [1000, 3]);
    assert!(Loader::in_order(&data, 0).is_err());
}

#[test]
fn labels_and_controls_make_cells_where_the_criterion_is_about_them() {
    let _alone = alone();
    let n = 800;
    let labels: Vec<f32> = (0..n).map(|sample| if sample % 20 == 0 { 1.0 } else { 0.0 }).collect();
    let groups = Tensor::arange(n, (Kind::Int64, CPU)).remainder(2);
    let targets = Tensor::from_slice(&labels).unsqueeze(1);
    let data = Dataset::new(targets.copy(), targets, groups).unwrap();
    let odds = FairnessLayer::new(&EqualizedOdds::within(0.1), &Population::one_feature(2)).unwrap();
    // (40 positives, all of group 0: 4 for each of 10 batches.)
    let loader = Loader::stratified(&data, &odds, 80, 1).unwrap();
    for batch in loader.epoch(0) {
        assert_eq!(host(batch.unwrap().inputs()).iter().sum::<f64>(), 4.0);
    }
}

#[test]
fn optimisers_step_as_those_of_torch() {
    let _alone = alone();
    type Make = fn(&nn::VarStore) -> nn::Optimizer;
    let cases: [(&str, Optimiser, Make); 4] = [
        ("adam", Optimiser::adam(1e-2), |store| nn::Adam::default().build(store, 1e-2).unwrap()),
        ("adam with decay", Optimiser::adam(1e-2).weight_decay(0.1), |store| {
            nn::Adam { wd: 0.1, ..Default::default() }.build(store, 1e-2).unwrap()
        }),
        ("descent", Optimiser::sgd(1e-1, 0.0), |store| nn::Sgd::default().build(store, 1e-1).unwrap()),
        ("momentum", Optimiser::sgd(1e-1, 0.9), |store| {
            nn::Sgd { momentum: 0.9, ..Default::default() }.build(store, 1e-1).unwrap()
        }),
    ];
    let data = draw(3, 200);
    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    let data = Dataset::new(double(data.inputs()), double(data.targets()), data.groups().shallow_clone()).unwrap();
    let batches = Loader::in_order(&data, 50).unwrap();
    let network = || {
        tch::manual_seed(11);
        let mut store = nn::VarStore::new(CPU);
        let root = store.root();
        let network = nn::seq()
            .add(nn::linear(&root / "first", 8, 16, Default::default()))
            .add_fn(|hidden| hidden.tanh())
            .add(nn::linear(&root / "second", 16, 1, Default::default()))
            .add_fn(|logits| logits.sigmoid());
        store.double();
        (FairModel::new(network, parity()), store)
    };
    for (name, optimiser, theirs) in cases {
        let (model, store) = network();
        let mut ours = Trainer::new(model, store, cross_entropy as Loss, optimiser);
        ours.fit(&batches, None, 5).unwrap();
        let (model, store) = network();
        let before = weights(&store);
        let mut optimizer = theirs(&store);
        for batch in (0..5).flat_map(|epoch| batches.epoch(epoch)) {
            let batch = batch.unwrap();
            let fair = model.forward(&batch).unwrap().y;
            optimizer.backward_step(&cross_entropy(&fair, batch.targets()));
        }
        let (ours, theirs) = (weights(ours.variables()), weights(&store));
        for (variable, theirs) in theirs {
            assert!(theirs != before[&variable]);
            for (ours, theirs) in ours[&variable].iter().zip(&theirs) {
                assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0), "{name}, {variable}: {ours}, {theirs}");
            }
        }
    }
}

#[test]
fn every_training_batch_is_fair_and_the_loss_falls() {
    let _alone = alone();
    let (train, valid) = (draw(21, 2000), draw(22, 600));
    let mut trainer = trainer(5);
    let batches = Loader::stratified(&train, trainer.model().layer(), 256, 5).unwrap();
    let history = trainer.fit(&batches, Some(&Loader::in_order(&valid, 600).unwrap()), 15).unwrap();
    assert_eq!(history.epochs.len(), 15);
    for epoch in &history.epochs {
        let gap = epoch.train_batch_gap.expect("both groups");
        assert!(gap <= EPSILON && epoch.train_batch_excess == 0.0, "{gap}");
        assert_eq!((epoch.unsolved_batches, epoch.incomplete_batches), (0, 0));
        assert!(epoch.valid_gap.expect("both groups") <= EPSILON);
    }
    assert!(history.epochs[14].train_loss < history.epochs[0].train_loss - 0.05);
    // The same without the layer is not fair, which is what makes the above mean something.
    let (model, store) = model(5);
    let model = model.enforce(Enforce::Never);
    let mut free = Trainer::new(model, store, cross_entropy as Loss, Optimiser::adam(1e-2));
    let gap = free.fit(&batches, None, 15).unwrap().epochs[14].train_gap.expect("both groups");
    assert!(gap > 4.0 * EPSILON, "{gap}");
}

#[test]
fn small_batches_are_streamed_and_large_ones_projected() {
    let _alone = alone();
    let data = draw(31, 6000);
    let mut trainer = trainer(6);
    let batches = Loader::stratified(&data, trainer.model().layer(), 256, 5).unwrap();
    trainer.fit(&batches, None, 5).unwrap();
    trainer.model_mut().set_enforce(Enforce::Never);
    let free = trainer.evaluate(&Loader::in_order(&data, 16).unwrap()).unwrap();
    let gap = free.gaps.unwrap().pooled;
    assert!(gap > 1.5 * EPSILON && free.multipliers.is_empty(), "{gap}");
    trainer.model_mut().set_enforce(Enforce::Always);
    for size in [1, 16] {
        let found = trainer.evaluate(&Loader::in_order(&data, size).unwrap()).unwrap();
        let gaps = found.gaps.expect("both groups");
        assert!(gaps.pooled <= EPSILON && gaps.pooled_excess == 0.0, "{gaps:?}");
        assert_eq!((found.samples, found.batches, found.y.size()), (6000, 6000_usize.div_ceil(size), vec![6000, 1]));
        // (But for rounding, which sums of another shape have.)
        assert!((&found.raw - &free.raw).abs().max().double_value(&[]) < 1e-6);
        // What the totals say is what the answers are.
        let (y, groups) = (host(&found.y), host(data.groups()));
        let mean = |group: f64| {
            let own: Vec<f64> = y.iter().zip(&groups).filter(|(_, id)| **id == group).map(|(y, _)| *y).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        assert!(((mean(0.0) - mean(1.0)).abs() - gaps.pooled).abs() < 1e-12);
        let (name, last, most) = &found.multipliers[1];
        assert_eq!((found.multipliers.len(), name.as_str()), (2, "group=1"));
        assert!(*most != 0.0 && most.abs() >= last.abs());
        assert_eq!(found.incomplete_batches > 0, size == 1);
        // Alone, no sample has a gap.
        assert_eq!((gaps.mean.is_none(), gaps.worst.is_none()), (size == 1, size == 1));
        assert_eq!((found.rows.len(), found.rows[0].0.as_str()), (1, "group=0 / group=1"));
        assert_eq!(found.rows[0].1, Some(gaps));
    }
    // Large: each by itself within epsilon.
    let found = trainer.evaluate(&Loader::in_order(&data, 500).unwrap()).unwrap();
    assert!(found.gaps.unwrap().worst.unwrap() <= EPSILON && found.gaps.unwrap().mean.unwrap() <= EPSILON);
    // An evaluation leaves no trace in what the model has inferred itself.
    assert!(trainer.model().streams().is_empty());
    let part = data.select(&[0, 1, 2, 3]).unwrap();
    let answered = trainer.model_mut().infer(&part).unwrap();
    assert!(answered.streamed && !answered.y.requires_grad());
    let large = trainer.model_mut().infer(&draw(32, 64)).unwrap();
    assert!(!large.streamed);
    assert_eq!(trainer.model().streams()[0].count(), 68);
    trainer.evaluate(&Loader::in_order(&part, 1).unwrap()).unwrap();
    assert_eq!(trainer.model().streams()[0].count(), 68);
    trainer.model_mut().reset_streams();
    assert!(trainer.model().streams().is_empty());
}

#[test]
fn a_network_does_not_see_hidden_columns() {
    let _alone = alone();
    let data = draw(41, 100);
    let store = nn::VarStore::new(CPU);
    let model = FairModel::new(Net::new(&store, 6), parity()).hiding_columns(&[0, 3]);
    let raw = |inputs: &Tensor| host(&model.raw(inputs, false).unwrap());
    let moved = data.inputs().copy();
    let _ = moved.select(1, 0).fill_(9.0);
    let _ = moved.select(1, 3).fill_(-9.0);
    assert_eq!(raw(&moved), raw(data.inputs()));
    let _ = moved.select(1, 1).fill_(9.0);
    assert_ne!(raw(&moved), raw(data.inputs()));
    let few = data.inputs().narrow(1, 0, 3);
    let said = model.raw(&few, false).unwrap_err().to_string();
    assert!(said.contains("[100, 3]") && said.contains("[0, 3]"), "{said}");
}

#[test]
fn batches_without_a_group_are_fair_as_to_the_others_and_say_so() {
    let _alone = alone();
    let layer = FairnessLayer::new(&DemographicParity::within(EPSILON), &Population::one_feature(3)).unwrap();
    let store = nn::VarStore::new(CPU);
    let mut model = FairModel::new(nn::linear(store.root(), 8, 1, Default::default()), layer);
    let data = draw(51, 300);
    let predicted = model.forward(&data).unwrap();
    assert_eq!(predicted.report().unwrap().inactive, ["group=2"]);
    assert!(predicted.is_incomplete().unwrap());
    let of = |group: i64| predicted.y.masked_select(&data.groups().eq(group)).mean(Kind::Double).double_value(&[]);
    assert!((of(0) - of(1)).abs() <= EPSILON);
    assert!(model.infer(&data.select(&[0, 1]).unwrap()).unwrap().is_incomplete().unwrap());
    let mut trainer =
        Trainer::new(model, store, |y: &Tensor, _: &Tensor| y.square().mean(Kind::Float), Optimiser::sgd(1e-3, 0.0));
    let batches = Loader::stratified(&data, trainer.model().layer(), 100, 0).unwrap();
    assert_eq!(trainer.fit(&batches, None, 1).unwrap().epochs[0].incomplete_batches, 3);
}

#[test]
fn several_outputs_are_made_fair_each() {
    let _alone = alone();
    let data = draw(61, 1000);
    let two = Tensor::cat(&[data.targets(), &(data.targets() * -2.0)], 1);
    let data = Dataset::new(data.inputs().shallow_clone(), two, data.groups().shallow_clone()).unwrap();
    let store = nn::VarStore::new(CPU);
    let layer = FairnessLayer::new(&DemographicParity::within(EPSILON), &Population::one_feature(2)).unwrap();
    let model = FairModel::new(nn::linear(store.root(), 8, 2, Default::default()), layer);
    let loss = |y: &Tensor, targets: &Tensor| y.mse_loss(targets, tch::Reduction::Mean);
    let mut trainer = Trainer::new(model, store, loss, Optimiser::sgd(0.1, 0.0));
    let batches = Loader::stratified(&data, trainer.model().layer(), 200, 0).unwrap();
    let history = trainer.fit(&batches, None, 10).unwrap();
    assert!(history.epochs[9].train_loss < history.epochs[0].train_loss);
    for size in [10, 500] {
        let found = trainer.evaluate(&Loader::in_order(&data, size).unwrap()).unwrap();
        assert_eq!((found.rows.len(), found.multipliers.len(), found.y.size()), (2, 4, vec![1000, 2]));
        assert!(found.rows.iter().all(|(_, gaps)| gaps.unwrap().pooled <= EPSILON), "{:?}", found.rows);
    }
}

#[test]
fn pooled_residuals_are_those_of_all_samples() {
    let _alone = alone();
    let data = draw(65, 500);
    let store = nn::VarStore::new(CPU);
    let layer = FairnessLayer::new(&MeanResidual::within(0.1), &Population::one_feature(2)).unwrap();
    let model = FairModel::new(nn::linear(store.root(), 8, 1, Default::default()), layer).enforce(Enforce::Never);
    let mut trainer = Trainer::new(model, store, cross_entropy as Loss, Optimiser::sgd(0.1, 0.0));
    let found = trainer.evaluate(&Loader::in_order(&data, 100).unwrap()).unwrap();
    let residuals = &found.y - data.targets();
    for (group, (name, gaps)) in found.rows.iter().enumerate() {
        let own = residuals.masked_select(&data.groups().eq(group as i64)).mean(Kind::Double).double_value(&[]);
        let gaps = gaps.expect("both groups have come");
        assert!((gaps.pooled - own.abs()).abs() < 1e-6, "{name}: {gaps:?}, {own}");
        assert!((gaps.pooled_excess - (own.abs() - 0.1).max(0.0)).abs() < 1e-6);
    }
    assert_eq!(found.rows.len(), 2);
}

#[test]
fn the_best_weights_come_back_whatever_ends_the_training() {
    let _alone = alone();
    let (train, valid) = (draw(71, 300), draw(72, 300));
    let valid = Loader::in_order(&valid, 300).unwrap();
    // By patience.
    let mut trainer = trainer(7).early_stopping(4, 0.0);
    let batches = Loader::stratified(&train, trainer.model().layer(), 50, 0).unwrap();
    let history = trainer.fit(&batches, Some(&valid), 200).unwrap().clone();
    let best = history.best(0.0).unwrap();
    assert_eq!(history.epochs.len(), best + 5, "patience");
    assert_eq!(Some(trainer.evaluate(&valid).unwrap().loss), history.epochs[best].valid_loss);
    assert!(history.epochs.iter().all(|epoch| epoch.valid_loss >= history.epochs[best].valid_loss));
    // By the number of epochs, which is not the best one; and then on, as if there had been no end between.
    let mut short = self::trainer(7).early_stopping(4, 0.0);
    short.fit(&batches, Some(&valid), best + 2).unwrap();
    assert!(weights(short.variables()) == weights(trainer.variables()));
    short.fit(&batches, Some(&valid), 200).unwrap();
    let losses = |history: &History| -> Vec<_> { history.epochs.iter().map(|epoch| epoch.train_loss).collect() };
    assert_eq!(losses(short.history()), losses(&history));
    assert!(weights(short.variables()) == weights(trainer.variables()));
    // By an error.
    let (model, store) = model(7);
    let calls = Cell::new(0);
    let loss = |y: &Tensor, targets: &Tensor| {
        calls.set(calls.get() + 1);
        cross_entropy(y, targets) * if calls.get() > 7 * (best as i32 + 2) { f64::NAN } else { 1.0 }
    };
    let mut failing = Trainer::new(model, store, loss, Optimiser::adam(1e-2)).seed(7).early_stopping(4, 0.0);
    let said = failing.fit(&batches, Some(&valid), 200).unwrap_err().to_string();
    assert!(said.contains("NaN") && said.contains("learning rate"), "{said}");
    assert!(weights(failing.variables()) == weights(trainer.variables()));
    // Without validation there is nothing to stop by.
    let said = self::trainer(7).early_stopping(4, 0.0).fit(&batches, None, 3).unwrap_err().to_string();
    assert!(said.contains("validation"), "{said}");
}

#[test]
fn schedules_set_the_learning_rate() {
    let _alone = alone();
    let data = draw(81, 100);
    let mut trainer = trainer(8).schedule(Schedule::Step { every: 2, factor: 0.5 });
    let history = trainer.fit(&Loader::in_order(&data, 100).unwrap(), None, 5).unwrap();
    let rates: Vec<f64> = history.epochs.iter().map(|epoch| epoch.learning_rate).collect();
    assert_eq!(rates, [1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3]);
}

/// A training with everything that has a state.
fn long(folder: &Path) -> Trainer<Net, Loss> {
    let schedule = Schedule::Plateau { patience: 0, factor: 0.7 };
    trainer(9).schedule(schedule).early_stopping(20, 0.0).checkpoints(folder).tag("long")
}

#[test]
fn a_training_goes_on_from_its_checkpoint_bit_by_bit() {
    let _alone = alone();
    let (train, valid) = (draw(91, 500), draw(92, 200));
    let valid = Loader::in_order(&valid, 20).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let mut one = long(&whole);
    let batches = Loader::stratified(&train, one.model().layer(), 64, 3).unwrap();
    one.fit(&batches, Some(&valid), 9).unwrap();
    for epochs in [1, 4, 5, 9] {
        let mut part = long(&parts);
        assert_eq!(part.resume().unwrap(), epochs > 1);
        part.fit(&batches, Some(&valid), epochs).unwrap();
    }
    let mut last = long(&parts);
    assert!(last.resume().unwrap());
    last.fit(&batches, Some(&valid), 9).unwrap();
    assert!(weights(last.variables()) == weights(one.variables()));
    let timeless = |history: &History| {
        let mut history = history.clone();
        history.epochs.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
        history
    };
    assert_eq!(timeless(last.history()), timeless(one.history()));
    assert_eq!(last.history().epochs.len(), 9);
    // For inference the best weights are there without a trainer.
    let (_, store) = model(1234);
    load_weights(&parts, &store).unwrap();
    assert!(weights(&store) == weights(one.variables()));
    // Nothing else is left in the folder.
    let left: Vec<_> = fs::read_dir(&parts).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["checkpoint.safetensors"]);
}

#[test]
fn the_streams_of_a_model_are_in_its_checkpoint() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = draw(95, 200);
    let batches = Loader::in_order(&data, 100).unwrap();
    let mut before = long(folder.path());
    before.fit(&batches, Some(&batches), 1).unwrap();
    for start in 0..20 {
        before.model_mut().infer(&data.select(&[3 * start, 3 * start + 1, 3 * start + 2]).unwrap()).unwrap();
    }
    before.fit(&batches, Some(&batches), 2).unwrap();
    let mut after = long(folder.path());
    assert!(after.resume().unwrap());
    assert_eq!(after.model().save_streams(), before.model().save_streams());
    assert_eq!(after.model().streams()[0].count(), 60);
}

#[test]
fn checkpoints_of_others_and_damaged_ones_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = draw(96, 100);
    let batches = Loader::in_order(&data, 100).unwrap();
    long(folder.path()).fit(&batches, Some(&batches), 1).unwrap();
    let refused = |trainer: Trainer<Net, Loss>, words: &str| {
        let before = weights(trainer.variables());
        let mut trainer = trainer;
        let said = trainer.resume().unwrap_err().to_string();
        assert!(said.contains("checkpoint.safetensors") && said.contains(words), "{said}");
        assert!(weights(trainer.variables()) == before);
    };
    let unlike = |tag: &str, optimiser: Optimiser, layer: FairnessLayer, inputs: i64| {
        let store = nn::VarStore::new(CPU);
        let model = FairModel::new(Net::new(&store, inputs), layer);
        Trainer::new(model, store, cross_entropy as Loss, optimiser).checkpoints(folder.path()).tag(tag)
    };
    refused(unlike("short", Optimiser::adam(1e-2), parity(), 8), "\"long\"");
    refused(unlike("long", Optimiser::sgd(1e-2, 0.9), parity(), 8), "Adam");
    refused(unlike("long", Optimiser::adam(1e-2), parity().bounds(0.0, 2.0), 8), "bounds");
    refused(unlike("long", Optimiser::adam(1e-2), parity(), 7), "first.weight");
    // A new training does not begin over an old one.
    let said = long(folder.path()).fit(&batches, Some(&batches), 1).unwrap_err().to_string();
    assert!(said.contains("resume"), "{said}");
    let path = folder.path().join("checkpoint.safetensors");
    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..100], &whole[..4], b"not a checkpoint at all", b""] {
        fs::write(&path, bytes).unwrap();
        refused(long(folder.path()), "damaged");
    }
    fs::remove_file(&path).unwrap();
    assert!(!long(folder.path()).resume().unwrap());
    assert!(load_weights(folder.path(), trainer(1).variables()).unwrap_err().to_string().contains("there is none"));
    assert!(trainer(1).resume().unwrap_err().to_string().contains("checkpoints"));
}

#[test]
fn misuse_says_what_to_do() {
    let _alone = alone();
    let data = draw(97, 10);
    let shorter = Tensor::zeros([9], (Kind::Int64, CPU));
    let of = |tensor: &Tensor| tensor.shallow_clone();
    let said = |result: Result<Dataset>| result.unwrap_err().to_string();
    assert!(said(Dataset::new(of(data.inputs()), of(data.targets()), of(&shorter))).contains("groups has 9"));
    assert!(said(data.clone().with_labels(of(&shorter))).contains("labels"));
    assert!(said(data.clone().with_control(of(&shorter))).contains("control"));
    assert!(said(data.select(&[10])).contains("no sample 10"));
    let empty = Tensor::zeros([0, 8], (Kind::Float, CPU));
    assert!(said(Dataset::new(of(&empty), of(&empty), of(&empty))).contains("no samples"));
    // Predictions that are no numbers stop the training.
    let store = nn::VarStore::new(CPU);
    let network = nn::func(|inputs: &Tensor| inputs.narrow(1, 0, 1) * f64::NAN);
    let mut trainer =
        Trainer::new(FairModel::new(network, parity()), store, cross_entropy as Loss, Optimiser::adam(1.0));
    let said = trainer.fit(&Loader::in_order(&data, 10).unwrap(), None, 1).unwrap_err().to_string();
    assert!(said.contains("NaN"), "{said}");
}
