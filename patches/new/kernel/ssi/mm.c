// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of a process that moves: its mappings, their pages, and the new address space they come into.
 *
 * The process is the current one and has one thread, so its mappings change only by what it does itself.
 */
#include <linux/binfmts.h>
#include <linux/elf.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/leafops.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mman.h>
#include <linux/namei.h>
#include <linux/pagewalk.h>
#include <linux/pid_namespace.h>
#include <linux/pkeys.h>
#include <linux/prctl.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/secretmem.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/ssi_image.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>
#include <uapi/linux/membarrier.h>
#include <asm/pgalloc.h>
#include <asm/tlbflush.h>
#include <asm/unistd.h>
#include "../../mm/internal.h"
#include "internal.h"

#ifndef __LITTLE_ENDIAN
#error "an image is little-endian; swap its fields here"
#endif

#define SSI_AIO_MAGIC	0xa10a10a1	/* of the filesystem in fs/aio.c */
#define SSI_NAME_MAX	80		/* of an anonymous mapping, as in mm/madvise.c */
#define SSI_MM_MAGIC	0x4d4d4953	/* "SIMM" */
#define SSI_MM_VERSION	1

/* Fields of mm_struct that are plain addresses, in this order. */
#define SSI_MM_FIELDS(x)							\
	x(start_code) x(end_code) x(start_data) x(end_data) x(start_brk) x(brk)	\
	x(start_stack) x(arg_start) x(arg_end) x(env_start) x(env_end)
#define SSI_ONE(f)	+ 1
#define SSI_NFIELDS	(0 SSI_MM_FIELDS(SSI_ONE))

/* The mappings: head, @n_vmas records, @n_auxv words, strings. */
struct ssi_mm_image {
	u32 magic;
	u32 version;
	u32 len;
	u32 n_vmas;
	u32 n_auxv;
	u32 strings;			/* where they begin */
	u32 exe;			/* offset in the strings */
	u32 membarrier;
	u64 flags;			/* SSI_MMF */
	u64 def_flags;
	u64 mmap_base;
	u64 fields[SSI_NFIELDS];
	u64 total_vm_peak;		/* high-water marks, pages */
	u64 rss_peak;
	struct ssi_arch_mm arch;
	struct ssi_file_id exe_id;
};

enum ssi_vma_kind {
	SSI_VMA_ANON,			/* string: its name, if any */
	SSI_VMA_FILE,			/* string: path */
};

struct ssi_vma_image {
	u64 start;
	u64 end;
	u64 flags;			/* vm_flags */
	u64 pgoff;
	u32 kind;
	u32 pkey;
	u32 string;			/* offset in the strings */
	u32 reserved;
	struct ssi_file_id id;
};

static_assert(sizeof(struct ssi_vma_image) == 112);

/* What of mm->flags crosses. */
#define SSI_MMF		(MMF_DUMP_FILTER_MASK | MMF_DISABLE_THP_MASK | MMF_TOPDOWN_MASK)
#define SSI_MMF_MDWE	BIT_ULL(32)
#define SSI_MMF_MDWE_NO	BIT_ULL(33)

/* Flags of a mapping by which the restored one is judged. */
#define SSI_VM_SAME	(VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC |	\
			 VM_SHARED | VM_MAYSHARE | VM_GROWSDOWN)
#define SSI_VM_SPECIAL	(VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_HUGETLB)

/* Can pages of @vma be sent or received one by one? */
static bool ssi_vma_has_pages(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (SSI_VM_SPECIAL | VM_MAYSHARE | VM_DROPPABLE));
}

/* ---------------------------------------------------------------------------------------------- */
/* Mappings, source.                                                                              */

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
		return ssi_vma_refuse(s, ret, pproc_file_common(s->file) ? "deleted" :
				      "file of this node alone", why, len);
	if (ret)
		return ssi_vma_refuse(s, ret, "attributes unknown", why, len);
	/* Its pages here and there would be two copies that nobody keeps alike. */
	if (s->flags & VM_SHARED)
		return ssi_vma_refuse(s, -EOPNOTSUPP, "shared and writable", why, len);
	return 0;
}

