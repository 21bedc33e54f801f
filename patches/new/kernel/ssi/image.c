// SPDX-License-Identifier: GPL-2.0
/*
 * Image of the current process but for its memory: what is refused, what is taken, how it is given back.
 *
 * The process has one thread, the current one, which is about to enter user mode. Pending signals are not in the
 * image: pproc_mark_moved() takes them once no more can come. Neither are files and credentials.
 */
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/fdtable.h>
#include <linux/fs_struct.h>
#include <linux/futex.h>
#include <linux/ioprio.h>
#include <linux/mm.h>
#include <linux/nsproxy.h>
#include <linux/oom.h>
#include <linux/perf_event.h>
#include <linux/personality.h>
#include <linux/pid_namespace.h>
#include <linux/posix-timers.h>
#include <linux/ptrace.h>
#include <linux/resource.h>
#include <linux/restart_block.h>
#include <linux/rseq.h>
#include <linux/sched.h>
#include <linux/sched/coredump.h>
#include <linux/sched/cputime.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/mm.h>
#include <linux/sched/prio.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/slab.h>
#include <linux/ssi_image.h>
#include <linux/thread_info.h>
#include <linux/timekeeping.h>
#include <linux/user_namespace.h>
#include <uapi/linux/rseq.h>
#include <uapi/linux/sched/types.h>
#include "../futex/futex.h"
#include "internal.h"
#include "timers.h"

#define SSI_TASK_MAGIC		0x4b544953	/* "SITK" */
#define SSI_TASK_VERSION	2

enum ssi_restart_kind {
	SSI_RESTART_NONE,
	SSI_RESTART_NANOSLEEP,
	SSI_RESTART_POLL,
	SSI_RESTART_FUTEX,
};

/* How to go on with an interrupted sleep. Times are what remains, but for @absolute ones. */
struct ssi_restart_image {
	u32 kind;
	u32 clock;			/* nanosleep */
	u32 type;			/* nanosleep: enum timespec_type */
	u32 has_timeout;		/* poll, futex */
	u32 absolute;			/* futex: against CLOCK_REALTIME */
	u32 n;				/* poll: descriptors; futex: value */
	u32 flags;			/* futex */
	u32 bitset;			/* futex */
	u64 addr;			/* rmtp, ufds, uaddr */
	s64 time_ns;
};

struct ssi_action_image {
	u64 handler;
	u64 flags;
	u64 restorer;
	u64 mask;
};

/* The task: this, @n_timers timers, @arch_len bytes of the processor's. */
struct ssi_task_image {
	u32 magic;
	u32 version;
	u32 len;
	u32 n_timers;
	u32 arch_len;
	u32 personality;
	char comm[TASK_COMM_LEN];
	struct ssi_action_image actions[_NSIG];
	u64 blocked;
	u64 altstack;
	u64 altstack_size;
	u64 clear_child_tid;
	u64 robust_list;
	u64 rseq;
	u32 rseq_len;
	u32 rseq_sig;
	u32 rseq_version;
	u32 rseq_user_irq;
	u32 rseq_cpu_id, rseq_node_id, rseq_mm_cid;
	u32 altstack_flags;
	s32 pdeath_signal;
	u32 dumpable;
	u32 subreaper;
	s32 nice;
	u32 policy;
	u32 rt_priority;
	u32 reset_on_fork;
	u32 ioprio;			/* 0: none of its own */
	s32 oom_score_adj;
	s32 oom_score_adj_min;
	u32 ctx_node;
	u32 place;
	u64 timer_slack_ns;
	u64 default_timer_slack_ns;
	u64 age_ns;
	u64 utime_ns, stime_ns, cutime_ns, cstime_ns;
	u64 min_flt, maj_flt, cmin_flt, cmaj_flt;
	u64 nvcsw, nivcsw, cnvcsw, cnivcsw;
	u64 maxrss, cmaxrss;
	u64 limits[SSI_NLIMITS][2];
	struct ssi_restart_image restart;
};

