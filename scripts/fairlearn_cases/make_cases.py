"""Makes tests/audit_cases/: small inputs and what fairlearn says about them. Run make_cases.sh, which sets it up.

Usage: make_cases.py GERMAN_CREDIT_SCORES_CSV OUTPUT_DIR

expected.json holds fairlearn's own numbers: a rate without denominator is 0.0 there, and a NaN is null.
"""

import csv
import json
import math
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from fairlearn import metrics as fm
from sklearn.metrics import accuracy_score

GROUP_METRICS = {
    "accuracy": accuracy_score,
    "selection_rate": fm.selection_rate,
    "true_positive_rate": fm.true_positive_rate,
    "false_positive_rate": fm.false_positive_rate,
    "mean_score": fm.mean_prediction,
}
DISPARITIES = [
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "equal_opportunity_difference",
    "equal_opportunity_ratio",
    "false_positive_rate_difference",
    "false_positive_rate_ratio",
]


def number(x) -> float | None:
    return None if math.isnan(x) else float(x)


def frame(metric, truth, prediction, group, params):
    return fm.MetricFrame(
        metrics=metric, y_true=truth, y_pred=prediction, sensitive_features=group, sample_params=params
    )


def expect(score, label, group, threshold, weight) -> dict:
    decision = (score >= threshold).astype(int)
    params = {} if weight is None else {"sample_weight": weight}
    frames = {
        # Of all of these only the mean is about the scores themselves.
        name: frame(metric, label, score if name == "mean_score" else decision, group, params or None)
        for name, metric in GROUP_METRICS.items()
    }
    groups = [str(g) for g in np.unique(group)]
    result = {
        "overall": {name: number(f.overall) for name, f in frames.items()},
        "groups": {
            g: {"count": int((group.astype(str) == g).sum())}
            | {name: number(f.by_group.set_axis(f.by_group.index.astype(str))[g]) for name, f in frames.items()}
            for g in groups
        },
    }
    for name in DISPARITIES:
        result[name] = number(getattr(fm, name)(label, decision, sensitive_features=group, **params))
    result["mean_score_difference"] = number(frames["mean_score"].difference())
    result["mean_score_ratio"] = number(frames["mean_score"].ratio())
    return result


def synthetic(rng) -> dict[str, dict]:
    """Name -> columns (and threshold) of each case that is not real data."""

    def draw(n, k, shift=0.0):
        group = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
        score = 1 / (1 + np.exp(-rng.normal(shift * (group - (k - 1) / 2), 1.5)))
        label = (rng.random(n) < score).astype(int)
        return {"score": score, "label": label, "group": group}

    cases = {
        "two_groups": draw(60, 2, 0.8),
        "eight_groups": draw(240, 8, 0.2),
        "group_without_positives": draw(45, 3, 0.3),
        "group_without_negatives": draw(45, 3, 0.3),
        "no_positives_at_all": draw(30, 2, 0.5),
        "no_negatives_at_all": draw(30, 2, 0.5),
        "one_group": draw(25, 1),
        "all_selected": draw(30, 3),
        "none_selected": draw(30, 3),
        "only_positives_selected": draw(30, 2),
        "only_negatives_selected": draw(30, 2),
        "weighted": draw(80, 3, 0.4),
        "weighted_group_without_positive_weight": draw(40, 2, 0.4),
        "one_member_group": draw(31, 2, 0.5),
        "ties_at_the_threshold": draw(50, 2, 0.5),
        "scores_of_any_range": draw(50, 4),
    }

    def change(name, column, where, to):
        cases[name][column] = np.where(where, to, cases[name][column])

    change("group_without_positives", "label", cases["group_without_positives"]["group"] == 1, 0)
    change("group_without_negatives", "label", cases["group_without_negatives"]["group"] == 2, 1)
    change("no_positives_at_all", "label", True, 0)
    change("no_negatives_at_all", "label", True, 1)
    cases["all_selected"]["score"] = 0.5 + cases["all_selected"]["score"] / 2
    cases["none_selected"]["score"] = cases["none_selected"]["score"] * 0.499
    case = cases["only_positives_selected"]
    case["score"] = np.where(case["label"] == 1, case["score"], case["score"] * 0.499)
    case = cases["only_negatives_selected"]
    case["score"] = np.where(case["label"] == 0, case["score"], case["score"] * 0.499)
    cases["weighted"]["weight"] = rng.exponential(2.0, 80)
    cases["weighted"]["weight"][::11] = 0.0
    case = cases["weighted_group_without_positive_weight"]
    case["weight"] = np.where((case["group"] == 1) & (case["label"] == 1), 0.0, rng.uniform(0.5, 3.0, 40))
    cases["one_member_group"]["group"] = np.array([1] + [0] * 30)
    case = cases["ties_at_the_threshold"]
    case["score"], case["threshold"] = np.round(case["score"], 1), 0.3
    case = cases["scores_of_any_range"]
    case["score"], case["threshold"] = rng.normal(40.0, 25.0, 50), 37.5
    return cases


def write_csv(path: Path, columns: dict) -> None:
    with open(path, "w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def main() -> None:
    german, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    # fairlearn divides 0 by 0 on purpose in some cases here.
    warnings.simplefilter("ignore", RuntimeWarning)

    cases = []
    for name, columns in synthetic(np.random.default_rng(20240501)).items():
        threshold = columns.pop("threshold", 0.5)
        write_csv(out / f"{name}.csv", columns)
        expected = expect(columns["score"], columns["label"], columns["group"], threshold, columns.get("weight"))
        cases.append({"name": name, "file": f"{name}.csv", "group_column": "group", "threshold": threshold} | expected)

    with open(german, newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    score = np.array([float(r["score"]) for r in rows])
    label = np.array([int(r["label"]) for r in rows])
    for column in ("sex", "age_band"):
        expected = expect(score, label, np.array([r[column] for r in rows]), 0.5, None)
        name, file = f"german_credit_{column}", f"../../data/{german.name}"
        cases.append({"name": name, "file": file, "group_column": column, "threshold": 0.5} | expected)

    made_by = {
        "command": "scripts/fairlearn_cases/make_cases.sh",
        "python": platform.python_version(),
        **{package: version(package) for package in ("fairlearn", "scikit-learn", "numpy", "pandas")},
    }
    text = json.dumps({"made_by": made_by, "cases": cases}, indent=1, allow_nan=False)
    (out / "expected.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
