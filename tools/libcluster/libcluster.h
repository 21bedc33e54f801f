/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The cluster's membership for programs. Also installed as <sys/cluster.h>; link with -lcluster.
 *
 * Names and calls are those of OpenSSI's libcluster as far as its texts give them. What they do not give, such as the
 * members of structures and some arguments, is ours, and the manual pages say so: libcluster(7), and section 3ssi.
 */
#ifndef LIBCLUSTER_H
#define LIBCLUSTER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A node's number, 1 to cluster_maxnodes(). */
typedef int32_t clusternode_t;

/* A transition's number, larger than those of all before it. 0: before all. */
typedef uint64_t transid_t;

/* The states of a node. */
#define CLUSTERNODE_NEVERUP	0
#define CLUSTERNODE_COMINGUP	1
#define CLUSTERNODE_UP		2
#define CLUSTERNODE_SHUTDOWN	3
#define CLUSTERNODE_GOINGDOWN	4
#define CLUSTERNODE_KCLEANUP	5
#define CLUSTERNODE_UCLEANUP	6
#define CLUSTERNODE_DOWN	7

/* Which transition cluster_detailedtransition() gives. */
#define CLUSTER_TRANSWHICH_THIS		1
#define CLUSTER_TRANSWHICH_NEXT		2
#define CLUSTER_TRANSWHICH_PREVIOUS	3
#define CLUSTER_TRANSWHICH_FIRST	4
#define CLUSTER_TRANSWHICH_LAST		5

/* Why a node changed its state, as far as this node knows. */
#define CLUSTER_CAUSE_JOINED	1	/* it joined */
#define CLUSTER_CAUSE_FOUND	2	/* in this node's first view, and was a member before */
#define CLUSTER_CAUSE_LEFT	3	/* it leaves, as it wished */
#define CLUSTER_CAUSE_LOST	4	/* the members have a view without it */
#define CLUSTER_CAUSE_STAYED	5	/* it wanted to leave, and stays */

/* Sent to a process that has asked for it by cluster_sigenable(). */
#define SIGCLUSTER		63

/* What a process asks for it for. */
#define CLUSTER_SIG_NONE	0	/* nothing */
#define CLUSTER_SIG_SIMPLE	1	/* transitions to and from CLUSTERNODE_UP */
#define CLUSTER_SIG_DETAILED	2	/* all transitions */

/* Longest name of a cluster or a node, without the closing zero. */
#define CLUSTER_NAME_MAX	64

typedef struct cluster_transinfo {
	transid_t	transid;
	int64_t		time_sec;	/* when this node noted it, by its clock, since the epoch */
	uint32_t	time_nsec;
	clusternode_t	node;
	int32_t		fromstate;	/* CLUSTERNODE_... */
	int32_t		tostate;
	int32_t		cause;		/* CLUSTER_CAUSE_... */
} cluster_transinfo_t;

typedef struct clusternode_info {
	clusternode_t	node_num;
	int32_t		node_state;	/* CLUSTERNODE_... */
	int32_t		node_totalcpus;	/* this and what follows is 0 if the node could not be asked */
	int32_t		node_onlinecpus;
	uint32_t	node_cpupower;	/* speed of one processor, for comparison */
	uint32_t	node_reserved;
	uint64_t	node_totalmemory;	/* bytes */
	uint64_t	node_incarnation;	/* one life of the node; 0: it never joined */
	char		node_name[CLUSTER_NAME_MAX + 8];
} clusternode_info_t;

int clusternode_avail(clusternode_t nodenum);
int cluster_membership(transid_t *transid, int arraylength, clusternode_t *membershiparray);
int cluster_transition(transid_t *transid, int size, cluster_transinfo_t *ti);
int cluster_detailedtransition(int which, transid_t *transid, int size, cluster_transinfo_t *ti);
int clusternode_info(clusternode_t node, int size, clusternode_info_t *ni);
int clusternode_setinfo(clusternode_t node, int size, const clusternode_info_t *ni);
int cluster_maxnodes(void);
clusternode_t clusternode_num(void);
int cluster_name(char *name, int size);
int cluster_ssiconfig(void);
int cluster_sigenable(int mode);

#ifdef __cplusplus
}
#endif

#endif /* LIBCLUSTER_H */
