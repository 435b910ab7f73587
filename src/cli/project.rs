//! `fairlayer project`: from a CSV file to one with fair scores beside the scores.

use std::path::Path;
use std::time::Instant;

use super::args::{Bounds, Compare, Criterion, ProjectArgs};
use super::columns::Columns;
use super::failure::{Failure, Result, quoted};
use super::measure::{self, Gaps, RowValues};
use super::needs::{one_group, require_columns, require_distinct, require_places, unused};
use super::output::{Target, write_with_column};
use super::plan::{Limit, Plan};
use super::progress::Progress;
use super::records::Source;
use super::report::{self, Run};
use super::rows::OwnRows;
use super::solve::Engine;
use super::summary::{Summary, Unsolved};
use super::{Ending, complain, say};
use crate::Covariance;

/// Runs the command.
pub fn run(args: &ProjectArgs) -> Result<Ending> {
    let started = Instant::now();
    require_criterion(args)?;
    let limit_of = |criterion| Limit::of(criterion, &args.fairness, args.bounds());
    let criterion = args.criterion.map(|criterion| limit_of(criterion).map(|limit| (criterion, limit))).transpose()?;
    require_options(args)?;
    let engine = Engine::of(args)?;
    let fair_column = format!("fair_{}", args.score);
    let mut taken = vec![("the input", args.input.as_path())];
    taken.extend(args.rows.as_deref().map(|path| ("the file of --rows", path)));
    taken.extend(args.row_bounds.as_deref().map(|path| ("the file of --row-bounds", path)));
    require_one_pipe(&taken)?;
    let output = Target::new(&args.output, &taken)?;
    taken.push(("the output", &args.output));
    let report = args.report.as_deref().map(|path| Target::new(path, &taken)).transpose()?;

    let progress = Progress::new();
    let mut source = Source::open(&args.input)?;
    let mut columns = Columns::read(args, &mut source, &fair_column, &progress)?;
    let extent = columns.extent;
    let problems = columns.take_problems(args.batch_size);
    let own = OwnRows::read(args, &source, extent.rows, &progress)?;
    let plan = Plan::new(criterion, &columns.sensitive, columns.control.as_ref(), covariance(args), &own.rows)?;
    let nothing = nothing_to_do(&plan, &columns, &own);
    let samples = columns.into_samples(&problems, &plan, own)?;

    progress.stage("solving", 0);
    let solved = engine.project(&samples, &problems, &plan, args.bounds())?;
    let gaps = Gaps::of(&plan, &problems, &samples, &solved.fair);
    let rows = RowValues::of(&plan, &problems, &samples, &solved.fair);
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
        rows: &rows,
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

    nothing.iter().chain(&notes(args, outside, problems.rows())).for_each(|note| complain(note));
    if writes {
        say(&Summary(&run));
    }
    if all_solved {
        return Ok(Ending::Done);
    }
    complain(&Unsolved(&run));
    Ok(Ending::Unsolved)
}

/// Fails if the criterion lacks a column, or an option is not about it.
fn require_options(args: &ProjectArgs) -> Result<()> {
    let Some(criterion) = args.criterion else { return Ok(()) };
    require_columns(criterion, &args.fairness, &args.sensitive)?;
    let covariance = criterion == Criterion::Covariance;
    let misplaced = [
        ("--moments", args.moments.is_some() && !covariance),
        ("--standardise", args.standardise && !covariance),
        ("--intersectional", args.fairness.intersectional && covariance),
    ];
    require_places(criterion, &misplaced)?;
    require_distinct(&args.sensitive)
}

/// Fails if there is no criterion for the options that are about one. Rows of the user's own can do without.
fn require_criterion(args: &ProjectArgs) -> Result<()> {
    let given = [
        ("--sensitive", !args.sensitive.is_empty()),
        ("--epsilon", args.fairness.limit.epsilon.is_some()),
        ("--ratio", args.fairness.limit.ratio.is_some()),
        ("--compare", args.fairness.compare == Compare::Overall),
        ("--intersectional", args.fairness.intersectional),
        ("--moments", args.moments.is_some()),
        ("--standardise", args.standardise),
        ("--edges", args.fairness.edges.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given && args.criterion.is_none()) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::new(format!(
            "{option} is about a criterion: name one with --criterion; what the rows of --rows allow is in --row-bounds"
        ))),
    }
}

/// Fails if two inputs are standard input, which can be read only once.
fn require_one_pipe(inputs: &[(&str, &Path)]) -> Result<()> {
    let mut piped = inputs.iter().filter(|(_, path)| *path == Path::new("-"));
    match (piped.next(), piped.next()) {
        (Some((one, _)), Some((other, _))) => {
            Err(Failure::new(format!("{one} and {other} cannot both be standard input; name a file")))
        }
        _ => Ok(()),
    }
}

/// The covariance that the arguments ask for, if they do.
fn covariance(args: &ProjectArgs) -> Option<Covariance> {
    let epsilon = args.fairness.limit.epsilon.filter(|_| args.criterion == Some(Criterion::Covariance))?;
    Some(Covariance {
        epsilon,
        moments: args.moments.unwrap_or(1),
        features: args.sensitive.clone(),
        standardised: args.standardise,
    })
}

/// What there is nothing to do about.
fn nothing_to_do(plan: &Plan, columns: &Columns, own: &OwnRows) -> Vec<String> {
    let idle = plan.features.iter().filter(|feature| plan.is_idle(feature));
    let single = idle.map(|feature| one_group(&feature.name, &feature.groups[0]));
    let constant = columns.continuous.iter().filter_map(|feature| {
        let (name, value) = (quoted(feature.name.as_bytes()), feature.only_value()?);
        Some(format!("note: {name} has one value only, {value}: there is nothing to compare"))
    });
    let empty = own.empty_rows().filter(|row| row.lower <= 0.0 && row.upper >= 0.0);
    let empty = empty.map(|row| {
        format!("note: the row {} has coefficients of 0 only: it constrains nothing", quoted(row.name.as_bytes()))
    });
    single.chain(constant).chain(empty).collect()
}

/// What else the user should know although nothing is wrong.
fn notes(args: &ProjectArgs, outside: usize, rows: usize) -> Vec<String> {
    // Whoever gave bounds knows of them.
    let outside = (args.bounds.is_none() && outside > rows / 2).then(|| {
        let Bounds { lo, hi } = args.bounds();
        format!("note: {outside} of {rows} scores lie outside [{lo}, {hi}], the bounds unless --bounds gives others")
    });
    unused(args.criterion, &args.fairness, &args.aim()).chain(outside).collect()
}
