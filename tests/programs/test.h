/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the guest test programs share: complaints, the clock, and statistics printed as JSON.
 * No program here knows the cluster: each checks promises any kernel keeps, and is moved from outside.
 */
#ifndef TEST_H
#define TEST_H

#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int n_bad __attribute__((unused));

/* Notes a broken promise and goes on. */
#define CHECK(cond, ...) do { if (!(cond)) { n_bad++; printf("differs: " __VA_ARGS__); putchar('\n'); } } while (0)

#define DIE(...) do { fprintf(stderr, __VA_ARGS__); fprintf(stderr, ": %s\n", strerror(errno)); exit(1); } while (0)
#define USAGE(text) do { fprintf(stderr, "usage: %s\n", text); exit(2); } while (0)

/* Says "ok" or "bad" and gives the exit code. */
static inline int verdict(void)
{
	puts(n_bad ? "bad" : "ok");
	fflush(stdout);
	return n_bad ? 1 : 0;
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static inline long number(const char *s, long min, long max, const char *usage)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno || *end || end == s || v < min || v > max)
		USAGE(usage);
	return v;
}

/* A mixer whose output no compressor shrinks; x is the address or the index. */
static inline uint64_t pattern(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* One JSON object on one line: median and 99th percentile of n samples in ns, and the samples' number. */
static inline void print_stats(const char *name, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	printf("{\"name\":\"%s\",\"unit\":\"ns\",\"n\":%zu,\"min\":%llu,\"p50\":%llu,\"p99\":%llu,\"max\":%llu}\n", name, n,
	       (unsigned long long)ns[0], (unsigned long long)ns[n / 2],
	       (unsigned long long)ns[n * 99 / 100], (unsigned long long)ns[n - 1]);
	fflush(stdout);
}

#endif
