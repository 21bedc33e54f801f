#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# modules.sh [VARIANT] [MAKE-ARGUMENT...]   builds all modules for that kernel into build/modules/VARIANT
#
# The file `order` there lists them in insmod order.
set -euo pipefail
. "$(dirname "$0")/common.sh"

variant=${1:-plain}
[ $# -gt 0 ] && shift
tree=$("$TOP/tools/build/kernel.sh" "$variant")
out=$TOP/build/modules/$variant
mkdir -p "$out"

make -C "$tree" M="$TOP" MO="$out" LLVM="$LLVM_SUFFIX" RUST_LIB_SRC="$(rust_lib_src)" -j"$(nproc)" \
	--no-print-directory "$@" modules
for m in core ics clms rfile vproc; do
	if [ -f "$out/ssi_$m.ko" ]; then echo "ssi_$m.ko"; fi
done >"$out/order"
