// SPDX-License-Identifier: GPL-2.0
/*
 * forkexec [-n ROUNDS] [-o NODE] [PROGRAM]
 *
 * Times fork + exec + wait of PROGRAM (default: this program with --true, static and tiny; it exits at once). With -o
 * the child becomes PROGRAM on NODE by the rexec system call, as onnode does. Everything is timed by the parent.
 */
#include "test.h"
#include <sys/syscall.h>
#include <sys/wait.h>

#define SYS_REXEC 549

extern char **environ;

int main(int argc, char **argv)
{
	static const char usage[] = "forkexec [-n ROUNDS] [-o NODE] [PROGRAM]";
	char self[4096], *args[] = { self, (char *)"--true", NULL };
	size_t i, n = 100, warm;
	uint64_t *ns, t;
	long node = 0;
	int c, status;
	ssize_t len;

	if (argc == 2 && !strcmp(argv[1], "--true"))
		_exit(0);
	while ((c = getopt(argc, argv, "n:o:")) != -1) {
		if (c == 'n')
			n = (size_t)number(optarg, 1, 1000000, usage);
		else if (c == 'o')
			node = number(optarg, 1, 1022, usage);
		else
			USAGE(usage);
	}
	if (optind + 1 == argc) {
		snprintf(self, sizeof(self), "%s", argv[optind]);
		args[1] = NULL;
	} else if (optind == argc) {
		len = readlink("/proc/self/exe", self, sizeof(self) - 1);
		if (len < 0)
			DIE("/proc/self/exe");
		self[len] = 0;
	} else {
		USAGE(usage);
	}
	ns = calloc(n, sizeof(*ns));
	if (!ns)
		DIE("calloc");
	warm = n / 10 + 1;
	for (i = 0; i < n + warm; i++) {
		pid_t pid;

		t = now_ns();
		pid = fork();
		if (pid < 0)
			DIE("fork");
		if (pid == 0) {
			if (node)
				syscall(SYS_REXEC, (int)node, self, args, environ, 0u);
			else
				execve(self, args, environ);
			fprintf(stderr, "forkexec: %s on node %ld: %s\n", self, node, strerror(errno));
			_exit(125);
		}
		while (waitpid(pid, &status, 0) < 0)
			if (errno != EINTR)
				DIE("waitpid");
		if (i >= warm)
			ns[i - warm] = now_ns() - t;
		if (status != 0) {
			fprintf(stderr, "forkexec: child ended with status %#x\n", status);
			return 1;
		}
	}
	print_stats(node ? "onnode_true" : "forkexec", ns, n);
	return 0;
}
