// SPDX-License-Identifier: GPL-2.0
/*
 * The peers of ics in benchmarks, and nothing else: what a call between two kernels costs by other means.
 *
 * /sys/kernel/debug/bench_peers, one line a write, with PEER one of tcp, tipc, sunrpc:
 *   listen PEER PORT                     answers from now on
 *   time PEER ADDRESS PORT CALLERS COUNT IN OUT
 *                                        CALLERS at once, COUNT exchanges each: IN bytes there, OUT bytes back;
 *                                        tipc finds its server by PORT alone, and sunrpc takes no bytes
 * Reading gives the last run in nanoseconds, as a line of JSON.
 */
#include <linux/debugfs.h>
#include <linux/inet.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include "peers.h"

static DEFINE_MUTEX(lock);
static char report[160];
static struct dentry *file;

static const struct peer *const peers[] = { &echo_over_tcp, &echo_over_tipc, &null_over_sunrpc };

static const struct peer *named(const char *name)
{
	for (int i = 0; i < ARRAY_SIZE(peers); i++)
		if (!strcmp(peers[i]->name, name))
			return peers[i];
	return NULL;
}

static int command(char *line)
{
	struct run run = { .to.sin_family = AF_INET };
	char name[8], address[16];
	u16 port;

	if (sscanf(line, "listen %7s %hu", name, &port) == 2) {
		const struct peer *p = named(name);

		return p ? p->listen(p, port) : -EINVAL;
	}
	if (sscanf(line, "time %7s %15s %hu %u %u %u %u", name, address, &port, &run.callers, &run.count, &run.in,
		   &run.out) != 7 ||
	    !in4_pton(address, -1, (u8 *)&run.to.sin_addr, -1, NULL) || !run.callers || run.callers > MAX_CALLERS ||
	    !run.count || run.count > MAX_SAMPLES / run.callers || run.in > MAX_BYTES || run.out > MAX_BYTES)
		return -EINVAL;
	run.to.sin_port = htons(port);
	run.peer = named(name);
	report[0] = 0;
	return run.peer ? timed_run(&run, report, sizeof(report)) : -EINVAL;
}

static ssize_t store(struct file *f, const char __user *from, size_t len, loff_t *pos)
{
	char line[128];
	int ret;

	if (len >= sizeof(line) || copy_from_user(line, from, len))
		return -EINVAL;
	line[len] = 0;
	mutex_lock(&lock);
	ret = command(line);
	mutex_unlock(&lock);
	return ret ?: len;
}

static ssize_t show(struct file *f, char __user *to, size_t len, loff_t *pos)
{
	return simple_read_from_buffer(to, len, pos, report, strlen(report));
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.read = show,
	.write = store,
};

static int __init bench_peers_init(void)
{
	file = debugfs_create_file("bench_peers", 0600, NULL, NULL, &fops);
	return PTR_ERR_OR_ZERO(file);
}
module_init(bench_peers_init);

static void __exit bench_peers_exit(void)
{
	debugfs_remove(file);
	for (int i = 0; i < ARRAY_SIZE(peers); i++)
		peers[i]->unlisten(peers[i]);
}
module_exit(bench_peers_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Calls between kernels over TCP, TIPC and SunRPC, the peers of ics in benchmarks");
