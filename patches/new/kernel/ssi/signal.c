// SPDX-License-Identifier: GPL-2.0
/*
 * Signals from and to other nodes.
 */
#include <linux/export.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/ssi_signal.h>
#include "internal.h"

static_assert(sizeof(struct kernel_siginfo) == sizeof_field(struct ssi_event, info));

/*
 * A signal for a process whose image is complete: forwarded, never queued here.
 * Context: siglock held, interrupts off.
 */
int ssi_signal_moved(int sig, struct kernel_siginfo *info, struct task_struct *t,
		     enum pid_type type)
{
	struct ssi_event_node *n = kzalloc_obj(*n, GFP_ATOMIC);
	struct kernel_siginfo *to;

	if (!n)
		return -EAGAIN;
	INIT_LIST_HEAD(&n->list);
	n->ev.kind = SSI_EVENT_SIGNAL;
	n->ev.nr = type == PIDTYPE_PID ? task_pid_nr(t) : task_tgid_nr(t);
	n->ev.sig = sig;
	n->ev.type = type;
	to = (struct kernel_siginfo *)n->ev.info;
	if (info == SEND_SIG_NOINFO) {
		to->si_signo = sig;
		to->si_code = SI_USER;
		to->si_pid = task_tgid_nr(current);
		to->si_uid = from_kuid_munged(&init_user_ns, current_uid());
	} else if (info == SEND_SIG_PRIV) {
		to->si_signo = sig;
		to->si_code = SI_KERNEL;
	} else {
		copy_siginfo(to, info);
	}
	ssi_event_queue(n);
	return 0;
}

/*
 * A kernel-sent signal for a process group that may have members elsewhere: ^C, SIGWINCH, SIGHUP.
 * Context: any. Return: @ret, or 0 if the group had no member here.
 */
int __ssi_kill_pgrp(struct pid *pgrp, int sig, int ret)
{
	struct ssi_event_node *n;

	if (!pgrp || !READ_ONCE(pgrp->ssi))
		return ret;
	n = kzalloc_obj(*n, GFP_ATOMIC);
	if (!n)
		return ret;
	INIT_LIST_HEAD(&n->list);
	n->ev.kind = SSI_EVENT_PGRP;
	n->ev.nr = pid_nr(pgrp);
	n->ev.sig = sig;
	ssi_event_queue(n);
	return ret == -ESRCH ? 0 : ret;
}

/**
 * pproc_signal() - signal a process or thread here, for a sender elsewhere
 * @tgid: the thread's process as the sender believes, or 0
 * @nr: the number
 * @type: enum pid_type
 * @sig: signal, 0 only tests
 * @info: struct kernel_siginfo of the sender
 * @sender_sid: the sender's session, for SIGCONT
 * @force: the kernel sends: no permission needed
 *
 * Judged with the current credentials. Return: 0, -ESRCH, -EPERM, -EINVAL, -EAGAIN.
 */
int pproc_signal(u32 tgid, u32 nr, u32 type, s32 sig, const void *info, u32 sender_sid, bool force)
{
	struct kernel_siginfo si;
	struct task_struct *p;
	int ret = -ESRCH;

	if (sig < 0 || !valid_signal(sig))
		return -EINVAL;
	memcpy(&si, info, sizeof(si));
	rcu_read_lock();
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_PID);
	if (p && (!tgid || task_tgid_nr(p) == tgid)) {
		if (sig == SIGCONT && sender_sid &&
		    task_session_nr_ns(p, &init_pid_ns) == sender_sid)
			force = true;
		if (force)
			ret = sig ? do_send_sig_info(sig, &si, p, type) : 0;
		else
			ret = group_send_sig_info(sig, &si, p, type);
	}
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_signal);

/**
 * pproc_signal_pgrp() - a signal from the kernel for the members here of a group
 * @pgid: the group
 * @sig: signal
 *
 * Return: 0 if there was a member, else -ESRCH.
 */
int pproc_signal_pgrp(u32 pgid, s32 sig)
{
	struct pid *pid;
	int ret = -ESRCH;

	read_lock(&tasklist_lock);
	pid = find_pid_ns(pgid, &init_pid_ns);
	if (pid)
		ret = __kill_pgrp_info(sig, SEND_SIG_PRIV, pid);
	read_unlock(&tasklist_lock);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_signal_pgrp);

/* Return: as group_send_sig_info(), without a permission check for SIGCONT within the sender's session. */
static int ssi_signal_member(struct task_struct *p, s32 sig, struct kernel_siginfo *info,
			     u32 sender_sid, enum pid_type type)
{
	if (sig == SIGCONT && sender_sid && task_session_nr_ns(p, &init_pid_ns) == sender_sid)
		return do_send_sig_info(sig, info, p, type);
	return group_send_sig_info(sig, info, p, type);
}

static void ssi_signal_count(struct ssi_signalled *n, int ret)
{
	if (!ret)
		n->sent++;
	else if (ret == -EPERM)
		n->refused++;
	else
		n->error = ret;
}

/**
 * pproc_signal_many() - signal the members here of a group, or everybody, for a sender elsewhere
 * @pgid: the group, or 0 for every process here but init
 * @sig: signal, 0 only tests
 * @info: struct kernel_siginfo of the sender
 * @sender_sid: the sender's session, for SIGCONT
 * @n: filled in
 *
 * Judged with the current credentials. Those that are not alive here are left out. Source: kill_something_info().
 * Return: 0 or -EINVAL.
 */
int pproc_signal_many(u32 pgid, s32 sig, const void *info, u32 sender_sid,
		      struct ssi_signalled *n)
{
	struct kernel_siginfo si;
	struct task_struct *p;
	struct pid *pid;

	memset(n, 0, sizeof(*n));
	if (sig < 0 || !valid_signal(sig))
		return -EINVAL;
	memcpy(&si, info, sizeof(si));
	read_lock(&tasklist_lock);
	if (pgid) {
		pid = find_pid_ns(pgid, &init_pid_ns);
		if (pid) {
			do_each_pid_task(pid, PIDTYPE_PGID, p) {
				if (!__ssi_hidden(p))
					ssi_signal_count(n, ssi_signal_member(p, sig, &si, sender_sid,
									      PIDTYPE_PGID));
			} while_each_pid_task(pid, PIDTYPE_PGID, p);
		}
	} else {
		for_each_process(p) {
			if (is_global_init(p) || p->flags & PF_KTHREAD || __ssi_hidden(p))
				continue;
			ssi_signal_count(n, ssi_signal_member(p, sig, &si, sender_sid,
							      PIDTYPE_MAX));
		}
	}
	read_unlock(&tasklist_lock);
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_signal_many);
