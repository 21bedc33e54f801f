// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel threads that end by themselves and are joined.
 */
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <uapi/linux/sched/types.h>
#include <linux/export.h>
#include "shim.h"

struct task_struct *ssi_kthread_current(void)
{
	return current;
}
EXPORT_SYMBOL_GPL(ssi_kthread_current);

/* This thread does not wait, for memory, until something has been written. Return: for ssi_kthread_allow_io(). */
unsigned int ssi_kthread_avoid_io(void)
{
	return memalloc_noio_save();
}
EXPORT_SYMBOL_GPL(ssi_kthread_avoid_io);

void ssi_kthread_allow_io(unsigned int flags)
{
	memalloc_noio_restore(flags);
}
EXPORT_SYMBOL_GPL(ssi_kthread_allow_io);

/* Return: a started thread with a count on it, or ERR_PTR. @fn gets @arg once. */
struct task_struct *ssi_kthread_start(int (*fn)(void *), void *arg, const char *name)
{
	struct task_struct *t = kthread_create(fn, arg, "%s", name);

	if (!IS_ERR(t)) {
		get_task_struct(t);
		wake_up_process(t);
	}
	return t;
}
EXPORT_SYMBOL_GPL(ssi_kthread_start);

/*
 * Sleeps until the thread has ended, and gives the count back. Return: whether it has run; one that is
 * joined before its first turn never does. Its function returns 0.
 */
bool ssi_kthread_join(struct task_struct *t)
{
	return kthread_stop_put(t) != -EINTR;
}
EXPORT_SYMBOL_GPL(ssi_kthread_join);

/* Runs before every ordinary thread: heartbeats must be in time under load. */
void ssi_kthread_make_realtime(void)
{
	sched_set_fifo(current);
}
EXPORT_SYMBOL_GPL(ssi_kthread_make_realtime);

/* A signal may interrupt what this thread waits for. */
void ssi_kthread_allow_interrupt(void)
{
	allow_signal(SIGINT);
}
EXPORT_SYMBOL_GPL(ssi_kthread_allow_interrupt);

void ssi_kthread_interrupt(struct task_struct *t)
{
	send_sig(SIGINT, t, 1);
}
EXPORT_SYMBOL_GPL(ssi_kthread_interrupt);

void ssi_kthread_interrupted_done(void)
{
	flush_signals(current);
}
EXPORT_SYMBOL_GPL(ssi_kthread_interrupted_done);
