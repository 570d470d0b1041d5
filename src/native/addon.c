/*
 * Module initialisation, the per-environment instance and the helpers of the other units.
 *
 * Order at the end of an environment: the clean-up hook closes TUNs, epoll and descriptors; it is an
 * asynchronous one, because a worker's end unloads this library, and the close callbacks of its uv
 * handles must have run by then. The ArrayBuffer's finalizer unmaps. The instance goes last, as
 * instance data.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addon.h"

struct instance *arguments(napi_env env, napi_callback_info info, size_t want, napi_value *argv)
{
	void *data = NULL;

	napi_get_cb_info(env, info, &want, argv, NULL, &data);
	return data;
}

struct instance *instance_of(napi_env env)
{
	void *data = NULL;

	napi_get_instance_data(env, &data);
	return data;
}

void define(napi_env env, napi_value exports, const struct function *table, size_t count)
{
	void *instance = instance_of(env);

	for (size_t i = 0; i < count; i++) {
		napi_property_descriptor property = {
			.utf8name = table[i].name,
			.method = table[i].call,
			.attributes = napi_enumerable,
			.data = instance,
		};

		napi_define_properties(env, exports, 1, &property);
	}
}

napi_value undefined(napi_env env)
{
	napi_value value = NULL;

	napi_get_undefined(env, &value);
	return value;
}

napi_value integer(napi_env env, int64_t number)
{
	napi_value value = NULL;

	napi_create_int64(env, number, &value);
	return value;
}

napi_value string(napi_env env, const char *text)
{
	napi_value value = NULL;

	napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
	return value;
}

void set(napi_env env, napi_value object, const char *name, napi_value value)
{
	napi_set_named_property(env, object, name, value);
}

void set_integer(napi_env env, napi_value object, const char *name, int64_t value)
{
	set(env, object, name, integer(env, value));
}

void set_boolean(napi_env env, napi_value object, const char *name, bool boolean)
{
	napi_value value = NULL;

	napi_get_boolean(env, boolean, &value);
	set(env, object, name, value);
}

int32_t to_int(napi_env env, napi_value value, int32_t fallback)
{
	int32_t number;

	return napi_get_value_int32(env, value, &number) == napi_ok ? number : fallback;
}

double to_double(napi_env env, napi_value value, double fallback)
{
	double number;

	return napi_get_value_double(env, value, &number) == napi_ok ? number : fallback;
}

bool to_string(napi_env env, napi_value value, char *text, size_t size)
{
	size_t length;

	if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok || length >= size)
		return false;
	/* An embedded NUL would name something else than JavaScript meant. */
	return napi_get_value_string_utf8(env, value, text, size, &length) == napi_ok && strlen(text) == length;
}

struct rows to_rows(napi_env env, napi_value value)
{
	struct rows rows = {NULL, 0};
	napi_typedarray_type type;
	size_t length;
	void *data;

	if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) == napi_ok &&
	    type == napi_int32_array) {
		rows.at = data;
		rows.length = length;
	}
	return rows;
}

bool option_present(napi_env env, napi_value object, const char *name, napi_value *value)
{
	napi_valuetype type;

	if (napi_typeof(env, object, &type) != napi_ok || type != napi_object)
		return false;
	return napi_get_named_property(env, object, name, value) == napi_ok &&
	       napi_typeof(env, *value, &type) == napi_ok && type != napi_undefined;
}

int32_t option_int(napi_env env, napi_value object, const char *name, int32_t fallback)
{
	napi_value value;

	return option_present(env, object, name, &value) ? to_int(env, value, fallback) : fallback;
}

bool option_bool(napi_env env, napi_value object, const char *name, bool fallback)
{
	napi_value value;
	bool boolean;

	if (option_present(env, object, name, &value) && napi_get_value_bool(env, value, &boolean) == napi_ok)
		return boolean;
	return fallback;
}

bool option_string(napi_env env, napi_value object, const char *name, char *text, size_t size)
{
	napi_value value;

	text[0] = '\0';
	if (!option_present(env, object, name, &value) || to_string(env, value, text, size))
		return true;
	throw_errno(env, EINVAL, name);
	return false;
}

bool option_address(napi_env env, napi_value object, const char *name, const char *prefix_name, int family,
		    struct tun_address *address)
{
	char text[INET6_ADDRSTRLEN];

	memset(address, 0, sizeof(*address));
	if (!option_string(env, object, name, text, sizeof(text)))
		return false;
	if (text[0] == '\0')
		return true;
	address->family = family;
	address->prefix = option_int(env, object, prefix_name, family == AF_INET ? 32 : 128);
	if (inet_pton(family, text, address->octets) == 1 && address->prefix >= 0 &&
	    address->prefix <= (family == AF_INET ? 32 : 128))
		return true;
	throw_errno(env, EINVAL, name);
	return false;
}

/* libuv does not name every errno of Linux; strerrorname_np(3) does, where there is one. */
static void name_errno(int err, char *name, size_t size)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 32)
	const char *known = strerrorname_np(err);

	snprintf(name, size, "%s", known != NULL ? known : "UNKNOWN");
