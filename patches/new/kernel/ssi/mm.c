// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of a process that moves, where it leaves.
 *
 * The process is the current one and has one thread, so its mappings change only by what it does itself.
 */
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pkeys.h>
#include <linux/sched/mm.h>
#include <linux/secretmem.h>
#include <linux/shmem_fs.h>
#include "mm.h"

#define SSI_AIO_MAGIC	0xa10a10a1	/* of the filesystem in fs/aio.c */

/* Append only: the order is part of the image. */
const u16 ssi_mm_fields[SSI_NFIELDS] = {
	offsetof(struct mm_struct, start_code), offsetof(struct mm_struct, end_code),
	offsetof(struct mm_struct, start_data), offsetof(struct mm_struct, end_data),
	offsetof(struct mm_struct, start_brk), offsetof(struct mm_struct, brk),
	offsetof(struct mm_struct, start_stack), offsetof(struct mm_struct, arg_start),
	offsetof(struct mm_struct, arg_end), offsetof(struct mm_struct, env_start),
	offsetof(struct mm_struct, env_end),
};

/* A mapping as found at or after an address. */
struct ssi_vma_seen {
	unsigned long start, end, flags, pgoff;
	struct file *file;		/* counted */
	bool anon;
	bool special;
	bool uffd;
	u32 pkey;
	const char *arch_name;
	char name[SSI_NAME_MAX];
};

static bool ssi_vma_next(unsigned long addr, struct ssi_vma_seen *s)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct anon_vma_name *name;

	memset(s, 0, sizeof(*s));
	mmap_read_lock(mm);
	vma = find_vma(mm, addr);
	if (vma) {
		s->start = vma->vm_start;
		s->end = vma->vm_end;
		s->flags = vma->vm_flags;
		s->pgoff = vma->vm_pgoff;
		s->anon = vma_is_anonymous(vma);
		s->uffd = vma->vm_userfaultfd_ctx.ctx;
		s->pkey = vma_pkey(vma);
		if (vma->vm_file && !s->anon)
			s->file = get_file(vma->vm_file);
		name = anon_vma_name(vma);
		if (name && s->anon)
			strscpy(s->name, name->name);
		if (!s->anon && !s->file) {
			s->special = true;
			s->arch_name = vma->vm_ops && vma->vm_ops->name ?
				       vma->vm_ops->name(vma) : "?";
		}
	}
	mmap_read_unlock(mm);
	return vma;
}

/* Puts the file's path, as the current process sees it, at the end of @buf. */
static char *ssi_file_path(struct file *file, char *buf, size_t len)
{
	char *path = d_path(&file->f_path, buf, len);

	if (!IS_ERR(path) && *path != '/')
		return ERR_PTR(-ESTALE);
	return path;
}

/* Writes why the current process's program cannot be found elsewhere. */
static void ssi_exe_refuse(struct file *exe, char *why, size_t len)
{
	char *page = (char *)__get_free_page(GFP_KERNEL);
	char *path = exe && page ? d_path(&exe->f_path, page, PAGE_SIZE) : NULL;

	snprintf(why, len, "program %s: %s", !IS_ERR_OR_NULL(path) ? path : "",
		 exe && pproc_path_common(&exe->f_path) ? "deleted" : "file of this node alone");
	free_page((unsigned long)page);
}

static int ssi_vma_refuse(const struct ssi_vma_seen *s, int err, const char *cause, char *why,
			  size_t len)
{
	char *page = NULL, *path = NULL;

	if (s->file) {
		page = (char *)__get_free_page(GFP_KERNEL);
		path = page ? d_path(&s->file->f_path, page, PAGE_SIZE) : NULL;
	}
	snprintf(why, len, "mapping %lx %s: %s", s->start,
		 !IS_ERR_OR_NULL(path) ? path : s->arch_name ?: "", cause);
	free_page((unsigned long)page);
	return err;
}

