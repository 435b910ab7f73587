//! The audit against fairlearn itself (`tests/audit_cases/`, made by `scripts/fairlearn_cases/`), and at its edges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fairlayer::Error;
use fairlayer::audit::{
    GroupMetrics, accuracy, audit, false_positive_rate, mean_prediction, selection_rate, true_positive_rate,
};
use proptest::prelude::*;
use serde::Deserialize;

const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

/// fairlearn's numbers; `None` is its NaN, and a rate without denominator is its 0.0.
#[derive(Deserialize)]
struct Case {
    name: String,
    file: String,
    group_column: String,
    threshold: f64,
    overall: Metrics,
    groups: BTreeMap<String, Metrics>,
    demographic_parity_difference: f64,
    demographic_parity_ratio: Option<f64>,
    equalized_odds_difference: f64,
    equalized_odds_ratio: Option<f64>,
    equal_opportunity_difference: f64,
    equal_opportunity_ratio: Option<f64>,
    false_positive_rate_difference: f64,
    false_positive_rate_ratio: Option<f64>,
    mean_score_difference: f64,
    mean_score_ratio: Option<f64>,
}

#[derive(Deserialize)]
struct Metrics {
    count: Option<usize>,
    accuracy: f64,
    selection_rate: f64,
    true_positive_rate: f64,
    false_positive_rate: f64,
    mean_score: f64,
}

/// The columns of one input; a group's id is the rank of its name.
#[derive(Default)]
struct Table {
    scores: Vec<f64>,
    labels: Vec<f64>,
    groups: Vec<u32>,
    weights: Option<Vec<f64>>,
}

fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit_cases")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(cases_dir().join("expected.json")).unwrap();
    serde_json::from_str::<Expected>(&text).unwrap().cases
}

fn read_table(case: &Case) -> Table {
    let mut reader = csv::Reader::from_path(cases_dir().join(&case.file)).unwrap();
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|h| h == name);
    let (score, label) = (column("score").unwrap(), column("label").unwrap());
    let (group, weight) = (column(&case.group_column).unwrap(), column("weight"));
    let mut table = Table { weights: weight.map(|_| Vec::new()), ..Table::default() };
    for record in reader.records() {
        let record = record.unwrap();
        table.scores.push(record[score].parse().unwrap());
        table.labels.push(record[label].parse().unwrap());
        table.groups.push(case.groups.keys().position(|name| *name == record[group]).unwrap() as u32);
        if let (Some(weights), Some(weight)) = (&mut table.weights, weight) {
            weights.push(record[weight].parse().unwrap());
        }
    }
    table
}

fn close(what: &str, got: f64, expected: f64) {
    // Means of scores far from 1 are compared relative to their size.
    let allowed = TOLERANCE * expected.abs().max(1.0);
    assert!((got - expected).abs() <= allowed, "{what}: got {got}, fairlearn has {expected}");
}

fn close_option(what: &str, got: Option<f64>, expected: Option<f64>) {
    match (got, expected) {
        (Some(got), Some(expected)) => close(what, got, expected),
        _ => assert_eq!(got, expected, "{what}"),
    }
}

/// Compares one group, or all samples, whose members are those that `member` accepts.
fn compare_metrics(name: &str, table: &Table, got: &GroupMetrics, expected: &Metrics, member: impl Fn(usize) -> bool) {
    let weight_of = |positive: bool| -> f64 {
        let weight = |i: usize| table.weights.as_ref().map_or(1.0, |w| w[i]);
        (0..table.scores.len()).filter(|&i| member(i) && (table.labels[i] > 0.5) == positive).map(weight).sum()
    };
    if let Some(count) = expected.count {
        assert_eq!(got.count, count, "{name}: count");
    }
    close(&format!("{name}: accuracy"), got.accuracy.unwrap(), expected.accuracy);
    close(&format!("{name}: selection rate"), got.selection_rate.unwrap(), expected.selection_rate);
    close(&format!("{name}: mean score"), got.mean_score.unwrap(), expected.mean_score);
    for (what, got, expected, positive) in [
        ("true positive rate", got.true_positive_rate, expected.true_positive_rate, true),
        ("false positive rate", got.false_positive_rate, expected.false_positive_rate, false),
    ] {
        // Undefined here exactly where there is nothing to divide by, and fairlearn's stand-in is then 0.
        assert_eq!(got.is_none(), weight_of(positive) == 0.0, "{name}: {what}");
        close(&format!("{name}: {what}"), got.unwrap_or(0.0), expected);
    }
}