#else
	uv_err_name_r(-err, name, size);
#endif
}

napi_value throw_failure(napi_env env, const struct failure *failure)
{
	char name[40], text[256];
	napi_value error;

	name_errno(failure->err, name, sizeof(name));
	snprintf(text, sizeof(text), "%s: %s, %s", name, strerror(failure->err), failure->step);
	if (napi_create_error(env, string(env, name), string(env, text), &error) != napi_ok)
		return NULL;
	set_integer(env, error, "errno", failure->err);
	set(env, error, "syscall", string(env, failure->step));
	napi_throw(env, error);
	return NULL;
}

napi_value throw_errno(napi_env env, int err, const char *step)
{
	struct failure failure;

	failure_set(&failure, err, step);
	return throw_failure(env, &failure);
}

void call_back(struct instance *in, napi_ref function, napi_value argument)
{
	napi_env env = in->env;
	napi_value callee, receiver, error;
	bool pending = false;

	if (napi_get_reference_value(env, function, &callee) != napi_ok || napi_get_global(env, &receiver) != napi_ok)
		return;
	if (napi_make_callback(env, NULL, receiver, callee, 1, &argument, NULL) == napi_ok)
		return;
	/* In an environment that is being terminated nothing is pending, and nothing is to be done. */
	if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
	    napi_get_and_clear_last_exception(env, &error) == napi_ok)
		napi_fatal_exception(env, error);
}

void call_back_int(struct instance *in, napi_ref function, int32_t argument)
{
	napi_handle_scope scope;
	napi_value value;

	if (napi_open_handle_scope(in->env, &scope) != napi_ok)
		return;
	if (napi_create_int32(in->env, argument, &value) == napi_ok)
		call_back(in, function, value);
	napi_close_handle_scope(in->env, scope);
}

int mark(struct instance *in, int fd, unsigned flags)
{
	if ((size_t)fd >= in->flags_length) {
		size_t length = ((size_t)fd + 1024) & ~(size_t)1023;
		unsigned char *grown = realloc(in->flags, length);

		if (grown == NULL)
			return -ENOMEM;
		memset(grown + in->flags_length, 0, length - in->flags_length);
		in->flags = grown;
		in->flags_length = length;
	}
	in->flags[fd] = (unsigned char)flags;
	return fd;
}

int own(struct instance *in, int fd)
{
	if (mark(in, fd, FD_OWNED) < 0) {
		close(fd);
		return -ENOMEM;
	}
	return fd;
}

unsigned flags_of(const struct instance *in, int fd)
{
	return fd >= 0 && (size_t)fd < in->flags_length ? in->flags[fd] : 0;
}

void disown(struct instance *in, int fd)
{
	if (flags_of(in, fd) != 0)
		in->flags[fd] = 0;
}

void close_descriptor(struct instance *in, int fd)
{
	/* Not ours: its owner closes it. So a late second close does no harm to others of the process. */
	if (!(flags_of(in, fd) & FD_OWNED))
		return;
	/* Said explicitly: a copy of the descriptor in another process would keep it in the epoll. */
	if (flags_of(in, fd) & FD_WATCHED)
		poll_forget(in, fd);
	disown(in, fd);
	close(fd);
}

void close_handle(struct instance *in, uv_handle_t *handle, uv_close_cb done)
{
	in->closing++;
	uv_close(handle, done);
}

void handle_closed(struct instance *in)
{
	if (--in->closing == 0 && in->ending != NULL)
		napi_remove_async_cleanup_hook(in->ending);
}

static void end(napi_async_cleanup_hook_handle hook, void *data)
{
	struct instance *in = data;

	tun_end(in);
	poll_end(in);
	for (size_t fd = 0; fd < in->flags_length; fd++)
		if (in->flags[fd] & FD_OWNED)
			close((int)fd);
	free(in->flags);
	in->flags = NULL;
	in->flags_length = 0;
	datagram_end(in);
	if (in->memory_ref != NULL)
		napi_delete_reference(in->env, in->memory_ref);
	in->memory_ref = NULL;
	in->ending = hook;
	if (in->closing == 0)
		napi_remove_async_cleanup_hook(hook);
}

static void destroy(napi_env env, void *data, void *hint)
{
	(void)env;
	(void)hint;
	free(data);
}

NAPI_MODULE_INIT()
{
	struct instance *in = calloc(1, sizeof(*in));

	if (in == NULL)
		return throw_errno(env, ENOMEM, "calloc");
	in->env = env;
	if (napi_get_uv_event_loop(env, &in->loop) != napi_ok ||
	    napi_set_instance_data(env, in, destroy, NULL) != napi_ok) {
		free(in);
		return throw_errno(env, EINVAL, "napi_set_instance_data");
	}
	napi_add_async_cleanup_hook(env, end, in, NULL);
	register_memory(env, exports);
	register_tun_open(env, exports);
	register_tun(env, exports);
	register_poll(env, exports);
	register_socket(env, exports);
	register_datagram(env, exports);
	register_spawn(env, exports);
	return exports;
}
