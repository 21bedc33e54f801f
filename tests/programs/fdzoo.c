// SPDX-License-Identifier: GPL-2.0
/*
 * fdzoo KIND      opens a file of that kind, prints "ready PID FD", and waits for a signal
 * fdzoo --list    prints all kinds
 *
 * For tests of what can be moved and what must be refused by name. Where the kernel has no such kind, it prints
 * "unsupported KIND: reason" and exits 77.
 */
#include "test.h"
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static int k_epoll(void)
{
	int fd = epoll_create1(0), pipes[2];
	struct epoll_event ev = { .events = EPOLLIN };

	if (fd >= 0 && !pipe(pipes))
		epoll_ctl(fd, EPOLL_CTL_ADD, pipes[0], &ev);
	return fd;
}

static int k_eventfd(void) { return eventfd(3, 0); }
static int k_inotify(void)
{
	int fd = inotify_init1(0);

	if (fd >= 0)
		inotify_add_watch(fd, "/tmp", IN_CREATE);
	return fd;
}
static int k_memfd(void) { return memfd_create("zoo", 0); }
static int k_tcp(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static int k_udp(void) { return socket(AF_INET, SOCK_DGRAM, 0); }
static int k_unix(void)
{
	int fds[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, fds) ? -1 : fds[0];
}
static int k_pidfd(void) { return (int)syscall(SYS_pidfd_open, getpid(), 0); }
static int k_zero(void) { return open("/dev/zero", O_RDWR); }
static int k_null(void) { return open("/dev/null", O_RDWR); }
static int k_full(void) { return open("/dev/full", O_RDWR); }
static int k_random(void) { return open("/dev/random", O_RDONLY); }
static int k_urandom(void) { return open("/dev/urandom", O_RDONLY); }
static int k_regular(void) { return open("/proc/self/exe", O_RDONLY); }
static int k_directory(void) { return open("/usr", O_RDONLY | O_DIRECTORY); }
static int k_path(void) { return open("/usr", O_PATH); }
static int k_procfile(void) { return open("/proc/self/maps", O_RDONLY); }
static int k_io_uring(void)
{
	static uint8_t params[120];	/* struct io_uring_params, all zero */

	return (int)syscall(SYS_io_uring_setup, 4, params);
}
static int k_userfaultfd(void) { return (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY); }

static int k_timerfd(void)
{
	struct itimerspec its = { .it_value = { 3600, 0 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);

	if (fd >= 0)
		timerfd_settime(fd, 0, &its, NULL);
	return fd;
}

static int k_signalfd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, 0);
}

static int k_pipe(void)
{
	int fds[2];

	return pipe(fds) ? -1 : fds[0];
}

static int k_fifo(void)
{
	char name[] = "/tmp/zooXXXXXX", path[64];
	int fd;

	if (!mkdtemp(name))
		return -1;
	snprintf(path, sizeof(path), "%s/fifo", name);
	if (mkfifo(path, 0600))
		return -1;
	fd = open(path, O_RDWR);
	unlink(path);
	rmdir(name);
	return fd;
}

static int k_deleted(void)
{
	char name[] = "/tmp/zooXXXXXX";
	int fd = mkstemp(name);

	if (fd >= 0)
		unlink(name);
	return fd;
}

static int k_local(void)
{
	char name[] = "/tmp/zooXXXXXX";
	int fd = mkstemp(name);

	if (fd >= 0 && write(fd, "local", 5) != 5)
		return -1;
	return fd;
}

static int k_locked(void)
{
	struct flock fl = { .l_type = F_WRLCK };
	int fd = k_local();

	return fd >= 0 && fcntl(fd, F_SETLK, &fl) ? -1 : fd;
}

static int k_pty(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY);

	if (fd >= 0 && (grantpt(fd) || unlockpt(fd)))
		return -1;
	return fd;
}

static int k_mapped_memfd(void)
{
	int fd = memfd_create("zoo", 0);

	if (fd < 0 || ftruncate(fd, 4096) || mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		return -1;
	return fd;
}

static const struct {
	const char *name;
	int (*open)(void);
} kinds[] = {
	{ "epoll", k_epoll }, { "eventfd", k_eventfd }, { "timerfd", k_timerfd }, { "signalfd", k_signalfd },
	{ "inotify", k_inotify }, { "memfd", k_memfd }, { "mapped_memfd", k_mapped_memfd }, { "tcp", k_tcp },
	{ "udp", k_udp }, { "unix", k_unix }, { "io_uring", k_io_uring }, { "userfaultfd", k_userfaultfd },
	{ "pidfd", k_pidfd }, { "deleted", k_deleted }, { "local", k_local }, { "locked", k_locked },
	{ "regular", k_regular }, { "directory", k_directory }, { "path", k_path }, { "procfile", k_procfile },
	{ "pipe", k_pipe }, { "fifo", k_fifo }, { "pty", k_pty }, { "zero", k_zero }, { "null", k_null },
	{ "full", k_full }, { "random", k_random }, { "urandom", k_urandom },
};

int main(int argc, char **argv)
{
	size_t i, n = sizeof(kinds) / sizeof(*kinds);
	int fd;

	if (argc != 2)
		USAGE("fdzoo KIND | fdzoo --list");
	if (!strcmp(argv[1], "--list")) {
		for (i = 0; i < n; i++)
			puts(kinds[i].name);
		return 0;
	}
	for (i = 0; i < n && strcmp(argv[1], kinds[i].name); i++)
		;
	if (i == n)
		USAGE("fdzoo KIND | fdzoo --list");
	fd = kinds[i].open();
	if (fd < 0) {
		printf("unsupported %s: %s\n", kinds[i].name, strerror(errno));
		return 77;
	}
	printf("ready %d %d\n", (int)getpid(), fd);
	fflush(stdout);
	for (;;)
		pause();
}