#[test]
fn equals_fairlearn_on_every_case() {
    let cases = cases();
    assert!(cases.len() >= 12, "only {} cases", cases.len());
    for case in &cases {
        let table = read_table(case);
        let k = case.groups.len();
        let weights = table.weights.as_deref();
        let got = audit(&table.scores, &table.labels, &table.groups, k, case.threshold, weights).unwrap();

        compare_metrics(&case.name, &table, &got.overall, &case.overall, |_| true);
        for (id, (group, expected)) in case.groups.iter().enumerate() {
            let name = format!("{}, group {group}", case.name);
            compare_metrics(&name, &table, &got.groups[id], expected, |i| table.groups[i] as usize == id);
        }
        for (what, got, expected) in [
            ("demographic parity", got.demographic_parity_difference, case.demographic_parity_difference),
            ("equalized odds", got.equalized_odds_difference, case.equalized_odds_difference),
            ("equal opportunity", got.equal_opportunity_difference, case.equal_opportunity_difference),
            ("false positive rate", got.false_positive_rate_difference, case.false_positive_rate_difference),
            ("mean score", got.mean_score_difference, case.mean_score_difference),
        ] {
            close(&format!("{}: {what} difference", case.name), got, expected);
        }
        for (what, got, expected) in [
            ("demographic parity", got.demographic_parity_ratio, case.demographic_parity_ratio),
            ("equalized odds", got.equalized_odds_ratio, case.equalized_odds_ratio),
            ("equal opportunity", got.equal_opportunity_ratio, case.equal_opportunity_ratio),
            ("false positive rate", got.false_positive_rate_ratio, case.false_positive_rate_ratio),
            ("mean score", got.mean_score_ratio, case.mean_score_ratio),
        ] {
            close_option(&format!("{}: {what} ratio", case.name), got, expected);
        }
    }
}

