// SPDX-License-Identifier: GPL-2.0
/*
 * regs [-n MILLIONS] [-f FILE] [-r]
 *
 * Holds patterns in every register an x86-64 program has and in the parts of its state that only the kernel keeps,
 * spins without a system call or a library call, and then checks everything. It is to be moved while it spins.
 *
 * -n  spin that many million rounds (default 50); each round compares the low half of
 *     every vector register, the whole of them is compared at the end
 * -f  spin until FILE, mapped shared, has a first byte other than '0' (no system call: the page is read)
 * -r  register an rseq area of the second form, whose fields the kernel compares with what it wrote before, and checks
 *     them; for glibc not to be quicker: GLIBC_TUNABLES=glibc.pthread.rseq=0
 * Without AVX the 16 xmm registers are held instead of ymm. Prints "spinning PID", then "ok" or what differs.
 * Without -f, SIGUSR2 ends the spin too (its handler runs on the alternate stack and is itself checked).
 */
#include "test.h"
#include <cpuid.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <ucontext.h>

struct area {
	uint8_t vec_in[16][32];		/* what the vector registers are loaded with */
	uint8_t vec_out[16][32];	/* what they held at the end */
	uint64_t callee_out[6];		/* rbx r12 r13 r14 r15, and rsi as a caller-saved one */
	uint64_t rounds;
	uint64_t vec_bad;		/* rounds in which a comparison failed */
	uint32_t mxcsr_in, mxcsr_out;
	uint16_t cw_in, cw_out, sw_out;
	uint8_t st_out[8][16];
	uint64_t fs_first_out;		/* %fs:0 read inside the loop's end */
	const volatile uint8_t *flag;
} __attribute__((aligned(64)));

static struct area area;
static volatile sig_atomic_t usr2_seen, usr1_seen, usr2_info_bad;
static uint8_t flag_page[4096] __attribute__((aligned(4096))) = { '0' };
static uint8_t *altstack;
static __thread uint64_t tls_word = 0x715a715a715a715aull;
static const size_t alt_size = 65536;

static void on_usr2(int sig, siginfo_t *si, void *uc)
{
	uint8_t here;

	(void)uc;
	usr2_seen++;
	if (sig != SIGUSR2 || &here < altstack || &here >= altstack + alt_size || si->si_signo != SIGUSR2)
		usr2_info_bad++;
	flag_page[0] = '1';
}

static void on_usr1(int sig)
{
	(void)sig;
	usr1_seen++;
}

static int have_avx(void)
{
	unsigned a, b, c, d, lo, hi;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_AVX) || !(c & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (lo & 6) == 6;
}

/*
 * Each body: load everything, loop, store everything. The loop has rax as its only scratch register and touches no
 * vector register, so a comparison takes the low 64 bits of one register after the other through rax.
 */
#define EACH16(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)

#define LOADY(i) "vmovdqu " #i "*32(%%rdi), %%ymm" #i "\n\t"
#define STOREY(i) "vmovdqu %%ymm" #i ", 512+" #i "*32(%%rdi)\n\t"
#define CMPY(i) "vmovq %%xmm" #i ", %%rax\n\t" "cmpq " #i "*32(%%rdi), %%rax\n\t" "jne 3f\n\t"
#define LOADX(i) "movdqu " #i "*32(%%rdi), %%xmm" #i "\n\t"
#define STOREX(i) "movdqu %%xmm" #i ", 512+" #i "*32(%%rdi)\n\t"
#define CMPX(i) "movq %%xmm" #i ", %%rax\n\t" "cmpq " #i "*32(%%rdi), %%rax\n\t" "jne 3f\n\t"

#define OFF_CALLEE "1024"
#define OFF_ROUNDS "1072"
#define OFF_BAD "1080"
#define OFF_MXCSR_IN "1088"
#define OFF_MXCSR_OUT "1092"
#define OFF_CW_IN "1096"
#define OFF_CW_OUT "1098"
#define OFF_SW_OUT "1100"
#define OFF_ST "1102"
#define OFF_FS "1232"
#define OFF_FLAG "1240"
_Static_assert(offsetof(struct area, vec_out) == 512, "layout");
_Static_assert(offsetof(struct area, callee_out) == 1024, "layout");
_Static_assert(offsetof(struct area, rounds) == 1072, "layout");
_Static_assert(offsetof(struct area, vec_bad) == 1080, "layout");
_Static_assert(offsetof(struct area, mxcsr_in) == 1088, "layout");
_Static_assert(offsetof(struct area, mxcsr_out) == 1092, "layout");
_Static_assert(offsetof(struct area, cw_in) == 1096, "layout");
_Static_assert(offsetof(struct area, cw_out) == 1098, "layout");
_Static_assert(offsetof(struct area, sw_out) == 1100, "layout");
_Static_assert(offsetof(struct area, st_out) == 1102, "layout");
_Static_assert(offsetof(struct area, fs_first_out) == 1232, "layout");
_Static_assert(offsetof(struct area, flag) == 1240, "layout");

