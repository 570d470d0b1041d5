/*
 * Datagram sockets: batches by recvmmsg(2) and sendmmsg(2). Nothing here throws.
 *
 * Neighbours of one size to one address leave as one message, which the kernel cuts (UDP_SEGMENT, udp(7)); what it has
 * joined arrives as one (UDP_GRO). Either way the stack below is walked once for all of them.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "socket.h"

/* Not in the C library's headers of old. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define BATCH 64
#define DGRAM_RX_ROW 9
#define DGRAM_TX_ROW 10
/* What most datagrams fit into: their places lie side by side, which caches like. */
#define DGRAM_SMALL 2048
/* A large one's place: the largest datagram, and as much more that places do not share their cache sets. */
#define DGRAM_LARGE (65536 + 1088)
#define DGRAM_BUFFER (4 * 1024 * 1024)
/* Of a message that the kernel cuts: UDP_MAX_SEGMENTS of kernels before 6.9, and the payload of the longest packet. */
#define SEGMENTS 64
#define SEGMENTED (65535 - 40 - 8)

/* The size of a segment, as ancillary data. */
union control {
	char octets[CMSG_SPACE(sizeof(int))];
	struct cmsghdr head;
};

/* Scratch of recvmmsg and sendmmsg, one per environment. */
struct datagrams {
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH][2];
	union address addresses[BATCH];
	union control controls[BATCH];
	int32_t rows[BATCH]; /* how many a message to send is made of */
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
	bool whole;
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
	set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
	/* Kernels before 4.18 ignore the ancillary data: they would send one large datagram. */
	whole = set_option(fd, IPPROTO_UDP, UDP_SEGMENT, 0) != 0;
	fd = own(in, fd);
	if (fd >= 0)
		mark(in, fd, FD_OWNED | (inet6 ? FD_INET6 : 0) | (whole ? FD_WHOLE : 0));
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

/* The size of the datagrams that the kernel has joined into the message; 0: it is one. */
static int32_t segment_of(struct msghdr *header)
{
	int size = 0;

	for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL; control = CMSG_NXTHDR(header, control))
		if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO)
			memcpy(&size, CMSG_DATA(control), sizeof(size));
	return size;
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
	int32_t small = DGRAM_SMALL;
	int32_t large = DGRAM_LARGE;
	int32_t larges;
	int want, count;

	if (all == NULL)
		return integer(env, -ENOMEM);
	if (start < 0 || end <= start || !inside(in, start, end - start) || rows.length < DGRAM_RX_ROW)
		return integer(env, -EFAULT);
	want = (end - start) / (small + large);
	if (want > BATCH)
		want = BATCH;
	if ((size_t)want > rows.length / DGRAM_RX_ROW)
		want = (int)(rows.length / DGRAM_RX_ROW);
	if (want == 0) {
		want = 1;
		small = 0;
		large = end - start;
	}
	/* All small places, then all large ones; a large datagram's first octets are put before its rest. */
	larges = start + want * small;
	for (int i = 0; i < want; i++) {
		all->iov[i][0] = (struct iovec){in->memory + start + i * small, (size_t)small};
		all->iov[i][1] = (struct iovec){in->memory + larges + i * large + small, (size_t)(large - small)};
		all->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &all->addresses[i],
			.msg_namelen = sizeof(all->addresses[i]),
			.msg_iov = all->iov[i],
			.msg_iovlen = 2,
			.msg_control = &all->controls[i],
			.msg_controllen = sizeof(all->controls[i]),
		};
	}
	do
		count = recvmmsg(fd, all->messages, (unsigned)want, MSG_DONTWAIT, NULL);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return integer(env, -errno);
	for (int i = 0; i < count; i++) {
		int32_t *row = rows.at + i * DGRAM_RX_ROW;
		int32_t length = (int32_t)all->messages[i].msg_len;

		row[0] = length <= small ? start + i * small : larges + i * large;
		if (length > small)
			memcpy(in->memory + row[0], in->memory + start + i * small, (size_t)small);
		row[1] = length;
		from_address(&all->addresses[i], row + 2);
		row[7] = (all->messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
		row[8] = segment_of(&all->messages[i].msg_hdr);
		if (row[8] >= length)
			row[8] = 0;
	}
	return integer(env, count);
}

