// SPDX-License-Identifier: GPL-2.0
/*
 * The membership's netlink family: who cleans up in user space when a node has gone down. clms answers.
 */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/netlink.h>
#include <linux/notifier.h>
#include <net/genetlink.h>
#include "clms_nl.h"
#include "clms_nl_gen.h"
#include "shim.h"

static const struct ssi_clms_cleaner_ops *ssi_clms_cleaner_ops;	/* set while the family is registered */

int ssi_clms_nl_cleaner_doit(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	struct sk_buff *msg;
	void *head;
	u64 id = 0;
	int ret;

	ret = ssi_clms_check_admin(skb, info);
	if (ret)
		return ret;
	/* Before: who is told of no answer closes the socket, or asks again. */
	msg = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg)
		return -ENOMEM;
	/* The socket is not closed meanwhile: its owner is in this call. */
	ret = ssi_clms_cleaner_ops->begin(info->snd_portid, &id, &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	if (ret)
		goto free;
	head = genlmsg_iput(msg, info);
	ret = head ? nla_put_u64_64bit(msg, SSI_CLMS_A_HISTORY_ID, id, 0) : -EMSGSIZE;
	if (ret)
		goto free;
	genlmsg_end(msg, head);
	return genlmsg_reply(msg, info);
free:
	nlmsg_free(msg);
	return ret;
}

int ssi_clms_nl_cleaned_doit(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	int ret;

	ret = ssi_clms_check_admin(skb, info);
	if (ret)
		return ret;
	if (GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_HISTORY_NODE) ||
	    GENL_REQ_ATTR_CHECK(info, SSI_CLMS_A_HISTORY_INCARNATION))
		return -EINVAL;
	ret = ssi_clms_cleaner_ops->cleaned(nla_get_u32(info->attrs[SSI_CLMS_A_HISTORY_NODE]),
					    nla_get_u64(info->attrs[SSI_CLMS_A_HISTORY_INCARNATION]),
					    &why);
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	return ret;
}

/* Context: process, who closes a socket. */
static int ssi_clms_cleaner_notify(struct notifier_block *nb, unsigned long event, void *data)
{
	const struct netlink_notify *n = data;

	if (event == NETLINK_URELEASE && n->protocol == NETLINK_GENERIC && net_eq(n->net, &init_net))
		ssi_clms_cleaner_ops->closed(n->portid);
	return NOTIFY_DONE;
}

static struct notifier_block ssi_clms_cleaner_block = {
	.notifier_call = ssi_clms_cleaner_notify,
};

/* Before the family is registered. @ops answer until ssi_clms_cleaner_unregister(). */
int ssi_clms_cleaner_register(const struct ssi_clms_cleaner_ops *ops)
{
	ssi_clms_cleaner_ops = ops;
	return netlink_register_notifier(&ssi_clms_cleaner_block);
}
EXPORT_SYMBOL_GPL(ssi_clms_cleaner_register);

/* After the family is unregistered. Returns when @ops are not called any more. */
void ssi_clms_cleaner_unregister(void)
{
	netlink_unregister_notifier(&ssi_clms_cleaner_block);
}
EXPORT_SYMBOL_GPL(ssi_clms_cleaner_unregister);
