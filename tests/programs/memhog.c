// SPDX-License-Identifier: GPL-2.0
/*
 * memhog MIB [SECONDS]
 *
 * Touches MIB MiB of private memory with patterns that do not compress and depend on the address, prints
 * "ready PID", and verifies them at each SIGUSR1 (printing "ok" or what differs) and at the end: after SECONDS, or
 * at SIGTERM. Each verification also rewrites one word per page, so that pages stay dirty.
 */
#include "test.h"
#include <signal.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	static const char usage[] = "memhog MIB [SECONDS]";
	size_t n, i, per_page = 4096 / sizeof(uint64_t);
	uint64_t *mem, round = 0;
	struct timespec wait = { 0, 0 };
	sigset_t set;
	long secs;

	if (argc < 2 || argc > 3)
		USAGE(usage);
	n = (size_t)number(argv[1], 1, 1 << 20, usage) << 20;
	secs = argc > 2 ? number(argv[2], 0, 1 << 20, usage) : -1;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	mem = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		DIE("mmap");
	n /= sizeof(*mem);
	for (i = 0; i < n; i++)
		mem[i] = pattern((uintptr_t)&mem[i]);
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	for (;;) {
		int sig;

		wait.tv_sec = secs;
		sig = secs < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &wait);
		if (sig < 0 && errno == EINTR)
			continue;	/* moved, or stopped and continued, while waiting */
		for (i = 0; i < n; i++) {
			uint64_t want = pattern((uintptr_t)&mem[i]) + (i % per_page ? 0 : round);

			if (mem[i] != want) {
				CHECK(0, "word at %p: %#llx, was %#llx", (void *)&mem[i], (unsigned long long)mem[i],
				      (unsigned long long)want);
				if (n_bad > 8)
					return verdict();
			}
			if (i % per_page == 0)
				mem[i]++;
		}
		round++;
		if (sig != SIGUSR1)
			return verdict();
		verdict();
	}
}
