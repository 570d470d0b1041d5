/*
 * The data path of a TUN device: batched read into the memory and batched writev from it. The
 * virtio_net_hdr (include/uapi/linux/virtio_net.h) ends here.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "addon.h"

#define BATCH 64
#define RX_ROW 6
#define TX_HEAD 7
#define SLICES 40
#define RX_ROOM (66 * 1024)
#define RX_ALIGN 64

#define NEEDS_CSUM 1 /* VIRTIO_NET_HDR_F_NEEDS_CSUM; DATA_VALID is 2 */

/* Little-endian by TUNSETVNETLE. linux/virtio_net.h does not compile as C everywhere. */
struct vnet_header {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t header_length;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
};

_Static_assert(sizeof(struct vnet_header) == 10, "the size given to TUNSETVNETHDRSZ");

struct tun {
	uv_poll_t poll; /* first: a handle is cast to its owner */
	struct instance *in;
	struct tun *next;
	int fd; /* -1: stopped */
	bool vnet_header;
	int32_t rx_start;
	int32_t rx_end;
	int32_t *rows;
	int limit;
	napi_ref rows_ref;
	napi_ref callback;
	int holders; /* the uv handle and the JavaScript value */
};

static const napi_type_tag tun_tag = {0x7a6f1f5b8a1d4c02, 0x9d3be2c1f0a54e77};

/* ---- reading ------------------------------------------------------------------------------------ */

static void fill_row(int32_t *row, int32_t offset, int32_t length, const struct vnet_header *header)
{
	row[0] = offset;
	row[1] = length;
	row[2] = header->flags | header->gso_type << 8;
	row[3] = le16toh(header->gso_size);
	row[4] = le16toh(header->csum_start);
	row[5] = le16toh(header->csum_offset);
}

/* Packets read (0: none there), or -errno when nothing was read and the device is no more. */
static int read_batch(struct tun *tun)
{
	struct vnet_header header = {0};
	int32_t at = tun->rx_start;
	int count = 0;

	while (count < tun->limit && tun->rx_end - at >= RX_ROOM && inside(tun->in, at, tun->rx_end - at)) {
		struct iovec iov[2] = {
			{&header, sizeof(header)},
			{tun->in->memory + at, (size_t)(tun->rx_end - at)},
		};
		ssize_t got = tun->vnet_header ? readv(tun->fd, iov, 2) : read(tun->fd, iov[1].iov_base, iov[1].iov_len);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			return count > 0 || errno == EAGAIN ? count : -errno;
		}
		if (tun->vnet_header)
			got -= (ssize_t)sizeof(header);
		if (got <= 0)
			break;
		fill_row(tun->rows + (size_t)count * RX_ROW, at, (int32_t)got, &header);
		at = (at + (int32_t)got + RX_ALIGN - 1) & ~(RX_ALIGN - 1);
		count++;
	}
	return count;
}

