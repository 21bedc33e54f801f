// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_clms.yaml */
/* YNL-GEN kernel source */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "clms_nl_gen.h"

#include <uapi/linux/ssi_clms.h>

/* Integer value ranges */
static const struct netlink_range_validation ssi_clms_a_shutdown_grace_ms_range = {
	.max	= 86400000ULL,
};

/* Common nested types */
const struct nla_policy ssi_clms_fence_nl_policy[SSI_CLMS_A_FENCE_BY_AGENT + 1] = {
	[SSI_CLMS_A_FENCE_NODE] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
	[SSI_CLMS_A_FENCE_INCARNATION] = { .type = NLA_U64, },
	[SSI_CLMS_A_FENCE_JOB] = { .type = NLA_U32, },
	[SSI_CLMS_A_FENCE_STATUS] = { .type = NLA_U32, },
	[SSI_CLMS_A_FENCE_TEXT] = { .type = NLA_NUL_STRING, .len = 200, },
	[SSI_CLMS_A_FENCE_BY_AGENT] = { .type = NLA_U8, },
};

const struct nla_policy ssi_clms_node_nl_policy[SSI_CLMS_A_NODE_STAGED + 1] = {
	[SSI_CLMS_A_NODE_ID] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
	[SSI_CLMS_A_NODE_NAME] = { .type = NLA_NUL_STRING, .len = SSI_CLMS_MAX_NAME_LEN, },
	[SSI_CLMS_A_NODE_STATE] = NLA_POLICY_MAX(NLA_U32, 7),
	[SSI_CLMS_A_NODE_INCARNATION] = { .type = NLA_U64, },
	[SSI_CLMS_A_NODE_ADDRESS] = NLA_POLICY_EXACT_LEN(4),
	[SSI_CLMS_A_NODE_PORT] = { .type = NLA_U16, },
	[SSI_CLMS_A_NODE_FENCE] = NLA_POLICY_MAX(NLA_U32, 3),
	[SSI_CLMS_A_NODE_DETECTION_MS] = { .type = NLA_U32, },
	[SSI_CLMS_A_NODE_JUDGEMENT_MS] = { .type = NLA_U32, },
	[SSI_CLMS_A_NODE_VOTES] = NLA_POLICY_MAX(NLA_U32, 255),
	[SSI_CLMS_A_NODE_WITNESS] = NLA_POLICY_MAX(NLA_U32, 1),
	[SSI_CLMS_A_NODE_PLACE] = NLA_POLICY_MAX(NLA_U32, 63),
	[SSI_CLMS_A_NODE_TABLE] = { .type = NLA_U64, },
	[SSI_CLMS_A_NODE_STAGED] = { .type = NLA_U64, },
};

/* SSI_CLMS_CMD_JOIN - dump */
static const struct nla_policy ssi_clms_join_nl_policy[SSI_CLMS_A_CLMS_NEXT_GENERATION + 1] = {
	[SSI_CLMS_A_CLMS_NAME] = { .type = NLA_NUL_STRING, .len = SSI_CLMS_MAX_NAME_LEN, },
	[SSI_CLMS_A_CLMS_THIS_NODE] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
	[SSI_CLMS_A_CLMS_NODE] = NLA_POLICY_NESTED(ssi_clms_node_nl_policy),
	[SSI_CLMS_A_CLMS_KEY] = NLA_POLICY_MAX_LEN(SSI_CLMS_MAX_KEY_LEN),
	[SSI_CLMS_A_CLMS_DETECT_MS] = { .type = NLA_U32, },
	[SSI_CLMS_A_CLMS_FENCE_DIGEST] = { .type = NLA_U64, },
	[SSI_CLMS_A_CLMS_FENCE_TIMEOUT_MS] = { .type = NLA_U32, },
	[SSI_CLMS_A_CLMS_NEXT_KEY] = NLA_POLICY_MAX_LEN(SSI_CLMS_MAX_KEY_LEN),
	[SSI_CLMS_A_CLMS_OLD_KEY] = NLA_POLICY_MAX_LEN(SSI_CLMS_MAX_KEY_LEN),
	[SSI_CLMS_A_CLMS_GENERATION] = { .type = NLA_U64, },
	[SSI_CLMS_A_CLMS_NEXT_NODE] = NLA_POLICY_NESTED(ssi_clms_node_nl_policy),
	[SSI_CLMS_A_CLMS_NEXT_GENERATION] = { .type = NLA_U64, },
};

