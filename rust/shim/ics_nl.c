// SPDX-License-Identifier: GPL-2.0
/*
 * The interconnect's netlink family: plain structures to attributes. ics answers.
 */
#include <linux/export.h>
#include <linux/module.h>
#include <linux/rwsem.h>
#include <net/genetlink.h>
#include "ics_nl_gen.h"
#include "shim.h"

static_assert(SSI_ICS_N_BUCKETS == SSI_ICS_BUCKETS);
static_assert(SSI_ICS_KEY == SSI_ICS_MAX_KEY_LEN);

static const struct ssi_ics_ops *ssi_ics_ops;	/* set while the family is registered */
static DECLARE_RWSEM(ssi_ics_lock);		/* held while they answer */

static struct genl_family ssi_ics_family = {
	.name		= SSI_ICS_FAMILY_NAME,
	.version	= SSI_ICS_FAMILY_VERSION,
	.netnsok	= false,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.split_ops	= ssi_ics_nl_ops,
	.n_split_ops	= ARRAY_SIZE(ssi_ics_nl_ops),
};

static int ssi_ics_put_op(struct sk_buff *msg, const struct ssi_ics_op *op)
{
	if (nla_put_string(msg, SSI_ICS_A_OP_SERVICE, op->service) ||
	    nla_put_string(msg, SSI_ICS_A_OP_OP, op->op) ||
	    nla_put_u16(msg, SSI_ICS_A_OP_SERVICE_ID, op->service_id) ||
	    nla_put_u16(msg, SSI_ICS_A_OP_OP_ID, op->op_id) ||
	    nla_put_u8(msg, SSI_ICS_A_OP_CLASS, op->class) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_CALLS, op->calls, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_REPLIES, op->replies, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_ERRORS, op->errors, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_BYTES_OUT, op->bytes_out, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_BYTES_IN, op->bytes_in, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_SERVED, op->served, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_OP_SERVED_ERRORS, op->served_errors, 0))
		return -EMSGSIZE;
	for (int i = 0; i < SSI_ICS_N_BUCKETS; i++)
		if (nla_put_u64_64bit(msg, SSI_ICS_A_OP_LATENCY, op->latency[i], 0))
			return -EMSGSIZE;
	return 0;
}

static int ssi_ics_put_link(struct sk_buff *msg, const struct ssi_ics_link *link)
{
	if (nla_put_u32(msg, SSI_ICS_A_LINK_NODE, link->node) ||
	    nla_put_u32(msg, SSI_ICS_A_LINK_LINK, link->link) ||
	    nla_put_in_addr(msg, SSI_ICS_A_LINK_ADDRESS, htonl(link->address)) ||
	    nla_put_u32(msg, SSI_ICS_A_LINK_STATE, link->state) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_LINK_STREAMS, link->streams, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_LINK_FRAMES_OUT, link->frames_out, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_LINK_BYTES_OUT, link->bytes_out, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_LINK_FRAMES_IN, link->frames_in, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_LINK_BYTES_IN, link->bytes_in, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_LINK_RESENT, link->resent, 0))
		return -EMSGSIZE;
	return 0;
}

static int ssi_ics_put_key(struct sk_buff *msg, const struct ssi_ics_key *key)
{
	if (nla_put_u32(msg, SSI_ICS_A_KEY_NODE, key->node) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_KEY_USED, key->used, 0) ||
	    nla_put_u64_64bit(msg, SSI_ICS_A_KEY_SECOND, key->second, 0) ||
	    nla_put_u32(msg, SSI_ICS_A_KEY_SECOND_IS, key->second_is))
		return -EMSGSIZE;
	return 0;
}

/* A message for one row of a dump; ssi_ics_end() with what became of it. Return: its head, NULL without room. */
static void *ssi_ics_begin(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd)
{
	return genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &ssi_ics_family,
			   NLM_F_MULTI, cmd);
}

static int ssi_ics_end(struct sk_buff *skb, void *head, int ret)
{
	if (ret)
		genlmsg_cancel(skb, head);
	else
		genlmsg_end(skb, head);
	return ret;
}

/* cb->args[0] is the row that comes next. */
static int ssi_ics_dump_ops(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ssi_ics_op op;
	void *head;

	for (;; cb->args[0]++) {
		memset(&op, 0, sizeof(op));
		if (ssi_ics_ops->op(cb->args[0], &op))
			return skb->len;
		head = ssi_ics_begin(skb, cb, SSI_ICS_CMD_OP_GET);
		if (!head || ssi_ics_end(skb, head, ssi_ics_put_op(skb, &op)))
			return skb->len ?: -EMSGSIZE;
	}
}

static int ssi_ics_dump_links(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ssi_ics_link link;
	void *head;

	for (;; cb->args[0]++) {
		memset(&link, 0, sizeof(link));
		if (ssi_ics_ops->link(cb->args[0], &link))
			return skb->len;
		head = ssi_ics_begin(skb, cb, SSI_ICS_CMD_LINK_GET);
		if (!head || ssi_ics_end(skb, head, ssi_ics_put_link(skb, &link)))
			return skb->len ?: -EMSGSIZE;
	}
}

