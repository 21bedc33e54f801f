#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh VARIANT          builds the kernel if its cached tree is not current; prints the tree's path
# kernel.sh --path VARIANT   prints where that tree is, and builds nothing
#
# VARIANT is plain (as shipped), debug (KASAN, lockdep, ..., KUnit) or unpatched (plain's configuration
# without the series, for `make bench`). A tree lives outside the checkout and is named by a hash of
# everything that goes into it. A new one starts as a copy of that tree of its variant which differs least, with
# the time stamps of unchanged files kept, so that only what differs is compiled.
set -euo pipefail
. "$(dirname "$0")/common.sh"

path_only=
[ "${1:-}" = --path ] && { path_only=1; shift; }
variant=${1:-plain}
case $variant in plain | debug | unpatched) ;; *) say "usage: kernel.sh [--path] plain|debug|unpatched"; exit 2 ;; esac

CONFIG=$TOP/tools/build/config
NEW=$TOP/patches/new            # files that the series adds, laid out as in the kernel tree

fragments=("$CONFIG/base.config")
[ "$variant" = debug ] && fragments+=("$CONFIG/debug.config")
patched=y; [ "$variant" = unpatched ] && patched=
[ -n "$patched" ] && fragments+=("$CONFIG/ssi.config")

# The key is part of the kernel's version, and so of the version magic of its modules: no other kernel takes them.
inputs() {
	[ -n "$patched" ] && echo "LOCALVERSION=-ssi-KEY"
	echo "$KERNEL_VERSION $RUSTC_VERSION"
	"clang$LLVM_SUFFIX" --version | head -n 1
	bindgen --version
	cat "${fragments[@]}"
	[ -z "$patched" ] && return
	cat "$TOP/Kconfig" "$TOP/patches/series"
	(cd "$TOP/patches" && xargs cat <series)
	(cd "$NEW" && find . -type f | LC_ALL=C sort | xargs sha256sum)
}

key=$(inputs | sha256sum | cut -c1-16)
tree=$CACHE/kernel/$variant-$KERNEL_VERSION-$key
[ -n "$path_only" ] && { echo "$tree"; exit 0; }

# A finished tree is never changed: no need to wait for whoever builds another one.
[ -f "$tree/.ssi-done" ] && { touch "$tree"; echo "$tree"; exit 0; }
mkdir -p "$CACHE/kernel"
exec 9>"$CACHE/kernel/$variant.lock"
flock 9
[ -f "$tree/.ssi-done" ] && { touch "$tree"; echo "$tree"; exit 0; }

log=$CACHE/kernel/$variant.log
work=$CACHE/kernel/$variant.work
start=$(date +%s)

# Files of the tree that a series (in DIR) touches or adds.
touched() {	# DIR
	[ -f "$1/series" ] || return 0
	(cd "$1" && xargs cat <series | sed -nE 's,^\+\+\+ b/([^[:space:]]+).*,\1,p'; cd new && find . -type f | sed 's,^\./,,'; echo kernel/ssi/Kconfig) |
		sort -u
}

fresh_tree() {
	say "kernel: unpacking $KERNEL_VERSION for $variant"
	mkdir -p "$work"
	tar -xf "$CACHE/linux-$KERNEL_VERSION.tar" -C "$work" --strip-components=1
}

# Takes the series that the copied tree holds out again, keeping the old files for keep_times.
unapply() {
	local f
	touched "$work/.ssi-series" >"$work/.ssi-touched"
	rm -rf "$work/.ssi-old" && mkdir "$work/.ssi-old"
	while read -r f; do
		[ -f "$work/$f" ] && (cd "$work" && cp -p --parents "$f" .ssi-old/)
	done <"$work/.ssi-touched"
	(cd "$work" && tac .ssi-series/series | while read -r f; do patch -s -R -p1 <".ssi-series/$f"; done)
	(cd "$work/.ssi-series/new" && find . -type f) | while read -r f; do rm -f "$work/$f"; done
	rm -f "$work/kernel/ssi/Kconfig"
	rm -rf "$work/.ssi-series"
}

