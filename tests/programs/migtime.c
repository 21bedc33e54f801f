// SPDX-License-Identifier: GPL-2.0
/*
 * migtime NODE MIB [ROUNDS]
 *
 * Times migrate(2) of a child with MIB MiB of touched, incompressible memory from this node to NODE: a fresh child per
 * round, in a session of its own, sleeping. Timed on this node's clock from the call to its return. After each move the
 * child must be on NODE, its memory must be intact, and its exit status must come home.
 */
#include "test.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SYS_MIGRATE 550
#define SYS_WHERE_PID 551

static void child(size_t n, int ready)
{
	uint64_t *mem = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigset_t set;
	size_t i;

	if (mem == MAP_FAILED)
		_exit(3);
	for (i = 0; i < n / 8; i++)
		mem[i] = pattern((uintptr_t)&mem[i]);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (write(ready, "r", 1) != 1)
		_exit(4);
	close(ready);
	while (sigwaitinfo(&set, NULL) < 0)
		if (errno != EINTR)
			_exit(5);
	for (i = 0; i < n / 8; i++)
		if (mem[i] != pattern((uintptr_t)&mem[i]))
			_exit(6);
	_exit(0);
}

int main(int argc, char **argv)
{
	static const char usage[] = "migtime NODE MIB [ROUNDS]";
	long node, at;
	size_t i, n, rounds;
	uint64_t *ns, t;

	if (argc < 3 || argc > 4)
		USAGE(usage);
	node = number(argv[1], 1, 1022, usage);
	n = (size_t)number(argv[2], 1, 65536, usage) << 20;
	rounds = argc > 3 ? (size_t)number(argv[3], 1, 100000, usage) : 5;
	ns = calloc(rounds, sizeof(*ns));
	if (!ns)
		DIE("calloc");
	for (i = 0; i < rounds; i++) {
		int fds[2], status;
		pid_t pid;
		char b;

		if (pipe(fds))
			DIE("pipe");
		pid = fork();
		if (pid < 0)
			DIE("fork");
		if (pid == 0) {
			close(fds[0]);
			child(n, fds[1]);
		}
		close(fds[1]);
		if (read(fds[0], &b, 1) != 1 || read(fds[0], &b, 1) != 0)	/* ready, and its end is closed */
			DIE("child");
		close(fds[0]);
		t = now_ns();
		if (syscall(SYS_MIGRATE, pid, (int)node, 0u)) {
			int e = errno;

			kill(pid, SIGKILL);
			errno = e;
			DIE("migtime: pid %d to node %ld", (int)pid, node);
		}
		ns[i] = now_ns() - t;
		at = syscall(SYS_WHERE_PID, pid);
		kill(pid, SIGUSR1);
		while (waitpid(pid, &status, 0) < 0)
			if (errno != EINTR)
				DIE("waitpid");
		if (at != node || status != 0) {
			fprintf(stderr, "migtime: pid %d on node %ld, wait status %#x\n", (int)pid, at, status);
			return 1;
		}
	}
	print_stats("migtime", ns, rounds);
	return 0;
}
