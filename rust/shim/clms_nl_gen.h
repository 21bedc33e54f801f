/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_clms.yaml */
/* YNL-GEN kernel header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _LINUX_SSI_CLMS_GEN_H
#define _LINUX_SSI_CLMS_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/ssi_clms.h>

/* Common nested types */
extern const struct nla_policy ssi_clms_fence_nl_policy[SSI_CLMS_A_FENCE_BY_AGENT + 1];
extern const struct nla_policy ssi_clms_node_nl_policy[SSI_CLMS_A_NODE_STAGED + 1];

/* Ops table for ssi_clms */
extern const struct genl_split_ops ssi_clms_nl_ops[18];

int ssi_clms_nl_join_start(struct netlink_callback *cb);
int ssi_clms_nl_leave_start(struct netlink_callback *cb);
int ssi_clms_nl_node_info_start(struct netlink_callback *cb);
int ssi_clms_nl_shutdown_start(struct netlink_callback *cb);
int ssi_clms_nl_shutdown_state_start(struct netlink_callback *cb);
int ssi_clms_nl_join_done(struct netlink_callback *cb);

int ssi_clms_nl_status_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_join_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int ssi_clms_nl_leave_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int ssi_clms_nl_history_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_membership_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_node_info_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb);
int ssi_clms_nl_node_set_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_fence_list_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_fence_done_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_fence_confirm_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_shutdown_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb);
int ssi_clms_nl_shutdown_state_dumpit(struct sk_buff *skb,
				      struct netlink_callback *cb);
int ssi_clms_nl_table_stage_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_table_unstage_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_table_settle_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_signal_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_cleaner_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_clms_nl_cleaned_doit(struct sk_buff *skb, struct genl_info *info);

enum {
	SSI_CLMS_NLGRP_EVENTS,
	SSI_CLMS_NLGRP_FENCE,
};

#endif /* _LINUX_SSI_CLMS_GEN_H */