static_assert(_NSIG == 64 && SSI_NLIMITS == RLIM_NLIMITS);

/* ---------------------------------------------------------------------------------------------- */
/* What cannot move.                                                                              */

static int ssi_refuse(int err, const char *cause, char *why, size_t len)
{
	snprintf(why, len, "%s", cause);
	return err;
}

/* Others look at a process for a moment, as /proc does; that is no reason to refuse it. */
#define SSI_SHARED_TRIES	50
static bool ssi_memory_shared(void)
{
	for (int i = 0; i < SSI_SHARED_TRIES; i++) {
		if (atomic_read(&current->mm->mm_users) == 1)
			return false;
		fsleep(200);
	}
	return true;
}

static int ssi_check_sharing(char *why, size_t len)
{
	struct task_struct *t = current;

	if (ssi_memory_shared())
		return ssi_refuse(-EBUSY, "memory shared with another process", why, len);
	if (refcount_read(&t->sighand->count) != 1)
		return ssi_refuse(-EBUSY, "signal handlers shared with another process", why, len);
	if (t->fs->users != 1)
		return ssi_refuse(-EBUSY, "working directory shared with another process", why, len);
	if (atomic_read(&t->files->count) != 1)
		return ssi_refuse(-EBUSY, "descriptors shared with another process", why, len);
	return 0;
}

static bool ssi_has_perf(const struct task_struct *t)
{
#ifdef CONFIG_PERF_EVENTS
	return !list_empty(&t->perf_event_list) ||
	       (t->perf_event_ctxp && t->perf_event_ctxp->nr_events);
#else
	return false;
#endif
}

static enum ssi_restart_kind ssi_restart_kind(const struct restart_block *r)
{
	if (r->fn == hrtimer_nanosleep_restart)
		return SSI_RESTART_NANOSLEEP;
	if (r->fn == do_restart_poll)
		return SSI_RESTART_POLL;
	if (r->fn == futex_wait_restart)
		return SSI_RESTART_FUTEX;
	return SSI_RESTART_NONE;
}

/**
 * pproc_image_check() - can an image of the current process be taken, and does it mean anything elsewhere?
 * @why: gets the cause of a refusal
 * @len: room there
 *
 * Files are not looked at, but for those that are mapped. Changes nothing. Context: the process, about to enter user
 * mode; sleeps. Return: 0, or why not: -EBUSY, -EOPNOTSUPP, -EXDEV, -EPERM, -EAGAIN, -ESTALE.
 */
