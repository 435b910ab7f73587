//! `fairlayer stream`: rows in, rows with fair scores out, as they come.

mod args;
mod groups;
mod state;
mod summary;

use std::io::{self, Write};
use std::time::Instant;

pub use args::StreamArgs;

use super::args::{Bounds, Criterion, name_of};
use super::failure::{Failure, Result, quoted};
use super::needs::{require_columns, require_distinct, unused};
use super::plan::{Limit, constraints};
use super::records::{Source, escape};
use super::table::{Table, finite};
use super::{Ending, complain};
use crate::streaming::LARGEST;
use crate::{Batch, Buffer, Status, StreamRule, StreamSettings, Streaming};
use args::Algorithm;
use groups::{Feature, Groups, Names, Place, places};
use state::StateFile;
use summary::{Summary, Unsolved};

/// The step with which the rule `max_gap` was published.
const ETA: f64 = 0.5;

/// Runs the command.
pub fn run(args: &StreamArgs) -> Result<Ending> {
    let started = Instant::now();
    let limit = Limit::of(args.criterion, &args.fairness, args.bounds)?;
    require_options(args)?;
    let fair_column = format!("fair_{}", args.score);
    let state = args.state.as_deref().map(|path| StateFile::new(path, &args.input)).transpose()?;
    let mut stream = Stream::new(args, limit, state)?;

    let mut source = Source::live(&args.input)?;
    let table = Table::open(&mut source)?;
    table.require_absent(&fair_column)?;
    let (header, line_end) = table.raw_header();
    stream.line_end = if line_end.is_empty() { b"\n".to_vec() } else { line_end.to_vec() };
    let header = [header, b",", escape(&fair_column).as_bytes(), &stream.line_end].concat();
    let mut rows = table.rows(&columns(args))?;
    write(&header)?;

    // What was answered is kept, whatever ends the stream.
    let ended = loop {
        match rows.next(|raw, fields| stream.take(raw, fields)) {
            Ok(true) if stream.waiting() < args.batch_size.get() => {}
            Ok(true) => {
                if let Err(failure) = stream.answer() {
                    break Err(failure);
                }
            }
            Ok(false) => break stream.answer(),
            Err(failure) => break Err(failure),
        }
    };
    let kept = stream.keep();
    ended.and(kept)?;
    let unused = unused(Some(args.criterion), &args.fairness, &name_of(args.criterion)).collect::<Vec<_>>();
    stream.groups.single().chain(unused).for_each(|note| complain(&note));
    complain(&Summary { stream: &stream, time: started.elapsed() });
    if stream.unsolved.is_empty() {
        return Ok(Ending::Done);
    }
    complain(&Unsolved(&stream));
    Ok(Ending::Unsolved)
}

/// The columns that are read: the score, the sensitive features, then the label and the control feature if they are used.
fn columns(args: &StreamArgs) -> Vec<&str> {
    let sensitive = args.sensitive.iter().map(String::as_str);
    std::iter::once(args.score.as_str()).chain(sensitive).chain(label(args)).chain(control(args)).collect()
}

fn label(args: &StreamArgs) -> Option<&str> {
    args.fairness.label_of(Some(args.criterion))
}

fn control(args: &StreamArgs) -> Option<&str> {
    args.fairness.control_of(Some(args.criterion))
}

/// Fails if the criterion is none for a stream or lacks a column, or the algorithm does not know the limit.
fn require_options(args: &StreamArgs) -> Result<()> {
    if args.criterion == Criterion::Covariance {
        return Err(Failure::new("covariance is not about groups, which a stream needs; use fairlayer project"));
    }
    require_columns(args.criterion, &args.fairness, &args.sensitive)?;
    if args.algorithm == Algorithm::MaxGap && args.fairness.limit.ratio.is_some() {
        return Err(Failure::new("--algorithm max_gap takes --epsilon, not --ratio"));
    }
    require_distinct(&args.sensitive)
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| Failure::new(format!("standard output cannot be written: {error}")))
}

