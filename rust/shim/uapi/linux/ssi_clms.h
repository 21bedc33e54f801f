/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_clms.yaml */
/* YNL-GEN uapi header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _UAPI_LINUX_SSI_CLMS_H
#define _UAPI_LINUX_SSI_CLMS_H

#define SSI_CLMS_FAMILY_NAME	"ssi_clms"
#define SSI_CLMS_FAMILY_VERSION	1

#define SSI_CLMS_MAX_KEY_LEN	64
#define SSI_CLMS_MAX_NAME_LEN	64

/**
 * enum ssi_clms_node_state - The eight states of a node.
 * @SSI_CLMS_NODE_STATE_NEVERUP: Configured, and not seen since this node
 *   joined. Also the own state before a join.
 * @SSI_CLMS_NODE_STATE_COMINGUP: Admitted, and not yet part of every member's
 *   view.
 * @SSI_CLMS_NODE_STATE_UP: A full member.
 * @SSI_CLMS_NODE_STATE_SHUTDOWN: Asked to leave; its services are being
 *   stopped.
 * @SSI_CLMS_NODE_STATE_GOINGDOWN: Lost or leaving; not judged dead yet.
 * @SSI_CLMS_NODE_STATE_KCLEANUP: Judged dead; the kernel is cleaning up behind
 *   it.
 * @SSI_CLMS_NODE_STATE_UCLEANUP: The kernel has cleaned up; user space is
 *   cleaning up behind it.
 * @SSI_CLMS_NODE_STATE_DOWN: Gone, and nothing of it is left.
 */
enum ssi_clms_node_state {
	SSI_CLMS_NODE_STATE_NEVERUP,
	SSI_CLMS_NODE_STATE_COMINGUP,
	SSI_CLMS_NODE_STATE_UP,
	SSI_CLMS_NODE_STATE_SHUTDOWN,
	SSI_CLMS_NODE_STATE_GOINGDOWN,
	SSI_CLMS_NODE_STATE_KCLEANUP,
	SSI_CLMS_NODE_STATE_UCLEANUP,
	SSI_CLMS_NODE_STATE_DOWN,
};

#define SSI_CLMS_SIGCLUSTER	63

/**
 * enum ssi_clms_which - Which transition is asked for.
 * @SSI_CLMS_WHICH_THIS: The one of that number.
 * @SSI_CLMS_WHICH_NEXT: The first after that number; after 0 the oldest that
 *   is kept.
 * @SSI_CLMS_WHICH_PREVIOUS: The last before that number.
 * @SSI_CLMS_WHICH_FIRST: The oldest that is kept.
 * @SSI_CLMS_WHICH_LAST: The newest.
 */
enum ssi_clms_which {
	SSI_CLMS_WHICH_THIS = 1,
	SSI_CLMS_WHICH_NEXT,
	SSI_CLMS_WHICH_PREVIOUS,
	SSI_CLMS_WHICH_FIRST,
	SSI_CLMS_WHICH_LAST,
};

/**
 * enum ssi_clms_cause - Why a node changed its state, as far as the answering
 *   node knows.
 * @SSI_CLMS_CAUSE_JOINED: It joined.
 * @SSI_CLMS_CAUSE_FOUND: It is in the first view of the node that answers, and
 *   was a member before.
 * @SSI_CLMS_CAUSE_LEFT: It leaves, as it wished.
 * @SSI_CLMS_CAUSE_LOST: The members have a view without it. It died, or was
 *   cut off.
 * @SSI_CLMS_CAUSE_STAYED: It wanted to leave, and stays.
 */
enum ssi_clms_cause {
	SSI_CLMS_CAUSE_JOINED = 1,
	SSI_CLMS_CAUSE_FOUND,
	SSI_CLMS_CAUSE_LEFT,
	SSI_CLMS_CAUSE_LOST,
	SSI_CLMS_CAUSE_STAYED,
};

/**
 * enum ssi_clms_signal_mode - What a process wants SIGCLUSTER for.
 * @SSI_CLMS_SIGNAL_MODE_NONE: Nothing.
 * @SSI_CLMS_SIGNAL_MODE_SIMPLE: Transitions to and from UP.
 * @SSI_CLMS_SIGNAL_MODE_DETAILED: All transitions.
 */
enum ssi_clms_signal_mode {
	SSI_CLMS_SIGNAL_MODE_NONE,
	SSI_CLMS_SIGNAL_MODE_SIMPLE,
	SSI_CLMS_SIGNAL_MODE_DETAILED,
};

