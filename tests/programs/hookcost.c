// SPDX-License-Identifier: GPL-2.0
/*
 * hookcost [-n SCALE] [OP...]      OP: empty getpid kill fork open fault (default: all)
 *
 * Runs each operation many times and prints one JSON line per operation: time per operation, the loop itself included
 * ("empty" tells its share). Under `-icount shift=0` the guest's clock advances by 1 ns per instruction, so the
 * figures are guest instructions. Five blocks per operation; the median block counts, the others show the spread.
 *
 * As pid 1 (it is the whole of an initial RAM disk then) it mounts /proc, measures everything and powers off.
 */
#include "test.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BLOCKS 5

static char own_path[4096];

static void op_empty(size_t n)
{
	while (n--)
		__asm__ volatile("" : : : "memory");
}

static void op_getpid(size_t n)
{
	while (n--)
		syscall(SYS_getpid);
}

static void op_kill(size_t n)
{
	pid_t me = getpid();

	while (n--)
		if (syscall(SYS_kill, me, 0))
			DIE("kill");
}

static void op_fork(size_t n)
{
	while (n--) {
		pid_t pid = (pid_t)syscall(SYS_fork);

		if (pid == 0)
			syscall(SYS_exit_group, 0);
		if (pid < 0 || syscall(SYS_wait4, pid, NULL, 0, NULL) != pid)
			DIE("fork");
	}
}

static void op_open(size_t n)
{
	while (n--) {
		long fd = syscall(SYS_openat, AT_FDCWD, own_path, O_RDONLY, 0);

		if (fd < 0)
			DIE("open");
		syscall(SYS_close, fd);
	}
}

static void op_fault(size_t n)
{
	size_t len = n * 4096, i;
	volatile uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || madvise((void *)p, len, MADV_NOHUGEPAGE))
		if (p == MAP_FAILED || errno != EINVAL)		/* EINVAL: a kernel without huge pages */
			DIE("mmap");
	for (i = 0; i < n; i++)
		p[i * 4096] = 1;
	munmap((void *)p, len);
}

static const struct {
	const char *name;
	void (*run)(size_t n);
	size_t n;
} ops[] = {
	{ "empty", op_empty, 100000 },
	{ "getpid", op_getpid, 20000 },
	{ "kill", op_kill, 20000 },
	{ "fork", op_fork, 200 },
	{ "open", op_open, 5000 },
	{ "fault", op_fault, 4096 },
};

int main(int argc, char **argv)
{
	static const char usage[] = "hookcost [-n SCALE] [empty|getpid|kill|fork|open|fault...]";
	size_t i, scale = 1;
	int c, b;

	if (getpid() == 1 && mount("proc", "/proc", "proc", 0, NULL))
		DIE("/proc");
	if (readlink("/proc/self/exe", own_path, sizeof(own_path) - 1) < 0)
		DIE("/proc/self/exe");

	while ((c = getopt(argc, argv, "n:")) != -1) {
		if (c != 'n')
			USAGE(usage);
		scale = (size_t)number(optarg, 1, 1000, usage);
	}
	for (c = optind; c < argc; c++) {
		for (i = 0; i < sizeof(ops) / sizeof(*ops) && strcmp(argv[c], ops[i].name); i++)
			;
		if (i == sizeof(ops) / sizeof(*ops))
			USAGE(usage);
	}
	for (i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
		size_t n = ops[i].n * scale;
		uint64_t ns[BLOCKS];

		for (c = optind; c < argc && strcmp(argv[c], ops[i].name); c++)
			;
		if (optind < argc && c == argc)
			continue;
		ops[i].run(n / 10 + 1);		/* warm caches, and fill the kernel's own lists */
		for (b = 0; b < BLOCKS; b++) {
			uint64_t t = now_ns();

			ops[i].run(n);
			ns[b] = now_ns() - t;
		}
		qsort(ns, BLOCKS, sizeof(*ns), by_value);
		printf("{\"name\":\"%s\",\"unit\":\"ns/op\",\"n\":%zu,\"min\":%.3f,\"median\":%.3f,\"max\":%.3f}\n", ops[i].name, n,
		       (double)ns[0] / (double)n, (double)ns[BLOCKS / 2] / (double)n, (double)ns[BLOCKS - 1] / (double)n);
		fflush(stdout);
	}
	if (getpid() == 1)
		reboot(RB_POWER_OFF);
	return 0;
}
