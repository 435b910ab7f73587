# `make test` is the test command: on a fresh Debian or Ubuntu machine with Rust it installs what is missing and checks
# everything. The other targets are its steps.

export RUSTDOCFLAGS = -D warnings

# The feature `tch` needs libtorch, of which a part is fetched.
TORCH_TESTS = cli,cuda,tch
WITH_TORCH = LIBTORCH="$$(./scripts/setup-libtorch.sh)" LD_LIBRARY_PATH="$$(./scripts/setup-libtorch.sh)/lib:$$LD_LIBRARY_PATH"

.PHONY: test setup lint docs torch train package bench gpu-pack

# The order matters: cargo's own test summary comes last.
test: setup lint docs package torch
	cargo test --no-default-features --lib
	LD_LIBRARY_PATH="$$(./scripts/nvrtc.sh --libraries):$$LD_LIBRARY_PATH" \
	FAIRLAYER_REQUIRE=wgpu,cuda_emu,nvrtc,python3 cargo test --no-fail-fast

setup:
	./scripts/setup-debian.sh

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --no-default-features -- -D warnings

docs:
	cargo doc --no-deps
	cargo doc --no-deps --no-default-features

# The layer for libtorch, training and the command `train`, which the default features do not have.
torch:
	$(WITH_TORCH) cargo clippy --all-targets --no-default-features --features tch -- -D warnings
	$(WITH_TORCH) cargo clippy --all-targets --no-default-features --features $(TORCH_TESTS) -- -D warnings
	$(WITH_TORCH) cargo doc --no-deps --no-default-features --features $(TORCH_TESTS)
	$(WITH_TORCH) FAIRLAYER_REQUIRE=cuda_emu cargo test --no-default-features --features $(TORCH_TESTS) --test torch --test training
	$(WITH_TORCH) cargo test --no-default-features --features $(TORCH_TESTS) --lib
	$(WITH_TORCH) cargo test --no-default-features --features $(TORCH_TESTS) --test cli train
	$(WITH_TORCH) cargo test --no-default-features --features $(TORCH_TESTS) --doc torch

# German credit by three networks: a table, and a report and a picture in target/train.
train:
	mkdir -p target/train
	$(WITH_TORCH) cargo run --release --no-default-features --features cli,tch -- train data/german_credit.csv \
	    --label credit_risk --positive 1 --sensitive personal_status_and_sex --criterion demographic-parity --epsilon 0.02 \
	    --report target/train/report.json --plot target/train/plot.png

# What would be published: that it holds what it must, and that it builds from nothing else.
package:
	./scripts/check-package.sh

bench:
	cargo bench

# What scripts/gpu-check.sh runs, where there is a GPU.
gpu-pack:
	./scripts/gpu-pack.sh
