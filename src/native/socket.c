/*
 * Stream sockets: descriptors or -errno, rows of offsets into the memory. Nothing here throws.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "socket.h"

#define ROWS 64

static bool is_mapped(const int32_t *words)
{
	return words[0] == 0 && words[1] == 0 && words[2] == 0xffff;
}

socklen_t to_address(const int32_t *words, int family, union address *address)
{
	if (family == AF_UNSPEC)
		family = is_mapped(words) ? AF_INET : AF_INET6;
	if (family == AF_INET && !is_mapped(words))
		return 0;
	memset(address, 0, sizeof(*address));
	address->any.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		address->in.sin_port = htons((uint16_t)words[4]);
		address->in.sin_addr.s_addr = htonl((uint32_t)words[3]);
		return sizeof(address->in);
	}
	address->in6.sin6_port = htons((uint16_t)words[4]);
	for (int i = 0; i < 4; i++)
		address->in6.sin6_addr.s6_addr32[i] = htonl((uint32_t)words[i]);
	return sizeof(address->in6);
}

void from_address(const union address *address, int32_t *words)
{
	memset(words, 0, ADDRESS * sizeof(*words));
	if (address->any.sa_family == AF_INET) {
		words[2] = 0xffff;
		words[3] = (int32_t)ntohl(address->in.sin_addr.s_addr);
		words[4] = ntohs(address->in.sin_port);
	} else if (address->any.sa_family == AF_INET6) {
		for (int i = 0; i < 4; i++)
			words[i] = (int32_t)ntohl(address->in6.sin6_addr.s6_addr32[i]);
		words[4] = ntohs(address->in6.sin6_port);
	}
}

int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value));
}

napi_value failed(napi_env env, int fd)
{
	int err = errno;

	if (fd >= 0)
		close(fd);
	return integer(env, -err);
}

int open_socket(napi_env env, int family, int type, napi_value mark, napi_value device)
{
	char name[IFNAMSIZ];
	int32_t wanted = to_int(env, mark, 0);
	int fd;

	if (!to_string(env, device, name, sizeof(name))) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if ((wanted != 0 && set_option(fd, SOL_SOCKET, SO_MARK, wanted) != 0) ||
	    (name[0] != '\0' && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) != 0)) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

/* The port is chosen by connect(2), which may share it among peers; bind(2) would take it for itself. */
static bool bind_address(int fd, int family, const int32_t *words)
{
	union address address;
	socklen_t length = to_address(words, family, &address);

	if (length == 0) {
		errno = EAFNOSUPPORT;
		return false;
	}
	if (words[4] == 0 && set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) != 0)
		return false;
	return bind(fd, &address.any, length) == 0;
}

static napi_value tcp_connect(napi_env env, napi_callback_info info)
{
	napi_value argv[6];
	struct instance *in = arguments(env, info, 6, argv);
	struct rows rows = to_rows(env, argv[0]);
	int32_t limit = to_int(env, argv[5], 0);
	struct rows source = to_rows(env, argv[4]);
	int32_t timeout = to_int(env, argv[3], 0);
	union address address;
	socklen_t length;
	int fd;

	if (rows.length < ADDRESS)
		return integer(env, -EINVAL);
	length = to_address(rows.at, AF_UNSPEC, &address);
	fd = open_socket(env, address.any.sa_family, SOCK_STREAM, argv[1], argv[2]);
	/* The lowest free number says how many there are. */
	if (limit > 0 && fd >= limit) {
		errno = EMFILE;
		return failed(env, fd);
	}
	if (fd < 0 || set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0 ||
	    (timeout > 0 && set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, timeout) != 0) ||
	    (source.length >= ADDRESS && !bind_address(fd, address.any.sa_family, source.at)) ||
	    (connect(fd, &address.any, length) != 0 && errno != EINPROGRESS && errno != EINTR))
		return failed(env, fd);
	return integer(env, own(in, fd));
}

static napi_value tcp_listen(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct instance *in = arguments(env, info, 2, argv);
	struct rows rows = to_rows(env, argv[0]);
	union address address;
	socklen_t length;
	int fd;

	if (rows.length < ADDRESS)
		return integer(env, -EINVAL);
	length = to_address(rows.at, AF_UNSPEC, &address);
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 ||
	    (address.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address.in6.sin6_addr) &&
	     set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0) ||
	    bind(fd, &address.any, length) != 0 || listen(fd, to_int(env, argv[1], SOMAXCONN)) != 0)
		return failed(env, fd);
	return integer(env, own(in, fd));
}

