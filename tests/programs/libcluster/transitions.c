// SPDX-License-Identifier: GPL-2.0
/*
 * transitions [-d] [-h|-p] COUNT   follows the cluster by libcluster until there were COUNT transitions
 * transitions -s POWER   sets the speed of this node's processors
 * transitions -x CMD [ARG...]   asks for SIGCLUSTER and becomes CMD
 *
 * The first line says who is up, each further one a transition: "NODE FROM TO CAUSE ID". -d: of all kinds, else those to and
 * from UP. -h: SIGCLUSTER is handled, else it is blocked and waited for; -p: it is waited for, but looked again every
 * 0.2 s. Ends with 0, or 1 if a call gave what it must not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/cluster.h>

#define DIE(...) do { fprintf(stderr, __VA_ARGS__); fprintf(stderr, ": %s\n", strerror(errno)); exit(1); } while (0)

static volatile sig_atomic_t n_signals;

static void handler(int sig)
{
	(void)sig;
	n_signals++;
}

/* Prints what has happened since *id. Return: how many. */
static int drain(int detailed, transid_t *id)
{
	cluster_transinfo_t ti, again;
	transid_t same;
	int n = 0, ret;

	for (;;) {
		if (detailed)
			ret = cluster_detailedtransition(CLUSTER_TRANSWHICH_NEXT, id, sizeof(ti), &ti);
		else
			ret = cluster_transition(id, sizeof(ti), &ti);
		if (ret < 0)
			DIE("next transition");
		if (!ret)
			return n;
		if (ret != sizeof(ti) || ti.transid != *id)
			DIE("%d bytes of %zu, transition %llu", ret, sizeof(ti), (unsigned long long)*id);
		same = *id;
		ret = cluster_detailedtransition(CLUSTER_TRANSWHICH_THIS, &same, sizeof(again), &again);
		if (ret != sizeof(again) || memcmp(&ti, &again, sizeof(ti)))
			DIE("this transition differs");
		printf("%d %d %d %d %llu\n", ti.node, ti.fromstate, ti.tostate, ti.cause, (unsigned long long)ti.transid);
		fflush(stdout);
		n++;
	}
}

static void say_members(transid_t *id)
{
	clusternode_t up[8];
	clusternode_info_t ni;
	int n = cluster_membership(id, 8, up);

	if (n < 0)
		DIE("cluster_membership");
	printf("up");
	for (int i = 0; i < n; i++) {
		printf(" %d", up[i]);
		if (clusternode_avail(up[i]) != 1)
			DIE("clusternode_avail(%d)", up[i]);
		if (clusternode_info(up[i], sizeof(ni), &ni) != sizeof(ni))
			DIE("clusternode_info(%d)", up[i]);
		if (ni.node_num != up[i] || ni.node_state != CLUSTERNODE_UP || ni.node_totalcpus < 1 ||
		    ni.node_onlinecpus < 1 || !ni.node_totalmemory || !ni.node_incarnation || !ni.node_cpupower)
			DIE("facts of node %d", up[i]);
	}
	for (int i = n; i < 8; i++)
		if (up[i])
			DIE("membership is not filled with zeros");
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int detailed = 0, handle = 0, poll = 0, count, opt;
	struct timespec soon = { .tv_nsec = 200000000 };
	struct sigaction sa = { .sa_handler = handler };
	sigset_t set, old;
	transid_t id;
	char name[CLUSTER_NAME_MAX + 1];
	clusternode_info_t ni;

	while ((opt = getopt(argc, argv, "+dhps:x")) != -1) {
		switch (opt) {
		case 'd':
			detailed = 1;
			break;
		case 'h':
			handle = 1;
			break;
		case 'p':
			poll = 1;
			break;
		case 's':
			memset(&ni, 0, sizeof(ni));
			ni.node_cpupower = atoi(optarg);
			if (clusternode_setinfo(clusternode_num(), sizeof(ni), &ni))
				DIE("clusternode_setinfo");
			return 0;
		case 'x':
			if (sigaction(SIGCLUSTER, &sa, NULL) || cluster_sigenable(CLUSTER_SIG_DETAILED))
				DIE("cluster_sigenable");
			execvp(argv[optind], argv + optind);
			DIE("%s", argv[optind]);
		default:
			return 2;
		}
	}
	count = optind < argc ? atoi(argv[optind]) : 0;
	if (count < 1)
		return 2;
	if (clusternode_num() < 1 || cluster_name(name, sizeof(name)) < 1 || cluster_ssiconfig() != 1)
		DIE("this node");
	sigemptyset(&set);
	sigaddset(&set, SIGCLUSTER);
	if (sigprocmask(SIG_BLOCK, &set, &old))
		DIE("sigprocmask");
	if (handle && sigaction(SIGCLUSTER, &sa, NULL))
		DIE("sigaction");
	/* First the signal, then the members: what happens between the two is told. */
	if (cluster_sigenable(detailed ? CLUSTER_SIG_DETAILED : CLUSTER_SIG_SIMPLE))
		DIE("cluster_sigenable");
	say_members(&id);
	while (count > 0) {
		if (handle)
			sigsuspend(&old);
		else if (poll)
			sigtimedwait(&set, NULL, &soon);
		else if (sigwaitinfo(&set, NULL) != SIGCLUSTER)
			DIE("sigwaitinfo");
		count -= drain(detailed, &id);
	}
	if (handle && !n_signals)
		DIE("no signal was handled");
	return 0;
}
