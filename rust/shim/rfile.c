// SPDX-License-Identifier: GPL-2.0
/*
 * Open files that cross nodes: what a file of the moving process is, and opening it again in the arriving one.
 * rfile_home.c serves files that stay, rfile_proxy.c stands for them.
 */
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/major.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/net.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <net/sock.h>
#include "shim.h"

/* The flags of an open file that go with it; never one that creates or truncates. */
#define SSI_KEEP_FLAGS	(O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | __O_SYNC | O_DIRECT | O_LARGEFILE | \
			 O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_PATH)

#define SSI_MEM_MINORS	(BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9))

static void ssi_stat_from(const struct kstat *k, struct ssi_file_stat *st)
{
	st->dev = new_encode_dev(k->dev);
	st->ino = k->ino;
	st->size = k->size;
	st->blocks = k->blocks;
	st->atime_s = k->atime.tv_sec;
	st->atime_ns = k->atime.tv_nsec;
	st->mtime_s = k->mtime.tv_sec;
	st->mtime_ns = k->mtime.tv_nsec;
	st->ctime_s = k->ctime.tv_sec;
	st->ctime_ns = k->ctime.tv_nsec;
	st->mode = k->mode;
	st->rdev_major = MAJOR(k->rdev);
	st->rdev_minor = MINOR(k->rdev);
	st->nlink = k->nlink;
	st->uid = from_kuid(&init_user_ns, k->uid);
	st->gid = from_kgid(&init_user_ns, k->gid);
	st->blksize = k->blksize;
}

/**
 * ssi_home_stat() - attributes of an open file of this node
 */
int ssi_home_stat(struct file *file, struct ssi_file_stat *st)
{
	struct kstat k;
	int ret = vfs_getattr(&file->f_path, &k, STATX_BASIC_STATS, 0);

	if (!ret)
		ssi_stat_from(&k, st);
	return ret;
}
EXPORT_SYMBOL_GPL(ssi_home_stat);

/**
 * ssi_session() - the current process's session, as the initial namespace numbers it
 */
u32 ssi_session(void)
{
	u32 nr;

	rcu_read_lock();
	nr = pid_nr(task_session(current));
	rcu_read_unlock();
	return nr;
}
EXPORT_SYMBOL_GPL(ssi_session);

/**
 * ssi_files_check() - can the current process's descriptors and directories move at all?
 * @what: gets the name of what cannot
 *
 * Return: 0, -EBUSY if they are shared with another process, -EXDEV if its root is not init's.
 */
int ssi_files_check(char *what)
{
	int ret;

	if (atomic_read(&current->files->count) != 1) {
		strscpy(what, "descriptor table shared with another process", SSI_WHAT_LEN);
		return -EBUSY;
	}
	ret = pproc_check_root();
	if (ret == -EBUSY)
		strscpy(what, "working directory shared with another process", SSI_WHAT_LEN);
	else if (ret)
		strscpy(what, "root directory differs from init's", SSI_WHAT_LEN);
	return ret;
}
EXPORT_SYMBOL_GPL(ssi_files_check);

struct ssi_fd_iter {
	u32 fd;
	bool cloexec;
	struct file *file;
};

static int ssi_fd_found(const void *arg, struct file *file, unsigned int fd)
{
	struct ssi_fd_iter *it = (struct ssi_fd_iter *)arg;

	it->fd = fd;
	it->cloexec = close_on_exec(fd, current->files);
	it->file = get_file(file);
	return 1;
}

/**
 * ssi_fd_next() - the current process's first descriptor from @from on
 *
 * Return: 1 with a reference in @file, 0 if there is none.
 */
int ssi_fd_next(u32 from, u32 *fd, bool *cloexec, struct file **file)
{
	struct ssi_fd_iter it = {};

	if (!iterate_fd(current->files, from, ssi_fd_found, &it))
		return 0;
	*fd = it.fd;
	*cloexec = it.cloexec;
	*file = it.file;
	return 1;
}
EXPORT_SYMBOL_GPL(ssi_fd_next);

void ssi_file_put(struct file *file)
{
	fput(file);
}
EXPORT_SYMBOL_GPL(ssi_file_put);

void ssi_file_get(struct file *file)
{
	get_file(file);
}
EXPORT_SYMBOL_GPL(ssi_file_get);

struct ssi_fd_count {
	const struct file *file;
	unsigned int n;
};

