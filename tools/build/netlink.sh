#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# netlink.sh TREE SPEC uapi|header|source [ynl_gen_c.py options]   writes generated C to standard output
# netlink.sh TREE --check                                           every spec is valid and generates
#
# Generates C from a netlink spec of ours with the generator of the kernel tree TREE, which is left as it is.
# The generator looks for schemas and for the tree's root beside the spec, so both are laid out in a folder of
# their own.
set -euo pipefail
. "$(dirname "$0")/common.sh"

usage() { say "usage: netlink.sh TREE SPEC uapi|header|source [option...] | netlink.sh TREE --check"; exit 2; }
[ $# -ge 2 ] || usage
tree=$1 spec=$2
gen=$tree/tools/net/ynl/pyynl/ynl_gen_c.py
[ -f "$gen" ] || die "$tree is no kernel tree with tools/net/ynl: pass the path that kernel.sh --path prints"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/Documentation/netlink"
cp "$tree"/Documentation/netlink/*.yaml "$tmp/Documentation/"	# schemas: one folder above the spec
touch "$tmp/MAINTAINERS"		# the mark of a tree's root; the generator never stops looking for it

generate() {	# SPEC KIND [option...]
	local kind=$2 args
	cp "$1" "$tmp/Documentation/netlink/"
	case $kind in
	uapi) args=(--mode uapi --header) ;;
	header) args=(--mode kernel --header) ;;
	source) args=(--mode kernel --source) ;;
	*) usage ;;
	esac
	args+=(--spec "$tmp/Documentation/netlink/$(basename "$1")")
	shift 2
	PYTHONDONTWRITEBYTECODE=1 python3 "$gen" "${args[@]}" "$@"
}

if [ "$spec" = --check ]; then
	for spec in "$TOP"/Documentation/netlink/*.yaml; do
		for kind in uapi header source; do
			generate "$spec" "$kind" >"$tmp/out" || die "$(basename "$spec"): no $kind can be generated"
			[ -s "$tmp/out" ] || die "$(basename "$spec"): $kind is empty"
		done
	done
	exit 0
fi
[ $# -ge 3 ] || usage
shift
generate "$@"
