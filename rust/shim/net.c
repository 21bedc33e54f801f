// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel sockets over IPv4, as much of them as the transport needs.
 */
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/mm.h>
#include <linux/net.h>
#include <linux/pkt_sched.h>
#include <linux/socket.h>
#include <linux/tcp.h>
#include <linux/uio.h>
#include <net/ip.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <linux/export.h>
#include "shim.h"

/*
 * A stream is torn when nothing that it has sent was acknowledged for so long, or the other end had no room, or,
 * idle, did not answer: long enough for one that waits for memory, short enough for who waits for a call.
 */
#define SSI_TCP_LOST_MS	10000

/* What TCP waits for beyond a round trip before it sends again; else 200. */
#define SSI_TCP_HURRY_MS	20

/*
 * What may be under way on a stream for bulk. All of it may wait in one queue, and heartbeats behind it: so many bytes
 * that a slow machine has dealt with them long before anybody is taken for dead, and enough for 20 Gbit/s and 200 us.
 */
#define SSI_TCP_BULK_BYTES	SZ_1M

static struct sockaddr_in ssi_addr(u32 ip, u16 port)
{
	return (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(ip),
		.sin_port = htons(port),
	};
}

static struct socket *ssi_socket(int type, int protocol, u32 ip, u16 port)
{
	struct sockaddr_in addr = ssi_addr(ip, port);
	struct socket *sock;
	int ret = sock_create_kern(&init_net, AF_INET, type, protocol, &sock);

	if (ret)
		return ERR_PTR(ret);
	sock_set_reuseaddr(sock->sk);
	if (ip || port) {
		ret = kernel_bind(sock, (struct sockaddr_unsized *)&addr, sizeof(addr));
		if (ret) {
			sock_release(sock);
			return ERR_PTR(ret);
		}
	}
	return sock;
}

/*
 * Small messages go at once; a peer that is gone is noticed on an idle stream too; and the sender may
 * be any task, whose own page fragment must not be used from within a page fault.
 */
static void ssi_tcp_tune(struct socket *sock)
{
	sock->sk->sk_use_task_frag = false;
	/* What must be written before there is memory may need this very stream. */
	sock->sk->sk_allocation = GFP_NOIO;
	tcp_sock_set_nodelay(sock->sk);
	tcp_sock_set_keepidle(sock->sk, 2);
	tcp_sock_set_keepintvl(sock->sk, 1);
	sock_set_keepalive(sock->sk);
	/* What is under way may be lost for good, as in a firewall that forgot the connection. */
	tcp_sock_set_user_timeout(sock->sk, SSI_TCP_LOST_MS);
}

/* Return: a listening socket on @port of every address, or ERR_PTR. */
struct socket *ssi_tcp_listen(u16 port)
{
	struct socket *sock = ssi_socket(SOCK_STREAM, IPPROTO_TCP, INADDR_ANY, port);
	int ret;

	if (IS_ERR(sock))
		return sock;
	ret = kernel_listen(sock, 64);
	if (ret) {
		sock_release(sock);
		return ERR_PTR(ret);
	}
	return sock;
}
EXPORT_SYMBOL_GPL(ssi_tcp_listen);

/* Sleeps until a peer connects or ssi_sock_shutdown(). Return: its socket, or ERR_PTR. */
struct socket *ssi_tcp_accept(struct socket *listener)
{
	struct socket *sock;
	int ret = kernel_accept(listener, &sock, 0);

	if (ret)
		return ERR_PTR(ret);
	ssi_tcp_tune(sock);
	return sock;
}
EXPORT_SYMBOL_GPL(ssi_tcp_accept);

/* Return: a socket connected to @ip:@port within @timeout_ms, or ERR_PTR. */
struct socket *ssi_tcp_connect(u32 ip, u16 port, u32 timeout_ms)
{
	struct socket *sock = ssi_socket(SOCK_STREAM, IPPROTO_TCP, 0, 0);
	struct sockaddr_in addr = ssi_addr(ip, port);
	int ret;

	if (IS_ERR(sock))
		return sock;
	sock->sk->sk_sndtimeo = msecs_to_jiffies(timeout_ms);
	ret = kernel_connect(sock, (struct sockaddr_unsized *)&addr, sizeof(addr), 0);
	sock->sk->sk_sndtimeo = MAX_SCHEDULE_TIMEOUT;
	if (ret) {
		sock_release(sock);
		return ERR_PTR(ret == -EINPROGRESS ? -ETIMEDOUT : ret);
	}
	ssi_tcp_tune(sock);
	return sock;
}
EXPORT_SYMBOL_GPL(ssi_tcp_connect);

/* Goes before everything else, where anybody asks: CS6, as the protocols that keep a network together. */
static void ssi_sock_urgent(struct sock *sk)
{
	ip_sock_set_tos(sk, IPTOS_PREC_INTERNETCONTROL);
	/* After that, which sets one too. */
	sock_set_priority(sk, TC_PRIO_CONTROL);
}

