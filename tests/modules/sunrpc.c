// SPDX-License-Identifier: GPL-2.0
/*
 * NULL of a program of our own over SunRPC: what its machinery costs where the procedure does nothing. As a file system
 * uses it, all callers share one client with one TCP connection, and a pool of threads answers.
 */
#include <linux/cred.h>
#include <linux/sunrpc/clnt.h>
#include <linux/sunrpc/svc.h>
#include <linux/sunrpc/svc_xprt.h>
#include <linux/sunrpc/svcsock.h>
#include <net/net_namespace.h>
#include "peers.h"

/* Of the range that is for anybody; "ssi" and a digit. No portmapper knows it. */
#define PROGRAM		0x20737369
#define VERSION		1
/* As many as nfsd had for a long time; none of them ever waits. */
#define THREADS		8

static enum svc_auth_status authenticate(struct svc_rqst *rqstp)
{
	rqstp->rq_auth_stat = rpc_auth_ok;
	return SVC_OK;
}

static int dispatch(struct svc_rqst *rqstp)
{
	*rqstp->rq_accept_statp = rqstp->rq_procinfo->pc_func(rqstp);
	return 1;
}

static __be32 answer_null(struct svc_rqst *rqstp)
{
	return rpc_success;
}

/* Without it there would be no reply. */
static bool encode_nothing(struct svc_rqst *rqstp, struct xdr_stream *xdr)
{
	return true;
}

static const struct svc_procedure answers[] = {
	[0] = {
		.pc_func = answer_null,
		.pc_encode = encode_nothing,
		.pc_name = "NULL",
	},
};

static const struct svc_version answered_version = {
	.vs_vers = VERSION,
	.vs_nproc = ARRAY_SIZE(answers),
	.vs_proc = answers,
	.vs_dispatch = dispatch,
	.vs_hidden = true,
};

static const struct svc_version *answered_versions[] = { [VERSION] = &answered_version };

static struct svc_program answered_program = {
	.pg_prog = PROGRAM,
	.pg_lovers = VERSION,
	.pg_hivers = VERSION,
	.pg_nvers = ARRAY_SIZE(answered_versions),
	.pg_vers = answered_versions,
	.pg_name = "bench_null",
	.pg_class = "bench_null",
	.pg_authenticate = authenticate,
	.pg_init_request = svc_generic_init_request,
	.pg_rpcbind_set = svc_generic_rpcbind_set,
};

static struct svc_serv *serv;

static int answer(void *arg)
{
	struct svc_rqst *rqstp = arg;

	svc_thread_init_status(rqstp, 0);
	while (!svc_thread_should_stop(rqstp))
		svc_recv(rqstp, 0);
	svc_exit_thread(rqstp);
	return 0;
}

static void sunrpc_unlisten(const struct peer *peer)
{
	if (!serv)
		return;
	svc_xprt_destroy_all(serv, &init_net, false);
	svc_set_num_threads(serv, 0, 0);
	svc_destroy(&serv);
}

static int sunrpc_listen(const struct peer *peer, u16 port)
{
	int ret;

	if (serv)
		return -EBUSY;
	serv = svc_create(&answered_program, PAGE_SIZE, answer);
	if (!serv)
		return -ENOMEM;
	ret = svc_xprt_create(serv, "tcp", &init_net, PF_INET, port, SVC_SOCK_DEFAULTS, current_cred());
	/* It gives the port. */
	if (ret >= 0)
		ret = svc_set_num_threads(serv, 0, THREADS);
	if (ret)
		sunrpc_unlisten(peer);
	return ret;
}

static const struct rpc_procinfo calls[] = { [0] = { .p_proc = 0, .p_name = "NULL" } };
static unsigned int counts[ARRAY_SIZE(calls)];

static const struct rpc_version called_version = {
	.number = VERSION,
	.nrprocs = ARRAY_SIZE(calls),
	.procs = calls,
	.counts = counts,
};

static const struct rpc_version *called_versions[] = { [VERSION] = &called_version };
static struct rpc_stat stats;

static const struct rpc_program called_program = {
	.name = "bench_null",
	.number = PROGRAM,
	.nrvers = ARRAY_SIZE(called_versions),
	.version = called_versions,
	.stats = &stats,
};

static int sunrpc_begin(struct run *run)
{
	struct rpc_create_args args = {
		.net = &init_net,
		.protocol = XPRT_TRANSPORT_TCP,
		.address = (struct sockaddr *)&run->to,
		.addrsize = sizeof(run->to),
		.servername = "bench_null",
		.program = &called_program,
		.version = VERSION,
		.authflavor = RPC_AUTH_NULL,
		.flags = RPC_CLNT_CREATE_NONPRIVPORT,
		.cred = current_cred(),
	};

	if (run->in || run->out)
		return -EINVAL;
	/* Connects, and calls NULL once. */
	run->clnt = rpc_create(&args);
	return PTR_ERR_OR_ZERO(run->clnt);
}

static void sunrpc_end(struct run *run)
{
	rpc_shutdown_client(run->clnt);
}

static int sunrpc_call(struct caller *c)
{
	struct rpc_task *task = rpc_call_null(c->run->clnt, NULL, 0);
	int ret;

	if (IS_ERR(task))
		return PTR_ERR(task);
	ret = task->tk_status;
	rpc_put_task(task);
	return ret;
}

const struct peer null_over_sunrpc = {
	.name = "sunrpc",
	.listen = sunrpc_listen,
	.unlisten = sunrpc_unlisten,
	.begin = sunrpc_begin,
	.end = sunrpc_end,
	.call = sunrpc_call,
};
