// SPDX-License-Identifier: GPL-2.0
/*
 * mixed FILE [COPY-ON-WRITE-FILE]
 *
 * Builds a process with some of everything that a single-threaded program owns, prints "ready PID", and reads lines
 * from standard input: "check" verifies everything and prints "ok" or what differs, then changes what may change, so
 * that the next check proves writes as well; "quit" (or the end of input) checks once more and exits. SIGUSR1 is
 * "check" too, for a process whose input is elsewhere. Move it between two lines.
 *
 * FILE: an existing file of at least two pages that every node sees as the same file; it is only read. The second,
 * optional, is one that may be written (a file on /shared): it is appended to and its offset is watched.
 *
 * Held: private memory (touched, never touched, read as zeros, guarded, made read-only, PROT_NONE with content, with a
 * hole), copy-on-write pages of data, of a private file mapping and of memory shared with a child before it ended; brk;
 * deep stack; environment and auxiliary vector; vdso; umask, cwd, limits, nice, personality, timer slack, comm, dumpable,
 * no_new_privs, parent-death signal, pid, parent, session and group; file offset, O_APPEND, close-on-exec, duplicates
 * sharing one offset, both ends of a pipe with bytes in it; handlers, mask and queued signals; interval timer disarmed.
 */
#include "test.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#define PAGE 4096ul
#define PAGES 64ul

extern char **environ;

static uint64_t data_pages[8 * PAGE / 8] __attribute__((aligned(4096))) = { 1 };	/* in the program's file: COW */
static uint64_t bss_pages[8 * PAGE / 8] __attribute__((aligned(4096)));
static sigjmp_buf fault_jmp;
static volatile sig_atomic_t faulted, checks_asked;

static void on_fault(int sig)
{
	faulted = sig;
	siglongjmp(fault_jmp, 1);
}

static void on_usr1(int sig)
{
	(void)sig;
	checks_asked++;
}

static void on_rt(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	(void)uc;
}

