// SPDX-License-Identifier: GPL-2.0
/*
 * Making a process vanish here and appear there: the steps that need unexported parts of the kernel.
 */
#include <linux/binfmts.h>
#include <linux/export.h>
#include <linux/fs_struct.h>
#include <linux/ipc_namespace.h>
#include <linux/nsproxy.h>
#include <linux/oom.h>
#include <linux/personality.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/resume_user_mode.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/ssi_process.h>
#include <linux/task_work.h>
#include <linux/tty.h>
#include "internal.h"

struct pid *__ssi_clone_pid(const struct kernel_clone_args *args)
{
	return args->ssi->pid;
}

/* Context: copy_process(), nobody can find @p yet. */
void __ssi_task_init(struct task_struct *p, const struct kernel_clone_args *args)
{
	p->ssi = args->ssi->move;
	p->signal->ssi = args->ssi->signal;
	args->ssi->signal = NULL;	/* freed with signal_struct from here on */
}

/**
 * pproc_vanish() - end the current process here without anybody noticing: it lives on elsewhere
 *
 * pproc_mark_moved() and pproc_detach() came before, or it never lived here. Does not return.
 */
void __noreturn pproc_vanish(void)
{
	struct task_struct *t = current;

	/* Nothing may be written to the memory, which may be shared with others. */
	t->clear_child_tid = NULL;
	t->futex.robust_list = NULL;
	t->restart_block.fn = do_no_restart_syscall;
	pproc_forget_move();
	do_exit(0);
}

/* The first thing a new process does. Returns to user mode, where ssi_user_return() parks it. */
static int ssi_immigrant(void *arg)
{
	struct ssi_move *m = arg;

	if (ssi_vproc_call(-ESHUTDOWN, arrive, m->nr, m->movement))
		pproc_vanish();
	set_notify_resume(current);
	return 0;
}

/**
 * pproc_spawn() - make the process that will become @sp->nr
 * @sp: who it is
 *
 * Context: the agent, which becomes the parent. The number is pinned. The new process takes no signals and is
 * not listed until pproc_activate(). Return: 0, -EEXIST if the number has a task, -ENOMEM, -EAGAIN.
 */
int pproc_spawn(const struct ssi_spawn *sp)
{
	struct ssi_arrival arrival = {};
	struct kernel_clone_args args = {
		.flags		= CLONE_VM | CLONE_UNTRACED,
		.fn		= ssi_immigrant,
		.umh		= 1,
		.exit_signal	= sp->exit_signal,
		.ssi		= &arrival,
	};
	struct task_struct *p;
	int ret = -ENOMEM;

	if (current != ssi_agent)
		return -EINVAL;
	arrival.signal = ssi_signal_alloc(sp->ppid);
	arrival.move = kzalloc_obj(*arrival.move, GFP_KERNEL);
	if (!arrival.signal || !arrival.move)
		goto err;
	arrival.signal->moved = true;
	arrival.signal->hidden = true;
	arrival.move->role = SSI_ROLE_ARRIVING;
	arrival.move->nr = sp->nr;
	arrival.move->movement = sp->movement;
	args.fn_arg = arrival.move;

	/* The caller's pin keeps the number; nobody else may give it a task. */
	read_lock(&tasklist_lock);
	arrival.pid = find_pid_ns(sp->nr, &init_pid_ns);
	ret = -ESRCH;
	if (arrival.pid && arrival.pid->ssi)
		ret = pid_has_task(arrival.pid, PIDTYPE_PID) ? -EEXIST : 0;
	read_unlock(&tasklist_lock);
	if (ret)
		goto err;

	p = copy_process(NULL, 0, NUMA_NO_NODE, &args);
	if (IS_ERR(p)) {
		ret = PTR_ERR(p);
		goto err;
	}
	wake_up_new_task(p);
	return 0;
err:
	ssi_signal_free(arrival.signal);
	kfree(arrival.move);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_spawn);

/* Finds or makes the struct pid of a group or session, with a count. */
static struct pid *ssi_group_pid(u32 nr)
{
	struct pid *pid;
	int ret = pproc_pin(nr, SSI_PIN_MOVE);

	if (ret)
		return ERR_PTR(ret);
	rcu_read_lock();
	pid = get_pid(find_pid_ns(nr, &init_pid_ns));
	rcu_read_unlock();
	return pid ?: ERR_PTR(-ESRCH);
}

/**
 * pproc_arrive_ids() - group, session and leadership of the current, new process
 * @sp: who it is
 *
 * Return: 0, -ENOMEM, -EINVAL.
 */