/// The stream, and the rows that wait to be answered.
struct Stream<'a> {
    args: &'a StreamArgs,
    limit: Limit,
    groups: Groups,
    /// From the first row on.
    streaming: Option<Streaming>,
    state: Option<StateFile>,
    line_end: Vec<u8>,
    waiting: Waiting,
    place: Place,
    y: Vec<f64>,
    out: Vec<u8>,
    /// Of this run.
    rows: u64,
    batches: u64,
    /// Batches in which a group was absent.
    incomplete: u64,
    /// Batches since the state was written.
    unsaved: usize,
    /// The first row of this run in every batch that was not solved, how many rows it has, and what became of it.
    unsolved: Vec<(u64, usize, Status)>,
}

/// The rows of a batch.
#[derive(Default)]
struct Waiting {
    raw: Vec<u8>,
    ends: Vec<usize>,
    scores: Vec<f64>,
    labels: Vec<f64>,
    groups: Vec<Vec<u8>>,
    control: Vec<u8>,
}

impl<'a> Stream<'a> {
    fn new(args: &'a StreamArgs, limit: Limit, state: Option<StateFile>) -> Result<Self> {
        let mut groups = no_groups(args);
        let saved = match &state {
            Some(state) => state.read(args, &mut groups)?,
            None => None,
        };
        let waiting = Waiting { groups: vec![Vec::new(); groups.features.len()], ..Waiting::default() };
        let mut stream = Self {
            args,
            limit,
            groups,
            streaming: None,
            state,
            line_end: Vec::new(),
            waiting,
            place: Place::default(),
            y: Vec::new(),
            out: Vec::new(),
            rows: 0,
            batches: 0,
            incomplete: 0,
            unsaved: 0,
            unsolved: Vec::new(),
        };
        if let (Some(saved), Some(state)) = (saved, &stream.state) {
            let damaged = |error: String| state.failure(error);
            let set = constraints(args.criterion, limit, &stream.groups.population());
            let set = set.map_err(|error| damaged(error.to_string()))?;
            let restored = Streaming::restore(&set, stream.settings(), saved);
            stream.streaming = Some(restored.map_err(|error| damaged(error.to_string()))?);
        }
        Ok(stream)
    }

    fn settings(&self) -> StreamSettings {
        let Bounds { lo, hi } = self.args.bounds;
        let rule = match self.args.algorithm {
            Algorithm::Pooled => StreamRule::Pooled,
            Algorithm::MaxGap => StreamRule::MaxGap { eta: ETA },
        };
        StreamSettings { rule, b_tau: self.args.b_tau.get(), bounds: (lo, hi) }
    }

    /// How many rows wait.
    fn waiting(&self) -> usize {
        self.waiting.scores.len()
    }

