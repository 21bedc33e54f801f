// SPDX-License-Identifier: GPL-2.0
/*
 * What is x86 about moving a process: a system call made by the kernel, registers, vdso, protection keys.
 */
#include <linux/elf.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/nospec.h>
#include <linux/ptrace.h>
#include <linux/regset.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/ssi.h>
#include <linux/syscalls.h>
#include <asm/cpufeature.h>
#include <asm/cpuid/api.h>
#include <asm/elf.h>
#include <asm/fpu/api.h>
#include <asm/fpu/regset.h>
#include <asm/fpu/sched.h>
#include <asm/fpu/signal.h>
#include <asm/fpu/xstate.h>
#include <asm/mmu_context.h>
#include <asm/pkru.h>
#include <asm/prctl.h>
#include <asm/processor.h>
#include <asm/proto.h>
#include <asm/syscall.h>
#include <asm/vdso.h>
#include <asm/vdso/vsyscall.h>
#include "fpu/internal.h"
#include "fpu/legacy.h"
#include "fpu/xstate.h"
#include "fpu/context.h"
#include "../../../kernel/ssi/internal.h"

/**
 * pproc_syscall() - run a system call in the current process, as if it had made it
 * @nr: number
 * @a: first argument, and so on
 *
 * Pointers are user addresses of the current mm. Return: the call's result.
 */
long pproc_syscall(u32 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct pt_regs regs = {
		.di = a, .si = b, .dx = c, .r10 = d, .r8 = e, .r9 = f,
		.ax = -ENOSYS, .orig_ax = nr,
		.cs = __USER_CS, .ss = __USER_DS, .flags = X86_EFLAGS_IF | X86_EFLAGS_FIXED,
	};

	if (nr >= NR_syscalls)
		return -ENOSYS;
	return sys_call_table[array_index_nospec(nr, NR_syscalls)](&regs);
}
EXPORT_SYMBOL_FOR_MODULES(pproc_syscall, "ssi*");

/* ---------------------------------------------------------------------------------------------- */
/* What a program may use of a processor.                                                         */

/* A bit of ssi_arch_image.features each, in this order. Append only. */
static const u16 ssi_features[] = {
	X86_FEATURE_CX8, X86_FEATURE_CMOV, X86_FEATURE_MMX, X86_FEATURE_FXSR, X86_FEATURE_XMM,
	X86_FEATURE_XMM2, X86_FEATURE_CLFLUSH, X86_FEATURE_XMM3, X86_FEATURE_PCLMULQDQ,
	X86_FEATURE_SSSE3, X86_FEATURE_FMA, X86_FEATURE_CX16, X86_FEATURE_XMM4_1,
	X86_FEATURE_XMM4_2, X86_FEATURE_MOVBE, X86_FEATURE_POPCNT, X86_FEATURE_AES,
	X86_FEATURE_OSXSAVE, X86_FEATURE_AVX, X86_FEATURE_F16C, X86_FEATURE_RDRAND,
	X86_FEATURE_SYSCALL, X86_FEATURE_MMXEXT, X86_FEATURE_RDTSCP, X86_FEATURE_3DNOWEXT,
	X86_FEATURE_3DNOW, X86_FEATURE_LAHF_LM, X86_FEATURE_ABM, X86_FEATURE_SSE4A,
	X86_FEATURE_MISALIGNSSE, X86_FEATURE_3DNOWPREFETCH, X86_FEATURE_XOP, X86_FEATURE_FMA4,
	X86_FEATURE_TBM, X86_FEATURE_FSGSBASE, X86_FEATURE_BMI1, X86_FEATURE_HLE,
	X86_FEATURE_AVX2, X86_FEATURE_BMI2, X86_FEATURE_ERMS, X86_FEATURE_RTM,
	X86_FEATURE_AVX512F, X86_FEATURE_AVX512DQ, X86_FEATURE_RDSEED, X86_FEATURE_ADX,
	X86_FEATURE_AVX512IFMA, X86_FEATURE_CLFLUSHOPT, X86_FEATURE_CLWB, X86_FEATURE_AVX512CD,
	X86_FEATURE_SHA_NI, X86_FEATURE_AVX512BW, X86_FEATURE_AVX512VL, X86_FEATURE_XSAVEOPT,
	X86_FEATURE_XSAVEC, X86_FEATURE_XGETBV1, X86_FEATURE_AVX512VBMI, X86_FEATURE_OSPKE,
	X86_FEATURE_WAITPKG, X86_FEATURE_AVX512_VBMI2, X86_FEATURE_GFNI, X86_FEATURE_VAES,
	X86_FEATURE_VPCLMULQDQ, X86_FEATURE_AVX512_VNNI, X86_FEATURE_AVX512_BITALG,
	X86_FEATURE_AVX512_VPOPCNTDQ, X86_FEATURE_RDPID, X86_FEATURE_MOVDIRI,
	X86_FEATURE_MOVDIR64B, X86_FEATURE_SERIALIZE, X86_FEATURE_AVX_VNNI,
	X86_FEATURE_AVX512_BF16, X86_FEATURE_AVX512_FP16, X86_FEATURE_CLZERO,
};

