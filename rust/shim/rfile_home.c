// SPDX-License-Identifier: GPL-2.0
/*
 * Open files of this node, served to processes on other nodes. Runs in kernel threads.
 */
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include "shim.h"

/*
 * A stream is read and written without ever waiting: the node that asks waits, on an event.
 *
 * Terminals take the wish not to wait from the open file's flags alone, which others share. So they get a copy of the
 * file, which lives as long as the call; they use nothing of it but the flags, the operations and the private data.
 */
static ssize_t ssi_stream_io(struct file *file, u32 class, struct iov_iter *iter, bool write)
{
	struct kiocb kiocb;
	struct file view;

	if (class == SSI_CLASS_TTY) {
		memcpy(&view, file, sizeof(view));
		view.f_flags |= O_NONBLOCK;
		init_sync_kiocb(&kiocb, &view);
	} else {
		init_sync_kiocb(&kiocb, file);
		kiocb.ki_flags |= IOCB_NOWAIT | IOCB_NOSIGNAL;
	}
	return write ? file->f_op->write_iter(&kiocb, iter) : file->f_op->read_iter(&kiocb, iter);
}

/* A regular file whose offset processes on several nodes share. */
static ssize_t ssi_offset_io(struct file *file, s64 pos, struct iov_iter *iter, bool write)
{
	bool own = pos < 0;
	struct kiocb kiocb;
	ssize_t ret;

	if (own) {
		mutex_lock(&file->f_pos_lock);
		pos = file->f_pos;
	}
	init_sync_kiocb(&kiocb, file);
	kiocb.ki_pos = pos;
	if (write) {
		file_start_write(file);
		ret = vfs_iocb_iter_write(file, &kiocb, iter);
		file_end_write(file);
	} else {
		ret = vfs_iocb_iter_read(file, &kiocb, iter);
	}
	if (own) {
		if (ret > 0)
			file->f_pos = kiocb.ki_pos;
		mutex_unlock(&file->f_pos_lock);
	}
	return ret;
}

static ssize_t ssi_home_io(struct file *file, u32 class, s64 pos, struct iov_iter *iter, bool write)
{
	if (!(file->f_mode & (write ? FMODE_WRITE : FMODE_READ)))
		return -EBADF;
	if (!(file->f_mode & (write ? FMODE_CAN_WRITE : FMODE_CAN_READ)))
		return -EINVAL;
	if (class == SSI_CLASS_FILE)
		return ssi_offset_io(file, pos, iter, write);
	if (!(write ? (void *)file->f_op->write_iter : (void *)file->f_op->read_iter))
		return -EINVAL;
	return ssi_stream_io(file, class, iter, write);
}

/**
 * ssi_home_read() - read an open file of this node for another one
 *
 * Return: bytes, 0 at the end, -EAGAIN if a stream has nothing now.
 */
ssize_t ssi_home_read(struct file *file, u32 class, s64 pos, void *buf, size_t len)
{
	struct kvec kv = { .iov_base = buf, .iov_len = len };
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_DEST, &kv, 1, len);
	return ssi_home_io(file, class, pos, &iter, false);
}
EXPORT_SYMBOL_GPL(ssi_home_read);

/**
 * ssi_home_write() - write an open file of this node for another one; never sends SIGPIPE
 *
 * Return: bytes, -EAGAIN if a stream has no room now, -EPIPE.
 */
ssize_t ssi_home_write(struct file *file, u32 class, s64 pos, const void *buf, size_t len)
{
	struct kvec kv = { .iov_base = (void *)buf, .iov_len = len };
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_SOURCE, &kv, 1, len);
	return ssi_home_io(file, class, pos, &iter, true);
}
EXPORT_SYMBOL_GPL(ssi_home_write);

s64 ssi_home_llseek(struct file *file, s64 offset, u32 whence)
{
	s64 ret;

	if (whence > SEEK_MAX)
		return -EINVAL;
	if (!(file->f_mode & FMODE_ATOMIC_POS))
		return vfs_llseek(file, offset, whence);
	mutex_lock(&file->f_pos_lock);
	ret = vfs_llseek(file, offset, whence);
	mutex_unlock(&file->f_pos_lock);
	return ret;
}
EXPORT_SYMBOL_GPL(ssi_home_llseek);

int ssi_home_fsync(struct file *file, bool data_only)
{
	return vfs_fsync(file, data_only);
}
EXPORT_SYMBOL_GPL(ssi_home_fsync);

/* The terminal of @file, or with @real that of the slave if @file is a pty master. */
static struct tty_struct *ssi_tty(struct file *file, bool real)
{
	struct tty_struct *tty = ((struct tty_file_private *)file->private_data)->tty;

	if (real && tty->driver->type == TTY_DRIVER_TYPE_PTY && tty->driver->subtype == PTY_TYPE_MASTER)
		return tty->link;
	return tty;
}

/*
 * Job control, which the native calls would judge by the current task, a kernel thread here. The caller counts as a
 * process with this terminal if the terminal's session is its own.
 */
