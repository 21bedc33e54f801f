/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The image of a process: what crosses when it moves. Built-in half in kernel/ssi/{fileid,image,mm}.c and
 * arch/x86/kernel/ssi_image.c, Rust half in rust/image.rs.
 */
#ifndef _LINUX_SSI_IMAGE_H
#define _LINUX_SSI_IMAGE_H

#include <linux/types.h>

struct file;
struct mm_struct;
struct path;

/*
 * Which file this is, on whichever node it is asked. Never by path. Two files are the same if all of this is.
 *
 * Times and @probe, a hash of the contents, tell files of a read-only filesystem apart: images made with all times
 * pinned can be alike in everything else. They are 0 where a file may change.
 */
struct ssi_file_id {
	u64 fs_magic;
	u64 fs_id[2];
	u64 ino;
	u64 size;			/* of a regular file */
	s64 mtime_s;
	s64 ctime_s;
	u64 probe;
	u32 mtime_ns;
	u32 ctime_ns;
	u32 generation;
	u32 type;			/* S_IFMT bits */
};

bool pproc_path_common(const struct path *path);
int pproc_path_id(const struct path *path, struct ssi_file_id *id);
int pproc_file_id(struct file *file, struct ssi_file_id *id);
bool pproc_file_same(const struct ssi_file_id *a, const struct ssi_file_id *b);

/*
 * The image of the current process is three things: the task (everything but memory), the mappings, the pages. The
 * first two are byte strings that only the functions here understand; their bytes come from another node and are
 * judged as hostile; they are aligned to 8 bytes. Order at the destination, all in the new process's own context but
 * for what fills its memory, which any thread may do:
 *
 *	pproc_mm_create, pproc_mm_restore, pproc_pages_target, pproc_pages_write and pproc_guards_install (any number
 *	of times), pproc_pages_target_put, pproc_mm_finish, pproc_task_restore, [credentials] pproc_task_finish, [about to enter user mode]
 *	pproc_regs_install, [it is the one that lives] pproc_timers_start.
 */
#define SSI_TASK_MAX		(64 << 10)	/* bytes of a task's image */
#define SSI_MM_MAX		(1024 << 10)	/* bytes of the mappings */
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

int pproc_mm_create(const void *buf, size_t len, char *why, size_t why_len);
int pproc_mm_restore(const void *buf, size_t len, char *why, size_t why_len);
struct mm_struct *pproc_pages_target(void);
void pproc_pages_target_put(struct mm_struct *mm);
int pproc_pages_write(struct mm_struct *mm, const u64 *addrs, size_t n, const void *buf);
int pproc_guards_install(struct mm_struct *mm, const u64 *addrs, size_t n);
int pproc_mm_finish(const void *buf, size_t len, char *why, size_t why_len);
int pproc_task_restore(const void *buf, size_t len, char *why, size_t why_len);
int pproc_task_finish(const void *buf, size_t len);
int pproc_regs_install(const void *buf, size_t len);
int pproc_timers_start(const void *buf, size_t len, u64 elapsed_ns);

#endif /* _LINUX_SSI_IMAGE_H */