static int ssi_pinned_pte(pte_t *pte, unsigned long addr, unsigned long next, struct mm_walk *walk)
{
	pte_t p = ptep_get(pte);
	struct folio *folio;

	if (!pte_present(p))
		return 0;
	folio = vm_normal_folio(walk->vma, addr, p);
	return folio && folio_test_anon(folio) && folio_maybe_dma_pinned(folio) ? 1 : 0;
}

static int ssi_walk_test(unsigned long start, unsigned long end, struct mm_walk *walk)
{
	return !ssi_vma_has_pages(walk->vma);
}

/* See pproc_image_check(). */
int ssi_mm_check(char *why, size_t len)
{
	static const struct mm_walk_ops pinned = {
		.pte_entry	= ssi_pinned_pte,
		.test_walk	= ssi_walk_test,
		.walk_lock	= PGWALK_RDLOCK,
	};
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
	if (exe)
		fput(exe);
	if (ret) {
		snprintf(why, len, "program deleted, or a file of this node alone");
		return ret;
	}
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
	if (mm_flags_test(MMF_HAS_PINNED, mm)) {
		mmap_read_lock(mm);
		ret = walk_page_range(mm, 0, TASK_SIZE, &pinned, NULL);
		mmap_read_unlock(mm);
		if (ret) {
			snprintf(why, len, "pages pinned by a device or the kernel");
			return -EBUSY;
		}
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
	int i = 0;

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
#define SSI_GET(f)	m->fields[i++] = mm->f;
	SSI_MM_FIELDS(SSI_GET)
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

/* ---------------------------------------------------------------------------------------------- */
/* Pages, source.                                                                                 */

struct ssi_page_list {
	u64 *addrs;
	size_t n;
	size_t max;
	u64 next;
};

static int ssi_list_pte(pte_t *pte, unsigned long addr, unsigned long next, struct mm_walk *walk)
{
	struct ssi_page_list *l = walk->private;
	pte_t p = ptep_get(pte);
	struct folio *folio;
	softleaf_t leaf;
	u64 flag = 0;

	if (pte_none(p))
		return 0;
	if (pte_present(p)) {
		folio = vm_normal_folio(walk->vma, addr, p);
		/* The zero page reads alike everywhere, and so does a page of a file until it is copied. */
		if (!folio || !folio_test_anon(folio))
			return 0;
		if (folio_maybe_dma_pinned(folio))
			return -EBUSY;
	} else {
		leaf = softleaf_from_pte(p);
		if (softleaf_is_guard_marker(leaf))
			flag = SSI_PAGE_GUARD;
		else if (softleaf_is_hwpoison(leaf) || softleaf_is_poison_marker(leaf))
			return -EHWPOISON;
		else if (softleaf_is_marker(leaf))
			return 0;
		else if (softleaf_is_migration(leaf) && !folio_test_anon(softleaf_to_folio(leaf)))
			return 0;
		else if (!softleaf_is_swap(leaf) && !softleaf_is_migration(leaf))
			return -EOPNOTSUPP;
	}
	if (l->n == l->max) {
		l->next = addr;
		return 1;
	}
	l->addrs[l->n++] = addr | flag;
	return 0;
}

static const struct mm_walk_ops ssi_list_ops = {
	.pte_entry	= ssi_list_pte,
	.test_walk	= ssi_walk_test,
	.walk_lock	= PGWALK_RDLOCK,
};

/**
 * pproc_pages_next() - the next pages of the current process that only it has
 * @c: where the walk stands; zero to begin
 * @addrs: gets their addresses; SSI_PAGE_GUARD is set in that of a guard page
 * @n: room there
 *
 * Return: how many, 0 at the end; -EBUSY for a pinned page, -EHWPOISON, -EOPNOTSUPP for memory of a device.
 */
ssize_t pproc_pages_next(struct ssi_page_cursor *c, u64 *addrs, size_t n)
{
	struct ssi_page_list l = { .addrs = addrs, .max = n };
	struct mm_struct *mm = current->mm;
	int ret;

	if (c->next >= TASK_SIZE || !n)
		return 0;
	mmap_read_lock(mm);
	ret = walk_page_range(mm, c->next, TASK_SIZE, &ssi_list_ops, &l);
	mmap_read_unlock(mm);
	if (ret < 0)
		return ret;
	c->next = ret ? l.next : TASK_SIZE;
	return l.n;
}
EXPORT_SYMBOL_SSI(pproc_pages_next);

/* Length in pages of the run of neighbours that begins @addrs. */
static size_t ssi_run(const u64 *addrs, size_t n)
{
	size_t i = 1;

	while (i < n && addrs[i] == addrs[0] + i * PAGE_SIZE)
		i++;
	return i;
}

/**
 * pproc_pages_read() - contents of pages of the current process
 * @addrs: their addresses
 * @n: how many
 * @buf: gets them one after the other
 *
 * Return: 0, -EFAULT if one cannot be read.
 */
int pproc_pages_read(const u64 *addrs, size_t n, void *buf)
{
	struct page *pages[32];
	size_t i, run;
	int got;

	for (i = 0; i < n; i += got) {
		run = min(ssi_run(addrs + i, n - i), ARRAY_SIZE(pages));
		got = get_user_pages_fast(addrs[i], run, FOLL_FORCE, pages);
		if (got <= 0)
			return -EFAULT;
		for (int k = 0; k < got; k++, buf += PAGE_SIZE) {
			memcpy_from_page(buf, pages[k], 0, PAGE_SIZE);
			put_page(pages[k]);
		}
		cond_resched();
	}
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_pages_read);

/* ---------------------------------------------------------------------------------------------- */
/* Destination: a new address space.                                                              */

/*
 * Who decodes an image trusts nothing in it. Return: 0, -EINVAL, or -EPROTO for another version.
 */
static int ssi_mm_decode(const void *buf, size_t len, const struct ssi_vma_image **vmas,
			 const u64 **aux)
{
	const struct ssi_mm_image *m = buf;
	size_t at = sizeof(*m);

	if (len < sizeof(*m) || len > SSI_MM_MAX || m->magic != SSI_MM_MAGIC || m->len != len)
		return -EINVAL;
	if (m->version != SSI_MM_VERSION)
		return -EPROTO;
	*vmas = buf + at;
	if (m->n_vmas > (len - at) / sizeof(struct ssi_vma_image))
		return -EINVAL;
	at += (size_t)m->n_vmas * sizeof(struct ssi_vma_image);
	*aux = buf + at;
	if (m->n_auxv != AT_VECTOR_SIZE || m->n_auxv > (len - at) / sizeof(u64))
		return -EINVAL;
	at += m->n_auxv * sizeof(u64);
	/* The last string ends the image, so every one is ended. */
	if (m->strings < at || m->strings >= len || ((const char *)buf)[len - 1])
		return -EINVAL;
	return 0;
}

static const char *ssi_mm_string(const void *buf, size_t len, u32 offset)
{
	const struct ssi_mm_image *m = buf;

	return offset < len - m->strings ? buf + m->strings + offset : NULL;
}

static bool ssi_user_range(u64 start, u64 end)
{
	return start < end && end <= TASK_SIZE && PAGE_ALIGNED(start) && PAGE_ALIGNED(end);
}

static struct linux_binfmt ssi_binfmt;

/* The format of init's program, so that a process that has moved can dump core. */
static struct linux_binfmt *ssi_elf_format(void)
{
	struct linux_binfmt *fmt = NULL;
	struct task_struct *init = init_pid_ns.child_reaper;

	task_lock(init);
	if (init->mm)
		fmt = init->mm->binfmt;
	task_unlock(init);
	return fmt ?: &ssi_binfmt;
}

/* Replaces the memory of a process that is being made from an image by an empty one. */
static int ssi_load_image(struct linux_binprm *bprm)
{
	const struct ssi_move *move = READ_ONCE(current->ssi);
	struct ssi_file_id id;
	struct vm_area_struct *vma;
	unsigned long start, len;
	int ret;

	if (!move || move->role != SSI_ROLE_ARRIVING || !move->exe)
		return -ENOEXEC;
	ret = pproc_file_id(bprm->file, &id);
	if (!ret && !pproc_file_same(&id, move->exe))
		ret = -ESTALE;
	if (ret)
		return ret;
	ret = begin_new_exec(bprm);
	if (ret)
		return ret;
	ssi_arch_new_mm();
	setup_new_exec(bprm);
	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, 0);
	start = vma ? vma->vm_start : 0;
	len = vma ? vma->vm_end - vma->vm_start : 0;
	mmap_read_unlock(current->mm);
	if (len)
		ret = vm_munmap(start, len);
	if (!ret) {
		set_binfmt(ssi_elf_format());
		finalize_exec(bprm);
	}
	return ret;
}

static struct linux_binfmt ssi_binfmt = {
	.load_binary	= ssi_load_image,
};

static int __init ssi_binfmt_init(void)
{
	insert_binfmt(&ssi_binfmt);
	return 0;
}
core_initcall(ssi_binfmt_init);

/**
 * pproc_mm_create() - give the current, new process an empty address space for its program
 * @buf: from pproc_mm_capture() on another node
 * @len: bytes
 *
 * Context: the new process, before it was in user mode. Return: 0; -ESTALE if the program's path leads to another
 * file here; -EINVAL; -EPROTO; what opening it gives.
 */
int pproc_mm_create(const void *buf, size_t len)
{
	const struct ssi_mm_image *m = buf;
	const struct ssi_vma_image *v;
	struct ssi_move *move = current->ssi;
	struct ssi_file_id id;
	const char *exe;
	const u64 *aux;
	int ret;

	ret = ssi_mm_decode(buf, len, &v, &aux);
	if (ret)
		return ret;
	exe = ssi_mm_string(buf, len, m->exe);
	if (!exe || *exe != '/' || !move || move->role != SSI_ROLE_ARRIVING)
		return -EINVAL;
	id = m->exe_id;
	move->exe = &id;
	ret = kernel_execve(exe, (const char *const []){ exe, NULL },
			    (const char *const []){ NULL });
	move->exe = NULL;
	if (ret == -ENOENT || ret == -ENOTDIR)
		return -ESTALE;
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_mm_create);

/* Opens @path for a mapping if it is the file that @id names. */
static struct file *ssi_open_same(const char *path, const struct ssi_file_id *want)
{
	struct ssi_file_id id;
	struct path p;
	struct file *file;
	int ret;

	ret = kern_path(path, LOOKUP_FOLLOW, &p);
	if (ret)
		return ERR_PTR(ret == -ENOENT || ret == -ENOTDIR ? -ESTALE : ret);
	/* Opening something else might wait, or have effects. */
	file = d_is_reg(p.dentry) ? dentry_open(&p, O_RDONLY | O_LARGEFILE, current_cred()) :
	       ERR_PTR(-ESTALE);
	path_put(&p);
	if (IS_ERR(file))
		return file;
	ret = pproc_file_id(file, &id);
	if (!ret && !pproc_file_same(&id, want))
		ret = -ESTALE;
	if (ret) {
		fput(file);
		return ERR_PTR(ret);
	}
	return file;
}

static int ssi_vma_map(const struct ssi_vma_image *v, struct file *file)
{
	unsigned long prot = 0, flags = MAP_FIXED_NOREPLACE, got;
	struct vm_area_struct *vma;
	u64 now = 0;

	if (v->flags & VM_READ)
		prot |= PROT_READ;
	if (v->flags & VM_WRITE)
		prot |= PROT_WRITE;
	if (v->flags & VM_EXEC)
		prot |= PROT_EXEC;
	if (v->flags & VM_DROPPABLE)
		flags |= MAP_DROPPABLE;
	else
		flags |= v->flags & VM_MAYSHARE ? MAP_SHARED : MAP_PRIVATE;
	if (!file)
		flags |= MAP_ANONYMOUS;
	if (v->flags & VM_GROWSDOWN)
		flags |= MAP_GROWSDOWN;
	if (v->flags & VM_NORESERVE)
		flags |= MAP_NORESERVE;
	got = vm_mmap(file, v->start, v->end - v->start, prot, flags,
		      file ? v->pgoff << PAGE_SHIFT : 0);
	if (IS_ERR_VALUE(got))
		return got;
	if (got != v->start)
		return -EEXIST;
	mmap_read_lock(current->mm);
	vma = find_vma(current->mm, v->start);
	if (vma)
		now = vma->vm_flags;
	mmap_read_unlock(current->mm);
	return (now ^ v->flags) & SSI_VM_SAME ? -EOPNOTSUPP : 0;
}

/**
 * pproc_mm_restore() - make the mappings, without their pages
 * @buf: from pproc_mm_capture() on another node
 * @len: bytes
 * @why: gets the cause of a refusal
 * @why_len: room there
 *
 * Return: 0; -ESTALE if a path leads to another file here; -EINVAL, -EPROTO for bytes that are no image; what mapping
 * gives.
 */
int pproc_mm_restore(const void *buf, size_t len, char *why, size_t why_len)
{
	const struct ssi_mm_image *m = buf;
	const struct ssi_vma_image *v;
	struct file *file = NULL;
	const char *path = NULL, *name;
	const u64 *aux;
	u64 end = 0;
	int ret;

	ret = ssi_mm_decode(buf, len, &v, &aux);
	if (ret) {
		snprintf(why, why_len, "image of the mappings");
		return ret;
	}
	mmap_write_lock(current->mm);
	current->mm->mmap_base = m->mmap_base < TASK_SIZE ? m->mmap_base : TASK_SIZE;
	mmap_write_unlock(current->mm);
	ret = ssi_arch_mm_restore(&m->arch);
	if (ret) {
		snprintf(why, why_len, "vdso at %llx", m->arch.vdso);
		return ret;
	}
	for (u32 i = 0; i < m->n_vmas && !ret; i++, v++) {
		name = v->kind == SSI_VMA_FILE ? ssi_mm_string(buf, len, v->string) : NULL;
		if (!ssi_user_range(v->start, v->end) || v->start < end ||
		    v->kind > SSI_VMA_FILE || v->pgoff > (U64_MAX >> PAGE_SHIFT) ||
		    (v->kind == SSI_VMA_FILE && (!name || *name != '/')) ||
		    v->flags & (VM_SHARED | SSI_VM_SPECIAL) ||
		    (v->kind == SSI_VMA_ANON && v->flags & VM_MAYSHARE)) {
			ret = -EINVAL;
			path = NULL;
		} else if (name && name != path) {
			if (file)
				fput(file);
			path = name;
			file = ssi_open_same(path, &v->id);
			if (IS_ERR(file)) {
				ret = PTR_ERR(file);
				file = NULL;
			}
		}
		if (!ret)
			ret = ssi_vma_map(v, name ? file : NULL);
		if (ret)
			snprintf(why, why_len, "mapping %llx %s: %s", v->start, name ?: "",
				 ret == -ESTALE ? "another file here" : "cannot be made");
		end = v->end;
		cond_resched();
	}
	if (file)
		fput(file);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_mm_restore);

/* ---------------------------------------------------------------------------------------------- */
/* Pages, destination.                                                                            */

static pmd_t *ssi_alloc_pmd(struct mm_struct *mm, unsigned long addr)
{
	p4d_t *p4d = p4d_alloc(mm, pgd_offset(mm, addr), addr);
	pud_t *pud = p4d ? pud_alloc(mm, p4d, addr) : NULL;

	return pud ? pmd_alloc(mm, pud, addr) : NULL;
}

/* Puts a new page at @addr without a fault. Return: 0, -EEXIST if there is one, -EAGAIN, -ENOMEM. */
static int ssi_page_install(struct vm_area_struct *vma, unsigned long addr, const void *from)
{
	struct mm_struct *mm = vma->vm_mm;
	struct folio *folio;
	pmd_t *pmd = ssi_alloc_pmd(mm, addr);
	spinlock_t *ptl;
	pte_t *pte, entry;
	int ret = -ENOMEM;

	if (!pmd)
		return -ENOMEM;
	if (unlikely(pmd_leaf(*pmd)))
		return -EEXIST;
	if (pte_alloc(mm, pmd))
		return -ENOMEM;
	folio = vma_alloc_folio(GFP_HIGHUSER_MOVABLE, 0, vma, addr);
	if (!folio)
		return -ENOMEM;
	if (mem_cgroup_charge(folio, mm, GFP_KERNEL))
		goto err;
	memcpy_to_folio(folio, 0, from, PAGE_SIZE);
	__folio_mark_uptodate(folio);

	entry = folio_mk_pte(folio, vma->vm_page_prot);
	entry = pte_sw_mkyoung(pte_mkdirty(entry));
	if (vma->vm_flags & VM_WRITE)
		entry = pte_mkwrite(entry, vma);
	ret = -EAGAIN;
	pte = pte_offset_map_lock(mm, pmd, addr, &ptl);
	if (!pte)
		goto err;
	ret = -EEXIST;
	if (!pte_none(ptep_get(pte))) {
		pte_unmap_unlock(pte, ptl);
		goto err;
	}
	folio_add_new_anon_rmap(folio, vma, addr, RMAP_EXCLUSIVE);
	folio_add_lru_vma(folio, vma);
	inc_mm_counter(mm, MM_ANONPAGES);
	set_pte_at(mm, addr, pte, entry);
	update_mmu_cache(vma, addr, pte);
	pte_unmap_unlock(pte, ptl);
	return 0;
err:
	folio_put(folio);
	return ret;
}

/**
 * pproc_pages_write() - put pages into the current, new process
 * @addrs: their addresses
 * @n: how many
 * @buf: their contents one after the other
 *
 * Return: 0, -EINVAL for an address where no page of the process's own can be, -ENOMEM, -EFAULT, -EINTR.
 */
int pproc_pages_write(const u64 *addrs, size_t n, const void *buf)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma = NULL;
	int ret = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	for (size_t i = 0; i < n && !ret; i++, buf += PAGE_SIZE) {
		u64 addr = addrs[i];

		if (!vma || addr < vma->vm_start || addr >= vma->vm_end) {
			vma = vma_lookup(mm, addr);
			ret = -EINVAL;
			if (!vma || !ssi_vma_has_pages(vma) || (!vma_is_anonymous(vma) && !vma->vm_file))
				break;
			ret = anon_vma_prepare(vma);
			if (ret)
				break;
		}
		ret = -EINVAL;
		if (!PAGE_ALIGNED(addr))
			break;
		ret = ssi_page_install(vma, addr, buf);
		if (ret == -EEXIST || ret == -EAGAIN) {
			/* Something is there already: the slow way. */
			mmap_read_unlock(mm);
			ret = access_process_vm(current, addr, (void *)buf, PAGE_SIZE,
						FOLL_WRITE | FOLL_FORCE) == PAGE_SIZE ? 0 : -EFAULT;
			vma = NULL;
			if (mmap_read_lock_killable(mm))
				return -EINTR;
		}
		if (need_resched()) {
			mmap_read_unlock(mm);
			vma = NULL;
			cond_resched();
			if (mmap_read_lock_killable(mm))
				return -EINTR;
		}
	}
	mmap_read_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_pages_write);