static int ssi_fd_counted(const void *arg, struct file *file, unsigned int fd)
{
	struct ssi_fd_count *c = (struct ssi_fd_count *)arg;

	if (file == c->file)
		c->n++;
	return 0;
}

/* Has anybody but the current process, which has @extra counts more, this open file? */
static bool ssi_file_shared(struct file *file, unsigned int extra)
{
	struct ssi_fd_count c = { .file = file, .n = extra };
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;

	if (file_count(file) <= 1 + extra)
		return false;
	iterate_fd(current->files, 0, ssi_fd_counted, &c);
	if (mm) {
		VMA_ITERATOR(vmi, mm, 0);

		mmap_read_lock(mm);
		for_each_vma(vmi, vma)
			c.n += vma->vm_file == file;
		mmap_read_unlock(mm);
		c.n += rcu_access_pointer(mm->exe_file) == file;
	}
	return file_count(file) > c.n;
}

static bool ssi_owns_lock(struct list_head *head, struct file *file)
{
	struct file_lock_core *c;

	list_for_each_entry(c, head, flc_list)
		if (c->flc_owner == current->files || c->flc_file == file)
			return true;
	return false;
}

static int ssi_path_of(const struct path *path, struct ssi_file_info *fi)
{
	char *p = d_path(path, fi->path, SSI_PATH_LEN);

	if (IS_ERR(p)) {
		fi->path[0] = 0;
		return PTR_ERR(p);
	}
	memmove(fi->path, p, strlen(p) + 1);
	return 0;
}

/* What hangs on an open file and does not move yet. */
static int ssi_file_burden(struct file *file, struct ssi_file_info *fi)
{
	struct file_lock_context *ctx = locks_inode_context(file_inode(file));
	struct fown_struct *own = file_f_owner(file);
	const char *name = NULL;

	if (ctx) {
		spin_lock(&ctx->flc_lock);
		if (ssi_owns_lock(&ctx->flc_posix, file))
			name = "record lock";
		else if (ssi_owns_lock(&ctx->flc_flock, file))
			name = "flock";
		else if (ssi_owns_lock(&ctx->flc_lease, file))
			name = "lease";
		spin_unlock(&ctx->flc_lock);
	}
	if (!name && ((file->f_flags & FASYNC) || (own && own->pid)))
		name = "F_SETOWN";
	if (!name)
		return 0;
	snprintf(fi->what, SSI_WHAT_LEN, "%s on %.64s", name, fi->path);
	return -EOPNOTSUPP;
}

/* An anonymous inode's name without its brackets. */
static void ssi_anon_name(const struct file *file, char *what)
{
	char name[32];
	size_t len;

	snprintf(name, sizeof(name), "%pD1", file);
	len = strlen(name);
	if (len > 2 && name[0] == '[' && name[len - 1] == ']') {
		name[len - 1] = 0;
		strscpy(what, name + 1, SSI_WHAT_LEN);
	} else {
		strscpy(what, name, SSI_WHAT_LEN);
	}
}

/* Regular file or directory. */
static int ssi_describe_path(struct file *file, struct ssi_file_info *fi)
{
	struct inode *inode = file_inode(file);
	int ret;

	if (d_unlinked(file->f_path.dentry))
		return -ESTALE;
	if (file->f_mode & FMODE_WRITE) {
		ret = filemap_write_and_wait_range(file->f_mapping, 0, LLONG_MAX);
		if (ret)
			return ret;
	}
	ret = pproc_path_id(&file->f_path, &fi->id);
	if (ret == -ESTALE)
		snprintf(fi->what, SSI_WHAT_LEN, "%.64s: node-local file", fi->path);
	if (ret)
		return ret;
	fi->kind = SSI_FILE_PATH;
	fi->pos = file->f_pos;
	if ((file->f_flags & O_PATH) || !ssi_file_shared(file, 1))
		return 0;
	if (S_ISDIR(inode->i_mode)) {
		if (!fi->pos)
			return 0;
		snprintf(fi->what, SSI_WHAT_LEN, "%.64s: offset shared", fi->path);
		return -EBUSY;
	}
	/* Nobody cares for the offset of a file that is only appended to, but one name has one writer order. */
	fi->kind = SSI_FILE_STAYS;
	fi->class = SSI_CLASS_FILE;
	return ssi_home_stat(file, &fi->stat);
}

