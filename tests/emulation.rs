//! The emulation of CUDA finds what is wrong with a kernel: planted faults are reported, or change the answer, in at least
//! one of the orders that threads run in.

#![cfg(feature = "cuda")]

mod common;

use common::emulation;
use std::io::Write;

/// What was found of a kernel in each order: forward, reverse, shuffled.
type Found = [String; 3];

/// Runs the kernels of `tests/emulation/faults.cu`; none if there is no C++ compiler.
fn run() -> Option<String> {
    let program = match emulation::build("faults", "#include \"faults.cpp\"", &[]) {
        Ok(program) => program,
        Err(reason) if std::env::var("FAIRLAYER_REQUIRE").is_ok_and(|names| names.contains("cuda_emu")) => {
            panic!("{reason}")
        }
        Err(reason) => {
            writeln!(std::io::stderr(), "SKIP emulation: {reason}").expect("stderr takes a line");
            return None;
        }
    };
    let output = std::process::Command::new(program).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("text"))
}

fn found(lines: &str, kernel: &str) -> Found {
    ["forward", "reverse", "shuffled"].map(|order| {
        let begin = format!("{kernel} {order}: ");
        let line = lines.lines().find_map(|line| line.strip_prefix(&begin));
        line.unwrap_or_else(|| panic!("no line of {kernel}")).to_owned()
    })
}

#[test]
fn planted_faults_are_found() {
    let Some(lines) = run() else { return };
    for (kernel, message) in [
        ("divergent_barrier", "threads of a block are at barriers in lines"),
        ("absent_barrier", "not all threads come"),
        ("missing_lane", "not all threads come"),
        ("exited_lane", "lane 6 reads lane 7, which does not take part"),
        ("beyond_an_array", "beyond an array of 768"),
        ("beside_an_array", "written just beside an array"),
        ("before_an_array", "global memory"),
        ("beyond_shared_memory", "beyond the 256 bytes of the launch"),
    ] {
        for found in found(&lines, kernel) {
            assert!(found.contains(message), "{kernel}: {found}");
        }
    }
    // What a missing barrier does depends on the order: at least one of them shows it.
    let without = found(&lines, "missing_barrier");
    assert!(without.iter().any(|found| found.contains("nan")), "{without:?}");
}

#[test]
fn kernels_without_faults_run_in_every_order() {
    let Some(lines) = run() else { return };
    let halves = [["16"; 16], ["256"; 16], ["16"; 16], ["256"; 16]].concat();
    for (kernel, sums) in
        [("sum_of_block", "64 64 64".to_owned()), ("sum_of_grid", "3 3 3".to_owned()), ("half_warps", halves.join(" "))]
    {
        for found in found(&lines, kernel) {
            assert_eq!(found, format!("sums {sums}"), "{kernel}");
        }
    }
}
