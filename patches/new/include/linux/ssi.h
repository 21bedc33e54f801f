/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Single-system-image cluster: the hooks that the core kernel calls (first part) and the services
 * that the built-in half offers to the ssi* modules (second part). Documentation/hooks.rst has one
 * row for each hook.
 *
 * Every hook is behind a static key that is off until a node has joined. Words: a pid is "pinned"
 * when its number stays taken although no task here has it; the "agent" is the one kernel thread per
 * node that is the local parent of every process whose real parent is on another node.
 */
#ifndef _LINUX_SSI_H
#define _LINUX_SSI_H

#include <linux/err.h>
#include <linux/errno.h>
#include <linux/jump_label.h>
#include <linux/pid_types.h>
#include <linux/types.h>

struct cred;
struct dentry;
struct dir_context;
struct file;
struct kernel_clone_args;
struct kernel_siginfo;
struct mm_struct;
struct module;
struct path;
struct pid;
struct pid_namespace;
struct pt_regs;
struct restart_block;
struct signal_struct;
struct task_struct;
struct vfsmount;
struct wait_opts;

/* Version of everything in this file. A module built for another one is refused. */
#define SSI_ABI_VERSION		1
#define SSI_PID_SHIFT		20	/* pid = node << 20 | local */
#define SSI_PID_ALIASES		32768	/* locals below name node-private processes */

/* -------------------------------------------------------------------------------------------- */
/* Hooks.                                                                                       */

#ifdef CONFIG_SSI

DECLARE_STATIC_KEY_FALSE(ssi_vproc_on);
#define ssi_vproc_enabled()	static_branch_unlikely(&ssi_vproc_on)

extern struct pid_namespace init_pid_ns;
extern struct task_struct *ssi_agent;
extern unsigned int ssi_pid_lo, ssi_pid_hi;
extern unsigned long ssi_sysmap[];

bool __ssi_syscall_hooked(unsigned long nr);
void ssi_syscall(struct pt_regs *regs, unsigned int nr);
void __ssi_user_return(struct pt_regs *regs);
void __ssi_exit(struct task_struct *tsk);
long __ssi_do_wait(struct wait_opts *wo);
bool ssi_notify_exit(struct task_struct *tsk);
bool __ssi_moved(const struct task_struct *tsk);
int ssi_signal_moved(int sig, struct kernel_siginfo *info, struct task_struct *t,
		     enum pid_type type);
int __ssi_kill_pgrp(struct pid *pgrp, int sig, int ret);
pid_t __ssi_ppid(const struct task_struct *tsk);
bool __ssi_pid_idle(struct pid *pid);
struct pid *__ssi_clone_pid(const struct kernel_clone_args *args);
void __ssi_task_init(struct task_struct *p, const struct kernel_clone_args *args);
bool __ssi_hidden(const struct task_struct *tsk);
void __ssi_free_signal(struct signal_struct *sig);
struct dentry *__ssi_proc_lookup(struct dentry *dentry, unsigned int tgid, unsigned int flags);
bool __ssi_proc_fill(struct file *file, struct dir_context *ctx, unsigned int offset,
		     unsigned int upto);
extern const struct file_operations proc_ssi_goto_operations;

/* arch/x86/entry/syscall_64.c do_syscall_x64(), after the native call. */
#define ssi_syscall_hooked(nr)	(ssi_vproc_enabled() && __ssi_syscall_hooked(nr))

/* include/linux/resume_user_mode.h, user registers final. Sleeps; may not return. */
#define ssi_user_return(regs) do {						\
	if (ssi_vproc_enabled() && (regs) && unlikely(current->ssi))		\
		__ssi_user_return(regs);					\
} while (0)

/* kernel/pid.c */
#define ssi_pid_init(pid)	((pid)->ssi = NULL)
#define ssi_pid_max(_ns) \
	(ssi_vproc_enabled() && (_ns) == &init_pid_ns ? PID_MAX_LIMIT : READ_ONCE((_ns)->pid_max))
