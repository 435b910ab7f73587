//! `fairlayer stream`: rows in, rows out, as they come.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::{GOOD, PARITY, Place, Ran, assert_refused, fairlayer};

impl Place {
    /// `fairlayer stream in.csv` and more arguments.
    fn stream(&self, args: &str) -> Ran {
        self.run(&format!("stream in.csv {args}"))
    }

    /// `fairlayer stream -` with rows from standard input.
    fn pipe(&self, args: &str, input: &str) -> Ran {
        let args = format!("stream - {args}");
        fairlayer(self.0.path(), &args.split_whitespace().collect::<Vec<_>>(), input.as_bytes())
    }
}

/// Rows of a score, a group, a label and a control value; the scores of group b are lower, and c comes late.
fn rows(n: u32) -> String {
    let row = |i: u32| {
        let group = if i > 60 && i.is_multiple_of(7) { "c" } else { ["a", "b"][(i % 2) as usize] };
        let score = f64::from(i * 379 % 1000) / 1500.0 + if group == "b" { 0.0 } else { 0.3 };
        format!("{score},{group},{},{}\n", i / 3 % 2, ["u", "v"][(i / 5 % 2) as usize])
    };
    (0..n).map(row).collect()
}

const HEADER: &str = "s,g,y,c\n";

/// The fair scores and groups of the rows that came out.
fn answers(stdout: &str) -> Vec<(f64, String)> {
    let mut reader = csv::Reader::from_reader(stdout.as_bytes());
    let fair = reader.headers().unwrap().iter().position(|name| name == "fair_s").unwrap();
    let answer = |record: csv::StringRecord| (record[fair].parse().unwrap(), record[1].to_owned());
    reader.records().map(|record| answer(record.unwrap())).collect()
}

fn gap(answers: &[(f64, String)]) -> f64 {
    let mean = |group: &str| {
        let of: Vec<f64> = answers.iter().filter(|(_, other)| other == group).map(|(fair, _)| *fair).collect();
        (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64)
    };
    let means: Vec<f64> = ["a", "b", "c"].into_iter().filter_map(mean).collect();
    means.iter().copied().fold(f64::MIN, f64::max) - means.iter().copied().fold(f64::MAX, f64::min)
}

#[test]
fn rows_come_out_byte_for_byte_with_a_column_more() {
    let place = Place::new("\"s\",g,note\r\n0.25,a,\"x, \"\"y\"\"\"\r\n\r\n 0.5 ,b,\r\n0.25,a,z");
    let ran = place.stream(PARITY);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected = "\"s\",g,note,fair_s\r\n0.25,a,\"x, \"\"y\"\"\",0.25\r\n 0.5 ,b,,";
    assert!(ran.stdout.starts_with(expected) && ran.stdout.ends_with("\r\n"), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 4);
    assert!(ran.stderr.contains("demographic-parity of column s: 3 rows, 3 batches, pooled"), "{}", ran.stderr);
    assert!(place.holds(&["in.csv"]));
}

