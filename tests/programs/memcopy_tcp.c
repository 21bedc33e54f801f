// SPDX-License-Identifier: GPL-2.0
/*
 * memcopy_tcp recv PORT                       prints "listening PORT"
 * memcopy_tcp send HOST PORT MIB [ROUNDS]     times the copy of MIB MiB
 *
 * What a move of memory costs at least when two programs do it by hand: the sender writes touched, incompressible
 * anonymous memory to a socket that is connected already; the receiver reads it into freshly mapped memory and answers
 * with one byte, at which the sender's clock stops.
 */
#include "test.h"
#include "net.h"
#include <sys/mman.h>

static uint8_t *map(size_t n)
{
	uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		DIE("mmap of %zu bytes", n);
	return p;
}

int main(int argc, char **argv)
{
	static const char usage[] = "memcopy_tcp recv PORT | memcopy_tcp send HOST PORT MIB [ROUNDS]";
	uint64_t *ns, t, n;
	size_t i, rounds;
	uint8_t *mem, ack = 1;
	int fd, c;

	if (argc == 3 && !strcmp(argv[1], "recv")) {
		fd = listen_on(number(argv[2], 1, 65535, usage));
		while ((c = accept(fd, NULL, NULL)) >= 0) {
			nodelay(c);
			while (read_all(c, &n, sizeof(n))) {
				mem = map(n);
				if (!read_all(c, mem, n))
					break;
				ack = mem[n - 1];
				write_all(c, &ack, 1);
				munmap(mem, n);
			}
			close(c);
		}
		DIE("accept");
	}
	if (argc < 5 || argc > 6 || strcmp(argv[1], "send"))
		USAGE(usage);
	n = (uint64_t)number(argv[4], 1, 65536, usage) << 20;
	rounds = argc > 5 ? (size_t)number(argv[5], 1, 100000, usage) : 5;
	ns = calloc(rounds, sizeof(*ns));
	if (!ns)
		DIE("calloc");
	mem = map(n);
	for (i = 0; i < n / 8; i++)
		((uint64_t *)mem)[i] = pattern(i);
	fd = connect_to(argv[2], number(argv[3], 1, 65535, usage));
	for (i = 0; i < rounds; i++) {
		t = now_ns();
		write_all(fd, &n, sizeof(n));
		write_all(fd, mem, n);
		if (!read_all(fd, &ack, 1) || ack != mem[n - 1]) {
			fprintf(stderr, "memcopy_tcp: wrong answer\n");
			return 1;
		}
		ns[i] = now_ns() - t;
	}
	print_stats("memcopy_tcp", ns, rounds);
	return 0;
}
