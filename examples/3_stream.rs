//! A stream of single samples, with a restart in the middle: `cargo run --example 3_stream`.

use fairlayer::{Batch, Criterion, DemographicParity, Population, Result, StreamSettings, Streaming};

pub(crate) fn main() -> Result<()> {
    let set = DemographicParity::within(0.05).constraints(&Population::one_feature(2))?;
    let settings = StreamSettings { bounds: (0.0, 1.0), ..StreamSettings::default() };
    let mut stream = Streaming::new(&set, settings)?;

    println!("samples  gap before  gap after   moved");
    for i in 0..8000_u32 {
        // Group 1 is a third of the samples, and scores 0.25 higher.
        let group = u8::from(i % 3 == 2);
        let score = f64::from(i * 379 % 1009) / 1345.0 + 0.25 * f64::from(group);
        let (fair, _) = stream.answer(&Batch::single(&[score]).cells(&[group]))?;
        assert!((0.0..=1.0).contains(&fair[0]));

        if (i + 1).is_power_of_two() && i > 16 || i == 7999 {
            let gap = stream.gaps()[0].expect("both groups have come");
            let moved = stream.mean_square().sqrt();
            println!("{:7}  {:10.4}  {:9.4}  {moved:6.4}", stream.count(), gap.before, gap.after);
        }
        if i == 4000 {
            // What was learnt outlives the process: with the feature `serde` it can be written to a file.
            let state = stream.save();
            stream = Streaming::restore(&set, settings, state)?;
        }
    }
    assert!(stream.gaps()[0].is_some_and(|gap| gap.after <= 0.05));
    Ok(())
}
