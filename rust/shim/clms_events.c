// SPDX-License-Identifier: GPL-2.0
/*
 * Tells programs of transitions and views: the netlink group "events", and SIGCLUSTER.
 */
#include <linux/export.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include "clms_nl.h"
#include "clms_nl_gen.h"
#include "shim.h"

/* A process that wants SIGCLUSTER. */
struct ssi_clms_watcher {
	struct list_head list;
	struct pid *pid;
	u64 exec_id;	/* of the program that asked: another one gets nothing */
	u32 mode;
};

/*
 * Who tells carries views out and must not wait for memory, which may have to be written to another node first.
 * A listener that misses an event for that is told so, and the history has it.
 */
#define SSI_CLMS_GFP	(GFP_NOWAIT | __GFP_NOWARN)

/* Guards all below. Held while telling; nobody waits while holding it. */
static DEFINE_MUTEX(ssi_clms_events_lock);
static LIST_HEAD(ssi_clms_watchers);
static bool ssi_clms_events_on;

void ssi_clms_events_begin(void)
{
	guard(mutex)(&ssi_clms_events_lock);
	ssi_clms_events_on = true;
}

static void ssi_clms_watcher_free(struct ssi_clms_watcher *w)
{
	list_del(&w->list);
	put_pid(w->pid);
	kfree(w);
}

void ssi_clms_events_end(void)
{
	struct ssi_clms_watcher *w, *next;

	guard(mutex)(&ssi_clms_events_lock);
	ssi_clms_events_on = false;
	list_for_each_entry_safe(w, next, &ssi_clms_watchers, list)
		ssi_clms_watcher_free(w);
}

/* Context: RCU. Return: the process, if it is here and still runs the program that asked. */
static struct task_struct *ssi_clms_watching(const struct ssi_clms_watcher *w)
{
	struct task_struct *p = pid_task(w->pid, PIDTYPE_TGID);

	return p && READ_ONCE(p->self_exec_id) == w->exec_id ? p : NULL;
}

/* Whether it would take the signal: it handles it, or a thread blocks it, to wait for it. Context: RCU. */
static bool ssi_clms_takes(struct task_struct *p)
{
	struct sighand_struct *hand = rcu_dereference(p->sighand);
	struct task_struct *t;

	if (!hand || READ_ONCE(hand->action[SSI_CLMS_SIGCLUSTER - 1].sa.sa_handler) == SIG_IGN)
		return false;
	if (READ_ONCE(hand->action[SSI_CLMS_SIGCLUSTER - 1].sa.sa_handler) != SIG_DFL)
		return true;
	for_each_thread(p, t)
		/* sigtimedwait() takes what it waits for out of the first. */
		if (sigismember(&t->blocked, SSI_CLMS_SIGCLUSTER) ||
		    sigismember(&t->real_blocked, SSI_CLMS_SIGCLUSTER))
			return true;
	return false;
}

static void ssi_clms_signal(struct task_struct *p, struct pid *pid)
{
	struct kernel_siginfo info;

	/* One that waits stands for this one too. Its taker reads the history afterwards: see the barrier. */
	if (!ssi_clms_takes(p) || sigismember(&p->signal->shared_pending.signal, SSI_CLMS_SIGCLUSTER))
		return;
	clear_siginfo(&info);
	info.si_signo = SSI_CLMS_SIGCLUSTER;
	info.si_code = SI_KERNEL;
	/* One that ends or leaves just now gets nothing. */
	pproc_signal(0, pid_nr(pid), PIDTYPE_TGID, SSI_CLMS_SIGCLUSTER, &info, 0, true);
}

static void ssi_clms_signal_all(bool simple)
{
	struct ssi_clms_watcher *w, *next;
	struct task_struct *p;

	/* The history, which has the transition, before the look at what is pending. */
	smp_mb();
	list_for_each_entry_safe(w, next, &ssi_clms_watchers, list) {
		rcu_read_lock();
		p = ssi_clms_watching(w);
		if (p && (simple || w->mode == SSI_CLMS_SIGNAL_MODE_DETAILED))
			ssi_clms_signal(p, w->pid);
		rcu_read_unlock();
		if (!p)
			ssi_clms_watcher_free(w);
	}
}

