/*
 * Readiness: one epoll behind one uv_poll per environment. Level-triggered, so that nothing is lost
 * when data and end of stream arrive together.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "addon.h"

#define EVENTS 256

struct poller {
	uv_poll_t poll; /* first: a handle is cast to its owner */
	struct instance *in;
	int epoll;
	unsigned watched;
	int32_t *events;
	int limit;
	napi_ref events_ref;
	napi_ref callback;
	struct epoll_event scratch[EVENTS];
};

static void on_readable(uv_poll_t *handle, int status, int what)
{
	struct poller *poller = (struct poller *)handle;
	int count;

	(void)status;
	(void)what;
	count = epoll_wait(poller->epoll, poller->scratch, poller->limit, 0);
	for (int i = 0; i < count; i++) {
		poller->events[2 * i] = poller->scratch[i].data.fd;
		poller->events[2 * i + 1] = (int32_t)poller->scratch[i].events;
	}
	if (count > 0)
		call_back_int(poller->in, poller->callback, count);
}

static void on_closed(uv_handle_t *handle)
{
	struct instance *in = ((struct poller *)handle)->in;

	free(handle);
	handle_closed(in);
}

void poll_end(struct instance *in)
{
	struct poller *poller = in->poller;

	if (poller == NULL)
		return;
	in->poller = NULL;
	for (size_t fd = 0; fd < in->flags_length; fd++)
		in->flags[fd] &= (unsigned char)~FD_WATCHED;
	napi_delete_reference(in->env, poller->events_ref);
	napi_delete_reference(in->env, poller->callback);
	close_handle(in, (uv_handle_t *)&poller->poll, on_closed);
	close(poller->epoll);
}

static void count_watched(struct poller *poller, int change)
{
	poller->watched += (unsigned)change;
	if (poller->watched == 0)
		uv_unref((uv_handle_t *)&poller->poll);
	else
		uv_ref((uv_handle_t *)&poller->poll);
}

static napi_value poll_start(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct instance *in = arguments(env, info, 2, argv);
	struct rows rows = to_rows(env, argv[0]);
	napi_valuetype type = napi_undefined;
	struct poller *poller;
	int result;

	napi_typeof(env, argv[1], &type);
	if (in->poller != NULL || rows.length < 2 || type != napi_function)
		return throw_errno(env, in->poller != NULL ? EEXIST : EINVAL, "pollStart");
	poller = calloc(1, sizeof(*poller));
	if (poller == NULL)
		return throw_errno(env, ENOMEM, "pollStart");
	poller->in = in;
	poller->events = rows.at;
	poller->limit = rows.length / 2 < EVENTS ? (int)(rows.length / 2) : EVENTS;
	poller->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (poller->epoll < 0) {
		free(poller);
		return throw_errno(env, errno, "epoll_create1");
	}
	result = uv_poll_init(in->loop, &poller->poll, poller->epoll);
	if (result != 0) {
		close(poller->epoll);
		free(poller);
		return throw_errno(env, -result, "uv_poll_init");
	}
	in->poller = poller;
	napi_create_reference(env, argv[0], 1, &poller->events_ref);
	napi_create_reference(env, argv[1], 1, &poller->callback);
	result = uv_poll_start(&poller->poll, UV_READABLE, on_readable);
	if (result != 0) {
		poll_end(in);
		return throw_errno(env, -result, "uv_poll_start");
	}
	count_watched(poller, 0);
	return NULL;
}

static napi_value poll_stop(napi_env env, napi_callback_info info)
{
	poll_end(arguments(env, info, 0, NULL));
	return NULL;
}

static int control(struct instance *in, int operation, int fd, int32_t id, int32_t bits)
{
	struct epoll_event event = {.events = (uint32_t)bits, .data.fd = id};

	if (in->poller == NULL)
		return -EBADF;
	return epoll_ctl(in->poller->epoll, operation, fd, &event) == 0 ? 0 : -errno;
}

static napi_value poll_add(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct instance *in = arguments(env, info, 3, argv);
	int fd = to_int(env, argv[0], -1);
	int result = control(in, EPOLL_CTL_ADD, fd, to_int(env, argv[1], 0), to_int(env, argv[2], 0));

	if (result == 0) {
		/* A descriptor of another owner is watched, never closed by us. */
		result = mark(in, fd, flags_of(in, fd) | FD_WATCHED);
		if (result < 0)
			control(in, EPOLL_CTL_DEL, fd, 0, 0);
		else
			count_watched(in->poller, 1);
	}
	return integer(env, result < 0 ? result : 0);
}

static napi_value poll_modify(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct instance *in = arguments(env, info, 3, argv);

	return integer(env, control(in, EPOLL_CTL_MOD, to_int(env, argv[0], -1), to_int(env, argv[1], 0),
				    to_int(env, argv[2], 0)));
}

int poll_forget(struct instance *in, int fd)
{
	int result = control(in, EPOLL_CTL_DEL, fd, 0, 0);

	if (flags_of(in, fd) & FD_WATCHED) {
		in->flags[fd] &= (unsigned char)~FD_WATCHED;
		count_watched(in->poller, -1);
	}
	return result;
}

static napi_value poll_remove(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct instance *in = arguments(env, info, 1, &argument);

	return integer(env, poll_forget(in, to_int(env, argument, -1)));
}

void register_poll(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"pollStart", poll_start},
		{"pollAdd", poll_add},
		{"pollModify", poll_modify},
		{"pollRemove", poll_remove},
		{"pollStop", poll_stop},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
