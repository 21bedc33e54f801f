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

#endif /* _LINUX_SSI_IMAGE_H */