static int ssi_vma_check(const struct ssi_vma_seen *s, struct file *good, char *why, size_t len)
{
	unsigned long vdso, vdso_len;
	struct ssi_file_id id;
	int ret;

	if (s->special) {
		vdso = ssi_arch_vdso_range(&vdso_len);
		if (!vdso || s->start < vdso || s->end > vdso + vdso_len)
			return ssi_vma_refuse(s, -EOPNOTSUPP, "of the kernel", why, len);
		return 0;
	}
	if (s->flags & VM_HUGETLB)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "huge pages", why, len);
	if (s->file && secretmem_mapping(s->file->f_mapping))
		return ssi_vma_refuse(s, -EOPNOTSUPP, "secret memory", why, len);
	if (s->flags & SSI_VM_SPECIAL)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "memory of a device", why, len);
	if (s->flags & VM_SHADOW_STACK)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "shadow stack", why, len);
	if (s->uffd)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "userfaultfd", why, len);
	if (s->anon)
		return 0;
	if ((s->flags & VM_MAYSHARE) && shmem_mapping(s->file->f_mapping))
		return ssi_vma_refuse(s, -EOPNOTSUPP, "shared memory", why, len);
	if (file_inode(s->file)->i_sb->s_magic == SSI_AIO_MAGIC)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "asynchronous I/O context", why, len);
	if (IS_DAX(file_inode(s->file)))
		return ssi_vma_refuse(s, -EOPNOTSUPP, "DAX", why, len);
	if (s->file == good)
		return 0;
	ret = pproc_file_id(s->file, &id);
	if (ret == -ESTALE)
		return ssi_vma_refuse(s, ret, pproc_path_common(&s->file->f_path) ? "deleted" :
				      "file of this node alone", why, len);
	if (ret)
		return ssi_vma_refuse(s, ret, "attributes unknown", why, len);
	/* Its pages here and there would be two copies that nobody keeps alike. */
	if (s->flags & VM_SHARED)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "shared and writable", why, len);
	return 0;
}

/* See pproc_image_check(). */
int ssi_mm_check(char *why, size_t len)
{
	struct mm_struct *mm = current->mm;
	struct file *exe, *good = NULL;
	struct ssi_vma_seen s;
	unsigned long addr = 0;
	struct ssi_file_id id;
	int ret = 0;

	if (mm_flags_test(MMF_HAS_UPROBES, mm)) {
		snprintf(why, len, "uprobes");
		return -EOPNOTSUPP;
	}
	ret = ssi_arch_mm_check(why, len);
	if (ret)
		return ret;
	exe = get_mm_exe_file(mm);
	ret = exe ? pproc_file_id(exe, &id) : -ESTALE;
	if (ret)
		ssi_exe_refuse(exe, why, len);
	if (exe)
		fput(exe);
	if (ret)
		return ret;
	while (!ret && ssi_vma_next(addr, &s)) {
		ret = ssi_vma_check(&s, good, why, len);
		addr = s.end;
		if (good)
			fput(good);
		good = s.flags & VM_SHARED ? NULL : s.file;
		if (!good && s.file)
			fput(s.file);
	}
	if (good)
		fput(good);
	if (ret)
		return ret;
	if (ssi_pages_pinned()) {
		snprintf(why, len, "pages pinned by a device or the kernel");
		return -EBUSY;
	}
	return 0;
}

/* Appends a string to the image. Return: its offset or -E2BIG. */
static long ssi_put_string(void *buf, size_t room, size_t strings, size_t *at, const char *s)
{
	size_t n = strlen(s) + 1, where = *at;

	if (n > room - *at)
		return -E2BIG;
	memcpy(buf + where, s, n);
	*at += n;
	return where - strings;
}

/**
 * pproc_mm_capture() - the mappings of the current process
 * @buf: gets the image
 * @len: room there
 *
 * Context: sleeps. Return: bytes written, -E2BIG if there is not room enough, -ENOMEM, or what naming a file gives.
 */
