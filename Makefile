# SPDX-License-Identifier: GPL-2.0
# OpenSSI for Linux: `make help` tells what there is.

KERNEL ?= plain
BENCH ?=
T ?= 10m
PREFIX ?= /usr/local

.PHONY: help setup kernel modules tools programs rig demo test test-long soak fuzz bench check docs install install-system clean
.DEFAULT_GOAL := help

help:			## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:			## install or unpack what the build and the tests need
	@tools/build/setup.sh

kernel: setup		## build the kernel, KERNEL=plain|debug|unpatched (default plain)
	@tools/build/kernel.sh $(KERNEL)

modules: setup		## build the modules for KERNEL into build/modules/KERNEL
	@tools/build/modules.sh $(KERNEL)

tools: setup		## build the commands into build/bin
	@tools/build/tools.sh

programs: setup		## build the programs, and the modules, that tests run in guests
	@tests/programs/build.sh
	@tests/modules/build.sh plain >/dev/null

rig: setup		## build the rig and the cases
	@tests/build.sh

demo:			## boot three nodes and show what works
	@tests/demo

test: setup tools programs	## every test on the plain kernel and KUnit; the last line is `N passed, N failed`
	@tools/build/modules.sh plain
	@tools/build/modules.sh debug
	@tests/run --fast

test-long: setup tools programs	## the same, the cases that take many minutes, and chosen cases on the debug kernel
	@tools/build/modules.sh plain
	@tools/build/modules.sh debug
	@tests/run

soak: modules tools programs rig	## cases of movement, crash and calls, again and again with new seeds until T is over (default T=10m) or one fails
	@tests/soak $(T) --kernel $(KERNEL)

fuzz: setup		## feed hostile bytes to the decoders that run on the host, for T (default T=10m); seeds are printed
	@tests/fuzz $(T)

bench: modules tools programs rig	## measure against peers; BENCH=name for one
	@case " $(BENCH) " in "  " | *" hook"*) tools/build/kernel.sh unpatched >/dev/null ;; esac
	@tests/bench/bench $(BENCH)

check: setup		## format, lints and rules of the whole tree
	@tools/build/check.sh

docs: tools		## man pages and completions into build/docs
	@tools/build/tools.sh --docs

install: tools		## commands, libcluster, man pages and completions below PREFIX (default /usr/local); DESTDIR= goes before it
	@tools/build/tools.sh --install $(DESTDIR)$(PREFIX)

install-system: modules	## modules of KERNEL, joining in the initramfs, units of systemd: for this machine, or below DESTDIR=
	@tools/build/tools.sh --install-system "$(DESTDIR)/" $(KERNEL)

clean:			## remove what was built in this checkout; caches stay
	rm -rf build
