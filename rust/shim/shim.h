/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything in C that crate ssi calls: the services of the built-in half and those of the shim.
 * bindgen reads this file. Kernel objects are opaque: what needs their layout stays in C.
 */
#ifndef SSI_SHIM_H
#define SSI_SHIM_H

#include <linux/types.h>
#include <linux/ssi.h>
#include <linux/ssi_image.h>
#include <linux/ssi_process.h>
#include <uapi/linux/ssi_clms.h>

struct mempool;
struct socket;
struct task_struct;
struct tracepoint;
struct wait_queue_entry;
struct wait_queue_head;

/* trace.c: the tracepoints, and what each does while it is traced */
extern struct tracepoint __tracepoint_ssi_ics_asked;
extern struct tracepoint __tracepoint_ssi_ics_ended;
extern struct tracepoint __tracepoint_ssi_ics_serving;
extern struct tracepoint __tracepoint_ssi_ics_served;
extern struct tracepoint __tracepoint_ssi_clms_view;
extern struct tracepoint __tracepoint_ssi_clms_state;
void rust_do_trace_ssi_ics_asked(u32 node, u8 class, u16 service, u16 op, u64 xid, size_t bytes);
void rust_do_trace_ssi_ics_ended(u32 node, u16 service, u16 op, u64 xid, u8 how, size_t bytes, u64 ns);
void rust_do_trace_ssi_ics_serving(u32 node, u8 class, u16 service, u16 op, u64 xid, size_t bytes);
void rust_do_trace_ssi_ics_served(u32 node, u16 service, u16 op, u64 xid, int error);
void rust_do_trace_ssi_clms_view(u64 view, u32 members, u32 master);
void rust_do_trace_ssi_clms_state(u32 node, u8 from, u8 to, u8 cause);

/* A part of a message. */
struct ssi_piece {
	const void *data;
	size_t len;
	/* Of vmalloc(), and not written to any more: a socket may keep its pages, also when they are given back. */
	bool in_pages;
};

#define SSI_MAX_PIECES	4

/* The key of one direction of a stream, ready for use. */
struct ssi_frame_key {
	u64 body[2];
	u64 frame[2];
};

#define SSI_FRAME_HEAD	72

/* net.c; addresses and ports in host byte order */
struct socket *ssi_tcp_listen(u16 port);
struct socket *ssi_tcp_accept(struct socket *listener);
struct socket *ssi_tcp_connect(u32 ip, u16 port, u32 timeout_ms);
void ssi_sock_rcvtimeo(struct socket *sock, u32 timeout_ms);
void ssi_tcp_for_control(struct socket *sock);
void ssi_tcp_for_bulk(struct socket *sock);
int ssi_tcp_send(struct socket *sock, const struct ssi_piece *pieces, u32 n);
int ssi_tcp_send_some(struct socket *sock, const struct ssi_piece *pieces, u32 n, bool more, bool wait);
bool ssi_is_vmalloc(const void *p);
int ssi_tcp_recv(struct socket *sock, void *buf, size_t len);
ssize_t ssi_tcp_recv_some(struct socket *sock, void *buf, size_t len);
struct socket *ssi_udp_open(u16 port);
int ssi_udp_send(struct socket *sock, u32 ip, u16 port, const void *buf, size_t len);
int ssi_udp_recv(struct socket *sock, void *buf, size_t len, u32 *ip, u16 *port);
void ssi_sock_peer(struct socket *sock, u32 *ip, u16 *port);
void ssi_sock_shutdown(struct socket *sock);
void ssi_sock_release(struct socket *sock);

/* inbox.c */
#define SSI_INBOX_FRAME	(8192 + SSI_FRAME_HEAD + 16)	/* longer ones are the thread's */

struct ssi_inbox;

struct ssi_inbox_ops {
	/* Bytes that tell the length of a frame. */
	size_t head;
	/* Any context. Return: the length of the whole frame, 0: no frame. */
	size_t (*length)(const u8 *head);
	/* Any context, must not sleep. Return: taken; what is not taken is the thread's. */
	bool (*frame)(void *arg, const u8 *frame, size_t len);
	/* Any context. The thread is to look. */
	void (*wake)(void *arg);
};

struct ssi_inbox *ssi_inbox_open(struct socket *sock, const struct ssi_inbox_ops *ops, void *arg);
bool ssi_inbox_resume(struct ssi_inbox *in);
void ssi_inbox_close(struct ssi_inbox *in);

/* kthread.c */
struct task_struct *ssi_kthread_current(void);
struct task_struct *ssi_kthread_start(int (*fn)(void *arg), void *arg, const char *name);
bool ssi_kthread_join(struct task_struct *t);
void ssi_kthread_make_realtime(void);
unsigned int ssi_kthread_avoid_io(void);
void ssi_kthread_allow_io(unsigned int flags);
void ssi_kthread_allow_interrupt(void);
void ssi_kthread_interrupt(struct task_struct *t);
void ssi_kthread_interrupted_done(void);

