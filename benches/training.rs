//! What the layer adds to an epoch of training on the CPU: a 64-32 network at batches of 256, by torch's own optimiser, with and
//! without it; and the same by the trainer, which also measures every batch. All take turns, epoch by epoch, so that what else the
//! machine does is the same for all; printed are medians, and what they are of the one without the layer.
//!
//! `cargo bench --no-default-features --features tch --bench training` (see README, Torch, for libtorch)

use std::time::Instant;

use fairlayer::torch::{Dataset, Enforce, FairModel, FairnessLayer, Loader, Optimiser, Trainer};
use fairlayer::{DemographicParity, EqualizedOdds, Population, Result};
use tch::nn::{ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor, nn};

const SAMPLES: i64 = 5120;
const INPUTS: i64 = 16;
const BATCH: usize = 256;
const EPOCHS: usize = 400;

fn draw() -> Dataset {
    tch::manual_seed(1);
    let options = (Kind::Float, Device::Cpu);
    let inputs = Tensor::randn([SAMPLES, INPUTS], options);
    let group = inputs.narrow(1, 0, 1).gt(0.2);
    let chance = (inputs.narrow(1, 1, 1) * 2.0 + group.to_kind(Kind::Float)).sigmoid();
    let labels = Tensor::rand([SAMPLES, 1], options).lt_tensor(&chance).to_kind(Kind::Float);
    Dataset::new(inputs, labels, group.to_kind(Kind::Int64)).expect("a dataset")
}

fn network(store: &nn::VarStore) -> nn::Sequential {
    let root = store.root();
    nn::seq()
        .add(nn::linear(&root / "first", INPUTS, 64, Default::default()))
        .add_fn(|hidden| hidden.relu())
        .add(nn::linear(&root / "second", 64, 32, Default::default()))
        .add_fn(|hidden| hidden.relu())
        .add(nn::linear(&root / "output", 32, 1, Default::default()))
        .add_fn(|logits| logits.sigmoid())
}

fn loss(y: &Tensor, labels: &Tensor) -> Tensor {
    y.binary_cross_entropy::<Tensor>(labels, None, tch::Reduction::Mean)
}

/// Something that trains for an epoch whenever it is called.
type Training = Box<dyn FnMut()>;

/// By torch's own optimiser, on batches that lie ready, so that nothing but training is measured.
fn by_hand(data: &Dataset, layer: Option<FairnessLayer>) -> Training {
    tch::manual_seed(2);
    let store = nn::VarStore::new(Device::Cpu);
    let network = network(&store);
    let mut optimiser = nn::Adam::default().build(&store, 1e-3).expect("an optimiser");
    let batches: Vec<Dataset> = (0..data.len() / BATCH)
        .map(|batch| data.select(&((batch * BATCH) as i64..((batch + 1) * BATCH) as i64).collect::<Vec<_>>()))
        .collect::<Result<_>>()
        .expect("batches");
    Box::new(move || {
        for batch in &batches {
            let raw = network.forward_t(batch.inputs(), true);
            let y = match &layer {
                None => raw,
                Some(layer) => layer.forward(&raw, batch.groups(), Some(batch.targets())).expect("answers"),
            };
            optimiser.backward_step(&loss(&y, batch.targets()));
        }
    })
}

fn by_trainer(data: &Dataset, layer: &FairnessLayer, enforce: Enforce) -> Training {
    tch::manual_seed(2);
    let store = nn::VarStore::new(Device::Cpu);
    let model = FairModel::new(network(&store), layer.clone()).enforce(enforce);
    let batches = Loader::stratified(data, layer, BATCH, 3).expect("a loader");
    let mut trainer = Trainer::new(model, store, loss, Optimiser::adam(1e-3));
    let mut epochs = 0;
    Box::new(move || {
        epochs += 1;
        trainer.fit(&batches, None, epochs).expect("an epoch");
    })
}

fn main() {
    // (More threads do not make so small a network faster.)
    tch::set_num_threads(1);
    let data = draw();
    let people = Population::one_feature(2);
    let parity = FairnessLayer::new(&DemographicParity::within(0.02), &people).expect("a layer").bounds(0.0, 1.0);
    let odds = FairnessLayer::new(&EqualizedOdds::within(0.02), &people).expect("a layer").bounds(0.0, 1.0);
    let mut trainings: Vec<(&str, usize, Training)> = vec![
        ("without the layer", 0, by_hand(&data, None)),
        ("parity", 0, by_hand(&data, Some(parity.clone()))),
        ("odds", 0, by_hand(&data, Some(odds))),
        ("trainer, without the layer", 3, by_trainer(&data, &parity, Enforce::Never)),
        ("trainer, parity", 3, by_trainer(&data, &parity, Enforce::Always)),
    ];
    let mut times = vec![Vec::new(); trainings.len()];
    for _ in 0..EPOCHS {
        for ((_, _, epoch), times) in trainings.iter_mut().zip(&mut times) {
            let began = Instant::now();
            epoch();
            times.push(began.elapsed().as_secs_f64());
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect();
    println!("an epoch of {} batches of {BATCH}, medians of {EPOCHS}, one thread", data.len() / BATCH);
    for ((name, base, _), median) in trainings.iter().zip(&medians) {
        println!("{name:28} {:8.3} ms   {:.3}", 1e3 * median, median / medians[*base]);
    }
}
