//! What the layer adds to an epoch of training on the CPU: a 64-32 network at batches of 256, by torch's own optimiser, with and
//! without it; and the same by the trainer, which also measures every batch.
//!
//! `cargo bench --no-default-features --features tch --bench training` (see README, Torch, for libtorch)

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use fairlayer::torch::{Dataset, Enforce, FairModel, FairnessLayer, Inputs, Loader, Optimiser, Trainer};
use fairlayer::{DemographicParity, EqualizedOdds, Population};
use tch::nn::{ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor, nn};

const SAMPLES: i64 = 5120;
const INPUTS: i64 = 16;
const BATCH: usize = 256;

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

/// An epoch of batches that lie ready, so that nothing but training is measured.
fn by_hand(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, batches: &[Dataset], layer: Option<&FairnessLayer>) {
    tch::manual_seed(2);
    let store = nn::VarStore::new(Device::Cpu);
    let network = network(&store);
    let mut optimiser = nn::Adam::default().build(&store, 1e-3).expect("an optimiser");
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for batch in batches {
                let raw = network.forward_t(batch.inputs(), true);
                let y = match layer {
                    None => raw,
                    Some(layer) => {
                        let inputs =
                            Inputs { labels: Some(batch.targets()), groups: Some(batch.groups()), ..Inputs::default() };
                        layer.project(&raw, inputs).expect("a projection").y
                    }
                };
                optimiser.backward_step(&loss(&y, batch.targets()));
            }
        });
    });
}

fn by_trainer(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    data: &Dataset,
    layer: &FairnessLayer,
    enforce: Enforce,
) {
    tch::manual_seed(2);
    let store = nn::VarStore::new(Device::Cpu);
    let model = FairModel::new(network(&store), layer.clone()).enforce(enforce);
    let batches = Loader::stratified(data, layer, BATCH, 3).expect("a loader");
    let mut trainer = Trainer::new(model, store, loss, Optimiser::adam(1e-3));
    let mut epochs = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            epochs += 1;
            trainer.fit(&batches, None, epochs).expect("an epoch");
        });
    });
}

fn bench(criterion: &mut Criterion) {
    let data = draw();
    let people = Population::one_feature(2);
    let parity = FairnessLayer::new(&DemographicParity::within(0.02), &people).expect("a layer").bounds(0.0, 1.0);
    let odds = FairnessLayer::new(&EqualizedOdds::within(0.02), &people).expect("a layer").bounds(0.0, 1.0);
    let loader = Loader::stratified(&data, &odds, BATCH, 3).expect("a loader");
    let batches: Vec<Dataset> = loader.epoch(0).map(|batch| batch.expect("a batch")).collect();
    // (More do not make so small a network faster.)
    tch::set_num_threads(1);
    let mut group = criterion.benchmark_group("epoch of 20 batches of 256");
    by_hand(&mut group, "without", &batches, None);
    by_hand(&mut group, "parity", &batches, Some(&parity));
    by_hand(&mut group, "odds", &batches, Some(&odds));
    by_trainer(&mut group, "trainer without", &data, &parity, Enforce::Never);
    by_trainer(&mut group, "trainer, parity", &data, &parity, Enforce::Always);
}

criterion_group!(benches, bench);
criterion_main!(benches);