/* reserve.c */
struct mempool *ssi_reserve_create(int n, size_t size);
void *ssi_reserve_alloc(struct mempool *pool, gfp_t gfp);

/* wait.c */
void ssi_wait_in_front(struct wait_queue_head *head, struct wait_queue_entry *entry, u32 state);

/* crypto.c */
void ssi_mac(u8 *out, u32 out_len, const u8 *key, u32 key_len, const struct ssi_piece *pieces, u32 n);
void ssi_frame_key_init(struct ssi_frame_key *k, const u8 *key);
u64 ssi_body_sum(const struct ssi_frame_key *k, const u8 *bytes, size_t len);
u64 ssi_frame_tag(const struct ssi_frame_key *k, const u8 *head, u64 sum);
bool ssi_mac_equal(const u8 *a, const u8 *b, u32 len);
void ssi_random(u8 *out, u32 len);

/* clms_nl.c */
#define SSI_CLMS_MAX_NODES	64
#define SSI_CLMS_MAX_ADDRESSES	4
#define SSI_CLMS_NAME		68
#define SSI_CLMS_KEY		64
#define SSI_CLMS_MIN_KEY	16
#define SSI_CLMS_DEFAULT_PORT	7373

struct ssi_clms_node {
	u32 id;
	u32 state;
	u64 incarnation;
	u32 addresses[SSI_CLMS_MAX_ADDRESSES];	/* host byte order */
	u32 n_addresses;
	u32 fence;
	u32 detection_ms;
	u32 judgement_ms;
	u32 votes;
	u32 witness;
	u32 place;
	u64 table;		/* in force there, in a status */
	u64 staged;
	u16 port;
	char name[SSI_CLMS_NAME];
};

struct ssi_clms_join {
	char name[SSI_CLMS_NAME];
	u8 key[SSI_CLMS_KEY];
	u8 next_key[SSI_CLMS_KEY];
	u8 old_key[SSI_CLMS_KEY];
	u32 key_len;
	u32 next_key_len;	/* 0: there is none */
	u32 old_key_len;	/* likewise */
	u32 this_node;
	u32 detect_ms;
	u64 fence_digest;
	u32 fence_timeout_ms;
	u64 generation;
	u64 next_generation;
	u32 n_nodes;
	u32 n_next;		/* 0: no table is staged */
	struct ssi_clms_node nodes[SSI_CLMS_MAX_NODES];
	struct ssi_clms_node next[SSI_CLMS_MAX_NODES];
};

/* A table of nodes. @asks: only whether it is in force. */
struct ssi_clms_table {
	u64 generation;
	u32 asks;
	u32 n_nodes;
	struct ssi_clms_node nodes[SSI_CLMS_MAX_NODES];
};

struct ssi_clms_status {
	char name[SSI_CLMS_NAME];
	u64 view;
	u32 quorate;
	u32 master;
	u32 this_node;
	u32 state;
	u64 table;
	u64 staged;
	u32 settled;
	u32 n_nodes;
	struct ssi_clms_node nodes[SSI_CLMS_MAX_NODES];
};

/* A fence agent that is to run on this node, or what became of it. */
struct ssi_clms_fence {
	u32 node;
	u32 job;
	u64 incarnation;
	u32 status;
	u32 by_agent;
	char text[204];
};

struct ssi_clms_fences {
	u32 n;
	struct ssi_clms_fence all[SSI_CLMS_MAX_NODES];
};

/* A planned shutdown of one node. */
struct ssi_clms_shutdown {
	u32 node;
	u32 action;
	u32 grace_ms;
	u32 stage;
	u32 error;
	u32 moved;
	u32 ended;
	u32 left;
	u32 process;
};

/* Answers for the family. @why gets a static text for people. */
struct ssi_clms_ops {
	int (*status)(struct ssi_clms_status *st);
	int (*join)(const struct ssi_clms_join *j, const char **why);
	int (*leave)(const char **why);
	int (*fence_list)(struct ssi_clms_fences *fences);
	int (*fence_done)(const struct ssi_clms_fence *f, const char **why);
	int (*fence_confirm)(const struct ssi_clms_fence *f, const char **why);
	int (*shutdown)(const struct ssi_clms_shutdown *s, const char **why);
	/* @s: names the node. */
	int (*shutdown_state)(struct ssi_clms_shutdown *s);
	int (*table_stage)(const struct ssi_clms_table *t, const char **why);
	int (*table_unstage)(const char **why);
	int (*table_settle)(const struct ssi_clms_table *t, const char **why);
};

/* clms_history.c */
struct ssi_clms_transition {
	u64 id;
	u64 time_ns;
	u64 incarnation;	/* 0: not known */
	u32 node;
	u32 from;
	u32 to;
	u32 cause;
};

