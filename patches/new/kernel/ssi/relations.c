// SPDX-License-Identifier: GPL-2.0
/*
 * Parents, children, exit and wait across nodes.
 */
#include <linux/export.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <uapi/linux/wait.h>
#include "../exit.h"
#include "internal.h"

struct ssi_signal *ssi_signal_alloc(u32 ppid)
{
	struct ssi_signal *s = kzalloc_obj(*s, GFP_KERNEL);

	if (!s)
		return NULL;
	s->exit = kzalloc_obj(*s->exit, GFP_KERNEL);
	if (!s->exit) {
		kfree(s);
		return NULL;
	}
	INIT_LIST_HEAD(&s->exit->list);
	s->ppid = ppid;
	return s;
}

void ssi_signal_free(struct ssi_signal *s)
{
	if (!s)
		return;
	kfree(s->exit);
	kfree(s);
}

void __ssi_free_signal(struct signal_struct *sig)
{
	ssi_signal_free(sig->ssi);
}

bool __ssi_moved(const struct task_struct *tsk)
{
	const struct ssi_signal *s = READ_ONCE(tsk->signal->ssi);

	return s && READ_ONCE(s->moved);
}

bool __ssi_hidden(const struct task_struct *tsk)
{
	const struct ssi_signal *s = READ_ONCE(tsk->signal->ssi);

	return s && READ_ONCE(s->hidden);
}

pid_t __ssi_ppid(const struct task_struct *tsk)
{
	const struct ssi_signal *s = READ_ONCE(tsk->signal->ssi);

	pid_t ppid;

	if (!s || rcu_access_pointer(tsk->real_parent) != ssi_agent)
		return 0;
	ppid = READ_ONCE(s->ppid);
	/* Init is 1 on every node. */
	return (ppid & ((1 << SSI_PID_SHIFT) - 1)) == 1 ? 1 : ppid;
}

/* Context: sleeps. */
void __ssi_exit(struct task_struct *tsk)
{
	const struct ssi_vproc_ops *ops;
	int idx;

	if (tsk->ssi)
		pproc_forget_move();
	if (!READ_ONCE(task_tgid(tsk)->ssi) || __ssi_moved(tsk))
		return;
	idx = srcu_read_lock(&ssi_srcu);
	ops = srcu_dereference(ssi_vproc_ops, &ssi_srcu);
	if (ops)
		ops->exit(task_tgid_nr(tsk));
	srcu_read_unlock(&ssi_srcu, idx);
}

/*
 * Context: tasklist_lock held for writing, interrupts off; @tsk's parent is the agent.
 * Return: true, the process reaps itself here: its zombie is a record on its parent's node.
 */
bool ssi_notify_exit(struct task_struct *tsk)
{
	struct signal_struct *sig = tsk->signal;
	struct ssi_signal *s = sig->ssi;
	struct ssi_event_node *n;
	u64 utime, stime;

	if (!s || s->moved || !s->exit)
		return true;
	do_notify_pidfd(tsk);
	n = s->exit;
	s->exit = NULL;
	task_cputime(tsk, &utime, &stime);
	n->ev.kind = SSI_EVENT_EXIT;
	n->ev.nr = task_tgid_nr(tsk);
	n->ev.ppid = s->ppid;
	n->ev.status = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : tsk->exit_code;
	n->ev.uid = from_kuid_munged(&init_user_ns, task_uid(tsk));
	n->ev.exit_signal = tsk->exit_signal;
	n->ev.utime_ns = utime + sig->utime + sig->cutime;
	n->ev.stime_ns = stime + sig->stime + sig->cstime;
	n->ev.min_flt = tsk->min_flt + sig->min_flt + sig->cmin_flt;
	n->ev.maj_flt = tsk->maj_flt + sig->maj_flt + sig->cmaj_flt;
	n->ev.maxrss_kib = max(sig->maxrss, sig->cmaxrss) << (PAGE_SHIFT - 10);
	ssi_event_queue(n);
	return true;
}

/*
 * Looks among the children on other nodes. Context: current is TASK_INTERRUPTIBLE, no lock held.
 * Return: the number reaped, or 0; clears @wo->notask_error if one may match later.
 */
long __ssi_do_wait(struct wait_opts *wo)
{
	struct signal_struct *sig = current->signal;
	const struct ssi_vproc_ops *ops;
	struct ssi_wait w = {};
	int status;

	if (!READ_ONCE(task_tgid(current)->ssi))
		return 0;
	w.type = wo->wo_type;
	w.nr = wo->wo_pid ? pid_nr(wo->wo_pid) : 0;
	w.options = wo->wo_flags;
	rcu_read_lock();
	ops = rcu_dereference(ssi_vproc_ops);
	if (ops)
		ops->wait(task_tgid_nr(current), &w);
	rcu_read_unlock();
	if (w.eligible)
		wo->notask_error = 0;
	if (!w.pid)
		return 0;

	__set_current_state(TASK_RUNNING);
	if (!(wo->wo_flags & WNOWAIT)) {
		unsigned long flags;

		write_seqlock_irqsave(&sig->stats_lock, flags);
		sig->cutime += w.utime_ns;
		sig->cstime += w.stime_ns;
		sig->cmin_flt += w.min_flt;
		sig->cmaj_flt += w.maj_flt;
		sig->cmaxrss = max_t(unsigned long, sig->cmaxrss,
				     w.maxrss_kib >> (PAGE_SHIFT - 10));
		write_sequnlock_irqrestore(&sig->stats_lock, flags);
	}
	if (wo->wo_rusage) {
		memset(wo->wo_rusage, 0, sizeof(*wo->wo_rusage));
		wo->wo_rusage->ru_utime = ns_to_kernel_old_timeval(w.utime_ns);
		wo->wo_rusage->ru_stime = ns_to_kernel_old_timeval(w.stime_ns);
		wo->wo_rusage->ru_minflt = w.min_flt;
		wo->wo_rusage->ru_majflt = w.maj_flt;
		wo->wo_rusage->ru_maxrss = w.maxrss_kib;
	}
	status = w.status;
	wo->wo_stat = status;
	if (wo->wo_info) {
		if (!(status & 0x7f)) {
			wo->wo_info->cause = CLD_EXITED;
			wo->wo_info->status = status >> 8;
		} else {
			wo->wo_info->cause = status & 0x80 ? CLD_DUMPED : CLD_KILLED;
			wo->wo_info->status = status & 0x7f;
		}
		wo->wo_info->pid = w.pid;
		wo->wo_info->uid = w.uid;
	}
	return w.pid;
}