/* Sends @msg, or tells those who listen that they have missed something. */
static void ssi_clms_multicast(struct sk_buff *msg, void *head, bool complete)
{
	if (complete) {
		genlmsg_end(msg, head);
		genlmsg_multicast(&ssi_clms_family, msg, 0, SSI_CLMS_NLGRP_EVENTS, SSI_CLMS_GFP);
		return;
	}
	nlmsg_free(msg);
	genl_set_err(&ssi_clms_family, &init_net, 0, SSI_CLMS_NLGRP_EVENTS, -ENOBUFS);
}

/* Context: process. The transition is in the history. Waits for nothing but the lock. */
void ssi_clms_tell_transition(const struct ssi_clms_transition *t)
{
	struct sk_buff *msg;
	void *head;

	guard(mutex)(&ssi_clms_events_lock);
	if (!ssi_clms_events_on)
		return;
	if (genl_has_listeners(&ssi_clms_family, &init_net, SSI_CLMS_NLGRP_EVENTS)) {
		msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, SSI_CLMS_GFP);
		head = msg ? genlmsg_put(msg, 0, 0, &ssi_clms_family, 0, SSI_CLMS_CMD_TRANSITION) : NULL;
		ssi_clms_multicast(msg, head, head && !ssi_clms_put_transition(msg, t));
	}
	ssi_clms_signal_all(t->from == SSI_CLMS_NODE_STATE_UP || t->to == SSI_CLMS_NODE_STATE_UP);
}
EXPORT_SYMBOL_GPL(ssi_clms_tell_transition);

static int ssi_clms_put_view(struct sk_buff *msg, const struct ssi_clms_members *m)
{
	if (nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_VIEW, m->view, 0) ||
	    nla_put_u32(msg, SSI_CLMS_A_HISTORY_MASTER, m->master))
		return -EMSGSIZE;
	for (u32 i = 0; i < m->n_nodes; i++)
		if (nla_put_u32(msg, SSI_CLMS_A_HISTORY_UP, m->nodes[i]))
			return -EMSGSIZE;
	return 0;
}

/* Context: process. As above. */
void ssi_clms_tell_view(const struct ssi_clms_members *m)
{
	struct sk_buff *msg;
	void *head;

	guard(mutex)(&ssi_clms_events_lock);
	if (!ssi_clms_events_on || !genl_has_listeners(&ssi_clms_family, &init_net, SSI_CLMS_NLGRP_EVENTS))
		return;
	msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, SSI_CLMS_GFP);
	head = msg ? genlmsg_put(msg, 0, 0, &ssi_clms_family, 0, SSI_CLMS_CMD_VIEW) : NULL;
	ssi_clms_multicast(msg, head, head && !ssi_clms_put_view(msg, m));
}
EXPORT_SYMBOL_GPL(ssi_clms_tell_view);

/* The asking process wants the signal, or does not any more. Those that are gone are forgotten. */
int ssi_clms_nl_signal_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct ssi_clms_watcher *new, *w, *next;
	struct task_struct *p;
	u32 mode;

	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_HISTORY_SIGNAL_MODE))
		return -EINVAL;
	mode = nla_get_u32(info->attrs[SSI_CLMS_A_HISTORY_SIGNAL_MODE]);
	new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	if (!new)
		return -ENOMEM;
	new->pid = get_pid(task_tgid(current));
	new->exec_id = current->self_exec_id;
	new->mode = mode;

	guard(mutex)(&ssi_clms_events_lock);
	list_for_each_entry_safe(w, next, &ssi_clms_watchers, list) {
		rcu_read_lock();
		p = ssi_clms_watching(w);
		rcu_read_unlock();
		if (!p || w->pid == new->pid)
			ssi_clms_watcher_free(w);
	}
	list_add_tail(&new->list, &ssi_clms_watchers);
	if (mode == SSI_CLMS_SIGNAL_MODE_NONE || !ssi_clms_events_on)
		ssi_clms_watcher_free(new);
	return 0;
}
