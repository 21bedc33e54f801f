// SPDX-License-Identifier: GPL-2.0
/*
 * The four cluster calls, and the calls that act on a process by number.
 */
#include <linux/bitmap.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <asm/syscall.h>
#include "internal.h"

/*
 * Calls that name a process and have at most one input and one output buffer. Local first: only one
 * that ended with ESRCH goes to another node. Index of the argument, or -1. A length of 0 means that
 * the argument at *_len_arg holds it.
 */
struct ssi_sysdesc {
	u16 nr;
	s8 which_arg;		/* must be @which for the call to name a process */
	u8 which;
	s8 pid_arg;
	s8 in_arg, in_len_arg;
	u8 in_len;
	s8 out_arg, out_len_arg;
	u8 out_len;
};

#define NO		.which_arg = -1
#define NO_IN		.in_arg = -1, .in_len_arg = -1
#define NO_OUT		.out_arg = -1, .out_len_arg = -1
#define IN(a, l)	.in_arg = (a), .in_len_arg = -1, .in_len = (l)
#define OUT(a, l)	.out_arg = (a), .out_len_arg = -1, .out_len = (l)
#define IN_VAR(a, l)	.in_arg = (a), .in_len_arg = (l)
#define OUT_VAR(a, l)	.out_arg = (a), .out_len_arg = (l)

static const struct ssi_sysdesc ssi_sysdescs[] = {
	{ __NR_getpgid, NO, .pid_arg = 0, NO_IN, NO_OUT },
	{ __NR_getsid, NO, .pid_arg = 0, NO_IN, NO_OUT },
	{ __NR_getpriority, .which_arg = 0, .which = PRIO_PROCESS, .pid_arg = 1, NO_IN, NO_OUT },
	{ __NR_setpriority, .which_arg = 0, .which = PRIO_PROCESS, .pid_arg = 1, NO_IN, NO_OUT },
	{ __NR_ioprio_get, .which_arg = 0, .which = 1, .pid_arg = 1, NO_IN, NO_OUT },
	{ __NR_ioprio_set, .which_arg = 0, .which = 1, .pid_arg = 1, NO_IN, NO_OUT },
	{ __NR_sched_getscheduler, NO, .pid_arg = 0, NO_IN, NO_OUT },
	{ __NR_sched_setscheduler, NO, .pid_arg = 0, IN(2, 4), NO_OUT },
	{ __NR_sched_getparam, NO, .pid_arg = 0, NO_IN, OUT(1, 4) },
	{ __NR_sched_setparam, NO, .pid_arg = 0, IN(1, 4), NO_OUT },
	{ __NR_sched_rr_get_interval, NO, .pid_arg = 0, NO_IN, OUT(1, 16) },
	{ __NR_sched_getaffinity, NO, .pid_arg = 0, NO_IN, OUT_VAR(2, 1) },
	{ __NR_sched_setaffinity, NO, .pid_arg = 0, IN_VAR(2, 1), NO_OUT },
	{ __NR_sched_getattr, NO, .pid_arg = 0, NO_IN, OUT_VAR(1, 2) },
	{ __NR_sched_setattr, NO, .pid_arg = 0, IN(1, 48), NO_OUT },
	{ __NR_prlimit64, NO, .pid_arg = 0, IN(2, 16), OUT(3, 16) },
};

static const struct ssi_sysdesc *ssi_sysdesc(unsigned int nr)
{
	for (size_t i = 0; i < ARRAY_SIZE(ssi_sysdescs); i++)
		if (ssi_sysdescs[i].nr == nr)
			return &ssi_sysdescs[i];
	return NULL;
}

DECLARE_BITMAP(ssi_sysmap, NR_syscalls) __ro_after_init;

static int __init ssi_sysmap_init(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(ssi_sysdescs); i++)
		__set_bit(ssi_sysdescs[i].nr, ssi_sysmap);
	__set_bit(__NR_kill, ssi_sysmap);
	__set_bit(__NR_tkill, ssi_sysmap);
	__set_bit(__NR_tgkill, ssi_sysmap);
	__set_bit(__NR_rt_sigqueueinfo, ssi_sysmap);
	__set_bit(__NR_rt_tgsigqueueinfo, ssi_sysmap);
	return 0;
}
core_initcall(ssi_sysmap_init);

bool __ssi_syscall_hooked(unsigned long nr)
{
	return test_bit(nr, ssi_sysmap);
}