/* The other end may not send so much ahead that others wait for it. Sleeps. */
void ssi_tcp_for_bulk(struct socket *sock)
{
	/* It is doubled, for what the kernel needs beside the bytes: so much memory, of which the window is a part. */
	sock_set_rcvbuf(sock->sk, SSI_TCP_BULK_BYTES / 2);
}
EXPORT_SYMBOL_GPL(ssi_tcp_for_bulk);

/*
 * What is lost is sent again soon, though a peer that stands still gets some of it twice: for few short messages,
 * behind which nothing comes that would show the loss. Both ends do it, as an acknowledgement waits for nearly as
 * long as the other end does.
 *
 * The socket may use what is kept for getting memory free. It is not cleared of that, as what came by it may still be
 * in its backlog; nor counted, as the datagram socket is all the time that there are streams. Sleeps.
 *
 * Source: tcp_rtt_estimator(), case TCP_RTO_MIN_US of do_tcp_setsockopt().
 */
void ssi_tcp_for_control(struct socket *sock)
{
	struct sock *sk = sock->sk;
	struct tcp_sock *tp = tcp_sk(sk);

	ssi_sock_urgent(sk);
	lock_sock(sk);
	sock_set_flag(sk, SOCK_MEMALLOC);
	sk->sk_allocation |= __GFP_MEMALLOC;
	WRITE_ONCE(inet_csk(sk)->icsk_rto_min, msecs_to_jiffies(SSI_TCP_HURRY_MS));
	/* A first measure has the least in it, and forgets that only by many further ones. */
	if (tp->srtt_us) {
		tp->rttvar_us = max(tp->mdev_us, tcp_rto_min_us(sk));
		tp->mdev_max_us = tp->rttvar_us;
		inet_csk(sk)->icsk_rto = __tcp_set_rto(tp);
	}
	release_sock(sk);
}
EXPORT_SYMBOL_GPL(ssi_tcp_for_control);

/* A receive that takes longer than @timeout_ms fails with EAGAIN; 0: waits for ever. */
void ssi_sock_rcvtimeo(struct socket *sock, u32 timeout_ms)
{
	sock->sk->sk_rcvtimeo = timeout_ms ? msecs_to_jiffies(timeout_ms) : MAX_SCHEDULE_TIMEOUT;
}
EXPORT_SYMBOL_GPL(ssi_sock_rcvtimeo);

/* Sends all pieces as one message. Sleeps. Return: 0 or an error; then the stream is torn. */
int ssi_tcp_send(struct socket *sock, const struct ssi_piece *pieces, u32 n)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	struct kvec kv[SSI_MAX_PIECES];
	size_t len = 0;
	int ret;

	if (n > SSI_MAX_PIECES)
		return -EINVAL;
	for (u32 i = 0; i < n; i++) {
		kv[i].iov_base = (void *)pieces[i].data;
		kv[i].iov_len = pieces[i].len;
		len += pieces[i].len;
	}
	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, kv, n, len);
	while (msg_data_left(&msg)) {
		ret = sock_sendmsg(sock, &msg);
		if (ret < 0)
			return ret;
		if (!ret)
			return -EPIPE;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(ssi_tcp_send);

/* Return: whether @p is of vmalloc(). */
bool ssi_is_vmalloc(const void *p)
{
	return is_vmalloc_addr(p);
}
EXPORT_SYMBOL_GPL(ssi_is_vmalloc);

/* As ssi_tcp_send_some(): pieces in pages go as they are, what is before and behind them in the same segments. */
static int ssi_tcp_splice_some(struct sock *sk, const struct ssi_piece *pieces, u32 n, int flags)
{
	int sent = 0, ret = 0;
	u32 last = 0;

	for (u32 i = 0; i < n; i++)
		if (pieces[i].len)
			last = i;
	lock_sock(sk);
	for (u32 i = 0; i <= last; i++) {
		struct msghdr msg = { .msg_flags = flags | (i < last ? MSG_MORE : 0) };
		struct kvec kv = { .iov_base = (void *)pieces[i].data, .iov_len = pieces[i].len };

		if (!kv.iov_len)
			continue;
		if (pieces[i].in_pages)
			msg.msg_flags |= MSG_SPLICE_PAGES;
		iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &kv, 1, kv.iov_len);
		ret = tcp_sendmsg_locked(sk, &msg, kv.iov_len);
		if (ret > 0)
			sent += ret;
		if (ret != kv.iov_len)
			break;
	}
	release_sock(sk);
	return sent ?: ret;
}

/*
 * Sends what fits, waiting for some room if told to; @more comes at once. Return: bytes sent, or -EAGAIN: no
 * room, ...
 */
int ssi_tcp_send_some(struct socket *sock, const struct ssi_piece *pieces, u32 n, bool more, bool wait)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT) | (more ? MSG_MORE : 0) };
	struct kvec kv[SSI_MAX_PIECES];
	size_t len = 0;

	if (n > SSI_MAX_PIECES)
		return -EINVAL;
	for (u32 i = 0; i < n; i++) {
		if (pieces[i].in_pages)
			return ssi_tcp_splice_some(sock->sk, pieces, n, msg.msg_flags);
		kv[i].iov_base = (void *)pieces[i].data;
		kv[i].iov_len = pieces[i].len;
		len += pieces[i].len;
	}
	return kernel_sendmsg(sock, &msg, kv, n, len);
}
EXPORT_SYMBOL_GPL(ssi_tcp_send_some);

