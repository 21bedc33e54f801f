/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The image of a process: what crosses when it moves. Built-in half in kernel/ssi/{fileid,image,mm}.c and
 * arch/x86/kernel/ssi_image.c, Rust half in rust/image.rs.
 */
#ifndef _LINUX_SSI_IMAGE_H
#define _LINUX_SSI_IMAGE_H

#include <linux/types.h>

struct file;
struct pt_regs;

/*
 * Which file this is, on whichever node it is asked. Two files are the same only if pproc_file_same() says so.
 * @fs, @content: hashes; @content is 0 where the file may change.
 */
struct ssi_file_id {
	u64 magic;
	u64 fs;
	u64 ino;
	u64 generation;
	u64 size;
	u64 mtime_ns;
	u64 ctime_ns;
	u64 content;
};

bool pproc_file_common(struct file *file);
int pproc_file_id(struct file *file, struct ssi_file_id *id);
bool pproc_file_same(const struct ssi_file_id *a, const struct ssi_file_id *b);

/*
 * The image of the current process is three things: the task (everything but memory), the mappings, the pages. The
 * first two are byte strings that only the functions here understand; their bytes come from another node and are
 * judged as hostile. Order at the destination, all in the new process's own context:
 *
 *	pproc_mm_create, pproc_mm_restore, pproc_pages_write and pproc_guards_install (any number of times),
 *	pproc_mm_finish, pproc_task_restore, [credentials] pproc_task_finish, [about to enter user mode]
 *	pproc_regs_install, [it is the one that lives] pproc_timers_start.
 */
#define SSI_TASK_MAX		(64 << 10)	/* bytes of a task's image */
#define SSI_MM_MAX		(1 << 20)	/* bytes of the mappings */
#define SSI_PAGE_SIZE		4096
#define SSI_PAGE_GUARD		1ULL		/* in an address: a guard page, without content */

/* Where a walk over the pages stands. Zero to begin. */
struct ssi_page_cursor {
	u64 next;
};

int pproc_image_check(char *why, size_t len);
ssize_t pproc_task_capture(void *buf, size_t len);
ssize_t pproc_mm_capture(void *buf, size_t len);
ssize_t pproc_pages_next(struct ssi_page_cursor *c, u64 *addrs, size_t n);
int pproc_pages_read(const u64 *addrs, size_t n, void *buf);

int pproc_mm_create(const void *buf, size_t len);
int pproc_mm_restore(const void *buf, size_t len, char *why, size_t why_len);
int pproc_pages_write(const u64 *addrs, size_t n, const void *buf);
int pproc_guards_install(const u64 *addrs, size_t n);
int pproc_mm_finish(const void *buf, size_t len, char *why, size_t why_len);
int pproc_task_restore(const void *buf, size_t len, char *why, size_t why_len);
int pproc_task_finish(const void *buf, size_t len);
int pproc_regs_install(struct pt_regs *regs, const void *buf, size_t len);
int pproc_timers_start(const void *buf, size_t len, u64 elapsed_ns);

#endif /* _LINUX_SSI_IMAGE_H */
