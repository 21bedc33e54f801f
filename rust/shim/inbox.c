// SPDX-License-Identifier: GPL-2.0
/*
 * What comes on a stream, frame by frame: short frames are shown to their reader as soon as they are
 * there, in the softirq that brought them. What the reader leaves, and what is too long, stays in the
 * socket for the reader's thread.
 *
 * Source: rds_tcp_listen_data_ready() and kcm for the callbacks.
 */
#include <linux/export.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <net/sock.h>
#include <net/tcp.h>
#include "shim.h"

struct ssi_inbox {
	struct socket *sock;
	const struct ssi_inbox_ops *ops;
	void *arg;
	void (*data_ready)(struct sock *sk);
	void (*state_change)(struct sock *sk);
	/* The thread reads; under the socket's lock. */
	bool is_threads;
	/* One frame; under the socket's lock. */
	u8 frame[SSI_INBOX_FRAME];
};

/* Copies the next @len bytes and leaves them. Return: whether there are so many. */
static bool ssi_inbox_peek(struct sock *sk, u8 *to, size_t len)
{
	u32 seq = tcp_sk(sk)->copied_seq;
	struct sk_buff *skb;

	skb_queue_walk(&sk->sk_receive_queue, skb) {
		u32 offset = seq - TCP_SKB_CB(skb)->seq;
		size_t n;

		if (offset >= skb->len)
			continue;
		n = min_t(size_t, len, skb->len - offset);
		if (skb_copy_bits(skb, offset, to, n))
			return false;
		to += n;
		seq += n;
		len -= n;
		if (!len)
			return true;
	}
	return false;
}

static bool ssi_inbox_at_end(struct sock *sk)
{
	return sk->sk_err || (sk->sk_shutdown & RCV_SHUTDOWN) || sk->sk_state != TCP_ESTABLISHED;
}

/*
 * TCP acknowledges at once when more than a segment has come, and two short ones as soon as both are read.
 * Here nearly all that comes is answered, and the answer acknowledges it. So a segment is as long as one
 * can be, not as the short ones so far; and short ones are not acknowledged because they were read. What
 * nobody answers is acknowledged in time, as ever.
 */
static void ssi_inbox_expect_answers(struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);

	icsk->icsk_ack.rcv_mss = max(icsk->icsk_ack.rcv_mss, tcp_sk(sk)->advmss);
	icsk->icsk_ack.pending &= ~ICSK_ACK_PUSHED2;
}

/*
 * Shows what is there.
 *
 * Context: the socket is locked, by a thread or by bottom halves. Return: the thread is to go on.
 */
static bool ssi_inbox_drain(struct ssi_inbox *in)
{
	struct sock *sk = in->sock->sk;

	for (;;) {
		size_t there = tcp_inq(sk), len = in->ops->head;

		if (there < len)
			return ssi_inbox_at_end(sk);
		if (!ssi_inbox_peek(sk, in->frame, len))
			return true;
		len = in->ops->length(in->frame);
		if (!len || len > sizeof(in->frame))
			return true;
		if (there < len)
			return ssi_inbox_at_end(sk);
		if (!ssi_inbox_peek(sk, in->frame, len) || !in->ops->frame(in->arg, in->frame, len))
			return true;
		ssi_inbox_expect_answers(sk);
		tcp_read_done(sk, len);
	}
}

static void ssi_inbox_look(struct ssi_inbox *in)
{
	if (in->is_threads || !ssi_inbox_drain(in))
		return;
	in->is_threads = true;
	in->ops->wake(in->arg);
}

static void ssi_inbox_data_ready(struct sock *sk)
{
	void (*native)(struct sock *sk) = NULL;
	struct ssi_inbox *in;

	read_lock_bh(&sk->sk_callback_lock);
	in = sk->sk_user_data;
	if (in) {
		native = in->data_ready;
		ssi_inbox_look(in);
	}
	read_unlock_bh(&sk->sk_callback_lock);
	/* For the thread, if it waits in the socket. */
	if (native)
		native(sk);
}

static void ssi_inbox_state_change(struct sock *sk)
{
	void (*native)(struct sock *sk) = NULL;
	struct ssi_inbox *in;

	read_lock_bh(&sk->sk_callback_lock);
	in = sk->sk_user_data;
	if (in) {
		native = in->state_change;
		/* Not always under the socket's lock: the thread looks. */
		in->ops->wake(in->arg);
	}
	read_unlock_bh(&sk->sk_callback_lock);
	if (native)
		native(sk);
}

/*
 * @ops->frame and @ops->wake are called with @arg until ssi_inbox_close(); what is there already waits for
 * ssi_inbox_resume(). Return: an inbox, or ERR_PTR(-ENOMEM).
 */
struct ssi_inbox *ssi_inbox_open(struct socket *sock, const struct ssi_inbox_ops *ops, void *arg)
{
	struct ssi_inbox *in = kzalloc_obj(*in);
	struct sock *sk = sock->sk;

	if (!in)
		return ERR_PTR(-ENOMEM);
	in->sock = sock;
	in->ops = ops;
	in->arg = arg;
	in->is_threads = true;
	write_lock_bh(&sk->sk_callback_lock);
	in->data_ready = sk->sk_data_ready;
	in->state_change = sk->sk_state_change;
	sk->sk_user_data = in;
	sk->sk_data_ready = ssi_inbox_data_ready;
	sk->sk_state_change = ssi_inbox_state_change;
	write_unlock_bh(&sk->sk_callback_lock);
	return in;
}
EXPORT_SYMBOL_GPL(ssi_inbox_open);

/*
 * The thread has taken what was left to it: from now on frames are shown as they come again, those that
 * are there at once. Sleeps. Return: whether the thread is to take the next one too.
 */
bool ssi_inbox_resume(struct ssi_inbox *in)
{
	struct sock *sk = in->sock->sk;
	bool is_threads;

	lock_sock(sk);
	is_threads = ssi_inbox_drain(in);
	in->is_threads = is_threads;
	release_sock(sk);
	return is_threads;
}
EXPORT_SYMBOL_GPL(ssi_inbox_resume);

/* Nothing is shown any more, and nothing is being shown. Sleeps. */
void ssi_inbox_close(struct ssi_inbox *in)
{
	struct sock *sk = in->sock->sk;

	write_lock_bh(&sk->sk_callback_lock);
	sk->sk_data_ready = in->data_ready;
	sk->sk_state_change = in->state_change;
	sk->sk_user_data = NULL;
	write_unlock_bh(&sk->sk_callback_lock);
	kfree(in);
}
EXPORT_SYMBOL_GPL(ssi_inbox_close);
