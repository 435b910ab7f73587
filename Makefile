# `make test` is the test command: on a fresh Debian or Ubuntu machine with Rust it installs what is missing and checks
# everything. The other targets are its steps.

export RUSTDOCFLAGS = -D warnings

# The feature `tch` needs libtorch, of which a part is fetched.
WITH_TORCH = LIBTORCH="$$(./scripts/setup-libtorch.sh)" LD_LIBRARY_PATH="$$(./scripts/setup-libtorch.sh)/lib:$$LD_LIBRARY_PATH"

.PHONY: test setup lint docs torch package bench

# The order matters: cargo's own test summary comes last.
test: setup lint docs package torch
	cargo test --no-default-features --lib
	LD_LIBRARY_PATH="$$(./scripts/nvrtc.sh --libraries):$$LD_LIBRARY_PATH" \
	FAIRLAYER_REQUIRE=wgpu,cuda_emu,nvrtc cargo test --no-fail-fast

setup:
	./scripts/setup-debian.sh

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets --no-default-features -- -D warnings

docs:
	cargo doc --no-deps
	cargo doc --no-deps --no-default-features

# The layer for libtorch, which the default features do not have.
torch:
	$(WITH_TORCH) cargo clippy --all-targets --no-default-features --features tch -- -D warnings
	$(WITH_TORCH) cargo doc --no-deps --no-default-features --features tch
	$(WITH_TORCH) cargo test --no-default-features --features tch --test torch
	$(WITH_TORCH) cargo test --no-default-features --features tch --doc torch

# What would be published: that it holds what it must, and that it builds from nothing else.
package:
	./scripts/check-package.sh

bench:
	cargo bench