static void on_readable(uv_poll_t *handle, int status, int what)
{
	struct tun *tun = (struct tun *)handle;
	/*
	 * EPOLLERR: the device was deleted (drivers/net/tun.c, tun_chr_poll). libuv has stopped the poll, so
	 * this is the last call, whatever packets are left.
	 */
	int count = status < 0 ? -EBADFD : read_batch(tun);

	(void)what;
	if (count < 0)
		uv_poll_stop(handle);
	if (count != 0)
		call_back_int(tun->in, tun->callback, count);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void release(struct tun *tun)
{
	if (--tun->holders == 0)
		free(tun);
}

static void on_closed(uv_handle_t *handle)
{
	struct instance *in = ((struct tun *)handle)->in;

	release((struct tun *)handle);
	handle_closed(in);
}

static void finalize(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	release(data);
}

static void stop(struct tun *tun)
{
	struct tun **link = &tun->in->tuns;

	if (tun->fd < 0)
		return;
	while (*link != tun)
		link = &(*link)->next;
	*link = tun->next;
	napi_delete_reference(tun->in->env, tun->rows_ref);
	napi_delete_reference(tun->in->env, tun->callback);
	close_handle(tun->in, (uv_handle_t *)&tun->poll, on_closed);
	close(tun->fd);
	tun->fd = -1;
}

void tun_end(struct instance *in)
{
	while (in->tuns != NULL)
		stop(in->tuns);
}

static struct tun *to_tun(napi_env env, napi_value value)
{
	bool ours = false;
	void *data = NULL;

	if (napi_check_object_type_tag(env, value, &tun_tag, &ours) == napi_ok && ours)
		napi_unwrap(env, value, &data);
	return data;
}

static napi_value start(napi_env env, struct tun *tun, napi_value rows, napi_value callback)
{
	napi_value handle;
	int result = uv_poll_init(tun->in->loop, &tun->poll, tun->fd);

	if (result != 0) {
		free(tun);
		return throw_errno(env, -result, "uv_poll_init");
	}
	disown(tun->in, tun->fd);
	tun->next = tun->in->tuns;
	tun->in->tuns = tun;
	tun->holders = 1;
	napi_create_reference(env, rows, 1, &tun->rows_ref);
	napi_create_reference(env, callback, 1, &tun->callback);
	result = uv_poll_start(&tun->poll, UV_READABLE, on_readable);
	/* Not an external value: Node.js 20 leaks 40 octets of each that outlives its environment. */
	if (result == 0 && napi_create_object(env, &handle) == napi_ok &&
	    napi_wrap(env, handle, tun, finalize, NULL, NULL) == napi_ok) {
		tun->holders = 2;
		napi_type_tag_object(env, handle, &tun_tag);
		return handle;
	}
	stop(tun);
	return throw_errno(env, result != 0 ? -result : ENOMEM, "uv_poll_start");
}

static napi_value tun_start(napi_env env, napi_callback_info info)
{
	napi_value argv[6];
	struct instance *in = arguments(env, info, 6, argv);
	struct rows rows = to_rows(env, argv[4]);
	napi_valuetype type = napi_undefined;
	struct tun *tun;

	napi_typeof(env, argv[5], &type);
	tun = calloc(1, sizeof(*tun));
	if (tun == NULL)
		return throw_errno(env, ENOMEM, "tunStart");
	tun->in = in;
	tun->fd = to_int(env, argv[0], -1);
	napi_get_value_bool(env, argv[1], &tun->vnet_header);
	tun->rx_start = to_int(env, argv[2], -1);
	tun->rx_end = to_int(env, argv[3], -1);
	tun->rows = rows.at;
	tun->limit = rows.length / RX_ROW < BATCH ? (int)(rows.length / RX_ROW) : BATCH;
	if (tun->fd < 0 || type != napi_function || tun->limit == 0 || tun->rx_start < 0 ||
	    tun->rx_start > tun->rx_end || tun->rx_end - tun->rx_start < RX_ROOM ||
	    !inside(in, tun->rx_start, tun->rx_end - tun->rx_start)) {
		free(tun);
		return throw_errno(env, EINVAL, "tunStart");
	}
	return start(env, tun, argv[4], argv[5]);
}

static napi_value tun_stop(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct tun *tun;

	arguments(env, info, 1, &argument);
	tun = to_tun(env, argument);
	if (tun != NULL)
		stop(tun);
	return NULL;
}

static napi_value tun_read(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct tun *tun;

	arguments(env, info, 1, &argument);
	tun = to_tun(env, argument);
	return integer(env, tun != NULL && tun->fd >= 0 ? read_batch(tun) : -EBADF);
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* True if the kernel took the packet. `slices` is known to lie inside the rows. */
static bool write_packet(const struct tun *tun, const int32_t *row, int32_t slices)
{
	const struct instance *in = tun->in;
	struct vnet_header header = {0};
	struct iovec iov[2 + SLICES];
	int count = 0;
	ssize_t sent;

	if (slices > SLICES || !inside(in, row[0], row[1]))
		return false;
	if (tun->vnet_header) {
		header.gso_type = (uint8_t)row[2];
		header.header_length = htole16((uint16_t)row[1]);
		header.gso_size = htole16((uint16_t)row[3]);
		if (row[5] >= 0) {
			header.flags = NEEDS_CSUM;
			header.csum_start = htole16((uint16_t)row[4]);
			header.csum_offset = htole16((uint16_t)row[5]);
		}
		iov[count++] = (struct iovec){&header, sizeof(header)};
	} else if (row[2] != 0 || row[5] >= 0) {
		/* There is nobody to segment it or to complete its checksum. */
		return false;
	}
	iov[count++] = (struct iovec){in->memory + row[0], (size_t)row[1]};
	for (const int32_t *slice = row + TX_HEAD; slice < row + TX_HEAD + 2 * slices; slice += 2) {
		if (!inside(in, slice[0], slice[1]))
			return false;
		iov[count++] = (struct iovec){in->memory + slice[0], (size_t)slice[1]};
	}
	do
		sent = writev(tun->fd, iov, count);
	while (sent < 0 && errno == EINTR);
	return sent >= 0;
}

static napi_value tun_write(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct tun *tun;
	struct rows rows;
	int32_t packets, taken = 0;
	size_t at = 0;

	arguments(env, info, 3, argv);
	tun = to_tun(env, argv[0]);
	rows = to_rows(env, argv[1]);
	packets = to_int(env, argv[2], 0);
	if (tun == NULL || tun->fd < 0)
		return integer(env, 0);
	for (int32_t i = 0; i < packets && rows.length - at >= TX_HEAD; i++) {
		int32_t slices = rows.at[at + TX_HEAD - 1];

		if (slices < 0 || (size_t)slices > (rows.length - at - TX_HEAD) / 2)
			break;
		taken += write_packet(tun, rows.at + at, slices);
		at += TX_HEAD + 2 * (size_t)slices;
	}
	return integer(env, taken);
}

void register_tun(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"tunStart", tun_start},
		{"tunStop", tun_stop},
		{"tunWrite", tun_write},
		{"tunRead", tun_read},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
