// SPDX-License-Identifier: GPL-2.0
/*
 * memall SECONDS
 *
 * Has children take all memory, one after another for SECONDS, each until the kernel kills it; then prints how often
 * it did. Its own text is locked: a program that reads its text again cannot take more memory meanwhile, and whoever
 * reads from a block device does not invoke the OOM killer, so that nobody might, for minutes.
 */
#include "test.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PIECE (1 << 20)

static void take_all(void)
{
	FILE *score = fopen("/proc/self/oom_score_adj", "w");
	size_t i;

	if (!score || fprintf(score, "1000") < 0 || fclose(score))
		DIE("oom_score_adj");
	if (mlockall(MCL_CURRENT))
		DIE("mlockall");
	for (;;) {
		char *mem = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mem == MAP_FAILED)
			DIE("mmap");
		for (i = 0; i < PIECE; i += 4096)
			mem[i] = 1;
	}
}

int main(int argc, char **argv)
{
	static const char usage[] = "memall SECONDS";
	uint64_t end;
	int killed = 0;

	if (argc != 2)
		USAGE(usage);
	end = now_ns() + (uint64_t)number(argv[1], 1, 3600, usage) * 1000000000ull;
	if (mlockall(MCL_CURRENT))
		DIE("mlockall");
	while (now_ns() < end) {
		pid_t child = fork();
		int status;

		if (child < 0)
			DIE("fork");
		if (!child)
			take_all();
		if (waitpid(child, &status, 0) != child)
			DIE("wait for %d", (int)child);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
			fprintf(stderr, "%d was not killed for memory: %#x\n", (int)child, status);
			return 1;
		}
		killed++;
	}
	printf("%d\n", killed);
	return 0;
}