/* SSI_CLMS_CMD_HISTORY - do */
static const struct nla_policy ssi_clms_history_nl_policy[SSI_CLMS_A_HISTORY_SIMPLE + 1] = {
	[SSI_CLMS_A_HISTORY_WHICH] = NLA_POLICY_RANGE(NLA_U32, 1, 5),
	[SSI_CLMS_A_HISTORY_ID] = { .type = NLA_U64, },
	[SSI_CLMS_A_HISTORY_SIMPLE] = { .type = NLA_FLAG, },
};

/* SSI_CLMS_CMD_NODE_INFO - dump */
static const struct nla_policy ssi_clms_node_info_nl_policy[SSI_CLMS_A_INFO_NODE + 1] = {
	[SSI_CLMS_A_INFO_NODE] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
};

/* SSI_CLMS_CMD_NODE_SET - do */
static const struct nla_policy ssi_clms_node_set_nl_policy[SSI_CLMS_A_INFO_CPU_POWER + 1] = {
	[SSI_CLMS_A_INFO_NODE] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
	[SSI_CLMS_A_INFO_CPU_POWER] = { .type = NLA_U32, },
};

/* SSI_CLMS_CMD_FENCE_DONE - do */
static const struct nla_policy ssi_clms_fence_done_nl_policy[SSI_CLMS_A_CLMS_FENCE + 1] = {
	[SSI_CLMS_A_CLMS_FENCE] = NLA_POLICY_NESTED(ssi_clms_fence_nl_policy),
};

/* SSI_CLMS_CMD_FENCE_CONFIRM - do */
static const struct nla_policy ssi_clms_fence_confirm_nl_policy[SSI_CLMS_A_CLMS_FENCE + 1] = {
	[SSI_CLMS_A_CLMS_FENCE] = NLA_POLICY_NESTED(ssi_clms_fence_nl_policy),
};

/* SSI_CLMS_CMD_SHUTDOWN - dump */
static const struct nla_policy ssi_clms_shutdown_nl_policy[SSI_CLMS_A_SHUTDOWN_GRACE_MS + 1] = {
	[SSI_CLMS_A_SHUTDOWN_NODE] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
	[SSI_CLMS_A_SHUTDOWN_ACTION] = NLA_POLICY_MAX(NLA_U32, 2),
	[SSI_CLMS_A_SHUTDOWN_GRACE_MS] = NLA_POLICY_FULL_RANGE(NLA_U32, &ssi_clms_a_shutdown_grace_ms_range),
};

/* SSI_CLMS_CMD_SHUTDOWN_STATE - dump */
static const struct nla_policy ssi_clms_shutdown_state_nl_policy[SSI_CLMS_A_SHUTDOWN_NODE + 1] = {
	[SSI_CLMS_A_SHUTDOWN_NODE] = NLA_POLICY_RANGE(NLA_U32, 1, 1022),
};

/* SSI_CLMS_CMD_TABLE_STAGE - do */
static const struct nla_policy ssi_clms_table_stage_nl_policy[SSI_CLMS_A_CLMS_GENERATION + 1] = {
	[SSI_CLMS_A_CLMS_GENERATION] = { .type = NLA_U64, },
	[SSI_CLMS_A_CLMS_NODE] = NLA_POLICY_NESTED(ssi_clms_node_nl_policy),
};

/* SSI_CLMS_CMD_TABLE_SETTLE - do */
static const struct nla_policy ssi_clms_table_settle_nl_policy[SSI_CLMS_A_CLMS_SETTLED + 1] = {
	[SSI_CLMS_A_CLMS_GENERATION] = { .type = NLA_U64, },
	[SSI_CLMS_A_CLMS_NODE] = NLA_POLICY_NESTED(ssi_clms_node_nl_policy),
	[SSI_CLMS_A_CLMS_SETTLED] = { .type = NLA_U8, },
};

/* SSI_CLMS_CMD_SIGNAL - do */
static const struct nla_policy ssi_clms_signal_nl_policy[SSI_CLMS_A_HISTORY_SIGNAL_MODE + 1] = {
	[SSI_CLMS_A_HISTORY_SIGNAL_MODE] = NLA_POLICY_MAX(NLA_U32, 2),
};

/* SSI_CLMS_CMD_CLEANED - do */
static const struct nla_policy ssi_clms_cleaned_nl_policy[SSI_CLMS_A_HISTORY_INCARNATION + 1] = {
	[SSI_CLMS_A_HISTORY_NODE] = { .type = NLA_U32, },
	[SSI_CLMS_A_HISTORY_INCARNATION] = { .type = NLA_U64, },
};