int pproc_image_check(char *why, size_t len)
{
	struct task_struct *t = current;
	struct signal_struct *sig = t->signal;
	int ret;

	if (t->flags & PF_KTHREAD || is_global_init(t) || !t->mm)
		return ssi_refuse(-EPERM, "init or kernel thread", why, len);
	if (t->flags & PF_USER_WORKER)
		return ssi_refuse(-EXDEV, "worker of the kernel", why, len);
	if (get_nr_threads(t) != 1)
		return ssi_refuse(-EBUSY, "threads", why, len);
	if (t->ptrace)
		return ssi_refuse(-EBUSY, "traced", why, len);
	if (!list_empty(&t->ptraced))
		return ssi_refuse(-EBUSY, "traces another process", why, len);
	if (t->vfork_done)
		return ssi_refuse(-EBUSY, "parent waits in vfork", why, len);
	if (task_active_pid_ns(t) != &init_pid_ns || t->nsproxy != &init_nsproxy ||
	    current_user_ns() != &init_user_ns)
		return ssi_refuse(-EXDEV, "namespace of its own", why, len);
	if (sig->flags & SIGNAL_GROUP_EXIT || sig->group_exec_task || sig->core_state)
		return ssi_refuse(-EAGAIN, "exiting", why, len);
	if (sig->flags & SIGNAL_STOP_STOPPED || sig->group_stop_count ||
	    t->jobctl & JOBCTL_PENDING_MASK)
		return ssi_refuse(-EBUSY, "stopped", why, len);
#ifdef CONFIG_IO_URING
	if (t->io_uring)
		return ssi_refuse(-EOPNOTSUPP, "io_uring", why, len);
#endif
	if (ssi_has_perf(t))
		return ssi_refuse(-EOPNOTSUPP, "perf events", why, len);
#ifdef CONFIG_SYSVIPC
	if (t->sysvsem.undo_list)
		return ssi_refuse(-EOPNOTSUPP, "semaphores with SEM_UNDO", why, len);
#endif
	if (t->seccomp.mode)
		return ssi_refuse(-EOPNOTSUPP, "seccomp", why, len);
#ifdef CONFIG_RSEQ_SLICE_EXTENSION
	if (t->rseq.slice.state.enabled)
		return ssi_refuse(-EOPNOTSUPP, "rseq time slice extension", why, len);
#endif
	if (test_syscall_work(SYSCALL_USER_DISPATCH))
		return ssi_refuse(-EOPNOTSUPP, "system call user dispatch", why, len);
#ifdef CONFIG_FUTEX_PI
	if (!list_empty(&t->futex.pi_state_list))
		return ssi_refuse(-EBUSY, "holds a contended PI futex", why, len);
#endif
	if (t->policy == SCHED_DEADLINE || t->policy == SCHED_EXT)
		return ssi_refuse(-EOPNOTSUPP, "scheduling policy", why, len);
	if (ssi_arch_restarts() && t->restart_block.fn != do_no_restart_syscall &&
	    ssi_restart_kind(&t->restart_block) == SSI_RESTART_NONE)
		return ssi_refuse(-EOPNOTSUPP, "sleeps by the clock of a processor or device", why, len);
	ret = ssi_check_sharing(why, len);
	if (!ret)
		ret = ssi_timers_check(why, len);
	if (!ret)
		ret = ssi_arch_check(why, len);
	return ret ?: ssi_mm_check(why, len);
}
EXPORT_SYMBOL_SSI(pproc_image_check);

/* ---------------------------------------------------------------------------------------------- */
/* Interrupted sleeps.                                                                            */

/* Return: now on a clock that a nanosleep can be against, or KTIME_MAX. */
static ktime_t ssi_clock_now(u32 clock)
{
	switch (clock) {
	case CLOCK_MONOTONIC:
		return ktime_get();
	case CLOCK_REALTIME:
		return ktime_get_real();
	case CLOCK_BOOTTIME:
		return ktime_get_boottime();
	case CLOCK_TAI:
		return ktime_get_clocktai();
	}
	return KTIME_MAX;
}

static void ssi_restart_capture(struct ssi_restart_image *i)
{
	const struct restart_block *r = &current->restart_block;

	if (!ssi_arch_restarts())
		return;
	i->kind = ssi_restart_kind(r);
	switch (i->kind) {
	case SSI_RESTART_NANOSLEEP:
		i->clock = r->nanosleep.clockid;
		i->type = r->nanosleep.type;
		i->addr = (unsigned long)r->nanosleep.rmtp;
		i->time_ns = r->nanosleep.expires - ssi_clock_now(r->nanosleep.clockid);
		break;
	case SSI_RESTART_POLL:
		i->addr = (unsigned long)r->poll.ufds;
		i->n = r->poll.nfds;
		i->has_timeout = r->poll.has_timeout;
		if (i->has_timeout)
			i->time_ns = timespec64_to_ktime(r->poll.end_time) - ktime_get();
		break;
	case SSI_RESTART_FUTEX:
		i->addr = (unsigned long)r->futex.uaddr;
		i->n = r->futex.val;
		i->flags = r->futex.flags;
		i->bitset = r->futex.bitset;
		i->has_timeout = !!(r->futex.flags & FLAGS_HAS_TIMEOUT);
		i->absolute = !!(r->futex.flags & FLAGS_CLOCKRT);
		if (i->has_timeout)
			i->time_ns = r->futex.time - (i->absolute ? 0 : ktime_get());
		break;
	}
}

