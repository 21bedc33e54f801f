// SPDX-License-Identifier: GPL-2.0
/*
 * fence_rig: a fence agent for guests of the rig, by the interface of ClusterLabs.
 *
 * Reads key=value lines from its standard input: action=off|on|reboot|status|monitor|metadata, plug=NODE, nodename= and,
 * for tests, knobs=DIR: while DIR/fence_hold exists it waits, while DIR/fence_fail exists it fails, and DIR/fence_log tells
 * of each run, a line "NODE ACTION PLUG begins|done|failed". It asks the rig over a virtio-serial port. As soon as that has
 * answered that a node is off, before the agent says so, the kernel's log has a line "fence_rig: node PLUG was off", and
 * DIR/fence_written one "NODE PLUG SIZE" with the size of DIR/written, if that is there. Exit status 0: done; 1: failed; 2:
 * status of a node that is off.
 */
#include "test.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PORT "org.openssi.fence"

static char action[32] = "reboot", plug[32], knobs[256];

static void read_options(void)
{
	char line[1024];

	while (fgets(line, sizeof(line), stdin)) {
		char *value = strchr(line, '=');

		line[strcspn(line, "\n")] = 0;
		if (!value || *line == '#')
			continue;
		*value++ = 0;
		if (!strcmp(line, "action"))
			snprintf(action, sizeof(action), "%s", value);
		else if (!strcmp(line, "plug") || !strcmp(line, "port"))
			snprintf(plug, sizeof(plug), "%s", value);
		else if (!strcmp(line, "knobs"))
			snprintf(knobs, sizeof(knobs), "%s", value);
	}
}

static int knob(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", knobs, name);
	return *knobs && !access(path, F_OK);
}

/* One write per line: several nodes append to one file. */
static void append(const char *path, const char *line)
{
	ssize_t n = strlen(line);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);

	if (fd < 0)
		return;
	if (write(fd, line, n) != n)
		perror(path);
	close(fd);
}

static void note(const char *what)
{
	char path[PATH_MAX], host[64] = "?", line[256];

	if (!*knobs)
		return;
	gethostname(host, sizeof(host) - 1);
	snprintf(path, sizeof(path), "%s/fence_log", knobs);
	snprintf(line, sizeof(line), "%s %s %s %s\n", host, action, plug, what);
	append(path, line);
}

/* What the node had written when it was off. */
static void note_off(void)
{
	char path[PATH_MAX], host[64] = "?", line[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/written", knobs);
	if (*knobs && !stat(path, &st)) {
		gethostname(host, sizeof(host) - 1);
		snprintf(path, sizeof(path), "%s/fence_written", knobs);
		snprintf(line, sizeof(line), "%s %s %lld\n", host, plug, (long long)st.st_size);
		append(path, line);
	}
	snprintf(line, sizeof(line), "fence_rig: node %s was off\n", plug);
	append("/dev/kmsg", line);
}

/* Only one process has the port at a time. */
static int open_port(void)
{
	static const char dir[] = "/sys/class/virtio-ports";
	char path[PATH_MAX], name[64];
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d)
		DIE("%s", dir);
	while ((e = readdir(d))) {
		FILE *f;
		int fd;

		snprintf(path, sizeof(path), "%s/%s/name", dir, e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (!fgets(name, sizeof(name), f))
			*name = 0;
		fclose(f);
		name[strcspn(name, "\n")] = 0;
		if (strcmp(name, PORT))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		while ((fd = open(path, O_RDWR)) < 0 && errno == EBUSY)
			usleep(50 * 1000);
		if (fd < 0)
			DIE("%s", path);
		closedir(d);
		return fd;
	}
	fprintf(stderr, "%s: no port %s\n", dir, PORT);
	exit(1);
}

/* Reads lines until the answer to the request with this id: what came before is for a process that was killed. */
static void answer(int fd, const char *id, char *out, size_t size)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, out + n, 1);

		if (got < 0)
			DIE("port");
		if (!got) {
			fprintf(stderr, "the rig does not listen\n");
			exit(1);
		}
		if (out[n] == '\n') {
			size_t len = strlen(id);

			out[n] = 0;
			if (!strncmp(out, id, len) && out[len] == ' ') {
				memmove(out, out + len + 1, n - len);
				return;
			}
			n = 0;
		} else if (n < size - 1) {
			n++;
		}
	}
}

/* The one who acts is a child, as with agents that run ipmitool or ssh. */
static void act_as_child(void)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		DIE("fork");
	if (!child)
		return;
	if (waitpid(child, &status, 0) != child)
		DIE("waitpid");
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int main(void)
{
	char id[64], line[256];
	int fd, n;

	read_options();
	if (!strcmp(action, "metadata")) {
		puts("<?xml version=\"1.0\" ?>\n"
		     "<resource-agent name=\"fence_rig\" shortdesc=\"Fence agent for guests of the rig\">\n"
		     "<parameters><parameter name=\"plug\" unique=\"1\" required=\"1\"/></parameters>\n"
		     "<actions><action name=\"on\"/><action name=\"off\"/><action name=\"reboot\"/>\n"
		     "<action name=\"status\"/><action name=\"monitor\"/><action name=\"metadata\"/></actions>\n"
		     "</resource-agent>");
		return 0;
	}
	act_as_child();
	note("begins");
	while (knob("fence_hold"))
		usleep(50 * 1000);
	if (knob("fence_fail")) {
		note("failed");
		fprintf(stderr, "fence_fail is there\n");
		return 1;
	}
	fd = open_port();
	snprintf(id, sizeof(id), "%d.%llu", getpid(), (unsigned long long)now_ns());
	n = snprintf(line, sizeof(line), "%s %s %s\n", id, action, *plug ? plug : "0");
	if (write(fd, line, n) != n)
		DIE("port");
	answer(fd, id, line, sizeof(line));
	close(fd);
	if (!strcmp(line, "off"))
		return 2;
	if (strcmp(line, "on") && strcmp(line, "ok")) {
		note("failed");
		fprintf(stderr, "%s\n", line);
		return 1;
	}
	if (!strcmp(action, "off") || !strcmp(action, "reboot"))
		note_off();
	note("done");
	return 0;
}