int pproc_arrive_ids(const struct ssi_spawn *sp)
{
	struct pid *pgrp, *session, *pids[PIDTYPE_MAX] = {};
	struct task_struct *t = current;

again:
	pgrp = ssi_group_pid(sp->pgid);
	if (IS_ERR(pgrp))
		return PTR_ERR(pgrp);
	session = ssi_group_pid(sp->sid);
	if (IS_ERR(session)) {
		put_pid(pgrp);
		pproc_unpin(sp->pgid, SSI_PIN_MOVE);
		return PTR_ERR(session);
	}
	write_lock_irq(&tasklist_lock);
	/* Another arrival of the same group may have dropped the pin, and then the number. */
	if (find_pid_ns(sp->pgid, &init_pid_ns) != pgrp || !pgrp->ssi ||
	    find_pid_ns(sp->sid, &init_pid_ns) != session || !session->ssi) {
		write_unlock_irq(&tasklist_lock);
		put_pid(pgrp);
		put_pid(session);
		goto again;
	}
	if (task_session(t) != session)
		change_pid(pids, t, PIDTYPE_SID, session);
	if (task_pgrp(t) != pgrp)
		change_pid(pids, t, PIDTYPE_PGID, pgrp);
	t->signal->leader = sp->session_leader;
	write_unlock_irq(&tasklist_lock);
	free_pids(pids);
	/* The task's own place in the lists keeps them now. */
	pproc_unpin(sp->pgid, SSI_PIN_MOVE);
	if (sp->sid != sp->pgid)
		pproc_unpin(sp->sid, SSI_PIN_MOVE);
	put_pid(pgrp);
	put_pid(session);
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_arrive_ids);

/**
 * pproc_leave_check() - may the current process leave this node at all?
 * @ids: its identity
 * @session_leader: whether it leads its session
 * @why: gets the cause of a refusal
 * @len: room there
 *
 * What an image cannot hold is pproc_image_check()'s. Return: 0, -EBUSY, -EXDEV, -EPERM, -EAGAIN, -EOPNOTSUPP.
 */
int pproc_leave_check(struct ssi_ids *ids, u32 *session_leader, char *why, size_t len)
{
	struct task_struct *t = current;
	struct signal_struct *sig = t->signal;
	u32 node_private = 1 << SSI_PID_SHIFT;
	bool parent_exits;

	if (t->flags & (PF_KTHREAD | PF_USER_WORKER) || is_global_init(t)) {
		snprintf(why, len, "init or kernel thread");
		return -EPERM;
	}
	if (get_nr_threads(t) != 1) {
		snprintf(why, len, "%d threads", get_nr_threads(t));
		return -EBUSY;
	}
	if (t->ptrace || !list_empty(&t->ptraced)) {
		snprintf(why, len, "traced or tracing");
		return -EBUSY;
	}
	if (task_active_pid_ns(t) != &init_pid_ns || t->nsproxy != &init_nsproxy) {
		snprintf(why, len, "namespaces of its own");
		return -EXDEV;
	}
	if (sig->flags & SIGNAL_GROUP_EXIT || sig->group_exec_task || sig->core_state) {
		snprintf(why, len, "exiting");
		return -EAGAIN;
	}
	if (t->seccomp.mode) {
		snprintf(why, len, "seccomp");
		return -EOPNOTSUPP;
	}
	if (pproc_ids(task_pid_nr(t), ids))
		return -EAGAIN;
	rcu_read_lock();
	parent_exits = rcu_dereference(t->real_parent)->flags & PF_EXITING;
	rcu_read_unlock();
	if (parent_exits) {
		snprintf(why, len, "parent exits");
		return -EAGAIN;
	}
	if (ids->tgid < node_private) {
		snprintf(why, len, "started before the node joined");
		return -EXDEV;
	}
	if (ids->pgid < node_private || ids->sid < node_private) {
		snprintf(why, len, "session %u or group %u is from before the join", ids->sid,
			 ids->pgid);
		return -EXDEV;
	}
	if (sig->leader && sig->tty) {
		snprintf(why, len, "leads the session of a terminal");
		return -EBUSY;
	}
	*session_leader = sig->leader;
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_leave_check);

