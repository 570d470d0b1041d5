/*
 * The memory of an environment: one reserved mapping that every offset refers to; and the limits and
 * the end of the process.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "addon.h"

/* Offsets are int32; the slack lets the units round up without overflow. */
#define MEMORY_LIMIT (INT32_MAX - 65535)

/* Runs once the ArrayBuffer is detached: at the end of the environment, since memory_ref holds it. */
static void unmap(napi_env env, void *data, void *hint)
{
	struct instance *in = hint;

	(void)env;
	munmap(data, in->size);
	in->memory = NULL;
	in->size = 0;
}

static napi_value reserve(napi_env env, napi_callback_info info)
{
	napi_value argument, buffer;
	struct instance *in = arguments(env, info, 1, &argument);
	double wanted = to_double(env, argument, 0);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *memory;

	if (in->memory != NULL)
		return throw_errno(env, EEXIST, "reserve");
	if (!(wanted >= 1 && wanted <= MEMORY_LIMIT))
		return throw_errno(env, EINVAL, "reserve");
	in->size = ((size_t)wanted + page - 1) & ~(page - 1);
	memory = mmap(NULL, in->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		in->size = 0;
		return throw_errno(env, errno, "mmap");
	}
	/* Resident memory follows the pages in use; children have no business with it. */
	madvise(memory, in->size, MADV_NOHUGEPAGE);
	madvise(memory, in->size, MADV_DONTFORK);
	if (napi_create_external_arraybuffer(env, memory, (size_t)wanted, unmap, in, &buffer) != napi_ok) {
		munmap(memory, in->size);
		in->size = 0;
		return throw_errno(env, ENOMEM, "napi_create_external_arraybuffer");
	}
	in->memory = memory;
	napi_create_reference(env, buffer, 1, &in->memory_ref);
	return buffer;
}

static napi_value release(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct instance *in = arguments(env, info, 2, argv);
	int32_t start = to_int(env, argv[0], -1);
	int32_t end = to_int(env, argv[1], -1);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (start >= 0 && start <= end && inside(in, start, end - start)) {
		size_t from = ((size_t)start + page - 1) & ~(page - 1);
		size_t to = (size_t)end & ~(page - 1);

		if (from < to)
			madvise(in->memory + from, to - from, MADV_DONTNEED);
	}
	return NULL;
}

static napi_value resident(napi_env env, napi_callback_info info)
{
	struct instance *in = arguments(env, info, 0, NULL);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char present[4096];
	int64_t pages = 0;

	for (size_t at = 0; at < in->size; at += sizeof(present) * page) {
		size_t length = in->size - at < sizeof(present) * page ? in->size - at : sizeof(present) * page;

		if (mincore(in->memory + at, length, present) != 0)
			break;
		for (size_t i = 0; i < length / page; i++)
			pages += present[i] & 1;
	}
	return integer(env, pages * (int64_t)page);
}

/* Soft limit of descriptors of the parent (proc_pid_limits(5)); Node raises its own at start. */
static double parent_nofile(double hard)
{
	char path[64], line[256], word[64];
	double soft = 1024;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/limits", (int)getppid());
	file = fopen(path, "re");
	if (file == NULL)
		return soft;
	while (fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "Max open files %63s", word) == 1) {
			soft = strcmp(word, "unlimited") == 0 ? hard : strtod(word, NULL);
			break;
		}
	fclose(file);
	return soft;
}

static napi_value nofile(napi_env env, napi_callback_info info)
{
	struct rlimit limit = {1024, 1024};
	napi_value result;

	(void)info;
	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max > INT32_MAX)
		limit.rlim_max = INT32_MAX;
	napi_create_object(env, &result);
	set_integer(env, result, "soft", (int64_t)parent_nofile((double)limit.rlim_max));
	set_integer(env, result, "hard", (int64_t)limit.rlim_max);
	return result;
}

/* Without exit handlers: that of libuv waits for its threads, and a thread in getaddrinfo(3) for a resolver. */
static napi_value exit_now(napi_env env, napi_callback_info info)
{
	napi_value argument;

	arguments(env, info, 1, &argument);
	_exit(to_int(env, argument, EXIT_FAILURE));
}

/* In place: what unsetenv(3) leaves behind is what /proc/PID/environ shows, here and in every process cloned from here. */
static napi_value erase_variable(napi_env env, napi_callback_info info)
{
	napi_value argument;
	char name[64];
	char *value;

	arguments(env, info, 1, &argument);
	if (!to_string(env, argument, name, sizeof(name)))
		return NULL;
	value = getenv(name);
	if (value != NULL)
		memset(value, 0, strlen(value));
	unsetenv(name);
	return NULL;
}

void register_memory(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"reserve", reserve},
		{"release", release},
		{"resident", resident},
		{"nofile", nofile},
		{"exitNow", exit_now},
		{"eraseVariable", erase_variable},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