    /// Takes a row in. What is wrong with a column is told by its number in the order of [`columns`].
    fn take(&mut self, raw: &[u8], fields: &[std::borrow::Cow<'_, [u8]>]) -> Result<(), (usize, String)> {
        let number = |column: usize| {
            let value = finite(&fields[column]).map_err(|what| (column, what))?;
            let too_large = || (column, format!("{} is too large for a stream", quoted(fields[column].trim_ascii())));
            if value.abs() <= LARGEST { Ok(value) } else { Err(too_large()) }
        };
        let score = number(0)?;
        let behind = 1 + self.args.sensitive.len();
        let label = if label(self.args).is_some() { Some(number(behind)?) } else { None };
        let control_column = behind + usize::from(label.is_some());
        let bin = match self.args.fairness.edges.as_ref() {
            Some(bins) => {
                let (first, last) = (bins.edges()[0], bins.edges()[bins.count()]);
                let id = bins.id(score).ok_or_else(|| (0, format!("lies outside the --edges {first} to {last}")))?;
                Some(bins.feature("").groups.swap_remove(usize::from(id)))
            }
            None => None,
        };
        let sensitive = fields[1..behind].iter().map(|field| &**field);
        let texts: Vec<&[u8]> = bin.iter().map(String::as_bytes).chain(sensitive).collect();
        let control = control(self.args).map(|_| &*fields[control_column]);
        let placed = self.groups.place(&texts, control, &mut self.place);
        placed.map_err(|(column, what)| {
            let column = if column < texts.len() { column + 1 - usize::from(bin.is_some()) } else { control_column };
            (column, what)
        })?;
        let waiting = &mut self.waiting;
        waiting.raw.extend_from_slice(raw);
        waiting.ends.push(waiting.raw.len());
        waiting.scores.push(score);
        waiting.labels.extend(label);
        waiting.control.push(self.place.control);
        waiting.groups.iter_mut().zip(&self.place.groups).for_each(|(groups, &group)| groups.push(group));
        Ok(())
    }

    /// Answers the rows that wait, if any do.
    fn answer(&mut self) -> Result<()> {
        let n = self.waiting();
        if n == 0 {
            return Ok(());
        }
        let mut streaming = self.fitting()?;
        let Waiting { raw, ends, scores, labels, groups, control, .. } = &self.waiting;
        let groups: Vec<Buffer<'_, u8>> = groups.iter().map(Buffer::from).collect();
        let mut batch = Batch::single(scores).groups(&groups).control(control);
        if !labels.is_empty() {
            batch = batch.labels(labels);
        }
        self.y.resize(n, 0.0);
        let answered = streaming.answer_into(&batch, &mut self.y);
        self.streaming = Some(streaming);
        let answered = answered?;

        self.out.clear();
        let mut number = ryu::Buffer::new();
        let mut start = 0;
        for (&end, &y) in ends.iter().zip(&self.y) {
            let parts = [&raw[start..end], b",", number.format(y).as_bytes(), &self.line_end];
            parts.into_iter().for_each(|part| self.out.extend_from_slice(part));
            start = end;
        }
        write(&self.out)?;
        if answered.status != Status::Solved {
            self.unsolved.push((self.rows + 1, n, answered.status));
        }
        self.rows += n as u64;
        self.batches += 1;
        self.incomplete += u64::from(answered.incomplete);
        self.waiting.clear();
        self.unsaved += 1;
        if self.unsaved >= self.args.state_every.get() { self.keep() } else { Ok(()) }
    }

    /// The stream for the groups that have come.
    fn fitting(&mut self) -> Result<Streaming> {
        match self.streaming.take() {
            Some(streaming) if self.groups.fit(streaming.constraints().layout()) => Ok(streaming),
            before => {
                let set = constraints(self.args.criterion, self.limit, &self.groups.population())?;
                Ok(match before {
                    None => Streaming::new(&set, self.settings())?,
                    Some(before) => before.regrouped(&set, &places(before.constraints().layout(), set.layout()))?,
                })
            }
        }
    }

    /// Writes the state, if there is one to be kept that is not.
    fn keep(&mut self) -> Result<()> {
        if self.state.is_some() && self.unsaved > 0 {
            // (Rows that wait may have brought groups, whose names are written as well.)
            let streaming = self.fitting()?;
            let streaming = self.streaming.insert(streaming);
            if let Some(state) = &self.state {
                state.write(self.args, &self.groups, streaming)?;
            }
            self.unsaved = 0;
        }
        Ok(())
    }
}

impl Waiting {
    fn clear(&mut self) {
        self.raw.clear();
        self.ends.clear();
        self.scores.clear();
        self.labels.clear();
        self.groups.iter_mut().for_each(Vec::clear);
        self.control.clear();
    }
}

/// The sensitive features of the arguments, before any group has come. The bins of calibration are a column before all.
fn no_groups(args: &StreamArgs) -> Groups {
    let bins = args.fairness.edges.as_ref().map(|_| args.score.as_str());
    let columns: Vec<Names> =
        bins.into_iter().chain(args.sensitive.iter().map(String::as_str)).map(Names::new).collect();
    let first = usize::from(bins.is_some());
    let all = first..columns.len();
    let together = |columns: &mut dyn Iterator<Item = usize>| Feature::of((0..first).chain(columns).collect());
    let features = if args.fairness.intersectional || all.is_empty() {
        vec![together(&mut all.clone())]
    } else {
        all.map(|column| together(&mut std::iter::once(column))).collect()
    };
    let by_label = matches!(args.criterion, Criterion::EqualizedOdds | Criterion::TprParity | Criterion::FprParity);
    Groups::new(columns, features, control(args).map(Names::new), if by_label { 2 } else { 1 })
}
