// SPDX-License-Identifier: GPL-2.0
/*
 * What a call between two kernels costs without ics: threads that write to a TCP socket and wait for the
 * answer, as plainly as it can be done. A benchmark's peer, and nothing else.
 *
 * /sys/kernel/debug/ksock_echo, one line a write:
 *   listen PORT                          answers from now on
 *   time ADDRESS PORT THREADS COUNT IN OUT
 *                                        THREADS connections at once, COUNT times on each: IN bytes there,
 *                                        OUT bytes back
 * Reading gives the last run in nanoseconds, as a line of JSON.
 */
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/in.h>
#include <linux/inet.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/tcp.h>
#include <linux/vmalloc.h>
#include <net/sock.h>
#include <net/tcp.h>

#define MAX_THREADS	128
#define MAX_BYTES	(1U << 20)
#define MAX_SAMPLES	1000000U

/* The first thing on a connection: what each exchange is. */
struct sizes {
	__le32 in;
	__le32 out;
};

static DEFINE_MUTEX(lock);
static struct socket *listener;
static struct task_struct *acceptor;
static struct socket *answered[MAX_THREADS];
static struct task_struct *answerers[MAX_THREADS];
static char report[160];
static struct dentry *file;

static int transfer(struct socket *sock, void *buf, size_t len, bool out)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL | (out ? 0 : MSG_WAITALL) };
	struct kvec kv = { .iov_base = buf, .iov_len = len };
	int ret;

	ret = out ? kernel_sendmsg(sock, &msg, &kv, 1, len) :
		    kernel_recvmsg(sock, &msg, &kv, 1, len, MSG_WAITALL);
	if (ret < 0)
		return ret;
	return ret == len ? 0 : -ECONNRESET;
}

