// SPDX-License-Identifier: GPL-2.0
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/export.h>
#include "shim.h"

u32 ssi_current_tgid(void)
{
	return task_tgid_nr(current);
}
EXPORT_SYMBOL_GPL(ssi_current_tgid);

struct pt_regs *ssi_current_regs(void)
{
	return task_pt_regs(current);
}
EXPORT_SYMBOL_GPL(ssi_current_regs);

void ssi_set_syscall_result(long result)
{
	regs_set_return_value(task_pt_regs(current), result);
}
EXPORT_SYMBOL_GPL(ssi_set_syscall_result);