static napi_value tcp_accept(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct instance *in = arguments(env, info, 2, argv);
	struct rows rows = to_rows(env, argv[1]);
	union address address = {0};
	int listener = to_int(env, argv[0], -1);
	int fd;

	do {
		socklen_t length = sizeof(address);

		fd = accept4(listener, &address.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return integer(env, -errno);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (rows.length >= ADDRESS)
		from_address(&address, rows.at);
	return integer(env, own(in, fd));
}

static napi_value socket_error(napi_env env, napi_callback_info info)
{
	napi_value argument;
	int err = 0;
	socklen_t length = sizeof(err);

	arguments(env, info, 1, &argument);
	if (getsockopt(to_int(env, argument, -1), SOL_SOCKET, SO_ERROR, &err, &length) != 0)
		err = errno;
	return integer(env, err);
}

static napi_value name_of(napi_env env, napi_callback_info info, bool peer)
{
	napi_value argv[2];
	union address address = {0};
	socklen_t length = sizeof(address);
	struct rows rows;
	int fd;

	arguments(env, info, 2, argv);
	fd = to_int(env, argv[0], -1);
	rows = to_rows(env, argv[1]);
	if (rows.length < ADDRESS)
		return integer(env, -EINVAL);
	if ((peer ? getpeername : getsockname)(fd, &address.any, &length) != 0)
		return integer(env, -errno);
	from_address(&address, rows.at);
	return integer(env, 0);
}

static napi_value local_address(napi_env env, napi_callback_info info)
{
	return name_of(env, info, false);
}

static napi_value peer_address(napi_env env, napi_callback_info info)
{
	return name_of(env, info, true);
}

/* Rows [offset, length] as an iovec. How many, or -1: outside the memory, or more than the array has. */
static int to_iov(const struct instance *in, struct rows rows, int32_t count, struct iovec *iov)
{
	if (count < 0 || (size_t)count > rows.length / 2)
		return -1;
	if (count > ROWS)
		count = ROWS;
	for (int32_t i = 0; i < count; i++) {
		int32_t offset = rows.at[2 * i];
		int32_t length = rows.at[2 * i + 1];

		if (!inside(in, offset, length))
			return -1;
		iov[i] = (struct iovec){in->memory + offset, (size_t)length};
	}
	return count;
}

static napi_value receive(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct instance *in = arguments(env, info, 3, argv);
	struct iovec iov[ROWS];
	int fd = to_int(env, argv[0], -1);
	int count = to_iov(in, to_rows(env, argv[1]), to_int(env, argv[2], -1), iov);
	ssize_t got;

	if (count < 0)
		return integer(env, -EFAULT);
	do
		got = readv(fd, iov, count);
	while (got < 0 && errno == EINTR);
	return integer(env, got < 0 ? -errno : got);
}

static napi_value transmit(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct instance *in = arguments(env, info, 3, argv);
	struct iovec iov[ROWS];
	int fd = to_int(env, argv[0], -1);
	int count = to_iov(in, to_rows(env, argv[1]), to_int(env, argv[2], -1), iov);
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
	ssize_t sent;

	if (count < 0)
		return integer(env, -EFAULT);
	do
		sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return integer(env, sent < 0 ? -errno : sent);
}

static napi_value shut_down(napi_env env, napi_callback_info info)
{
	napi_value argument;

	arguments(env, info, 1, &argument);
	return integer(env, shutdown(to_int(env, argument, -1), SHUT_WR) == 0 ? 0 : -errno);
}

static napi_value close_socket(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct instance *in = arguments(env, info, 1, &argument);

	close_descriptor(in, to_int(env, argument, -1));
	return NULL;
}

static napi_value reset(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct instance *in = arguments(env, info, 1, &argument);
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	int fd = to_int(env, argument, -1);

	if (flags_of(in, fd) & FD_OWNED)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close_descriptor(in, fd);
	return NULL;
}

static napi_value keep_alive(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	int fd;

	arguments(env, info, 4, argv);
	fd = to_int(env, argv[0], -1);
	if (set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, to_int(env, argv[1], 0)) != 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, to_int(env, argv[2], 0)) != 0 ||
	    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, to_int(env, argv[3], 0)) != 0 ||
	    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) != 0)
		return integer(env, -errno);
	return integer(env, 0);
}

/*
 * The kernel counts probes of a closed window against TCP_USER_TIMEOUT too, answered or not (tcp_probe_timer in
 * net/ipv4/tcp_timer.c). With octets to send and none on their way the peer's window is what holds them.
 */
static napi_value user_timeout(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct tcp_info state = {0};
	socklen_t length = sizeof(state);
	int fd, timeout, outstanding;

	arguments(env, info, 2, argv);
	fd = to_int(env, argv[0], -1);
	timeout = to_int(env, argv[1], 0);
	if (ioctl(fd, SIOCOUTQ, &outstanding) != 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &length) != 0)
		return integer(env, -errno);
	if (outstanding > 0 && state.tcpi_unacked == 0)
		timeout = 0;
	if (set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, timeout) != 0)
		return integer(env, -errno);
	return integer(env, outstanding > 0);
}

/* Of all interfaces, also of one without carrier, whose addresses are reached all the same. */
static napi_value host_addresses(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct ifaddrs *list;
	struct rows rows;
	int64_t count = 0;

	arguments(env, info, 1, &argument);
	rows = to_rows(env, argument);
	if (getifaddrs(&list) != 0)
		return integer(env, -errno);
	for (const struct ifaddrs *at = list; at != NULL; at = at->ifa_next) {
		const union address *address = (const union address *)at->ifa_addr;

		if (address == NULL || (address->any.sa_family != AF_INET && address->any.sa_family != AF_INET6))
			continue;
		if ((size_t)(count + 1) * ADDRESS <= rows.length)
			from_address(address, rows.at + count * ADDRESS);
		count++;
	}
	freeifaddrs(list);
	return integer(env, count);
}

static napi_value outstanding(napi_env env, napi_callback_info info)
{
	napi_value argument;
	int octets = 0;

	arguments(env, info, 1, &argument);
	return integer(env, ioctl(to_int(env, argument, -1), SIOCOUTQ, &octets) == 0 ? octets : -errno);
}

void register_socket(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"tcpConnect", tcp_connect},
		{"tcpListen", tcp_listen},
		{"tcpAccept", tcp_accept},
		{"socketError", socket_error},
		{"localAddress", local_address},
		{"peerAddress", peer_address},
		{"recv", receive},
		{"send", transmit},
		{"shutdown", shut_down},
		{"close", close_socket},
		{"reset", reset},
		{"keepAlive", keep_alive},
		{"userTimeout", user_timeout},
		{"hostAddresses", host_addresses},
		{"outstanding", outstanding},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