static void wait_for_stop(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
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

static void end_answerer(int i)
{
	kernel_sock_shutdown(answered[i], SHUT_RDWR);
	kthread_stop_put(answerers[i]);
	sock_release(answered[i]);
	answered[i] = NULL;
}

static int accept_all(void *unused)
{
	struct socket *sock;
	int next = 0;

	while (!kthread_should_stop()) {
		struct task_struct *t;

		if (kernel_accept(listener, &sock, 0)) {
			wait_for_stop();
			break;
		}
		tcp_sock_set_nodelay(sock->sk);
		/* The oldest goes: its run is over. */
		if (answered[next])
			end_answerer(next);
		t = kthread_create(answer, sock, "ksock_answer");
		if (IS_ERR(t)) {
			sock_release(sock);
			continue;
		}
		answered[next] = sock;
		answerers[next] = get_task_struct(t);
		wake_up_process(t);
		next = (next + 1) % MAX_THREADS;
	}
	return 0;
}

static int listen_on(u16 port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct socket *sock;
	int ret;

	if (listener)
		return -EBUSY;
	ret = sock_create_kern(&init_net, AF_INET, SOCK_STREAM, IPPROTO_TCP, &sock);
	if (ret)
		return ret;
	sock_set_reuseaddr(sock->sk);
	ret = kernel_bind(sock, (struct sockaddr_unsized *)&addr, sizeof(addr)) ?:
	      kernel_listen(sock, MAX_THREADS);
	if (ret)
		goto release;
	listener = sock;
	acceptor = kthread_run(accept_all, NULL, "ksock_accept");
	if (!IS_ERR(acceptor))
		return 0;
	ret = PTR_ERR(acceptor);
	listener = NULL;
release:
	sock_release(sock);
	return ret;
}

struct client {
	struct sockaddr_in to;
	struct sizes sizes;
	u32 count;
	u64 *ns;
	int ret;
	struct completion done;
};

static int ask(struct client *c, struct socket *sock, void *buf)
{
	size_t in = le32_to_cpu(c->sizes.in), out = le32_to_cpu(c->sizes.out);
	u32 warm = c->count / 10 + 1;
	int ret = transfer(sock, &c->sizes, sizeof(c->sizes), true);

	for (u32 i = 0; !ret && i < c->count + warm; i++) {
		u64 begin = ktime_get_ns();

		ret = transfer(sock, buf, in, true) ?: transfer(sock, buf, out, false);
		if (i >= warm)
			c->ns[i - warm] = ktime_get_ns() - begin;
	}
	return ret;
}

static int client(void *arg)
{
	struct client *c = arg;
	void *buf = kvzalloc(MAX_BYTES, GFP_KERNEL);
	struct socket *sock;

	c->ret = buf ? sock_create_kern(&init_net, AF_INET, SOCK_STREAM, IPPROTO_TCP, &sock) : -ENOMEM;
	if (!c->ret) {
		tcp_sock_set_nodelay(sock->sk);
		c->ret = kernel_connect(sock, (struct sockaddr_unsized *)&c->to, sizeof(c->to), 0) ?:
			 ask(c, sock, buf);
		sock_release(sock);
	}
	kvfree(buf);
	complete(&c->done);
	wait_for_stop();
	return 0;
}

static int compare(const void *a, const void *b)
{
	return cmp_int(*(const u64 *)a, *(const u64 *)b);
}

static int run(const struct client *like, u32 threads)
{
	struct task_struct **t = kcalloc(threads, sizeof(*t), GFP_KERNEL);
	struct client *c = kcalloc(threads, sizeof(*c), GFP_KERNEL);
	u32 n = threads * like->count;
	u64 *ns = kvcalloc(n, sizeof(*ns), GFP_KERNEL);
	int ret = t && c && ns ? 0 : -ENOMEM;

	for (u32 i = 0; !ret && i < threads; i++) {
		c[i] = *like;
		c[i].ns = ns + i * like->count;
		init_completion(&c[i].done);
		t[i] = kthread_run(client, &c[i], "ksock_client");
		if (IS_ERR(t[i])) {
			ret = PTR_ERR(t[i]);
			t[i] = NULL;
		}
	}
	for (u32 i = 0; t && c && i < threads && t[i]; i++) {
		wait_for_completion(&c[i].done);
		kthread_stop(t[i]);
		ret = ret ?: c[i].ret;
	}
	if (!ret) {
		sort(ns, n, sizeof(*ns), compare, NULL);
		snprintf(report, sizeof(report),
			 "{\"name\":\"ksock_echo\",\"unit\":\"ns\",\"n\":%u,\"min\":%llu,\"p50\":%llu,\"p99\":%llu,\"max\":%llu}\n",
			 n, ns[0], ns[(n - 1) / 2], ns[(u64)(n - 1) * 99 / 100], ns[n - 1]);
	}
	kvfree(ns);
	kfree(c);
	kfree(t);
	return ret;
}

static int command(char *line)
{
	struct client c = { .to.sin_family = AF_INET };
	u32 threads, in, out;
	char address[16];
	u16 port;

	if (sscanf(line, "listen %hu", &port) == 1)
		return listen_on(port);
	if (sscanf(line, "time %15s %hu %u %u %u %u", address, &port, &threads, &c.count, &in, &out) != 6 ||
	    !in4_pton(address, -1, (u8 *)&c.to.sin_addr, -1, NULL) || !threads || threads > MAX_THREADS ||
	    !c.count || c.count > MAX_SAMPLES / threads || !in || in > MAX_BYTES || !out || out > MAX_BYTES)
		return -EINVAL;
	c.to.sin_port = htons(port);
	c.sizes = (struct sizes){ .in = cpu_to_le32(in), .out = cpu_to_le32(out) };
	report[0] = 0;
	return run(&c, threads);
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

static int __init ksock_echo_init(void)
{
	file = debugfs_create_file("ksock_echo", 0600, NULL, NULL, &fops);
	return PTR_ERR_OR_ZERO(file);
}
module_init(ksock_echo_init);

static void __exit ksock_echo_exit(void)
{
	debugfs_remove(file);
	if (listener) {
		kernel_sock_shutdown(listener, SHUT_RDWR);
		kthread_stop(acceptor);
		for (int i = 0; i < MAX_THREADS; i++)
			if (answered[i])
				end_answerer(i);
		sock_release(listener);
	}
}
module_exit(ksock_echo_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Echo over kernel sockets, the peer of ics in benchmarks");
