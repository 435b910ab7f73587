//! Many problems in one call: the same samples scored by several models, each held to its own epsilon, with a set of
//! constraints of one's own: `cargo run --example 2_many_problems`.

use fairlayer::{
    Batch, Buffer, Capacities, CellLayout, CellMask, ConstraintSet, Contrast, Device, Offsets, Projector, Reals,
    Result, Settings, Spread, SpreadLimit, Union,
};

pub(crate) fn main() -> Result<()> {
    // Cells 0, 1 and 2 are three groups. Their means lie within epsilon of each other, and the mean of all samples is at
    // most 0.4: no more than so many can be accepted.
    let mut set = ConstraintSet::new(CellLayout::flat(3)?);
    let group = |cell| Ok(Union::new(CellMask::of([cell])?, format!("group {cell}")));
    let unions = (0..3).map(group).collect::<Result<_>>()?;
    set.push_spread(Spread { unions, limit: SpreadLimit::Difference(0.0) })?;
    set.push_contrast(Contrast {
        plus: Union::new(CellMask::first(3), "everyone"),
        minus: CellMask::EMPTY,
        scale: 0.0,
        lower: f64::NEG_INFINITY,
        upper: 0.4,
        residual: false,
    })?;

    // Four problems of six samples. Cells and weights are the same in all of them; epsilon is not.
    let (problems, n) = (4, 6);
    let scores: Vec<f32> = (0..problems * n).map(|i| ((i * 37) % 101) as f32 / 100.0).collect();
    let cells = [0_u8, 0, 1, 1, 2, 2];
    let weights = [1.0_f32, 2.0, 1.0, 1.0, 1.0, 0.5];
    let epsilon = [0.0, 0.01, 0.1, 1.0];
    let batch = Batch::new(&scores, Offsets::Equal { problems, n })
        .cells(Buffer::from(&cells).shared())
        .weights(Reals::from(&weights).shared())
        .levels(&epsilon)
        .bounds(0.0, 1.0);

    let capacities = Capacities::equal(problems, n);
    let mut projector = Projector::plan(Device::cpu(), &set, capacities, Settings::default())?;
    let solution = projector.project(&batch)?;
    let view = solution.read()?;
    assert!(view.all_solved());
    for (problem, (epsilon, outcome)) in epsilon.iter().zip(view.outcomes).enumerate() {
        println!("epsilon {epsilon:<4}  {}: {:.3?}", outcome.status, view.problem(problem));
    }
    Ok(())
}