#define BODY(LOAD, STORE, CMP, END) \
	__asm__ volatile( \
		"pushq %%rbp\n\t" \
		EACH16(LOAD) \
		"ldmxcsr " OFF_MXCSR_IN "(%%rdi)\n\t" \
		"fninit\n\tfldcw " OFF_CW_IN "(%%rdi)\n\t" \
		"fldpi\n\tfldl2e\n\tfldl2t\n\tfldlg2\n\tfldln2\n\tfld1\n\tfldz\n\t"	/* 7 of 8 slots */ \
		"movabsq $0x1b1b1b1b1b1b1b1b, %%rbx\n\t" \
		"movabsq $0x1212121212121212, %%r12\n\t" \
		"movabsq $0x1313131313131313, %%r13\n\t" \
		"movabsq $0x1414141414141414, %%r14\n\t" \
		"movabsq $0x1515151515151515, %%r15\n\t" \
		"movabsq $0x0606060606060606, %%rsi\n\t" \
		"movabsq $0x0505050505050505, %%rbp\n\t" \
		"movabsq $0x0808080808080808, %%r8\n\t" \
		"movabsq $0x0909090909090909, %%r9\n\t" \
		"movabsq $0x1010101010101010, %%r10\n\t" \
		"movabsq $0x1111111111111111, %%r11\n\t" \
		"movq " OFF_ROUNDS "(%%rdi), %%rcx\n\t" \
		"movq " OFF_FLAG "(%%rdi), %%rdx\n\t" \
		"1:\n\t" \
		EACH16(CMP) \
		"2:\n\t" \
		"cmpb $0x30, (%%rdx)\n\t" "jne 4f\n\t" \
		"subq $1, %%rcx\n\t" "jne 1b\n\t" \
		"jmp 4f\n\t" \
		"3: addq $1, " OFF_BAD "(%%rdi)\n\t" "jmp 2b\n\t" \
		"4:\n\t" \
		EACH16(STORE) \
		"movq %%rbx, " OFF_CALLEE "(%%rdi)\n\t" \
		"movq %%r12, " OFF_CALLEE "+8(%%rdi)\n\t" \
		"movq %%r13, " OFF_CALLEE "+16(%%rdi)\n\t" \
		"movq %%r14, " OFF_CALLEE "+24(%%rdi)\n\t" \
		"movq %%r15, " OFF_CALLEE "+32(%%rdi)\n\t" \
		/* rsi rbp r8 to r11 folded into one word */ \
		"xorq %%rbp, %%rsi\n\t" "xorq %%r8, %%rsi\n\t" "xorq %%r9, %%rsi\n\t" \
		"xorq %%r10, %%rsi\n\t" "xorq %%r11, %%rsi\n\t" \
		"movq %%rsi, " OFF_CALLEE "+40(%%rdi)\n\t" \
		"stmxcsr " OFF_MXCSR_OUT "(%%rdi)\n\t" \
		"fnstcw " OFF_CW_OUT "(%%rdi)\n\t" \
		"fnstsw " OFF_SW_OUT "(%%rdi)\n\t" \
		"fstpt " OFF_ST "(%%rdi)\n\t" "fstpt " OFF_ST "+16(%%rdi)\n\t" "fstpt " OFF_ST "+32(%%rdi)\n\t" \
		"fstpt " OFF_ST "+48(%%rdi)\n\t" "fstpt " OFF_ST "+64(%%rdi)\n\t" "fstpt " OFF_ST "+80(%%rdi)\n\t" \
		"fstpt " OFF_ST "+96(%%rdi)\n\t" \
		"fninit\n\t" \
		"movq %%fs:0, %%rax\n\t" "movq %%rax, " OFF_FS "(%%rdi)\n\t" \
		END \
		"popq %%rbp\n\t" \
		: : "D"(&area) \
		: "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", \
		  "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
		  "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

static __attribute__((noinline)) void spin_avx(void)
{
	BODY(LOADY, STOREY, CMPY, "vzeroupper\n\t");
}

static __attribute__((noinline)) void spin_sse(void)
{
	BODY(LOADX, STOREX, CMPX, "");
}

/* What the seven x87 registers must hold: the same constants, loaded now. */
static void x87_reference(uint8_t st[8][16], uint16_t cw)
{
	__asm__ volatile("fninit\n\tfldcw %1\n\t"
		"fldpi\n\tfldl2e\n\tfldl2t\n\tfldlg2\n\tfldln2\n\tfld1\n\tfldz\n\t"
		"fstpt (%0)\n\tfstpt 16(%0)\n\tfstpt 32(%0)\n\tfstpt 48(%0)\n\tfstpt 64(%0)\n\tfstpt 80(%0)\n\tfstpt 96(%0)\n\t"
		"fninit" : : "r"(st), "m"(cw) : "memory");
}

/* Source: struct rseq of the uAPI, up to mm_cid. */
static struct {
	uint32_t cpu_id_start, cpu_id;
	uint64_t rseq_cs;
	uint32_t flags, node_id, mm_cid;
	uint8_t rest[100];
} rseq_area __attribute__((aligned(128)));

#define RSEQ_LEN	sizeof(rseq_area)
#define RSEQ_SIG	0x53053053u

static void register_rseq(void)
{
	if (syscall(SYS_rseq, &rseq_area, RSEQ_LEN, 0, RSEQ_SIG))
		DIE("rseq");
}

static void check_rseq(void)
{
	CHECK(rseq_area.cpu_id == rseq_area.cpu_id_start && rseq_area.cpu_id < 4096, "rseq's processor %u, %u",
	      rseq_area.cpu_id, rseq_area.cpu_id_start);
	CHECK(!syscall(SYS_rseq, &rseq_area, RSEQ_LEN, 1, RSEQ_SIG), "rseq is not registered any more");
}

int main(int argc, char **argv)
{
	static const char usage[] = "regs [-n MILLIONS] [-f FILE] [-r]";
	static uint8_t st[8][16];
	static const uint64_t callee[5] = { 0x1b1b1b1b1b1b1b1bull, 0x1212121212121212ull, 0x1313131313131313ull,
					    0x1414141414141414ull, 0x1515151515151515ull };
	static const uint64_t folded = 0x0606060606060606ull ^ 0x0505050505050505ull ^ 0x0808080808080808ull ^
				       0x0909090909090909ull ^ 0x1010101010101010ull ^ 0x1111111111111111ull;
	uint64_t millions = 50, fs_before = 0, fs_after = 0, gs_before = 0, gs_after = 0;
	const char *file = NULL;
	bool rseq = false;
	struct sigaction sa = { .sa_sigaction = on_usr2, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART }, old;
	stack_t ss = { 0 }, ss_now;
	sigset_t block, mask, pending;
	union sigval sv = { .sival_int = 4711 };
	siginfo_t si;
	int c, i, avx = have_avx();

	while ((c = getopt(argc, argv, "n:f:r")) != -1) {
		if (c == 'n')
			millions = (uint64_t)number(optarg, 1, 1000000, usage);
		else if (c == 'f')
			file = optarg;
		else if (c == 'r')
			rseq = true;
		else
			USAGE(usage);
	}
	if (rseq)
		register_rseq();

	/* State that only the kernel keeps. */
	altstack = mmap(NULL, alt_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (altstack == MAP_FAILED)
		DIE("mmap");
	ss.ss_sp = altstack;
	ss.ss_size = alt_size;
	if (sigaltstack(&ss, NULL))
		DIE("sigaltstack");
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGHUP);
	sigaction(SIGUSR2, &sa, NULL);
	signal(SIGUSR1, on_usr1);
	signal(SIGWINCH, SIG_IGN);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigaddset(&block, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);						/* thread-directed */
	if (sigqueue(getpid(), SIGRTMIN + 3, sv) || sigqueue(getpid(), SIGRTMIN + 3, sv))	/* two queued, process-wide */
		DIE("sigqueue");
	syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_before);
	/* A GS base of our own: nothing in the program uses it. */
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456789000ull))
		DIE("ARCH_SET_GS");
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs_before);

	for (i = 0; i < 16 * 32; i += 8) {
		uint64_t p = pattern((uint64_t)i + 1);

		memcpy((uint8_t *)area.vec_in + i, &p, 8);
	}
	area.rounds = file ? UINT64_MAX : millions * 1000000;
	area.mxcsr_in = 0x1f80 | 0x6000 | 0x8000 | 0x0040;	/* round to zero, flush to zero, denormals are zero */
	area.cw_in = 0x0a7f;					/* round up, 53 bits, all exceptions masked */
	area.flag = flag_page;
	if (file) {
		int fd = open(file, O_RDONLY);

		if (fd < 0)
			DIE("%s", file);
		area.flag = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		if (area.flag == MAP_FAILED)
			DIE("mmap %s", file);
		close(fd);
	}
	printf("spinning %d %s\n", (int)getpid(), avx ? "avx" : "sse");
	fflush(stdout);

	if (avx)
		spin_avx();
	else
		spin_sse();

	CHECK(area.vec_bad == 0, "vector registers inside the loop, %llu rounds", (unsigned long long)area.vec_bad);
	for (i = 0; i < 16; i++)
		CHECK(!memcmp(area.vec_in[i], area.vec_out[i], avx ? 32 : 16), "%cmm%d", avx ? 'y' : 'x', i);
	for (i = 0; i < 5; i++)
		CHECK(area.callee_out[i] == callee[i], "callee-saved register %d: %#llx", i, (unsigned long long)area.callee_out[i]);
	CHECK(area.callee_out[5] == folded, "rsi, rbp, r8 to r11");
	CHECK(area.mxcsr_out == area.mxcsr_in, "mxcsr %#x, was %#x", area.mxcsr_out, area.mxcsr_in);
	CHECK(area.cw_out == area.cw_in, "x87 control word %#x, was %#x", area.cw_out, area.cw_in);
	CHECK((area.sw_out >> 11 & 7) == 1, "x87 top of stack %d, was 1", area.sw_out >> 11 & 7);
	x87_reference(st, area.cw_in);
	for (i = 0; i < 7; i++)
		CHECK(!memcmp(st[i], area.st_out[i], 10), "st(%d)", i);
	area.mxcsr_out = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(area.mxcsr_out));

	syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_after);
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs_after);
	CHECK(fs_after == fs_before, "FS base %#llx, was %#llx", (unsigned long long)fs_after, (unsigned long long)fs_before);
	CHECK(gs_after == gs_before, "GS base %#llx, was %#llx", (unsigned long long)gs_after, (unsigned long long)gs_before);
	CHECK(area.fs_first_out == fs_before, "%%fs:0 %#llx", (unsigned long long)area.fs_first_out);
	CHECK(tls_word == 0x715a715a715a715aull, "thread-local word");
	if (getauxval(AT_HWCAP2) & 2) {				/* FSGSBASE */
		__asm__ volatile("rdfsbase %0" : "=r"(fs_after));
		CHECK(fs_after == fs_before, "rdfsbase %#llx", (unsigned long long)fs_after);
	}

	if (rseq)
		check_rseq();
	sigaltstack(NULL, &ss_now);
	CHECK(ss_now.ss_sp == altstack && ss_now.ss_size == alt_size && ss_now.ss_flags == 0, "alternate stack");
	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (i = 1; i <= SIGRTMAX; i++)
		CHECK(sigismember(&mask, i) == sigismember(&block, i), "mask, signal %d", i);
	sigpending(&pending);
	CHECK(sigismember(&pending, SIGUSR1) == 1, "SIGUSR1 is not pending");
	CHECK(usr1_seen == 0, "SIGUSR1 came through its mask");
	for (i = 0; i < 2; i++) {
		struct timespec none = { 0, 0 };
		sigset_t rt;

		sigemptyset(&rt);
		sigaddset(&rt, SIGRTMIN + 3);
		CHECK(sigtimedwait(&rt, &si, &none) == SIGRTMIN + 3, "queued signal %d is gone", i);
		CHECK(si.si_value.sival_int == 4711 && si.si_pid == getpid() && si.si_code == SI_QUEUE, "its siginfo");
	}
	sigaction(SIGUSR2, NULL, &old);
	CHECK(old.sa_sigaction == on_usr2 && (old.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_RESTART)) ==
	      (SA_SIGINFO | SA_ONSTACK | SA_RESTART) && sigismember(&old.sa_mask, SIGHUP) == 1, "handler of SIGUSR2");
	sigaction(SIGWINCH, NULL, &old);
	CHECK(old.sa_handler == SIG_IGN, "SIGWINCH is no longer ignored");
	sigprocmask(SIG_UNBLOCK, &block, NULL);
	CHECK(usr1_seen == 1, "pending SIGUSR1 was delivered %d times", (int)usr1_seen);
	i = usr2_seen;
	raise(SIGUSR2);
	CHECK(usr2_seen == i + 1 && !usr2_info_bad, "handler on the alternate stack");
	return verdict();
}
