// SPDX-License-Identifier: GPL-2.0
/*
 * Timers of a process that moves. They are stopped when its image is taken and started again where it lives on, so
 * that each expiry is signalled once. Times cross as what remains.
 */
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/posix-timers.h>
#include <linux/prctl.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/sched/signal.h>
#include <linux/time.h>
#include <linux/uaccess.h>
#include <asm/unistd.h>
#include "../time/posix-timers.h"
#include "internal.h"
#include "timers.h"

/* Clocks of the process itself; those of another one would need that process. */
static bool ssi_clock_crosses(clockid_t clock)
{
	return clock >= 0 || !CPUCLOCK_PID(clock);
}

static bool ssi_timer_runs_without_cpu(const struct k_itimer *t)
{
	return t->kclock->timer_try_to_cancel;
}

/* Calls @f on each POSIX timer of the current process, which is its only thread, until it fails. */
static int ssi_timers_each(int (*f)(struct k_itimer *t, void *arg), void *arg)
{
	struct k_itimer *t;
	int ret = 0;

	rcu_read_lock();
	hlist_for_each_entry_rcu(t, &current->signal->posix_timers, list) {
		ret = f(t, arg);
		if (ret)
			break;
	}
	rcu_read_unlock();
	return ret;
}

static int ssi_timer_check(struct k_itimer *t, void *arg)
{
	u32 *n = arg;

	if (++*n > SSI_TIMERS_MAX - 3)
		return -E2BIG;
	return ssi_clock_crosses(t->it_clock) ? 0 : -EOPNOTSUPP;
}

int ssi_timers_check(char *why, size_t len)
{
	u32 n = 0;
	int ret = ssi_timers_each(ssi_timer_check, &n);

	if (ret == -E2BIG)
		snprintf(why, len, "more than %d timers", SSI_TIMERS_MAX - 3);
	else if (ret)
		snprintf(why, len, "timer on the clock of another process or a device");
	return ret ? -EOPNOTSUPP : 0;
}

struct ssi_timer_sink {
	struct ssi_timer_image *img;
	u32 n;
	u32 max;
};

static int ssi_timer_stop(struct k_itimer *t, void *arg)
{
	struct ssi_timer_sink *s = arg;
	struct ssi_timer_image *i = &s->img[s->n];
	struct itimerspec64 spec = {};

	if (s->n == s->max)
		return -E2BIG;
	memset(i, 0, sizeof(*i));
	i->kind = SSI_TIMER_POSIX;
	for (;;) {
		spin_lock_irq(&t->it_lock);
		/* What counts processor time stands still by itself. */
		if (!ssi_timer_runs_without_cpu(t) || t->it_status != POSIX_TIMER_ARMED ||
		    t->it_sigev_notify == SIGEV_NONE || t->kclock->timer_try_to_cancel(t) >= 0)
			break;
		/* It is expiring just now. */
		spin_unlock_irq(&t->it_lock);
		cpu_relax();
	}
	t->kclock->timer_get(t, &spec);
	i->id = t->it_id;
	i->clock = t->it_clock;
	i->notify = t->it_sigev_notify;
	i->sig = t->sigq.info.si_signo;
	i->value = (unsigned long)t->sigq.info.si_value.sival_ptr;
	i->remaining_ns = timespec64_to_ns(&spec.it_value);
	i->interval_ns = timespec64_to_ns(&spec.it_interval);
	spin_unlock_irq(&t->it_lock);
	s->n++;
	return 0;
}

static u64 ssi_cpu_itimer(int which, u64 expires)
{
	u64 samples[CPUCLOCK_MAX], ret = 0;

	if (expires) {
		thread_group_sample_cputime(current, samples);
		ret = expires > samples[which] ? expires - samples[which] : TICK_NSEC;
	}
	return ret;
}

static void ssi_cpu_itimer_set(int which, u64 value, u64 interval)
{
	struct cpu_itimer *it = &current->signal->it[which];
	u64 old = it->expires;

	spin_lock_irq(&current->sighand->siglock);
	if (old || value) {
		if (value)
			value += TICK_NSEC;
		set_process_cpu_timer(current, which, &value, &old);
	}
	it->expires = value;
	it->incr = interval;
	spin_unlock_irq(&current->sighand->siglock);
}

/* Return: how many timers there were, or -E2BIG. */
int ssi_timers_stop(struct ssi_timer_image *img, u32 max)
{
	struct signal_struct *sig = current->signal;
	struct ssi_timer_sink s = { .img = img, .max = max };
	s64 left;
	int ret;

	if (max < 3)
		return -E2BIG;
	memset(img, 0, 3 * sizeof(*img));
	for (int i = 0; i < 3; i++) {
		img[i].kind = SSI_TIMER_ITIMER;
		img[i].id = i;
	}
	left = ktime_to_ns(hrtimer_get_remaining(&sig->real_timer));
	/* Expired ones go on when their signal is delivered. */
	img[ITIMER_REAL].remaining_ns = hrtimer_cancel(&sig->real_timer) ? max(left, 1LL) : 0;
	img[ITIMER_REAL].interval_ns = ktime_to_ns(sig->it_real_incr);
	spin_lock_irq(&current->sighand->siglock);
	for (int i = 0; i < 2; i++) {
		img[ITIMER_VIRTUAL + i].remaining_ns =
			ssi_cpu_itimer(i == 0 ? CPUCLOCK_VIRT : CPUCLOCK_PROF,
				       sig->it[i == 0 ? CPUCLOCK_VIRT : CPUCLOCK_PROF].expires);
		img[ITIMER_VIRTUAL + i].interval_ns =
			sig->it[i == 0 ? CPUCLOCK_VIRT : CPUCLOCK_PROF].incr;
	}
	spin_unlock_irq(&current->sighand->siglock);
	s.n = 3;
	ret = ssi_timers_each(ssi_timer_stop, &s);
	return ret ?: s.n;
}

