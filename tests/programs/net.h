/* SPDX-License-Identifier: GPL-2.0 */
/* TCP for the peers of the benchmarks: plain sockets, no delay, whole reads and writes. */
#ifndef NET_H
#define NET_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static inline struct sockaddr_in address(const char *host, long port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		fprintf(stderr, "%s: no IPv4 address\n", host);
		exit(2);
	}
	return a;
}

static inline int nodelay(int fd)
{
	int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		DIE("TCP_NODELAY");
	return fd;
}

static inline int listen_on(long port)
{
	struct sockaddr_in a = address("0.0.0.0", port);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		DIE("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 8))
		DIE("port %ld", port);
	printf("listening %ld\n", port);
	fflush(stdout);
	return fd;
}

static inline int connect_to(const char *host, long port)
{
	struct sockaddr_in a = address(host, port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		DIE("%s:%ld", host, port);
	return nodelay(fd);
}

/* 1 done, 0 the other side has closed before the first byte. */
static inline int read_all(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			DIE("read");
		if (r == 0) {
			if (done == 0)
				return 0;
			fprintf(stderr, "connection ended after %zu of %zu bytes\n", done, n);
			exit(1);
		}
		done += (size_t)r;
	}
	return 1;
}

static inline void write_all(int fd, const void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = write(fd, (const char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			DIE("write");
		done += (size_t)r;
	}
}

#endif
