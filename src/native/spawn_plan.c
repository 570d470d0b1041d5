/*
 * Turns the options of spawn() into a plan: everything the supervisor will read, copied out of
 * JavaScript and NUL-terminated, for a child that can neither allocate nor ask.
 */
#include "spawn_plan.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct block {
	struct block *next;
	char text[];
};

static void *allocate(struct draft *draft, size_t size)
{
	struct block *block = calloc(1, sizeof(*block) + size);

	if (block == NULL) {
		failure_set(&draft->failure, ENOMEM, "calloc");
		return NULL;
	}
	block->next = draft->blocks;
	draft->blocks = block;
	return block->text;
}

void draft_discard(struct draft *draft)
{
	while (draft->blocks != NULL) {
		struct block *block = draft->blocks;
		draft->blocks = block->next;
		free(block);
	}
}

/* A copy of a JavaScript string, or NULL with draft->failure. `length` may be NULL: then NUL is refused. */
static char *copy_text(struct draft *draft, napi_value value, const char *what, size_t *length)
{
	size_t octets = 0;
	char *text;

	if (napi_get_value_string_utf8(draft->env, value, NULL, 0, &octets) != napi_ok) {
		failure_set(&draft->failure, EINVAL, what);
		return NULL;
	}
	text = allocate(draft, octets + 1);
	if (text == NULL)
		return NULL;
	napi_get_value_string_utf8(draft->env, value, text, octets + 1, &octets);
	if (length != NULL) {
		*length = octets;
	} else if (strlen(text) != octets) {
		failure_set(&draft->failure, EINVAL, what);
		return NULL;
	}
	return text;
}

/* The array's length, or -1 with draft->failure. */
static int64_t array_length(struct draft *draft, napi_value object, const char *name, napi_value *array)
{
	uint32_t length = 0;

	if (!option_present(draft->env, object, name, array) ||
	    napi_get_array_length(draft->env, *array, &length) != napi_ok) {
		failure_set(&draft->failure, EINVAL, name);
		return -1;
	}
	return length;
}

/* A NULL-terminated vector of the array's strings, or NULL with draft->failure. */
static char **copy_vector(struct draft *draft, napi_value object, const char *name, size_t *count)
{
	napi_value array, element;
	int64_t length = array_length(draft, object, name, &array);
	char **vector = length < 0 ? NULL : allocate(draft, ((size_t)length + 1) * sizeof(char *));

	for (int64_t i = 0; vector != NULL && i < length; i++) {
		napi_get_element(draft->env, array, (uint32_t)i, &element);
		vector[i] = copy_text(draft, element, name, NULL);
		if (vector[i] == NULL)
			return NULL;
	}
	*count = length < 0 ? 0 : (size_t)length;
	return vector;
}

static bool copy_places(struct draft *draft, napi_value options)
{
	struct spawn_plan *plan = &draft->plan;
	napi_value array, element, value;
	size_t total = 0, count;
	int64_t length = array_length(draft, options, "files", &array);
	char **hidden = copy_vector(draft, options, "hide", &count);

	if (length < 0 || hidden == NULL)
		return false;
	if (length > SPAWN_FILES || count > SPAWN_HIDDEN) {
		failure_set(&draft->failure, E2BIG, length > SPAWN_FILES ? "files" : "hide");
		return false;
	}
	for (size_t i = 0; i < count; i++)
		plan->hidden[plan->hidden_count++] = hidden[i];
	for (int64_t i = 0; i < length; i++) {
		struct spawn_file *file = &plan->files[plan->file_count++];
		napi_get_element(draft->env, array, (uint32_t)i, &element);
		if (!option_present(draft->env, element, "path", &value) ||
		    (file->path = copy_text(draft, value, "files", NULL)) == NULL ||
		    !option_present(draft->env, element, "content", &value) ||
		    (file->content = copy_text(draft, value, "files", &file->length)) == NULL) {
			failure_set(&draft->failure, EINVAL, "files");
			return false;
		}
		total += file->length;
	}
	if (total > SPAWN_FILE_OCTETS)
		failure_set(&draft->failure, E2BIG, "files");
	return total <= SPAWN_FILE_OCTETS;
}

