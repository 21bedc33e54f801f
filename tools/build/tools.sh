#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# tools.sh           builds build/bin/cluster, static, and build/bin/names, the names it answers to
# tools.sh --check   format, lints and unit tests of the workspace
# tools.sh --docs    man pages and completions into build/docs
# tools.sh --install DIR   commands, libcluster, their man pages and completions below DIR (bin, lib, include, share)
# tools.sh --install-system DESTDIR VARIANT   modules of that kernel, the initramfs hook and units of systemd below DESTDIR
set -euo pipefail
. "$(dirname "$0")/common.sh"

. "$TOP/tools/build/target.sh"
CARGO_TARGET_DIR=$(cargo_target tools)
export CARGO_TARGET_DIR
TARGET=$(rustc -vV | sed -n 's/^host: //p')
cd "$TOP/tools"

build() {
	mkdir -p "$TOP/build/bin" "$CARGO_TARGET_DIR"
	# Two that start at once build one after the other.
	exec 9>"$CARGO_TARGET_DIR/.lock"
	flock 9
	# With an explicit target the flag reaches the program and not the build scripts and macros.
	RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --release --locked --target "$TARGET"
	install -m 755 "$CARGO_TARGET_DIR/$TARGET/release/cluster" "$TOP/build/bin/cluster.tmp"
	mv "$TOP/build/bin/cluster.tmp" "$TOP/build/bin/cluster"
	exec 9>&-
	"$TOP/build/bin/cluster" names >"$TOP/build/bin/names"
}

# The shared and the static library. The commands are static programs, which no shared library comes out of: a build of its own.
build_lib() {
	local dir=$CARGO_TARGET_DIR/$TARGET/release
	mkdir -p "$CARGO_TARGET_DIR"
	exec 9>"$CARGO_TARGET_DIR/.lock"
	flock 9
	cargo rustc -q --release --locked --target "$TARGET" -p libcluster --lib --crate-type cdylib,staticlib -- \
		-C link-arg=-Wl,-soname,libcluster.so.1
	LIB_SO=$dir/libcluster.so LIB_A=$dir/libcluster.a
	exec 9>&-
}

install_lib() {	# DIR
	local version
	version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
	install -d "$1/lib/pkgconfig" "$1/include/sys"
	install -C -m 644 "$LIB_SO" "$1/lib/libcluster.so.$version"
	ln -sf "libcluster.so.$version" "$1/lib/libcluster.so.1"
	ln -sf libcluster.so.1 "$1/lib/libcluster.so"
	install -C -m 644 "$LIB_A" "$1/lib/libcluster.a"
	install -m 644 libcluster/libcluster.h "$1/include/libcluster.h"
	install -m 644 libcluster/libcluster.h "$1/include/sys/cluster.h"
	sed "s/@VERSION@/$version/" libcluster/libcluster.pc.in >"$1/lib/pkgconfig/libcluster.pc"
}

install_all() {	# DIR
	local name
	install -d "$1/bin" "$1/share/man/man7" "$1/share/man/man8" "$1/share/man/man3" \
		"$1/share/bash-completion/completions" "$1/share/zsh/site-functions" "$1/share/fish/vendor_completions.d"
	install -m 755 "$TOP/build/bin/cluster" "$1/bin/cluster"
	while read -r name; do ln -sf cluster "$1/bin/$name"; done <"$TOP/build/bin/names"
	"$TOP/build/bin/cluster" docs "$TOP/build/docs"
	install -m 644 "$TOP"/build/docs/man/*.8 "$1/share/man/man8"
	install -m 644 libcluster/man/*.3ssi "$1/share/man/man3"
	install -m 644 libcluster/man/*.7 "$1/share/man/man7"
	for name in "$TOP"/build/docs/completions/*; do
		case $name in
		*.bash) install -m 644 "$name" "$1/share/bash-completion/completions/$(basename "$name" .bash)" ;;
		*.fish) install -m 644 "$name" "$1/share/fish/vendor_completions.d" ;;
		*) install -m 644 "$name" "$1/share/zsh/site-functions" ;;
		esac
	done
	install_lib "$1"
}

# What the system itself looks for, at places that no PREFIX changes. The modules must be built.
install_system() {	# DESTDIR VARIANT
	local modules=$TOP/build/modules/$2 release units=$1/usr/lib/systemd/system hooks=$1/usr/share/initramfs-tools
	[ -f "$modules/order" ] || die "the modules for $2 are not built: run \`make modules KERNEL=$2\`"
	release=$(cat "$("$TOP/tools/build/kernel.sh" --path "$2")/include/config/kernel.release")
	install -d "$1/usr/lib/modules/$release/updates/ssi" "$units" "$hooks/hooks" "$hooks/conf-hooks.d" "$hooks/scripts/init-premount" "$1/etc/default"
	while read -r name; do
		install -m 644 "$modules/$name" "$1/usr/lib/modules/$release/updates/ssi/$name"
	done <"$modules/order"
	# Where depmod looks: the two are one on a merged system.
	[ -e "$1/lib" ] || ln -s usr/lib "$1/lib"
	depmod -b "${1:-/}" "$release"
	install -m 644 cluster-join.service cluster-fenced.service cluster-noded.service "$units"
	install -m 755 initramfs/hooks/openssi "$hooks/hooks/openssi"
	install -m 644 initramfs/conf-hooks.d/openssi "$hooks/conf-hooks.d/openssi"
	install -m 755 initramfs/scripts/init-premount/openssi "$hooks/scripts/init-premount/openssi"
	[ -e "$1/etc/default/openssi" ] || install -m 644 initramfs/openssi.default "$1/etc/default/openssi"
}

case ${1:-} in
"") build ;;
--check)
	cargo fmt --check
	cargo clippy -q --locked --all-targets -- -D warnings
	cargo test -q --locked
	;;
--docs)
	[ -x "$TOP/build/bin/cluster" ] || build
	"$TOP/build/bin/cluster" docs "$TOP/build/docs"
	;;
--install-system) install_system "${2%/}" "$3" ;;
--install)
	[ -n "${2:-}" ] || { say "usage: tools.sh --install DIR"; exit 2; }
	build
	build_lib
	install_all "$2"
	;;
*) say "usage: tools.sh [--check|--docs|--install DIR]"; exit 2 ;;
esac
