#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks the workspace in tests/ and the benchmarks: format, lints, unit tests.
set -euo pipefail
cd "$(dirname "$0")"
. ./target.sh
cargo fmt --check
cargo clippy --release --locked --quiet --all-targets -- -D warnings
cargo test --release --locked --quiet
bench/bench --check
