// SPDX-License-Identifier: GPL-2.0
/*
 * Descriptors, working directory and mounts of a process that moves: the steps that need unexported parts of the
 * kernel. The rest is rust/shim/rfile.c.
 */
#include <linux/export.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/path.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/tty.h>
#include "../../drivers/tty/tty.h"
#include "../../fs/mount.h"
#include "internal.h"

/**
 * pproc_is_tty() - is this an open terminal, hung up or not?
 */
bool pproc_is_tty(const struct file *file)
{
	struct file_operations fops;

	tty_default_fops(&fops);
	return file->f_op->read_iter == fops.read_iter || tty_hung_up_p((struct file *)file);
}
EXPORT_SYMBOL_SSI(pproc_is_tty);

/**
 * pproc_mount_source() - what was mounted, as the second field of mountinfo tells it
 *
 * Return: a string that lives as long as the mount, or NULL.
 */
const char *pproc_mount_source(const struct vfsmount *mnt)
{
	return real_mount((struct vfsmount *)mnt)->mnt_devname;
}
EXPORT_SYMBOL_SSI(pproc_mount_source);

/**
 * pproc_check_root() - does the current process see the file tree that init sees?
 *
 * Return: 0, -EXDEV if its root is another one, -EBUSY if it shares root and working directory with another process.
 */
int pproc_check_root(void)
{
	struct path root, init;
	int ret;

	if (current->fs->users != 1)
		return -EBUSY;
	get_fs_root(current->fs, &root);
	get_fs_root(userspace_init_fs, &init);
	ret = path_equal(&root, &init) ? 0 : -EXDEV;
	path_put(&init);
	path_put(&root);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_check_root);

/**
 * pproc_fd_install() - give a file the number it has on the node that the process comes from
 * @fd: the number; a file that has it is closed
 * @file: the file; the caller keeps its reference
 * @cloexec: close it at exec
 *
 * The limit that holds here for open files does not count: the number was given out elsewhere.
 *
 * Return: 0, -EMFILE beyond fs.nr_open, -ENOMEM.
 */
int pproc_fd_install(u32 fd, struct file *file, bool cloexec)
{
	struct rlimit *lim = &current->signal->rlim[RLIMIT_NOFILE];
	unsigned long old;
	int ret;

	if (fd >= INT_MAX)
		return -EMFILE;
	task_lock(current->group_leader);
	old = lim->rlim_cur;
	lim->rlim_cur = max(old, fd + 1UL);
	task_unlock(current->group_leader);
	ret = replace_fd(fd, file, cloexec ? O_CLOEXEC : 0);
	task_lock(current->group_leader);
	lim->rlim_cur = old;
	task_unlock(current->group_leader);
	return ret < 0 ? ret : 0;
}
EXPORT_SYMBOL_SSI(pproc_fd_install);

/**
 * pproc_set_cwd() - set the current process's working directory and mask for new files
 */
void pproc_set_cwd(const struct path *path, u32 umask)
{
	set_fs_pwd(current->fs, path);
	current->fs->umask = umask & 0777;
}
EXPORT_SYMBOL_SSI(pproc_set_cwd);
