// SPDX-License-Identifier: GPL-2.0
/* A run: its threads, its clock and its figures. Each sample is stamped twice by the thread that calls. */
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include "peers.h"

void wait_for_stop(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
}

static int call_all(struct caller *c)
{
	const struct peer *peer = c->run->peer;
	u32 count = c->run->count, warm = count / 10 + 1;
	int ret = 0;

	for (u32 i = 0; !ret && i < count + warm; i++) {
		u64 begin = ktime_get_ns();

		ret = peer->call(c);
		if (i >= warm)
			c->ns[i - warm] = ktime_get_ns() - begin;
	}
	return ret;
}

static int call_thread(void *arg)
{
	struct caller *c = arg;
	const struct peer *peer = c->run->peer;

	c->ret = peer->open ? peer->open(c) : 0;
	if (!c->ret) {
		c->ret = call_all(c);
		if (peer->close)
			peer->close(c);
	}
	complete(&c->done);
	wait_for_stop();
	return 0;
}

static int compare(const void *a, const void *b)
{
	return cmp_int(*(const u64 *)a, *(const u64 *)b);
}

static int run_threads(const struct run *run, struct caller *c, struct task_struct **t, u64 *ns)
{
	int ret = 0;

	for (u32 i = 0; !ret && i < run->callers; i++) {
		c[i] = (struct caller){ .run = run, .ns = ns + i * run->count };
		init_completion(&c[i].done);
		t[i] = kthread_run(call_thread, &c[i], "bench_%s", run->peer->name);
		if (IS_ERR(t[i])) {
			ret = PTR_ERR(t[i]);
			t[i] = NULL;
		}
	}
	for (u32 i = 0; i < run->callers && t[i]; i++) {
		wait_for_completion(&c[i].done);
		kthread_stop(t[i]);
		ret = ret ?: c[i].ret;
	}
	return ret;
}

int timed_run(struct run *run, char *report, size_t size)
{
	u32 n = run->callers * run->count;
	struct task_struct **t = kcalloc(run->callers, sizeof(*t), GFP_KERNEL);
	struct caller *c = kcalloc(run->callers, sizeof(*c), GFP_KERNEL);
	u64 *ns = kvcalloc(n, sizeof(*ns), GFP_KERNEL);
	int ret = t && c && ns ? run->peer->begin(run) : -ENOMEM;

	if (!ret) {
		ret = run_threads(run, c, t, ns);
		if (run->peer->end)
			run->peer->end(run);
	}
	if (!ret) {
		sort(ns, n, sizeof(*ns), compare, NULL);
		snprintf(report, size,
			 "{\"name\":\"%s\",\"unit\":\"ns\",\"n\":%u,\"min\":%llu,\"p50\":%llu,\"p99\":%llu,\"max\":%llu}\n",
			 run->peer->name, n, ns[0], ns[(n - 1) / 2], ns[(u64)(n - 1) * 99 / 100], ns[n - 1]);
	}
	kvfree(ns);
	kfree(c);
	kfree(t);
	return ret;
}