struct ssi_clms_members {
	u64 view;
	u64 last;	/* transition */
	u32 master;
	u32 n_nodes;
	u32 nodes[SSI_CLMS_MAX_NODES];
};

struct ssi_clms_info {
	u32 node;
	u32 state;
	u64 incarnation;
	u64 total_memory;
	u32 total_cpus;
	u32 online_cpus;
	u32 cpu_power;
	char name[SSI_CLMS_NAME];
};

struct ssi_clms_history_ops {
	/* Return: 0, -ENODATA there is none such, -ESTALE. */
	int (*history)(u32 which, u64 id, bool simple, struct ssi_clms_transition *t);
	int (*membership)(struct ssi_clms_members *m);
	/* @info: names the node. */
	int (*node_info)(struct ssi_clms_info *info);
	int (*set_info)(u32 node, u32 cpu_power, const char **why);
};

int ssi_clms_nl_register(const struct ssi_clms_ops *ops, const struct ssi_clms_history_ops *history,
			 struct module *owner);
void ssi_clms_nl_unregister(void);
int ssi_clms_nl_fence_wanted(const struct ssi_clms_fence *f);
bool ssi_clms_nl_has_fenced(void);
int ssi_clms_call_shutdown(const struct ssi_clms_shutdown *s, const char **why);
int ssi_clms_call_shutdown_state(struct ssi_clms_shutdown *s);

/* ics_nl.c */
#define SSI_ICS_N_BUCKETS	24
#define SSI_ICS_NAME		32

struct ssi_ics_op {
	char service[SSI_ICS_NAME];
	char op[SSI_ICS_NAME];
	u16 service_id;
	u16 op_id;
	u32 class;
	u64 calls;
	u64 replies;
	u64 errors;
	u64 bytes_out;
	u64 bytes_in;
	u64 served;
	u64 served_errors;
	u64 latency[SSI_ICS_N_BUCKETS];
};

struct ssi_ics_link {
	u32 node;
	u32 link;
	u32 address;	/* host byte order */
	u32 state;
	u64 streams;
	u64 frames_out;
	u64 bytes_out;
	u64 frames_in;
	u64 bytes_in;
	u64 resent;
};

struct ssi_ics_key {
	u32 node;
	u32 second_is;
	u64 used;
	u64 second;
};

#define SSI_ICS_KEY		64

/*
 * Answers for the family. The first three fill in row @row, which is all zero; they return 0, or an error
 * after the last row. The others set @why to a static text where they have one.
 */
struct ssi_ics_ops {
	int (*op)(u32 row, struct ssi_ics_op *op);
	int (*link)(u32 row, struct ssi_ics_link *link);
	int (*key)(u32 row, struct ssi_ics_key *key);
	int (*key_stage)(const u8 *secret, u32 len, const char **why);
	int (*key_unstage)(const char **why);
	int (*key_switch)(u64 print, const char **why);
	int (*key_drop)(u64 print, const char **why);
};

int ssi_ics_nl_register(const struct ssi_ics_ops *ops);
void ssi_ics_nl_unregister(void);

/* clms_events.c */
void ssi_clms_tell_transition(const struct ssi_clms_transition *t);
void ssi_clms_tell_view(const struct ssi_clms_members *m);

/* clms_cleaner.c */
/*
 * @begin: who has the socket @port cleans from now on, from transition @id on.
 * @cleaned: the programs for that life are over. @closed: that socket is closed.
 */
struct ssi_clms_cleaner_ops {
	int (*begin)(u32 port, u64 *id, const char **why);
	int (*cleaned)(u32 node, u64 incarnation, const char **why);
	void (*closed)(u32 port);
};

int ssi_clms_cleaner_register(const struct ssi_clms_cleaner_ops *ops);
void ssi_clms_cleaner_unregister(void);

/* machine.c */
void ssi_restart_now(void);
void ssi_power_off(void);
void ssi_reboot(void);
void ssi_die(void);
void ssi_sleep_ms(u32 ms);
u64 ssi_wall_clock_ns(void);
u64 ssi_monotonic_ns(void);
u32 ssi_total_cpus(void);
u32 ssi_online_cpus(void);
u32 ssi_cpu_power(void);
u64 ssi_total_memory(void);

/* task.c */
u32 ssi_current_tgid(void);
struct pt_regs *ssi_current_regs(void);
void ssi_set_syscall_result(long result);

/* What a process does. */
enum {
	SSI_PROCESS_GONE,
	SSI_PROCESS_ALIVE,
	SSI_PROCESS_UNINTERRUPTIBLE,	/* no signal ends its waiting */
	SSI_PROCESS_STOPPED,
	SSI_PROCESS_LEADERLESS,		/* its first thread has ended, not all */
	SSI_PROCESS_DEAD,		/* and its parent has not waited for it */
};

u32 ssi_process_state(u32 nr);

#include "rfile.h"

#endif /* SSI_SHIM_H */
