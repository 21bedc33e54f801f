// SPDX-License-Identifier: GPL-2.0
#include <linux/sched.h>
#include "shim.h"

struct task_struct *ssi_kthread_current(void)
{
	return current;
}