static int ssi_describe_stream(struct file *file, struct ssi_file_info *fi, u32 class)
{
	fi->kind = SSI_FILE_STAYS;
	fi->class = class;
	return ssi_home_stat(file, &fi->stat);
}

/**
 * ssi_file_describe() - find out how an open file of the current process can reach another node
 * @file: the file; the caller has one reference beside the descriptor table's
 * @fi: gets what it is; on failure only @what counts
 *
 * Return: 0, -ESTALE if only this node has it, -EOPNOTSUPP if its kind does not move, -EBUSY if it is shared.
 */
int ssi_file_describe(struct file *file, struct ssi_file_info *fi)
{
	struct inode *inode = file_inode(file);
	struct socket *sock;
	int ret;

	memset(fi, 0, offsetof(struct ssi_file_info, path));
	fi->path[0] = 0;
	fi->flags = file->f_flags & SSI_KEEP_FLAGS;
	ret = ssi_path_of(&file->f_path, fi);
	if (ret)
		return ret;
	ret = ssi_file_burden(file, fi);
	if (ret)
		return ret;
	if (ssi_is_proxy(file)) {
		strscpy(fi->what, "file of another node", SSI_WHAT_LEN);
		return ssi_proxy_describe(file, fi);
	}
	snprintf(fi->what, SSI_WHAT_LEN, "%s", fi->path);
	switch (inode->i_sb->s_magic) {
	case ANON_INODE_FS_MAGIC:
		ssi_anon_name(file, fi->what);
		return -EOPNOTSUPP;
	case PID_FS_MAGIC:
		strscpy(fi->what, "pidfd", SSI_WHAT_LEN);
		return -EOPNOTSUPP;
	case NSFS_MAGIC:
		strscpy(fi->what, "namespace", SSI_WHAT_LEN);
		return -EOPNOTSUPP;
	case TMPFS_MAGIC:
		if (!strncmp(fi->path, "/memfd:", 7)) {
			strscpy(fi->what, "memfd", SSI_WHAT_LEN);
			return -EOPNOTSUPP;
		}
		break;
	}
	if (file->f_flags & O_PATH) {
		if (S_ISREG(inode->i_mode) || S_ISDIR(inode->i_mode))
			return ssi_describe_path(file, fi);
		return -EOPNOTSUPP;
	}
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
		return ssi_describe_path(file, fi);
	case S_IFIFO:
		return ssi_describe_stream(file, fi, SSI_CLASS_PIPE);
	case S_IFSOCK:
		sock = sock_from_file(file);
		if (sock && sock->sk && (sock->sk->sk_family == AF_UNIX || sock->sk->sk_family == AF_INET ||
					 sock->sk->sk_family == AF_INET6))
			return ssi_describe_stream(file, fi, SSI_CLASS_SOCKET);
		snprintf(fi->what, SSI_WHAT_LEN, "socket of family %d",
			 sock && sock->sk ? sock->sk->sk_family : 0);
		return -EOPNOTSUPP;
	case S_IFCHR:
		if (imajor(inode) == MEM_MAJOR && iminor(inode) < 32 &&
		    (BIT(iminor(inode)) & SSI_MEM_MINORS)) {
			fi->kind = SSI_FILE_MEM;
			fi->minor = iminor(inode);
			return 0;
		}
		if (pproc_is_tty(file))
			return ssi_describe_stream(file, fi, SSI_CLASS_TTY);
		snprintf(fi->what, SSI_WHAT_LEN, "%.48s: character device %u:%u", fi->path, imajor(inode),
			 iminor(inode));
		return -EOPNOTSUPP;
	case S_IFBLK:
		snprintf(fi->what, SSI_WHAT_LEN, "%.48s: block device %u:%u", fi->path, imajor(inode),
			 iminor(inode));
		return -EOPNOTSUPP;
	default:
		return -EOPNOTSUPP;
	}
}
EXPORT_SYMBOL_GPL(ssi_file_describe);

/**
 * ssi_cwd_describe() - the current process's working directory and mask, as ssi_file_describe()
 */
