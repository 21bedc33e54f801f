// SPDX-License-Identifier: GPL-2.0
/*
 * /proc: the listing, /proc/<pid>/goto, and reads on behalf of other nodes. proc_remote.c asks, this answers.
 */
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include "../../fs/proc/internal.h"
#include "internal.h"

static bool ssi_listed_here(u32 nr)
{
	struct task_struct *p;
	bool ret;

	rcu_read_lock();
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_TGID);
	ret = p && !__ssi_hidden(p);
	rcu_read_unlock();
	return ret;
}

bool __ssi_proc_fill(struct file *file, struct dir_context *ctx, unsigned int offset,
		     unsigned int upto)
{
	char name[10 + 1];
	unsigned int nr;

	for (;;) {
		nr = ssi_vproc_call((u32)UINT_MAX, proc_next, file, (u32)(ctx->pos - offset));
		if (nr >= upto)
			return true;
		ctx->pos = nr + offset;
		if (ssi_listed_here(nr)) {
			/* It came here after its old node had listed it. */
			ctx->pos++;
			continue;
		}
		if (!dir_emit(ctx, name, snprintf(name, sizeof(name), "%u", nr), nr, DT_DIR))
			return false;
		ctx->pos++;
	}
}

static ssize_t ssi_goto_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	char text[160];
	long len = ssi_vproc_enabled() ?
		   ssi_vproc_call((long)-ENOSYS, goto_show, pid_nr(proc_pid(file_inode(file))), text,
				  (u32)sizeof(text)) : -ENOSYS;

	return len < 0 ? len : simple_read_from_buffer(buf, count, ppos, text, len);
}

static ssize_t ssi_goto_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	int node;
	long ret;

	ret = kstrtoint_from_user(buf, count, 0, &node);
	if (ret)
		return ret;
	if (!ssi_vproc_enabled())
		return -ENOSYS;
	ret = ssi_vproc_call((long)-ENOSYS, goto_node, pid_nr(proc_pid(file_inode(file))), node);
	return ret < 0 ? ret : count;
}

const struct file_operations proc_ssi_goto_operations = {
	.read	= ssi_goto_read,
	.write	= ssi_goto_write,
	.llseek	= default_llseek,
};

/**
 * pproc_may_move() - may the current credentials move a process here?
 * @nr: its number
 *
 * Return: 0, -ESRCH, -EPERM.
 */
int pproc_may_move(u32 nr)
{
	struct task_struct *p;
	int ret = -ESRCH;

	rcu_read_lock();
	p = pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_PID);
	if (p) {
		if (p->flags & PF_KTHREAD)
			ret = -EPERM;
		else
			ret = capable(CAP_SYS_NICE) || ptrace_may_access(p, PTRACE_MODE_ATTACH_REALCREDS) ?
			      0 : -EPERM;
	}
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_may_move);

static DEFINE_MUTEX(ssi_proc_mutex);
static struct vfsmount *ssi_proc_mnt;	/* set once, then constant */

static struct vfsmount *ssi_proc_mount(void)
{
	struct vfsmount *mnt = READ_ONCE(ssi_proc_mnt);
	struct file_system_type *type;

	if (mnt)
		return mnt;
	mutex_lock(&ssi_proc_mutex);
	if (!ssi_proc_mnt) {
		type = get_fs_type("proc");
		mnt = kern_mount(type);
		if (!IS_ERR(mnt))
			WRITE_ONCE(ssi_proc_mnt, mnt);
	} else {
		mnt = ssi_proc_mnt;
	}
	mutex_unlock(&ssi_proc_mutex);
	return mnt;
}

#define SSI_PROC_PATH		128

/* Only names that a lister can have seen: no way up. */
static int ssi_proc_name(char *name, u32 nr, const char *path)
{
	if (strstr(path, "..") || path[0] == '/' ||
	    snprintf(name, SSI_PROC_PATH, "%u/%s", nr, path) >= SSI_PROC_PATH)
		return -ENOENT;
	return 0;
}

static struct file *ssi_proc_open(u32 nr, const char *path, int flags)
{
	struct vfsmount *mnt = ssi_proc_mount();
	char name[SSI_PROC_PATH];

	if (IS_ERR(mnt))
		return ERR_CAST(mnt);
	if (ssi_proc_name(name, nr, path))
		return ERR_PTR(-ENOENT);
	return file_open_root_mnt(mnt, name, flags | O_NONBLOCK | O_NOFOLLOW, 0);
}

static int ssi_proc_path(u32 nr, const char *path, struct path *p)
{
	struct vfsmount *mnt = ssi_proc_mount();
	char name[SSI_PROC_PATH];

	if (IS_ERR(mnt))
		return PTR_ERR(mnt);
	if (ssi_proc_name(name, nr, path))
		return -ENOENT;
	return vfs_path_lookup(mnt->mnt_root, mnt, name, 0, p);
}

