// SPDX-License-Identifier: GPL-2.0
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/signal.h>
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

/* What process @nr of this node does. Context: any. */
u32 ssi_process_state(u32 nr)
{
	u32 state = SSI_PROCESS_GONE;
	struct task_struct *p;
	unsigned int s;

	rcu_read_lock();
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_TGID);
	if (p) {
		s = READ_ONCE(p->__state);
		if (p->exit_state)
			state = thread_group_empty(p) ? SSI_PROCESS_DEAD : SSI_PROCESS_LEADERLESS;
		else if (READ_ONCE(p->jobctl) & (JOBCTL_STOPPED | JOBCTL_TRACED))
			state = SSI_PROCESS_STOPPED;
		else if ((s & TASK_UNINTERRUPTIBLE) && !(s & (TASK_NOLOAD | TASK_WAKEKILL)))
			state = SSI_PROCESS_UNINTERRUPTIBLE;
		else
			state = SSI_PROCESS_ALIVE;
	}
	rcu_read_unlock();
	return state;
}
EXPORT_SYMBOL_GPL(ssi_process_state);