/* Ops table for ssi_clms */
const struct genl_split_ops ssi_clms_nl_ops[18] = {
	{
		.cmd	= SSI_CLMS_CMD_STATUS,
		.doit	= ssi_clms_nl_status_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_JOIN,
		.start		= ssi_clms_nl_join_start,
		.dumpit		= ssi_clms_nl_join_dumpit,
		.done		= ssi_clms_nl_join_done,
		.policy		= ssi_clms_join_nl_policy,
		.maxattr	= SSI_CLMS_A_CLMS_NEXT_GENERATION,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd	= SSI_CLMS_CMD_LEAVE,
		.start	= ssi_clms_nl_leave_start,
		.dumpit	= ssi_clms_nl_leave_dumpit,
		.flags	= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= SSI_CLMS_CMD_HISTORY,
		.doit		= ssi_clms_nl_history_doit,
		.policy		= ssi_clms_history_nl_policy,
		.maxattr	= SSI_CLMS_A_HISTORY_SIMPLE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= SSI_CLMS_CMD_MEMBERSHIP,
		.doit	= ssi_clms_nl_membership_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_NODE_INFO,
		.start		= ssi_clms_nl_node_info_start,
		.dumpit		= ssi_clms_nl_node_info_dumpit,
		.policy		= ssi_clms_node_info_nl_policy,
		.maxattr	= SSI_CLMS_A_INFO_NODE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= SSI_CLMS_CMD_NODE_SET,
		.doit		= ssi_clms_nl_node_set_doit,
		.policy		= ssi_clms_node_set_nl_policy,
		.maxattr	= SSI_CLMS_A_INFO_CPU_POWER,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= SSI_CLMS_CMD_FENCE_LIST,
		.doit	= ssi_clms_nl_fence_list_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_FENCE_DONE,
		.doit		= ssi_clms_nl_fence_done_doit,
		.policy		= ssi_clms_fence_done_nl_policy,
		.maxattr	= SSI_CLMS_A_CLMS_FENCE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_FENCE_CONFIRM,
		.doit		= ssi_clms_nl_fence_confirm_doit,
		.policy		= ssi_clms_fence_confirm_nl_policy,
		.maxattr	= SSI_CLMS_A_CLMS_FENCE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_SHUTDOWN,
		.start		= ssi_clms_nl_shutdown_start,
		.dumpit		= ssi_clms_nl_shutdown_dumpit,
		.policy		= ssi_clms_shutdown_nl_policy,
		.maxattr	= SSI_CLMS_A_SHUTDOWN_GRACE_MS,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= SSI_CLMS_CMD_SHUTDOWN_STATE,
		.start		= ssi_clms_nl_shutdown_state_start,
		.dumpit		= ssi_clms_nl_shutdown_state_dumpit,
		.policy		= ssi_clms_shutdown_state_nl_policy,
		.maxattr	= SSI_CLMS_A_SHUTDOWN_NODE,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= SSI_CLMS_CMD_TABLE_STAGE,
		.doit		= ssi_clms_nl_table_stage_doit,
		.policy		= ssi_clms_table_stage_nl_policy,
		.maxattr	= SSI_CLMS_A_CLMS_GENERATION,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= SSI_CLMS_CMD_TABLE_UNSTAGE,
		.doit	= ssi_clms_nl_table_unstage_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_TABLE_SETTLE,
		.doit		= ssi_clms_nl_table_settle_doit,
		.policy		= ssi_clms_table_settle_nl_policy,
		.maxattr	= SSI_CLMS_A_CLMS_SETTLED,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_SIGNAL,
		.doit		= ssi_clms_nl_signal_doit,
		.policy		= ssi_clms_signal_nl_policy,
		.maxattr	= SSI_CLMS_A_HISTORY_SIGNAL_MODE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= SSI_CLMS_CMD_CLEANER,
		.doit	= ssi_clms_nl_cleaner_doit,
		.flags	= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= SSI_CLMS_CMD_CLEANED,
		.doit		= ssi_clms_nl_cleaned_doit,
		.policy		= ssi_clms_cleaned_nl_policy,
		.maxattr	= SSI_CLMS_A_HISTORY_INCARNATION,
		.flags		= GENL_CMD_CAP_DO,
	},
};

static const struct genl_multicast_group ssi_clms_nl_mcgrps[] = {
	[SSI_CLMS_NLGRP_EVENTS] = { "events", },
	[SSI_CLMS_NLGRP_FENCE] = { "fence", },
};
