// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of a process that moves: those that only it has are read there and put into the new process here.
 */
#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/leafops.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mman.h>
#include <linux/pagewalk.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <asm/pgalloc.h>
#include <asm/tlbflush.h>
#include "../../mm/internal.h"
#include "mm.h"

static int ssi_walk_test(unsigned long start, unsigned long end, struct mm_walk *walk)
{
	return !ssi_vma_has_pages(walk->vma);
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

static const struct mm_walk_ops ssi_pinned_ops = {
	.pte_entry	= ssi_pinned_pte,
	.test_walk	= ssi_walk_test,
	.walk_lock	= PGWALK_RDLOCK,
};

/* May a device or another part of the kernel be writing to pages of the current process? */
bool ssi_pages_pinned(void)
{
	struct mm_struct *mm = current->mm;
	int ret;

	if (!mm_flags_test(MMF_HAS_PINNED, mm))
		return false;
	mmap_read_lock(mm);
	ret = walk_page_range(mm, 0, TASK_SIZE, &ssi_pinned_ops, NULL);
	mmap_read_unlock(mm);
	return ret;
}

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
 * pproc_pages_target() - the memory of the current, new process, for others to fill
 *
 * Return: it, to be given to pproc_pages_target_put(), or an ERR_PTR.
 */
struct mm_struct *pproc_pages_target(void)
{
	if (!ssi_arriving() || !current->mm)
		return ERR_PTR(-EINVAL);
	mmget(current->mm);
	return current->mm;
}
EXPORT_SYMBOL_SSI(pproc_pages_target);

void pproc_pages_target_put(struct mm_struct *mm)
{
	mmput(mm);
}
EXPORT_SYMBOL_SSI(pproc_pages_target_put);

/**
 * pproc_pages_write() - put pages into a new process
 * @mm: from pproc_pages_target()
 * @addrs: their addresses
 * @n: how many
 * @buf: their contents one after the other
 *
 * Return: 0, -EINVAL for an address where no page of the process's own can be, -ENOMEM, -EFAULT, -EINTR.
 */
int pproc_pages_write(struct mm_struct *mm, const u64 *addrs, size_t n, const void *buf)
{
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
			ret = access_remote_vm(mm, addr, (void *)buf, PAGE_SIZE,
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
 * pproc_guards_install() - make guard pages in a new process
 * @mm: from pproc_pages_target()
 * @addrs: their addresses; SSI_PAGE_GUARD in them does not count
 * @n: how many
 *
 * Return: 0, -EINVAL, -ENOMEM.
 */
int pproc_guards_install(struct mm_struct *mm, const u64 *addrs, size_t n)
{
	size_t run;
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i += run) {
		u64 addr = addrs[i] & ~SSI_PAGE_GUARD;

		run = ssi_run(addrs + i, n - i);
		if (!ssi_user_range(addr, addr + run * PAGE_SIZE))
			return -EINVAL;
		ret = do_madvise(mm, addr, run * PAGE_SIZE, MADV_GUARD_INSTALL);
	}
	return ret;
}
EXPORT_SYMBOL_SSI(pproc_guards_install);
