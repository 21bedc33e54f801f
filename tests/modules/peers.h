/* SPDX-License-Identifier: GPL-2.0 */
/* What the benchmarks set beside ics: a server on one node, callers on another, and what one exchange takes. */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <linux/completion.h>
#include <linux/in.h>
#include <linux/types.h>

#define MAX_CALLERS	128
#define MAX_BYTES	(1U << 20)
#define MAX_SAMPLES	1000000U

struct caller;
struct run;
struct rpc_clnt;
struct socket;

/* A way to call another kernel. The calls of a run are made by threads, each its own one after the other. */
struct peer {
	const char *name;
	void *own;
	/* The server, on this node. unlisten() is also called where none listens. */
	int (*listen)(const struct peer *peer, u16 port);
	void (*unlisten)(const struct peer *peer);
	/* What all callers of a run share. begin() refuses sizes that this peer has not. */
	int (*begin)(struct run *run);
	void (*end)(struct run *run);
	/* What each caller has for itself; may be left out. */
	int (*open)(struct caller *c);
	void (*close)(struct caller *c);
	/* One exchange. */
	int (*call)(struct caller *c);
};

/* One measurement: so many callers at once, count exchanges each, in bytes there and out bytes back. */
struct run {
	const struct peer *peer;
	struct sockaddr_in to;
	u32 callers;
	u32 count;
	u32 in;
	u32 out;
	struct rpc_clnt *clnt;		/* sunrpc.c's */
};

struct caller {
	const struct run *run;
	struct socket *sock;		/* echo.c's */
	void *buf;			/* echo.c's, of MAX_BYTES */
	u64 *ns;
	int ret;
	struct completion done;
};

extern const struct peer echo_over_tcp;
extern const struct peer echo_over_tipc;
extern const struct peer null_over_sunrpc;

/* Writes what the run took to report, a line of JSON. */
int timed_run(struct run *run, char *report, size_t size);

/* For the end of a thread: kthread_stop() must find it. */
void wait_for_stop(void);

#endif
