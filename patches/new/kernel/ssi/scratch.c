// SPDX-License-Identifier: GPL-2.0
/*
 * User memory for a kernel thread that calls what knows only user addresses: it maps an anonymous area, fills it,
 * makes the call and reads the area.
 */
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>
#include "internal.h"

#define SSI_SCRATCH_ADDR	0x10000

int ssi_scratch_begin(struct ssi_scratch *s, size_t len)
{
	if (!(current->flags & PF_KTHREAD))
		return -EINVAL;
	s->mm = mm_alloc();
	if (!s->mm)
		return -ENOMEM;
	s->mm->task_size = TASK_SIZE;
	kthread_use_mm(s->mm);
	s->addr = vm_mmap(NULL, SSI_SCRATCH_ADDR, PAGE_ALIGN(len), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	if (!IS_ERR_VALUE(s->addr))
		return 0;
	kthread_unuse_mm(s->mm);
	mmput(s->mm);
	return s->addr;
}

void ssi_scratch_end(struct ssi_scratch *s)
{
	kthread_unuse_mm(s->mm);
	mmput(s->mm);
}

/**
 * pproc_file_ioctl() - an ioctl whose argument points to a flat structure
 * @file: the file
 * @cmd: the command
 * @buf: what the argument points to, read and written
 * @in_len: bytes that the command reads
 * @out_len: bytes that it may write
 *
 * The caller knows the command and its sizes: a structure that holds pointers or descriptors must not come here.
 *
 * Context: kernel thread; sleeps as the command does. Return: the command's result.
 */
long pproc_file_ioctl(struct file *file, u32 cmd, void *buf, u32 in_len, u32 out_len)
{
	struct ssi_scratch s;
	long ret;

	if (!file->f_op->unlocked_ioctl)
		return -ENOTTY;
	ret = ssi_scratch_begin(&s, max3(in_len, out_len, 1U));
	if (ret)
		return ret;
	if (copy_to_user((void __user *)s.addr, buf, in_len)) {
		ret = -EFAULT;
	} else {
		ret = file->f_op->unlocked_ioctl(file, cmd, s.addr);
		if (ret == -ENOIOCTLCMD)
			ret = -ENOTTY;
		if (ret >= 0 && copy_from_user(buf, (void __user *)s.addr, out_len))
			ret = -EFAULT;
	}
	ssi_scratch_end(&s);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_file_ioctl);
