// SPDX-License-Identifier: GPL-2.0
/*
 * Files that stand for files of other nodes, and where their users wait.
 */
#include <linux/anon_inodes.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/stat.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include "shim.h"

struct ssi_proxy {
	const struct ssi_proxy_ops *ops;
	void *arg;
	struct module *owner;
	u64 handle;
	u32 home;
	u32 class;
};

static const struct file_operations ssi_proxy_fops;

bool ssi_is_proxy(const struct file *file)
{
	return file->f_op == &ssi_proxy_fops;
}

/* What a process that goes on takes with it. */
int ssi_proxy_describe(struct file *file, struct ssi_file_info *fi)
{
	struct ssi_proxy *p = file->private_data;

	fi->kind = SSI_FILE_PROXY;
	fi->class = p->class;
	fi->home = p->home;
	fi->handle = p->handle;
	return p->ops->stat(p->arg, &fi->stat);
}

struct ssi_bell {
	wait_queue_head_t queue;
	atomic64_t number;
	struct rcu_head rcu;
};

struct ssi_bell *ssi_bell_create(void)
{
	struct ssi_bell *b = kzalloc_obj(*b);

	if (b)
		init_waitqueue_head(&b->queue);
	return b;
}
EXPORT_SYMBOL_GPL(ssi_bell_create);

/* epoll may look at the queue until a grace period has passed. */
void ssi_bell_destroy(struct ssi_bell *b)
{
	kfree_rcu(b, rcu);
}
EXPORT_SYMBOL_GPL(ssi_bell_destroy);

u64 ssi_bell_number(struct ssi_bell *b)
{
	return atomic64_read(&b->number);
}
EXPORT_SYMBOL_GPL(ssi_bell_number);

void ssi_bell_ring(struct ssi_bell *b)
{
	atomic64_inc(&b->number);
	wake_up_all(&b->queue);
}
EXPORT_SYMBOL_GPL(ssi_bell_ring);

/**
 * ssi_bell_wait() - wait for a ring after @number
 * @timeout_ms: 0 for ever
 *
 * Return: 0, -ERESTARTSYS at a signal.
 */
int ssi_bell_wait(struct ssi_bell *b, u64 number, u32 timeout_ms)
{
	long ret = timeout_ms ? msecs_to_jiffies(timeout_ms) : MAX_SCHEDULE_TIMEOUT;

	ret = wait_event_interruptible_timeout(b->queue, atomic64_read(&b->number) != number, ret);
	return ret < 0 ? ret : 0;
}
EXPORT_SYMBOL_GPL(ssi_bell_wait);

void ssi_bell_poll(struct ssi_bell *b, struct file *file, struct poll_table_struct *pt)
{
	poll_wait(file, &b->queue, pt);
}
EXPORT_SYMBOL_GPL(ssi_bell_poll);

/*
 * f_pos of a proxy for a regular file: read and write come with it, pread and pwrite with what the caller gave. The
 * true offset is kept where the file is.
 */
#define SSI_POS_HOME	((loff_t)BIT_ULL(62))

static s64 ssi_proxy_pos(const struct kiocb *kiocb)
{
	return kiocb->ki_pos == SSI_POS_HOME ? -1 : kiocb->ki_pos;
}

static bool ssi_proxy_nonblock(const struct kiocb *kiocb)
{
	return (kiocb->ki_filp->f_flags & O_NONBLOCK) || (kiocb->ki_flags & IOCB_NOWAIT);
}

static ssize_t ssi_proxy_read(struct kiocb *kiocb, struct iov_iter *to)
{
	struct ssi_proxy *p = kiocb->ki_filp->private_data;

	if (!iov_iter_count(to))
		return 0;
	return p->ops->read(p->arg, ssi_proxy_nonblock(kiocb), ssi_proxy_pos(kiocb), to);
}

static ssize_t ssi_proxy_write(struct kiocb *kiocb, struct iov_iter *from)
{
	struct ssi_proxy *p = kiocb->ki_filp->private_data;

	if (!iov_iter_count(from))
		return 0;
	return p->ops->write(p->arg, ssi_proxy_nonblock(kiocb), ssi_proxy_pos(kiocb), from);
}

static __poll_t ssi_proxy_poll(struct file *file, poll_table *pt)
{
	struct ssi_proxy *p = file->private_data;

	return (__force __poll_t)p->ops->poll(p->arg, file, pt);
}

static long ssi_proxy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct ssi_proxy *p = file->private_data;

	return p->ops->ioctl(p->arg, cmd, arg);
}