static int ssi_restart_restore(const struct ssi_restart_image *i)
{
	struct restart_block *r = &current->restart_block;
	s64 left = clamp(i->time_ns, 0LL, KTIME_MAX / 2);

	switch (i->kind) {
	case SSI_RESTART_NONE:
		r->fn = do_no_restart_syscall;
		return 0;
	case SSI_RESTART_NANOSLEEP:
		if (ssi_clock_now(i->clock) == KTIME_MAX || i->type > TT_NATIVE)
			return -EINVAL;
		r->nanosleep.clockid = i->clock;
		r->nanosleep.type = i->type;
		r->nanosleep.rmtp = (void __user *)i->addr;
		r->nanosleep.expires = ktime_add_safe(ssi_clock_now(i->clock), left);
		r->fn = hrtimer_nanosleep_restart;
		return 0;
	case SSI_RESTART_POLL:
		r->poll.ufds = (void __user *)i->addr;
		r->poll.nfds = i->n;
		r->poll.has_timeout = !!i->has_timeout;
		r->poll.end_time = ktime_to_timespec64(ktime_add_safe(ktime_get(), left));
		r->fn = do_restart_poll;
		return 0;
	case SSI_RESTART_FUTEX:
		if (i->flags & ~(FLAGS_SIZE_MASK | FLAGS_SHARED | FLAGS_CLOCKRT | FLAGS_HAS_TIMEOUT) ||
		    !i->bitset)
			return -EINVAL;
		r->futex.uaddr = (void __user *)i->addr;
		r->futex.val = i->n;
		r->futex.flags = i->flags;
		r->futex.bitset = i->bitset;
		r->futex.uaddr2 = NULL;
		r->futex.time = i->absolute ? left : ktime_add_safe(ktime_get(), left);
		r->fn = futex_wait_restart;
		return 0;
	}
	return -EINVAL;
}

/* ---------------------------------------------------------------------------------------------- */
/* The task.                                                                                      */

static void ssi_signals_capture(struct ssi_task_image *i)
{
	struct task_struct *t = current;

	spin_lock_irq(&t->sighand->siglock);
	for (int n = 0; n < _NSIG; n++) {
		const struct sigaction *sa = &t->sighand->action[n].sa;

		i->actions[n].handler = (unsigned long)sa->sa_handler;
		i->actions[n].flags = sa->sa_flags & UAPI_SA_FLAGS;
		i->actions[n].restorer = (unsigned long)sa->sa_restorer;
		i->actions[n].mask = sa->sa_mask.sig[0];
	}
	i->blocked = t->blocked.sig[0];
	spin_unlock_irq(&t->sighand->siglock);
	i->altstack = t->sas_ss_sp;
	i->altstack_size = t->sas_ss_size;
	i->altstack_flags = t->sas_ss_flags;
}

static void ssi_accounts_capture(struct ssi_task_image *i)
{
	struct task_struct *t = current;
	struct signal_struct *sig = t->signal;
	u64 utime, stime;

	thread_group_cputime_adjusted(t, &utime, &stime);
	i->utime_ns = utime;
	i->stime_ns = stime;
	i->cutime_ns = sig->cutime;
	i->cstime_ns = sig->cstime;
	i->min_flt = sig->min_flt + t->min_flt;
	i->maj_flt = sig->maj_flt + t->maj_flt;
	i->cmin_flt = sig->cmin_flt;
	i->cmaj_flt = sig->cmaj_flt;
	i->nvcsw = sig->nvcsw + t->nvcsw;
	i->nivcsw = sig->nivcsw + t->nivcsw;
	i->cnvcsw = sig->cnvcsw;
	i->cnivcsw = sig->cnivcsw;
	i->maxrss = max(sig->maxrss, get_mm_hiwater_rss(t->mm));
	i->cmaxrss = sig->cmaxrss;
	i->age_ns = ktime_get_boottime_ns() - t->start_boottime;
	task_lock(t);
	for (int n = 0; n < RLIM_NLIMITS; n++) {
		i->limits[n][0] = sig->rlim[n].rlim_cur;
		i->limits[n][1] = sig->rlim[n].rlim_max;
	}
	task_unlock(t);
}

