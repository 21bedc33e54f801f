// SPDX-License-Identifier: GPL-2.0
/*
 * tipcnet up ADDRESS NODE       makes this machine node NODE of a TIPC network on the device that has ADDRESS
 * tipcnet wait TYPE SECONDS     until TIPC's service TYPE is known here; exit status 1 if it is not in that time
 *
 * What `tipc node set address` and `tipc bearer enable` of iproute2 do, for roots that have no iproute2.
 */
#include "test.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/tipc.h>
#include <linux/tipc_netlink.h>
#include <sys/socket.h>

/* A message of generic netlink that is being built. */
struct request {
	union {
		struct nlmsghdr nl;
		char bytes[512];
	};
};

static struct genlmsghdr *generic(struct request *r)
{
	return NLMSG_DATA(&r->nl);
}

static struct nlattr *put(struct request *r, uint16_t type, const void *value, size_t len)
{
	struct nlattr *a = (struct nlattr *)(r->bytes + NLMSG_ALIGN(r->nl.nlmsg_len));

	if (NLMSG_ALIGN(r->nl.nlmsg_len) + NLA_HDRLEN + NLA_ALIGN(len) > sizeof(r->bytes)) {
		fprintf(stderr, "tipcnet: a name is too long\n");
		exit(1);
	}
	a->nla_type = type;
	a->nla_len = (uint16_t)(NLA_HDRLEN + len);
	memcpy((char *)a + NLA_HDRLEN, value, len);
	r->nl.nlmsg_len = NLMSG_ALIGN(r->nl.nlmsg_len) + NLA_ALIGN(a->nla_len);
	return a;
}

/* One attribute in another, which is all that TIPC asks for. */
static void put_nested(struct request *r, uint16_t outer, uint16_t inner, const void *value, size_t len)
{
	struct nlattr *a = put(r, outer, "", 0);

	put(r, inner, value, len);
	a->nla_len = (uint16_t)(r->bytes + r->nl.nlmsg_len - (char *)a);
}

static struct request request(uint16_t family, uint8_t command)
{
	struct request r = { .bytes = { 0 } };

	r.nl.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	r.nl.nlmsg_type = family;
	r.nl.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	generic(&r)->cmd = command;
	generic(&r)->version = 1;
	return r;
}

/* Sends it, takes the first answer and dies of an error in it. */
static void ask(struct request *r, const char *what)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct nlmsgerr *e = NLMSG_DATA(&r->nl);
	ssize_t n;

	if (fd < 0 || sendto(fd, r, r->nl.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		DIE("%s", what);
	n = recv(fd, r, sizeof(*r), 0);
	if (n < 0)
		DIE("%s", what);
	close(fd);
	if (!NLMSG_OK(&r->nl, (size_t)n)) {
		fprintf(stderr, "%s: a torn answer\n", what);
		exit(1);
	}
	if (r->nl.nlmsg_type == NLMSG_ERROR && e->error) {
		errno = -e->error;
		DIE("%s", what);
	}
}

static uint16_t family(const char *name)
{
	struct request r = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	char *at, *end;

	put(&r, CTRL_ATTR_FAMILY_NAME, name, strlen(name) + 1);
	ask(&r, name);
	at = r.bytes + NLMSG_LENGTH(GENL_HDRLEN);
	end = r.bytes + r.nl.nlmsg_len;
	while (at + NLA_HDRLEN <= end) {
		struct nlattr *a = (struct nlattr *)at;

		if (a->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(uint16_t *)(at + NLA_HDRLEN);
		at += NLA_ALIGN(a->nla_len < NLA_HDRLEN ? NLA_HDRLEN : a->nla_len);
	}
	fprintf(stderr, "%s: no number in the answer\n", name);
	exit(1);
}

/* "eth:DEVICE", as TIPC names it. */
static void bearer_name(const char *address, char *name, size_t size)
{
	struct ifaddrs *all, *i;
	struct in_addr wanted;

	if (inet_pton(AF_INET, address, &wanted) != 1) {
		fprintf(stderr, "%s: no IPv4 address\n", address);
		exit(2);
	}
	if (getifaddrs(&all))
		DIE("getifaddrs");
	for (i = all; i; i = i->ifa_next) {
		struct sockaddr_in *a = (struct sockaddr_in *)i->ifa_addr;

		if (a && a->sin_family == AF_INET && a->sin_addr.s_addr == wanted.s_addr) {
			snprintf(name, size, "eth:%s", i->ifa_name);
			freeifaddrs(all);
			return;
		}
	}
	fprintf(stderr, "%s: no device has it\n", address);
	exit(1);
}

static void up(const char *address, uint32_t node)
{
	uint16_t tipc = family(TIPC_GENL_V2_NAME);
	struct request net = request(tipc, TIPC_NL_NET_SET);
	struct request bearer = request(tipc, TIPC_NL_BEARER_ENABLE);
	/* Zone 1, cluster 1. An address that is given is not tried out for a second first. */
	uint32_t own = 1 << 24 | 1 << 12 | node;
	char name[TIPC_MAX_BEARER_NAME];

	bearer_name(address, name, sizeof(name));
	put_nested(&net, TIPC_NLA_NET, TIPC_NLA_NET_ADDR, &own, sizeof(own));
	ask(&net, "the node's address");
	put_nested(&bearer, TIPC_NLA_BEARER, TIPC_NLA_BEARER_NAME, name, strlen(name) + 1);
	ask(&bearer, name);
	printf("up %s\n", name);
}

static int wait_for(uint32_t type, uint32_t seconds)
{
	struct sockaddr_tipc top = { .family = AF_TIPC, .addrtype = TIPC_SERVICE_ADDR,
				     .addr.name.name = { TIPC_TOP_SRV, TIPC_TOP_SRV } };
	struct tipc_subscr s = { .seq = { type, 0, ~0u }, .timeout = seconds * 1000, .filter = TIPC_SUB_SERVICE };
	int fd = socket(AF_TIPC, SOCK_SEQPACKET, 0);
	struct tipc_event e;

	if (fd < 0 || connect(fd, (struct sockaddr *)&top, sizeof(top)) || send(fd, &s, sizeof(s), 0) != sizeof(s) ||
	    recv(fd, &e, sizeof(e), 0) != sizeof(e))
		DIE("TIPC's topology service");
	if (e.event == TIPC_PUBLISHED)
		return 0;
	fprintf(stderr, "tipcnet: no service %u in %u s\n", type, seconds);
	return 1;
}

int main(int argc, char **argv)
{
	static const char usage[] = "tipcnet up ADDRESS NODE | tipcnet wait TYPE SECONDS";

	if (argc != 4)
		USAGE(usage);
	if (!strcmp(argv[1], "up"))
		up(argv[2], (uint32_t)number(argv[3], 1, 4095, usage));
	else if (!strcmp(argv[1], "wait"))
		return wait_for((uint32_t)number(argv[2], 64, INT32_MAX, usage),
				(uint32_t)number(argv[3], 1, 3600, usage));
	else
		USAGE(usage);
	return 0;
}