static loff_t ssi_proxy_llseek(struct file *file, loff_t offset, int whence)
{
	struct ssi_proxy *p = file->private_data;

	return p->ops->llseek(p->arg, offset, whence);
}

static int ssi_proxy_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct ssi_proxy *p = file->private_data;

	return p->class == SSI_CLASS_FILE ? p->ops->fsync(p->arg, datasync) : -EINVAL;
}

static int ssi_proxy_release(struct inode *inode, struct file *file)
{
	struct ssi_proxy *p = file->private_data;
	struct module *owner = p->owner;

	p->ops->release(p->arg);
	kfree(p);
	module_put(owner);
	return 0;
}

static const struct file_operations ssi_proxy_fops = {
	.owner		= THIS_MODULE,
	.read_iter	= ssi_proxy_read,
	.write_iter	= ssi_proxy_write,
	.poll		= ssi_proxy_poll,
	.unlocked_ioctl	= ssi_proxy_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= ssi_proxy_llseek,
	.fsync		= ssi_proxy_fsync,
	.release	= ssi_proxy_release,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
};

static int ssi_proxy_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *k,
			     u32 request_mask, unsigned int query_flags)
{
	struct ssi_proxy *p = d_inode(path->dentry)->i_private;
	struct ssi_file_stat st;
	int ret = p->ops->stat(p->arg, &st);

	if (ret)
		return ret;
	generic_fillattr(&nop_mnt_idmap, request_mask, d_inode(path->dentry), k);
	k->mode = st.mode;
	k->nlink = st.nlink;
	k->uid = make_kuid(&init_user_ns, st.uid);
	k->gid = make_kgid(&init_user_ns, st.gid);
	k->rdev = MKDEV(st.rdev_major, st.rdev_minor);
	k->ino = st.ino;
	k->size = st.size;
	k->blocks = st.blocks;
	k->blksize = st.blksize;
	k->atime = (struct timespec64){ .tv_sec = st.atime_s, .tv_nsec = st.atime_ns };
	k->mtime = (struct timespec64){ .tv_sec = st.mtime_s, .tv_nsec = st.mtime_ns };
	k->ctime = (struct timespec64){ .tv_sec = st.ctime_s, .tv_nsec = st.ctime_ns };
	return 0;
}

static int ssi_proxy_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	return -EOPNOTSUPP;
}

static const struct inode_operations ssi_proxy_iops = {
	.getattr	= ssi_proxy_getattr,
	.setattr	= ssi_proxy_setattr,
};

static const char *ssi_class_name(u32 class)
{
	switch (class) {
	case SSI_CLASS_PIPE:
		return "[remote pipe]";
	case SSI_CLASS_TTY:
		return "[remote tty]";
	case SSI_CLASS_SOCKET:
		return "[remote socket]";
	default:
		return "[remote file]";
	}
}

/**
 * ssi_proxy_create() - a file that stands for one of another node
 * @init: what it is
 *
 * Return: the file, -ENODEV if the module that the operations belong to is going, -ENOMEM.
 */
struct file *ssi_proxy_create(const struct ssi_proxy_init *init)
{
	u32 flags = init->flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_LARGEFILE | O_DSYNC | __O_SYNC);
	struct ssi_proxy *p;
	struct file *file;

	p = kzalloc_obj(*p);
	if (!p)
		return ERR_PTR(-ENOMEM);
	p->ops = init->ops;
	p->arg = init->arg;
	p->owner = init->owner;
	p->handle = init->handle;
	p->home = init->home;
	p->class = init->class;
	if (!try_module_get(p->owner)) {
		kfree(p);
		return ERR_PTR(-ENODEV);
	}
	file = anon_inode_create_getfile(ssi_class_name(p->class), &ssi_proxy_fops, p, flags, NULL);
	if (IS_ERR(file)) {
		module_put(p->owner);
		kfree(p);
		return file;
	}
	file_inode(file)->i_private = p;
	file_inode(file)->i_op = &ssi_proxy_iops;
	file->f_flags = flags;
	if (p->class == SSI_CLASS_FILE) {
		file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
		file->f_pos = SSI_POS_HOME;
	} else {
		stream_open(file_inode(file), file);
	}
	file->f_iocb_flags = iocb_flags(file);
	return file;
}
EXPORT_SYMBOL_GPL(ssi_proxy_create);

/**
 * ssi_sigpipe() - what a write to a pipe without readers does to the writer
 */
void ssi_sigpipe(void)
{
	send_sig(SIGPIPE, current, 0);
}
EXPORT_SYMBOL_GPL(ssi_sigpipe);