apply() {
	local f
	[ -z "$patched" ] && return
	while read -r f; do
		(cd "$work" && patch -s -p1 -F0 --no-backup-if-mismatch <"$TOP/patches/$f") || die "patches/$f does not apply"
	done <"$TOP/patches/series"
	cp -r "$NEW/." "$work/"
	cp "$TOP/Kconfig" "$work/kernel/ssi/Kconfig"
	mkdir "$work/.ssi-series"
	cp -r "$TOP"/patches/. "$work/.ssi-series/"
}

# A file with the content it had before keeps its time, so that make leaves its objects alone.
keep_times() {
	local f
	[ -d "$work/.ssi-old" ] || return 0
	(cd "$work/.ssi-old" && find . -type f) | while read -r f; do
		if cmp -s "$work/.ssi-old/$f" "$work/$f"; then touch -r "$work/.ssi-old/$f" "$work/$f"; fi
	done
	rm -rf "$work/.ssi-old"
}

# The finished tree of this variant that needs least to be compiled anew; of equal ones the newest.
closest() {
	local t n
	find "$CACHE/kernel" -mindepth 2 -maxdepth 2 -path "*/$variant-$KERNEL_VERSION-*/.ssi-done" -printf '%T@ %h\n' |
		sort -rn | cut -d' ' -f2 | while read -r t; do
		n=$(cat "${fragments[@]}" | cmp -s - "$t/.ssi-config" || echo 10000)
		if [ -n "$patched" ]; then
			# Patches and headers touch what many others include.
			n=$((n + $(diff -rq "$t/.ssi-series" "$TOP/patches" | awk '{ n += /\.patch|\.h |\/include/ ? 100 : 1 } END { print n + 0 }')))
		fi
		echo "$((n)) $t"
	done | sort -sn | awk 'NR==1{print $2}'
}

rm -rf "$work"
previous=$(closest)
if [ -n "$previous" ]; then
	say "kernel: starting $variant from $(basename "$previous")"
	cp -a --reflink=auto "$previous" "$work"
	rm -f "$work/.ssi-done"
	if [ -n "$patched" ]; then unapply; fi
else
	fresh_tree
fi
apply
keep_times

KMAKE=(make -C "$work" LLVM="$LLVM_SUFFIX" RUST_LIB_SRC="$(rust_lib_src)" -j"$(nproc)" --no-print-directory
	KBUILD_BUILD_USER=ssi KBUILD_BUILD_HOST=openssi)
command -v ccache >/dev/null && KMAKE+=("CC=ccache clang$LLVM_SUFFIX")
[ -n "$patched" ] && KMAKE+=("LOCALVERSION=-ssi-${key:0:8}")

cat "${fragments[@]}" >"$work/.ssi-config"
{
	"${KMAKE[@]}" KCONFIG_ALLCONFIG=.ssi-config allnoconfig
	# Every line asked for must have been granted: Kconfig drops what it cannot satisfy without a word.
	grep -E '^CONFIG_' "$work/.ssi-config" | sort -u | while read -r line; do
		grep -qxF -- "$line" "$work/.config" || echo "kernel: $variant: not granted: $line" >&2
	done
} >"$log" 2>&1
grep 'not granted' "$log" && die "the configuration fragments ask for what Kconfig refuses"
say "kernel: building $variant (log: $log)"
"${KMAKE[@]}" bzImage modules >>"$log" 2>&1 || { grep -nE 'error|Error' "$log" | head -n 20 >&2; tail -n 15 "$log" >&2; die "kernel build failed, see $log"; }
rm -rf "$tree"
mv "$work" "$tree"
touch "$tree/.ssi-done"
say "kernel: $variant built in $(($(date +%s) - start)) s"

# Keep the three newest trees of a variant.
find "$CACHE/kernel" -mindepth 1 -maxdepth 1 -type d -name "$variant-*" -printf '%T@ %p\n' | sort -rn | awk 'NR>3{print $2}' | xargs -r rm -rf
echo "$tree"