#[test]
fn groups_join_as_they_come_and_the_pooled_gap_ends_within_epsilon() {
    let input = format!("{HEADER}{}", rows(3000));
    let place = Place::new(&input);
    let args = "--score s --sensitive g --criterion demographic-parity --epsilon 0.05";
    for more in ["", "--batch-size 7", "--batch-size 100", "--batch-size 100 --b-tau 1000"] {
        let ran = place.stream(&format!("{args} {more}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let found = answers(&ran.stdout);
        assert_eq!(found.len(), 3000);
        // Batches that are projected are fair by themselves, each with the groups in another proportion.
        let projected = more == "--batch-size 100";
        let parts = if projected { found.chunks(100) } else { found.chunks(3000) };
        let gaps: Vec<f64> = parts.map(gap).collect();
        assert!(gaps.iter().all(|gap| *gap <= 0.05 + 1e-12), "{more}: {gaps:?}");
        assert!(ran.stderr.contains("<= 0.05") && ran.stderr.contains('3'), "{}", ran.stderr);
        assert_eq!(place.pipe(&format!("{args} {more}"), &input).stdout, ran.stdout, "{more}");
    }
}

#[test]
fn every_option_has_its_say() {
    let place = Place::new(format!("{HEADER}{}", rows(1200)));
    for args in [
        "--criterion demographic-parity --ratio 0.9",
        "--criterion demographic-parity --epsilon 0.05 --compare overall --bounds none",
        "--criterion equalized-odds --label y --epsilon 0.05 --batch-size 5",
        "--criterion tpr-parity --label y --epsilon 0.05",
        "--criterion fpr-parity --label y --epsilon 0.05",
        "--criterion conditional-parity --control c --epsilon 0.05",
        "--criterion mean-residual --label y --epsilon 0.05",
        "--criterion calibration --label y --epsilon 0.1 --edges 0,0.5,inf",
        "--criterion demographic-parity --epsilon 0.05 --algorithm max_gap --batch-size 16",
    ] {
        let ran = place.stream(&format!("--score s --sensitive g {args}"));
        assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1201), "{args}: {}", ran.stderr);
        let scores = answers(&ran.stdout);
        let raw: Vec<f64> =
            ran.stdout.lines().skip(1).map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
        assert!(scores.iter().zip(raw).any(|((fair, _), raw)| *fair != raw), "{args}");
    }
    let two = place.stream("--score s --sensitive g,c --intersectional --criterion demographic-parity --epsilon 0.05");
    assert!(two.code == Some(0) && two.stderr.contains("g & c"), "{}", two.stderr);
    let bins = place.stream("--score s --criterion calibration --label y --epsilon 0.1 --edges 0,0.5,inf");
    assert_eq!(bins.code, Some(0), "{}", bins.stderr);
}

#[test]
fn one_group_only_is_said() {
    let ran = Place::new("s,g\n0.5,a\n0.7,a\n").stream(PARITY);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "s,g,fair_s\n0.5,a,0.5\n0.7,a,0.7\n"));
    assert!(ran.stderr.contains("\"g\" has one group only, \"a\""), "{}", ran.stderr);
    let nothing = Place::new("s,g\n").stream(PARITY);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), "s,g,fair_s\n"));
}

#[test]
fn what_was_answered_before_bad_input_stays() {
    for (row, told) in [
        ("x,a", "line 4: column \"s\": \"x\" is not a number"),
        ("nan,a", "\"nan\" is not a finite number"),
        (",a", "column \"s\": the value is missing"),
        ("1e16,a", "too large for a stream"),
        ("0.5,", "line 4: column \"g\": the value is missing"),
        ("0.5", "line 4: 1 fields where the header has 2"),
        ("\"0.5,a", "a quote is opened and never closed"),
    ] {
        let place = Place::new(format!("s,g\n0.5,a\n0.5,b\n{row}\n0.5,a\n"));
        let ran = place.stream(&format!("{PARITY} --state state.json"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), "s,g,fair_s\n0.5,a,0.5\n0.5,b,0.5\n"), "{row}");
        assert!(ran.stderr.starts_with("error: in.csv: line 4") && ran.stderr.contains(told), "{row}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert_eq!(place.json("state.json")["rows"], 2, "{row}");
    }
    let many: String = (0..300).map(|row| format!("0.5,g{row}\n")).collect();
    let ran = Place::new(format!("s,g\n{many}")).stream(PARITY);
    assert!(ran.code == Some(2) && ran.stderr.contains("line 258: column \"g\""), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 257);
}

