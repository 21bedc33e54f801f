// SPDX-License-Identifier: GPL-2.0
/*
 * Address space of a process that moves, where it arrives. The image comes from another node: hostile until checked.
 */
#include <linux/binfmts.h>
#include <linux/elf.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/namei.h>
#include <linux/pid_namespace.h>
#include <linux/pkeys.h>
#include <linux/prctl.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>
#include <uapi/linux/membarrier.h>
#include <asm/unistd.h>
#include "mm.h"

/*
 * Who decodes an image trusts nothing in it. Return: 0, -EINVAL, or -EPROTO for another version.
 */
static int ssi_mm_decode(const void *buf, size_t len, const struct ssi_vma_image **vmas,
			 const u64 **aux)
{
	const struct ssi_mm_image *m = buf;
	size_t at = sizeof(*m);

	if (!ssi_arriving() || !IS_ALIGNED((unsigned long)buf, sizeof(u64)))
		return -EINVAL;
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
	const struct ssi_move *move = current->ssi;
	struct ssi_file_id id;
	struct vm_area_struct *vma;
	unsigned long start, len;
	int ret;

	if (!ssi_arriving() || !move->exe)
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
 * @why: gets the cause of a refusal
 * @why_len: room there
 *
 * Context: the new process, before it was in user mode. Return: 0; -ESTALE if the program's path leads to another
 * file here; -EINVAL; -EPROTO; what opening it gives.
 */
int pproc_mm_create(const void *buf, size_t len, char *why, size_t why_len)
{
	const struct ssi_mm_image *m = buf;
	const struct ssi_vma_image *v;
	struct ssi_move *move = current->ssi;
	struct ssi_file_id id;
	const char *exe;
	const u64 *aux;
	int ret;

	ret = ssi_mm_decode(buf, len, &v, &aux);
	exe = ret ? NULL : ssi_mm_string(buf, len, m->exe);
	if (!exe || *exe != '/') {
		snprintf(why, why_len, "image of the mappings");
		return ret ?: -EINVAL;
	}
	id = m->exe_id;
	move->exe = &id;
	ret = kernel_execve(exe, (const char *const []){ exe, NULL },
			    (const char *const []){ NULL });
	move->exe = NULL;
	if (ret == -ENOENT || ret == -ENOTDIR)
		ret = -ESTALE;
	if (ret)
		snprintf(why, why_len, "program %s: %s", exe,
			 ret == -ESTALE ? "another file here" : "cannot be run");
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
	/* The search for a free place relies on this. */
	if (!PAGE_ALIGNED(m->mmap_base) || m->mmap_base < SZ_1M || m->mmap_base > TASK_SIZE) {
		snprintf(why, why_len, "mmap base at %llx", m->mmap_base);
		return -EINVAL;
	}
	mmap_write_lock(current->mm);
	current->mm->mmap_base = m->mmap_base;
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
	int ret;

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
	for (int i = 0; i < SSI_NFIELDS; i++) {
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
	mmap_write_lock(mm);
	spin_lock(&mm->arg_lock);
	for (int i = 0; i < SSI_NFIELDS; i++)
		*ssi_mm_field(mm, i) = m->fields[i];
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
