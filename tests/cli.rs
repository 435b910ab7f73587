//! The command line, as a program that others call: exit codes, messages, files.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// What a command did.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn fairlayer(folder: &Path, args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fairlayer"))
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that stops before it has read all of its input is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A folder with an input `in.csv`.
struct Place(TempDir);

impl Place {
    fn new(input: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("in.csv"), input).unwrap();
        Self(folder)
    }

    fn run(&self, args: &str) -> Ran {
        fairlayer(self.0.path(), &args.split_whitespace().collect::<Vec<_>>(), b"")
    }

    /// `fairlayer project in.csv --output out.csv` and more arguments.
    fn project(&self, args: &str) -> Ran {
        self.run(&format!("project in.csv --output out.csv {args}"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn column(&self, name: &str) -> Vec<String> {
        let mut reader = csv::Reader::from_path(self.0.path().join("out.csv")).unwrap();
        let place = reader.byte_headers().unwrap().iter().position(|column| column == name.as_bytes()).unwrap();
        let text = |record: csv::ByteRecord| String::from_utf8_lossy(&record[place]).into_owned();
        reader.byte_records().map(|record| text(record.unwrap())).collect()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.column(name).iter().map(|text| text.parse().unwrap()).collect()
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn holds(&self, names: &[&str]) -> bool {
        self.files() == names.iter().map(|&name| name.to_owned()).collect()
    }
}

/// Bad input: exit code 2, one line on stderr that tells what is wrong, nothing on stdout, and no file.
fn refuses(input: impl AsRef<[u8]>, args: &str, told: &[&str]) {
    let place = Place::new(input);
    let ran = place.project(args);
    assert_refused(&ran, args, told);
    assert!(place.holds(&["in.csv"]), "{args}: {:?}", place.files());
}

fn assert_refused(ran: &Ran, args: &str, told: &[&str]) {
    assert_eq!(ran.code, Some(2), "{args}: {}", ran.stderr);
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.lines().count() == 1, "{args}: {}", ran.stderr);
    told.iter().for_each(|text| assert!(ran.stderr.contains(text), "{args}: no {text:?} in {}", ran.stderr));
    assert_eq!(ran.stdout, "", "{args}");
}

fn succeeds(ran: &Ran) {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
}

const GOOD: &str = "s,g,y,c,w,p\n.9,a,1,u,1,0\n.8,a,0,v,2,1\n.3,b,1,u,1,0\n.1,b,0,v,1,1\n.2,b,1,v,3,1\n.7,a,0,u,1,0\n";
const COLUMNS: &str = "--score s --sensitive g";
const PARITY: &str = "--score s --sensitive g --criterion demographic-parity --epsilon 0.1";

#[test]
fn bad_scores_are_named_by_line_and_column() {
    for (score, told) in [
        ("x", "\"x\" is not a number"),
        ("", "the value is missing"),
        ("nan", "\"nan\" is not a finite number"),
        ("NaN", "\"NaN\" is not a finite number"),
        ("inf", "\"inf\" is not a finite number"),
        ("-Infinity", "\"-Infinity\" is not a finite number"),
        ("1e400", "is not a finite number"),
        ("0x10", "is not a number"),
        ("\"1,5\"", "\"1,5\" is not a number"),
    ] {
        refuses(format!("s,g\n.5,a\n{score},b\n"), PARITY, &["in.csv: line 3: column \"s\"", told]);
    }
    let long = format!("s,g\n{}\u{7},b\n", "x".repeat(10_000));
    refuses(long, PARITY, &["line 2: column \"s\"", "xxx...\" is not a number"]);
    refuses("s,g\n1e39,a\n", &format!("{PARITY} --dtype f32"), &["line 2: column \"s\"", "too large for f32"]);
}

#[test]
fn lines_are_counted_through_quotes_blank_lines_and_line_ends() {
    refuses("g,s\r\n\"a\r\nb\",1\r\n\r\nc,x\r\n", PARITY, &["line 5: column \"s\""]);
    refuses("g,s\n\"a\n\n\",1\n\nc,x", PARITY, &["line 6: column \"s\""]);
    refuses("g,s\na,1\nb\n", PARITY, &["line 3: 1 fields where the header has 2"]);
    refuses("g,s\n\"a\nb\",1\nb,1,2\n", PARITY, &["line 4: 3 fields where the header has 2"]);
    refuses("g,s\na,1\n\"b,1\nc,2\n", PARITY, &["line 3: a quote is opened and never closed"]);
    refuses("g,s\na\rb,1\n", PARITY, &["line 2: a carriage return without a line feed"]);
    refuses("g,s\na,1\n\"b\"c,1\n", PARITY, &["line 3: text follows a closing quote"]);
}

#[test]
fn missing_and_doubled_columns_are_named() {
    refuses("score,group\n1,a\n", PARITY, &["line 1: no column \"s\"; the columns are \"score\", \"group\""]);
    refuses("s,group\n1,a\n", PARITY, &["no column \"g\""]);
    refuses("s,g,s\n1,a,1\n", PARITY, &["line 1: the header has more than one column \"s\""]);
    refuses("s,g,fair_s\n1,a,1\n", PARITY, &["line 1: there is a column \"fair_s\" already"]);
    refuses("", PARITY, &["in.csv: line 1: the file is empty"]);
    refuses("\n\r\n", PARITY, &["in.csv: line 1: the file is empty"]);
    refuses("s,g\n", PARITY, &["in.csv: line 1: no rows follow the header"]);
    for header in ["s;g", "s\tg"] {
        refuses(format!("{header}\n"), PARITY, &["no column \"s\"", "the separator must be a comma"]);
    }
    refuses(GOOD, "--score s --sensitive g,g --criterion demographic-parity --epsilon 0", &["\"g\" twice"]);
    for option in ["--weight", "--batch"] {
        refuses(GOOD, &format!("{PARITY} {option} nope"), &["no column \"nope\"", "\"w\", \"p\""]);
    }
    // A doubled column that is not used is nobody's business.
    succeeds(&Place::new("s,g,x,x\n1,a,2,2\n0,b,2,2\n").project(PARITY));
}

#[test]
fn categories_and_weights_must_be_there() {
    refuses("s,g\n1,a\n1,\n", PARITY, &["line 3: column \"g\": the value is missing"]);
    refuses("s,g\n1,a\n1,\"\"\n", PARITY, &["line 3: column \"g\": the value is missing"]);
    refuses("s,g,p\n1,a,\n", &format!("{PARITY} --batch p"), &["line 2: column \"p\": the value is missing"]);
    let conditional = format!("{COLUMNS} --criterion conditional-parity --control c --epsilon 0.1");
    refuses("s,g,c\n1,a, \n", &conditional, &["line 2: column \"c\": the value is missing"]);
    for weight in ["0", "-1", "nan", "inf", "", "heavy", "-0.0"] {
        let input = format!("s,g,w\n1,a,1\n1,b,{weight}\n");
        refuses(input, &format!("{PARITY} --weight w"), &["line 3: column \"w\""]);
    }
    let odds = format!("{COLUMNS} --criterion equalized-odds --epsilon 0.1");
    refuses("s,g,y\n1,a,true\n", &format!("{odds} --label y"), &["line 2: column \"y\"", "write 1 for true"]);
    refuses("s,g,y\n1,a,\n", &format!("{odds} --label y"), &["line 2: column \"y\": the value is missing"]);
}

#[test]
fn criteria_say_which_columns_and_limits_they_need() {
    for criterion in ["equalized-odds", "tpr-parity", "fpr-parity", "mean-residual"] {
        let args = format!("{COLUMNS} --criterion {criterion} --epsilon 0.1");
        refuses(GOOD, &args, &[criterion, "needs --label"]);
    }
    let conditional = format!("{COLUMNS} --criterion conditional-parity --epsilon 0.1");
    refuses(GOOD, &conditional, &["conditional-parity needs --control"]);
    let residual = format!("{COLUMNS} --criterion mean-residual --label y");
    refuses(GOOD, &format!("{residual} --ratio 0.8"), &["mean-residual takes --epsilon"]);
    refuses(GOOD, &format!("{residual} --epsilon 1 --compare overall"), &["--compare overall", "mean-residual"]);
    let parity = format!("{COLUMNS} --criterion demographic-parity");
    refuses(GOOD, &format!("{parity} --ratio 0.8 --compare overall"), &["--compare overall", "--ratio"]);
    refuses(GOOD, &format!("{parity} --ratio 0.8 --bounds none"), &["--ratio needs a lower bound of at least 0"]);
    refuses(GOOD, &format!("{parity} --ratio 0.8 --bounds -1,1"), &["--ratio needs a lower bound of at least 0"]);
    refuses(GOOD, &parity, &["--epsilon", "--ratio"]);
    refuses(GOOD, &format!("{parity} --epsilon 0.1 --ratio 0.8"), &["--epsilon", "--ratio"]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let parity = format!("{COLUMNS} --criterion demographic-parity");
    for epsilon in ["-0.1", "nan", "inf", "x", "-1e-300"] {
        refuses(GOOD, &format!("{parity} --epsilon {epsilon}"), &["--epsilon", epsilon]);
    }
    for ratio in ["0", "-1", "1.001", "nan"] {
        refuses(GOOD, &format!("{parity} --ratio {ratio}"), &["--ratio", ratio]);
    }
    for bounds in ["1,0", "0.5,0.5", "1", "0,nan", "a,b", "0,1,2", "inf,inf"] {
        refuses(GOOD, &format!("{PARITY} --bounds {bounds}"), &["--bounds", bounds]);
    }
    refuses(GOOD, &format!("{PARITY} --bounds 0,1e300 --dtype f32"), &["--bounds", "f32"]);
    for size in ["0", "-1", "1.5"] {
        refuses(GOOD, &format!("{PARITY} --batch-size {size}"), &["--batch-size", "at least 1"]);
    }
    refuses(GOOD, &format!("{PARITY} --batch p --batch-size 2"), &["--batch", "--batch-size"]);
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let criterion = format!("{COLUMNS} --criterion parity --epsilon 0.1");
    let known =
        ["demographic-parity", "equalized-odds", "tpr-parity", "fpr-parity", "conditional-parity", "mean-residual"];
    refuses(GOOD, &criterion, &known);
    refuses(GOOD, &format!("{PARITY} --device tpu"), &["cpu", "auto", "wgpu", "cuda"]);
    refuses(GOOD, &format!("{PARITY} --dtype f16"), &["f32", "f64"]);
    refuses(GOOD, &format!("{PARITY} --method simplex"), &["newton", "admm"]);
    refuses(GOOD, &format!("{PARITY} --compare all"), &["pairwise", "overall"]);
    refuses(GOOD, &format!("{PARITY} --frobnicate"), &["--frobnicate"]);
    refuses(GOOD, "--sensitive g --criterion demographic-parity --epsilon 0", &["--score"]);
    refuses(GOOD, &format!("{PARITY} --method admm"), &["--method admm is not in this version; use newton"]);
    for device in ["wgpu", "cuda"] {
        refuses(GOOD, &format!("{PARITY} --device {device}"), &["--device", device]);
    }
    let place = Place::new(GOOD);
    for command in ["stream in.csv --score s -x", "train", "train --help", "help stream"] {
        assert_refused(&place.run(command), command, &["not in this version"]);
    }
    assert_refused(&place.run("strean"), "strean", &["unrecognized subcommand 'strean'"]);
    // What clap says in several lines is told apart.
    let missing = "the following required arguments were not provided: --score <COL>; --sensitive <COL[,COL]>; ";
    refuses(GOOD, "--epsilon 0", &[missing]);
    refuses(GOOD, &format!("{PARITY} --dtype f16"), &["'--dtype <DTYPE>'; [possible values: f32, f64]"]);
    assert_refused(&place.run(""), "", &["project", "audit", "devices"]);
}

#[test]
fn too_many_groups_are_refused() {
    let rows: String = (0..300).map(|row| format!("0.5,g{row},h{},k{}\n", row % 20, row % 17)).collect();
    let input = format!("s,g,h,k\n{rows}");
    refuses(&input, PARITY, &["line 258: column \"g\": more than 256 different values; is it a column of numbers?"]);
    let two = "--score s --sensitive h,k --criterion demographic-parity --epsilon 0.1";
    refuses(&input, two, &["340 cells", "256"]);
    refuses(&input, &format!("{two} --intersectional"), &["cells", "256"]);
    // The product is too large, but few of its combinations occur.
    let rows: String = (0..300).map(|row| format!("{},h{},k{}\n", row % 7, row % 20, row % 20)).collect();
    succeeds(&Place::new(format!("s,h,k\n{rows}")).project(&format!("{two} --intersectional --bounds none")));
}

#[test]
fn files_that_cannot_be_read_or_written_are_refused() {
    let place = Place::new(GOOD);
    let to = |output: &str, more: &str| place.run(&format!("project in.csv --output {output} {PARITY} {more}"));
    assert_refused(&to("in.csv", ""), "same file", &["in.csv", "the input"]);
    assert_refused(&to("./in.csv", ""), "same file", &["the input"]);
    assert_refused(&to("none/out.csv", ""), "no folder", &["none/out.csv", "no such folder"]);
    assert_refused(&to(".", ""), "a folder", &["is a folder"]);
    assert_refused(&to("out.csv", "--report in.csv"), "report", &["the input"]);
    assert_refused(&to("out.csv", "--report ./out.csv"), "report", &["the output"]);
    let missing = place.run(&format!("project none.csv --output out.csv {PARITY}"));
    assert_refused(&missing, "missing", &["none.csv: cannot be read"]);
    assert_refused(&place.run(&format!("project . --output out.csv {PARITY}")), "a folder", &["cannot be read"]);
    assert!(place.holds(&["in.csv"]) && place.read("in.csv") == GOOD);
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_written_to_and_not_replaced() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let place = Place::new(GOOD);
    let full = place.run(&format!("project in.csv --output /dev/full {PARITY}"));
    assert_refused(&full, "full", &["cannot be written"]);
    succeeds(&place.run(&format!("project in.csv --output /dev/null {PARITY}")));
    assert!(["/dev/null", "/dev/full"].iter().all(|path| fs::metadata(path).unwrap().file_type().is_char_device()));
    // The target of a link is replaced, and keeps its permissions.
    let (real, link) = (place.0.path().join("real.csv"), place.0.path().join("out.csv"));
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    succeeds(&place.project(PARITY));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && place.read("real.csv").starts_with("s,g"));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn an_older_output_outlives_a_failure() {
    let place = Place::new("s,g\nx,a\n");
    fs::write(place.0.path().join("out.csv"), "precious").unwrap();
    assert_eq!(place.project(PARITY).code, Some(2));
    assert_eq!(place.read("out.csv"), "precious");
    fs::write(place.0.path().join("in.csv"), "s,g\n1,a\n0,b\n").unwrap();
    succeeds(&place.project(PARITY));
    assert!(place.read("out.csv").starts_with("s,g,fair_s\n1,a,0.") && place.holds(&["in.csv", "out.csv"]));
}

#[test]
fn the_gap_is_closed_and_the_rows_are_as_they_were() {
    let place = Place::new(GOOD);
    let ran = place.project(PARITY);
    succeeds(&ran);
    for (line, original) in place.read("out.csv").lines().zip(GOOD.lines()) {
        assert_eq!(line.rsplit_once(',').unwrap().0, original);
    }
    // Two groups of equal size: 0.8 and 0.2 on average, so each moves by (0.6 - 0.1) / 2.
    let expected = [0.65, 0.55, 0.55, 0.35, 0.45, 0.45];
    for (fair, expected) in place.numbers("fair_s").iter().zip(expected) {
        assert!((fair - expected).abs() < 1e-9, "{fair} {expected}");
    }
    assert!(!ran.stdout.contains("worst of") && !ran.stdout.contains("absent"), "{}", ran.stdout);
    assert!(ran.stdout.contains("0.60000") && ran.stdout.contains("0.10000") && ran.stdout.contains("<= 0.1"));
}

#[test]
fn every_criterion_runs() {
    for args in [
        "demographic-parity --epsilon 0",
        "demographic-parity --epsilon 0.1 --compare overall",
        "demographic-parity --ratio 0.8",
        "equalized-odds --label y --epsilon 0.05",
        "tpr-parity --label y --epsilon 0.05 --weight w",
        "fpr-parity --label y --ratio 1",
        "conditional-parity --control c --epsilon 0.05",
        "mean-residual --label y --epsilon 0.2 --compare pairwise",
        "demographic-parity --epsilon 0.1 --bounds none --batch p",
        "demographic-parity --epsilon 0.1 --bounds -inf,0.5 --batch-size 4 --dtype f32",
        "demographic-parity --epsilon 0.1 --bounds -3.5,3.5 --device auto",
    ] {
        let place = Place::new(GOOD);
        let ran = place.project(&format!("{COLUMNS} --criterion {args} --report r.json"));
        succeeds(&ran);
        let report = place.json("r.json");
        let limit = report["gaps"][0]["limit"].as_f64().unwrap();
        for gap in report["gaps"].as_array().unwrap() {
            let after = gap["after"].as_f64().unwrap();
            let fair = if args.contains("ratio") { after >= limit - 1e-9 } else { after <= limit + 1e-9 };
            assert!(fair, "{args}: {gap}");
        }
    }
}

#[test]
fn small_limits_are_shown_and_their_rounding_is_told() {
    let rows: String = (0..99).map(|row| format!("{},{}\n", (row * 37 % 101) as f64 / 101.0, row % 3)).collect();
    let place = Place::new(format!("s,g\n{rows}"));
    let ran = place.project(&format!("{COLUMNS} --criterion demographic-parity --epsilon 1e-12 --dtype f32"));
    succeeds(&ran);
    let told = |stdout: &str| stdout.lines().find(|line| line.starts_with("rounding ")).map(str::to_owned);
    assert!(ran.stdout.contains("<= 1e-12"), "{}", ran.stdout);
    let line = told(&ran.stdout).unwrap_or_else(|| panic!("no rounding in {}", ran.stdout));
    assert!(line.contains("e-") && line.contains("f32") && line.contains("measured"), "{line}");
    let ran = place.project(PARITY);
    assert!(told(&ran.stdout).is_none(), "{}", ran.stdout);
    // What a problem without a solution is beyond its limit by is no rounding.
    let ran = Place::new(IMPOSSIBLE).project(&format!("{RESIDUAL} --keep-going"));
    assert!(told(&ran.stdout).is_none(), "{}", ran.stdout);
}

#[test]
fn gaps_of_several_problems_are_the_worst() {
    let ran = Place::new(GOOD).project(&format!("{PARITY} --batch p"));
    succeeds(&ran);
    assert_eq!(ran.stdout.matches("worst of 2 problems").count(), 2, "{}", ran.stdout);
}

#[test]
fn scores_that_are_mostly_out_of_bounds_are_mentioned() {
    let ran = Place::new("s,g\n50,a\n0.5,b\n70,b\n").project(PARITY);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stderr, "note: 2 of 3 scores lie outside [0, 1], the bounds unless --bounds gives others\n");
    succeeds(&Place::new("s,g\n50,a\n0.5,b\n70,b\n").project(&format!("{PARITY} --bounds 0,1")));
}

#[test]
fn combinations_of_groups_are_constrained_when_asked() {
    // Marginally fair already; by combination as unfair as can be.
    let input = "s,g,h\n1,a,u\n0,a,v\n0,b,u\n1,b,v\n";
    let args = "--score s --sensitive g,h --criterion demographic-parity --epsilon 0.5 --report r.json";
    let place = Place::new(input);
    succeeds(&place.project(args));
    assert_eq!(place.numbers("fair_s"), [1.0, 0.0, 0.0, 1.0]);
    succeeds(&place.project(&format!("{args} --intersectional")));
    assert!(place.numbers("fair_s").iter().zip([0.75, 0.25, 0.25, 0.75]).all(|(fair, y)| (fair - y).abs() < 1e-9));
    let report = place.json("r.json");
    assert_eq!((&report["gaps"][0]["feature"], &report["gaps"][0]["groups"][1]), (&"g & h".into(), &"a & v".into()));
}

#[test]
fn auto_says_why_it_took_the_cpu() {
    let ran = Place::new(GOOD).project(&format!("{PARITY} --device auto"));
    assert!(ran.code == Some(0) && ran.stdout.contains("not wgpu: "), "{}", ran.stdout);
}

#[test]
fn problems_are_gathered_and_scattered() {
    let rows =
        [(".9", "a", "x"), (".1", "a", "y"), (".2", "b", "x"), (".95", "b", "y"), (".8", "a", "x"), (".3", "b", "x")];
    let line = |(s, g, p): &(&str, &str, &str)| format!("{s},{g},{p}\n");
    let place = Place::new(format!("s,g,p\n{}", rows.iter().map(line).collect::<String>()));
    succeeds(&place.project(&format!("{PARITY} --batch p")));
    let together = place.column("fair_s");
    for problem in ["x", "y"] {
        let of_problem = |row: &&(&str, &str, &str)| row.2 == problem;
        let alone = Place::new(format!("s,g,p\n{}", rows.iter().filter(of_problem).map(line).collect::<String>()));
        succeeds(&alone.project(PARITY));
        let gathered: Vec<String> =
            rows.iter().zip(&together).filter(|(row, _)| row.2 == problem).map(|(_, fair)| fair.clone()).collect();
        assert_eq!(alone.column("fair_s"), gathered);
    }
}

#[test]
fn batch_sizes_cut_consecutive_rows() {
    let place = Place::new("s,g\n1,a\n0,b\n1,a\n0,b\n.5,a\n");
    succeeds(&place.project(&format!("{PARITY} --batch-size 2 --report r.json")));
    let report = place.json("r.json");
    let entries = report["problems"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!((&entries[2]["batch"], &entries[2]["n"]), (&Value::from("rows 5-5"), &Value::from(1)));
    let fair = place.column("fair_s");
    assert_eq!((&fair[0], &fair[1], fair[4].as_str()), (&fair[2], &fair[3], "0.5"));
}

#[test]
fn quotes_line_ends_and_byte_order_marks_pass_through() {
    let place = Place::new("\u{feff}\"s,1\",\"g\"\"\"\r\n1,\"a\r\n\"\"b\"\"\"\r\n\r\n 0 ,c");
    let args = ["project", "in.csv", "--output", "out.csv", "--score", "s,1", "--sensitive", "g\"", "--criterion"];
    let args: Vec<&str> = args.into_iter().chain(["demographic-parity", "--epsilon", "1"]).collect();
    succeeds(&fairlayer(place.0.path(), &args, b""));
    let expected = "\"s,1\",\"g\"\"\",\"fair_s,1\"\r\n1,\"a\r\n\"\"b\"\"\",1.0\r\n 0 ,c,0.0\r\n";
    assert_eq!(place.read("out.csv"), expected);
}

#[test]
fn pipes_are_read() {
    let place = Place::new(GOOD);
    succeeds(&place.project(PARITY));
    let expected = place.read("out.csv");
    let mut inputs = vec!["-"];
    if cfg!(target_os = "linux") {
        inputs.push("/dev/stdin");
    }
    for input in inputs {
        let args = format!("project {input} --output piped.csv {PARITY}");
        succeeds(&fairlayer(place.0.path(), &args.split(' ').collect::<Vec<_>>(), GOOD.as_bytes()));
        assert_eq!(place.read("piped.csv"), expected);
    }
}

#[test]
fn written_numbers_read_back_exactly() {
    let rows: String = (0..200).map(|row| format!("{},{}\n", (row * 37 % 101) as f64 / 77.0, row % 3)).collect();
    let place = Place::new(format!("s,g\n{rows}"));
    // Bounds that single precision does not have: what is written lies within them all the same.
    succeeds(&place.project(&format!("{PARITY} --bounds 0.1,0.7 --dtype f32")));
    let fair = place.numbers("fair_s");
    assert!(fair.iter().all(|&y| f64::from(y as f32) == y && (0.1..=0.7).contains(&y)));
    // In double precision, scores that are fair already come back bit for bit.
    succeeds(&place.project(&format!("{COLUMNS} --criterion demographic-parity --epsilon 9 --bounds none")));
    assert_eq!(place.numbers("fair_s"), place.numbers("s"));
}

const IMPOSSIBLE: &str = "s,g,y,p\n.4,a,.5,fine\n2,a,5,wrong\n-1,b,5,wrong\n.6,b,.5,fine\n";
const RESIDUAL: &str = "--score s --sensitive g --criterion mean-residual --label y --epsilon 0.05 --batch p";

#[test]
fn infeasible_problems_are_listed_and_nothing_is_written() {
    let place = Place::new(IMPOSSIBLE);
    let ran = place.project(&format!("{RESIDUAL} --report r.json"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("error: 1 of 2 problems is not solved and nothing was written"), "{}", ran.stderr);
    // The proof: group a can reach 1 at most where 5 +- 0.05 is wanted, group b 0 at least; a is worse.
    let told = "\"wrong\": infeasible (no scores within the bounds meet ";
    assert!(ran.stderr.contains(told) && ran.stderr.contains("g=a"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("fine"), "{}", ran.stderr);
    assert!(place.holds(&["in.csv", "r.json"]));
    let report = place.json("r.json");
    assert_eq!((&report["output"], &report["problems"][1]["status"]), (&Value::Null, &Value::from("infeasible")));
}

#[test]
fn proofs_name_at_most_three_rows_and_a_single_problem_is_not_counted() {
    let rows: String = (0..10).map(|row| format!("9,g{},9\n", row % 5)).collect();
    let place = Place::new(format!("s,g,y\n{rows}"));
    let ran = place.project(&format!("{COLUMNS} --criterion mean-residual --label y --epsilon 0"));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let error = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.starts_with("error: the problem is not solved and nothing was written"), "{error}");
    let line = ran.stderr.lines().last().unwrap();
    assert!(line.starts_with("  the whole file: infeasible (no scores within the bounds meet "), "{line}");
    assert!((1..=3).contains(&line.matches("g=").count()), "{line}");
}

#[test]
fn keep_going_clips_what_is_not_solved() {
    let place = Place::new(IMPOSSIBLE);
    let ran = place.project(&format!("{RESIDUAL} --keep-going"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("\"wrong\": infeasible") && ran.stdout.contains("1 solved, 1 infeasible"));
    let fair = place.numbers("fair_s");
    assert_eq!((fair[1], fair[2]), (1.0, 0.0));
    assert!((fair[0] - 0.45).abs() < 1e-9 && (fair[3] - 0.55).abs() < 1e-9, "{fair:?}");
}

#[test]
fn one_group_is_nothing_to_compare() {
    let place = Place::new("s,g,y\n.5,a,1\n1.5,a,0\n");
    let ran = place.project(PARITY);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("one group only") && ran.stdout.contains("one group"));
    assert!(!ran.stdout.contains("absent"), "{}", ran.stdout);
    assert_eq!(place.column("fair_s"), ["0.5", "1.0"]);
    // A mean residual compares a group with its labels.
    let ran = place.project(&format!("{COLUMNS} --criterion mean-residual --label y --epsilon 0"));
    succeeds(&ran);
    assert!(place.numbers("fair_s").iter().zip([0.0, 1.0]).all(|(fair, expected)| (fair - expected).abs() < 1e-9));
}

#[test]
fn groups_that_are_absent_from_a_problem_are_reported() {
    let place = Place::new("s,g,p\n1,a,0\n0,b,0\n1,a,1\n0,b,1\n1,c,1\n");
    let ran = place.project(&format!("{PARITY} --batch p --report r.json"));
    succeeds(&ran);
    let told = "groups    absent from a problem, or alone in it: g=c (1 problem)\n";
    assert!(ran.stdout.contains(told), "{}", ran.stdout);
    let report = place.json("r.json");
    assert_eq!(report["inactive_rows"], serde_json::json!([{ "row": "g=c", "problems": 1 }]));
    assert_eq!(report["problems"][0]["inactive_rows"], serde_json::json!(["g=c"]));
}

#[test]
fn columns_without_use_are_mentioned() {
    let ran = Place::new(GOOD).project(&format!("{PARITY} --label y --control c"));
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("does not use --label") && ran.stderr.contains("does not use --control"));
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn reports_have_stable_keys() {
    let place = Place::new(GOOD);
    let args =
        format!("{COLUMNS} --criterion conditional-parity --control c --epsilon 0.1 --bounds 0,inf --report r.json");
    succeeds(&place.project(&args));
    let report = place.json("r.json");
    let expected = "fairlayer input output fair_column score sensitive intersectional label control weight criterion \
        compare epsilon ratio lower_bound upper_bound device passed_over dtype method rows solve_seconds total_seconds \
        distance_rms distance_max statuses gaps inactive_rows problems";
    assert_eq!(keys(&report), expected.split_whitespace().collect());
    assert_eq!(keys(&report["statuses"]), "solved iteration_limit infeasible bad_number".split(' ').collect());
    assert_eq!(keys(&report["gaps"][0]), "feature stratum groups before after limit".split(' ').collect());
    let expected = "batch n status iterations passes residual excess gap_before gap_after inactive_rows multipliers";
    assert_eq!(keys(&report["problems"][0]), expected.split(' ').collect());
    assert_eq!(report["gaps"][1]["stratum"], "c=v");
    assert_eq!(report["problems"][0]["multipliers"][2]["row"], "g=a, c=v");
    assert_eq!((&report["upper_bound"], &report["rows"]), (&Value::Null, &Value::from(6)));
}

#[test]
fn audits_have_fairlearns_figures() {
    let place = Place::new("s,g,h,y\n.9,b,u,1\n.4,b,u,1\n.6,b,v,0\n.1,a,v,0\n.7,a,u,1\n.2,a,v,0\n");
    let ran = place.run("audit in.csv --score s --label y --sensitive g,h --report r.json");
    succeeds(&ran);
    assert!(
        ["selection rate", "TPR", "FPR", "overall", "demographic parity"].iter().all(|text| ran.stdout.contains(text))
    );
    let report = place.json("r.json");
    let feature = &report["features"][0];
    assert_eq!((&feature["feature"], &feature["groups"][0]["group"]), (&Value::from("g"), &Value::from("a")));
    let near = |value: &Value, expected: f64| assert!((value.as_f64().unwrap() - expected).abs() < 1e-12, "{value}");
    near(&feature["groups"][0]["selection_rate"], 1.0 / 3.0);
    near(&feature["groups"][1]["true_positive_rate"], 0.5);
    near(&feature["demographic_parity_difference"], 1.0 / 3.0);
    near(&feature["demographic_parity_ratio"], 0.5);
    near(&feature["equalized_odds_difference"], 1.0);
    near(&feature["overall"]["accuracy"], 4.0 / 6.0);
    assert_refused(
        &place.run("audit in.csv --score s --label y --sensitive g --threshold -inf"),
        "infinite",
        &["finite"],
    );
}

#[test]
fn audits_show_forty_groups_and_report_all() {
    let rows: String = (0..100).map(|row| format!("0.5,g{:02},1\n", row % 50)).collect();
    let place = Place::new(format!("s,g,y\n{rows}"));
    let ran = place.run("audit in.csv --score s --label y --sensitive g --report r.json");
    succeeds(&ran);
    assert!(ran.stdout.contains("the first 40 of 50 groups; the rest is in --report"), "{}", ran.stdout);
    assert!(ran.stdout.contains("g39") && !ran.stdout.contains("g40") && ran.stdout.contains("overall"));
    assert_eq!(place.json("r.json")["features"][0]["groups"].as_array().unwrap().len(), 50);
}

#[test]
fn audits_refuse_bad_input() {
    let place = Place::new("s,g,y\n.5,a,1\n.5,b,maybe\n");
    let audit = |args: &str| place.run(&format!("audit in.csv {args}"));
    assert_refused(&audit("--score s --label y --sensitive g"), "label", &["line 3: column \"y\"", "maybe"]);
    assert_refused(&audit("--score z --label s --sensitive g"), "column", &["no column \"z\""]);
    assert_refused(&audit("--score s --label s --sensitive g,g"), "twice", &["twice"]);
    assert_refused(&audit("--score s --label s --sensitive g --threshold nan"), "threshold", &["--threshold"]);
    assert_refused(&audit("--score s --sensitive g"), "no label", &["--label"]);
    assert!(place.holds(&["in.csv"]));
}

#[test]
fn devices_are_listed() {
    let ran = Place::new("").run("devices");
    succeeds(&ran);
    assert!(["cpu", "wgpu", "cuda"].iter().all(|kind| ran.stdout.contains(kind)), "{}", ran.stdout);
}

#[test]
fn help_has_examples_and_defaults() {
    let place = Place::new("");
    for command in ["project", "audit", ""] {
        let ran = place.run(&format!("{command} --help"));
        succeeds(&ran);
        assert!(ran.stdout.contains("Example"), "{}", ran.stdout);
    }
    let ran = place.run("project --help");
    assert!(ran.stdout.contains("[default: 0,1]") && ran.stdout.contains("[default: newton]"));
    let version = place.run("--version");
    succeeds(&version);
    assert_eq!(version.stdout, format!("fairlayer {}\n", env!("CARGO_PKG_VERSION")));
}

/// The exact cases that the project shares; they are not part of the crate.
#[test]
fn fixtures() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/projection");
    let Ok(cases) = fs::read_to_string(folder.join("cases.json")) else {
        // Past the capture of test output.
        writeln!(std::io::stderr(), "SKIP fixtures: there is no {}", folder.display()).unwrap();
        return;
    };
    let cases: Value = serde_json::from_str(&cases).unwrap();
    for case in cases.as_array().unwrap() {
        for (dtype, tolerance) in [("f64", 1e-8), ("f32", 5e-6)] {
            fixture(&folder, case, dtype, tolerance);
        }
    }
}

fn fixture(folder: &Path, case: &Value, dtype: &str, tolerance: f64) {
    let name = case["name"].as_str().unwrap();
    let place = Place::new(fs::read(folder.join(name).with_extension("csv")).unwrap());
    let given: Vec<&str> = case["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let ran = place.project(&format!("{} --dtype {dtype} --report r.json", given.join(" ")));
    succeeds(&ran);
    for (row, (fair, expected)) in place.numbers("fair_score").into_iter().zip(place.numbers("expected")).enumerate() {
        assert!((fair - expected).abs() <= tolerance, "{name} {dtype} row {row}: {fair} for {expected}");
    }
    let report = place.json("r.json");
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), case["problems"].as_u64().unwrap() as usize);
    for problem in problems {
        let (gap, excess) = (problem["gap_after"].as_f64().unwrap(), problem["excess"].as_f64().unwrap());
        match (report["epsilon"].as_f64(), report["ratio"].as_f64()) {
            (Some(epsilon), _) if epsilon > 0.0 => assert!(gap <= epsilon, "{name} {dtype}: {gap} over {epsilon}"),
            // Of smaller limits and of ratios the excess is a few roundings.
            (Some(_), _) => assert!(gap <= 1e-6 && excess <= 1e-6, "{name} {dtype}: {gap}"),
            (_, ratio) => assert!(gap >= ratio.unwrap() - 1e-6, "{name} {dtype}: {gap}"),
        }
    }
}

/// A change to a text: at a place, replace some bytes by others.
#[derive(Clone, Debug)]
struct Edit {
    place: prop::sample::Index,
    drop: usize,
    insert: Vec<u8>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let telling =
        prop::sample::select(vec![",", "\"", "\n", "\r\n", "nan", "inf", "-", "1e308", "1e-320", "0", "\u{feff}"]);
    let insert =
        prop_oneof![telling.prop_map(|text| text.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..4),];
    (any::<prop::sample::Index>(), 0..3_usize, insert).prop_map(|(place, drop, insert)| Edit { place, drop, insert })
}

/// An input file that shows itself as text where a case fails.
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    let edited = prop::collection::vec(edit(), 0..6).prop_map(|edits| {
        edits.iter().fold(GOOD.as_bytes().to_vec(), |mut text, edit| {
            let start = edit.place.index(text.len() + 1);
            let end = (start + edit.drop).min(text.len());
            text.splice(start..end, edit.insert.iter().copied());
            text
        })
    });
    prop_oneof![4 => edited, 1 => prop::collection::vec(any::<u8>(), 0..200)].prop_map(Input)
}

fn arguments() -> impl Strategy<Value = String> {
    let criterion = prop::sample::select(vec![
        "demographic-parity",
        "demographic-parity --compare overall",
        "equalized-odds --label y",
        "tpr-parity --label y --weight w",
        "fpr-parity --label y",
        "conditional-parity --control c",
        "mean-residual --label y",
    ]);
    let limit = prop::sample::select(vec!["--epsilon 0", "--epsilon 0.05", "--epsilon 1e300", "--ratio 0.8"]);
    let rest = prop::sample::select(vec![
        "",
        "--batch p",
        "--batch-size 2",
        "--bounds none",
        "--bounds -inf,0.5",
        "--dtype f32",
    ]);
    let sensitive = prop::sample::select(vec!["g", "g,c", "c,g,p --intersectional", "g,y --intersectional"]);
    let files = prop::sample::select(vec!["", "--keep-going", "--report r.json", "--keep-going --report r.json"]);
    (sensitive, criterion, limit, rest, files).prop_map(|(sensitive, criterion, limit, rest, files)| {
        format!("--score s --sensitive {sensitive} --criterion {criterion} {limit} {rest} {files}")
    })
}

/// No panic, bad input is told in one line, and there are exactly these files.
fn well_behaved(place: &Place, ran: &Ran, files: &[&str]) -> Result<(), TestCaseError> {
    prop_assert!(matches!(ran.code, Some(0..=2)), "{:?}: {}", ran.code, ran.stderr);
    prop_assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    prop_assert!(place.holds(files), "{:?} after {:?}: {}", place.files(), ran.code, ran.stderr);
    prop_assert!(ran.code != Some(2) || ran.stderr.starts_with("error: ") && ran.stderr.lines().count() == 1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_makes_it_panic_or_leave_half_a_file(input in inputs(), args in arguments()) {
        let place = Place::new(&input.0);
        let ran = place.project(&args);
        let writes = ran.code == Some(0) || ran.code == Some(1) && args.contains("--keep-going");
        let reports = matches!(ran.code, Some(0 | 1)) && args.contains("--report");
        let files = [("in.csv", true), ("out.csv", writes), ("r.json", reports)];
        let files: Vec<&str> = files.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
        well_behaved(&place, &ran, &files)?;
        if writes {
            prop_assert!(place.numbers("fair_s").iter().all(|fair| fair.is_finite()));
        }
        if reports {
            prop_assert!(place.json("r.json").is_object());
        }
    }

    #[test]
    fn no_input_makes_an_audit_panic_or_leave_half_a_file(input in inputs()) {
        let place = Place::new(&input.0);
        let ran = place.run("audit in.csv --score s --label y --sensitive g,c --report r.json");
        let files: &[&str] = if ran.code == Some(0) { &["in.csv", "r.json"] } else { &["in.csv"] };
        well_behaved(&place, &ran, files)?;
    }
}