/* The signal that touching p gives, 0 if none. */
static int touch(volatile uint8_t *p, int write)
{
	faulted = 0;
	if (!sigsetjmp(fault_jmp, 1)) {
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	return faulted;
}

static void *map(size_t n, int prot)
{
	void *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		DIE("mmap");
	return p;
}

static void fill(uint64_t *p, size_t bytes, uint64_t salt)
{
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		p[i] = pattern((uintptr_t)&p[i] ^ salt);
}

static void verify(const uint64_t *p, size_t bytes, uint64_t salt, const char *what)
{
	size_t i;

	for (i = 0; i < bytes / 8; i++)
		if (p[i] != pattern((uintptr_t)&p[i] ^ salt)) {
			CHECK(0, "%s at %p", what, (const void *)&p[i]);
			return;
		}
}

static struct {
	uint64_t round;
	uint64_t *anon, *cow, *shared_cow, *readonly, *none, *brk_mem, *holed, *guarded;
	uint8_t *untouched, *zeros, *file_map, *file_cow, *dontneed;
	int guards;
	size_t brk_len, file_len;
	int fd, fd_dup, fd_cloexec, fd_append, pipe_r, pipe_w, fd_null;
	off_t offset;
	size_t append_len;
	uint8_t *file_ref;
	char cwd[4096], comm[16], env[4096];
	unsigned long auxv[32][2];
	size_t n_aux;
	mode_t mask;
	struct rlimit nofile, core;
	pid_t pid, ppid, pgid, sid;
	int nice_value, pers, slack, dumpable, nnp, pdeath;
	sigset_t blocked;
	uint64_t stack_seed;
} s;

static size_t read_auxv(unsigned long (*to)[2], size_t max)
{
	int fd = open("/proc/self/auxv", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, to, max * sizeof(*to));

	if (n < 0)
		DIE("/proc/self/auxv");
	close(fd);
	return (size_t)n / sizeof(*to);
}

static void join_env(char *to, size_t max)
{
	size_t used = 0;
	char **e;

	for (e = environ; *e && used + strlen(*e) + 2 < max; e++)
		used += (size_t)snprintf(to + used, max - used, "%s\n", *e);
}

static void build(const char *file, const char *append)
{
	struct stat st;
	struct sigaction sa = { 0 };
	pid_t child;
	int fds[2];
	size_t i;

	/* memory */
	s.anon = map(PAGES * PAGE, PROT_READ | PROT_WRITE);
	fill(s.anon, PAGES * PAGE, 0);
	s.untouched = map(PAGES * PAGE, PROT_READ | PROT_WRITE);
	s.zeros = map(PAGES * PAGE, PROT_READ | PROT_WRITE);
	for (i = 0; i < PAGES; i++)
		(void)((volatile uint8_t *)s.zeros)[i * PAGE];		/* the zero page, many times */
	s.dontneed = map(PAGES * PAGE, PROT_READ | PROT_WRITE);
	memset(s.dontneed, 0xee, PAGES * PAGE);
	madvise(s.dontneed + PAGE, PAGE, MADV_DONTNEED);
	s.readonly = map(4 * PAGE, PROT_READ | PROT_WRITE);
	fill(s.readonly, 4 * PAGE, 1);
	mprotect(s.readonly, 4 * PAGE, PROT_READ);
	s.none = map(4 * PAGE, PROT_READ | PROT_WRITE);
	fill(s.none, 4 * PAGE, 2);
	mprotect(s.none, 4 * PAGE, PROT_NONE);
	s.holed = map(3 * PAGE, PROT_READ | PROT_WRITE);
	fill(s.holed, 3 * PAGE, 3);
	munmap((uint8_t *)s.holed + PAGE, PAGE);
	s.guarded = map(4 * PAGE, PROT_READ | PROT_WRITE);
	fill(s.guarded, 4 * PAGE, 4);
	s.guards = !madvise((uint8_t *)s.guarded + PAGE, PAGE, MADV_GUARD_INSTALL);
	if (!s.guards)
		printf("note: this kernel has no guard regions\n");
	s.cow = map(16 * PAGE, PROT_READ | PROT_WRITE);
	fill(s.cow, 16 * PAGE, 5);
	child = fork();				/* shares the pages, writes half of them, and ends */
	if (child == 0) {
		memset(s.cow, 0, 8 * PAGE);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	fill(data_pages + PAGE / 8, sizeof(data_pages) - PAGE, 6);	/* the first page stays the file's */
	fill(bss_pages, sizeof(bss_pages), 7);
	s.brk_mem = sbrk(0);
	s.brk_len = 32 * PAGE;
	if (brk((uint8_t *)s.brk_mem + s.brk_len))
		DIE("brk");
	s.brk_mem = (uint64_t *)(((uintptr_t)s.brk_mem + 7) & ~7ul);
	s.brk_len -= 64;
	fill(s.brk_mem, s.brk_len, 8);

	/* files */
	s.fd = open(file, O_RDONLY);
	if (s.fd < 0 || fstat(s.fd, &st))
		DIE("%s", file);
	s.file_len = st.st_size > (off_t)(8 * PAGE) ? 8 * PAGE : (size_t)st.st_size & ~(PAGE - 1);
	if (s.file_len < 2 * PAGE) {
		fprintf(stderr, "mixed: %s is shorter than two pages\n", file);
		exit(2);
	}
	s.file_ref = malloc(s.file_len);
	if (!s.file_ref || pread(s.fd, s.file_ref, s.file_len, 0) != (ssize_t)s.file_len)
		DIE("read %s", file);
	s.file_map = mmap(NULL, s.file_len, PROT_READ, MAP_PRIVATE, s.fd, 0);
	s.file_cow = mmap(NULL, s.file_len, PROT_READ | PROT_WRITE, MAP_PRIVATE, s.fd, 0);
	if (s.file_map == MAP_FAILED || s.file_cow == MAP_FAILED)
		DIE("mmap %s", file);
	fill((uint64_t *)(void *)(s.file_cow + PAGE), PAGE, 9);		/* one page our own, the others the file's */
	s.fd_dup = fcntl(s.fd, F_DUPFD, 100);
	s.fd_cloexec = open(file, O_RDONLY | O_CLOEXEC);
	s.offset = lseek(s.fd, 1234, SEEK_SET);
	lseek(s.fd_cloexec, 77, SEEK_SET);
	s.fd_append = append ? open(append, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600) : -1;
	if (append && s.fd_append < 0)
		DIE("%s", append);
	if (pipe(fds))
		DIE("pipe");
	s.pipe_r = fds[0];
	s.pipe_w = fds[1];
	if (write(s.pipe_w, "in the pipe", 11) != 11)
		DIE("pipe");
	s.fd_null = open("/dev/null", O_RDWR);

	/* the rest */
	umask(s.mask = 0137);
	if (chdir("/usr"))
		DIE("/usr");
	strcpy(s.cwd, "/usr");
	getrlimit(RLIMIT_NOFILE, &s.nofile);
	s.nofile.rlim_cur = 200;
	setrlimit(RLIMIT_NOFILE, &s.nofile);
	s.core = (struct rlimit){ 4096, 8192 };
	setrlimit(RLIMIT_CORE, &s.core);
	setpriority(PRIO_PROCESS, 0, s.nice_value = 3);
	prctl(PR_SET_NAME, "mixed-soup");
	strcpy(s.comm, "mixed-soup");
	prctl(PR_SET_TIMERSLACK, (unsigned long)(s.slack = 123456));
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	s.nnp = 1;
	prctl(PR_SET_PDEATHSIG, s.pdeath = SIGCONT);
	prctl(PR_SET_DUMPABLE, s.dumpable = 1);
	s.pers = personality(0xffffffff);
	s.pid = getpid();
	s.ppid = getppid();
	s.pgid = getpgid(0);
	s.sid = getsid(0);
	s.n_aux = read_auxv(s.auxv, 32);
	setenv("MIXED", "a value set at run time", 1);
	join_env(s.env, sizeof(s.env));

	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	sa.sa_handler = on_usr1;		/* without SA_RESTART: it interrupts the read of the next line */
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_sigaction = on_rt;
	sa.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER;
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGALRM);
	sigaction(SIGRTMIN + 5, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&s.blocked);
	sigaddset(&s.blocked, SIGUSR2);
	sigaddset(&s.blocked, SIGRTMIN + 1);
	sigprocmask(SIG_SETMASK, &s.blocked, NULL);
	raise(SIGUSR2);
}

static void check_memory(void)
{
	size_t i;

	verify(s.anon, PAGES * PAGE, s.round, "touched memory");
	for (i = 0; i < PAGES * PAGE; i++)
		if (s.zeros[i] || s.untouched[i]) {
			CHECK(0, "zero or untouched memory at +%zu", i);
			break;
		}
	CHECK(s.dontneed[0] == 0xee && s.dontneed[PAGE] == 0 && s.dontneed[2 * PAGE] == 0xee, "dropped page");
	verify(s.readonly, 4 * PAGE, 1, "read-only memory");
	CHECK(touch((uint8_t *)s.readonly, 1) == SIGSEGV, "read-only memory can be written");
	CHECK(touch((uint8_t *)s.none, 0) == SIGSEGV, "PROT_NONE memory can be read");
	mprotect(s.none, 4 * PAGE, PROT_READ | PROT_WRITE);
	verify(s.none, 4 * PAGE, 2, "memory behind PROT_NONE");
	mprotect(s.none, 4 * PAGE, PROT_NONE);
	verify(s.holed, PAGE, 3, "memory before the hole");
	verify(s.holed + 2 * PAGE / 8, PAGE, 3, "memory after the hole");
	CHECK(touch((uint8_t *)s.holed + PAGE, 0) == SIGSEGV, "the hole is mapped");
	verify(s.guarded, PAGE, 4, "memory before the guard");
	verify(s.guarded + 2 * PAGE / 8, 2 * PAGE, 4, "memory after the guard");
	if (s.guards)
		CHECK(touch((uint8_t *)s.guarded + PAGE, 0) == SIGSEGV, "the guard is gone");
	verify(s.cow, 16 * PAGE, 5, "memory once shared with a child");
	CHECK(data_pages[0] == 1, "untouched page of data");
	verify(data_pages + PAGE / 8, sizeof(data_pages) - PAGE, 6, "written pages of data");
	verify(bss_pages, sizeof(bss_pages), 7, "bss");
	verify(s.brk_mem, s.brk_len, 8, "brk memory");
	CHECK((uint8_t *)sbrk(0) >= (uint8_t *)s.brk_mem + s.brk_len, "brk went back");
	CHECK(!memcmp(s.file_map, s.file_ref, s.file_len), "mapped file");
	CHECK(!memcmp(s.file_cow, s.file_ref, PAGE) &&
	      !memcmp(s.file_cow + 2 * PAGE, s.file_ref + 2 * PAGE, s.file_len - 2 * PAGE), "private file mapping, file's pages");
	verify((uint64_t *)(void *)(s.file_cow + PAGE), PAGE, 9, "private file mapping, own page");
	fill(s.anon, PAGES * PAGE, s.round + 1);	/* the next check proves that it can be written here */
}

static void check_files(void)
{
	char buf[64];
	struct stat a, b;

	CHECK(lseek(s.fd, 0, SEEK_CUR) == s.offset, "offset %ld, was %ld", (long)lseek(s.fd, 0, SEEK_CUR), (long)s.offset);
	CHECK(read(s.fd_dup, buf, 10) == 10 && !memcmp(buf, s.file_ref + s.offset, 10), "content at the offset");
	s.offset += 10;
	CHECK(lseek(s.fd, 0, SEEK_CUR) == s.offset, "duplicates no longer share one offset");
	if (s.offset + 10 >= (off_t)s.file_len)
		s.offset = lseek(s.fd, 0, SEEK_SET);
	CHECK(lseek(s.fd_cloexec, 0, SEEK_CUR) == 77, "offset of the second file");
	CHECK(fcntl(s.fd_cloexec, F_GETFD) == FD_CLOEXEC && fcntl(s.fd, F_GETFD) == 0, "close-on-exec");
	CHECK(!fstat(s.fd, &a) && !fstat(s.fd_cloexec, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev, "identity of the file");
	CHECK((fcntl(s.fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "access mode");
	if (s.fd_append >= 0) {
		CHECK(fcntl(s.fd_append, F_GETFL) & O_APPEND, "O_APPEND");
		lseek(s.fd_append, 0, SEEK_SET);
		CHECK(write(s.fd_append, "line\n", 5) == 5, "append: %s", strerror(errno));
		s.append_len += 5;
		CHECK(lseek(s.fd_append, 0, SEEK_CUR) == (off_t)s.append_len, "append went elsewhere");
	}
	memset(buf, 0, sizeof(buf));
	CHECK(read(s.pipe_r, buf, sizeof(buf)) == 11 && !strcmp(buf, "in the pipe"), "bytes in the pipe: '%.11s'", buf);
	CHECK(write(s.pipe_w, "in the pipe", 11) == 11, "write to the pipe: %s", strerror(errno));
	CHECK(write(s.fd_null, "x", 1) == 1 && read(s.fd_null, buf, 1) == 0, "/dev/null");
	CHECK(fcntl(s.fd_null + 1, F_GETFD) == -1 && errno == EBADF, "a descriptor too many");
}

static void check_rest(void)
{
	static char env[4096], cwd[4096], comm[17];
	static unsigned long auxv[32][2];
	const uint8_t *random = (const uint8_t *)getauxval(AT_RANDOM);
	struct rlimit r;
	struct timespec t1, t2;
	struct sigaction sa;
	sigset_t set, pending;
	mode_t mask = umask(0);
	uint64_t clock;
	int sig;

	umask(mask);
	CHECK(mask == s.mask, "umask %o", mask);
	CHECK(getcwd(cwd, sizeof(cwd)) && !strcmp(cwd, s.cwd), "cwd %s", cwd);
	getrlimit(RLIMIT_NOFILE, &r);
	CHECK(r.rlim_cur == 200 && r.rlim_max == s.nofile.rlim_max, "RLIMIT_NOFILE");
	getrlimit(RLIMIT_CORE, &r);
	CHECK(r.rlim_cur == 4096 && r.rlim_max == 8192, "RLIMIT_CORE");
	CHECK(getpriority(PRIO_PROCESS, 0) == s.nice_value, "nice %d", getpriority(PRIO_PROCESS, 0));
	prctl(PR_GET_NAME, comm);
	CHECK(!strcmp(comm, s.comm), "comm %s", comm);
	CHECK(prctl(PR_GET_TIMERSLACK) == s.slack, "timer slack %d", prctl(PR_GET_TIMERSLACK));
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == s.nnp, "no_new_privs");
	CHECK(!prctl(PR_GET_PDEATHSIG, &sig) && sig == s.pdeath, "parent-death signal");
	CHECK(prctl(PR_GET_DUMPABLE) == s.dumpable, "dumpable");
	CHECK(personality(0xffffffff) == s.pers, "personality");
	CHECK(getpid() == s.pid && (pid_t)syscall(SYS_gettid) == s.pid, "pid %d, was %d", (int)getpid(), (int)s.pid);
	CHECK(getppid() == s.ppid, "parent %d, was %d", (int)getppid(), (int)s.ppid);
	CHECK(getpgid(0) == s.pgid && getsid(0) == s.sid, "group or session");
	join_env(env, sizeof(env));
	CHECK(!strcmp(env, s.env), "environment");
	CHECK(read_auxv(auxv, 32) == s.n_aux && !memcmp(auxv, s.auxv, s.n_aux * sizeof(*auxv)), "auxiliary vector");
	CHECK(random && (random[0] | random[1] | random[2] | random[3]), "AT_RANDOM bytes");

	/* The vdso, and the system call behind it: both on this node's clock now. */
	clock_gettime(CLOCK_MONOTONIC, &t1);
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t2);
	clock = (uint64_t)(t2.tv_sec - t1.tv_sec) * 1000000000ull + (uint64_t)t2.tv_nsec - (uint64_t)t1.tv_nsec;
	CHECK(clock < 1000000000ull, "vdso clock is not the kernel's");

	sigprocmask(SIG_BLOCK, NULL, &set);
	for (sig = 1; sig <= SIGRTMAX; sig++)
		CHECK(sigismember(&set, sig) == sigismember(&s.blocked, sig), "mask, signal %d", sig);
	sigpending(&pending);
	CHECK(sigismember(&pending, SIGUSR2) == 1, "pending SIGUSR2");
	sigaction(SIGRTMIN + 5, NULL, &sa);
	CHECK(sa.sa_sigaction == on_rt && (sa.sa_flags & (SA_SIGINFO | SA_RESTART | SA_NODEFER)) ==
	      (SA_SIGINFO | SA_RESTART | SA_NODEFER) && sigismember(&sa.sa_mask, SIGALRM) == 1, "real-time handler");
	sigaction(SIGPIPE, NULL, &sa);
	CHECK(sa.sa_handler == SIG_IGN, "SIGPIPE is no longer ignored");
	sigaction(SIGHUP, NULL, &sa);
	CHECK(sa.sa_handler == SIG_DFL, "SIGHUP has a handler");
}

static int check(void)
{
	pid_t child;
	int status;

	check_memory();
	check_files();
	check_rest();
	/* It must still be able to have children, and to be told of their end. */
	child = fork();
	if (child == 0)
		_exit(42);
	CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42, "a child of its own");
	s.round++;
	return verdict();
}

/* A deep stack whose content is checked on the way back. */
static uint64_t deep(int levels, const char *file, const char *append);

static int serve(void)
{
	char line[64];
	size_t used = 0;

	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	for (;;) {
		ssize_t r = read(0, line + used, sizeof(line) - 1 - used);
		char *nl;

		if (r < 0 && errno == EINTR) {
			while (checks_asked) {
				checks_asked--;
				check();
			}
			continue;
		}
		if (r <= 0)
			return check();
		used += (size_t)r;
		line[used] = 0;
		while ((nl = strchr(line, '\n'))) {
			*nl = 0;
			if (!strcmp(line, "check"))
				check();
			else if (!strcmp(line, "quit"))
				return check();
			else
				printf("unknown: %s\n", line);
			fflush(stdout);
			used -= (size_t)(nl + 1 - line);
			memmove(line, nl + 1, used + 1);
		}
		if (used == sizeof(line) - 1)
			used = 0;
	}
}

static __attribute__((noinline)) uint64_t deep(int levels, const char *file, const char *append)
{
	volatile uint64_t frame[128];
	uint64_t sum = 0, i;

	for (i = 0; i < 128; i++)
		frame[i] = pattern(s.stack_seed + (uint64_t)levels * 128 + i);
	if (levels)
		sum = deep(levels - 1, file, append);
	else {
		build(file, append);
		serve();
	}
	for (i = 0; i < 128; i++)
		if (frame[i] != pattern(s.stack_seed + (uint64_t)levels * 128 + i))
			sum++;
	return sum;
}

int main(int argc, char **argv)
{
	uint64_t bad;

	if (argc < 2 || argc > 3)
		USAGE("mixed FILE [WRITABLE-FILE]");
	s.stack_seed = now_ns();
	bad = deep(200, argv[1], argc > 2 ? argv[2] : NULL);
	CHECK(bad == 0, "%llu words of the deep stack", (unsigned long long)bad);
	return verdict();
}