#[test]
fn usage_is_checked_before_anything_is_read() {
    let place = Place::new(GOOD);
    let refuses = |args: &str, told: &[&str]| assert_refused(&place.stream(args), args, told);
    let of = |criterion: &str| format!("--score s --sensitive g --criterion {criterion}");
    refuses(&of("equalized-odds --epsilon 0.1"), &["equalized-odds needs --label"]);
    refuses(&of("conditional-parity --epsilon 0.1"), &["needs --control"]);
    refuses(&of("calibration --label y --epsilon 0.1"), &["needs --edges"]);
    refuses(&of("covariance --epsilon 0.1"), &["covariance", "fairlayer project"]);
    refuses(&of("demographic-parity"), &["--epsilon", "--ratio"]);
    refuses(&of("demographic-parity --epsilon 0.1 --edges 0,1"), &["--edges"]);
    refuses(&of("demographic-parity --ratio 0.8 --bounds -1,1"), &["lower bound of at least 0"]);
    refuses(&of("demographic-parity --ratio 0.8 --algorithm max_gap"), &["max_gap", "--ratio"]);
    refuses(&of("demographic-parity --epsilon 0.1 --batch-size 0"), &["--batch-size", "at least 1"]);
    refuses(&of("demographic-parity --epsilon 0.1 --algorithm best"), &["pooled", "max_gap"]);
    refuses(&of("demographic-parity --epsilon 0.1 --state-every 2"), &["--state"]);
    refuses(&of("demographic-parity --epsilon 0.1 --state in.csv"), &["the input"]);
    refuses(&of("demographic-parity --epsilon 0.1 --state none/state.json"), &["no such folder"]);
    refuses("--score s --sensitive g,g --criterion demographic-parity --epsilon 0", &["\"g\" twice"]);
    refuses("--score no --sensitive g --criterion demographic-parity --epsilon 0", &["no column \"no\""]);
    let ran = place.run(&format!("stream none.csv {PARITY}"));
    assert_refused(&ran, "missing", &["none.csv: cannot be read"]);
    assert_refused(&Place::new("s,g,fair_s\n").stream(PARITY), "taken", &["column \"fair_s\" already"]);
    assert_refused(&Place::new("").stream(PARITY), "empty", &["the file is empty"]);
    assert!(place.holds(&["in.csv"]));
}

#[test]
fn an_infeasible_batch_is_told_and_its_scores_are_clipped() {
    // Labels of 5 cannot be met by scores up to 1.
    let rows = "0.5,a,5\n1.5,b,5\n".repeat(32);
    let ran = Place::new(format!("s,g,y\n{rows}"))
        .stream("--score s --sensitive g --criterion mean-residual --label y --epsilon 0.1 --batch-size 64");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 65), "{}", ran.stderr);
    assert!(ran.stderr.contains("rows 1-64: infeasible"), "{}", ran.stderr);
    assert!(answers(&ran.stdout).iter().all(|(fair, group)| *fair == if group == "a" { 0.5 } else { 1.0 }));
}

#[test]
fn a_stream_goes_on_where_it_stopped() {
    let all = rows(300);
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    for args in [
        PARITY.to_owned(),
        format!("{PARITY} --batch-size 3"),
        "--score s --sensitive g,c --intersectional --criterion equalized-odds --label y --epsilon 0.02".to_owned(),
        "--score s --sensitive g --criterion conditional-parity --control c --epsilon 0.02 --bounds none".to_owned(),
        format!("{PARITY} --batch-size 6 --algorithm max_gap"),
    ] {
        let whole = Place::new(format!("{HEADER}{all}")).stream(&args);
        assert_eq!(whole.code, Some(0), "{}", whole.stderr);
        let place = Place::new("");
        let mut together = String::new();
        // The group c comes in the second part.
        for part in [&lines[..48], &lines[48..54], &lines[54..]] {
            let ran = place.pipe(&format!("{args} --state state.json"), &format!("{HEADER}{}", part.concat()));
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            let skipped = usize::from(!together.is_empty());
            together.extend(ran.stdout.split_inclusive('\n').skip(skipped));
        }
        assert!(together == whole.stdout, "{args}");
        assert_eq!(place.json("state.json")["rows"], 300);
    }
}

