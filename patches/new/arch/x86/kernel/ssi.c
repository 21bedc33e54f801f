// SPDX-License-Identifier: GPL-2.0
/*
 * What is x86 about moving a process.
 */
#include <linux/export.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/ssi.h>
#include <linux/syscalls.h>
#include <asm/syscall.h>

/**
 * pproc_syscall() - run a system call in the current process, as if it had made it
 * @nr: number
 * @a: first argument, and so on
 *
 * Pointers are user addresses of the current mm. Return: the call's result.
 */
long pproc_syscall(u32 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct pt_regs regs = {
		.di = a, .si = b, .dx = c, .r10 = d, .r8 = e, .r9 = f,
		.ax = -ENOSYS, .orig_ax = nr,
		.cs = __USER_CS, .ss = __USER_DS, .flags = X86_EFLAGS_IF | X86_EFLAGS_FIXED,
	};

	if (nr >= NR_syscalls)
		return -ENOSYS;
	return x64_sys_call(&regs, nr);
}
EXPORT_SYMBOL_FOR_MODULES(pproc_syscall, "ssi*");
