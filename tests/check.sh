#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks the workspace in tests/: format, lints, unit tests.
set -euo pipefail
export CARGO_TARGET_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/openssi/target/tests
cd "$(dirname "$0")"
cargo fmt --check
cargo clippy --release --locked --quiet --all-targets -- -D warnings
cargo test --release --locked --quiet