static int ssi_len(const struct ssi_remote_call *call, s8 arg, s8 len_arg, u8 len, size_t max)
{
	u64 n;

	if (arg < 0 || !call->args[arg])
		return 0;
	n = len_arg >= 0 ? call->args[len_arg] : len;
	return min_t(u64, n, max);
}

static long ssi_call_elsewhere(const struct ssi_sysdesc *d, struct ssi_remote_call *call)
{
	long ret;

	call->in_len = ssi_len(call, d->in_arg, d->in_len_arg, d->in_len, sizeof(call->in));
	call->out_len = ssi_len(call, d->out_arg, d->out_len_arg, d->out_len, sizeof(call->out));
	if (call->in_len &&
	    copy_from_user(call->in, u64_to_user_ptr(call->args[d->in_arg]), call->in_len))
		return -EFAULT;
	ret = ssi_vproc_call((long)-ESRCH, syscall, call);
	if (ret >= 0 && call->out_len) {
		size_t n = d->out_len_arg >= 0 && d->nr == __NR_sched_getaffinity ?
			   ret : call->out_len;

		n = min(n, sizeof(call->out));
		if (copy_to_user(u64_to_user_ptr(call->args[d->out_arg]), call->out, n))
			return -EFAULT;
	}
	return ret;
}

static long ssi_signal_elsewhere(struct pt_regs *regs, unsigned int nr, long native)
{
	u64 args[6] = { regs->di, regs->si, regs->dx, regs->r10, regs->r8, regs->r9 };
	struct kernel_siginfo info;
	void __user *uinfo = NULL;
	int sig;

	switch (nr) {
	case __NR_kill:
		/* A group or everybody: members here are done, those elsewhere follow. */
		if ((s32)args[0] > 0 && native != -ESRCH)
			return native;
		sig = args[1];
		break;
	case __NR_tgkill:
		if (native != -ESRCH)
			return native;
		sig = args[2];
		break;
	case __NR_rt_tgsigqueueinfo:
		if (native != -ESRCH)
			return native;
		sig = args[2];
		uinfo = u64_to_user_ptr(args[3]);
		break;
	case __NR_rt_sigqueueinfo:
		if (native != -ESRCH)
			return native;
		sig = args[1];
		uinfo = u64_to_user_ptr(args[2]);
		break;
	default:	/* tkill */
		if (native != -ESRCH)
			return native;
		sig = args[1];
		break;
	}
	clear_siginfo(&info);
	if (uinfo) {
		/* The native call has checked si_code before it looked for the target. */
		if (copy_from_user(&info, uinfo, sizeof(info)))
			return -EFAULT;
		if (info.si_code >= 0 || info.si_code == SI_TKILL)
			return -EPERM;
		info.si_signo = sig;
	} else {
		info.si_signo = sig;
		info.si_code = nr == __NR_kill ? SI_USER : SI_TKILL;
		info.si_pid = task_tgid_nr(current);
		info.si_uid = from_kuid_munged(&init_user_ns, current_uid());
	}
	return ssi_vproc_call(native, signal, nr, args, &info, native);
}

/*
 * A hooked call, after the native one: its result is replaced if the call goes on. Context: system call entry,
 * interrupts on, no locks; sleeps.
 */
void ssi_syscall(struct pt_regs *regs, unsigned int nr)
{
	const struct ssi_sysdesc *d;
	struct ssi_remote_call *call;
	long ret = regs->ax;

	if (task_active_pid_ns(current) != &init_pid_ns)
		return;
	d = ssi_sysdesc(nr);
	if (!d) {
		regs->ax = ssi_signal_elsewhere(regs, nr, ret);
		return;
	}
	if (ret != -ESRCH)
		return;
	call = kzalloc_obj(*call, GFP_KERNEL);
	if (!call) {
		regs->ax = -ENOMEM;
		return;
	}
	call->nr = nr;
	call->args[0] = regs->di;
	call->args[1] = regs->si;
	call->args[2] = regs->dx;
	call->args[3] = regs->r10;
	call->args[4] = regs->r8;
	call->args[5] = regs->r9;
	call->pid = call->args[d->pid_arg];
	if ((s32)call->pid > 0 && (d->which_arg < 0 || call->args[d->which_arg] == d->which))
		ret = ssi_call_elsewhere(d, call);
	kfree(call);
	if (ret == -ERESTARTNOINTR)	/* it came here meanwhile */
		ret = sys_call_table[nr](regs);
	regs->ax = ret;
}

/**
 * pproc_exec_call() - run a hooked call here for a caller elsewhere
 * @call: the call; pointer arguments are replaced by a scratch page
 *
 * Context: kernel thread; the credentials are the caller's. Return: the call's result.
 */
