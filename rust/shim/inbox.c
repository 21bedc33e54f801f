// SPDX-License-Identifier: GPL-2.0
/*
 * What comes on a stream, frame by frame: short frames are shown to their reader as soon as they are
 * there, in the softirq that brought them. What the reader leaves, and what is too long, stays in the
 * socket for the reader's thread.
 *
 * Source: rds_tcp_data_ready() for the callbacks.
 */
#include <linux/export.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/timer.h>
#include <net/sock.h>
#include <net/tcp.h>
#include "shim.h"

/* Frames, and bytes, that are shown in one go: then the thread takes one, and whoever needs the processor gets it. */
#define SSI_INBOX_BUDGET	64
#define SSI_INBOX_BYTES		SZ_64K

/* So long may a frame that has begun wait for its end here: then it is left to the thread, which gives up. */
#define SSI_INBOX_PATIENCE	HZ

struct ssi_inbox {
	struct sock *sk;
	const struct ssi_inbox_ops *ops;
	void *arg;
	void (*data_ready)(struct sock *sk);
	void (*state_change)(struct sock *sk);
	/* The thread reads; under the socket's lock. */
	bool is_threads;
	/* What was acknowledged when a mark was last taken back, and how often that was; under the socket's lock. */
	u32 acked;
	u32 unmarked;
	/* Runs since some frame was not whole; it may be by now. */
	struct timer_list patience;
	/* It has run out; any context. */
	bool is_overdue;
	/* One frame that does not lie in one piece; under the socket's lock. */
	u8 frame[SSI_INBOX_FRAME];
};

/* Shows the next @len bytes, where they are or copied, and leaves them. Return: NULL if there are not so many. */
static const u8 *ssi_inbox_peek(struct ssi_inbox *in, size_t len)
{
	u32 seq = tcp_sk(in->sk)->copied_seq;
	struct sk_buff *skb;
	size_t done = 0;

	skb_queue_walk(&in->sk->sk_receive_queue, skb) {
		u32 offset = seq - TCP_SKB_CB(skb)->seq;
		size_t n;

		if (offset >= skb->len)
			continue;
		n = min_t(size_t, len - done, skb->len - offset);
		if (n == len)
			return skb_header_pointer(skb, offset, len, in->frame);
		if (skb_copy_bits(skb, offset, in->frame + done, n))
			return NULL;
		done += n;
		seq += n;
		if (done == len)
			return in->frame;
	}
	return NULL;
}

static bool ssi_inbox_at_end(struct sock *sk)
{
	return sk->sk_err || (sk->sk_shutdown & RCV_SHUTDOWN) || sk->sk_state != TCP_ESTABLISHED;
}

/*
 * TCP acknowledges at once when more than a segment has come, by the longest that it has seen, and two
 * short ones as soon as both are read. Here a reply is followed by the next request, and the reply to
 * that acknowledges both. So a segment counts for two short ones, but for less than a full one, by which
 * TCP learns how much memory data take; and the mark that two short ones leave is taken back, twice at
 * most before something is acknowledged: a sender may wait for that.
 */
static void ssi_inbox_expect_answers(struct ssi_inbox *in)
{
	struct inet_connection_sock *icsk = inet_csk(in->sk);
	struct tcp_sock *tp = tcp_sk(in->sk);

	icsk->icsk_ack.rcv_mss = max(icsk->icsk_ack.rcv_mss, min(tp->advmss, 2 * TCP_MSS_DEFAULT));
	if (in->acked != tp->rcv_wup) {
		in->acked = tp->rcv_wup;
		in->unmarked = 0;
	}
	if ((icsk->icsk_ack.pending & ICSK_ACK_PUSHED2) && in->unmarked++ < 2)
		icsk->icsk_ack.pending &= ~ICSK_ACK_PUSHED2;
}

/* Less than a frame is there: whether that is all, nothing more comes in before it is taken, or its end is overdue. */
static bool ssi_inbox_stuck(struct ssi_inbox *in)
{
	struct sock *sk = in->sk;
	bool is_overdue = READ_ONCE(in->is_overdue);

	if (ssi_inbox_at_end(sk) || tcp_epollin_ready(sk, INT_MAX))
		return true;
	WRITE_ONCE(in->is_overdue, false);
	if (!tcp_inq(sk))
		return false;
	if (is_overdue)
		return true;
	if (!timer_pending(&in->patience))
		mod_timer(&in->patience, jiffies + SSI_INBOX_PATIENCE);
	return false;
}

static void ssi_inbox_overdue(struct timer_list *t)
{
	struct ssi_inbox *in = timer_container_of(in, t, patience);

	WRITE_ONCE(in->is_overdue, true);
	in->ops->wake(in->arg);
}