static_assert(ARRAY_SIZE(ssi_features) <= 128);

static void ssi_features_here(u64 bits[2])
{
	bits[0] = 0;
	bits[1] = 0;
	for (int i = 0; i < ARRAY_SIZE(ssi_features); i++)
		if (test_bit(ssi_features[i], (unsigned long *)boot_cpu_data.x86_capability))
			bits[i / 64] |= BIT_ULL(i % 64);
}

/* General registers: where they are in pt_regs. The order is part of the image. */
static const u8 ssi_gprs[] = {
	offsetof(struct pt_regs, r15), offsetof(struct pt_regs, r14),
	offsetof(struct pt_regs, r13), offsetof(struct pt_regs, r12),
	offsetof(struct pt_regs, bp), offsetof(struct pt_regs, bx),
	offsetof(struct pt_regs, r11), offsetof(struct pt_regs, r10),
	offsetof(struct pt_regs, r9), offsetof(struct pt_regs, r8),
	offsetof(struct pt_regs, ax), offsetof(struct pt_regs, cx),
	offsetof(struct pt_regs, dx), offsetof(struct pt_regs, si),
	offsetof(struct pt_regs, di), offsetof(struct pt_regs, sp),
};

static unsigned long *ssi_gpr(struct pt_regs *regs, int i)
{
	return (void *)regs + ssi_gprs[i];
}

#define SSI_XFEATURES	20

/* Flags that a program can set itself. */
#define SSI_USER_FLAGS	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF |	\
			 X86_EFLAGS_SF | X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_OF |	\
			 X86_EFLAGS_RF | X86_EFLAGS_NT | X86_EFLAGS_AC | X86_EFLAGS_ID)

/* The processor's part of a task's image; @xsave_len bytes in the uncompacted format follow. */
struct ssi_arch_image {
	u64 features[2];
	u64 ip;
	u64 gprs[ARRAY_SIZE(ssi_gprs)];
	u64 flags;
	u64 fs_base;
	u64 gs_base;
	u64 xfeatures;			/* that the process may use */
	u32 xoffset[SSI_XFEATURES];	/* where each is, by cpuid */
	u32 xsize[SSI_XFEATURES];
	u32 xsave_len;
	u32 reserved;
};

static void ssi_xlayout(u32 *offset, u32 *size)
{
	u32 ecx, edx;

	memset(offset, 0, SSI_XFEATURES * sizeof(*offset));
	memset(size, 0, SSI_XFEATURES * sizeof(*size));
	for (int i = FIRST_EXTENDED_XFEATURE; i < SSI_XFEATURES; i++)
		if (fpu_user_cfg.max_features & BIT_ULL(i))
			cpuid_count(CPUID_LEAF_XSTATE, i, &size[i], &offset[i], &ecx, &edx);
}

