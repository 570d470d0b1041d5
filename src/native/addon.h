/*
 * The Node-API side, shared by the units that register functions: one `struct instance` per
 * environment (main thread or worker) owns everything, and an environment clean-up hook releases it.
 */
#ifndef TUN2SOCKS_ADDON_H
#define TUN2SOCKS_ADDON_H

#include <node_api.h>
#include <uv.h>

#include "native.h"

/* What one environment knows of a descriptor; `struct instance.flags` is indexed by descriptor. */
enum {
	FD_OWNED = 1,   /* closed when the environment ends */
	FD_WATCHED = 2, /* member of the epoll */
	FD_INET6 = 4,   /* datagram socket of family AF_INET6 */
	FD_WHOLE = 8,   /* datagram socket whose messages are not cut by the kernel */
};

struct tun;
struct poller;
struct datagrams;

struct instance {
	napi_env env;
	uv_loop_t *loop;
	napi_async_cleanup_hook_handle ending; /* set once the environment has begun to end */
	unsigned closing;		       /* uv handles whose close callback is due */
	unsigned char *memory; /* the mapping; NULL before reserve() and after the environment's end */
	size_t size;
	napi_ref memory_ref; /* keeps the ArrayBuffer, and so the mapping, until the environment ends */
	unsigned char *flags;
	size_t flags_length;
	struct tun *tuns;
	struct poller *poller;
	struct datagrams *datagrams;
};

struct rows {
	int32_t *at;
	size_t length;
};

struct function {
	const char *name;
	napi_callback call;
};

/* ---- every function of the addon begins with this: the instance, and `want` arguments ---- */
struct instance *arguments(napi_env env, napi_callback_info info, size_t want, napi_value *argv);
void define(napi_env env, napi_value exports, const struct function *table, size_t count);
/* For a unit without a table of its own; define() hands the instance over as callback data. */
struct instance *instance_of(napi_env env);

/* ---- values ---- */
napi_value undefined(napi_env env);
napi_value integer(napi_env env, int64_t value);
napi_value string(napi_env env, const char *text);
void set(napi_env env, napi_value object, const char *name, napi_value value);
void set_integer(napi_env env, napi_value object, const char *name, int64_t value);
void set_boolean(napi_env env, napi_value object, const char *name, bool value);
/* `fallback` if the value is not a number. */
int32_t to_int(napi_env env, napi_value value, int32_t fallback);
double to_double(napi_env env, napi_value value, double fallback);
/* False if the value is no string, or does not fit (with its NUL) into `size`. */
bool to_string(napi_env env, napi_value value, char *text, size_t size);
/* An Int32Array's octets; at = NULL, length = 0 for anything else. */
struct rows to_rows(napi_env env, napi_value value);
/* Properties of an options object; undefined object or property: the fallback, or false. */
int32_t option_int(napi_env env, napi_value object, const char *name, int32_t fallback);
bool option_bool(napi_env env, napi_value object, const char *name, bool fallback);
bool option_present(napi_env env, napi_value object, const char *name, napi_value *value);
/* Fits: true. Absent: true and "". Not a string, or too long: false, and an exception is pending. */
bool option_string(napi_env env, napi_value object, const char *name, char *text, size_t size);
/* Text and prefix length into `address`; family 0 if absent. False: an exception is pending. */
bool option_address(napi_env env, napi_value object, const char *name, const char *prefix_name, int family,
		    struct tun_address *address);

/* ---- errors: both leave an exception pending and return NULL ---- */
napi_value throw_failure(napi_env env, const struct failure *failure);
napi_value throw_errno(napi_env env, int err, const char *step);

/* ---- calls into JavaScript, with ticks and microtasks; exceptions become uncaughtException ---- */
/* The caller has a handle scope open. */
void call_back(struct instance *in, napi_ref function, napi_value argument);
void call_back_int(struct instance *in, napi_ref function, int32_t argument);

/* ---- uv handles: the environment, and with it this library, stays until all are closed ---- */
void close_handle(struct instance *in, uv_handle_t *handle, uv_close_cb done);
/* The last act of every `done`. */
void handle_closed(struct instance *in);

/* ---- descriptors of this environment ---- */
/* Remembers FD_* bits of `fd`. Returns fd, or -ENOMEM. */
int mark(struct instance *in, int fd, unsigned flags);
/* Closed with the environment from now on; closed at once if that cannot be remembered. fd or -ENOMEM. */
int own(struct instance *in, int fd);
unsigned flags_of(const struct instance *in, int fd);
/* Forgets `fd`: somebody else closes it. */
void disown(struct instance *in, int fd);
/* Leaves the epoll if it is a member, forgets, and closes. Nothing if `fd` is not owned. */
void close_descriptor(struct instance *in, int fd);

static inline bool inside(const struct instance *in, int32_t offset, int32_t length)
{
	return offset >= 0 && length >= 0 && (uint64_t)offset + (uint64_t)length <= in->size;
}

/* ---- units ---- */
napi_value tun_info_object(napi_env env, const struct tun_info *info);
void register_memory(napi_env env, napi_value exports);
void register_tun_open(napi_env env, napi_value exports);
void register_tun(napi_env env, napi_value exports);
void register_poll(napi_env env, napi_value exports);
void register_socket(napi_env env, napi_value exports);
void register_datagram(napi_env env, napi_value exports);
void register_spawn(napi_env env, napi_value exports);
void tun_end(struct instance *in);
void poll_end(struct instance *in);
/* Takes `fd` out of the epoll. 0 or -errno. */
int poll_forget(struct instance *in, int fd);
void datagram_end(struct instance *in);

#endif