long pproc_exec_call(struct ssi_remote_call *call)
{
	const struct ssi_sysdesc *d = ssi_sysdesc(call->nr);
	struct mm_struct *mm = NULL;
	unsigned long page = 0;
	long ret;

	if (!d || call->in_len > sizeof(call->in) || call->out_len > sizeof(call->out) ||
	    !(current->flags & PF_KTHREAD))
		return -EINVAL;
	if (call->in_len || call->out_len) {
		mm = mm_alloc();
		if (!mm)
			return -ENOMEM;
		mm->task_size = TASK_SIZE;
		kthread_use_mm(mm);
		page = vm_mmap(NULL, 0x10000, PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
		ret = (long)page;
		if (IS_ERR_VALUE(page))
			goto out;
	}
	if (d->in_arg >= 0)
		call->args[d->in_arg] = call->in_len ? page : 0;
	if (d->out_arg >= 0)
		call->args[d->out_arg] = call->out_len ? page + sizeof(call->in) : 0;
	ret = -EFAULT;
	if (call->in_len && copy_to_user((void __user *)page, call->in, call->in_len))
		goto out;
	ret = pproc_syscall(call->nr, call->args[0], call->args[1], call->args[2], call->args[3],
			    call->args[4], call->args[5]);
	if (ret >= 0 && call->out_len &&
	    copy_from_user(call->out, (void __user *)(page + sizeof(call->in)), call->out_len))
		ret = -EFAULT;
out:
	if (mm) {
		kthread_unuse_mm(mm);
		mmput(mm);
	}
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_exec_call);

static long ssi_sys(u32 op, u64 a, u64 b, u64 c)
{
	if (!ssi_vproc_enabled())
		return -ENOSYS;
	return ssi_vproc_call((long)-ENOSYS, sys, op, a, b, c);
}

SYSCALL_DEFINE2(ssi_rfork, int, node, unsigned int, flags)
{
	return ssi_sys(SSI_SYS_RFORK, node, flags, 0);
}

SYSCALL_DEFINE3(ssi_migrate, pid_t, pid, int, node, unsigned int, flags)
{
	return ssi_sys(SSI_SYS_MIGRATE, pid, node, flags);
}

SYSCALL_DEFINE1(ssi_where_pid, pid_t, pid)
{
	return ssi_sys(SSI_SYS_WHERE_PID, pid, 0, 0);
}

/* Appends the strings of a user array to @s->args. Return: how many, or an error. */
static int ssi_copy_strings(struct ssi_strings *s, size_t size, const char __user *const __user *v)
{
	const char __user *p;
	long n;
	int i;

	for (i = 0; v; i++) {
		if (get_user(p, v + i))
			return -EFAULT;
		if (!p)
			break;
		if (fatal_signal_pending(current))
			return -ERESTARTNOHAND;
		n = strncpy_from_user(s->args + s->args_len, p, size - s->args_len);
		if (n < 0)
			return n;
		if (n == size - s->args_len)
			return -E2BIG;
		s->args_len += n + 1;
		cond_resched();
	}
	return i;
}

/* Room for the strings of an exec: what fits into one message. */
#define SSI_STRINGS_MAX		(512 * 1024)

SYSCALL_DEFINE5(ssi_rexec, int, node, const char __user *, path, const char __user *const __user *, argv,
		const char __user *const __user *, envp, unsigned int, flags)
{
	struct ssi_strings *s;
	int n;
	long ret;

	if (!ssi_vproc_enabled())
		return -ENOSYS;
	if (flags)
		return -EINVAL;
	s = kzalloc_obj(*s, GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	s->flags = flags;
	s->path = strndup_user(path, PATH_MAX);
	if (IS_ERR(s->path)) {
		ret = PTR_ERR(s->path);
		kfree(s);
		return ret;
	}
	ret = -ENOMEM;
	s->args = kvmalloc(SSI_STRINGS_MAX, GFP_KERNEL);
	if (!s->args)
		goto out;
	n = ssi_copy_strings(s, SSI_STRINGS_MAX, argv);
	ret = n;
	if (n < 0)
		goto out;
	s->argc = n;
	n = ssi_copy_strings(s, SSI_STRINGS_MAX, envp);
	ret = n;
	if (n < 0)
		goto out;
	s->envc = n;
	ret = ssi_sys(SSI_SYS_REXEC, node, (u64)s, 0);
out:
	kvfree(s->args);
	kfree(s->path);
	kfree(s);
	if (!ret)
		pproc_vanish();
	return ret;
}