bool ssi_arch_restarts(void)
{
	return task_pt_regs(current)->ax == __NR_restart_syscall;
}

/* Return: 0, or why the current process's registers cannot be carried elsewhere. */
int ssi_arch_check(char *why, size_t len)
{
	struct pt_regs *regs = task_pt_regs(current);
	struct thread_struct *th = &current->thread;
	u16 fs, gs;

	if (!user_64bit_mode(regs) || regs->cs != __USER_CS || regs->ss != __USER_DS ||
	    test_thread_flag(TIF_ADDR32)) {
		snprintf(why, len, "32-bit process");
		return -EXDEV;
	}
	savesegment(fs, fs);
	savesegment(gs, gs);
	if (fs || gs) {
		snprintf(why, len, "segment registers in use");
		return -EOPNOTSUPP;
	}
	if (th->io_bitmap || th->iopl_emul) {
		snprintf(why, len, "access to I/O ports");
		return -EOPNOTSUPP;
	}
#ifdef CONFIG_X86_USER_SHADOW_STACK
	if (th->features) {
		snprintf(why, len, "shadow stack");
		return -EOPNOTSUPP;
	}
#endif
	if (test_thread_flag(TIF_NOTSC) || test_thread_flag(TIF_NOCPUID)) {
		snprintf(why, len, "TSC or CPUID instruction disabled");
		return -EOPNOTSUPP;
	}
	if (!use_xsave() || (x86_task_fpu(current)->perm.__state_perm & XFEATURE_MASK_USER_DYNAMIC)) {
		snprintf(why, len, "AMX registers");
		return -EOPNOTSUPP;
	}
	return 0;
}

size_t ssi_arch_size(void)
{
	return sizeof(struct ssi_arch_image) + fpu_user_cfg.max_size;
}

/* @buf has room for ssi_arch_size() bytes. */
int ssi_arch_capture(void *buf, size_t len)
{
	struct pt_regs *regs = task_pt_regs(current);
	struct ssi_arch_image *a = buf;

	memset(buf, 0, len);
	ssi_features_here(a->features);
	a->ip = regs->ip;
	for (int i = 0; i < ARRAY_SIZE(ssi_gprs); i++)
		a->gprs[i] = *ssi_gpr(regs, i);
	a->flags = regs->flags & SSI_USER_FLAGS;
	preempt_disable();
	current_save_fsgs();
	a->fs_base = current->thread.fsbase;
	a->gs_base = current->thread.gsbase;
	/* For the current task only the register is right; the register set reads this. */
	if (cpu_feature_enabled(X86_FEATURE_OSPKE))
		current->thread.pkru = read_pkru();
	preempt_enable();
	a->xfeatures = fpu_user_cfg.max_features & ~XFEATURE_MASK_USER_DYNAMIC;
	ssi_xlayout(a->xoffset, a->xsize);
	a->xsave_len = fpu_user_cfg.max_size;
	return xstateregs_get(current, NULL, (struct membuf){ .p = a + 1, .left = a->xsave_len });
}