static int ssi_take_pending(struct sigpending *pending, bool process, struct ssi_pending *late,
			    u32 n, u32 max)
{
	struct sigqueue *q;
	sigset_t plain = pending->signal;
	int sig;

	list_for_each_entry(q, &pending->list, list) {
		if (n == max)
			return -E2BIG;
		late[n].process = process;
		late[n].sig = q->info.si_signo;
		memcpy(late[n].info, &q->info, sizeof(late[n].info));
		sigdelset(&plain, q->info.si_signo);
		n++;
	}
	/* Those whose information was lost. */
	for (sig = 1; sig <= _NSIG; sig++) {
		struct kernel_siginfo *info;

		if (!sigismember(&plain, sig))
			continue;
		if (n == max)
			return -E2BIG;
		late[n].process = process;
		late[n].sig = sig;
		info = (struct kernel_siginfo *)late[n].info;
		memset(info, 0, sizeof(*info));
		info->si_signo = sig;
		info->si_code = SI_USER;
		n++;
	}
	return n;
}

/**
 * pproc_mark_moved() - from now on signals for the current process are forwarded
 * @late: gets those that are pending, which stay pending too
 * @max: room there
 *
 * Return: how many, -EAGAIN if the process is being killed, -E2BIG, -ENOMEM.
 */
int pproc_mark_moved(struct ssi_pending *late, u32 max)
{
	struct task_struct *t = current;
	struct ssi_signal *s = t->signal->ssi, *fresh = NULL;
	int n;

	if (!s) {
		fresh = ssi_signal_alloc(0);
		if (!fresh)
			return -ENOMEM;
		s = fresh;
	}
	spin_lock_irq(&t->sighand->siglock);
	if (t->signal->flags & SIGNAL_GROUP_EXIT || __fatal_signal_pending(t)) {
		n = -EAGAIN;
	} else {
		n = ssi_take_pending(&t->pending, false, late, 0, max);
		if (n >= 0)
			n = ssi_take_pending(&t->signal->shared_pending, true, late, n, max);
	}
	if (n >= 0) {
		WRITE_ONCE(t->signal->ssi, s);
		fresh = NULL;
		s->moved = true;
	}
	spin_unlock_irq(&t->sighand->siglock);
	ssi_signal_free(fresh);
	return n;
}
EXPORT_SYMBOL_SSI(pproc_mark_moved);

/* The movement will not be: signals are for the current process again. Forwarded ones come back by themselves. */
void pproc_unmark_moved(void)
{
	struct task_struct *t = current;

	spin_lock_irq(&t->sighand->siglock);
	t->signal->ssi->moved = false;
	t->signal->ssi->hidden = false;
	spin_unlock_irq(&t->sighand->siglock);
}
EXPORT_SYMBOL_SSI(pproc_unmark_moved);

/**
 * pproc_children() - the children here of the current process
 * @nrs: their numbers
 * @pgids: their groups
 * @max: room in each
 *
 * Return: how many, or -E2BIG.
 */
int pproc_children(u32 *nrs, u32 *pgids, u32 max)
{
	struct task_struct *p;
	int n = 0;

	read_lock(&tasklist_lock);
	list_for_each_entry(p, &current->children, sibling) {
		if (n == max) {
			n = -E2BIG;
			break;
		}
		nrs[n] = task_tgid_nr(p);
		pgids[n] = task_pgrp_nr(p);
		n++;
	}
	read_unlock(&tasklist_lock);
	return n;
}
EXPORT_SYMBOL_SSI(pproc_children);

/**
 * pproc_detach() - let go of everything that would notice the end of the current process here
 *
 * Children become the agent's, so does the process itself; terminal and session leadership go without effect.
 * Return: 0 or -ENOMEM, after which nothing is changed.
 */
int pproc_detach(void)
{
	struct task_struct *t = current, *p, *n, *thread;
	struct ssi_signal *fresh;
	struct tty_struct *tty;
	LIST_HEAD(dead);

prepare:
	/* Each child will need to know its parent. */
	read_lock(&tasklist_lock);
again:
	list_for_each_entry(p, &t->children, sibling) {
		if (p->signal->ssi)
			continue;
		get_task_struct(p);
		read_unlock(&tasklist_lock);
		fresh = ssi_signal_alloc(0);
		if (fresh && cmpxchg(&p->signal->ssi, NULL, fresh))
			ssi_signal_free(fresh);
		put_task_struct(p);
		if (!fresh)
			return -ENOMEM;
		read_lock(&tasklist_lock);
		goto again;
	}
	read_unlock(&tasklist_lock);

	write_lock_irq(&tasklist_lock);
	/* A child may have made another one for us (CLONE_PARENT), or left us an orphan. */
	list_for_each_entry(p, &t->children, sibling) {
		if (p->signal->ssi)
			continue;
		write_unlock_irq(&tasklist_lock);
		goto prepare;
	}
	list_for_each_entry_safe(p, n, &t->children, sibling) {
		p->signal->ssi->ppid = task_tgid_nr(t);
		for_each_thread(p, thread) {
			RCU_INIT_POINTER(thread->real_parent, ssi_agent);
			if (likely(!thread->ptrace))
				thread->parent = ssi_agent;
		}
		list_move_tail(&p->sibling, &ssi_agent->children);
		if (p->exit_state == EXIT_ZOMBIE && thread_group_empty(p) && !p->ptrace) {
			ssi_notify_exit(p);
			p->exit_state = EXIT_DEAD;
			list_add(&p->ptrace_entry, &dead);
		}
	}
	RCU_INIT_POINTER(t->real_parent, ssi_agent);
	t->parent = ssi_agent;
	list_move_tail(&t->sibling, &ssi_agent->children);
	t->signal->leader = 0;
	tty = t->signal->tty;
	t->signal->tty = NULL;
	WRITE_ONCE(t->signal->ssi->hidden, true);
	write_unlock_irq(&tasklist_lock);

	tty_kref_put(tty);
	list_for_each_entry_safe(p, n, &dead, ptrace_entry) {
		list_del_init(&p->ptrace_entry);
		release_task(p);
	}
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_detach);

