/*
 * Opening and configuring a TUN device by ioctls (Documentation/networking/tuntap.rst, netdevice(7)), and
 * one rtnetlink request.
 *
 * Async-signal-safe throughout: the supervisor runs this between clone and exec. Everything acts in
 * the network namespace of the calling thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "native.h"

/* Newer than the headers of Debian 12 (include/uapi/linux/if_tun.h of Linux 6.2). */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* linux/ipv6.h has it, and cannot be included beside netinet/in.h everywhere. */
struct inet6_ifreq {
	struct in6_addr address;
	uint32_t prefix;
	int index;
};

void failure_set(struct failure *failure, int err, const char *step)
{
	failure->err = err;
	failure->step[0] = '\0';
	strncat(failure->step, step, sizeof(failure->step) - 1);
}

static int fail(struct failure *failure, const char *step)
{
	failure_set(failure, errno, step);
	return -1;
}

static void request_init(struct ifreq *request, const char *name)
{
	memset(request, 0, sizeof(*request));
	strncat(request->ifr_name, name, IFNAMSIZ - 1);
}

static bool device_exists(const char *name)
{
	struct ifreq request;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool exists;

	if (fd < 0)
		return false;
	request_init(&request, name);
	exists = name[0] != '\0' && ioctl(fd, SIOCGIFINDEX, &request) == 0;
	close(fd);
	return exists;
}

int device_mtu(const char *name, struct failure *failure)
{
	struct ifreq request;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int mtu;

	if (fd < 0)
		return fail(failure, "socket");
	request_init(&request, name);
	mtu = ioctl(fd, SIOCGIFMTU, &request) == 0 ? request.ifr_mtu : fail(failure, "ioctl SIOCGIFMTU");
	close(fd);
	return mtu;
}

/* A persistent device keeps its kind, and refuses the other with EINVAL. */
static int attach(int fd, const struct tun_request *wanted, struct tun_info *info, struct failure *failure)
{
	struct ifreq request;
	unsigned features = 0;
	short flags = IFF_TUN | IFF_NO_PI;

	if (ioctl(fd, TUNGETFEATURES, &features) != 0)
		return fail(failure, "ioctl TUNGETFEATURES");
	info->vnet_header = wanted->vnet_header && (features & IFF_VNET_HDR);
	info->multi_queue = wanted->multi_queue && (features & IFF_MULTI_QUEUE);
	if (info->vnet_header)
		flags |= IFF_VNET_HDR;
	for (int attempt = 0;; attempt++) {
		request_init(&request, wanted->name);
		request.ifr_flags = info->multi_queue ? flags | IFF_MULTI_QUEUE : flags;
		if (ioctl(fd, TUNSETIFF, &request) == 0)
			break;
		if (errno != EINVAL || attempt > 0 || info->created)
			return fail(failure, "ioctl TUNSETIFF");
		info->multi_queue = !info->multi_queue;
	}
	/* A further queue has the header that the first one asked for (drivers/net/tun.c, tun_set_iff). */
	if (ioctl(fd, TUNGETIFF, &request) != 0)
		return fail(failure, "ioctl TUNGETIFF");
	info->vnet_header = (request.ifr_flags & IFF_VNET_HDR) != 0;
	memset(info->name, 0, sizeof(info->name));
	memcpy(info->name, request.ifr_name, IFNAMSIZ - 1);
	return 0;
}

/* The kernel's word is taken, never its version: the first set of bits that it accepts wins. */
static int probe_offload(int fd, unsigned bound, struct tun_info *info, struct failure *failure)
{
	static const unsigned chain[] = {
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
		TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
		TUN_F_CSUM,
		0,
	};

	for (size_t i = 0; i < sizeof(chain) / sizeof(chain[0]); i++) {
		info->offload = chain[i] & bound;
		/* Zero is said as well: a persistent device keeps what its last owner set. */
		if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)info->offload) == 0)
			return 0;
	}
	return fail(failure, "ioctl TUNSETOFFLOAD");
}

bool tun_segments(const struct tun_info *info)
{
	return (info->offload & TUN_F_TSO4) != 0;
}