/**
 * pproc_task_capture() - the current process but for its memory, files, credentials and pending signals
 * @buf: gets the image
 * @len: room there; SSI_TASK_MAX is always enough
 *
 * Its timers stand still afterwards, until pproc_timers_start() with this image. Context: about to enter user mode;
 * sleeps. Return: bytes written, -E2BIG.
 */
ssize_t pproc_task_capture(void *buf, size_t len)
{
	struct ssi_task_image *i = buf;
	struct ssi_timer_image *timers = buf + sizeof(*i);
	struct task_struct *t = current;
	struct signal_struct *sig = t->signal;
	size_t arch = ssi_arch_size();
	int ret, n;

	len = min_t(size_t, len, SSI_TASK_MAX);
	if (len < sizeof(*i) + arch)
		return -E2BIG;
	memset(i, 0, sizeof(*i));
	i->magic = SSI_TASK_MAGIC;
	i->version = SSI_TASK_VERSION;
	i->arch_len = arch;
	i->personality = t->personality;
	get_task_comm(i->comm, t);
	ssi_signals_capture(i);
	i->clear_child_tid = (unsigned long)t->clear_child_tid;
	i->robust_list = (unsigned long)t->futex.robust_list;
	i->rseq = (unsigned long)t->rseq.usrptr;
	i->rseq_len = t->rseq.len;
	i->rseq_sig = t->rseq.sig;
	i->rseq_version = t->rseq.event.has_rseq;
	i->rseq_user_irq = t->rseq.event.user_irq;
	i->rseq_cpu_id = t->rseq.ids.cpu_id;
	i->rseq_node_id = t->rseq.ids.node_id;
	i->rseq_mm_cid = t->rseq.ids.mm_cid;
	i->pdeath_signal = t->pdeath_signal;
	i->dumpable = task_exec_state_get_dumpable(t);
	i->subreaper = sig->is_child_subreaper;
	i->nice = task_nice(t);
	i->policy = t->policy;
	i->rt_priority = t->rt_priority;
	i->reset_on_fork = t->sched_reset_on_fork;
	i->ioprio = t->io_context ? t->io_context->ioprio : 0;
	i->oom_score_adj = sig->oom_score_adj;
	i->oom_score_adj_min = sig->oom_score_adj_min;
	i->ctx_node = t->ssi_ctx_node;
	i->place = t->ssi_place;
	i->timer_slack_ns = t->timer_slack_ns;
	i->default_timer_slack_ns = t->default_timer_slack_ns;
	ssi_accounts_capture(i);
	ssi_restart_capture(&i->restart);

	n = ssi_timers_stop(timers, min_t(size_t, SSI_TIMERS_MAX,
					  (len - sizeof(*i) - arch) / sizeof(*timers)));
	if (n < 0)
		return n;
	i->n_timers = n;
	ret = ssi_arch_capture(timers + n, arch);
	if (ret)
		return ret;
	i->len = sizeof(*i) + n * sizeof(*timers) + arch;
	return i->len;
}
EXPORT_SYMBOL_SSI(pproc_task_capture);

