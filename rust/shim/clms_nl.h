/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the membership's netlink family share.
 */
#ifndef SSI_CLMS_NL_H
#define SSI_CLMS_NL_H

#include <net/genetlink.h>

struct ssi_clms_history_ops;
struct ssi_clms_transition;

extern struct genl_family ssi_clms_family;
extern const struct ssi_clms_history_ops *ssi_clms_history_ops;	/* set while the family is registered */

int ssi_clms_answer(struct sk_buff *msg, void *head, int ret, struct genl_info *info);
int ssi_clms_begun(struct sk_buff *skb, struct netlink_callback *cb);
int ssi_clms_check_admin(struct sk_buff *skb, const struct genl_info *info);
int ssi_clms_end_dump(struct sk_buff *skb, void *head, int ret);
void *ssi_clms_put_dump(struct sk_buff *skb, struct netlink_callback *cb);
int ssi_clms_put_transition(struct sk_buff *msg, const struct ssi_clms_transition *t);
void ssi_clms_events_begin(void);
void ssi_clms_events_end(void);

#endif /* SSI_CLMS_NL_H */
