#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh   format, lints and rules of the whole tree; changes nothing. Exit 0 if all hold.
set -uo pipefail
. "$(dirname "$0")/common.sh"
cd "$TOP"
failed=0

# Runs one check; its output is shown only if it fails.
check() {	# NAME COMMAND...
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		say "check: $name: ok"
	else
		printf '%s\n' "$out" | tail -n 60 >&2
		say "check: $name: FAILED"
		failed=1
	fi
}

# KERNEL_TREE= checks against a tree that is already built.
tree=${KERNEL_TREE:-$(tools/build/kernel.sh plain)} || exit 1
CRATES=(rust ics clms vproc ipc cfs devfs_cluster loadlevel lvs_glue)
existing=()
for d in "${CRATES[@]}"; do [ -d "$d" ] && existing+=("$d"); done

kernel_rustfmt() {
	find "${existing[@]}" -name '*.rs' -print0 | xargs -0 rustfmt --check --edition 2021 --config-path "$tree/.rustfmt.toml"
}

bindings_in_rust_only() {
	local hits
	hits=$(find "${existing[@]}" -name '*.rs' -not -path 'rust/*' -print0 | xargs -0r grep -n 'bindings::' /dev/null)
	[ -z "$hits" ] || { echo "$hits"; return 1; }
}

unsafe_has_a_reason() {
	local hits
	hits=$(find "${existing[@]}" -name '*.rs' -print0 | xargs -0 awk '
		FNR == 1 { safety = 0 }
		/SAFETY|# Safety/ { safety = FNR }
		/^[[:space:]]*(\/\/|\*)/ { if (safety == FNR - 1) safety = FNR; next }
		/unsafe *(\{|impl)/ && FNR - safety > 3 && !/unsafe\(uninit\)/ { print FILENAME ":" FNR ": " $0 }')
	[ -z "$hits" ] || { echo "$hits"; return 1; }
}

no_panics() {
	local hits
	hits=$(find "${existing[@]}" -name '*.rs' -print0 |
		xargs -0 awk 'FNR == 1 { tests = 0 } /kunit_tests|cfg\(test\)/ { tests = 1 }
			!tests && /\.unwrap\(\)|\.expect\(|panic!\(|todo!\(|unimplemented!\(/ && !/^[[:space:]]*\/\// { print FILENAME ":" FNR ": " $0 }')
	[ -z "$hits" ] || { echo "$hits"; return 1; }
}

checkpatch() {
	local common=FILE_PATH_CHANGES,MISSING_SIGN_OFF,COMMIT_MESSAGE,EMAIL_SUBJECT,COMMIT_LOG_LONG_LINE,NO_AUTHOR_SIGN_OFF
	# Why these types are left out: macros that stand for nothing when CONFIG_SSI is off have arguments they do not use;
	# system calls do return ENOSYS; "upto" is a name; bindgen does not read BIT(); the rest misread our macros. Generated code is not ours to style.
	local ours=$common,SPDX_LICENSE_TAG,MACRO_ARG_REUSE,MACRO_ARG_UNUSED,MACRO_ARG_PRECEDENCE,TRAILING_STATEMENTS
	ours=$ours,MACRO_WITH_FLOW_CONTROL,COMPLEX_MACRO,ENOSYS,TYPO_SPELLING,EXPORT_SYMBOL,CONST_STRUCT,UNCOMMENTED_DEFINITION,BIT_MACRO
	find rust/shim patches/new tests/modules -name '*.[ch]' -not -name '*_gen.[ch]' -not -path '*/uapi/*' -not -name trace.h -print0 |
		xargs -0 perl "$tree/scripts/checkpatch.pl" --no-tree --strict --terse --show-types --max-line-length=120 \
			--ignore "$ours" -f &&
		# Events are laid out as all of the kernel's are.
		perl "$tree/scripts/checkpatch.pl" --no-tree --strict --terse --show-types --max-line-length=120 \
			--ignore "$ours,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE" -f rust/shim/trace.h &&
		perl "$tree/scripts/checkpatch.pl" --no-tree --strict --terse --show-types --max-line-length=120 \
			--ignore "$common,EXPORT_SYMBOL,TRAILING_WHITESPACE" patches/*.patch
}

patch_budget() {
	local n
	n=$(cat patches/*.patch | grep -cE '^[+-]([^+-]|$)')
	echo "patch: $n changed lines in existing files (at most 700)"
	[ "$n" -le 700 ]
}

kernel_clippy() {
	local out=$TOP/build/modules/clippy
	mkdir -p "$out"
	make -C "$tree" M="$TOP" MO="$out" LLVM="$LLVM_SUFFIX" RUST_LIB_SRC="$(rust_lib_src)" -j"$(nproc)" \
		--no-print-directory CLIPPY=1 KRUSTFLAGS=-Dwarnings modules
}

netlink_specs() {
	local f name spec tmp
	tmp=$(mktemp -d)
	tools/build/netlink.sh "$tree" --check || return 1
	for spec in Documentation/netlink/*.yaml; do
		name=$(basename "$spec" .yaml)
		name=${name#ssi_}
		(cd "$tmp" && for f in source header; do
			"$TOP/tools/build/netlink.sh" "$tree" "$TOP/$spec" $f -o "${name}_nl_gen.$([ $f = source ] && echo c || echo h)" || exit 1
		done)
		for f in "${name}_nl_gen.c" "${name}_nl_gen.h"; do
			cmp "$tmp/$f" "rust/shim/$f" || { echo "$f is not what the spec generates"; return 1; }
		done
	done
}

shell_syntax() {
	local f
	git ls-files -z | xargs -0 grep -lE '^#!.*\b(ba)?sh\b' | while read -r f; do bash -n "$f" || exit 1; done
}

no_foreign_names() {
	local hits
	hits=$(git ls-files -z -- ':!Documentation/style.rst' | xargs -0 grep -nE '/work/|/farm/|/root/\.cache' | grep -v '^tools/build/check.sh')
	[ -z "$hits" ] || { echo "$hits"; return 1; }
}

check "rustfmt of the kernel crates" kernel_rustfmt
check "bindings:: only in rust/" bindings_in_rust_only
check "every unsafe has its reason" unsafe_has_a_reason
check "no panics in kernel crates" no_panics
check "checkpatch" checkpatch
check "size of the kernel patch" patch_budget
check "clippy of the kernel crates" kernel_clippy
check "tools: format, clippy, unit tests" tools/build/tools.sh --check
check "tests: format, clippy, unit tests" tests/check.sh
check "netlink: specs, generated code" netlink_specs
check "shell scripts parse" shell_syntax
check "no paths of one machine" no_foreign_names
exit $failed
