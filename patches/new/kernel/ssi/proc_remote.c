// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/<pid> of a process on another node.
 *
 * A dentry's path says which file it is, so inodes carry nothing. A file's text is fetched whole at the
 * first read, which makes it one consistent picture, as seq_file does locally. Top directories are
 * looked up anew at every walk: the process may have come here, or be gone.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>
#include "internal.h"

#define SSI_PROC_TEXT		(256 * 1024)
#define SSI_PROC_PATH		128

/* Files that every process has: known without asking. Owner: the directory's, unless 0444. */
static const struct {
	const char *name;
	umode_t mode;
} ssi_proc_known[] = {
	{ "stat", S_IFREG | 0444 }, { "statm", S_IFREG | 0444 }, { "status", S_IFREG | 0444 },
	{ "cmdline", S_IFREG | 0444 }, { "comm", S_IFREG | 0644 }, { "environ", S_IFREG | 0400 },
	{ "maps", S_IFREG | 0444 }, { "limits", S_IFREG | 0444 }, { "io", S_IFREG | 0400 },
	{ "wchan", S_IFREG | 0444 }, { "cgroup", S_IFREG | 0444 }, { "goto", S_IFREG | 0644 },
	{ "oom_score", S_IFREG | 0444 }, { "oom_score_adj", S_IFREG | 0644 },
	{ "exe", S_IFLNK | 0777 }, { "cwd", S_IFLNK | 0777 }, { "root", S_IFLNK | 0777 },
	{ "fd", S_IFDIR | 0500 }, { "task", S_IFDIR | 0555 },
};

static const struct inode_operations ssi_proc_dir_iops, ssi_proc_file_iops, ssi_proc_link_iops;
static const struct file_operations ssi_proc_dir_fops, ssi_proc_file_fops;

/* Splits "/<nr>/<path>". @buf is where the path is made. */
static int ssi_proc_where(struct dentry *dentry, char *buf, u32 *nr, const char **path)
{
	char *p = dentry_path_raw(dentry, buf, SSI_PROC_PATH);
	unsigned long n = 0;

	if (IS_ERR(p))
		return PTR_ERR(p);
	for (p++; *p >= '0' && *p <= '9' && n < PID_MAX_LIMIT; p++)
		n = n * 10 + *p - '0';
	if (*p && *p != '/')
		return -ENOENT;
	*nr = n;
	*path = *p ? p + 1 : p;
	return 0;
}

static int ssi_proc_revalidate(struct inode *dir, const struct qstr *name, struct dentry *dentry,
			       unsigned int flags)
{
	return flags & LOOKUP_RCU ? -ECHILD : 0;
}

static const struct dentry_operations ssi_proc_dentry_ops = {
	.d_revalidate	= ssi_proc_revalidate,
	.d_delete	= always_delete_dentry,
};

static const struct dentry_operations ssi_proc_child_dentry_ops = {
	.d_delete	= always_delete_dentry,
};

static struct dentry *ssi_proc_instantiate(struct dentry *dentry, const struct ssi_proc_stat *st,
					   const struct dentry_operations *d_ops)
{
	struct inode *inode = new_inode(dentry->d_sb);

	if (!inode)
		return ERR_PTR(-ENOMEM);
	inode->i_ino = get_next_ino();
	inode->i_mode = st->mode;
	inode->i_uid = make_kuid(&init_user_ns, st->uid);
	inode->i_gid = make_kgid(&init_user_ns, st->gid);
	simple_inode_init_ts(inode);
	set_nlink(inode, st->nlink ?: 1);
	inode->i_size = st->size;
	switch (st->mode & S_IFMT) {
	case S_IFDIR:
		inode->i_op = &ssi_proc_dir_iops;
		inode->i_fop = &ssi_proc_dir_fops;
		break;
	case S_IFLNK:
		inode->i_op = &ssi_proc_link_iops;
		break;
	default:
		inode->i_op = &ssi_proc_file_iops;
		inode->i_fop = &ssi_proc_file_fops;
		break;
	}
	return d_splice_alias_ops(inode, dentry, d_ops);
}

/* Context: sleeps, the inode of /proc is locked. */
struct dentry *__ssi_proc_lookup(struct dentry *dentry, unsigned int tgid, unsigned int flags)
{
	struct ssi_proc_stat st = {};
	int ret = ssi_vproc_call(-ENOENT, proc_stat, tgid, "", &st);

	if (ret)
		return ERR_PTR(-ENOENT);
	return ssi_proc_instantiate(dentry, &st, &ssi_proc_dentry_ops);
}

static struct dentry *ssi_proc_dir_lookup(struct inode *dir, struct dentry *dentry,
					  unsigned int flags)
{
	struct ssi_proc_stat st = {};
	char buf[SSI_PROC_PATH];
	const char *path;
	u32 nr;
	int ret;

	ret = ssi_proc_where(dentry, buf, &nr, &path);
	if (ret)
		return ERR_PTR(ret);
	for (size_t i = 0; i < ARRAY_SIZE(ssi_proc_known); i++) {
		if (strcmp(ssi_proc_known[i].name, path))
			continue;
		st.mode = ssi_proc_known[i].mode;
		st.uid = from_kuid(&init_user_ns, dir->i_uid);
		st.gid = from_kgid(&init_user_ns, dir->i_gid);
		return ssi_proc_instantiate(dentry, &st, &ssi_proc_child_dentry_ops);
	}
	ret = ssi_vproc_call(-ENOENT, proc_stat, nr, path, &st);
	if (ret)
		return ERR_PTR(ret);
	return ssi_proc_instantiate(dentry, &st, &ssi_proc_child_dentry_ops);
}