/* Return: 0, -EINVAL, or -ENOEXEC if this processor has less than the process may use. */
int ssi_arch_verify(const void *buf, size_t len, char *why, size_t why_len)
{
	const struct ssi_arch_image *a = buf;
	u32 offset[SSI_XFEATURES], size[SSI_XFEATURES];
	const struct xstate_header *h;
	u64 here[2];

	if (len < sizeof(*a) || a->xsave_len > SZ_32K || a->xsave_len != len - sizeof(*a) ||
	    a->xsave_len < FXSAVE_SIZE + XSAVE_HDR_SIZE) {
		snprintf(why, why_len, "image of the registers");
		return -EINVAL;
	}
	ssi_features_here(here);
	for (int i = 0; i < 128; i++) {
		if (!(a->features[i / 64] & ~here[i / 64] & BIT_ULL(i % 64)))
			continue;
		if (i < ARRAY_SIZE(ssi_features))
			snprintf(why, why_len, "processor feature %d:%d", ssi_features[i] / 32,
				 ssi_features[i] % 32);
		else
			snprintf(why, why_len, "processor feature");
		return -ENOEXEC;
	}
	h = (const void *)(a + 1) + FXSAVE_SIZE;
	if (!use_xsave() || a->xfeatures & ~fpu_user_cfg.max_features ||
	    h->xfeatures & ~a->xfeatures) {
		snprintf(why, why_len, "processor state components %llx", a->xfeatures);
		return -ENOEXEC;
	}
	ssi_xlayout(offset, size);
	for (int i = FIRST_EXTENDED_XFEATURE; i < SSI_XFEATURES; i++) {
		if (!(a->xfeatures & BIT_ULL(i)))
			continue;
		if (a->xoffset[i] != offset[i] || a->xsize[i] != size[i] ||
		    (u64)offset[i] + size[i] > a->xsave_len) {
			snprintf(why, why_len, "place of processor state component %d", i);
			return -ENOEXEC;
		}
	}
	return 0;
}

static int ssi_fpu_install(const struct ssi_arch_image *a)
{
	struct fpu *fpu = x86_task_fpu(current);
	size_t len = max_t(size_t, a->xsave_len, fpu_user_cfg.max_size);
	u32 pkru = 0;
	void *buf;
	int ret;

	/* Copied whole, so that nothing beyond what came is looked at. */
	buf = kvzalloc(len, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	memcpy(buf, a + 1, a->xsave_len);
	fpregs_lock();
	if (!test_thread_flag(TIF_NEED_FPU_LOAD)) {
		/* Keeps what only the kernel may set, as __fpu_restore_sig() does. */
		if (xfeatures_mask_supervisor())
			os_xsave(fpu->fpstate);
		set_thread_flag(TIF_NEED_FPU_LOAD);
	}
	__fpu_invalidate_fpregs_state(fpu);
	__cpu_invalidate_fpregs_state();
	fpregs_unlock();
	ret = copy_uabi_from_kernel_to_xstate(fpu->fpstate, buf, &pkru);
	if (!ret && cpu_feature_enabled(X86_FEATURE_OSPKE)) {
		preempt_disable();
		current->thread.pkru = pkru;
		write_pkru(pkru);
		preempt_enable();
	}
	kvfree(buf);
	return ret;
}

/* Return: 0, -EINVAL, -ENOMEM. */
int ssi_arch_install(struct pt_regs *regs, const void *buf, size_t len)
{
	const struct ssi_arch_image *a = buf;
	char why[48];
	int ret;

	ret = ssi_arch_verify(buf, len, why, sizeof(why));
	if (ret)
		return ret;
	/* Returning to an address that is not canonical faults in the kernel on some processors. */
	if (a->ip >= TASK_SIZE_MAX || a->fs_base >= TASK_SIZE_MAX ||
	    a->gs_base >= TASK_SIZE_MAX)
		return -EINVAL;
	ret = ssi_fpu_install(a);
	if (ret)
		return ret;
	ret = do_arch_prctl_64(current, ARCH_SET_FS, a->fs_base) ?:
	      do_arch_prctl_64(current, ARCH_SET_GS, a->gs_base);
	if (ret)
		return -EINVAL;
	/* One by one: what the processor keeps beside them must stay. */
	for (int i = 0; i < ARRAY_SIZE(ssi_gprs); i++)
		*ssi_gpr(regs, i) = a->gprs[i];
	regs->ip = a->ip;
	regs->flags = (a->flags & SSI_USER_FLAGS) | X86_EFLAGS_IF | X86_EFLAGS_FIXED;
	regs->cs = __USER_CS;
	regs->ss = __USER_DS;
	/* No system call to restart. */
	regs->orig_ax = -1;
	return 0;
}

/* ---------------------------------------------------------------------------------------------- */
/* Address space.                                                                                 */

void ssi_arch_new_mm(void)
{
	set_personality_64bit();
}

/* Return: where the mappings of the vdso and its data begin, or 0. */
unsigned long ssi_arch_vdso_range(unsigned long *len)
{
	struct mm_struct *mm = current->mm;
	unsigned long vdso = (unsigned long)mm->context.vdso;

	if (!vdso || !mm->context.vdso_image || vdso < __VDSO_PAGES * PAGE_SIZE)
		return 0;
	*len = __VDSO_PAGES * PAGE_SIZE + mm->context.vdso_image->size;
	return vdso - __VDSO_PAGES * PAGE_SIZE;
}

int ssi_arch_mm_check(char *why, size_t len)
{
	mm_context_t *c = &current->mm->context;

#ifdef CONFIG_MODIFY_LDT_SYSCALL
	if (c->ldt) {
		snprintf(why, len, "local descriptor table");
		return -EOPNOTSUPP;
	}
#endif
#ifdef CONFIG_ADDRESS_MASKING
	if (c->lam_cr3_mask) {
		snprintf(why, len, "tagged addresses");
		return -EOPNOTSUPP;
	}
#endif
	if (c->vdso_image && c->vdso_image != &vdso64_image) {
		snprintf(why, len, "32-bit process");
		return -EXDEV;
	}
	return 0;
}

/* Is there still a mapping where the vdso was put? A program may have removed it. */
static bool ssi_vdso_there(void)
{
	unsigned long len, start = ssi_arch_vdso_range(&len);
	struct vm_area_struct *vma;
	bool ret;

	if (!start)
		return false;
	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, start + __VDSO_PAGES * PAGE_SIZE);
	ret = vma && !vma_is_anonymous(vma) && !vma->vm_file;
	mmap_read_unlock(current->mm);
	return ret;
}