/* Who decodes an image trusts nothing in it. Return: 0, -EINVAL, or -EPROTO for another version. */
static int ssi_task_decode(const void *buf, size_t len, const struct ssi_timer_image **timers,
			   const void **arch)
{
	const struct ssi_task_image *i = buf;
	size_t want;

	if (!IS_ALIGNED((unsigned long)buf, sizeof(u64)))
		return -EINVAL;
	if (len < sizeof(*i) || len > SSI_TASK_MAX || i->magic != SSI_TASK_MAGIC || i->len != len)
		return -EINVAL;
	if (i->version != SSI_TASK_VERSION)
		return -EPROTO;
	if (i->n_timers > SSI_TIMERS_MAX || i->arch_len > SSI_TASK_MAX)
		return -EINVAL;
	want = sizeof(*i) + i->n_timers * sizeof(**timers) + i->arch_len;
	if (want != len)
		return -EINVAL;
	*timers = buf + sizeof(*i);
	*arch = *timers + i->n_timers;
	return 0;
}

/* All that is checked before anything of the task is changed. */
static int ssi_task_verify(const struct ssi_task_image *i)
{
	bool rt = i->policy == SCHED_FIFO || i->policy == SCHED_RR;

	if (i->nice < MIN_NICE || i->nice > MAX_NICE || (i->pdeath_signal && !valid_signal(i->pdeath_signal)) ||
	    i->pdeath_signal < 0 || i->dumpable > TASK_DUMPABLE_ROOT || i->subreaper > 1 ||
	    i->oom_score_adj < OOM_SCORE_ADJ_MIN || i->oom_score_adj > OOM_SCORE_ADJ_MAX ||
	    i->oom_score_adj_min < OOM_SCORE_ADJ_MIN || i->oom_score_adj_min > OOM_SCORE_ADJ_MAX ||
	    i->ctx_node > U16_MAX || i->place > U16_MAX || i->comm[TASK_COMM_LEN - 1])
		return -EINVAL;
	if (!rt && i->policy != SCHED_NORMAL && i->policy != SCHED_BATCH && i->policy != SCHED_IDLE)
		return -EINVAL;
	if (rt ? i->rt_priority < 1 || i->rt_priority >= MAX_RT_PRIO : i->rt_priority)
		return -EINVAL;
	for (int n = 0; n < RLIM_NLIMITS; n++)
		if (i->limits[n][0] > i->limits[n][1])
			return -EINVAL;
	if (i->altstack_flags & ~(SS_ONSTACK | SS_DISABLE | SS_AUTODISARM))
		return -EINVAL;
	if (i->rseq && (i->rseq_len < 32 || i->rseq_len > PAGE_SIZE || !IS_ALIGNED(i->rseq, 32) ||
			i->rseq_version < 1 || i->rseq_version > 2 ||
			!access_ok((void __user *)i->rseq, i->rseq_len)))
		return -EINVAL;
	if (i->age_ns > KTIME_MAX || i->utime_ns > KTIME_MAX || i->stime_ns > KTIME_MAX)
		return -EINVAL;
	return 0;
}

static void ssi_signals_restore(const struct ssi_task_image *i)
{
	struct task_struct *t = current;
	sigset_t blocked;

	spin_lock_irq(&t->sighand->siglock);
	for (int n = 0; n < _NSIG; n++) {
		struct sigaction *sa = &t->sighand->action[n].sa;

		/* A child of a kernel thread begins with these ignored. */
		if (sig_kernel_only(n + 1)) {
			sa->sa_handler = SIG_DFL;
			continue;
		}
		sa->sa_handler = (__sighandler_t)i->actions[n].handler;
		sa->sa_flags = i->actions[n].flags & UAPI_SA_FLAGS;
		sa->sa_restorer = (__sigrestore_t)i->actions[n].restorer;
		sa->sa_mask.sig[0] = i->actions[n].mask;
		sigdelsetmask(&sa->sa_mask, sigmask(SIGKILL) | sigmask(SIGSTOP));
	}
	spin_unlock_irq(&t->sighand->siglock);
	blocked.sig[0] = i->blocked;
	sigdelsetmask(&blocked, sigmask(SIGKILL) | sigmask(SIGSTOP));
	set_current_blocked(&blocked);
	t->sas_ss_sp = i->altstack;
	t->sas_ss_size = i->altstack_size;
	t->sas_ss_flags = i->altstack_flags;
}

