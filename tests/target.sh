# SPDX-License-Identifier: GPL-2.0
# Where cargo builds the workspace in tests/. Sourced, never run.

. "$(dirname "${BASH_SOURCE[0]}")/../tools/build/target.sh"
CARGO_TARGET_DIR=$(cargo_target tests)
export CARGO_TARGET_DIR