int pproc_proc_stat(u32 nr, const char *path, struct ssi_proc_stat *st)
{
	struct kstat k;
	struct path p;
	int ret = ssi_proc_path(nr, path, &p);

	if (ret)
		return ret;
	ret = vfs_getattr(&p, &k, STATX_BASIC_STATS, 0);
	path_put(&p);
	if (ret)
		return ret;
	st->mode = k.mode;
	st->uid = from_kuid(&init_user_ns, k.uid);
	st->gid = from_kgid(&init_user_ns, k.gid);
	st->nlink = k.nlink;
	st->size = k.size;
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_proc_stat);

static long ssi_proc_read_seq(struct file *file, void *buf, size_t len)
{
	struct kvec kv = { .iov_base = buf, .iov_len = len };
	struct kiocb kiocb;
	struct iov_iter iter;

	init_sync_kiocb(&kiocb, file);
	kiocb.ki_pos = file->f_pos;
	iov_iter_kvec(&iter, ITER_DEST, &kv, 1, len);
	len = seq_read_iter(&kiocb, &iter);
	file->f_pos = kiocb.ki_pos;
	return len;
}

/**
 * pproc_proc_read() - the text of a file in /proc/<nr>
 * @nr: a process here
 * @path: name below /proc/<nr>
 * @buf: gets the text
 * @len: room; what does not fit is cut
 *
 * Context: kernel thread. Return: bytes or an error.
 */
long pproc_proc_read(u32 nr, const char *path, void *buf, size_t len)
{
	struct file *file = ssi_proc_open(nr, path, O_RDONLY);
	struct ssi_scratch s = {};
	bool seq;
	long n = 0, done = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	seq = file->f_op->read == seq_read;
	if (!seq) {
		n = file->f_op->read ? ssi_scratch_begin(&s, len) : -EINVAL;
		if (n)
			goto out;
	}
	while (done < len) {
		if (seq) {
			n = ssi_proc_read_seq(file, buf + done, len - done);
		} else {
			n = file->f_op->read(file, (char __user *)s.addr, len - done, &file->f_pos);
			if (n > 0 && copy_from_user(buf + done, (void __user *)s.addr, n))
				n = -EFAULT;
		}
		if (n <= 0)
			break;
		done += n;
	}
	if (!seq)
		ssi_scratch_end(&s);
out:
	fput(file);
	return n < 0 && !done ? n : done;
}
EXPORT_SYMBOL_SSI(pproc_proc_read);

/**
 * pproc_proc_write() - write a file in /proc/<nr> in one piece
 *
 * Context: kernel thread. Return: bytes or an error.
 */
long pproc_proc_write(u32 nr, const char *path, const void *buf, size_t len)
{
	struct file *file = ssi_proc_open(nr, path, O_WRONLY);
	struct ssi_scratch s;
	long ret;

	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = file->f_op->write ? ssi_scratch_begin(&s, len) : -EINVAL;
	if (!ret) {
		if (copy_to_user((void __user *)s.addr, buf, len))
			ret = -EFAULT;
		else
			ret = file->f_op->write(file, (char __user *)s.addr, len, &file->f_pos);
		ssi_scratch_end(&s);
	}
	fput(file);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_proc_write);

/**
 * pproc_proc_readlink() - what a link in /proc/<nr> reads
 *
 * Context: kernel thread. Return: bytes or an error.
 */
long pproc_proc_readlink(u32 nr, const char *path, char *buf, size_t len)
{
	struct ssi_scratch s;
	struct path p;
	long ret = ssi_proc_path(nr, path, &p);

	if (ret)
		return ret;
	ret = ssi_scratch_begin(&s, len);
	if (!ret) {
		ret = vfs_readlink(p.dentry, (char __user *)s.addr, len);
		if (ret > 0 && copy_from_user(buf, (void __user *)s.addr, ret))
			ret = -EFAULT;
		ssi_scratch_end(&s);
	}
	path_put(&p);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_proc_readlink);

struct ssi_readdir {
	struct dir_context ctx;
	char *buf;
	size_t len, used;
};

/* One entry: type, length of the name, the name. */
static bool ssi_readdir_actor(struct dir_context *ctx, const char *name, int len, loff_t pos,
			      u64 ino, unsigned int type)
{
	struct ssi_readdir *r = container_of(ctx, struct ssi_readdir, ctx);

	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return true;
	if (len > 255 || r->used + 2 + len > r->len)
		return false;
	r->buf[r->used++] = type;
	r->buf[r->used++] = len;
	memcpy(r->buf + r->used, name, len);
	r->used += len;
	return true;
}

/**
 * pproc_proc_readdir() - the names of a directory in /proc/<nr>
 *
 * Return: bytes of entries (type, length, name) or an error.
 */
long pproc_proc_readdir(u32 nr, const char *path, char *buf, size_t len)
{
	struct ssi_readdir r = { .ctx.actor = ssi_readdir_actor, .buf = buf, .len = len };
	struct file *file = ssi_proc_open(nr, path, O_RDONLY | O_DIRECTORY);
	int ret;

	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = iterate_dir(file, &r.ctx);
	fput(file);
	return ret ?: r.used;
}
EXPORT_SYMBOL_SSI(pproc_proc_readdir);