/**
 * pproc_guards_install() - make guard pages in the current, new process
 * @addrs: their addresses; SSI_PAGE_GUARD in them does not count
 * @n: how many
 *
 * Return: 0, -EINVAL, -ENOMEM.
 */
int pproc_guards_install(const u64 *addrs, size_t n)
{
	size_t run;
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i += run) {
		u64 addr = addrs[i] & ~SSI_PAGE_GUARD;

		run = ssi_run(addrs + i, n - i);
		if (!ssi_user_range(addr, addr + run * PAGE_SIZE))
			return -EINVAL;
		ret = do_madvise(current->mm, addr, run * PAGE_SIZE, MADV_GUARD_INSTALL);
	}
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_guards_install);

/* ---------------------------------------------------------------------------------------------- */
/* What must come after the pages.                                                                */

/* @scratch: a page of the process that strings can be passed in. */
static int ssi_vma_finish(const struct ssi_vma_image *v, const char *name, unsigned long scratch)
{
	static const struct {
		vm_flags_t flag;
		int advice;
	} advices[] = {
		{ VM_SEQ_READ, MADV_SEQUENTIAL }, { VM_RAND_READ, MADV_RANDOM },
		{ VM_DONTCOPY, MADV_DONTFORK }, { VM_DONTDUMP, MADV_DONTDUMP },
		{ VM_WIPEONFORK, MADV_WIPEONFORK }, { VM_MERGEABLE, MADV_MERGEABLE },
		{ VM_HUGEPAGE, MADV_HUGEPAGE }, { VM_NOHUGEPAGE, MADV_NOHUGEPAGE },
	};
	u64 len = v->end - v->start;
	long ret;

	for (int i = 0; i < ARRAY_SIZE(advices); i++) {
		/* A droppable mapping has some of these from the start. */
		if (!(v->flags & advices[i].flag) || v->flags & VM_DROPPABLE)
			continue;
		ret = do_madvise(current->mm, v->start, len, advices[i].advice);
		/* Hints about pages may be unknown to this kernel's configuration. */
		if (ret && !(advices[i].flag & (VM_MERGEABLE | VM_HUGEPAGE | VM_NOHUGEPAGE)))
			return ret;
	}
	if (name) {
		if (copy_to_user((void __user *)scratch, name, strlen(name) + 1))
			return -EFAULT;
		ret = set_anon_vma_name(v->start, len, (char __user *)scratch);
		if (ret)
			return ret;
	}
	if (v->pkey) {
		u64 prot = 0;

		prot |= v->flags & VM_READ ? PROT_READ : 0;
		prot |= v->flags & VM_WRITE ? PROT_WRITE : 0;
		prot |= v->flags & VM_EXEC ? PROT_EXEC : 0;
		ret = pproc_syscall(__NR_pkey_mprotect, v->start, len, prot, v->pkey, 0, 0);
		if (ret)
			return ret;
	}
	if (v->flags & VM_LOCKED) {
		ret = pproc_syscall(__NR_mlock2, v->start, len,
				    v->flags & VM_LOCKONFAULT ? MLOCK_ONFAULT : 0, 0, 0, 0);
		/* The mapping is locked although not all of it could be read in, as behind a file's end. */
		if (ret && ret != -ENOMEM && ret != -EAGAIN)
			return ret;
	}
	return v->flags & VM_SEALED ? pproc_syscall(__NR_mseal, v->start, len, 0, 0, 0, 0) : 0;
}

