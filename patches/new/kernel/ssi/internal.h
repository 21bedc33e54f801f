/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KERNEL_SSI_INTERNAL_H
#define _KERNEL_SSI_INTERNAL_H

#include <linux/list.h>
#include <linux/sched.h>
#include <linux/ssi.h>

#define EXPORT_SYMBOL_SSI(sym)	EXPORT_SYMBOL_FOR_MODULES(sym, "ssi*")

/* An event with its place in the queue. Whoever queues it owns it no more, unless @embedded. */
struct ssi_event_node {
	struct list_head list;
	bool embedded;
	struct ssi_event ev;
};

/* What struct pid points to while the number is pinned. Guarded by tasklist_lock (write). */
struct ssi_pvproc {
	u32 pins;
	struct ssi_event_node idle;
};

/* What signal_struct points to once a process has relations to other nodes. */
struct ssi_signal {
	u32 ppid;			/* parent's number if it is elsewhere, else 0 */
	bool moved;			/* signals are forwarded, not queued: siglock */
	bool hidden;			/* not listed: parked and not yet alive, or already gone */
	struct ssi_event_node *exit;	/* reserved for the one EXIT event */
};

void ssi_event_queue(struct ssi_event_node *n);
void ssi_event_cancel(struct ssi_event_node *n);
struct ssi_signal *ssi_signal_alloc(u32 ppid);
void ssi_signal_free(struct ssi_signal *s);

/* What task_struct.ssi points to while a movement of the task is under way. */
enum ssi_role {
	SSI_ROLE_LEAVING = 1,		/* source: to be caught before it enters user mode */
	SSI_ROLE_ARRIVING,		/* destination: being made, or parked */
};

struct ssi_move {
	u32 role;
	u32 nr;
	u64 movement;
	u64 exec_id;			/* of a process that is to leave: the program that was asked to */
	const struct ssi_file_id *exe;	/* set while pproc_mm_create() replaces the memory */
};

/* What a new task takes over, see kernel_clone_args.ssi. */
struct ssi_arrival {
	struct pid *pid;
	struct ssi_signal *signal;
	struct ssi_move *move;
};

/* Is the current process being made from an image? */
static inline bool ssi_arriving(void)
{
	const struct ssi_move *m = READ_ONCE(current->ssi);

	return m && m->role == SSI_ROLE_ARRIVING;
}

/* The processor's part of an image: arch/x86/kernel/ssi.c. */
int ssi_arch_check(char *why, size_t len);
size_t ssi_arch_size(void);
int ssi_arch_capture(void *buf, size_t len);
int ssi_arch_verify(const void *buf, size_t len, char *why, size_t why_len);
int ssi_arch_install(struct pt_regs *regs, const void *buf, size_t len);
bool ssi_arch_restarts(void);
void ssi_arch_new_mm(void);

/* What of the mappings the processor knows. */
struct ssi_arch_mm {
	u64 vdso;
	u32 pkeys;			/* allocated ones */
	s32 exec_pkey;
};

void ssi_arch_mm_capture(struct ssi_arch_mm *a);
int ssi_arch_mm_check(char *why, size_t len);
int ssi_arch_mm_restore(const struct ssi_arch_mm *a);
unsigned long ssi_arch_vdso_range(unsigned long *len);
int ssi_mm_check(char *why, size_t len);

/* Calls @slot of the registered operations, or yields @absent when there are none (any more). */
extern const struct ssi_vproc_ops __rcu *ssi_vproc_ops;
extern struct srcu_struct ssi_srcu;
#define ssi_vproc_call(absent, slot, ...) ({						\
	typeof(absent) __ret = (absent);						\
	int __idx = srcu_read_lock(&ssi_srcu);						\
	const struct ssi_vproc_ops *__ops = srcu_dereference(ssi_vproc_ops, &ssi_srcu);	\
	if (__ops)									\
		__ret = __ops->slot(__VA_ARGS__);					\
	srcu_read_unlock(&ssi_srcu, __idx);						\
	__ret;										\
})

/* A user address for files that know only user buffers. Context: kernel thread. */
struct ssi_scratch {
	struct mm_struct *mm;
	unsigned long addr;
};

int ssi_scratch_begin(struct ssi_scratch *s, size_t len);
void ssi_scratch_end(struct ssi_scratch *s);

#endif /* _KERNEL_SSI_INTERNAL_H */