static long ssi_tty_jobs(struct file *file, u32 cmd, u32 session, void *buf)
{
	struct tty_struct *tty = ssi_tty(file, true);
	struct pid *pgrp = NULL, *old = NULL;
	long ret = 0;
	s32 nr;

	if (tty_hung_up_p(file) || !tty)
		return -EIO;
	if (cmd == TIOCSPGRP) {
		memcpy(&nr, buf, sizeof(nr));
		if (nr < 0)
			return -EINVAL;
		pgrp = find_get_pid(nr);
		if (!pgrp)
			return -ESRCH;
	}
	spin_lock_irq(&tty->ctrl.lock);
	if (ssi_tty(file, false) == tty || cmd == TIOCSPGRP) {
		if (!tty->ctrl.session || pid_nr(tty->ctrl.session) != session)
			ret = -ENOTTY;
	}
	if (!ret) {
		if (cmd == TIOCSPGRP) {
			old = tty->ctrl.pgrp;
			tty->ctrl.pgrp = pgrp;
			pgrp = NULL;
		} else if (cmd == TIOCGPGRP) {
			nr = pid_nr(tty->ctrl.pgrp);
			memcpy(buf, &nr, sizeof(nr));
		} else if (tty->ctrl.session) {
			nr = pid_nr(tty->ctrl.session);
			memcpy(buf, &nr, sizeof(nr));
		} else {
			ret = -ENOTTY;
		}
	}
	spin_unlock_irq(&tty->ctrl.lock);
	put_pid(old);
	put_pid(pgrp);
	return ret;
}

/**
 * ssi_home_ioctl() - an ioctl of another node on an open file of this one
 * @file: the file
 * @cmd: the command, one whose argument is known to be a number or a flat structure
 * @arg: the argument, if it is a number: @in_len and @out_len are 0
 * @session: the caller's session
 * @buf: the structure, of at least 4 bytes
 * @in_len: bytes that the command reads
 * @out_len: bytes that it writes
 */
long ssi_home_ioctl(struct file *file, u32 cmd, u64 arg, u32 session, void *buf, u32 in_len,
		    u32 out_len)
{
	long ret;

	if (!file->f_op->unlocked_ioctl)
		return -ENOTTY;
	if (cmd == TIOCGPGRP || cmd == TIOCSPGRP || cmd == TIOCGSID)
		return pproc_is_tty(file) ? ssi_tty_jobs(file, cmd, session, buf) : -ENOTTY;
	if (in_len || out_len)
		return pproc_file_ioctl(file, cmd, buf, in_len, out_len);
	ret = file->f_op->unlocked_ioctl(file, cmd, arg);
	return ret == -ENOIOCTLCMD ? -ENOTTY : ret;
}
EXPORT_SYMBOL_GPL(ssi_home_ioctl);

#define SSI_WATCH_QUEUES	4

struct ssi_watch_entry {
	struct ssi_watch *watch;
	wait_queue_head_t *head;
	wait_queue_entry_t wait;
};

/* Tells once, when armed, that a file may have become ready. */
struct ssi_watch {
	struct file *file;
	void (*event)(void *arg);
	void *arg;
	struct work_struct work;
	struct mutex lock;		/* registration */
	bool registered;
	atomic_t armed;
	poll_table pt;
	unsigned int n;
	struct ssi_watch_entry q[SSI_WATCH_QUEUES];
};

static void ssi_watch_work(struct work_struct *work)
{
	struct ssi_watch *w = container_of(work, struct ssi_watch, work);

	w->event(w->arg);
}

/* Any context, the queue's lock held. */
static int ssi_watch_wake(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct ssi_watch *w = container_of(wait, struct ssi_watch_entry, wait)->watch;

	if (atomic_xchg(&w->armed, 0))
		queue_work(system_dfl_wq, &w->work);
	return 0;
}

static void ssi_watch_queue(struct file *file, wait_queue_head_t *head, poll_table *pt)
{
	struct ssi_watch *w = container_of(pt, struct ssi_watch, pt);
	struct ssi_watch_entry *e;

	if (WARN_ON_ONCE(w->n == SSI_WATCH_QUEUES))
		return;
	e = &w->q[w->n++];
	e->watch = w;
	e->head = head;
	init_waitqueue_func_entry(&e->wait, ssi_watch_wake);
	add_wait_queue(head, &e->wait);
}

/**
 * ssi_watch_create() - prepare to watch a file; takes a reference
 * @file: a pipe, terminal or socket: its queues must live as long as it is open
 * @event: called by a work item
 * @arg: its argument
 */
struct ssi_watch *ssi_watch_create(struct file *file, void (*event)(void *arg), void *arg)
{
	struct ssi_watch *w = kzalloc_obj(*w);

	if (!w)
		return NULL;
	w->file = get_file(file);
	w->event = event;
	w->arg = arg;
	INIT_WORK(&w->work, ssi_watch_work);
	mutex_init(&w->lock);
	return w;
}
EXPORT_SYMBOL_GPL(ssi_watch_create);

/**
 * ssi_watch_arm() - ask for one event
 *
 * Return: what the file is ready for now, of which there need not be an event.
 */
u32 ssi_watch_arm(struct ssi_watch *w)
{
	u32 mask;

	mutex_lock(&w->lock);
	atomic_set(&w->armed, 1);
	smp_mb(); /* armed before the file is asked, as a waker makes it ready before it looks at @armed */
	if (w->registered) {
		mask = vfs_poll(w->file, NULL);
	} else {
		w->registered = true;
		init_poll_funcptr(&w->pt, ssi_watch_queue);
		mask = vfs_poll(w->file, &w->pt);
	}
	mutex_unlock(&w->lock);
	return mask;
}
EXPORT_SYMBOL_GPL(ssi_watch_arm);

/**
 * ssi_watch_destroy() - end the watch; no event is under way afterwards
 */
void ssi_watch_destroy(struct ssi_watch *w)
{
	unsigned int i;

	for (i = 0; i < w->n; i++)
		remove_wait_queue(w->q[i].head, &w->q[i].wait);
	cancel_work_sync(&w->work);
	fput(w->file);
	kfree(w);
}
EXPORT_SYMBOL_GPL(ssi_watch_destroy);
