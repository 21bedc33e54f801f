/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Open files that cross nodes: what one is, how it is opened again, how it is served where it stays, and the file that
 * stands for it elsewhere. rust/files.rs and rust/files wrap this for crate rfile.
 */
#ifndef SSI_SHIM_RFILE_H
#define SSI_SHIM_RFILE_H

#include <linux/ssi_image.h>
#include <linux/types.h>

struct file;
struct iov_iter;
struct module;
struct poll_table_struct;
struct ssi_bell;
struct ssi_watch;

#define SSI_PATH_LEN	4096
#define SSI_WHAT_LEN	96

/* Attributes as fstat gives them. */
struct ssi_file_stat {
	u64 dev;
	u64 ino;
	u64 size;
	u64 blocks;
	s64 atime_s;
	s64 mtime_s;
	s64 ctime_s;
	u32 atime_ns;
	u32 mtime_ns;
	u32 ctime_ns;
	u32 mode;
	u32 rdev_major;
	u32 rdev_minor;
	u32 nlink;
	u32 uid;
	u32 gid;
	u32 blksize;
};

enum ssi_file_kind {
	SSI_FILE_PATH,		/* on a file system that the other node may have: path, id, pos */
	SSI_FILE_MEM,		/* /dev/null and its like: minor */
	SSI_FILE_STAYS,		/* must be served from here: class, stat */
	SSI_FILE_PROXY,		/* served from another node already: home, handle, class, stat */
};

/* What a file that stays is. */
enum ssi_file_class {
	SSI_CLASS_PIPE = 1,
	SSI_CLASS_TTY,
	SSI_CLASS_SOCKET,
	SSI_CLASS_FILE,		/* regular, its offset shared with another process */
};

struct ssi_file_info {
	u32 kind;
	u32 class;
	u32 flags;		/* f_flags */
	u32 minor;
	u32 home;
	u32 reserved;
	u64 handle;
	s64 pos;
	struct ssi_file_id id;
	struct ssi_file_stat stat;
	char what[SSI_WHAT_LEN];	/* names the file, for a refusal */
	char path[SSI_PATH_LEN];
};

/* Within the shim. */
bool ssi_is_proxy(const struct file *file);
int ssi_proxy_describe(struct file *file, struct ssi_file_info *fi);

/* The moving process. */
int ssi_files_check(char *what);
int ssi_fd_next(u32 from, u32 *fd, bool *cloexec, struct file **file);
void ssi_file_put(struct file *file);
void ssi_file_get(struct file *file);
int ssi_file_describe(struct file *file, struct ssi_file_info *fi);
int ssi_cwd_describe(struct ssi_file_info *fi, u32 *umask);
u32 ssi_session(void);

/* The arriving process. */
struct file *ssi_file_reopen(const char *path, u32 flags, s64 pos, const struct ssi_file_id *id);
struct file *ssi_mem_open(u32 minor, u32 flags);
int ssi_cwd_set(const char *path, const struct ssi_file_id *id, u32 umask);

/* The node where the file is. @pos < 0: the file's own offset. Context: kernel thread. */
ssize_t ssi_home_read(struct file *file, u32 class, s64 pos, void *buf, size_t len);
ssize_t ssi_home_write(struct file *file, u32 class, s64 pos, const void *buf, size_t len);
long ssi_home_ioctl(struct file *file, u32 cmd, u64 arg, u32 session, void *buf, u32 in_len,
		    u32 out_len);
s64 ssi_home_llseek(struct file *file, s64 offset, u32 whence);
int ssi_home_fsync(struct file *file, bool data_only);
int ssi_home_stat(struct file *file, struct ssi_file_stat *st);

struct ssi_watch *ssi_watch_create(struct file *file, void (*event)(void *arg), void *arg);
u32 ssi_watch_arm(struct ssi_watch *w);
void ssi_watch_destroy(struct ssi_watch *w);

/* Where those wait who use a proxy. A wait is for the next ring after a number that was read before. */
struct ssi_bell *ssi_bell_create(void);
void ssi_bell_destroy(struct ssi_bell *b);
u64 ssi_bell_number(struct ssi_bell *b);
void ssi_bell_ring(struct ssi_bell *b);
int ssi_bell_wait(struct ssi_bell *b, u64 number, u32 timeout_ms);
void ssi_bell_poll(struct ssi_bell *b, struct file *file, struct poll_table_struct *pt);

/*
 * A file that stands for one of another node.
 *
 * @read, @write: @pos < 0 is the file's own offset.
 * @poll: the ready mask, after a call of ssi_bell_poll().
 * @release: last use of @arg.
 */
struct ssi_proxy_ops {
	ssize_t (*read)(void *arg, bool nonblock, s64 pos, struct iov_iter *to);
	ssize_t (*write)(void *arg, bool nonblock, s64 pos, struct iov_iter *from);
	u32 (*poll)(void *arg, struct file *file, struct poll_table_struct *pt);
	long (*ioctl)(void *arg, u32 cmd, unsigned long uarg);
	s64 (*llseek)(void *arg, s64 offset, u32 whence);
	int (*fsync)(void *arg, bool data_only);
	int (*stat)(void *arg, struct ssi_file_stat *st);
	void (*release)(void *arg);
};

struct ssi_proxy_init {
	const struct ssi_proxy_ops *ops;
	void *arg;		/* for @ops; the file's once it exists */
	struct module *owner;	/* of @ops */
	u64 handle;		/* names the file on its node */
	u32 home;		/* its node */
	u32 class;
	u32 flags;		/* its f_flags */
};

struct file *ssi_proxy_create(const struct ssi_proxy_init *init);
void ssi_sigpipe(void);

#endif /* SSI_SHIM_RFILE_H */