/* Makes the POSIX timers of an image in a new process; none runs yet. */
int ssi_timers_create(const struct ssi_timer_image *img, u32 n)
{
	struct signal_struct *sig = current->signal;
	unsigned long scratch;
	int ret = 0, most = -1;

	for (u32 i = 0; i < n; i++) {
		if (img[i].kind > SSI_TIMER_POSIX || img[i].remaining_ns > KTIME_MAX / 2 ||
		    img[i].interval_ns > KTIME_MAX / 2)
			return -EINVAL;
		if (img[i].kind == SSI_TIMER_ITIMER && (img[i].id < 0 || img[i].id > ITIMER_PROF))
			return -EINVAL;
		if (img[i].kind == SSI_TIMER_POSIX)
			most = max(most, img[i].id);
	}
	if (most < 0)
		return 0;
	scratch = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(scratch))
		return scratch;
	sig->timer_create_restore_ids = 1;
	for (u32 i = 0; i < n && !ret; i++) {
		struct {
			struct sigevent event;
			int id;
		} arg = {};

		if (img[i].kind != SSI_TIMER_POSIX)
			continue;
		ret = -EINVAL;
		if (!ssi_clock_crosses(img[i].clock))
			break;
		arg.id = img[i].id;
		arg.event.sigev_notify = img[i].notify;
		arg.event.sigev_signo = img[i].sig;
		arg.event.sigev_value.sival_ptr = (void __user *)img[i].value;
		if (img[i].notify & SIGEV_THREAD_ID)
			arg.event.sigev_notify_thread_id = task_pid_vnr(current);
		ret = -EFAULT;
		if (copy_to_user((void __user *)scratch, &arg, sizeof(arg)))
			break;
		ret = pproc_syscall(__NR_timer_create, img[i].clock, scratch,
				    scratch + offsetof(typeof(arg), id), 0, 0, 0);
	}
	sig->timer_create_restore_ids = 0;
	atomic_set(&sig->next_posix_timer_id, (unsigned int)most + 1 > INT_MAX ? 0 : most + 1);
	vm_munmap(scratch, PAGE_SIZE);
	return ret;
}

struct ssi_timer_setting {
	const struct ssi_timer_image *img;
	u64 remaining_ns;
	bool found;
};

static int ssi_timer_start(struct k_itimer *t, void *arg)
{
	struct ssi_timer_setting *s = arg;
	struct itimerspec64 spec = {
		.it_value = ns_to_timespec64(s->remaining_ns),
		.it_interval = ns_to_timespec64(s->img->interval_ns),
	};
	int ret;

	if (t->it_id != s->img->id)
		return 0;
	s->found = true;
	do {
		spin_lock_irq(&t->it_lock);
		/* Of a process that stays: the signal that is pending will start it. */
		ret = 0;
		if (t->it_status != POSIX_TIMER_REQUEUE_PENDING)
			ret = t->kclock->timer_set(t, 0, &spec, NULL);
		spin_unlock_irq(&t->it_lock);
		cpu_relax();
	} while (ret == TIMER_RETRY);
	return ret;
}

/* Starts timers that ssi_timers_stop() stopped here, or that ssi_timers_create() made. */
int ssi_timers_set(const struct ssi_timer_image *img, u32 n, u64 elapsed_ns)
{
	struct signal_struct *sig = current->signal;
	int ret = 0;

	for (u32 i = 0; i < n && !ret; i++) {
		struct ssi_timer_setting s = { .img = &img[i] };
		bool cpu = img[i].kind == SSI_TIMER_ITIMER ? img[i].id != ITIMER_REAL :
			   img[i].clock < 0;

		if (img[i].remaining_ns > KTIME_MAX / 2 || img[i].interval_ns > KTIME_MAX / 2)
			return -EINVAL;
		s.remaining_ns = img[i].remaining_ns;
		if (s.remaining_ns && !cpu)
			s.remaining_ns = s.remaining_ns > elapsed_ns ? s.remaining_ns - elapsed_ns : 1;
		if (img[i].kind == SSI_TIMER_POSIX) {
			ret = ssi_timers_each(ssi_timer_start, &s);
			continue;
		}
		switch (img[i].id) {
		case ITIMER_REAL:
			spin_lock_irq(&current->sighand->siglock);
			sig->it_real_incr = ns_to_ktime(img[i].interval_ns);
			if (s.remaining_ns)
				hrtimer_start(&sig->real_timer, ns_to_ktime(s.remaining_ns),
					      HRTIMER_MODE_REL);
			spin_unlock_irq(&current->sighand->siglock);
			break;
		case ITIMER_VIRTUAL:
			ssi_cpu_itimer_set(CPUCLOCK_VIRT, s.remaining_ns, img[i].interval_ns);
			break;
		case ITIMER_PROF:
			ssi_cpu_itimer_set(CPUCLOCK_PROF, s.remaining_ns, img[i].interval_ns);
			break;
		}
	}
	return ret;
}
