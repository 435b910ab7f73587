//! `fairlayer train`: two networks for the label of a CSV file, one of them fair.

mod args;
mod compare;
mod data;
mod features;
mod metrics;
mod network;
mod plot;
mod report;
mod split;
mod summary;

use std::time::Instant;

pub use args::TrainArgs;

use super::args::{Bounds, DeviceName, name_of};
use super::failure::{Failure, Result, quoted};
use super::needs::{not_used, one_group, require_columns, require_distinct};
use super::output::Target;
use super::plan::Limit;
use super::records::Source;
use super::{Ending, complain, say};
use crate::torch::has_cuda;
use compare::Comparison;
use data::{Data, require_groups};
use report::Run;
use summary::{Summary, Unsolved};

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<Ending> {
    let started = Instant::now();
    require_groups(args.criterion)?;
    let limit = Limit::of(args.criterion, &args.fairness, Bounds { lo: 0.0, hi: 1.0 })?;
    require_columns(args.criterion, &args.fairness, &args.sensitive)?;
    require_distinct(&args.sensitive)?;
    let device = device(args.device)?;
    let report = args.report.as_deref().map(|path| Target::new(path, &[("the input", &args.input)])).transpose()?;
    let taken = [("the input", args.input.as_path())].into_iter();
    let taken: Vec<_> = taken.chain(args.report.as_deref().map(|path| ("the report", path))).collect();
    let plot = args.plot.as_deref().map(|path| Target::new(path, &taken)).transpose()?;

    let mut source = Source::open(&args.input)?;
    let data = Data::read(args, &mut source)?;
    data.notes.iter().for_each(|note| complain(note));
    if args.fairness.control.is_some() && data.control.is_none() {
        complain(&not_used(&name_of(args.criterion), "--control"));
    }
    let idle = data.sensitive.iter().filter(|column| column.texts.len() == 1 && !limit.concerns_single_groups());
    idle.for_each(|column| complain(&one_group(&column.name, &column.display_texts()[0])));
    let tag = report::tag(args, data.extent.digest)?;
    let comparison = Comparison::of(args, limit, data, device, &tag)?;
    for name in &comparison.left_out {
        complain(&format!("note: the column {} is constant in the training rows: left out", quoted(name.as_bytes())));
    }

    let device = if device.is_cuda() { "cuda" } else { "cpu" };
    let run = Run { args, comparison: &comparison, device, time: started.elapsed() };
    let report = report.map(|target| target.write(|out| report::write(&run, out))).transpose()?;
    let plot = plot.map(|target| target.write(|out| plot::write(&comparison, out))).transpose()?;
    report.into_iter().chain(plot).try_for_each(|written| written.commit())?;
    say(&Summary(&run));
    if !comparison.is_unsolved() {
        return Ok(Ending::Done);
    }
    complain(&Unsolved(&comparison));
    Ok(Ending::Unsolved)
}

/// The device by torch's name. (As elsewhere, `auto` does not choose CUDA as long as no GPU has run the kernels.)
fn device(name: DeviceName) -> Result<tch::Device> {
    let problem = |what: &str| Err(Failure::new(format!("--device {}: {what}", name_of(name))));
    match name {
        DeviceName::Cpu | DeviceName::Auto => Ok(tch::Device::Cpu),
        DeviceName::Cuda if !cfg!(feature = "cuda") => problem("this program was built without the feature cuda"),
        DeviceName::Cuda if !has_cuda() => problem("torch finds no NVIDIA GPU; it needs one, and a libtorch with CUDA"),
        DeviceName::Cuda => Ok(tch::Device::Cuda(0)),
        DeviceName::Wgpu => problem("torch has no such device; use cpu or cuda"),
    }
}