#define ssi_pid_range(_ns, _min, _max) do {					\
	if (ssi_vproc_enabled() && (_ns) == &init_pid_ns) {			\
		*(_min) = ssi_pid_lo;						\
		*(_max) = ssi_pid_hi;						\
	}									\
} while (0)
#define ssi_pid_idle(pid)	(ssi_vproc_enabled() && (pid)->ssi && __ssi_pid_idle(pid))

/* kernel/fork.c */
#define ssi_clone_pid(args)	((args)->ssi ? __ssi_clone_pid(args) : NULL)
#define ssi_task_init(p, args) do {						\
	(p)->ssi = NULL;							\
	if (unlikely((args)->ssi))						\
		__ssi_task_init(p, args);					\
} while (0)
#define ssi_free_signal(sig) do {						\
	if (unlikely((sig)->ssi))						\
		__ssi_free_signal(sig);						\
} while (0)

/* Is @tsk this node's agent? */
static inline bool ssi_is_agent(const struct task_struct *tsk)
{
	return ssi_vproc_enabled() && tsk == ssi_agent;
}

/* Has @tsk's process been given to another node, so that nothing may be queued on it any more? */
static inline bool ssi_moved(const struct task_struct *tsk)
{
	return ssi_vproc_enabled() && __ssi_moved(tsk);
}

/* Is @tsk's process not to be seen here: not yet alive, or already gone? */
static inline bool ssi_hidden(const struct task_struct *tsk)
{
	return ssi_vproc_enabled() && __ssi_hidden(tsk);
}

/* The number of @tsk's parent if that is on another node, else 0. */
static inline pid_t ssi_ppid(const struct task_struct *tsk)
{
	return ssi_vproc_enabled() ? __ssi_ppid(tsk) : 0;
}

/* kernel/exit.c do_exit(), last thread. Sleeps. */
static inline void ssi_exit(struct task_struct *tsk)
{
	if (ssi_vproc_enabled())
		__ssi_exit(tsk);
}

/* kernel/exit.c __do_wait(). Task state is TASK_INTERRUPTIBLE: must not sleep. */
static inline long ssi_do_wait(struct wait_opts *wo)
{
	return ssi_vproc_enabled() ? __ssi_do_wait(wo) : 0;
}

/* kernel/signal.c kill_pgrp(). Any context. */
static inline int ssi_kill_pgrp(struct pid *pgrp, int sig, int ret)
{
	return ssi_vproc_enabled() ? __ssi_kill_pgrp(pgrp, sig, ret) : ret;
}

/* fs/proc/base.c: after the native look-up missed. Sleeps, directory inode locked. */
static inline struct dentry *ssi_proc_lookup(struct dentry *dentry, struct pid_namespace *ns,
					     unsigned int tgid, unsigned int flags)
{
	if (ssi_vproc_enabled() && ns == &init_pid_ns)
		return __ssi_proc_lookup(dentry, tgid, flags);
	return ERR_PTR(-ENOENT);
}

/* fs/proc/base.c: emits processes of other nodes below @upto. Sleeps, directory inode locked. */
static inline bool ssi_proc_fill(struct file *file, struct dir_context *ctx,
				 struct pid_namespace *ns, unsigned int offset, unsigned int upto)
{
	if (ssi_vproc_enabled() && ns == &init_pid_ns)
		return __ssi_proc_fill(file, ctx, offset, upto);
	return true;
}

#else /* !CONFIG_SSI */

