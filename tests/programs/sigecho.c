// SPDX-License-Identifier: GPL-2.0
/*
 * sigecho peer                 prints "peer PID" and answers each SIGUSR1 with a SIGUSR1 to its sender
 * sigecho ping PID [ROUNDS]    sends SIGUSR1 to PID, whose handler sends one back; times the round trip
 *
 * Both ends of one round are stamped on the clock of `ping`. The handler of the peer itself calls kill().
 */
#include "test.h"
#include <signal.h>

static volatile sig_atomic_t back;

static void on_ping(int sig, siginfo_t *si, void *uc)
{
	int saved = errno;

	(void)uc;
	kill(si->si_pid, sig);
	errno = saved;
}

static void on_pong(int sig)
{
	(void)sig;
	back = 1;
}

static void on_alarm(int sig)
{
	static const char text[] = "sigecho: no answer within 10 s\n";
	ssize_t n = write(2, text, sizeof(text) - 1);

	(void)sig;
	(void)n;
	_exit(1);
}

int main(int argc, char **argv)
{
	static const char usage[] = "sigecho peer | sigecho ping PID [ROUNDS]";
	struct sigaction sa = { .sa_flags = SA_SIGINFO };
	sigset_t block, wait;
	uint64_t *ns, t;
	size_t i, n, warm;
	pid_t pid;

	if (argc == 2 && !strcmp(argv[1], "peer")) {
		sa.sa_sigaction = on_ping;
		sigaction(SIGUSR1, &sa, NULL);
		printf("peer %d\n", (int)getpid());
		fflush(stdout);
		for (;;)
			pause();
	}
	if (argc < 3 || argc > 4 || strcmp(argv[1], "ping"))
		USAGE(usage);
	pid = (pid_t)number(argv[2], 2, INT32_MAX, usage);
	n = argc > 3 ? (size_t)number(argv[3], 1, 10000000, usage) : 1000;
	ns = calloc(n, sizeof(*ns));
	if (!ns)
		DIE("calloc");
	signal(SIGUSR1, on_pong);
	signal(SIGALRM, on_alarm);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, &wait);
	sigdelset(&wait, SIGUSR1);
	warm = n / 10 + 1;
	for (i = 0; i < n + warm; i++) {
		back = 0;
		if (i % 1000 == 0)
			alarm(10);
		t = now_ns();
		if (kill(pid, SIGUSR1))
			DIE("kill %d", (int)pid);
		while (!back)
			sigsuspend(&wait);
		if (i >= warm)
			ns[i - warm] = now_ns() - t;
	}
	print_stats("sigecho", ns, n);
	return 0;
}