static int set_up_header(int fd, const struct tun_info *info, struct failure *failure)
{
	int size = 10; /* struct virtio_net_hdr without num_buffers */
	int little = 1;

	if (!info->vnet_header)
		return 0;
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) != 0)
		return fail(failure, "ioctl TUNSETVNETHDRSZ");
	if (ioctl(fd, TUNSETVNETLE, &little) != 0)
		return fail(failure, "ioctl TUNSETVNETLE");
	return 0;
}

int tun_open_device(const struct tun_request *request, struct tun_info *info, struct failure *failure)
{
	memset(info, 0, sizeof(*info));
	info->created = !device_exists(request->name);
	info->fd = open(request->device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (info->fd < 0) {
		char step[96] = "open ";

		strncat(step, request->device, sizeof(step) - 6);
		return fail(failure, step);
	}
	if (attach(info->fd, request, info, failure) != 0 || set_up_header(info->fd, info, failure) != 0 ||
	    probe_offload(info->fd, info->vnet_header ? request->offload : 0, info, failure) != 0 ||
	    (info->mtu = device_mtu(info->name, failure)) < 0) {
		close(info->fd);
		info->fd = -1;
		return -1;
	}
	return 0;
}

static int set_ipv4(int fd, const char *name, const struct tun_address *address, struct failure *failure)
{
	struct ifreq request;
	struct sockaddr_in in = {.sin_family = AF_INET};
	uint32_t mask = address->prefix == 0 ? 0 : htonl(UINT32_MAX << (32 - address->prefix));
	bool same = false;

	request_init(&request, name);
	if (ioctl(fd, SIOCGIFADDR, &request) == 0 &&
	    memcmp(&((struct sockaddr_in *)&request.ifr_addr)->sin_addr, address->octets, 4) == 0 &&
	    ioctl(fd, SIOCGIFNETMASK, &request) == 0)
		same = ((struct sockaddr_in *)&request.ifr_netmask)->sin_addr.s_addr == mask;
	if (same)
		return 0;
	memcpy(&in.sin_addr, address->octets, 4);
	memcpy(&request.ifr_addr, &in, sizeof(in));
	if (ioctl(fd, SIOCSIFADDR, &request) != 0)
		return fail(failure, "ioctl SIOCSIFADDR");
	in.sin_addr.s_addr = mask;
	memcpy(&request.ifr_netmask, &in, sizeof(in));
	if (ioctl(fd, SIOCSIFNETMASK, &request) != 0)
		return fail(failure, "ioctl SIOCSIFNETMASK");
	return 0;
}

static int route_ipv4(int fd, const char *name, struct failure *failure)
{
	struct rtentry route;
	struct sockaddr_in any = {.sin_family = AF_INET};
	char device[IFNAMSIZ] = "";

	memset(&route, 0, sizeof(route));
	memcpy(&route.rt_dst, &any, sizeof(any));
	memcpy(&route.rt_genmask, &any, sizeof(any));
	route.rt_flags = RTF_UP;
	strncat(device, name, sizeof(device) - 1);
	route.rt_dev = device;
	if (ioctl(fd, SIOCADDRT, &route) != 0 && errno != EEXIST)
		return fail(failure, "ioctl SIOCADDRT");
	return 0;
}

/* The address, or with `route` the default route. */
static int set_ipv6(int fd, int index, const struct tun_address *address, bool route, struct failure *failure)
{
	struct inet6_ifreq request = {.prefix = (uint32_t)address->prefix, .index = index};
	struct in6_rtmsg message;

	memcpy(&request.address, address->octets, 16);
	if (!route) {
		if (ioctl(fd, SIOCSIFADDR, &request) != 0 && errno != EEXIST)
			return fail(failure, "ioctl SIOCSIFADDR (IPv6)");
		return 0;
	}
	memset(&message, 0, sizeof(message));
	message.rtmsg_flags = RTF_UP;
	message.rtmsg_metric = 1024;
	message.rtmsg_ifindex = index;
	if (ioctl(fd, SIOCADDRT, &message) != 0 && errno != EEXIST)
		return fail(failure, "ioctl SIOCADDRT (IPv6)");
	return 0;
}

/*
 * SIOCSIFTXQLEN asks for CAP_NET_ADMIN of the initial user namespace (net/core/dev_ioctl.c), rtnetlink
 * only for that of the device's, which is all that a container's root has.
 */
int tun_set_queue_length(const char *name, int length, struct failure *failure)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
		struct rtattr name_head;
		char name[IFNAMSIZ];
		struct rtattr length_head;
		uint32_t length;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = RTM_NEWLINK,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.link = {.ifi_family = AF_UNSPEC},
		.name_head = {.rta_len = RTA_LENGTH(sizeof(request.name)), .rta_type = IFLA_IFNAME},
		.length_head = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_TXQLEN},
		.length = (uint32_t)length,
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	int err = 0;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return fail(failure, "socket AF_NETLINK");
	strncat(request.name, name, sizeof(request.name) - 1);
	memset(&answer, 0, sizeof(answer));
	if (send(fd, &request, sizeof(request), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		err = errno;
	else if (answer.header.nlmsg_type == NLMSG_ERROR)
		err = -answer.error.error;
	close(fd);
	if (err != 0)
		failure_set(failure, err, "netlink IFLA_TXQLEN");
	return err != 0 ? -1 : 0;
}

static int set_link(int fd, const char *name, const struct tun_settings *settings, struct failure *failure)
{
	struct ifreq request;

	request_init(&request, name);
	if (settings->mtu > 0) {
		if (ioctl(fd, SIOCGIFMTU, &request) != 0)
			return fail(failure, "ioctl SIOCGIFMTU");
		if (request.ifr_mtu != settings->mtu) {
			request.ifr_mtu = settings->mtu;
			if (ioctl(fd, SIOCSIFMTU, &request) != 0)
				return fail(failure, "ioctl SIOCSIFMTU");
		}
	}
	if (settings->tx_queue_length > 0) {
		if (ioctl(fd, SIOCGIFTXQLEN, &request) != 0)
			return fail(failure, "ioctl SIOCGIFTXQLEN");
		if (request.ifr_qlen < settings->tx_queue_length &&
		    tun_set_queue_length(name, settings->tx_queue_length, failure) != 0)
			return -1;
	}
	return 0;
}

static int set_up(int fd, const char *name, struct failure *failure)
{
	struct ifreq request;

	request_init(&request, name);
	if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		return fail(failure, "ioctl SIOCGIFFLAGS");
	if ((request.ifr_flags & IFF_UP) && (request.ifr_flags & IFF_RUNNING))
		return 0;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		return fail(failure, "ioctl SIOCSIFFLAGS");
	return 0;
}

static int configure(int fd, int fd6, const char *name, const struct tun_settings *settings, struct failure *failure)
{
	const struct tun_address *ipv6 = &settings->ipv6;
	struct ifreq request;

	if (set_link(fd, name, settings, failure) != 0)
		return -1;
	if (settings->ipv4.family == AF_INET && set_ipv4(fd, name, &settings->ipv4, failure) != 0)
		return -1;
	request_init(&request, name);
	if (ioctl(fd, SIOCGIFINDEX, &request) != 0)
		return fail(failure, "ioctl SIOCGIFINDEX");
	if (fd6 >= 0 && set_ipv6(fd6, request.ifr_ifindex, ipv6, false, failure) != 0) {
		/* EACCES: net.ipv6.conf.*.disable_ipv6 (net/ipv6/addrconf.c, ipv6_add_addr). */
		if (failure->err != EACCES)
			return -1;
		fd6 = -1;
	}
	if (settings->up && set_up(fd, name, failure) != 0)
		return -1;
	if (!settings->default_route)
		return 0;
	if (settings->ipv4.family == AF_INET && route_ipv4(fd, name, failure) != 0)
		return -1;
	return fd6 >= 0 ? set_ipv6(fd6, request.ifr_ifindex, ipv6, true, failure) : 0;
}

int tun_configure_device(const char *name, const struct tun_settings *settings, struct failure *failure)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd6 = -1;
	int result;

	if (fd < 0)
		return fail(failure, "socket");
	if (settings->ipv6.family == AF_INET6) {
		fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		/* A kernel without IPv6 still carries IPv4. */
		if (fd6 < 0 && errno != EAFNOSUPPORT) {
			fail(failure, "socket AF_INET6");
			close(fd);
			return -1;
		}
	}
	result = configure(fd, fd6, name, settings, failure);
	if (fd6 >= 0)
		close(fd6);
	close(fd);
	return result;
}

int loopback_up(struct failure *failure)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result;

	if (fd < 0)
		return fail(failure, "socket");
	result = set_up(fd, "lo", failure);
	close(fd);
	return result;
}