#[test]
fn a_state_of_something_else_is_refused_and_stays() {
    let place = Place::new(format!("{HEADER}{}", rows(50)));
    assert_eq!(place.stream(&format!("{PARITY} --state state.json")).code, Some(0));
    let saved = place.read("state.json");
    let refuses = |args: &str, told: &[&str]| {
        assert_refused(&place.stream(&format!("{args} --state state.json")), args, told);
        assert_eq!(place.read("state.json"), saved);
    };
    let of = |rest: &str| format!("--score s --sensitive g {rest}");
    refuses(&of("--criterion demographic-parity --epsilon 0.2"), &["state.json", "0.1", "0.2"]);
    refuses(&of("--criterion tpr-parity --label y --epsilon 0.1"), &["state.json", "demographic-parity"]);
    refuses(&of("--criterion demographic-parity --epsilon 0.1 --bounds 0,2"), &["state.json", "bounds"]);
    refuses(&of("--criterion demographic-parity --epsilon 0.1 --algorithm max_gap"), &["state.json", "pooled"]);
    refuses("--score s --sensitive c --criterion demographic-parity --epsilon 0.1", &["state.json", "\"g\"", "\"c\""]);
    for (text, told) in [
        (saved[..saved.len() / 2].to_owned(), "not the state of a stream"),
        ("{}".to_owned(), "not the state of a stream"),
        (saved.replacen("fairlayer stream 1", "fairlayer stream 9", 1), "fairlayer stream 9"),
        (saved.replacen("\"texts\":[\"a\",\"b\"]", "\"texts\":[\"a\",\"a\"]", 1), "damaged"),
        (saved.replacen("\"groups\":[[[0],[1]]]", "\"groups\":[[[0],[7]]]", 1), "damaged"),
    ] {
        fs::write(place.0.path().join("state.json"), &text).unwrap();
        assert_refused(&place.stream(&format!("{PARITY} --state state.json")), told, &["state.json", told]);
        assert_eq!(place.read("state.json"), text);
    }
}

/// A stream that runs, and its answers line by line.
struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Running {
    fn start(place: &Place, args: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fairlayer"))
            .current_dir(place.0.path())
            .args(format!("stream - {args}").split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Self { child, stdin, lines }
    }

    fn give(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(120)).expect("an answer before the next row is given")
    }
}

#[test]
fn every_batch_is_answered_before_the_next_comes() {
    let place = Place::new("");
    let mut running = Running::start(&place, PARITY);
    running.give(HEADER);
    assert_eq!(running.line(), "s,g,y,c,fair_s");
    for row in rows(20).lines() {
        running.give(&format!("{row}\n"));
        assert!(running.line().starts_with(row));
    }
    let mut running = Running::start(&place, &format!("{PARITY} --batch-size 2"));
    running.give("s,g\n0.5,a\n0.5,b\n0.5,a\n");
    assert_eq!([running.line(), running.line(), running.line()], ["s,g,fair_s", "0.5,a,0.5", "0.5,b,0.5"]);
    // The rest of a batch is answered when the input ends.
    let Running { mut child, stdin, lines } = running;
    drop(stdin);
    assert!(lines.recv_timeout(Duration::from_secs(120)).unwrap().starts_with("0.5,a,"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_kill_at_any_moment_loses_what_is_said() {
    let all = rows(240);
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    let whole = Place::new(format!("{HEADER}{all}")).stream(PARITY).stdout;
    let whole: Vec<&str> = whole.lines().skip(1).collect();
    for (every, killed_after) in [(1, 1), (1, 57), (1, 130), (8, 3), (8, 121)] {
        let place = Place::new("");
        let args = format!("{PARITY} --state state.json --state-every {every}");
        let mut running = Running::start(&place, &args);
        running.give(HEADER);
        running.line();
        for row in 0..killed_after {
            running.give(lines[row]);
            assert_eq!(running.line(), whole[row]);
        }
        // Rows that nobody has waited for are on their way.
        running.give(&lines[killed_after..killed_after + 40].concat());
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        let saved =
            if place.files().contains("state.json") { place.json("state.json")["rows"].as_u64().unwrap() } else { 0 };
        let saved = saved as usize;
        // What was answered and is not in the state are at most the last batches.
        assert!(saved + every >= killed_after && saved <= killed_after + 40, "{every} {killed_after}: {saved}");
        // The rows that follow have the answers that they would have had.
        let ran = place.pipe(&args, &format!("{HEADER}{}", lines[saved..].concat()));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stdout.lines().skip(1).collect::<Vec<_>>(), whole[saved..], "{every} {killed_after}");
        assert_eq!(place.json("state.json")["rows"], 240);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_closed_pipe_are_told() {
    let place = Place::new(format!("{HEADER}{}", rows(20_000)));
    let run = |stdout: Stdio| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fairlayer"))
            .current_dir(place.0.path())
            .args(format!("stream in.csv {PARITY}").split_whitespace())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("error: standard output cannot be written") && told.lines().count() == 1, "{told}");
    };
    run(fs::File::options().write(true).open("/dev/full").unwrap().into());
    run(Stdio::piped());
}
