// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers that outlive, or precede, their tasks on this node.
 */
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include "internal.h"

/* Context: tasklist_lock held for writing; @pid has lost its last task. */
bool __ssi_pid_idle(struct pid *pid)
{
	ssi_event_queue(&pid->ssi->idle);
	return true;
}

static bool ssi_pid_has_tasks(struct pid *pid)
{
	enum pid_type type;

	for (type = 0; type < PIDTYPE_MAX; type++)
		if (pid_has_task(pid, type))
			return true;
	return false;
}

static struct pid *ssi_pid_find(u32 nr)
{
	return find_pid_ns(nr, &init_pid_ns);
}

/* Context: tasklist_lock held for writing. Return: whether @pid is now pinned for @why. */
static bool ssi_pin_locked(struct pid *pid, struct ssi_pvproc **fresh, u32 nr, u32 why)
{
	if (!pid->ssi) {
		(*fresh)->idle.embedded = true;
		(*fresh)->idle.ev.kind = SSI_EVENT_IDLE;
		(*fresh)->idle.ev.nr = nr;
		INIT_LIST_HEAD(&(*fresh)->idle.list);
		WRITE_ONCE(pid->ssi, *fresh);
		*fresh = NULL;
	}
	pid->ssi->pins |= why;
	return true;
}

/**
 * pproc_pin() - keep a number, allocating it if need be
 * @nr: number in the initial pid namespace
 * @why: SSI_PIN_* added to the reasons
 *
 * Context: may sleep. Return: 0, -ENOMEM, -EINVAL for a number that no process can have.
 */
int pproc_pin(u32 nr, u32 why)
{
	struct ssi_pvproc *fresh = kzalloc_obj(*fresh, GFP_KERNEL);
	bool done = false;
	int ret = 0;

	if (!fresh)
		return -ENOMEM;
	while (!done && !ret) {
		struct pid *pid;
		pid_t tid = nr;

		write_lock_irq(&tasklist_lock);
		pid = ssi_pid_find(nr);
		if (pid && (pid->ssi || ssi_pid_has_tasks(pid)))
			done = ssi_pin_locked(pid, &fresh, nr, why);
		write_unlock_irq(&tasklist_lock);
		if (done)
			break;
		if (pid) {
			/* Between its last task's unhashing and free_pid(), or being born. */
			schedule_timeout_uninterruptible(1);
			continue;
		}
		/* Whoever runs here may not choose numbers; the cluster may. */
		scoped_with_kernel_creds()
			pid = alloc_pid(&init_pid_ns, &tid, 1);
		if (IS_ERR(pid)) {
			ret = PTR_ERR(pid) == -EEXIST ? 0 : PTR_ERR(pid);
			continue;
		}
		write_lock_irq(&tasklist_lock);
		done = ssi_pin_locked(pid, &fresh, nr, why);
		write_unlock_irq(&tasklist_lock);
	}
	kfree(fresh);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_pin);

/**
 * pproc_unpin() - drop reasons to keep a number; without any left it is free once no task has it
 * @nr: number in the initial pid namespace
 * @why: SSI_PIN_* to drop
 *
 * Context: may sleep.
 */
void pproc_unpin(u32 nr, u32 why)
{
	struct ssi_pvproc *gone = NULL;
	struct pid *dead = NULL;
	struct pid *pid;

	write_lock_irq(&tasklist_lock);
	pid = ssi_pid_find(nr);
	if (pid && pid->ssi) {
		pid->ssi->pins &= ~why;
		if (!pid->ssi->pins) {
			gone = pid->ssi;
			WRITE_ONCE(pid->ssi, NULL);
			ssi_event_cancel(&gone->idle);
			if (!ssi_pid_has_tasks(pid))
				dead = pid;
		}
	}
	write_unlock_irq(&tasklist_lock);
	if (dead)
		free_pid(dead);
	kfree(gone);
}
EXPORT_SYMBOL_SSI(pproc_unpin);

/**
 * pproc_poke() - queue the IDLE event of a pinned number
 * @nr: the number
 *
 * Context: process or RCU; does not sleep.
 */
void pproc_poke(u32 nr)
{
	struct pid *pid;

	read_lock(&tasklist_lock);
	pid = ssi_pid_find(nr);
	if (pid && pid->ssi)
		ssi_event_queue(&pid->ssi->idle);
	read_unlock(&tasklist_lock);
}
EXPORT_SYMBOL_SSI(pproc_poke);

/* Return: the reasons why @nr is pinned. */
u32 pproc_pins(u32 nr)
{
	struct pid *pid;
	u32 pins = 0;

	read_lock(&tasklist_lock);
	pid = ssi_pid_find(nr);
	if (pid && pid->ssi)
		pins = pid->ssi->pins;
	read_unlock(&tasklist_lock);
	return pins;
}
EXPORT_SYMBOL_SSI(pproc_pins);

/* Does a task here have that number, as a process or thread, dead or alive? */
bool pproc_has_task(u32 nr)
{
	struct pid *pid;
	bool ret;

	rcu_read_lock();
	pid = ssi_pid_find(nr);
	ret = pid && pid_has_task(pid, PIDTYPE_PID);
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_has_task);

/* As pproc_has_task(), but a process that is not yet alive here, or already gone elsewhere, does not count. */
bool pproc_exists(u32 nr)
{
	struct task_struct *task;
	struct pid *pid;
	bool ret;

	rcu_read_lock();
	pid = ssi_pid_find(nr);
	task = pid ? pid_task(pid, PIDTYPE_PID) : NULL;
	ret = task && !__ssi_hidden(task);
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_exists);

/* Return: the least number >= @from of a process here, kernel threads left out, or U32_MAX. */
u32 pproc_next_tgid(u32 from)
{
	struct task_struct *task;
	struct pid *pid;
	u32 nr = from;

	rcu_read_lock();
	for (;; nr++) {
		pid = find_ge_pid(nr, &init_pid_ns);
		if (!pid) {
			nr = U32_MAX;
			break;
		}
		nr = pid_nr(pid);
		task = pid_task(pid, PIDTYPE_TGID);
		if (task && !(task->flags & PF_KTHREAD) && !__ssi_hidden(task))
			break;
	}
	rcu_read_unlock();
	return nr;
}
EXPORT_SYMBOL_SSI(pproc_next_tgid);