void ssi_arch_mm_capture(struct ssi_arch_mm *a)
{
	mm_context_t *c = &current->mm->context;

	a->vdso = ssi_vdso_there() ? (unsigned long)c->vdso : 0;
	a->pkeys = 1;
	a->exec_pkey = -1;
#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS
	if (cpu_feature_enabled(X86_FEATURE_OSPKE)) {
		a->pkeys = c->pkey_allocation_map;
		a->exec_pkey = c->execute_only_pkey;
	}
#endif
}

/* Before the mappings are made. Return: 0, -EINVAL, -ENOEXEC without protection keys, -EADDRNOTAVAIL. */
int ssi_arch_mm_restore(const struct ssi_arch_mm *a)
{
	mm_context_t *c = &current->mm->context;
	unsigned long below = __VDSO_PAGES * PAGE_SIZE;
	long ret;

	if (a->pkeys > U16_MAX || a->exec_pkey < -1 || a->exec_pkey > 15)
		return -EINVAL;
	if (cpu_feature_enabled(X86_FEATURE_OSPKE)) {
#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS
		mmap_write_lock(current->mm);
		c->pkey_allocation_map = a->pkeys | 1;
		c->execute_only_pkey = a->exec_pkey;
		mmap_write_unlock(current->mm);
#endif
	} else if (a->pkeys & ~1) {
		return -ENOEXEC;
	}
	if (!a->vdso)
		return 0;
	if (a->vdso >= TASK_SIZE_MAX || !PAGE_ALIGNED(a->vdso) || a->vdso <= below)
		return -EINVAL;
	/* The address is but a hint. */
	ret = do_arch_prctl_64(current, ARCH_MAP_VDSO_64, a->vdso - below);
	if (ret < 0)
		return ret;
	return (unsigned long)c->vdso == a->vdso ? 0 : -EADDRNOTAVAIL;
}
