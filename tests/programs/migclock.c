// SPDX-License-Identifier: GPL-2.0
/*
 * migclock pipe MIB SECONDS         gaps between beats as seen by a parent that stays
 * migclock udp HOST PORT MIB SECONDS    one datagram per beat, to be stamped by the switch
 *
 * A program with MIB MiB of touched memory that beats every millisecond; moved while it beats, its largest gap less the
 * median gap is the time it stood still. Both ways stamp on one clock that does not move.
 * pipe: prints "ready PID", PID being the child that beats by writing a byte to a pipe. The parent stamps their arrival,
 * and after SECONDS prints one JSON line with median, largest gap and freeze (largest less median).
 * udp: prints "ready PID" and beats itself; a socket is opened for each beat and closed again, for a process with
 * an open socket cannot be moved. Each datagram is 8 bytes, a counter from 0, little-endian.
 */
#include "test.h"
#include "net.h"
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static void touch(size_t n)
{
	uint64_t *mem = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (mem == MAP_FAILED)
		DIE("mmap");
	for (i = 0; i < n / 8; i++)
		mem[i] = pattern((uintptr_t)&mem[i]);
}

static void rest(void)
{
	/* Relative: the clocks of two nodes differ. */
	struct timespec ms = { 0, 1000000 };

	while (nanosleep(&ms, &ms) && errno == EINTR)
		;
}

static int beat_udp(const char *host, long port, size_t n, long secs)
{
	struct sockaddr_in to = address(host, port);
	uint64_t i, beats = (uint64_t)secs * 1000;

	touch(n);
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	for (i = 0; i < beats; i++) {
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			DIE("socket");
		if (sendto(fd, &i, sizeof(i), 0, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != ECONNREFUSED)
			DIE("sendto");
		close(fd);
		rest();
	}
	return verdict();
}

int main(int argc, char **argv)
{
	static const char usage[] = "migclock pipe MIB SECONDS | migclock udp HOST PORT MIB SECONDS";
	uint64_t *gaps, last = 0, end;
	size_t n = 0, max, size;
	struct pollfd p;
	long secs;
	int fds[2];
	pid_t pid;

	if (argc == 6 && !strcmp(argv[1], "udp"))
		return beat_udp(argv[2], number(argv[3], 1, 65535, usage),
				(size_t)number(argv[4], 1, 65536, usage) << 20, number(argv[5], 1, 86400, usage));
	if (argc != 4 || strcmp(argv[1], "pipe"))
		USAGE(usage);
	size = (size_t)number(argv[2], 1, 65536, usage) << 20;
	secs = number(argv[3], 1, 3600, usage);
	max = (size_t)secs * 1000 + 1000;
	gaps = calloc(max, sizeof(*gaps));
	if (!gaps || pipe(fds))
		DIE("start");
	pid = fork();
	if (pid < 0)
		DIE("fork");
	if (pid == 0) {
		close(fds[0]);
		free(gaps);
		touch(size);
		while (write(fds[1], "b", 1) == 1)	/* ends by SIGPIPE when the parent has seen enough */
			rest();
		_exit(1);
	}
	close(fds[1]);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	end = UINT64_MAX;
	while (n < max && now_ns() < end) {
		char buf[4096];
		ssize_t r;

		/* Without a beat for 30 s the child is lost, not frozen. */
		if (poll(&p, 1, 30000) == 0) {
			fprintf(stderr, "migclock: no beat for 30 s\n");
			kill(pid, SIGKILL);
			return 1;
		}
		r = read(fds[0], buf, sizeof(buf));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			fprintf(stderr, "migclock: the child is gone\n");
			return 1;
		}
		if (last == 0) {
			last = now_ns();
			end = last + (uint64_t)secs * 1000000000ull;
			printf("ready %d\n", (int)pid);
			fflush(stdout);
			continue;
		}
		gaps[n] = now_ns() - last;
		last += gaps[n++];
	}
	close(fds[0]);
	waitpid(pid, NULL, 0);
	if (n < 3) {
		fprintf(stderr, "migclock: %zu beats only\n", n);
		return 1;
	}
	qsort(gaps, n, sizeof(*gaps), by_value);
	printf("{\"name\":\"migclock\",\"unit\":\"ns\",\"beats\":%zu,\"median_gap\":%llu,\"second_gap\":%llu,\"max_gap\":%llu,\"freeze\":%llu}\n",
	       n, (unsigned long long)gaps[n / 2], (unsigned long long)gaps[n - 2], (unsigned long long)gaps[n - 1],
	       (unsigned long long)(gaps[n - 1] - gaps[n / 2]));
	return 0;
}