/**
 * pproc_child_event() - tell a parent here that a child on another node died
 * @parent: the parent's number, as it is here
 * @ev: the EXIT event
 * @ignored: set if the parent does not want to wait for children
 *
 * Source: do_notify_parent(). Context: may sleep.
 */
void pproc_child_event(u32 parent, const struct ssi_event *ev, bool *ignored)
{
	struct kernel_siginfo info;
	struct task_struct *p;
	struct sighand_struct *psig;
	unsigned long flags;
	int sig = ev->exit_signal;

	*ignored = true;		/* no parent: nobody will wait */
	clear_siginfo(&info);
	info.si_signo = sig;
	info.si_pid = ev->nr;
	info.si_uid = ev->uid;
	info.si_utime = nsec_to_clock_t(ev->utime_ns);
	info.si_stime = nsec_to_clock_t(ev->stime_ns);
	info.si_status = ev->status & 0x7f;
	if (ev->status & 0x80) {
		info.si_code = CLD_DUMPED;
	} else if (ev->status & 0x7f) {
		info.si_code = CLD_KILLED;
	} else {
		info.si_code = CLD_EXITED;
		info.si_status = ev->status >> 8;
	}

	read_lock(&tasklist_lock);
	p = pid_task(find_pid_ns(parent, &init_pid_ns), PIDTYPE_TGID);
	if (p && lock_task_sighand(p, &flags)) {
		psig = p->sighand;
		*ignored = false;
		if (sig == SIGCHLD &&
		    (psig->action[SIGCHLD - 1].sa.sa_handler == SIG_IGN ||
		     (psig->action[SIGCHLD - 1].sa.sa_flags & SA_NOCLDWAIT))) {
			*ignored = true;
			if (psig->action[SIGCHLD - 1].sa.sa_handler == SIG_IGN)
				sig = 0;
		}
		if (sig > 0 && valid_signal(sig))
			send_signal_locked(sig, &info, p, PIDTYPE_TGID);
		unlock_task_sighand(p, &flags);
	}
	read_unlock(&tasklist_lock);
}
EXPORT_SYMBOL_SSI(pproc_child_event);

/**
 * pproc_wake_waiters() - make a process here look at its children again
 * @parent: its number
 */
void pproc_wake_waiters(u32 parent)
{
	struct task_struct *p;

	read_lock(&tasklist_lock);
	p = pid_task(find_pid_ns(parent, &init_pid_ns), PIDTYPE_TGID);
	if (p)
		__wake_up_sync_key(&p->signal->wait_chldexit, TASK_INTERRUPTIBLE, NULL);
	read_unlock(&tasklist_lock);
}
EXPORT_SYMBOL_SSI(pproc_wake_waiters);

/**
 * pproc_reparent_to_init() - the parent elsewhere is gone: init of this node takes over
 * @nr: the child's number
 *
 * Return: 0, -ESRCH if it is not here or its parent is.
 */
int pproc_reparent_to_init(u32 nr)
{
	struct task_struct *p, *t, *init = init_pid_ns.child_reaper;
	int ret = -ESRCH;

	write_lock_irq(&tasklist_lock);
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_TGID);
	if (p && p->real_parent == ssi_agent && !p->exit_state && !__ssi_hidden(p)) {
		for_each_thread(p, t) {
			RCU_INIT_POINTER(t->real_parent, init);
			if (likely(!t->ptrace))
				t->parent = init;
			if (t->pdeath_signal)
				group_send_sig_info(t->pdeath_signal, SEND_SIG_NOINFO, t,
						    PIDTYPE_TGID);
		}
		p->exit_signal = SIGCHLD;
		list_move_tail(&p->sibling, &init->children);
		ret = 0;
	}
	write_unlock_irq(&tasklist_lock);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_reparent_to_init);

/**
 * pproc_ids() - identity of a process or thread here
 * @nr: its number
 * @ids: filled in
 *
 * Return: 0 or -ESRCH.
 */
int pproc_ids(u32 nr, struct ssi_ids *ids)
{
	struct task_struct *p;
	int ret = -ESRCH;

	read_lock(&tasklist_lock);
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_PID);
	if (p) {
		ids->tgid = task_tgid_nr(p);
		ids->ppid = p->real_parent == ssi_agent && p->signal->ssi ? p->signal->ssi->ppid :
			    task_tgid_nr(p->real_parent);
		ids->pgid = task_pgrp_nr(p);
		ids->sid = task_session_nr_ns(p, &init_pid_ns);
		ids->uid = from_kuid_munged(&init_user_ns, task_uid(p));
		ids->exit_signal = p->exit_signal;
		ids->nr_threads = get_nr_threads(p);
		ids->remote_parent = p->real_parent == ssi_agent;
		ret = 0;
	}
	read_unlock(&tasklist_lock);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_ids);
