/*
 * Opening and configuring TUN devices from JavaScript, here or in another network namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addon.h"

struct job {
	const char *netns; /* "": this one */
	int (*work)(struct job *job);
	int result;
	struct failure failure;
	struct tun_request request;
	struct tun_info info;
	const char *name;
	struct tun_settings settings;
};

static void *in_namespace(void *data)
{
	struct job *job = data;
	int fd = open(job->netns, O_RDONLY | O_CLOEXEC);

	job->result = -1;
	if (fd < 0) {
		failure_set(&job->failure, errno, "open network namespace");
		return NULL;
	}
	if (setns(fd, CLONE_NEWNET) != 0)
		failure_set(&job->failure, errno, "setns CLONE_NEWNET");
	else
		job->result = job->work(job);
	close(fd);
	return NULL;
}

/* A namespace belongs to a thread: a short-lived one enters it, ours never does. False: pending exception. */
static bool run(napi_env env, struct job *job)
{
	pthread_t thread;

	if (job->netns[0] == '\0') {
		job->result = job->work(job);
	} else {
		int err = pthread_create(&thread, NULL, in_namespace, job);

		if (err != 0) {
			throw_errno(env, err, "pthread_create");
			return false;
		}
		pthread_join(thread, NULL);
	}
	if (job->result < 0)
		throw_failure(env, &job->failure);
	return job->result >= 0;
}

static int work_open(struct job *job)
{
	return tun_open_device(&job->request, &job->info, &job->failure);
}

static int work_configure(struct job *job)
{
	return tun_configure_device(job->name, &job->settings, &job->failure);
}

static int work_mtu(struct job *job)
{
	return device_mtu(job->name, &job->failure);
}

static int work_queues(struct job *job)
{
	return tun_queue_count(job->name, &job->failure);
}

napi_value tun_info_object(napi_env env, const struct tun_info *info)
{
	napi_value object = NULL;

	napi_create_object(env, &object);
	set_integer(env, object, "fd", info->fd);
	set(env, object, "name", string(env, info->name));
	set_boolean(env, object, "created", info->created);
	set_boolean(env, object, "vnetHeader", info->vnet_header);
	set_boolean(env, object, "multiQueue", info->multi_queue);
	set_integer(env, object, "offload", info->offload);
	set_integer(env, object, "mtu", info->mtu);
	return object;
}

static napi_value tun_open(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct instance *in = arguments(env, info, 2, argv);
	char name[16], netns[PATH_MAX], device[PATH_MAX];
	struct job job = {.netns = netns, .work = work_open};

	if (!to_string(env, argv[0], name, sizeof(name)))
		return throw_errno(env, EINVAL, "device name");
	if (!option_string(env, argv[1], "netns", netns, sizeof(netns)) ||
	    !option_string(env, argv[1], "device", device, sizeof(device)))
		return NULL;
	job.request.device = device[0] != '\0' ? device : "/dev/net/tun";
	job.request.name = name;
	job.request.multi_queue = option_bool(env, argv[1], "multiQueue", false);
	job.request.vnet_header = option_bool(env, argv[1], "vnetHeader", true);
	job.request.offload = (unsigned)option_int(env, argv[1], "offload", -1);
	if (!run(env, &job))
		return NULL;
	if (own(in, job.info.fd) < 0)
		return throw_errno(env, ENOMEM, "tunOpen");
	return tun_info_object(env, &job.info);
}

static napi_value tun_configure(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	char name[16], netns[PATH_MAX];
	struct job job = {.netns = netns, .work = work_configure, .name = name};

	arguments(env, info, 2, argv);
	if (!to_string(env, argv[0], name, sizeof(name)))
		return throw_errno(env, EINVAL, "device name");
	if (!option_string(env, argv[1], "netns", netns, sizeof(netns)) ||
	    !option_address(env, argv[1], "ipv4", "ipv4Prefix", AF_INET, &job.settings.ipv4) ||
	    !option_address(env, argv[1], "ipv6", "ipv6Prefix", AF_INET6, &job.settings.ipv6))
		return NULL;
	job.settings.mtu = option_int(env, argv[1], "mtu", 0);
	job.settings.tx_queue_length = option_int(env, argv[1], "txQueueLength", 0);
	job.settings.up = option_bool(env, argv[1], "up", false);
	job.settings.default_route = option_bool(env, argv[1], "defaultRoute", false);
	run(env, &job);
	return NULL;
}

/* What a device is asked by its name: (name, netns?) → an integer. */
static napi_value ask(napi_env env, napi_callback_info info, int (*work)(struct job *job))
{
	napi_value argv[2];
	napi_valuetype type = napi_undefined;
	char name[16], netns[PATH_MAX] = "";
	struct job job = {.netns = netns, .work = work, .name = name};

	arguments(env, info, 2, argv);
	if (!to_string(env, argv[0], name, sizeof(name)))
		return throw_errno(env, EINVAL, "device name");
	napi_typeof(env, argv[1], &type);
	if (type != napi_undefined && !to_string(env, argv[1], netns, sizeof(netns)))
		return throw_errno(env, EINVAL, "netns");
	return run(env, &job) ? integer(env, job.result) : NULL;
}

static napi_value tun_mtu(napi_env env, napi_callback_info info)
{
	return ask(env, info, work_mtu);
}

static napi_value tun_queues(napi_env env, napi_callback_info info)
{
	return ask(env, info, work_queues);
}

/* Each worker serves a queue of its own, and one environment opens them all: ownership moves between environments. */
static napi_value tun_disown(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct instance *in = arguments(env, info, 1, &argument);

	disown(in, to_int(env, argument, -1));
	return NULL;
}

static napi_value tun_adopt(napi_env env, napi_callback_info info)
{
	napi_value argument;
	struct instance *in = arguments(env, info, 1, &argument);
	int fd = to_int(env, argument, -1);

	if (fd < 0 || fcntl(fd, F_GETFD) < 0)
		return throw_errno(env, EBADF, "tunAdopt");
	if (own(in, fd) < 0)
		return throw_errno(env, ENOMEM, "tunAdopt");
	return NULL;
}

void register_tun_open(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"tunOpen", tun_open},
		{"tunConfigure", tun_configure},
		{"tunMtu", tun_mtu},
		{"tunQueues", tun_queues},
		{"tunDisown", tun_disown},
		{"tunAdopt", tun_adopt},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
