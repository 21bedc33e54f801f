// SPDX-License-Identifier: GPL-2.0
/*
 * Making a process vanish here and appear there: the steps that need unexported parts of the kernel.
 */
#include <linux/binfmts.h>
#include <linux/export.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/futex.h>
#include <linux/init_task.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/resume_user_mode.h>
#include <linux/rseq.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/tty.h>
#include "internal.h"

/**
 * pproc_vanish() - end the current process here without anybody noticing: it lives on elsewhere
 *
 * pproc_mark_moved() and pproc_detach() came before. Does not return.
 */
void __noreturn pproc_vanish(void)
{
	struct task_struct *t = current;

	/* Nothing may be written to the memory, which may be shared with others. */
	t->clear_child_tid = NULL;
#ifdef CONFIG_FUTEX
	t->futex.robust_list = NULL;
#endif
	t->restart_block.fn = do_no_restart_syscall;
	t->ssi = NULL;
	do_exit(0);
}
