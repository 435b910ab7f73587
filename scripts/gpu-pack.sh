#!/bin/sh
# Builds the programs that scripts/gpu-check.sh runs, and puts them in one file: gpu-pack/programs.tgz, or the one that is
# named. A machine that takes them needs the same kind of processor and a C library that is not older.
# Usage: scripts/gpu-pack.sh [FILE]
set -eu
cd "$(dirname "$0")/.."
file=${1:-gpu-pack/programs.tgz}
# What the machines of a cloud take along, with the sources.
most_mib=56

pack=$(mktemp -d)
built=$pack.json
trap 'rm -rf "$pack" "$built"' EXIT
cargo test --release --no-run --message-format=json-render-diagnostics \
    --bin fairlayer --test suite --test cuda --test cuda_resident --test wgpu --bench cuda --bench gpu >"$built"
# (The program is built for the tests of the command line, too: as a test of its own, which is not wanted.)
cargo build --release --message-format=json-render-diagnostics --bin fairlayer >>"$built"

python3 - "$built" "$pack" <<'PYTHON'
import json, pathlib, shutil, sys
built, pack = map(pathlib.Path, sys.argv[1:])
for line in built.read_text().splitlines():
    message = json.loads(line)
    if message.get("reason") != "compiler-artifact" or not message.get("executable"):
        continue
    kind = message["target"]["kind"][0]
    if kind == "bin" and message["profile"]["test"]:
        continue
    folder = pack / {"bin": ".", "test": "tests", "bench": "benches"}[kind]
    folder.mkdir(exist_ok=True)
    shutil.copy2(message["executable"], folder / message["target"]["name"])
PYTHON
find "$pack" -type f -exec strip {} +
# What is timed beside it, where that machine has torch.
python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action=ignore --target "$pack/python" qpth==0.0.18
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || commit="$commit, changed"
echo "$commit" >"$pack/commit"

mkdir -p "$(dirname "$file")"
tar -C "$pack" -czf "$file" .
mib=$(du -sm "$file" | cut -f1)
echo "$file: $mib MiB of $commit"
if [ "$mib" -gt "$most_mib" ]; then
    echo "gpu-pack: that is more than $most_mib MiB" >&2
    exit 1
fi