static int ssi_membarrier(u32 state)
{
	static const struct {
		u32 state;
		int cmd;
	} cmds[] = {
		{ MEMBARRIER_STATE_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED },
		{ MEMBARRIER_STATE_GLOBAL_EXPEDITED, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED },
		{ MEMBARRIER_STATE_PRIVATE_EXPEDITED_SYNC_CORE,
		  MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE },
		{ MEMBARRIER_STATE_PRIVATE_EXPEDITED_RSEQ,
		  MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ },
	};
	long ret = 0;

	for (int i = 0; i < ARRAY_SIZE(cmds) && !ret; i++)
		if (state & cmds[i].state)
			ret = pproc_syscall(__NR_membarrier, cmds[i].cmd, 0, 0, 0, 0, 0);
	return ret;
}

/**
 * pproc_mm_finish() - what the mappings get after their pages
 * @buf: from pproc_mm_capture() on another node
 * @len: bytes
 * @why: gets the cause of a refusal
 * @why_len: room there
 *
 * Return: 0, -EINVAL, -EPROTO, -ENOMEM, or what a step gives.
 */
int pproc_mm_finish(const void *buf, size_t len, char *why, size_t why_len)
{
	const struct ssi_mm_image *m = buf;
	struct mm_struct *mm = current->mm;
	const struct ssi_vma_image *v;
	unsigned long scratch;
	const char *name;
	const u64 *aux;
	u64 end = 0;
	int ret, i = 0;

	ret = ssi_mm_decode(buf, len, &v, &aux);
	if (ret) {
		snprintf(why, why_len, "image of the mappings");
		return ret;
	}
	scratch = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(scratch))
		return scratch;
	for (u32 n = 0; n < m->n_vmas && !ret; n++, v++) {
		name = NULL;
		if (v->kind == SSI_VMA_ANON && v->reserved) {
			name = ssi_mm_string(buf, len, v->string);
			if (!name || strnlen(name, SSI_NAME_MAX) == SSI_NAME_MAX)
				ret = -EINVAL;
		}
		if (!ssi_user_range(v->start, v->end) || v->start < end)
			ret = -EINVAL;
		end = v->end;
		if (!ret)
			ret = ssi_vma_finish(v, name, scratch);
		if (ret)
			snprintf(why, why_len, "mapping %llx: cannot be finished", v->start);
	}
	vm_munmap(scratch, PAGE_SIZE);
	if (ret)
		return ret;
	for (i = 0; i < SSI_NFIELDS; i++) {
		if (m->fields[i] > TASK_SIZE) {
			snprintf(why, why_len, "image of the mappings");
			return -EINVAL;
		}
	}
	ret = ssi_membarrier(m->membarrier);
	if (ret) {
		snprintf(why, why_len, "membarrier");
		return ret;
	}
	i = 0;
	mmap_write_lock(mm);
	spin_lock(&mm->arg_lock);
