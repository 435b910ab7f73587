//! One problem, forward and backward: `cargo run --example 1_project`.

use fairlayer::{
    Batch, Capacities, Criterion, DemographicParity, Device, Population, Projector, Result, Settings, Wanted,
};

pub(crate) fn main() -> Result<()> {
    let scores = [0.95, 0.80, 0.70, 0.35, 0.55, 0.40, 0.20, 0.05];
    let labels = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0];
    let groups = [0, 0, 0, 0, 1, 1, 1, 1];

    let set = DemographicParity::within(0.05).constraints(&Population::one_feature(2))?;
    let capacities = Capacities::single(scores.len());
    let mut projector = Projector::<f64>::plan(Device::cpu(), &set, capacities, Settings::default())?;
    let batch = Batch::single(&scores).cells(&groups).bounds(0.0, 1.0);
    let solution = projector.project(&batch)?;
    let view = solution.read()?;

    // The gradient of the loss 1/2 sum (y - label)^2 to y, and through the projection to the scores.
    let g: Vec<f64> = view.y.iter().zip(&labels).map(|(y, label)| y - label).collect();
    let mut gradients = projector.gradients(Wanted::default());
    projector.vjp(&batch, &solution, &g, &mut gradients)?;
    let back = gradients.read()?;

    println!("group  score   fair  dL/dy  dL/dscore");
    for i in 0..scores.len() {
        println!("{:5}  {:5.3}  {:5.3}  {:+.2}  {:+.3}", groups[i], scores[i], view.y[i], g[i], back.predictions[i]);
    }
    let mean = |range: std::ops::Range<usize>| view.y[range].iter().sum::<f64>() / 4.0;
    let gap = mean(0..4) - mean(4..8);
    println!("gap {gap:.6} after {} Newton steps", view.outcomes[0].iterations);
    assert!(gap.abs() <= 0.05);
    println!("multipliers {:.4?}, dL/depsilon {:.4}", view.multipliers, back.levels[0]);
    Ok(())
}