/**
 * pproc_activate() - the parked process @nr is the one that lives
 * @nr: its number
 * @local_parent: its parent's number if that is here, else 0
 *
 * It is listed, takes signals and is its parent's child from now on. Return: 1 if that parent is here and has it, 0 if
 * its parent is elsewhere or exits, or -ESRCH.
 */
int pproc_activate(u32 nr, u32 local_parent)
{
	struct task_struct *p, *parent;
	struct sighand_struct *sighand;
	int ret = 0;

	write_lock_irq(&tasklist_lock);
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_TGID);
	if (!p || p->exit_state || !p->signal->ssi) {
		write_unlock_irq(&tasklist_lock);
		return -ESRCH;
	}
	parent = local_parent ? pid_task(find_pid_ns(local_parent, &init_pid_ns), PIDTYPE_TGID) :
		 NULL;
	/* One that is on its way from or to here has its children recorded where it lives. */
	if (parent && !(parent->flags & PF_EXITING) && !__ssi_hidden(parent)) {
		ret = 1;
		RCU_INIT_POINTER(p->real_parent, parent);
		if (likely(!p->ptrace))
			p->parent = parent;
		p->parent_exec_id = READ_ONCE(parent->self_exec_id);
		list_move_tail(&p->sibling, &parent->children);
	}
	sighand = p->sighand;
	spin_lock(&sighand->siglock);
	p->signal->ssi->moved = false;
	p->signal->ssi->hidden = false;
	spin_unlock(&sighand->siglock);
	write_unlock_irq(&tasklist_lock);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_activate);

static void ssi_kick(struct callback_head *work)
{
	kfree(work);
	set_notify_resume(current);
}

/**
 * pproc_request_move() - have a process caught before it next enters user mode
 * @nr: its number
 * @movement: the movement, which pproc_current_move() will tell
 *
 * Return: 0, -ESRCH, -EBUSY if a movement of it is under way, -ENOMEM.
 */
int pproc_request_move(u32 nr, u64 movement)
{
	struct callback_head *kick = kzalloc_obj(*kick, GFP_KERNEL);
	struct ssi_move *m = kzalloc_obj(*m, GFP_KERNEL);
	struct task_struct *p;
	int ret = -ENOMEM;

	if (!kick || !m)
		goto err;
	m->role = SSI_ROLE_LEAVING;
	m->nr = nr;
	m->movement = movement;
	init_task_work(kick, ssi_kick);
	rcu_read_lock();
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_TGID);
	if (p)
		get_task_struct(p);
	rcu_read_unlock();
	ret = -ESRCH;
	if (!p)
		goto err;
	m->exec_id = READ_ONCE(p->self_exec_id);
	ret = cmpxchg(&p->ssi, NULL, m) ? -EBUSY : 0;
	if (!ret) {
		m = NULL;
		ret = task_work_add(p, kick, TWA_SIGNAL);
		if (!ret)
			kick = NULL;
		else		/* exiting: nobody will look at p->ssi but its end */
			m = xchg(&p->ssi, NULL);
	}
	put_task_struct(p);
err:
	kfree(kick);
	kfree(m);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_request_move);

/* The current task's movement is over. */
void pproc_forget_move(void)
{
	kfree(xchg(&current->ssi, NULL));
}
EXPORT_SYMBOL_SSI(pproc_forget_move);