/*
 * Receives exactly @len bytes, all of them in the time of ssi_sock_rcvtimeo(): one after the other does not begin it
 * anew. Sleeps. Return: 0, -ECONNRESET at the end of the stream, -EAGAIN after that time, or an error.
 */
int ssi_tcp_recv(struct socket *sock, void *buf, size_t len)
{
	long limit = sock->sk->sk_rcvtimeo;
	unsigned long begin = jiffies;
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	struct kvec kv = { .iov_base = buf, .iov_len = len };
	int ret;

	iov_iter_kvec(&msg.msg_iter, ITER_DEST, &kv, 1, len);
	while (msg_data_left(&msg)) {
		ret = sock_recvmsg(sock, &msg, MSG_WAITALL);
		if (ret < 0)
			return ret;
		if (!ret)
			return -ECONNRESET;
		if (limit != MAX_SCHEDULE_TIMEOUT && msg_data_left(&msg) && time_after_eq(jiffies, begin + limit))
			return -EAGAIN;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(ssi_tcp_recv);

/* Receives what is there, at least a byte. Sleeps. Return: bytes, -ECONNRESET at the end of the stream, ... */
ssize_t ssi_tcp_recv_some(struct socket *sock, void *buf, size_t len)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	struct kvec kv = { .iov_base = buf, .iov_len = len };
	int ret = kernel_recvmsg(sock, &msg, &kv, 1, len, 0);

	return ret ?: -ECONNRESET;
}
EXPORT_SYMBOL_GPL(ssi_tcp_recv_some);

/*
 * Who waits for memory before it says that it lives is taken for dead: neither sending nor receiving does,
 * and both may use what is kept for getting memory free.
 *
 * Return: a datagram socket on @port of every address, or ERR_PTR.
 */
struct socket *ssi_udp_open(u16 port)
{
	struct socket *sock = ssi_socket(SOCK_DGRAM, IPPROTO_UDP, INADDR_ANY, port);

	if (!IS_ERR(sock)) {
		sock->sk->sk_allocation = GFP_ATOMIC;
		sk_set_memalloc(sock->sk);
		ssi_sock_urgent(sock->sk);
	}
	return sock;
}
EXPORT_SYMBOL_GPL(ssi_udp_open);

/* Return: 0 or an error. Does not wait for room. */
int ssi_udp_send(struct socket *sock, u32 ip, u16 port, const void *buf, size_t len)
{
	struct sockaddr_in addr = ssi_addr(ip, port);
	struct msghdr msg = {
		.msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT,
		.msg_name = &addr,
		.msg_namelen = sizeof(addr),
	};
	struct kvec kv = { .iov_base = (void *)buf, .iov_len = len };
	int ret = kernel_sendmsg(sock, &msg, &kv, 1, len);

	return ret < 0 ? ret : 0;
}
EXPORT_SYMBOL_GPL(ssi_udp_send);

/* Return: bytes of the next datagram, or an error. @ip and @port get its sender. */
int ssi_udp_recv(struct socket *sock, void *buf, size_t len, u32 *ip, u16 *port)
{
	struct sockaddr_in addr = {};
	struct msghdr msg = {
		.msg_flags = MSG_NOSIGNAL,
		.msg_name = &addr,
		.msg_namelen = sizeof(addr),
	};
	struct kvec kv = { .iov_base = buf, .iov_len = len };
	int ret = kernel_recvmsg(sock, &msg, &kv, 1, len, 0);

	*ip = ntohl(addr.sin_addr.s_addr);
	*port = ntohs(addr.sin_port);
	return ret;
}
EXPORT_SYMBOL_GPL(ssi_udp_recv);

/* @ip and @port get the other end of a stream; they are left alone if it is gone. */
void ssi_sock_peer(struct socket *sock, u32 *ip, u16 *port)
{
	struct sockaddr_storage addr;
	struct sockaddr_in *in = (struct sockaddr_in *)&addr;

	if (kernel_getpeername(sock, (struct sockaddr *)&addr) >= 0) {
		*ip = ntohl(in->sin_addr.s_addr);
		*port = ntohs(in->sin_port);
	}
}
EXPORT_SYMBOL_GPL(ssi_sock_peer);

/* Makes every sleeper on the socket return. */
void ssi_sock_shutdown(struct socket *sock)
{
	kernel_sock_shutdown(sock, SHUT_RDWR);
}
EXPORT_SYMBOL_GPL(ssi_sock_shutdown);

/*
 * sk_clear_memalloc() gives memory back without the lock under which datagrams that come take some: so it is
 * called when none can come any more. Sleeps.
 */
void ssi_sock_release(struct socket *sock)
{
	struct sock *sk = sock->sk;
	bool is_counted = sk->sk_type == SOCK_DGRAM;

	sock_hold(sk);
	sock_release(sock);
	if (is_counted) {
		synchronize_net();
		sk_clear_memalloc(sk);
	}
	sock_put(sk);
}
EXPORT_SYMBOL_GPL(ssi_sock_release);
