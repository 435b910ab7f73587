//! The command line of fairlayer. `fairlayer --help` says what it does; the library is the crate of the same name.

fn main() -> std::process::ExitCode {
    fairlayer::cli::run(std::env::args_os())
}
