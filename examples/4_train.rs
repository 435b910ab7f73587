//! A network that is trained through the projection: `cargo run --features tch --example 4_train` (see README, Torch).

use fairlayer::torch::{Dataset, FairModel, FairnessLayer, Loader, Optimiser, Trainer};
use fairlayer::{DemographicParity, Population, Result};
use tch::{Device, Kind, Tensor, nn};

const EPSILON: f64 = 0.05;

/// Samples whose first column is the group; group 1 has higher chances.
fn draw(n: i64) -> Result<Dataset> {
    let options = (Kind::Float, Device::Cpu);
    let group = Tensor::rand([n, 1], options).lt(0.4);
    let features = Tensor::randn([n, 15], options);
    let chance = (features.narrow(1, 0, 1) * 2.0 + group.to_kind(Kind::Float) * 2.0 - 1.0).sigmoid();
    let label = Tensor::rand([n, 1], options).lt_tensor(&chance).to_kind(Kind::Float);
    Dataset::new(Tensor::cat(&[group.to_kind(Kind::Float), features], 1), label, group.to_kind(Kind::Int64))
}

fn network(root: &nn::Path<'_>) -> nn::Sequential {
    nn::seq()
        .add(nn::linear(root / "first", 16, 64, Default::default()))
        .add_fn(|hidden| hidden.relu())
        .add(nn::linear(root / "second", 64, 32, Default::default()))
        .add_fn(|hidden| hidden.relu())
        .add(nn::linear(root / "output", 32, 1, Default::default()))
        .add_fn(|logits| logits.sigmoid())
}

fn loss(y: &Tensor, labels: &Tensor) -> Tensor {
    y.binary_cross_entropy::<Tensor>(labels, None, tch::Reduction::Mean)
}

pub(crate) fn main() -> Result<()> {
    tch::manual_seed(1);
    let (train, valid, test) = (draw(2000)?, draw(500)?, draw(1000)?);

    let store = nn::VarStore::new(Device::Cpu);
    let network = network(&store.root());
    let layer = FairnessLayer::new(&DemographicParity::within(EPSILON), &Population::one_feature(2))?.bounds(0.0, 1.0);
    let model = FairModel::new(network, layer);

    let batches = Loader::stratified(&train, model.layer(), 256, 1)?;
    let mut trainer = Trainer::new(model, store, loss, Optimiser::adam(1e-3)).early_stopping(10, 1e-5);
    let history = trainer.fit(&batches, Some(&Loader::in_order(&valid, 256)?), 30)?;
    for (number, epoch) in history.epochs.iter().enumerate().step_by(5) {
        let gap = epoch.train_batch_gap.expect("both groups are in every batch");
        println!("epoch {number:2}: loss {:.4}, worst gap of a batch {gap:.4}", epoch.train_loss);
        assert!(gap <= EPSILON);
    }

    // Batches of one are streamed: their answers are fair together.
    for size in [1, 500] {
        let found = trainer.evaluate(&Loader::in_order(&test, size)?)?;
        let gaps = found.gaps.expect("both groups are in the test samples");
        println!("test, {size} at a time: loss {:.4}, gap {:.4}", found.loss, gaps.pooled);
        assert!(gaps.pooled <= EPSILON);
    }
    Ok(())
}