#[test]
fn single_functions_equal_fairlearn() {
    assert_eq!(selection_rate(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 0.625);
    for case in cases() {
        let table = read_table(&case);
        if table.weights.is_some() {
            continue;
        }
        let decisions: Vec<f64> = table.scores.iter().map(|&s| f64::from(s >= case.threshold)).collect();
        let labels = &table.labels;
        close(&case.name, selection_rate(&decisions), case.overall.selection_rate);
        close(&case.name, mean_prediction(&table.scores), case.overall.mean_score);
        close(&case.name, true_positive_rate(labels, &decisions).unwrap(), case.overall.true_positive_rate);
        close(&case.name, false_positive_rate(labels, &decisions).unwrap(), case.overall.false_positive_rate);
        close(&case.name, accuracy(labels, &decisions).unwrap(), case.overall.accuracy);
    }
}

#[test]
fn a_group_that_is_absent_or_weightless_enters_no_comparison() {
    let (scores, labels, groups) = ([0.9, 0.2, 0.8, 0.1, 0.0], [1.0, 0.0, 1.0, 0.0, 1.0], [0, 0, 2, 2, 3]);
    let weights = [1.0, 1.0, 1.0, 1.0, 0.0];
    let got = audit(&scores, &labels, &groups, 4, 0.5, Some(&weights)).unwrap();
    for (id, count) in [(1, 0), (3, 1)] {
        let group = &got.groups[id];
        assert_eq!((group.count, group.weight), (count, 0.0));
        assert_eq!((group.accuracy, group.selection_rate, group.mean_score), (None, None, None));
        assert_eq!((group.true_positive_rate, group.false_positive_rate), (None, None));
    }
    assert_eq!((got.overall.count, got.overall.weight), (5, 4.0));
    assert_eq!(got.demographic_parity_difference, 0.0);
    assert_eq!(got.demographic_parity_ratio, Some(1.0));
    assert_eq!(got.equalized_odds_difference, 0.0);
}

#[test]
fn a_score_at_the_threshold_is_selected() {
    let got = audit(&[0.5, 0.5_f64.next_down()], &[1.0, 1.0], &[0, 0], 1, 0.5, None).unwrap();
    assert_eq!(got.overall.selection_rate, Some(0.5));
    // A label of exactly 0.5 is negative.
    let got = audit(&[0.5], &[0.5], &[0], 1, 0.5, None).unwrap();
    assert_eq!((got.overall.true_positive_rate, got.overall.false_positive_rate), (None, Some(1.0)));
}

#[test]
fn weights_of_one_change_nothing() {
    for case in cases() {
        let table = read_table(&case);
        let run = |weights: Option<&[f64]>| {
            audit(&table.scores, &table.labels, &table.groups, case.groups.len(), case.threshold, weights).unwrap()
        };
        assert_eq!(run(None), run(Some(&vec![1.0; table.scores.len()])), "{}", case.name);
    }
}

#[test]
fn long_sums_keep_their_digits() {
    let n = 1_000_000;
    let got = audit(&vec![0.1; n], &vec![0.0; n], &vec![0; n], 1, 0.5, None).unwrap();
    assert!((got.overall.mean_score.unwrap() - 0.1).abs() <= f64::EPSILON * 0.1);
}

#[test]
fn misuse_is_an_error_that_names_the_argument() {
    let ok = [0.5, 0.6];
    let ids = [0_u32, 1];
    let shape = |result: fairlayer::Result<_>| match result {
        Err(Error::Shape { what, expected, got }) => (what, expected, got),
        other => panic!("{other:?}"),
    };
    assert_eq!(shape(audit(&ok, &ok[..1], &ids, 2, 0.5, None)), ("labels", 2, 1));
    assert_eq!(shape(audit(&ok, &ok, &ids[..1], 2, 0.5, None)), ("groups", 2, 1));
    assert_eq!(shape(audit(&ok, &ok, &ids, 2, 0.5, Some(&[1.0; 3]))), ("weights", 2, 3));

    let value = |result: fairlayer::Result<_>| match result {
        Err(Error::Value { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(audit(&[], &[], &[], 0, 0.5, None)), "scores");
    assert_eq!(value(audit(&ok, &ok, &ids, 2, f64::NAN, None)), "threshold");
    assert_eq!(value(audit(&ok, &ok, &ids, 1, 0.5, None)), "groups");
    assert_eq!(value(audit(&ok, &ok, &ids, 0, 0.5, None)), "groups");
    assert_eq!(value(audit(&ok, &ok, &ids, usize::MAX, 0.5, None)), "k");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(value(audit(&[0.5, bad], &ok, &ids, 2, 0.5, None)), "scores");
        assert_eq!(value(audit(&ok, &[0.5, bad], &ids, 2, 0.5, None)), "labels");
        assert_eq!(value(audit(&ok, &ok, &ids, 2, 0.5, Some(&[0.5, bad]))), "weights");
    }
    assert_eq!(value(audit(&ok, &ok, &ids, 2, 0.5, Some(&[1.0, -1.0]))), "weights");
    assert_eq!(value(audit(&ok, &ok, &ids, 2, 0.5, Some(&[0.0, 0.0]))), "weights");
    assert_eq!(value(audit(&ok, &ok, &ids, 2, 0.5, Some(&[f64::MAX, f64::MAX]))), "weights");
    assert_eq!(value(audit(&[f64::MAX; 2], &ok, &ids, 2, 0.5, None)), "scores");

    assert!(matches!(true_positive_rate(&ok, &[0.0, 0.7]), Err(Error::Value { what: "decisions", .. })));
    assert!(matches!(accuracy(&ok, &[0.0]), Err(Error::Shape { what: "labels", .. })));
    assert!(matches!(false_positive_rate(&[], &[]), Err(Error::Value { .. })));
}

/// Any float: special ones as often as ordinary ones.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![proptest::num::f64::ANY, 0.0..=1.0_f64, Just(0.0), Just(1.0), Just(f64::MAX), Just(f64::MIN_POSITIVE)]
}

proptest! {
    #[test]
    fn never_panics(
        scores in prop::collection::vec(any_number(), 0..12),
        labels in prop::collection::vec(any_number(), 0..12),
        groups in prop::collection::vec(any::<u32>(), 0..12),
        weights in prop::option::of(prop::collection::vec(any_number(), 0..12)),
        k in any::<usize>(),
        threshold in any_number(),
        n in 0_usize..12,
    ) {
        // As they come, which mostly differ in length; and cut to one length, to reach the arithmetic.
        let _ = audit(&scores, &labels, &groups, k, threshold, weights.as_deref());
        let n = n.min(scores.len()).min(labels.len()).min(groups.len());
        let groups: Vec<u32> = groups[..n].iter().map(|g| g % 3).collect();
        let weights = weights.as_ref().and_then(|w| w.get(..n));
        let _ = audit(&scores[..n], &labels[..n], &groups, 3, threshold, weights);
        let _ = (selection_rate(&scores), mean_prediction(&scores));
        let _ = (accuracy(&labels, &scores), true_positive_rate(&labels, &scores), false_positive_rate(&labels, &scores));
    }

    #[test]
    fn shares_stay_in_range_and_names_of_groups_do_not_matter(
        rows in prop::collection::vec((0.0..=1.0_f64, any::<bool>(), 0_u32..4, 0.01..1e3_f64), 1..60),
    ) {
        let scores: Vec<f64> = rows.iter().map(|r| r.0).collect();
        let labels: Vec<f64> = rows.iter().map(|r| f64::from(r.1)).collect();
        let groups: Vec<u32> = rows.iter().map(|r| r.2).collect();
        let weights: Vec<f64> = rows.iter().map(|r| r.3).collect();
        let got = audit(&scores, &labels, &groups, 4, 0.5, Some(&weights)).unwrap();
        for group in got.groups.iter().chain([&got.overall]) {
            let shares = [group.accuracy, group.selection_rate, group.true_positive_rate, group.false_positive_rate];
            for share in shares.into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&share));
            }
        }
        for ratio in [got.demographic_parity_ratio, got.equalized_odds_ratio].into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&ratio));
        }
        for difference in [got.demographic_parity_difference, got.equalized_odds_difference] {
            prop_assert!((0.0..=1.0).contains(&difference));
        }

        let renamed: Vec<u32> = groups.iter().map(|g| 3 - g).collect();
        let mut again = audit(&scores, &labels, &renamed, 4, 0.5, Some(&weights)).unwrap();
        again.groups.reverse();
        prop_assert_eq!(got, again);
    }
}
