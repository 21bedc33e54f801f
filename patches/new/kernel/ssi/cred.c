// SPDX-License-Identifier: GPL-2.0
/*
 * Credentials as they cross nodes. Only the initial user namespace does.
 */
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/sched/user.h>
#include <linux/securebits.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>
#include "internal.h"

/**
 * pproc_cred_get() - the current credentials
 * @c: filled in
 *
 * Return: 0, -EXDEV in another user namespace, -EOPNOTSUPP with more than SSI_CRED_GROUPS groups.
 */
int pproc_cred_get(struct ssi_cred *c)
{
	const struct cred *cred = current_cred();
	struct user_namespace *ns = &init_user_ns;

	if (cred->user_ns != ns)
		return -EXDEV;
	if (cred->group_info->ngroups > SSI_CRED_GROUPS)
		return -EOPNOTSUPP;
	memset(c, 0, sizeof(*c));
	c->uid = from_kuid(ns, cred->uid);
	c->gid = from_kgid(ns, cred->gid);
	c->suid = from_kuid(ns, cred->suid);
	c->sgid = from_kgid(ns, cred->sgid);
	c->euid = from_kuid(ns, cred->euid);
	c->egid = from_kgid(ns, cred->egid);
	c->fsuid = from_kuid(ns, cred->fsuid);
	c->fsgid = from_kgid(ns, cred->fsgid);
	c->cap_inheritable = cred->cap_inheritable.val;
	c->cap_permitted = cred->cap_permitted.val;
	c->cap_effective = cred->cap_effective.val;
	c->cap_bset = cred->cap_bset.val;
	c->cap_ambient = cred->cap_ambient.val;
	c->securebits = cred->securebits;
	c->no_new_privs = task_no_new_privs(current);
	c->ngroups = cred->group_info->ngroups;
	for (u32 i = 0; i < c->ngroups; i++)
		c->groups[i] = from_kgid(ns, cred->group_info->gid[i]);
	return 0;
}
EXPORT_SYMBOL_SSI(pproc_cred_get);

/* Fills @new, which is being prepared. Return: 0, -EINVAL for what no task can have, -ENOMEM. */
static int ssi_cred_fill(struct cred *new, const struct ssi_cred *c)
{
	struct user_namespace *ns = &init_user_ns;
	struct group_info *groups;

	if (c->ngroups > SSI_CRED_GROUPS)
		return -EINVAL;
	groups = groups_alloc(c->ngroups);
	if (!groups)
		return -ENOMEM;
	for (u32 i = 0; i < c->ngroups; i++)
		groups->gid[i] = make_kgid(ns, c->groups[i]);
	groups_sort(groups);
	set_groups(new, groups);
	put_group_info(groups);

	new->uid = make_kuid(ns, c->uid);
	new->gid = make_kgid(ns, c->gid);
	new->suid = make_kuid(ns, c->suid);
	new->sgid = make_kgid(ns, c->sgid);
	new->euid = make_kuid(ns, c->euid);
	new->egid = make_kgid(ns, c->egid);
	new->fsuid = make_kuid(ns, c->fsuid);
	new->fsgid = make_kgid(ns, c->fsgid);
	if (!uid_valid(new->uid) || !uid_valid(new->suid) || !uid_valid(new->euid) ||
	    !uid_valid(new->fsuid) || !gid_valid(new->gid) || !gid_valid(new->sgid) ||
	    !gid_valid(new->egid) || !gid_valid(new->fsgid))
		return -EINVAL;
	new->cap_inheritable.val = c->cap_inheritable & CAP_VALID_MASK;
	new->cap_permitted.val = c->cap_permitted & CAP_VALID_MASK;
	new->cap_effective.val = c->cap_effective & CAP_VALID_MASK;
	new->cap_bset.val = c->cap_bset & CAP_VALID_MASK;
	new->cap_ambient.val = c->cap_ambient & CAP_VALID_MASK;
	new->securebits = c->securebits;
	return 0;
}

/**
 * pproc_cred_push() - act with the credentials of somebody elsewhere
 * @c: the credentials
 *
 * Return: what pproc_cred_pop() wants, or ERR_PTR.
 */
const struct cred *pproc_cred_push(const struct ssi_cred *c)
{
	struct cred *new = prepare_kernel_cred(&init_task);
	struct user_struct *user;
	int ret;

	if (!new)
		return ERR_PTR(-ENOMEM);
	ret = ssi_cred_fill(new, c);
	if (!ret) {
		user = alloc_uid(new->uid);
		if (user) {
			free_uid(new->user);
			new->user = user;
		} else {
			ret = -ENOMEM;
		}
	}
	if (ret) {
		abort_creds(new);
		return ERR_PTR(ret);
	}
	return override_creds(new);
}
EXPORT_SYMBOL_SSI(pproc_cred_push);

/* Ends what pproc_cred_push() began. */
void pproc_cred_pop(const struct cred *old)
{
	put_cred(revert_creds(old));
}
EXPORT_SYMBOL_SSI(pproc_cred_pop);

/**
 * pproc_cred_commit() - make these the credentials of the current process
 * @c: the credentials
 *
 * Return: 0, -ENOMEM, -EINVAL.
 */
int pproc_cred_commit(const struct ssi_cred *c)
{
	struct cred *new = prepare_creds();
	struct user_struct *user;
	int ret;

	if (!new)
		return -ENOMEM;
	ret = ssi_cred_fill(new, c);
	if (!ret) {
		user = alloc_uid(new->uid);
		if (user) {
			free_uid(new->user);
			new->user = user;
			ret = set_cred_ucounts(new);
		} else {
			ret = -ENOMEM;
		}
	}
	if (ret) {
		abort_creds(new);
		return ret;
	}
	if (c->no_new_privs)
		task_set_no_new_privs(current);
	return commit_creds(new);
}
EXPORT_SYMBOL_SSI(pproc_cred_commit);
