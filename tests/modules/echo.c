// SPDX-License-Identifier: GPL-2.0
/*
 * What a call between two kernels costs by sockets: threads that write to one each and wait for the answer, as plainly
 * as it can be done, over TCP and over TIPC.
 *
 * TIPC's are SOCK_SEQPACKET: connected, as TCP's are, so that no call looks a name up and the flow control of a
 * connection holds; and its messages go at once, where SOCK_STREAM's may be gathered. What is longer than a message
 * goes in several.
 */
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/tipc.h>
#include <net/sock.h>
#include <net/tcp.h>
#include "peers.h"

/* Of TIPC; it takes TIPC_MAX_USER_MSG_SIZE at most, which is no power of two. */
#define MESSAGE_BYTES	65536U

/* The first thing on a connection: what each exchange is. */
struct sizes {
	__le32 in;
	__le32 out;
};

/* Sockets of one kind. */
struct echo {
	int family;
	int type;
	struct socket *listener;
	struct task_struct *acceptor;
	struct socket *answered[MAX_CALLERS];
	struct task_struct *answerers[MAX_CALLERS];
};

static int transfer(struct socket *sock, void *buf, size_t len, bool out)
{
	size_t most = sock->type == SOCK_SEQPACKET ? MESSAGE_BYTES : len;
	size_t done = 0;

	while (done < len) {
		struct msghdr msg = { .msg_flags = MSG_NOSIGNAL | (out ? 0 : MSG_WAITALL) };
		struct kvec kv = { .iov_base = buf + done, .iov_len = min(len - done, most) };
		int ret = out ? kernel_sendmsg(sock, &msg, &kv, 1, kv.iov_len) :
				kernel_recvmsg(sock, &msg, &kv, 1, kv.iov_len, MSG_WAITALL);

		if (ret <= 0)
			return ret ?: -ECONNRESET;
		done += ret;
	}
	return 0;
}

static int answer(void *arg)
{
	struct socket *sock = arg;
	void *buf = kvmalloc(MAX_BYTES, GFP_KERNEL);
	struct sizes s;

	if (buf && !transfer(sock, &s, sizeof(s), false)) {
		size_t in = min(le32_to_cpu(s.in), MAX_BYTES), out = min(le32_to_cpu(s.out), MAX_BYTES);

		memset(buf, 0x5a, MAX_BYTES);
		while (!transfer(sock, buf, in, false) && !transfer(sock, buf, out, true))
			;
	}
	kvfree(buf);
	wait_for_stop();
	return 0;
}

static void end_answerer(struct echo *e, int i)
{
	kernel_sock_shutdown(e->answered[i], SHUT_RDWR);
	kthread_stop_put(e->answerers[i]);
	sock_release(e->answered[i]);
	e->answered[i] = NULL;
}

static int accept_all(void *arg)
{
	struct echo *e = arg;
	struct socket *sock;
	int next = 0;

	/* A shutdown does not wake who accepts from TIPC. */
	allow_signal(SIGTERM);
	while (!kthread_should_stop()) {
		struct task_struct *t;

		if (kernel_accept(e->listener, &sock, 0)) {
			flush_signals(current);
			wait_for_stop();
			break;
		}
		if (e->family == AF_INET)
			tcp_sock_set_nodelay(sock->sk);
		/* The oldest goes: its run is over. */
		if (e->answered[next])
			end_answerer(e, next);
		t = kthread_create(answer, sock, "bench_answer");
		if (IS_ERR(t)) {
			sock_release(sock);
			continue;
		}
		e->answered[next] = sock;
		e->answerers[next] = get_task_struct(t);
		wake_up_process(t);
		next = (next + 1) % MAX_CALLERS;
	}
	return 0;
}

/* Where the server is: at this address, or for TIPC wherever the service with the port's number is. */
static int address(const struct echo *e, const struct sockaddr_in *in, struct sockaddr_storage *to)
{
	struct sockaddr_tipc tipc = {
		.family = AF_TIPC,
		.addrtype = TIPC_SERVICE_ADDR,
		.addr.name.name.type = ntohs(in->sin_port),
	};

	if (e->family == AF_INET) {
		memcpy(to, in, sizeof(*in));
		return sizeof(*in);
	}
	memcpy(to, &tipc, sizeof(tipc));
	return sizeof(tipc);
}

static int new_socket(const struct echo *e, struct socket **sock)
{
	return sock_create_kern(&init_net, e->family, e->type, 0, sock);
}

static int echo_listen(const struct peer *peer, u16 port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct echo *e = peer->own;
	struct sockaddr_storage at;
	struct socket *sock;
	int ret;

	if (e->listener)
		return -EBUSY;
	ret = new_socket(e, &sock);
	if (ret)
		return ret;
	sock_set_reuseaddr(sock->sk);
	ret = address(e, &any, &at);
	ret = kernel_bind(sock, (struct sockaddr_unsized *)&at, ret) ?: kernel_listen(sock, MAX_CALLERS);
	if (ret)
		goto release;
	e->listener = sock;
	e->acceptor = kthread_run(accept_all, e, "bench_accept");
	if (!IS_ERR(e->acceptor))
		return 0;
	ret = PTR_ERR(e->acceptor);
	e->listener = NULL;
release:
	sock_release(sock);
	return ret;
}

static void echo_unlisten(const struct peer *peer)
{
	struct echo *e = peer->own;

	if (!e->listener)
		return;
	send_sig(SIGTERM, e->acceptor, 1);
	kthread_stop(e->acceptor);
	for (int i = 0; i < MAX_CALLERS; i++)
		if (e->answered[i])
			end_answerer(e, i);
	sock_release(e->listener);
	e->listener = NULL;
}

/* An echo has at least a byte. */
static int echo_begin(struct run *run)
{
	return run->in && run->out ? 0 : -EINVAL;
}

static void echo_close(struct caller *c)
{
	sock_release(c->sock);
	kvfree(c->buf);
}

static int echo_open(struct caller *c)
{
	struct sizes sizes = { .in = cpu_to_le32(c->run->in), .out = cpu_to_le32(c->run->out) };
	const struct echo *e = c->run->peer->own;
	struct sockaddr_storage to;
	int ret = new_socket(e, &c->sock);

	if (ret)
		return ret;
	if (e->family == AF_INET)
		tcp_sock_set_nodelay(c->sock->sk);
	c->buf = kvzalloc(MAX_BYTES, GFP_KERNEL);
	ret = address(e, &c->run->to, &to);
	ret = c->buf ? kernel_connect(c->sock, (struct sockaddr_unsized *)&to, ret, 0) : -ENOMEM;
	ret = ret ?: transfer(c->sock, &sizes, sizeof(sizes), true);
	if (ret)
		echo_close(c);
	return ret;
}

static int echo_call(struct caller *c)
{
	return transfer(c->sock, c->buf, c->run->in, true) ?: transfer(c->sock, c->buf, c->run->out, false);
}

#define PEER(called, echo) {			\
	.name = (called),			\
	.own = (echo),				\
	.listen = echo_listen,			\
	.unlisten = echo_unlisten,		\
	.begin = echo_begin,			\
	.open = echo_open,			\
	.close = echo_close,			\
	.call = echo_call,			\
}

static struct echo tcp = { .family = AF_INET, .type = SOCK_STREAM };
static struct echo tipc = { .family = AF_TIPC, .type = SOCK_SEQPACKET };

const struct peer echo_over_tcp = PEER("tcp", &tcp);
const struct peer echo_over_tipc = PEER("tipc", &tipc);
