/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/ssi_ics.yaml */
/* YNL-GEN kernel header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _LINUX_SSI_ICS_GEN_H
#define _LINUX_SSI_ICS_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/ssi_ics.h>

/* Ops table for ssi_ics */
extern const struct genl_split_ops ssi_ics_nl_ops[7];

int ssi_ics_nl_op_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int ssi_ics_nl_link_get_dumpit(struct sk_buff *skb,
			       struct netlink_callback *cb);
int ssi_ics_nl_key_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int ssi_ics_nl_key_stage_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_ics_nl_key_unstage_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_ics_nl_key_switch_doit(struct sk_buff *skb, struct genl_info *info);
int ssi_ics_nl_key_drop_doit(struct sk_buff *skb, struct genl_info *info);

#endif /* _LINUX_SSI_ICS_GEN_H */
