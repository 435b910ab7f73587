//! `fairlayer project`: from a CSV file to one with fair scores beside the scores.

use std::collections::HashSet;
use std::time::Instant;

use super::args::{Bounds, ProjectArgs, name_of};
use super::columns::Columns;
use super::failure::{Failure, Result, quoted};
use super::measure::{self, Gaps};
use super::output::{Target, write_with_column};
use super::plan::{Limit, Plan};
use super::progress::Progress;
use super::records::Source;
use super::report::{self, Run};
use super::solve::Engine;
use super::summary::{Summary, Unsolved};
use super::{Ending, complain, say};

/// Runs the command.
pub fn run(args: &ProjectArgs) -> Result<Ending> {
    let started = Instant::now();
    let limit = Limit::of(args)?;
    require_columns(args)?;
    let engine = Engine::of(args)?;
    let fair_column = format!("fair_{}", args.score);
    let output = Target::new(&args.output, &[("the input", &args.input)])?;
    let taken = [("the input", args.input.as_path()), ("the output", args.output.as_path())];
    let report = args.report.as_deref().map(|path| Target::new(path, &taken)).transpose()?;

    let progress = Progress::new();
    let mut source = Source::open(&args.input)?;
    let mut columns = Columns::read(args, &mut source, &fair_column, &progress)?;
    let extent = columns.extent;
    let problems = columns.take_problems(args.batch_size);
    let plan = Plan::new(args.criterion, limit, &columns.sensitive, columns.control.as_ref())?;
    let samples = columns.into_samples(&problems);

    progress.stage("solving", 0);
    let solved = engine.project(&samples, &problems, &plan, args.bounds())?;
    let gaps = Gaps::of(&plan, &problems, &samples, &solved.fair);
    let distance = measure::distance(&samples, &solved.fair);
    let Bounds { lo, hi } = args.bounds();
    let outside = samples.scores.iter().filter(|&&score| score < lo || score > hi).count();
    drop(samples);

    let all_solved = solved.unsolved().next().is_none();
    let writes = all_solved || args.keep_going;
    let output = if writes {
        let fair = problems.scatter(&solved.fair);
        Some(output.write(|out| write_with_column(&mut source, extent, &fair_column, &fair, out, &progress))?)
    } else {
        None
    };
    let row_names: Vec<&str> = plan.constraints.row_names().collect();
    let run = Run {
        args,
        engine: &engine,
        plan: &plan,
        problems: &problems,
        solved: &solved,
        gaps: &gaps,
        distance,
        fair_column: &fair_column,
        row_names: &row_names,
        writes,
        time: started.elapsed(),
    };
    // Both files are whole before either takes its name; the output, which counts more, is the last.
    let report = report.map(|target| target.write(|out| report::write(&run, out))).transpose()?;
    report.into_iter().chain(output).try_for_each(|file| file.commit())?;
    drop(progress);

    notes(args, &plan, outside, problems.rows()).iter().for_each(|note| complain(note));
    if writes {
        say(&Summary(&run));
    }
    if all_solved {
        return Ok(Ending::Done);
    }
    complain(&Unsolved(&run));
    Ok(Ending::Unsolved)
}

/// Fails if a column that the criterion needs is not named, or one is named twice.
fn require_columns(args: &ProjectArgs) -> Result<()> {
    let needed = |option: &str| Failure::new(format!("{} needs {option}", name_of(args.criterion)));
    if args.criterion.needs_labels() && args.label.is_none() {
        return Err(needed("--label"));
    }
    if args.criterion.needs_control() && args.control.is_none() {
        return Err(needed("--control"));
    }
    require_distinct(&args.sensitive)
}

/// Fails if a sensitive feature is named twice.
pub fn require_distinct(sensitive: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match sensitive.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Failure::new(format!("--sensitive names the column {} twice", quoted(name.as_bytes())))),
        None => Ok(()),
    }
}

/// What the user should know although nothing is wrong.
fn notes(args: &ProjectArgs, plan: &Plan, outside: usize, rows: usize) -> Vec<String> {
    let single = plan.features.iter().filter(|feature| plan.is_idle(feature)).map(|feature| {
        let (name, group) = (quoted(feature.name.as_bytes()), quoted(feature.groups[0].as_bytes()));
        format!("note: {name} has one group only, {group}: there is nothing to compare")
    });
    let unused = |option: &str| format!("note: {} does not use {option}", name_of(args.criterion));
    let label = (args.label.is_some() && !args.criterion.needs_labels()).then(|| unused("--label"));
    let control = (args.control.is_some() && !args.criterion.needs_control()).then(|| unused("--control"));
    // Whoever gave bounds knows of them.
    let outside = (args.bounds.is_none() && outside > rows / 2).then(|| {
        let Bounds { lo, hi } = args.bounds();
        format!("note: {outside} of {rows} scores lie outside [{lo}, {hi}], the bounds unless --bounds gives others")
    });
    single.chain(label).chain(control).chain(outside).collect()
}