int ssi_cwd_describe(struct ssi_file_info *fi, u32 *umask)
{
	struct path pwd;
	int ret;

	memset(fi, 0, offsetof(struct ssi_file_info, path));
	*umask = current_umask();
	get_fs_pwd(current->fs, &pwd);
	ret = ssi_path_of(&pwd, fi);
	snprintf(fi->what, SSI_WHAT_LEN, "%s", fi->path);
	if (!ret)
		ret = d_unlinked(pwd.dentry) ? -ESTALE : pproc_path_id(&pwd, &fi->id);
	if (ret == -ESTALE)
		snprintf(fi->what, SSI_WHAT_LEN, "%.64s: node-local directory", fi->path);
	path_put(&pwd);
	fi->kind = SSI_FILE_PATH;
	return ret;
}
EXPORT_SYMBOL_GPL(ssi_cwd_describe);

/* Looks @path up and makes sure that it is the file @want. */
static int ssi_find(const char *path, const struct ssi_file_id *want, struct path *found)
{
	struct ssi_file_id id;
	int ret;

	if (path[0] != '/')
		return -EINVAL;
	ret = kern_path(path, want->type == S_IFDIR ? LOOKUP_DIRECTORY : 0, found);
	if (ret == -ENOENT || ret == -ENOTDIR)
		return -ESTALE;
	if (ret)
		return ret;
	ret = pproc_path_id(found, &id);
	if (!ret && ((id.type != S_IFREG && id.type != S_IFDIR) || !pproc_file_same(&id, want)))
		ret = -ESTALE;
	if (ret)
		path_put(found);
	return ret;
}

/**
 * ssi_file_reopen() - open here the file that another node had open
 * @path: its absolute name
 * @flags: its f_flags
 * @pos: its offset
 * @want: what it must be
 *
 * Nothing is opened before it is known to be that file, and then that very object is.
 *
 * Return: the file, or -ESTALE if another file, or none, has that name here.
 */
struct file *ssi_file_reopen(const char *path, u32 flags, s64 pos, const struct ssi_file_id *want)
{
	struct file *file;
	struct path p;
	int ret = ssi_find(path, want, &p);

	if (ret)
		return ERR_PTR(ret);
	file = dentry_open(&p, flags & SSI_KEEP_FLAGS, current_cred());
	path_put(&p);
	if (IS_ERR(file) || pos <= 0 || !(file->f_mode & FMODE_LSEEK))
		return file;
	if (want->type == S_IFDIR) {
		pos = vfs_llseek(file, pos, SEEK_SET);
		if (pos < 0) {
			fput(file);
			return ERR_PTR(pos);
		}
	} else {
		file->f_pos = pos;
	}
	return file;
}
EXPORT_SYMBOL_GPL(ssi_file_reopen);

static const char *ssi_mem_path(u32 minor)
{
	switch (minor) {
	case 3:
		return "/dev/null";
	case 5:
		return "/dev/zero";
	case 7:
		return "/dev/full";
	case 8:
		return "/dev/random";
	case 9:
		return "/dev/urandom";
	default:
		return NULL;
	}
}

/**
 * ssi_mem_open() - open /dev/null or one of its like
 *
 * Return: the file, or -ESTALE if that name is something else here.
 */
struct file *ssi_mem_open(u32 minor, u32 flags)
{
	const char *name = ssi_mem_path(minor);
	struct inode *inode;
	struct file *file;
	struct path p;
	int ret;

	if (!name)
		return ERR_PTR(-EINVAL);
	ret = kern_path(name, LOOKUP_FOLLOW, &p);
	if (ret)
		return ERR_PTR(ret == -ENOENT ? -ESTALE : ret);
	inode = d_backing_inode(p.dentry);
	if (S_ISCHR(inode->i_mode) && inode->i_rdev == MKDEV(MEM_MAJOR, minor))
		file = dentry_open(&p, flags & SSI_KEEP_FLAGS & ~O_PATH, current_cred());
	else
		file = ERR_PTR(-ESTALE);
	path_put(&p);
	return file;
}
EXPORT_SYMBOL_GPL(ssi_mem_open);

/**
 * ssi_cwd_set() - make the directory @path, which must be @want, the working directory
 */
int ssi_cwd_set(const char *path, const struct ssi_file_id *want, u32 umask)
{
	struct path p;
	int ret;

	if (want->type != S_IFDIR)
		return -EINVAL;
	ret = ssi_find(path, want, &p);
	if (ret)
		return ret;
	pproc_set_cwd(&p, umask);
	path_put(&p);
	return 0;
}
EXPORT_SYMBOL_GPL(ssi_cwd_set);
