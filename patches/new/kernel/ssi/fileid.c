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
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/ssi_image.h>
#include <linux/stat.h>
#include "internal.h"

/* A whole object is hashed up to this size; of a larger one pages spread over it are. */
#define SSI_HASH_WHOLE		SZ_1M
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

/* Can nothing change a file of it? */
static bool ssi_fs_constant(const struct super_block *sb)
{
	if (!sb->s_bdev || !sb_rdonly(sb))
		return false;
	return sb->s_magic == SQUASHFS_MAGIC || sb->s_magic == EROFS_SUPER_MAGIC_V1 ||
	       sb->s_magic == ISOFS_SUPER_MAGIC || bdev_read_only(sb->s_bdev);
}

/**
 * pproc_path_common() - do all nodes that mount the filesystem see the same file?
 * @path: the file
 *
 * Return: true for files, directories and links of a read-only filesystem on a read-only disk, and of 9p.
 */
bool pproc_path_common(const struct path *path)
{
	const struct inode *inode = d_backing_inode(path->dentry);

	if (!S_ISREG(inode->i_mode) && !S_ISDIR(inode->i_mode) && !S_ISLNK(inode->i_mode))
		return false;
	return inode->i_sb->s_magic == V9FS_MAGIC || ssi_fs_constant(inode->i_sb);
}
EXPORT_SYMBOL_SSI(pproc_path_common);

/* Adds the page at @index to @hash. */
static int ssi_hash_page(struct address_space *mapping, pgoff_t index, u64 *hash)
{
	struct folio *folio = read_mapping_folio(mapping, index, NULL);
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

static int ssi_hash_object(struct address_space *mapping, u64 size, u64 *hash)
{
	pgoff_t n = DIV_ROUND_UP_ULL(size, PAGE_SIZE);
	pgoff_t take = size <= SSI_HASH_WHOLE ? n : SSI_HASH_SAMPLES;
	int ret = 0;

	*hash = siphash_1u64(size, &ssi_key);
	/* The first and the last page are always among them. */
	for (pgoff_t i = 0; i < take && !ret; i++)
		ret = ssi_hash_page(mapping, take > 1 ? i * (n - 1) / (take - 1) : 0, hash);
	return ret;
}

/* Hash of a disk, or of a file on it, neither of which can change. */
static int ssi_hash_constant(struct block_device *bdev, struct inode *inode, u64 *hash)
{
	struct ssi_hash key = { bdev->bd_disk->diskseq, bdev_partno(bdev), inode ? inode->i_ino : 0 };
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
	if (inode)
		ret = ssi_hash_object(inode->i_mapping, i_size_read(inode), &key.hash);
	else
		ret = ssi_hash_object(bdev->bd_mapping, bdev_nr_bytes(bdev), &key.hash);
	if (ret)
		return ret;
	spin_lock(&ssi_hash_lock);
	*h = key;
	spin_unlock(&ssi_hash_lock);
	*hash = key.hash;
	return 0;
}

/**
 * pproc_path_id() - which file this is
 * @path: the file
 * @id: filled in
 *
 * Context: may sleep and read the disk. Return: 0; -ESTALE if no other node can open this file because it is of a
 * filesystem of this node; what reading its attributes gives.
 */
int pproc_path_id(const struct path *path, struct ssi_file_id *id)
{
	struct inode *inode = d_backing_inode(path->dentry);
	struct super_block *sb = inode->i_sb;
	struct kstat st;
	int ret;

	memset(id, 0, sizeof(*id));
	if (!pproc_path_common(path))
		return -ESTALE;
	ret = vfs_getattr(path, &st, STATX_BASIC_STATS, AT_STATX_FORCE_SYNC);
	if (ret)
		return ret;
	id->fs_magic = sb->s_magic;
	id->ino = st.ino;
	id->generation = inode->i_generation;
	id->type = st.mode & S_IFMT;
	if (S_ISREG(st.mode))
		id->size = st.size;
	if (sb->s_magic == V9FS_MAGIC) {
		const char *source = pproc_mount_source(path->mnt) ?: "";

		id->fs_id[0] = siphash(source, strlen(source), &ssi_key);
		return 0;
	}
	id->mtime_s = st.mtime.tv_sec;
	id->mtime_ns = st.mtime.tv_nsec;
	id->ctime_s = st.ctime.tv_sec;
	id->ctime_ns = st.ctime.tv_nsec;
	id->fs_id[1] = siphash(&sb->s_uuid, sizeof(sb->s_uuid), &ssi_key);
	ret = ssi_hash_constant(sb->s_bdev, NULL, &id->fs_id[0]);
	if (!ret && S_ISREG(st.mode))
		ret = ssi_hash_constant(sb->s_bdev, inode, &id->probe);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_path_id);

/**
 * pproc_file_id() - which file is open
 * @file: an open file
 * @id: filled in
 *
 * Return: as pproc_path_id(); -ESTALE also if the file is deleted.
 */
int pproc_file_id(struct file *file, struct ssi_file_id *id)
{
	memset(id, 0, sizeof(*id));
	if (d_unlinked(file->f_path.dentry) || !file_inode(file)->i_nlink)
		return -ESTALE;
	return pproc_path_id(&file->f_path, id);
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
	return !memcmp(a, b, sizeof(*a));
}
EXPORT_SYMBOL_SSI(pproc_file_same);