/*
 * Shows what is there.
 *
 * Context: the socket is locked, by a thread or by bottom halves. Return: the thread is to go on.
 */
static bool ssi_inbox_drain(struct ssi_inbox *in)
{
	struct sock *sk = in->sk;
	size_t bytes = 0;

	for (int i = 0; i < SSI_INBOX_BUDGET && bytes < SSI_INBOX_BYTES; i++) {
		size_t there = tcp_inq(sk), len = in->ops->head;
		const u8 *frame;

		/* Nobody of ours sends urgent data; it hides what comes behind it. */
		if (tcp_sk(sk)->urg_data)
			return true;
		if (there < len)
			return ssi_inbox_stuck(in);
		frame = ssi_inbox_peek(in, len);
		if (!frame)
			return true;
		len = in->ops->length(frame);
		if (!len || len > sizeof(in->frame))
			return true;
		if (there < len)
			return ssi_inbox_stuck(in);
		frame = ssi_inbox_peek(in, len);
		if (!frame || !in->ops->frame(in->arg, frame, len))
			return true;
		ssi_inbox_expect_answers(in);
		tcp_read_done(sk, len);
		bytes += len;
	}
	return tcp_inq(sk) || ssi_inbox_at_end(sk);
}

static void ssi_inbox_look(struct ssi_inbox *in)
{
	if (in->is_threads || !ssi_inbox_drain(in))
		return;
	in->is_threads = true;
	in->ops->wake(in->arg);
}

/* A thread that sends runs these for what came meanwhile: then bottom halves are off only here. */
static void ssi_inbox_data_ready(struct sock *sk)
{
	void (*native)(struct sock *sk);
	struct ssi_inbox *in;

	read_lock_bh(&sk->sk_callback_lock);
	in = sk->sk_user_data;
	native = in ? in->data_ready : sk->sk_data_ready;
	if (in)
		ssi_inbox_look(in);
	read_unlock_bh(&sk->sk_callback_lock);
	/* For the thread, if it waits in the socket. */
	native(sk);
}

static void ssi_inbox_state_change(struct sock *sk)
{
	void (*native)(struct sock *sk);
	struct ssi_inbox *in;

	read_lock_bh(&sk->sk_callback_lock);
	in = sk->sk_user_data;
	native = in ? in->state_change : sk->sk_state_change;
	/* Not always under the socket's lock: the thread looks. */
	if (in)
		in->ops->wake(in->arg);
	read_unlock_bh(&sk->sk_callback_lock);
	native(sk);
}

/*
 * @ops->frame and @ops->wake are called with @arg until ssi_inbox_close(); what is there already waits for
 * ssi_inbox_resume(). Sleeps. Return: an inbox, or ERR_PTR: -ENOMEM, -EPROTONOSUPPORT if @sock is not TCP,
 * -EBUSY if somebody watches it.
 */
struct ssi_inbox *ssi_inbox_open(struct socket *sock, const struct ssi_inbox_ops *ops, void *arg)
{
	struct sock *sk = sock->sk;
	struct ssi_inbox *in;

	if (!sk_is_tcp(sk))
		return ERR_PTR(-EPROTONOSUPPORT);
	in = kvzalloc_obj(*in);
	if (!in)
		return ERR_PTR(-ENOMEM);
	in->sk = sk;
	in->ops = ops;
	in->arg = arg;
	in->is_threads = true;
	timer_setup(&in->patience, ssi_inbox_overdue, 0);
	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_user_data) {
		write_unlock_bh(&sk->sk_callback_lock);
		kvfree(in);
		return ERR_PTR(-EBUSY);
	}
	in->data_ready = sk->sk_data_ready;
	in->state_change = sk->sk_state_change;
	sk->sk_user_data = in;
	WRITE_ONCE(sk->sk_data_ready, ssi_inbox_data_ready);
	WRITE_ONCE(sk->sk_state_change, ssi_inbox_state_change);
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
	struct sock *sk = in->sk;
	bool is_threads;

	lock_sock(sk);
	is_threads = ssi_inbox_drain(in);
	in->is_threads = is_threads;
	release_sock(sk);
	return is_threads;
}
EXPORT_SYMBOL_GPL(ssi_inbox_resume);

/* Nothing is shown any more, and nothing is being shown. */
void ssi_inbox_close(struct ssi_inbox *in)
{
	struct sock *sk = in->sk;

	write_lock_bh(&sk->sk_callback_lock);
	WRITE_ONCE(sk->sk_data_ready, in->data_ready);
	WRITE_ONCE(sk->sk_state_change, in->state_change);
	sk->sk_user_data = NULL;
	write_unlock_bh(&sk->sk_callback_lock);
	timer_shutdown_sync(&in->patience);
	kvfree(in);
}
EXPORT_SYMBOL_GPL(ssi_inbox_close);