#define SSI_SET(f)	mm->f = m->fields[i++];
	SSI_MM_FIELDS(SSI_SET)
	spin_unlock(&mm->arg_lock);
	memcpy(mm->saved_auxv, aux, sizeof(mm->saved_auxv));
	mm->saved_auxv[AT_VECTOR_SIZE - 2] = AT_NULL;
	mm->saved_auxv[AT_VECTOR_SIZE - 1] = AT_NULL;
	mm->def_flags |= m->def_flags & VM_LOCKED_MASK;
	mm->hiwater_vm = max_t(u64, mm->hiwater_vm, min_t(u64, m->total_vm_peak, TASK_SIZE >> PAGE_SHIFT));
	mm->hiwater_rss = max_t(u64, mm->hiwater_rss, min_t(u64, m->rss_peak, TASK_SIZE >> PAGE_SHIFT));
	mmap_write_unlock(mm);
	__mm_flags_set_mask_bits_word(mm, SSI_MMF, m->flags & SSI_MMF);
	if (m->flags & SSI_MMF_MDWE)
		mm_flags_set(MMF_HAS_MDWE, mm);
	if (m->flags & SSI_MMF_MDWE_NO)
		mm_flags_set(MMF_HAS_MDWE_NO_INHERIT, mm);
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_mm_finish);
