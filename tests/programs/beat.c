// SPDX-License-Identifier: GPL-2.0
/*
 * beat DIR
 *
 * Makes a file DIR/1, DIR/2, ... every 20 ms, each of which must be new: a second copy of the process, or one that goes on
 * from an earlier state, finds its file there and makes DIR/twice. SIGUSR2 ends it with status 0, or 3 if it found one.
 */
#include "test.h"
#include <fcntl.h>
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t stop;

static void on_usr2(int sig)
{
	(void)sig;
	stop = 1;
}

int main(int argc, char **argv)
{
	struct timespec pause = { 0, 20 * 1000 * 1000 };
	int twice = 0;

	if (argc != 2)
		DIE("usage: beat DIR");
	signal(SIGUSR2, on_usr2);
	if (chdir(argv[1]))
		DIE("%s", argv[1]);
	for (unsigned long n = 1; !stop; n++) {
		char name[24];
		int fd;

		snprintf(name, sizeof(name), "%lu", n);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0) {
			if (errno != EEXIST)
				DIE("%s/%s", argv[1], name);
			twice = 1;
			close(open("twice", O_WRONLY | O_CREAT, 0644));
		} else {
			close(fd);
		}
		nanosleep(&pause, NULL);
	}
	return twice ? 3 : 0;
}
