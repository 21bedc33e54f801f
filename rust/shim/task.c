// SPDX-License-Identifier: GPL-2.0
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/export.h>
#include "shim.h"

u32 ssi_current_tgid(void)
{
	return task_tgid_nr(current);
}
EXPORT_SYMBOL_GPL(ssi_current_tgid);
