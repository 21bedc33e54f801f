// SPDX-License-Identifier: GPL-2.0
#include "shim.h"

u32 ssi_shim_version(void)
{
	return 1;
}