#define ssi_syscall_hooked(nr)			false
#define ssi_syscall(regs, nr)			do { } while (0)
#define ssi_user_return(regs)			do { } while (0)
#define ssi_pid_init(pid)			do { } while (0)
#define ssi_pid_max(_ns)			READ_ONCE((_ns)->pid_max)
#define ssi_pid_range(_ns, _min, _max)		do { } while (0)
#define ssi_pid_idle(pid)			false
#define ssi_clone_pid(args)			((struct pid *)NULL)
#define ssi_task_init(p, args)			do { } while (0)
#define ssi_free_signal(sig)			do { } while (0)
#define ssi_is_agent(tsk)			false
#define ssi_moved(tsk)				false
#define ssi_hidden(tsk)				false
#define ssi_ppid(tsk)				0
#define ssi_exit(tsk)				do { } while (0)
#define ssi_do_wait(wo)				0
#define ssi_notify_exit(tsk)			false
#define ssi_signal_moved(sig, info, t, type)	0
#define ssi_kill_pgrp(pgrp, sig, ret)		(ret)
#define ssi_proc_lookup(d, ns, tgid, flags)	ERR_PTR(-ENOENT)
#define ssi_proc_fill(f, c, ns, o, u)		true

#endif /* CONFIG_SSI */

/* What continues an interrupted sleep; an image names them. */
long hrtimer_nanosleep_restart(struct restart_block *restart);
long futex_wait_restart(struct restart_block *restart);
long do_restart_poll(struct restart_block *restart);

/* -------------------------------------------------------------------------------------------- */
/* What the modules register.                                                                   */

/* Verdicts of ssi_vproc_ops.user_return. */
#define SSI_GO_ON	0
#define SSI_VANISH	1	/* the process lives on another node now: end silently */

/* Operations of ssi_vproc_ops.sys. */
enum ssi_sys_op {
	SSI_SYS_RFORK,		/* node, flags */
	SSI_SYS_REXEC,		/* node, struct ssi_strings * */
	SSI_SYS_MIGRATE,	/* pid, node, flags */
	SSI_SYS_WHERE_PID,	/* pid */
};

/* A system call that acts on a process of another node. */
struct ssi_remote_call {
	u32 nr;
	u32 pid;		/* whom it acts on: a process, or a thread */
	u64 args[6];		/* as in the registers; pointers are replaced on the other side */
	u32 in_len;
	u32 out_len;
	u8 in[128];		/* what the pointer arguments point to */
	u8 out[128];
};

/* Strings of an exec, copied from the caller. */
struct ssi_strings {
	char *path;
	char *args;		/* argc strings, then envc strings, each ended by 0 */
	u32 argc;
	u32 envc;
	u32 args_len;
	u32 flags;
};

/* A wait that found nothing among the children on this node. */
struct ssi_wait {
	u32 type;		/* enum pid_type; PIDTYPE_MAX: any child */
	s32 nr;
	u32 options;		/* WNOHANG, WEXITED, ... */
	/* results */
	u32 eligible;		/* some child on another node matches */
	s32 pid;		/* found: the child's number, else 0 */
	u32 uid;
	s32 status;		/* as task_struct.exit_code */
	s32 cause;		/* CLD_* */
	u64 utime_ns;
	u64 stime_ns;
	u64 min_flt;
	u64 maj_flt;
	u64 maxrss_kib;
};

/* Attributes of a file in /proc/<pid>. */
struct ssi_proc_stat {
	u32 mode;
	u32 uid;
	u32 gid;
	u32 nlink;
	u64 size;
};

/*
 * Upcalls for the process space. All sleep, but for @wait.
 *
 * @syscall: a hooked call on @call->pid, which is not here. Return: the call's result.
 * @signal: kill, tkill, tgkill, rt_sigqueueinfo or rt_tgsigqueueinfo after the native call. @native is its
 *	result. Return: the call's result.
 * @user_return: current->ssi is set and current is about to enter user mode. Return: SSI_GO_ON or SSI_VANISH.
 * @arrive: the current task is new and makes itself from the image of @nr's @movement. Return: 0, or an error after
 *	which it ends silently.
 * @exit: the last thread of a process with relations to other nodes exits.
 * @wait: fills in the results of @w; reaps if it finds one and WNOWAIT is not set. Must not sleep.
 * @proc_stat, @proc_read, @proc_write, @proc_readlink, @proc_readdir: a file in /proc/<nr> of a process of another
 *	node, @path relative to it, with the caller's credentials. Results as pproc_proc_*(); -ENOENT: not elsewhere.
 * @proc_next: the least number >= @from of a process of another node, or UINT_MAX.
 * @goto_node: moves @tgid to @node.
 * @goto_show: writes what /proc/<tgid>/goto reads. Return: bytes.
 * @sys: the four system calls. REXEC returns 0 only when the process must vanish here.
 */
