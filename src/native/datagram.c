/*
 * Datagram sockets: batches by recvmmsg(2) and sendmmsg(2). Nothing here throws.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "socket.h"

#define BATCH 64
#define DGRAM_RX_ROW 8
#define DGRAM_TX_ROW 10
/* The largest datagram, and as much more that slots do not share their cache sets. */
#define DGRAM_SLOT (65536 + 1088)
#define DGRAM_BUFFER (4 * 1024 * 1024)

/* Scratch of recvmmsg and sendmmsg, one per environment. */
struct datagrams {
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH][2];
	union address addresses[BATCH];
};

/* Beyond net.core.?mem_max with CAP_NET_ADMIN, else up to it; what is refused stays as it is. */
static void raise_buffers(int fd)
{
	if (set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, DGRAM_BUFFER) != 0)
		set_option(fd, SOL_SOCKET, SO_RCVBUF, DGRAM_BUFFER);
	if (set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, DGRAM_BUFFER) != 0)
		set_option(fd, SOL_SOCKET, SO_SNDBUF, DGRAM_BUFFER);
}

static napi_value udp_open(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	struct instance *in = arguments(env, info, 4, argv);
	struct rows rows = to_rows(env, argv[0]);
	union address address;
	socklen_t length = 0;
	bool inet6 = false;
	int fd;

	napi_get_value_bool(env, argv[1], &inet6);
	if (rows.length >= ADDRESS) {
		length = to_address(rows.at, AF_UNSPEC, &address);
		inet6 = address.any.sa_family == AF_INET6;
	}
	fd = open_socket(env, inet6 ? AF_INET6 : AF_INET, SOCK_DGRAM, argv[2], argv[3]);
	if (fd < 0 || (inet6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0) ||
	    (length > 0 && bind(fd, &address.any, length) != 0))
		return failed(env, fd);
	raise_buffers(fd);
	fd = own(in, fd);
	if (fd >= 0 && inet6)
		mark(in, fd, FD_OWNED | FD_INET6);
	return integer(env, fd);
}

static int family_of(const struct instance *in, int fd)
{
	return flags_of(in, fd) & FD_INET6 ? AF_INET6 : AF_INET;
}

static napi_value udp_connect(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct instance *in = arguments(env, info, 2, argv);
	struct rows rows = to_rows(env, argv[1]);
	int fd = to_int(env, argv[0], -1);
	union address address;
	socklen_t length;

	if (rows.length < ADDRESS)
		return integer(env, -EINVAL);
	length = to_address(rows.at, family_of(in, fd), &address);
	if (length == 0)
		return integer(env, -EAFNOSUPPORT);
	return integer(env, connect(fd, &address.any, length) == 0 ? 0 : -errno);
}

static struct datagrams *scratch(struct instance *in)
{
	if (in->datagrams == NULL)
		in->datagrams = calloc(1, sizeof(*in->datagrams));
	return in->datagrams;
}

static napi_value receive_batch(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	struct instance *in = arguments(env, info, 4, argv);
	struct datagrams *all = scratch(in);
	int fd = to_int(env, argv[0], -1);
	struct rows rows = to_rows(env, argv[1]);
	int32_t start = to_int(env, argv[2], -1);
	int32_t end = to_int(env, argv[3], -1);
	int32_t slot = DGRAM_SLOT;
	int want, count;

	if (all == NULL)
		return integer(env, -ENOMEM);
	if (start < 0 || end <= start || !inside(in, start, end - start) || rows.length < DGRAM_RX_ROW)
		return integer(env, -EFAULT);
	if (end - start < slot)
		slot = end - start;
	want = (end - start) / slot;
	if (want > BATCH)
		want = BATCH;
	if ((size_t)want > rows.length / DGRAM_RX_ROW)
		want = (int)(rows.length / DGRAM_RX_ROW);
	for (int i = 0; i < want; i++) {
		all->iov[i][0] = (struct iovec){in->memory + start + i * slot, (size_t)slot};
		all->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &all->addresses[i],
			.msg_namelen = sizeof(all->addresses[i]),
			.msg_iov = all->iov[i],
			.msg_iovlen = 1,
		};
	}
	do
		count = recvmmsg(fd, all->messages, (unsigned)want, MSG_DONTWAIT, NULL);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return integer(env, -errno);
	for (int i = 0; i < count; i++) {
		int32_t *row = rows.at + i * DGRAM_RX_ROW;

		row[0] = start + i * slot;
		row[1] = (int32_t)all->messages[i].msg_len;
		from_address(&all->addresses[i], row + 2);
		row[7] = (all->messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
	}
	return integer(env, count);
}

/* 0, or -errno if the row cannot be sent by this socket. */
static int to_message(const struct instance *in, const int32_t *row, int family, struct datagrams *all, int i)
{
	struct msghdr *header = &all->messages[i].msg_hdr;

	if (!inside(in, row[0], row[1]) || !inside(in, row[2], row[3]))
		return -EFAULT;
	all->iov[i][0] = (struct iovec){in->memory + row[0], (size_t)row[1]};
	all->iov[i][1] = (struct iovec){in->memory + row[2], (size_t)row[3]};
	*header = (struct msghdr){.msg_iov = all->iov[i], .msg_iovlen = 2};
	if (row[8] == 0)
		return 0;
	header->msg_name = &all->addresses[i];
	header->msg_namelen = to_address(row + 4, family, &all->addresses[i]);
	return header->msg_namelen == 0 ? -EAFNOSUPPORT : 0;
}

static napi_value send_batch(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct instance *in = arguments(env, info, 3, argv);
	struct datagrams *all = scratch(in);
	int fd = to_int(env, argv[0], -1);
	struct rows rows = to_rows(env, argv[1]);
	int32_t count = to_int(env, argv[2], -1);
	int32_t done = 0;
	int err = 0;

	if (all == NULL)
		return integer(env, -ENOMEM);
	if (count < 0 || (size_t)count > rows.length / DGRAM_TX_ROW)
		return integer(env, -EFAULT);
	while (done < count && err == 0) {
		int ready = 0;
		int sent = 0;

		while (ready < BATCH && done + ready < count &&
		       (err = to_message(in, rows.at + (done + ready) * DGRAM_TX_ROW, family_of(in, fd), all, ready)) == 0)
			ready++;
		while (ready > 0 && (sent = sendmmsg(fd, all->messages, (unsigned)ready, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 &&
		       errno == EINTR)
			;
		if (sent < 0)
			err = -errno;
		else
			done += sent;
		if (sent >= 0 && sent < ready)
			break;
	}
	return integer(env, done > 0 ? done : err);
}

void datagram_end(struct instance *in)
{
	free(in->datagrams);
	in->datagrams = NULL;
}

void register_datagram(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"udpOpen", udp_open},
		{"udpConnect", udp_connect},
		{"recvBatch", receive_batch},
		{"sendBatch", send_batch},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