static void ssi_accounts_restore(const struct ssi_task_image *i)
{
	struct task_struct *t = current;
	struct signal_struct *sig = t->signal;

	task_lock(t);
	for (int n = 0; n < RLIM_NLIMITS; n++) {
		sig->rlim[n].rlim_cur = i->limits[n][0];
		sig->rlim[n].rlim_max = i->limits[n][1];
	}
	task_unlock(t);
	/* What this task has used here so far was the kernel's work, not the process's. */
	write_seqlock_irq(&sig->stats_lock);
	sig->utime = i->utime_ns - min(i->utime_ns, t->utime);
	sig->stime = i->stime_ns - min(i->stime_ns, t->stime);
	sig->sum_sched_runtime = i->utime_ns + i->stime_ns;
	sig->cutime = i->cutime_ns;
	sig->cstime = i->cstime_ns;
	sig->min_flt = i->min_flt;
	sig->maj_flt = i->maj_flt;
	t->min_flt = 0;
	t->maj_flt = 0;
	sig->cmin_flt = i->cmin_flt;
	sig->cmaj_flt = i->cmaj_flt;
	sig->nvcsw = i->nvcsw;
	sig->nivcsw = i->nivcsw;
	sig->cnvcsw = i->cnvcsw;
	sig->cnivcsw = i->cnivcsw;
	sig->maxrss = i->maxrss;
	sig->cmaxrss = i->cmaxrss;
	write_sequnlock_irq(&sig->stats_lock);
	t->start_boottime = ktime_get_boottime_ns() - min(i->age_ns, ktime_get_boottime_ns());
	t->start_time = ktime_get_ns() - min(i->age_ns, ktime_get_ns());
	if (i->limits[RLIMIT_CPU][0] != RLIM_INFINITY)
		update_rlimit_cpu(t, i->limits[RLIMIT_CPU][0]);
}

static int ssi_sched_restore(const struct ssi_task_image *i)
{
	struct sched_attr attr = {
		.size		= sizeof(attr),
		.sched_policy	= i->policy,
		.sched_priority	= i->rt_priority,
		.sched_nice	= i->nice,
		.sched_flags	= i->reset_on_fork ? SCHED_FLAG_RESET_ON_FORK : 0,
	};
	int ret = sched_setattr_nocheck(current, &attr);

	if (ret)
		return ret;
	set_user_nice(current, i->nice);
	current->timer_slack_ns = i->timer_slack_ns;
	current->default_timer_slack_ns = i->default_timer_slack_ns;
	return i->ioprio ? set_task_ioprio(current, i->ioprio & U16_MAX) : 0;
}

/**
 * pproc_task_restore() - make the current, new process what it was, but for memory, files and credentials
 * @buf: from pproc_task_capture() on another node
 * @len: bytes
 * @why: gets the cause of a refusal
 * @why_len: room there
 *
 * After pproc_mm_finish(). Registers come with pproc_regs_install(), timers run from pproc_timers_start() on.
 *
 * Return: 0; -ENOEXEC if this processor lacks what the process may use; -EINVAL, -EPROTO for bytes that are no image;
 * -ENOMEM; what a step gives.
 */