ssize_t pproc_mm_capture(void *buf, size_t len)
{
	struct mm_struct *mm = current->mm;
	struct ssi_mm_image *m = buf;
	struct ssi_vma_image *v = buf + sizeof(*m), *known = NULL;
	struct file *file = NULL, *exe;
	char *page, *path;
	struct ssi_vma_seen s;
	unsigned long addr = 0;
	u32 n = 0, most;
	size_t at;
	long ret;
	u64 *aux;

	mmap_read_lock(mm);
	most = mm->map_count;
	mmap_read_unlock(mm);
	if (len > SSI_MM_MAX)
		len = SSI_MM_MAX;
	at = sizeof(*m) + (size_t)most * sizeof(*v) + AT_VECTOR_SIZE * sizeof(u64);
	if (at > len)
		return -E2BIG;
	exe = get_mm_exe_file(mm);
	page = (char *)__get_free_page(GFP_KERNEL);
	ret = -ENOMEM;
	if (!page || !exe)
		goto out;

	memset(buf, 0, at);
	m->magic = SSI_MM_MAGIC;
	m->version = SSI_MM_VERSION;
	m->n_auxv = AT_VECTOR_SIZE;
	m->strings = at;
	m->membarrier = atomic_read(&mm->membarrier_state);
	m->flags = __mm_flags_get_word(mm) & SSI_MMF;
	if (mm_flags_test(MMF_HAS_MDWE, mm))
		m->flags |= SSI_MMF_MDWE;
	if (mm_flags_test(MMF_HAS_MDWE_NO_INHERIT, mm))
		m->flags |= SSI_MMF_MDWE_NO;
	m->def_flags = mm->def_flags & VM_LOCKED_MASK;
	m->mmap_base = mm->mmap_base;
	m->total_vm_peak = get_mm_hiwater_vm(mm);
	m->rss_peak = get_mm_hiwater_rss(mm);
	ssi_arch_mm_capture(&m->arch);
	spin_lock(&mm->arg_lock);
	for (int i = 0; i < SSI_NFIELDS; i++)
		m->fields[i] = *ssi_mm_field(mm, i);
	spin_unlock(&mm->arg_lock);
	path = ssi_file_path(exe, page, PAGE_SIZE);
	ret = IS_ERR(path) ? PTR_ERR(path) : ssi_put_string(buf, len, m->strings, &at, path);
	if (ret < 0)
		goto out;
	m->exe = ret;
	ret = pproc_file_id(exe, &m->exe_id);

	while (!ret && ssi_vma_next(addr, &s)) {
		addr = s.end;
		if (s.special)
			continue;
		if (n == most) {
			ret = -EAGAIN;
		} else {
			v->start = s.start;
			v->end = s.end;
			v->flags = s.flags;
			v->pkey = s.pkey;
			v->kind = s.anon ? SSI_VMA_ANON : SSI_VMA_FILE;
		}
		if (!ret && s.anon && s.name[0]) {
			ret = ssi_put_string(buf, len, m->strings, &at, s.name);
			v->string = ret;
			v->reserved = 1;	/* has a name */
			ret = min(ret, 0L);
		}
		if (!ret && s.file) {
			v->pgoff = s.pgoff;
			if (s.file == file) {
				v->string = known->string;
				v->id = known->id;
			} else {
				path = ssi_file_path(s.file, page, PAGE_SIZE);
				ret = IS_ERR(path) ? PTR_ERR(path) :
				      ssi_put_string(buf, len, m->strings, &at, path);
				v->string = ret;
				ret = ret < 0 ? ret : pproc_file_id(s.file, &v->id);
			}
		}
		if (s.file) {
			if (file)
				fput(file);
			file = s.file;
			known = v;
		}
		v++;
		n++;
	}
	if (ret)
		goto out;
	/* Records that were not needed become part of the auxiliary vector's place. */
	aux = (u64 *)v;
	m->n_vmas = n;
	m->n_auxv = AT_VECTOR_SIZE;
	memcpy(aux, mm->saved_auxv, sizeof(mm->saved_auxv));
	m->len = at;
	ret = at;
out:
	if (file)
		fput(file);
	if (exe)
		fput(exe);
	free_page((unsigned long)page);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_mm_capture);
