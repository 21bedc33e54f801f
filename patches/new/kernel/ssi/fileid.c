// SPDX-License-Identifier: GPL-2.0
/*
 * Which file is this? The same answer on every node for the same file, never the same for two.
 *
 * Two kinds of filesystem are common to nodes: a read-only one on a read-only disk, known by its bytes, and 9p, known
 * by what is mounted. Every other one is this node's own.
 */
#include <linux/blkdev.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/siphash.h>
#include <linux/spinlock.h>
#include <linux/ssi_image.h>
#include <linux/stat.h>
#include "../../fs/mount.h"
#include "internal.h"

/* A whole object is hashed up to this size; of a larger one pages spread over it are. */
#define SSI_HASH_WHOLE		(1 << 20)
#define SSI_HASH_SAMPLES	64

static const siphash_key_t ssi_key = { { 0x6f70656e73736921ULL, 0x66696c656e616d65ULL } };

/* Hashes of objects that cannot change: a disk (@ino 0) or a file of it. */
#define SSI_HASHES		256
static struct ssi_hash {
	u64 diskseq;
	u64 part;
	u64 ino;
	u64 hash;
} ssi_hashes[SSI_HASHES];
static DEFINE_SPINLOCK(ssi_hash_lock);

static bool ssi_fs_readonly(const struct super_block *sb)
{
	return sb->s_bdev && sb_rdonly(sb) && bdev_read_only(sb->s_bdev);
}

/**
 * pproc_file_common() - do all nodes that mount the file's filesystem see the same file?
 * @file: an open file
 *
 * Return: true for files and directories of a read-only filesystem on a read-only disk, and of 9p.
 */
bool pproc_file_common(struct file *file)
{
	struct inode *inode = file_inode(file);

	if (!S_ISREG(inode->i_mode) && !S_ISDIR(inode->i_mode) && !S_ISLNK(inode->i_mode))
		return false;
	return inode->i_sb->s_magic == V9FS_MAGIC || ssi_fs_readonly(inode->i_sb);
}
EXPORT_SYMBOL_SSI(pproc_file_common);

/* Adds the page at @index to @hash. */
static int ssi_hash_page(struct address_space *mapping, struct file *file, pgoff_t index, u64 *hash)
{
	struct folio *folio = read_mapping_folio(mapping, index, file);
	struct {
		u64 before;
		u64 index;
		u64 page;
	} link = { *hash, index };
	void *p;

	if (IS_ERR(folio))
		return PTR_ERR(folio);
	p = kmap_local_folio(folio, offset_in_folio(folio, (loff_t)index << PAGE_SHIFT));
	link.page = siphash(p, PAGE_SIZE, &ssi_key);
	kunmap_local(p);
	folio_put(folio);
	*hash = siphash(&link, sizeof(link), &ssi_key);
	return 0;
}

static int ssi_hash_object(struct address_space *mapping, struct file *file, u64 size, u64 *hash)
{
	pgoff_t n = DIV_ROUND_UP_ULL(size, PAGE_SIZE);
	pgoff_t take = size <= SSI_HASH_WHOLE ? n : SSI_HASH_SAMPLES;
	int ret = 0;

	*hash = siphash_1u64(size, &ssi_key);
	/* The first and the last page are always among them. */
	for (pgoff_t i = 0; i < take && !ret; i++)
		ret = ssi_hash_page(mapping, file, take > 1 ? i * (n - 1) / (take - 1) : 0, hash);
	return ret;
}

/* Hash of a disk, or of a file on it, neither of which can change. */
static int ssi_hash_constant(struct super_block *sb, struct file *file, u64 ino, u64 *hash)
{
	struct block_device *bdev = sb->s_bdev;
	struct ssi_hash key = { bdev->bd_disk->diskseq, bdev_partno(bdev), ino };
	struct ssi_hash *h;
	int ret;

	h = &ssi_hashes[siphash(&key, offsetof(struct ssi_hash, hash), &ssi_key) % SSI_HASHES];
	spin_lock(&ssi_hash_lock);
	if (h->diskseq == key.diskseq && h->part == key.part && h->ino == key.ino && h->hash) {
		*hash = h->hash;
		spin_unlock(&ssi_hash_lock);
		return 0;
	}
	spin_unlock(&ssi_hash_lock);
	if (file)
		ret = ssi_hash_object(file->f_mapping, file, i_size_read(file_inode(file)), &key.hash);
	else
		ret = ssi_hash_object(bdev->bd_mapping, NULL, bdev_nr_bytes(bdev), &key.hash);
	if (ret)
		return ret;
	spin_lock(&ssi_hash_lock);
	*h = key;
	spin_unlock(&ssi_hash_lock);
	*hash = key.hash;
	return 0;
}

/**
 * pproc_file_id() - which file this is
 * @file: an open file
 * @id: filled in
 *
 * Context: may sleep and read the disk. Return: 0; -ESTALE if no other node can open this file because it is of a
 * filesystem of this node, or deleted; what reading its attributes gives.
 */
int pproc_file_id(struct file *file, struct ssi_file_id *id)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct kstat st;
	int ret;

	memset(id, 0, sizeof(*id));
	if (!pproc_file_common(file))
		return -ESTALE;
	ret = vfs_getattr(&file->f_path, &st, STATX_BASIC_STATS, AT_STATX_FORCE_SYNC);
	if (ret)
		return ret;
	if (!st.nlink || d_unlinked(file->f_path.dentry))
		return -ESTALE;
	id->magic = sb->s_magic;
	id->ino = st.ino;
	id->generation = file_inode(file)->i_generation;
	id->size = st.size;
	id->mtime_ns = timespec64_to_ns(&st.mtime);
	id->ctime_ns = timespec64_to_ns(&st.ctime);
	if (sb->s_magic == V9FS_MAGIC) {
		const char *source = real_mount(file->f_path.mnt)->mnt_devname ?: "";

		id->fs = siphash(source, strlen(source), &ssi_key);
		return 0;
	}
	ret = ssi_hash_constant(sb, NULL, 0, &id->fs);
	if (!ret && S_ISREG(st.mode))
		ret = ssi_hash_constant(sb, file, st.ino, &id->content);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_file_id);

/**
 * pproc_file_same() - do two identities name one file?
 * @a: one, from any node
 * @b: other, from any node
 *
 * The file on the node that a process leaves is open while this is asked: its inode number is not given anew.
 */
bool pproc_file_same(const struct ssi_file_id *a, const struct ssi_file_id *b)
{
	if (a->magic != b->magic || a->fs != b->fs || a->ino != b->ino ||
	    a->generation != b->generation)
		return false;
	/* A file that others may be writing to differs in these without being another one. */
	if (a->magic == V9FS_MAGIC)
		return true;
	return a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       a->content == b->content;
}
EXPORT_SYMBOL_SSI(pproc_file_same);
