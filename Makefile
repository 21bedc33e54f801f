# SPDX-License-Identifier: GPL-2.0
# OpenSSI for Linux: `make help` tells what there is.

KERNEL ?= plain

.PHONY: help setup kernel modules
.DEFAULT_GOAL := help

help:			## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:			## install or unpack what the build and the tests need
	tools/build/setup.sh

kernel: setup		## build the kernel, KERNEL=plain|debug|unpatched (default plain)
	tools/build/kernel.sh $(KERNEL)

modules: setup		## build the modules for KERNEL into build/modules/KERNEL
	tools/build/modules.sh $(KERNEL)