struct ssi_vproc_ops {
	u32 abi;
	u32 size;
	long (*syscall)(struct ssi_remote_call *call);
	long (*signal)(u32 nr, const u64 *args, const struct kernel_siginfo *info, long native);
	u32 (*user_return)(struct pt_regs *regs);
	int (*arrive)(u32 nr, u64 movement);
	void (*exit)(u32 tgid);
	void (*wait)(u32 tgid, struct ssi_wait *w);
	int (*proc_stat)(u32 nr, const char *path, struct ssi_proc_stat *st);
	long (*proc_read)(u32 nr, const char *path, void *buf, size_t len);
	long (*proc_write)(u32 nr, const char *path, const void *buf, size_t len);
	long (*proc_readlink)(u32 nr, const char *path, char *buf, size_t len);
	long (*proc_readdir)(u32 nr, const char *path, char *buf, size_t len);
	u32 (*proc_next)(const void *file, u32 from);
	long (*goto_node)(u32 tgid, s32 node);
	long (*goto_show)(u32 tgid, char *buf, u32 len);
	long (*sys)(u32 op, u64 a, u64 b, u64 c);
};

/* -------------------------------------------------------------------------------------------- */
/* Services of the built-in half. They sleep unless said otherwise.                             */

/* Why a number stays. */
#define SSI_PIN_ORIGIN		(1U << 0)	/* ours, and in use on another node */
#define SSI_PIN_CHILD		(1U << 1)	/* a child, on another node, of a process here */
#define SSI_PIN_EXEC		(1U << 2)	/* another node's number, its process runs here */
#define SSI_PIN_PARENT		(1U << 3)	/* here, and has children on other nodes */
#define SSI_PIN_MOVE		(1U << 4)	/* a movement of it is under way */

int pproc_register(const struct ssi_vproc_ops *ops, struct module *owner);
void pproc_unregister(void);
int pproc_join(u32 node, struct task_struct *agent);
void pproc_leave(void);
u32 pproc_abi_version(void);

int pproc_pin(u32 nr, u32 why);
void pproc_unpin(u32 nr, u32 why);
void pproc_poke(u32 nr);
u32 pproc_pins(u32 nr);
bool pproc_exists(u32 nr);
bool pproc_has_task(u32 nr);

/* What happened in a context that could not sleep. */
enum ssi_event_kind {
	SSI_EVENT_EXIT,		/* a process whose parent is elsewhere is dead */
	SSI_EVENT_IDLE,		/* a pinned number lost its last task here */
	SSI_EVENT_SIGNAL,	/* a signal for a moved process */
	SSI_EVENT_PGRP,		/* a signal for the members elsewhere of a group */
};

struct ssi_event {
	u32 kind;
	u32 nr;
	u32 ppid;		/* EXIT */
	s32 status;
	u32 uid;
	s32 exit_signal;
	u64 utime_ns;
	u64 stime_ns;
	u64 min_flt;
	u64 maj_flt;
	u64 maxrss_kib;
	s32 sig;		/* SIGNAL, PGRP */
	u32 type;		/* enum pid_type */
	u8 info[48];		/* start of struct kernel_siginfo */
};

int pproc_event_wait(struct ssi_event *ev);
void pproc_event_stop(void);

/* A task's identity, for ps and for relations. */
struct ssi_ids {
	u32 tgid;
	u32 ppid;
	u32 pgid;
	u32 sid;
	u32 uid;
	s32 exit_signal;
	u32 nr_threads;
	u32 remote_parent;
};

