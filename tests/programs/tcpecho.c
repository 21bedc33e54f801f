// SPDX-License-Identifier: GPL-2.0
/*
 * tcpecho server PORT                  prints "listening PORT"; sends every byte back, one connection after another
 * tcpecho client HOST PORT [ROUNDS]    times the round trip of one byte
 */
#include "test.h"
#include "net.h"
#include <signal.h>

int main(int argc, char **argv)
{
	static const char usage[] = "tcpecho server PORT | tcpecho client HOST PORT [ROUNDS]";
	uint64_t *ns, t;
	size_t i, n, warm;
	int fd, c;
	char b = 0;

	if (argc == 3 && !strcmp(argv[1], "server")) {
		fd = listen_on(number(argv[2], 1, 65535, usage));
		while ((c = accept(fd, NULL, NULL)) >= 0) {
			nodelay(c);
			while (read_all(c, &b, 1))
				write_all(c, &b, 1);
			close(c);
		}
		DIE("accept");
	}
	if (argc < 4 || argc > 5 || strcmp(argv[1], "client"))
		USAGE(usage);
	n = argc > 4 ? (size_t)number(argv[4], 1, 10000000, usage) : 1000;
	ns = calloc(n, sizeof(*ns));
	if (!ns)
		DIE("calloc");
	fd = connect_to(argv[2], number(argv[3], 1, 65535, usage));
	warm = n / 10 + 1;
	for (i = 0; i < n + warm; i++) {
		if (i % 1000 == 0)
			alarm(10);
		t = now_ns();
		write_all(fd, &b, 1);
		if (!read_all(fd, &b, 1)) {
			fprintf(stderr, "tcpecho: the server has closed\n");
			return 1;
		}
		if (i >= warm)
			ns[i - warm] = now_ns() - t;
	}
	print_stats("tcpecho", ns, n);
	return 0;
}