static int ssi_ics_dump_keys(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct ssi_ics_key key;
	void *head;

	for (;; cb->args[0]++) {
		memset(&key, 0, sizeof(key));
		if (ssi_ics_ops->key(cb->args[0], &key))
			return skb->len;
		head = ssi_ics_begin(skb, cb, SSI_ICS_CMD_KEY_GET);
		if (!head || ssi_ics_end(skb, head, ssi_ics_put_key(skb, &key)))
			return skb->len ?: -EMSGSIZE;
	}
}

/* A dump goes on after the family is gone, as long as its socket is read. */
static int ssi_ics_dump(struct sk_buff *skb, struct netlink_callback *cb,
			int (*dump)(struct sk_buff *skb, struct netlink_callback *cb))
{
	int ret;

	down_read(&ssi_ics_lock);
	ret = ssi_ics_ops ? dump(skb, cb) : -ENODEV;
	up_read(&ssi_ics_lock);
	return ret;
}

int ssi_ics_nl_op_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return ssi_ics_dump(skb, cb, ssi_ics_dump_ops);
}

int ssi_ics_nl_link_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	return ssi_ics_dump(skb, cb, ssi_ics_dump_links);
}

/* A fingerprint makes a key that people have made up easy to guess: not for everybody. */
int ssi_ics_nl_key_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	if (!netlink_capable(cb->skb, CAP_SYS_ADMIN))
		return -EPERM;
	return ssi_ics_dump(skb, cb, ssi_ics_dump_keys);
}

static int ssi_ics_ask_key_stage(struct genl_info *info, const char **why)
{
	u8 secret[SSI_ICS_KEY] = {};
	int len, ret;

	if (GENL_REQ_ATTR_CHECK(info, SSI_ICS_A_KEY_SECRET))
		return -EINVAL;
	len = nla_memcpy(secret, info->attrs[SSI_ICS_A_KEY_SECRET], sizeof(secret));
	ret = ssi_ics_ops->key_stage(secret, len, why);
	memzero_explicit(secret, sizeof(secret));
	return ret;
}

static int ssi_ics_ask_key_unstage(struct genl_info *info, const char **why)
{
	return ssi_ics_ops->key_unstage(why);
}

static int ssi_ics_ask_key_switch(struct genl_info *info, const char **why)
{
	if (GENL_REQ_ATTR_CHECK(info, SSI_ICS_A_KEY_USED))
		return -EINVAL;
	return ssi_ics_ops->key_switch(nla_get_u64(info->attrs[SSI_ICS_A_KEY_USED]), why);
}

static int ssi_ics_ask_key_drop(struct genl_info *info, const char **why)
{
	if (GENL_REQ_ATTR_CHECK(info, SSI_ICS_A_KEY_USED))
		return -EINVAL;
	return ssi_ics_ops->key_drop(nla_get_u64(info->attrs[SSI_ICS_A_KEY_USED]), why);
}

/* For administrators: asks Rust, and gives its text with a refusal. */
static int ssi_ics_change_key(struct sk_buff *skb, struct genl_info *info,
			      int (*ask)(struct genl_info *info, const char **why))
{
	const char *why = NULL;
	int ret;

	if (!netlink_capable(skb, CAP_SYS_ADMIN)) {
		GENL_SET_ERR_MSG(info, "only an administrator (CAP_SYS_ADMIN) may do that");
		return -EPERM;
	}
	down_read(&ssi_ics_lock);
	ret = ssi_ics_ops ? ask(info, &why) : -ENODEV;
	if (why)
		GENL_SET_ERR_MSG_FMT(info, "%s", why);
	up_read(&ssi_ics_lock);
	return ret;
}

int ssi_ics_nl_key_stage_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_ics_change_key(skb, info, ssi_ics_ask_key_stage);
}

int ssi_ics_nl_key_unstage_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_ics_change_key(skb, info, ssi_ics_ask_key_unstage);
}

int ssi_ics_nl_key_switch_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_ics_change_key(skb, info, ssi_ics_ask_key_switch);
}

int ssi_ics_nl_key_drop_doit(struct sk_buff *skb, struct genl_info *info)
{
	return ssi_ics_change_key(skb, info, ssi_ics_ask_key_drop);
}

/* Registers the family. @ops answers until ssi_ics_nl_unregister(). */
int ssi_ics_nl_register(const struct ssi_ics_ops *ops)
{
	ssi_ics_ops = ops;
	return genl_register_family(&ssi_ics_family);
}
EXPORT_SYMBOL_GPL(ssi_ics_nl_register);

/* Returns when nobody is answered any more. */
void ssi_ics_nl_unregister(void)
{
	genl_unregister_family(&ssi_ics_family);
	down_write(&ssi_ics_lock);
	ssi_ics_ops = NULL;
	up_write(&ssi_ics_lock);
}
EXPORT_SYMBOL_GPL(ssi_ics_nl_unregister);
