#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs or unpacks whatever the build and the tests need and this machine lacks. Can be run again
# at any time; asks nothing. Exits 77 with the one command to run when packages are missing and it
# is not root.
set -euo pipefail
. "$(dirname "$0")/common.sh"

PACKAGES=(
	# kernel build
	clang-19 lld-19 llvm-19 libclang-19-dev gcc libc6-dev make flex bison bc libelf-dev libssl-dev
	kmod cpio rsync xz-utils quilt ccache python3 python3-yaml python3-jsonschema patch
	# programs for guests
	pkgconf
	# guests and rig
	qemu-system-x86 qemu-utils seabios busybox-static mmdebstrap uidmap debian-archive-keyring squashfs-tools e2fsprogs
)

step() { say "setup: $*"; }

missing_packages() {
	local p
	for p in "${PACKAGES[@]}"; do
		dpkg-query -W -f='${Status}\n' "$p" 2>/dev/null | grep -q 'install ok installed' || echo "$p"
	done
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} -eq 0 ] && return
	if [ "$(id -u)" != 0 ]; then
		say "Packages are missing. Install them with:"
		say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
		exit 77
	fi
	step "installing ${missing[*]}"
	apt-get update -q >"$CACHE/apt.log" 2>&1 || say "setup: apt-get update had failures, see $CACHE/apt.log"
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
		>>"$CACHE/apt.log" 2>&1 || { tail -n 20 "$CACHE/apt.log" >&2; die "apt-get install failed"; }
}

# The Debian mirror that this machine uses, read from its own apt sources (one-line and deb822 form). A list of mirrors
# (mirror+file:) stands for what it lists. The one whose path ends in /debian, else the first that is not for security.
debian_mirror() {
	find /etc/apt -maxdepth 2 \( -name '*.list' -o -name '*.sources' \) -print0 | xargs -0r cat |
		sed -nE 's/^URIs:[[:space:]]*//p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' | tr -s '[:space:]' '\n' |
		while read -r uri; do
			case $uri in
			mirror+file:*) sed -nE 's/^[[:space:]]*([^#[:space:]]+).*/\1/p' "/${uri#mirror+file:*/}" 2>/dev/null || true ;;
			*) echo "$uri" ;;
			esac
		done |
		awk '/\/debian\/?$/ && !best { best = $0 } !/security/ && !any { any = $0 } END { if (best) print best; else if (any) print any }'
}

# Downloads one package of trixie-backports through an apt list of its own; the machine's lists stay as they are.
backports_download() {	# PACKAGE=VERSION-GLOB
	local d=$CACHE/apt mirror opts
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || die "no Debian mirror found in /etc/apt; set KERNEL_TARBALL= and RUST_LIB_SRC="
	mkdir -p "$d/lists/partial" "$d/cache/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie-backports main" >"$d/sources.list"
	opts=(-o "Dir::Etc::sourcelist=$d/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o "Dir::State::lists=$d/lists" -o "Dir::Cache=$d/cache" -o APT::Sandbox::User=root)
	apt-get "${opts[@]}" update -q >"$CACHE/apt.log" 2>&1 || { tail -n 5 "$CACHE/apt.log" >&2; die "apt-get update failed"; }
	(cd "$d" && apt-get "${opts[@]}" download -q "$1" >>"$CACHE/apt.log" 2>&1) ||
		{ tail -n 5 "$CACHE/apt.log" >&2; die "cannot download $1"; }
}

check_rust() {
	command -v cargo >/dev/null || die "no Rust toolchain: install one with rustup (1.95 or newer)"
	[ "$(printf '1.95.0\n%s\n' "$RUSTC_VERSION" | sort -V | head -n 1)" = 1.95.0 ] ||
		die "rustc $RUSTC_VERSION is too old: 1.95 or newer is needed"
}

fetch_rust_src() {
	local dst
	dst=$(rust_lib_src)
	[ -d "$dst/core" ] && return
	# A toolchain of rustup brings its own; where that cannot be had Debian's package of the same version does.
	if command -v rustup >/dev/null && rustup which rustc >/dev/null 2>&1; then
		step "adding the Rust library sources to the toolchain"
		if rustup component add rust-src >"$CACHE/rustup.log" 2>&1; then
			dst=$(rust_lib_src)
			[ -d "$dst/core" ] && return
		fi
		step "rustup has none, see $CACHE/rustup.log"
	fi
	step "unpacking the Rust library sources of $RUSTC_VERSION"
	backports_download "rust-src=$RUSTC_VERSION+*"
	rm -rf "$CACHE/tmp" && mkdir -p "$CACHE/tmp" "$(dirname "$dst")"
	dpkg-deb -x "$CACHE"/apt/rust-src_"$RUSTC_VERSION"*.deb "$CACHE/tmp"
	mv "$CACHE/tmp/usr/src/rustc-$RUSTC_VERSION/library" "$dst"
	rm -rf "$CACHE/tmp" "$CACHE"/apt/rust-src_*.deb
}

fetch_bindgen() {
	"$CACHE/cargo/bin/bindgen" --version 2>/dev/null | grep -q " $BINDGEN_VERSION" && return
	step "building bindgen $BINDGEN_VERSION"
	cargo install -q --locked --root "$CACHE/cargo" bindgen-cli --version "~$BINDGEN_VERSION" >"$CACHE/bindgen.log" 2>&1 ||
		{ tail -n 20 "$CACHE/bindgen.log" >&2; die "cargo install bindgen-cli failed"; }
}

fetch_kernel() {
	[ -f "$CACHE/linux-$KERNEL_VERSION.tar" ] && return
	local deb
	if [ -n "${KERNEL_TARBALL:-}" ]; then
		step "taking the kernel from $KERNEL_TARBALL"
		xz -dc "$KERNEL_TARBALL" >"$CACHE/linux.tar.tmp"
	else
		step "downloading linux-source-${KERNEL_VERSION%.*} $KERNEL_VERSION"
		backports_download "linux-source-${KERNEL_VERSION%.*}=$KERNEL_VERSION-*"
		deb=$(ls "$CACHE"/apt/linux-source-*.deb)
		dpkg-deb --fsys-tarfile "$deb" | tar -xO --wildcards '*/linux-source-*.tar.xz' | xz -dc >"$CACHE/linux.tar.tmp"
		rm -f "$deb"
	fi
	mv "$CACHE/linux.tar.tmp" "$CACHE/linux-$KERNEL_VERSION.tar"
}

install_packages
check_rust
fetch_rust_src
fetch_bindgen
fetch_kernel
