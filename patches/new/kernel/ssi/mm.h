/* SPDX-License-Identifier: GPL-2.0 */
/* What the image of an address space looks like. */
#ifndef _KERNEL_SSI_MM_H
#define _KERNEL_SSI_MM_H

#include <linux/mm.h>
#include <linux/ssi_image.h>
#include "internal.h"

#ifndef __LITTLE_ENDIAN
#error "an image is little-endian; swap its fields here"
#endif

#define SSI_NAME_MAX	80		/* of an anonymous mapping, as in mm/madvise.c */
#define SSI_MM_MAGIC	0x4d4d4953	/* "SIMM" */
#define SSI_MM_VERSION	1

/* Fields of mm_struct that are plain addresses: where they are in it. */
#define SSI_NFIELDS	11
extern const u16 ssi_mm_fields[SSI_NFIELDS];

static inline unsigned long *ssi_mm_field(struct mm_struct *mm, int i)
{
	return (void *)mm + ssi_mm_fields[i];
}

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
	u64 fields[SSI_NFIELDS];	/* as ssi_mm_fields has them */
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

static_assert(sizeof(struct ssi_vma_image) == 128);

/* What of mm->flags crosses. */
#define SSI_MMF		(MMF_DUMP_FILTER_MASK | MMF_DISABLE_THP_MASK | MMF_TOPDOWN_MASK)
#define SSI_MMF_MDWE	BIT_ULL(32)
#define SSI_MMF_MDWE_NO	BIT_ULL(33)

/* Flags of a mapping by which the restored one is judged. */
#define SSI_VM_SAME	(VM_READ | VM_WRITE | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC |	\
			 VM_SHARED | VM_MAYSHARE | VM_GROWSDOWN)
#define SSI_VM_SPECIAL	(VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_HUGETLB)

/* Can pages of @vma be sent or received one by one? */
static inline bool ssi_vma_has_pages(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (SSI_VM_SPECIAL | VM_MAYSHARE | VM_DROPPABLE));
}

static inline bool ssi_user_range(u64 start, u64 end)
{
	return start < end && end <= TASK_SIZE && PAGE_ALIGNED(start) && PAGE_ALIGNED(end);
}

/* Length in pages of the run of neighbours that begins @addrs. */
static inline size_t ssi_run(const u64 *addrs, size_t n)
{
	size_t i = 1;

	while (i < n && addrs[i] == addrs[0] + i * PAGE_SIZE)
		i++;
	return i;
}

bool ssi_pages_pinned(void);

#endif /* _KERNEL_SSI_MM_H */