int pproc_ids(u32 nr, struct ssi_ids *ids);
u32 pproc_next_tgid(u32 from);
int pproc_signal(u32 tgid, u32 nr, u32 type, s32 sig, const void *info, u32 sender_sid, bool force);
int pproc_signal_pgrp(u32 pgid, s32 sig);
void pproc_wake_waiters(u32 parent);
void pproc_child_event(u32 parent, const struct ssi_event *ev, bool *ignored);
int pproc_reparent_to_init(u32 nr);
long pproc_exec_call(struct ssi_remote_call *call);
long pproc_syscall(u32 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
void __noreturn pproc_vanish(void);

/* A process to be made here by the agent. */
struct ssi_spawn {
	u64 movement;
	u32 nr;
	u32 ppid;		/* as on the wire */
	u32 pgid;
	u32 sid;
	s32 exit_signal;
	u32 session_leader;
};

/* A signal that was pending when its process left. */
struct ssi_pending {
	u32 process;		/* for the process, not its thread */
	s32 sig;
	u8 info[48];
};

/* What exec keeps, and the mm does not hold. */
#define SSI_NLIMITS		16
struct ssi_exec_state {
	u64 blocked;
	u64 ignored;
	u64 limits[SSI_NLIMITS][2];
	s32 nice;
	u32 personality;
	s32 oom_score_adj;
	u32 ctx_node;
	u64 timer_slack_ns;
	u64 utime_ns;
	u64 stime_ns;
};

int pproc_spawn(const struct ssi_spawn *sp);
int pproc_leave_check(struct ssi_ids *ids, u32 *session_leader, char *why, size_t len);
int pproc_mark_moved(struct ssi_pending *late, u32 max);
void pproc_unmark_moved(void);
int pproc_children(u32 *nrs, u32 *pgids, u32 max);
int pproc_detach(void);
int pproc_activate(u32 nr, u32 local_parent);
int pproc_request_move(u32 nr, u64 movement);
void pproc_forget_move(void);
u64 pproc_current_move(u32 *role);
void pproc_exec_capture(struct ssi_exec_state *st);
int pproc_exec_restore(const struct ssi_exec_state *st);
int pproc_execve(const char *path, const char *args, size_t len, u32 argc, u32 envc);
int pproc_arrive_ids(const struct ssi_spawn *sp);

/* Credentials as they cross nodes; groups follow. */
#define SSI_CRED_GROUPS		64
struct ssi_cred {
	u32 uid, gid, suid, sgid, euid, egid, fsuid, fsgid;
	u64 cap_inheritable, cap_permitted, cap_effective, cap_bset, cap_ambient;
	u32 securebits;
	u32 no_new_privs;
	u32 ngroups;
	u32 groups[SSI_CRED_GROUPS];
};

int pproc_cred_get(struct ssi_cred *c);
const struct cred *pproc_cred_push(const struct ssi_cred *c);
void pproc_cred_pop(const struct cred *old);
int pproc_cred_commit(const struct ssi_cred *c);

/* Reads of /proc/<nr>/... for another node, judged with the current credentials. */
int pproc_may_move(u32 nr);
int pproc_proc_stat(u32 nr, const char *path, struct ssi_proc_stat *st);
long pproc_proc_read(u32 nr, const char *path, void *buf, size_t len);
long pproc_proc_write(u32 nr, const char *path, const void *buf, size_t len);
long pproc_proc_readlink(u32 nr, const char *path, char *buf, size_t len);
long pproc_proc_readdir(u32 nr, const char *path, char *buf, size_t len);

/* Files of a process that moves. */
bool pproc_is_tty(const struct file *file);
const char *pproc_mount_source(const struct vfsmount *mnt);
int pproc_check_root(void);
int pproc_fd_install(u32 fd, struct file *file, bool cloexec);
void pproc_set_cwd(const struct path *path, u32 umask);
long pproc_file_ioctl(struct file *file, u32 cmd, void *buf, u32 in_len, u32 out_len);

#endif /* _LINUX_SSI_H */