/* Return: whether the current task runs another program than when it was asked to leave. */
bool pproc_has_execed(void)
{
	struct ssi_move *m = READ_ONCE(current->ssi);

	return m && m->role == SSI_ROLE_LEAVING && m->exec_id != current->self_exec_id;
}
EXPORT_SYMBOL_SSI(pproc_has_execed);

/* Return: the current task's movement and its role in it. */
u64 pproc_current_move(u32 *role)
{
	struct ssi_move *m = READ_ONCE(current->ssi);

	*role = m ? m->role : 0;
	return m ? m->movement : 0;
}
EXPORT_SYMBOL_SSI(pproc_current_move);

/**
 * pproc_exec_capture() - what the current process keeps over an exec
 * @st: filled in
 */
void pproc_exec_capture(struct ssi_exec_state *st)
{
	struct task_struct *t = current;
	int sig;

	BUILD_BUG_ON(SSI_NLIMITS != RLIM_NLIMITS);
	memset(st, 0, sizeof(*st));
	spin_lock_irq(&t->sighand->siglock);
	st->blocked = t->blocked.sig[0];
	for (sig = 1; sig <= _NSIG; sig++)
		if (t->sighand->action[sig - 1].sa.sa_handler == SIG_IGN)
			st->ignored |= 1ULL << (sig - 1);
	spin_unlock_irq(&t->sighand->siglock);
	task_lock(t);
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		st->limits[i][0] = t->signal->rlim[i].rlim_cur;
		st->limits[i][1] = t->signal->rlim[i].rlim_max;
	}
	task_unlock(t);
	st->nice = task_nice(t);
	st->personality = t->personality;
	st->oom_score_adj = t->signal->oom_score_adj;
	st->ctx_node = t->ssi_ctx_node;
	st->timer_slack_ns = t->timer_slack_ns;
	st->utime_ns = t->utime + t->signal->utime;
	st->stime_ns = t->stime + t->signal->stime;
}
EXPORT_SYMBOL_SSI(pproc_exec_capture);

/**
 * pproc_exec_restore() - give the current, new process what it keeps over an exec
 * @st: from pproc_exec_capture() on another node
 *
 * Return: 0 or -EINVAL for what no process can have.
 */
int pproc_exec_restore(const struct ssi_exec_state *st)
{
	struct task_struct *t = current;
	sigset_t blocked;
	int sig;

	if (st->nice < MIN_NICE || st->nice > MAX_NICE || st->oom_score_adj < OOM_SCORE_ADJ_MIN ||
	    st->oom_score_adj > OOM_SCORE_ADJ_MAX)
		return -EINVAL;
	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (st->limits[i][0] > st->limits[i][1])
			return -EINVAL;
	blocked.sig[0] = st->blocked;
	set_current_blocked(&blocked);
	spin_lock_irq(&t->sighand->siglock);
	for (sig = 1; sig <= _NSIG; sig++)
		t->sighand->action[sig - 1].sa.sa_handler =
			st->ignored & (1ULL << (sig - 1)) && !sig_kernel_only(sig) ? SIG_IGN :
			SIG_DFL;
	spin_unlock_irq(&t->sighand->siglock);
	task_lock(t);
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		t->signal->rlim[i].rlim_cur = st->limits[i][0];
		t->signal->rlim[i].rlim_max = st->limits[i][1];
	}
	task_unlock(t);
	set_user_nice(t, st->nice);
	t->personality = st->personality;
	t->signal->oom_score_adj = st->oom_score_adj;
	t->ssi_ctx_node = st->ctx_node;
	t->timer_slack_ns = st->timer_slack_ns;
	t->signal->utime = st->utime_ns;
	t->signal->stime = st->stime_ns;
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_exec_restore);

/**
 * pproc_execve() - run a program in the current, new process
 * @path: program
 * @args: @argc arguments, then @envc environment strings, each ended by 0
 * @len: bytes of @args
 *
 * Return: 0, then the process goes to user mode, or what exec gives; -EINVAL for torn strings.
 */
int pproc_execve(const char *path, const char *args, size_t len, u32 argc, u32 envc)
{
	const char **v;
	size_t at = 0;
	int ret = -EINVAL;

	if (argc > len || envc > len)
		return -EINVAL;
	v = kvcalloc((size_t)argc + envc + 2, sizeof(*v), GFP_KERNEL);
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < (size_t)argc + envc; i++) {
		size_t n = strnlen(args + at, len - at);

		if (at + n >= len)
			goto out;
		v[i < argc ? i : i + 1] = args + at;
		at += n + 1;
	}
	ret = kernel_execve(path, v, v + argc + 1);
out:
	kvfree(v);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_execve);
