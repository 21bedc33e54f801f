#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh [VARIANT]   builds the modules that only tests and benchmarks load, for that kernel, and copies them to
#                      build/programs, with those of the kernel that they need
set -euo pipefail
. "$(dirname "$0")/../../tools/build/common.sh"
tree=$("$TOP/tools/build/kernel.sh" "${1:-plain}")
out=$TOP/build/modules/tests
mkdir -p "$out"
make -C "$tree" M="$TOP/tests/modules" MO="$out" LLVM="$LLVM_SUFFIX" -j"$(nproc)" --no-print-directory modules
mkdir -p "$TOP/build/programs"
cp "$out"/*.ko "$tree"/net/{tipc/tipc,sunrpc/sunrpc}.ko "$TOP/build/programs/"