static int32_t size_of(const int32_t *row)
{
	return row[1] + row[3];
}

/* 0, or -errno if the row cannot be sent by this socket. Fills the i-th pair of slices. */
static int to_message(const struct instance *in, const int32_t *row, int family, struct datagrams *all, int i,
		      struct msghdr *header)
{
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

/* True if `row` may follow in the message that begins with `first`: of its size, or shorter and then the last. */
static bool joins(const int32_t *first, const int32_t *before, const int32_t *row, int32_t octets)
{
	int32_t size = size_of(row);

	return row[9] == 0 && first[9] == 0 && size > 0 && size <= size_of(first) &&
	       size_of(before) == size_of(first) && octets + size <= SEGMENTED &&
	       memcmp(first + 4, row + 4, ADDRESS * sizeof(*row)) == 0;
}

static void cut(struct msghdr *header, union control *control, int32_t size)
{
	uint16_t segment = (uint16_t)size;

	*control = (union control){.head = {
		.cmsg_len = CMSG_LEN(sizeof(segment)),
		.cmsg_level = IPPROTO_UDP,
		.cmsg_type = UDP_SEGMENT,
	}};
	memcpy(CMSG_DATA(&control->head), &segment, sizeof(segment));
	header->msg_control = control;
	header->msg_controllen = CMSG_SPACE(sizeof(segment));
}

/* Longer than the path's packets, or a route that does not cut: one by one from now on, while the socket lives. */
static bool cannot_cut(int err)
{
	return err == EINVAL || err == EMSGSIZE || err == EIO || err == EOPNOTSUPP;
}

/* Messages made of the first rows, at most BATCH of them; *err of the row that ended it, or 0. */
static int to_messages(const struct instance *in, int fd, const int32_t *rows, int32_t count, struct datagrams *all,
		       int *err)
{
	unsigned flags = flags_of(in, fd);
	int messages = 0;
	int row = 0;

	*err = 0;
	while (row < count && row < BATCH) {
		const int32_t *first = rows + row * DGRAM_TX_ROW;
		struct msghdr *header = &all->messages[messages].msg_hdr;
		int32_t octets = size_of(first);
		int next = row + 1;

		*err = to_message(in, first, family_of(in, fd), all, row, header);
		if (*err != 0)
			break;
		while (!(flags & FD_WHOLE) && next < count && next < BATCH && next - row < SEGMENTS &&
		       joins(first, first + (next - row - 1) * DGRAM_TX_ROW, rows + next * DGRAM_TX_ROW, octets)) {
			struct msghdr rest;

			if (to_message(in, rows + next * DGRAM_TX_ROW, family_of(in, fd), all, next, &rest) != 0)
				break;
			octets += size_of(rows + next * DGRAM_TX_ROW);
			next++;
		}
		if (next - row > 1) {
			header->msg_iovlen = 2 * (size_t)(next - row);
			cut(header, &all->controls[messages], size_of(first));
		}
		all->rows[messages++] = next - row;
		row = next;
	}
	return messages;
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
		int ready = to_messages(in, fd, rows.at + done * DGRAM_TX_ROW, count - done, all, &err);
		int sent = 0;

		while (ready > 0 && (sent = sendmmsg(fd, all->messages, (unsigned)ready, MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 &&
		       errno == EINTR)
			;
		if (sent < 0 && all->rows[0] > 1 && cannot_cut(errno)) {
			err = mark(in, fd, flags_of(in, fd) | FD_WHOLE) < 0 ? -ENOMEM : 0;
			continue;
		}
		if (sent < 0)
			err = -errno;
		for (int i = 0; i < sent; i++)
			done += all->rows[i];
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