int pproc_task_restore(const void *buf, size_t len, char *why, size_t why_len)
{
	const struct ssi_task_image *i = buf;
	const struct ssi_timer_image *timers;
	struct task_struct *t = current;
	const void *arch;
	int ret;

	ret = ssi_arriving() ? ssi_task_decode(buf, len, &timers, &arch) : -EINVAL;
	if (!ret)
		ret = ssi_task_verify(i);
	if (ret)
		return ssi_refuse(ret, "image of the process", why, why_len);
	ret = ssi_arch_verify(arch, i->arch_len, why, why_len);
	if (ret)
		return ret;
	ret = ssi_timers_create(timers, i->n_timers);
	if (ret)
		return ssi_refuse(ret, "timers", why, why_len);
	ret = ssi_sched_restore(i);
	if (ret)
		return ssi_refuse(ret, "scheduling", why, why_len);
	ret = ssi_restart_restore(&i->restart);
	if (ret)
		return ssi_refuse(ret, "interrupted sleep", why, why_len);
	ssi_signals_restore(i);
	ssi_accounts_restore(i);
	t->clear_child_tid = (int __user *)i->clear_child_tid;
	t->futex.robust_list = (struct robust_list_head __user *)i->robust_list;
	t->personality = i->personality;
	t->pdeath_signal = i->pdeath_signal;
	t->signal->is_child_subreaper = i->subreaper;
	t->signal->oom_score_adj = i->oom_score_adj;
	t->signal->oom_score_adj_min = i->oom_score_adj_min;
	t->ssi_ctx_node = i->ctx_node;
	t->ssi_place = i->place;
	task_exec_state_set_dumpable(i->dumpable);
	__set_task_comm(t, i->comm, false);
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_task_restore);

/**
 * pproc_task_finish() - who may look into the process; committing credentials has changed that
 * @buf: from pproc_task_capture(), accepted by pproc_task_restore()
 * @len: bytes
 *
 * Return: 0 or -EINVAL.
 */
int pproc_task_finish(const void *buf, size_t len)
{
	const struct ssi_task_image *i = buf;
	const struct ssi_timer_image *timers;
	const void *arch;
	int ret = ssi_task_decode(buf, len, &timers, &arch) ?: ssi_task_verify(i);

	if (!ssi_arriving())
		ret = -EINVAL;
	if (ret)
		return ret;
	task_exec_state_set_dumpable(i->dumpable);
	current->pdeath_signal = i->pdeath_signal;
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_task_finish);

/**
 * pproc_regs_install() - registers of the current process, about to enter user mode for the first time
 * @buf: from pproc_task_capture(), accepted by pproc_task_restore()
 * @len: bytes
 *
 * Return: 0, -EINVAL.
 */
int pproc_regs_install(const void *buf, size_t len)
{
	const struct ssi_task_image *i = buf;
	const struct ssi_timer_image *timers;
	struct task_struct *t = current;
	const void *arch;
	int ret = ssi_task_decode(buf, len, &timers, &arch) ?: ssi_task_verify(i);

	if (!ssi_arriving())
		ret = -EINVAL;
	if (!ret)
		ret = ssi_arch_install(current_pt_regs(), arch, i->arch_len);
	if (ret)
		return ret;
	if (i->rseq) {
		t->rseq.usrptr = (struct rseq __user *)i->rseq;
		t->rseq.len = i->rseq_len;
		t->rseq.sig = i->rseq_sig;
		t->rseq.event.has_rseq = i->rseq_version;
		/* What its memory holds: rseq_set_ids_get_csaddr() compares, and writes this node's. */
		t->rseq.ids.cpu_id = i->rseq_cpu_id;
		t->rseq.ids.node_id = i->rseq_node_id;
		t->rseq.ids.mm_cid = i->rseq_mm_cid;
		/* So that a critical section that was interrupted is aborted. */
		t->rseq.event.user_irq = true;
		rseq_force_update();
	}
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_regs_install);

/**
 * pproc_timers_start() - let the timers of the current process run
 * @buf: from pproc_task_capture(): of this process, which stays here, or accepted by pproc_task_restore()
 * @len: bytes
 * @elapsed_ns: time that has passed since, as far as it is known
 *
 * Return: 0, -EINVAL.
 */
int pproc_timers_start(const void *buf, size_t len, u64 elapsed_ns)
{
	const struct ssi_task_image *i = buf;
	const struct ssi_timer_image *timers;
	const void *arch;
	int ret = ssi_task_decode(buf, len, &timers, &arch);

	return ret ?: ssi_timers_set(timers, i->n_timers, elapsed_ns);
}
EXPORT_SYMBOL_SSI(pproc_timers_start);
