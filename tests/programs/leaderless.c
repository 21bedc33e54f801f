// SPDX-License-Identifier: GPL-2.0
/* leaderless     its first thread ends at once, and another one waits for a signal: a process that looks like a zombie */
#include "test.h"
#include <pthread.h>
#include <unistd.h>

static void *wait_for_signal(void *arg)
{
	pause();
	return arg;
}

int main(void)
{
	pthread_t other;

	if (pthread_create(&other, NULL, wait_for_signal, NULL))
		return 1;
	pthread_exit(NULL);
}
