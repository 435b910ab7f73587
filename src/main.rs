//! The command line of fairlayer. `fairlayer --help` says what it does; the library is the crate of the same name.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os())
}