static int ssi_proc_iterate(struct file *file, struct dir_context *ctx)
{
	char buf[SSI_PROC_PATH];
	const char *path;
	long len, at = 0;
	loff_t pos = 2;
	char *names;
	u32 nr;
	int ret;

	if (!dir_emit_dots(file, ctx))
		return 0;
	ret = ssi_proc_where(file->f_path.dentry, buf, &nr, &path);
	if (ret)
		return ret;
	names = kvmalloc(SSI_PROC_TEXT, GFP_KERNEL);
	if (!names)
		return -ENOMEM;
	len = ssi_vproc_call((long)-ENOENT, proc_readdir, nr, path, names, (size_t)SSI_PROC_TEXT);
	while (at + 2 <= len) {
		unsigned int type = names[at], n = (u8)names[at + 1];

		if (at + 2 + n > len)
			break;
		if (pos >= ctx->pos) {
			ctx->pos = pos;
			if (!dir_emit(ctx, names + at + 2, n, pos + 1, type))
				break;
			ctx->pos++;
		}
		pos++;
		at += 2 + n;
	}
	kvfree(names);
	return len < 0 ? len : 0;
}

struct ssi_proc_text {
	size_t len;
	char data[];
};

static ssize_t ssi_proc_file_read(struct file *file, char __user *ubuf, size_t count, loff_t *ppos)
{
	struct ssi_proc_text *text = READ_ONCE(file->private_data), *old;
	char buf[SSI_PROC_PATH];
	const char *path;
	long len;
	u32 nr;
	int ret;

	/* From the start: a new picture, as a local file gives. */
	if (!text || *ppos == 0) {
		ret = ssi_proc_where(file->f_path.dentry, buf, &nr, &path);
		if (ret)
			return ret;
		text = kvmalloc(sizeof(*text) + SSI_PROC_TEXT, GFP_KERNEL);
		if (!text)
			return -ENOMEM;
		len = ssi_vproc_call((long)-ESRCH, proc_read, nr, path, text->data,
				     (size_t)SSI_PROC_TEXT);
		if (len < 0) {
			kvfree(text);
			return len;
		}
		text->len = len;
		inode_lock(file_inode(file));
		old = file->private_data;
		WRITE_ONCE(file->private_data, text);
		ret = simple_read_from_buffer(ubuf, count, ppos, text->data, text->len);
		inode_unlock(file_inode(file));
		kvfree(old);
		return ret;
	}
	inode_lock(file_inode(file));
	text = file->private_data;
	ret = simple_read_from_buffer(ubuf, count, ppos, text->data, text->len);
	inode_unlock(file_inode(file));
	return ret;
}

static ssize_t ssi_proc_file_write(struct file *file, const char __user *ubuf, size_t count,
				   loff_t *ppos)
{
	char buf[SSI_PROC_PATH];
	const char *path;
	void *data;
	long ret;
	u32 nr;

	if (count > PAGE_SIZE)
		return -EINVAL;
	ret = ssi_proc_where(file->f_path.dentry, buf, &nr, &path);
	if (ret)
		return ret;
	data = memdup_user(ubuf, count);
	if (IS_ERR(data))
		return PTR_ERR(data);
	ret = ssi_vproc_call((long)-ESRCH, proc_write, nr, path, data, count);
	kfree(data);
	return ret;
}

static int ssi_proc_file_release(struct inode *inode, struct file *file)
{
	kvfree(file->private_data);
	return 0;
}

static long ssi_proc_link_text(struct dentry *dentry, char **text)
{
	char buf[SSI_PROC_PATH];
	const char *path;
	long len;
	u32 nr;
	int ret;

	ret = ssi_proc_where(dentry, buf, &nr, &path);
	if (ret)
		return ret;
	*text = kmalloc(PATH_MAX, GFP_KERNEL);
	if (!*text)
		return -ENOMEM;
	len = ssi_vproc_call((long)-ENOENT, proc_readlink, nr, path, *text,
			     (size_t)PATH_MAX - 1);
	if (len < 0)
		kfree(*text);
	else
		(*text)[len] = 0;
	return len;
}

static int ssi_proc_readlink(struct dentry *dentry, char __user *ubuf, int size)
{
	char *text;
	long len = ssi_proc_link_text(dentry, &text);

	if (len < 0)
		return len;
	len = min_t(long, len, size);
	if (copy_to_user(ubuf, text, len))
		len = -EFAULT;
	kfree(text);
	return len;
}

/* The name is followed on this node: what both share is found, what is private is not. */
static const char *ssi_proc_get_link(struct dentry *dentry, struct inode *inode,
				     struct delayed_call *done)
{
	char *text;
	long len;

	if (!dentry)
		return ERR_PTR(-ECHILD);
	len = ssi_proc_link_text(dentry, &text);
	if (len < 0)
		return ERR_PTR(len);
	set_delayed_call(done, kfree_link, text);
	return text;
}

static const struct inode_operations ssi_proc_dir_iops = {
	.lookup		= ssi_proc_dir_lookup,
};

static const struct inode_operations ssi_proc_file_iops = {
	.setattr	= NULL,
};

static const struct inode_operations ssi_proc_link_iops = {
	.get_link	= ssi_proc_get_link,
	.readlink	= ssi_proc_readlink,
};

static const struct file_operations ssi_proc_dir_fops = {
	.read		= generic_read_dir,
	.iterate_shared	= ssi_proc_iterate,
	.llseek		= generic_file_llseek,
};

static const struct file_operations ssi_proc_file_fops = {
	.read		= ssi_proc_file_read,
	.write		= ssi_proc_file_write,
	.release	= ssi_proc_file_release,
	.llseek		= default_llseek,
};
