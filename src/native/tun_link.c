/*
 * What rtnetlink knows of a TUN device and no ioctl tells: how many queues are attached (drivers/net/tun.c,
 * tun_fill_info).
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "native.h"

/* A link with its statistics and per-family options takes some 2 KiB. */
#define ANSWER 16384

/* The payload of the attribute of `type` in [at, at + length), its length in *found; NULL: there is none. */
static const char *attribute(const char *at, size_t length, unsigned short type, size_t *found)
{
	struct rtattr head;

	while (length >= sizeof(head)) {
		size_t step;

		memcpy(&head, at, sizeof(head));
		if (head.rta_len < sizeof(head) || head.rta_len > length)
			return NULL;
		if ((head.rta_type & NLA_TYPE_MASK) == type) {
			*found = head.rta_len - RTA_LENGTH(0);
			return at + RTA_LENGTH(0);
		}
		step = RTA_ALIGN(head.rta_len);
		if (step > length)
			return NULL;
		at += step;
		length -= step;
	}
	return NULL;
}

static uint32_t number(const char *data, size_t length, unsigned short type)
{
	uint32_t value = 0;
	size_t found = 0;
	const char *at = attribute(data, length, type, &found);

	if (at != NULL && found == sizeof(value))
		memcpy(&value, at, sizeof(value));
	return value;
}

/* A device with one queue says nothing of queues: its descriptor is the only one there can be. */
static int count(const char *answer, size_t length)
{
	const char *at = answer + NLMSG_LENGTH(sizeof(struct ifinfomsg));

	if (length < (size_t)(at - answer))
		return 1;
	length -= (size_t)(at - answer);
	at = attribute(at, length, IFLA_LINKINFO, &length);
	if (at != NULL)
		at = attribute(at, length, IFLA_INFO_DATA, &length);
	if (at == NULL || number(at, length, IFLA_TUN_NUM_QUEUES) == 0)
		return 1;
	return (int)(number(at, length, IFLA_TUN_NUM_QUEUES) + number(at, length, IFLA_TUN_NUM_DISABLED_QUEUES));
}

int tun_queue_count(const char *name, struct failure *failure)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
		struct rtattr name_head;
		char name[IFNAMSIZ];
	} request = {
		.header = {.nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
		.link = {.ifi_family = AF_UNSPEC},
		.name_head = {.rta_len = RTA_LENGTH(sizeof(request.name)), .rta_type = IFLA_IFNAME},
	};
	_Alignas(struct nlmsghdr) char answer[ANSWER];
	const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
	int err = 0;
	ssize_t got;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0) {
		failure_set(failure, errno, "socket AF_NETLINK");
		return -1;
	}
	strncat(request.name, name, sizeof(request.name) - 1);
	got = send(fd, &request, sizeof(request), 0) < 0 ? -1 : recv(fd, answer, sizeof(answer), 0);
	if (got < 0)
		err = errno;
	else if ((size_t)got < sizeof(*header) || header->nlmsg_len > (size_t)got)
		err = EPROTO;
	else if (header->nlmsg_type == NLMSG_ERROR)
		err = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
	close(fd);
	if (err != 0) {
		failure_set(failure, err, "netlink RTM_GETLINK");
		return -1;
	}
	return count(answer, header->nlmsg_len);
}