enum {
	SSI_CLMS_A_CLMS_NAME = 1,
	SSI_CLMS_A_CLMS_VIEW,
	SSI_CLMS_A_CLMS_QUORATE,
	SSI_CLMS_A_CLMS_MASTER,
	SSI_CLMS_A_CLMS_THIS_NODE,
	SSI_CLMS_A_CLMS_NODE,
	SSI_CLMS_A_CLMS_KEY,
	SSI_CLMS_A_CLMS_DETECT_MS,
	SSI_CLMS_A_CLMS_STATE,
	SSI_CLMS_A_CLMS_FENCE_DIGEST = 40,
	SSI_CLMS_A_CLMS_FENCE_TIMEOUT_MS,
	SSI_CLMS_A_CLMS_FENCE,
	SSI_CLMS_A_CLMS_NEXT_KEY,
	SSI_CLMS_A_CLMS_OLD_KEY,

	__SSI_CLMS_A_CLMS_MAX,
	SSI_CLMS_A_CLMS_MAX = (__SSI_CLMS_A_CLMS_MAX - 1)
};

enum {
	SSI_CLMS_A_NODE_ID = 1,
	SSI_CLMS_A_NODE_NAME,
	SSI_CLMS_A_NODE_STATE,
	SSI_CLMS_A_NODE_INCARNATION,
	SSI_CLMS_A_NODE_ADDRESS,
	SSI_CLMS_A_NODE_PORT,
	SSI_CLMS_A_NODE_FENCE = 40,
	SSI_CLMS_A_NODE_DETECTION_MS,
	SSI_CLMS_A_NODE_JUDGEMENT_MS,
	SSI_CLMS_A_NODE_VOTES,
	SSI_CLMS_A_NODE_WITNESS,

	__SSI_CLMS_A_NODE_MAX,
	SSI_CLMS_A_NODE_MAX = (__SSI_CLMS_A_NODE_MAX - 1)
};

enum {
	SSI_CLMS_A_FENCE_NODE = 1,
	SSI_CLMS_A_FENCE_INCARNATION,
	SSI_CLMS_A_FENCE_JOB,
	SSI_CLMS_A_FENCE_STATUS,
	SSI_CLMS_A_FENCE_TEXT,
	SSI_CLMS_A_FENCE_BY_AGENT,

	__SSI_CLMS_A_FENCE_MAX,
	SSI_CLMS_A_FENCE_MAX = (__SSI_CLMS_A_FENCE_MAX - 1)
};

enum {
	SSI_CLMS_A_HISTORY_ID = 1,
	SSI_CLMS_A_HISTORY_TIME,
	SSI_CLMS_A_HISTORY_NODE,
	SSI_CLMS_A_HISTORY_FROM,
	SSI_CLMS_A_HISTORY_TO,
	SSI_CLMS_A_HISTORY_CAUSE,
	SSI_CLMS_A_HISTORY_WHICH,
	SSI_CLMS_A_HISTORY_SIMPLE,
	SSI_CLMS_A_HISTORY_VIEW,
	SSI_CLMS_A_HISTORY_UP,
	SSI_CLMS_A_HISTORY_MASTER,
	SSI_CLMS_A_HISTORY_SIGNAL_MODE,

	__SSI_CLMS_A_HISTORY_MAX,
	SSI_CLMS_A_HISTORY_MAX = (__SSI_CLMS_A_HISTORY_MAX - 1)
};

enum {
	SSI_CLMS_A_INFO_NODE = 1,
	SSI_CLMS_A_INFO_STATE,
	SSI_CLMS_A_INFO_INCARNATION,
	SSI_CLMS_A_INFO_TOTAL_CPUS,
	SSI_CLMS_A_INFO_ONLINE_CPUS,
	SSI_CLMS_A_INFO_CPU_POWER,
	SSI_CLMS_A_INFO_TOTAL_MEMORY,
	SSI_CLMS_A_INFO_NAME,

	__SSI_CLMS_A_INFO_MAX,
	SSI_CLMS_A_INFO_MAX = (__SSI_CLMS_A_INFO_MAX - 1)
};

enum {
	SSI_CLMS_CMD_STATUS = 1,
	SSI_CLMS_CMD_JOIN,
	SSI_CLMS_CMD_LEAVE,
	SSI_CLMS_CMD_HISTORY = 16,
	SSI_CLMS_CMD_MEMBERSHIP,
	SSI_CLMS_CMD_NODE_INFO,
	SSI_CLMS_CMD_NODE_SET,
	SSI_CLMS_CMD_FENCE_LIST,
	SSI_CLMS_CMD_FENCE_DONE,
	SSI_CLMS_CMD_FENCE_CONFIRM,
	SSI_CLMS_CMD_FENCE_WANTED,
	SSI_CLMS_CMD_SIGNAL = 30,
	SSI_CLMS_CMD_TRANSITION,
	SSI_CLMS_CMD_VIEW,

	__SSI_CLMS_CMD_MAX,
	SSI_CLMS_CMD_MAX = (__SSI_CLMS_CMD_MAX - 1)
};

#define SSI_CLMS_MCGRP_EVENTS	"events"
#define SSI_CLMS_MCGRP_FENCE	"fence"

#endif /* _UAPI_LINUX_SSI_CLMS_H */
