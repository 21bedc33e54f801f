// SPDX-License-Identifier: GPL-2.0
/*
 * The mark by which the other modules know that they were built together with this one: see Kbuild.
 */
#include <linux/export.h>
#include <linux/module.h>
#include "build_id.h"

extern const char SSI_BUILD_SYMBOL[];
const char SSI_BUILD_SYMBOL[] = SSI_BUILD;
EXPORT_SYMBOL_GPL(SSI_BUILD_SYMBOL);

MODULE_INFO(ssi_build, SSI_BUILD);
