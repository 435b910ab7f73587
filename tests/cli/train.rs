//! `fairlayer train`: three networks side by side, from a file to a table, a report and a picture.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Place, Ran, assert_refused, fairlayer, succeeds};

impl Place {
    /// `fairlayer train in.csv` and more arguments.
    fn train(&self, args: &str) -> Ran {
        self.run(&format!("train in.csv {args}"))
    }
}

const FILES: &str = "--report report.json --plot plot.png";
const PARITY: &str = "--label y --sensitive g --criterion demographic-parity --epsilon 0.02";

fn german_credit() -> Place {
    Place::new(fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/german_credit.csv")).unwrap())
}

/// Rows whose label follows from a number, a text and a group, if not quite.
fn rows(n: u32) -> String {
    let row = |i: u32| {
        let (x, noise) = (f64::from(i * 379 % 1000) / 500.0 - 1.0, f64::from(i * 617 % 991) / 991.0);
        let (c, g, h) = (i / 2 % 3, i % 2, i / 5 % 2);
        let chance = 1.0 / (1.0 + (-3.0 * x - f64::from(c) + 1.0 - 1.5 * f64::from(g)).exp());
        format!(
            "{x},{},{},{},7,{}\n",
            ["u", "v", "w"][c as usize],
            ["a", "b"][g as usize],
            ["k", "l"][h as usize],
            u8::from(noise < chance)
        )
    };
    "x,c,g,h,k,y\n".to_owned() + &(0..n).map(row).collect::<String>()
}

/// The report without what a clock told.
fn timeless(mut report: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                entries.retain(|key, _| !key.contains("seconds"));
                entries.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut report);
    report
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn german_credit_is_learnt_fairly() {
    let place = german_credit();
    let args = "--label credit_risk --positive 1 --sensitive personal_status_and_sex --criterion demographic-parity \
                --epsilon 0.02 --epochs 12 --seed 3";
    let ran = place.train(&format!("{args} {FILES}"));
    succeeds(&ran);
    assert!(place.holds(&["in.csv", "plot.png", "report.json"]), "{:?}", place.files());

    let report = place.json("report.json");
    assert_eq!(report["rows"], serde_json::json!({ "train": 602, "valid": 199, "test": 199 }));
    assert_eq!(report["features"][0]["groups"], serde_json::json!(["A91", "A92", "A93", "A94"]));
    assert_eq!((&report["inputs"], &report["columns"][1]["kind"]), (&61.into(), &"number".into()));
    assert_eq!(report["weights"], 61 * 64 + 64 + 64 * 32 + 32 + 32 + 1);
    let names = ["unconstrained", "with the layer", "projected afterwards"];
    for (network, name) in report["networks"].as_array().unwrap().iter().zip(names) {
        assert_eq!(network["name"], name);
        let [loss, accuracy, auc, gap] = ["loss", "accuracy", "auc", "gap"].map(|key| &network[key]);
        assert!((0.3..0.7).contains(&number(loss)), "{name}: {loss}");
        assert!((0.6..0.9).contains(&number(accuracy)), "{name}: {accuracy}");
        assert!((0.6..0.9).contains(&number(auc)), "{name}: {auc}");
        let [pooled, worst] = ["pooled", "worst"].map(|key| number(&gap[key]));
        assert_eq!(pooled > 0.02, name == "unconstrained", "{name}: {pooled}");
        assert_eq!(worst > 0.02, name == "unconstrained", "{name}: {worst}");
        // The table has the figures of the report.
        let line = ran.stdout.lines().find(|line| line.contains(name)).unwrap();
        for figure in [loss, accuracy, auc] {
            assert!(line.contains(&format!("{:.5}", number(figure))), "{line}: {figure}");
        }
        assert!(line.contains(&format!("{pooled:.5}")), "{line}: {pooled}");
    }
    for training in report["trainings"].as_array().unwrap() {
        let epochs = training["epochs"].as_array().unwrap();
        let losses: Vec<f64> = epochs.iter().map(|epoch| number(&epoch["valid_loss"])).collect();
        assert_eq!(losses.len(), 12);
        assert!(losses[11] < losses[0] - 0.02, "{losses:?}");
        let kept = training["kept"].as_u64().unwrap() as usize;
        assert!(losses.iter().all(|loss| *loss >= losses[kept]));
    }
    // Both begin with the same weights and batches, so that the first losses are not far apart.
    let first = [0, 1].map(|training: usize| number(&report["trainings"][training]["epochs"][0]["valid_loss"]));
    assert!((first[0] - first[1]).abs() < 0.05, "{first:?}");

    let picture = fs::read(place.0.path().join("plot.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), (1800, 600));
    let colours: std::collections::HashSet<&[u8]> = pixels.chunks_exact(3).collect();
    assert!([[213, 94, 0], [0, 114, 178], [0, 140, 100]].iter().all(|colour| colours.contains(&colour[..])));

    // The same seed, the same figures; another, others.
    succeeds(&place.train(&format!("{args} --report again.json")));
    assert_eq!(timeless(place.json("again.json")), timeless(report.clone()));
    succeeds(&place.train(&format!("{} --report other.json", args.replace("--seed 3", "--seed 4"))));
    assert_ne!(place.json("other.json")["networks"][0]["loss"], report["networks"][0]["loss"]);
}

#[test]
fn every_criterion_is_held_in_every_batch() {
    let place = Place::new(rows(600));
    for (criterion, limit) in [
        ("demographic-parity --epsilon 0.01 --compare overall", 0.01),
        ("demographic-parity --ratio 0.9", 0.9),
        ("equalized-odds --epsilon 0.02", 0.02),
        ("equalized-odds --epsilon 0.02 --sensitive g,h --intersectional", 0.02),
        ("tpr-parity --epsilon 0.02 --sensitive g,h", 0.02),
        ("fpr-parity --epsilon 0", 1e-6),
        ("conditional-parity --control c --epsilon 0.02", 0.02),
        ("mean-residual --epsilon 0.01", 0.01),
    ] {
        let sensitive = if criterion.contains("--sensitive") { "" } else { "--sensitive g" };
        let ran = place.train(&format!(
            "--label y {sensitive} --criterion {criterion} --epochs 2 --batch-size 64 --hidden 8 --report report.json"
        ));
        assert_eq!(ran.code, Some(0), "{criterion}: {}", ran.stderr);
        let report = place.json("report.json");
        let ratio = criterion.contains("ratio");
        for network in report["networks"].as_array().unwrap() {
            let worst = number(&network["gap"]["worst"]);
            let fair = if ratio { worst >= limit } else { worst <= limit };
            assert_eq!(fair, network["name"] != "unconstrained", "{criterion}: {network}");
            assert_eq!((&network["unsolved_batches"], &network["batches"]), (&0.into(), &2.into()));
        }
        let measure = if ratio {
            "ratio"
        } else if criterion.contains("residual") {
            "residual"
        } else {
            "gap"
        };
        let told = ran.stdout.contains("reads those of the test rows, too");
        assert_eq!(told, ["odds", "tpr", "fpr", "residual"].iter().any(|name| criterion.contains(name)), "{criterion}");
        assert!(report["measure"] == measure && ran.stdout.contains(&format!("{measure},")), "{}", ran.stdout);
    }
}

#[test]
fn the_network_sees_what_it_is_to_see() {
    let place = Place::new(rows(300));
    let columns = |args: &str| {
        let ran = place.train(&format!("{PARITY} --epochs 1 --hidden none --report report.json {args}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let report = place.json("report.json");
        let names =
            report["columns"].as_array().unwrap().iter().map(|column| column["column"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>().join(","), report["inputs"].as_u64().unwrap(), ran.stderr)
    };
    let left_out = "note: the column \"k\" is constant in the training rows: left out\n";
    assert_eq!(columns(""), ("x,c,g,h".to_owned(), 1 + 3 + 2 + 2, left_out.to_owned()));
    assert_eq!(columns("--hide-sensitive"), ("x,c,h".to_owned(), 6, left_out.to_owned()));
    assert_eq!(columns("--features g,x"), ("g,x".to_owned(), 3, String::new()));
    assert_eq!(columns("--features g,x --hide-sensitive"), ("x".to_owned(), 1, String::new()));
    let unused = "note: demographic-parity does not use --control\n";
    assert_eq!(columns("--features x --control c"), ("x".to_owned(), 1, unused.to_owned()));
    let single = "note: \"k\" has one group only, \"7\": there is nothing to compare\n";
    assert_eq!(columns("--features x --sensitive k").2, single);
    // Standard input is as good as a file.
    let words = format!("train - {PARITY} --epochs 1 --features x --report report.json");
    succeeds(&fairlayer(place.0.path(), &words.split(' ').collect::<Vec<_>>(), rows(300).as_bytes()));
}

#[test]
fn bad_inputs_and_arguments_are_named() {
    let place = Place::new(rows(60));
    let swapped = |old: &str, new: &str| PARITY.replace(old, new);
    for (args, told) in [
        (swapped("--label y", ""), "required arguments were not provided: --label <COL>"),
        (swapped("--label y", "--label z"), "no column \"z\"; the columns are \"x\", \"c\""),
        (
            swapped("--label y", "--label c"),
            "line 2: column \"c\": \"u\" is not a number; name the label that is positive with --positive",
        ),
        (
            swapped("--label y", "--label k"),
            "column \"k\": all labels are above 0.5 (\"7\"); name the positive one with --positive",
        ),
        (
            format!("{PARITY} --positive 2"),
            "column \"y\": no label is \"2\", the text of --positive; there are \"1\", \"0\"",
        ),
        (swapped("--sensitive g", "--sensitive g,g"), "--sensitive names the column \"g\" twice"),
        (swapped("--sensitive g", "--sensitive y"), "--sensitive names \"y\", which is the label"),
        (swapped("demographic-parity", "covariance"), "covariance is not about groups"),
        (swapped("demographic-parity", "calibration"), "calibration has bins of raw scores"),
        (swapped("demographic-parity", "conditional-parity"), "conditional-parity needs --control"),
        (swapped("--epsilon 0.02", ""), "one of --epsilon and --ratio is needed"),
        (swapped("--epsilon 0.02", "--epsilon -1"), "it must be a finite number of at least 0"),
        (format!("{PARITY} --edges 0,1"), "--edges does not apply to demographic-parity"),
        (format!("{PARITY} --features x,y"), "--features names \"y\", which is the label"),
        (format!("{PARITY} --features x,x"), "--features names the column \"x\" twice"),
        (
            format!("{PARITY} --features g --hide-sensitive"),
            "nothing is left for the network to see: there is no column",
        ),
        (format!("{PARITY} --features k"), "all columns are constant in the training rows: \"k\""),
        (format!("{PARITY} --hidden 8,0"), "a width is a whole number from 1 to 16384"),
        (format!("{PARITY} --epochs 0"), "it must be a whole number of at least 1"),
        (format!("{PARITY} --learning-rate 0"), "it must be above 0 and at most 1"),
        (format!("{PARITY} --seed -1"), "invalid value '-1' for '--seed <S>'"),
        (format!("{PARITY} --device wgpu"), "--device wgpu: torch has no such device; use cpu or cuda"),
        (format!("{PARITY} --device cuda"), "--device cuda: "),
        (format!("{PARITY} --report none/report.json"), "none/report.json: there is no such folder"),
        (format!("{PARITY} --plot in.csv"), "in.csv: is the input as well"),
        (format!("{PARITY} --report a --plot a"), "a: is the report as well"),
        (format!("{PARITY} --checkpoint in.csv"), "in.csv"),
    ] {
        assert_refused(&place.train(&args), &args, &[told]);
        assert!(place.holds(&["in.csv"]), "{args}: {:?}", place.files());
    }
    for (input, told) in [
        ("x,c,g,y\n1,u,a,0\n,v,b,1\n", "line 3: column \"x\": the value is missing"),
        ("x,c,g,y\n1,u,a,0\n2,,b,1\n", "line 3: column \"c\": the value is missing"),
        ("x,c,g,y\n1,u,a,0\n2,v,b,\n", "line 3: column \"y\": the value is missing"),
        ("x,c,g,y\n1,u,a,0\n2,v,b\n", "line 3: 3 fields where the header has 4"),
        ("x,,g,y\n1,u,a,0\n", "line 1: column 2 has no name"),
        ("x,c,g,y\n", "no rows follow the header"),
        ("x,c,g,y\n1,u,a,0\n2,v,b,1\n", "2 rows are too few to be split"),
    ] {
        let place = Place::new(input);
        assert_refused(&place.train(PARITY), input, &[told]);
    }
    let many: String = (0..300).map(|i| format!("t{i},{},{}\n", ["a", "b"][i % 2], i / 2 % 2)).collect();
    let told = "line 258: column \"t\": more than 256 different values";
    assert_refused(&Place::new(format!("t,g,y\n{many}")).train(PARITY), "many texts", &[told]);
    let far = rows(60).replacen("7,", "1e300,", 1) + &"0.5,u,a,k,8,1\n".repeat(3);
    let told = "column \"k\": 1e300 is more than 1e12 standard deviations";
    // (Only if it is not a training row: there it is one of those that make the deviation.)
    let ran = (0..20).map(|seed| Place::new(&far).train(&format!("{PARITY} --epochs 1 --seed {seed}")));
    let refused: Vec<Ran> = ran.filter(|ran| ran.code != Some(0)).collect();
    assert!(!refused.is_empty());
    refused.iter().for_each(|ran| assert_refused(ran, "a number that is far off", &[told]));
}

#[test]
fn a_killed_training_goes_on_where_it_was() {
    let place = Place::new(rows(400));
    let args = format!("{PARITY} --epochs 60 --patience 60 --batch-size 16 --hidden 16");
    let whole = place.train(&format!("{args} --report whole.json"));
    succeeds(&Ran { stderr: whole.stderr.lines().skip(1).collect(), ..whole });

    let resumed = format!("{args} --checkpoint kept --report resumed.json");
    for training in ["unconstrained", "layer"] {
        let checkpoint = place.0.path().join("kept").join(training).join("checkpoint.safetensors");
        let words = format!("train in.csv {resumed}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_fairlayer"))
            .current_dir(place.0.path())
            .args(words.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !checkpoint.exists() {
            assert!(began.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it was done before it was killed");
        assert!(!place.files().contains("resumed.json"));
    }
    // Another question is not answered from there.
    let ran = place.train(&resumed.replace("--epsilon 0.02", "--epsilon 0.03"));
    assert_refused(&ran, "another epsilon", &["checkpoint.safetensors", "it is of", "epsilon 0.02", "epsilon 0.03"]);

    assert_eq!(place.train(&resumed).code, Some(0));
    assert_eq!(timeless(place.json("resumed.json")), timeless(place.json("whole.json")));
    // What is done is done: no epoch is trained again.
    assert_eq!(place.train(&resumed.replace("resumed.json", "again.json")).code, Some(0));
    assert_eq!(place.json("again.json")["trainings"], place.json("resumed.json")["trainings"]);
}
