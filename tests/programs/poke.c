// SPDX-License-Identifier: GPL-2.0
/*
 * poke PID WHAT      WHAT: xmm5 ymm9 mxcsr x87cw st0 rbx r15 r9 gs mask none
 *
 * Changes one thing in a running program with ptrace, to prove that a check would have seen it missing after a move.
 */
#include "test.h"
#include <elf.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	static uint8_t xs[16384];
	struct iovec iov = { xs, sizeof(xs) };
	struct user_regs_struct regs;
	const char *what;
	uint64_t mask;
	pid_t pid;

	if (argc != 3)
		USAGE("poke PID WHAT");
	pid = (pid_t)number(argv[1], 1, INT32_MAX, "poke PID WHAT");
	what = argv[2];
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0))
		DIE("attach to %d", (int)pid);
	if (waitpid(pid, NULL, __WALL) != pid || ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov) ||
	    ptrace(PTRACE_GETREGS, pid, 0, &regs) || ptrace(PTRACE_GETSIGMASK, pid, 8, &mask))
		DIE("registers of %d", (int)pid);
	if (!strcmp(what, "xmm5"))
		xs[160 + 16 * 5 + 9] ^= 1;	/* in the upper half, which only the last comparison sees */
	else if (!strcmp(what, "ymm9"))
		xs[576 + 16 * 9 + 3] ^= 1;
	else if (!strcmp(what, "mxcsr"))
		xs[25] ^= 0x20;
	else if (!strcmp(what, "x87cw"))
		xs[1] ^= 0x04;
	else if (!strcmp(what, "st0"))
		xs[32] ^= 1;
	else if (!strcmp(what, "rbx"))
		regs.rbx ^= 1ull << 40;
	else if (!strcmp(what, "r15"))
		regs.r15 ^= 1;
	else if (!strcmp(what, "r9"))
		regs.r9 ^= 1;
	else if (!strcmp(what, "gs"))
		regs.gs_base += 4096;
	else if (!strcmp(what, "mask"))
		mask ^= 1ull << (SIGWINCH - 1);
	else if (strcmp(what, "none"))
		USAGE("poke PID WHAT");
	iov.iov_base = xs;
	if (ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov) || ptrace(PTRACE_SETREGS, pid, 0, &regs) ||
	    ptrace(PTRACE_SETSIGMASK, pid, 8, &mask) || ptrace(PTRACE_DETACH, pid, 0, 0))
		DIE("poke %s", what);
	return 0;
}
