//! The command line: which commands there are, and what they exit with.
//!
//! Exit codes: 0 when all went well, 1 when a problem is infeasible or unsolved, 2 for bad input or usage (one line on
//! stderr that begins with `error:`).

mod args;
mod audit;
mod columns;
mod devices;
mod failure;
mod figures;
mod measure;
mod needs;
mod output;
mod plan;
mod problems;
mod progress;
mod project;
mod records;
mod report;
mod rows;
mod solve;
mod stream;
mod summary;
mod table;
#[cfg(feature = "tch")]
mod train;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use failure::{Failure, Result};

const AFTER_HELP: &str = "\
Examples:
  fairlayer project scores.csv --output fair.csv --score score --sensitive sex \\
      --criterion demographic-parity --epsilon 0.02
  fairlayer audit fair.csv --score fair_score --label label --sensitive sex,age_band
  tail -f scores.csv | fairlayer stream - --score score --sensitive sex \\
      --criterion demographic-parity --epsilon 0.02 --state state.json
  fairlayer devices

Exit codes: 0 done; 1 a problem is infeasible or unsolved; 2 bad input or usage.";

/// Projects model predictions onto fairness constraints, exactly
#[derive(Parser)]
#[command(name = "fairlayer", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write the nearest fair scores beside the scores of a CSV file
    Project(Box<args::ProjectArgs>),
    /// Measure how fair the scores of a CSV file are, with fairlearn's metrics
    Audit(args::AuditArgs),
    /// Write fair scores beside the scores of a stream of CSV rows, as they come
    Stream(Box<stream::StreamArgs>),
    /// Train a network for a label, and one that is fair, and compare them
    #[cfg(feature = "tch")]
    Train(Box<train::TrainArgs>),
    /// List the devices that can be used here, and why the others cannot
    Devices,
}

/// How a command that had no bad input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    /// Some problem is infeasible or unsolved.
    Unsolved,
}

/// Runs the command line `args` (the program's name first).
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let ending = match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli.command),
        Err(error) if error.use_stderr() => Err(Failure::usage(&error)),
        Err(help) => {
            say(&help.render().to_string().trim_end());
            Ok(Ending::Done)
        }
    };
    match ending {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Unsolved) => ExitCode::from(1),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(2)
        }
    }
}

fn dispatch(command: Command) -> Result<Ending> {
    match command {
        Command::Project(args) => project::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Stream(args) => stream::run(&args),
        #[cfg(feature = "tch")]
        Command::Train(args) => train::run(&args),
        Command::Devices => devices::run(),
    }
}

/// Prints to stdout. That nobody reads it (a closed pipe) is no reason to stop, let alone to panic as `println!` does.
fn say(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints to stderr, in the same spirit.
fn complain(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