/* Where execvp(3) would look for argv[0]: PATH of the command's own environment. */
static bool find_candidates(struct draft *draft)
{
	struct spawn_plan *plan = &draft->plan;
	const char *file = plan->argv[0];
	const char *path = "/bin:/usr/bin";
	size_t count = 1, index = 0;

	for (char **variable = plan->envp; *variable != NULL; variable++)
		if (strncmp(*variable, "PATH=", 5) == 0)
			path = *variable + 5;
	if (strchr(file, '/') != NULL || file[0] == '\0')
		path = NULL;
	for (const char *at = path; at != NULL && *at != '\0'; at++)
		count += *at == ':';
	plan->candidates = allocate(draft, (count + 1) * sizeof(char *));
	if (plan->candidates == NULL)
		return false;
	if (path == NULL) {
		plan->candidates[0] = plan->argv[0];
		return true;
	}
	for (; index < count; index++) {
		size_t length = strcspn(path, ":");
		char *candidate = allocate(draft, length + strlen(file) + 3);
		if (candidate == NULL)
			return false;
		memcpy(candidate, path, length);
		if (length > 0)
			strcat(candidate, "/");
		strcat(candidate, file);
		plan->candidates[index] = candidate;
		path += length + (path[length] == ':');
	}
	return true;
}

static bool copy_command(struct draft *draft, napi_value options)
{
	struct spawn_plan *plan = &draft->plan;
	size_t arguments = 0, variables = 0;

	plan->argv = copy_vector(draft, options, "command", &arguments);
	plan->envp = plan->argv == NULL ? NULL : copy_vector(draft, options, "env", &variables);
	if (plan->envp == NULL)
		return false;
	if (arguments == 0) {
		failure_set(&draft->failure, EINVAL, "command");
		return false;
	}
	plan->shell_argv = allocate(draft, (arguments + 2) * sizeof(char *));
	if (plan->shell_argv == NULL)
		return false;
	plan->shell_argv[0] = "/bin/sh";
	for (size_t i = 1; i < arguments; i++)
		plan->shell_argv[i + 1] = plan->argv[i];
	return find_candidates(draft);
}

/* Making these namespaces, and a TUN in them, needs both; else a user namespace of our own has them. */
static bool is_privileged(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint32_t wanted = 1u << CAP_SYS_ADMIN | 1u << CAP_NET_ADMIN;

	return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & wanted) == wanted;
}

bool draft_plan(struct draft *draft, napi_env env, napi_value options)
{
	struct spawn_plan *plan = &draft->plan;

	memset(draft, 0, sizeof(*draft));
	draft->env = env;
	if (!option_string(env, options, "device", draft->device, sizeof(draft->device)) ||
	    !option_string(env, options, "tunName", draft->name, sizeof(draft->name)) ||
	    !option_address(env, options, "ipv4", "ipv4Prefix", AF_INET, &plan->settings.ipv4) ||
	    !option_address(env, options, "ipv6", "ipv6Prefix", AF_INET6, &plan->settings.ipv6))
		return false;
	plan->device.device = draft->device;
	plan->device.name = draft->name;
	plan->device.vnet_header = option_bool(env, options, "vnetHeader", true);
	plan->device.offload = (unsigned)option_int(env, options, "offload", 0x7fffffff);
	plan->queues = option_int(env, options, "queues", 1);
	if (plan->queues < 1 || plan->queues > SPAWN_QUEUES) {
		throw_errno(env, EINVAL, "queues");
		return false;
	}
	plan->settings.mtu = option_int(env, options, "mtu", 0);
	plan->mtu_without_tso = option_int(env, options, "mtuWithoutTso", 0);
	plan->settings.tx_queue_length = option_int(env, options, "txQueueLength", 0);
	plan->settings.up = true;
	plan->settings.default_route = true;
	plan->nofile = (rlim_t)option_int(env, options, "nofileSoft", 1024);
	if (!is_privileged()) {
		snprintf(draft->uid_map, sizeof(draft->uid_map), "%u %u 1", geteuid(), geteuid());
		snprintf(draft->gid_map, sizeof(draft->gid_map), "%u %u 1", getegid(), getegid());
		plan->uid_map = draft->uid_map;
		plan->gid_map = draft->gid_map;
	}
	return copy_places(draft, options) && copy_command(draft, options);
}
