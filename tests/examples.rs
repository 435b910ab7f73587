//! The examples run. (`4_train` is run by `training.rs`, which has libtorch.)

#[path = "../examples/1_project.rs"]
mod project;

#[path = "../examples/2_many_problems.rs"]
mod many_problems;

#[path = "../examples/3_stream.rs"]
mod stream;

#[test]
fn project_runs() {
    project::main().unwrap();
}

#[test]
fn many_problems_runs() {
    many_problems::main().unwrap();
}

#[test]
fn stream_runs() {
    stream::main().unwrap();
}
