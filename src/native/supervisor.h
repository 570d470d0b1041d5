/*
 * What spawn.c prepares before the clone and supervisor.c carries out after it. Every pointer in
 * struct spawn_plan is memory of the parent, seen by the child through its copy-on-write image.
 */
#ifndef TUN2SOCKS_SUPERVISOR_H
#define TUN2SOCKS_SUPERVISOR_H

#include "native.h"

#include <sys/resource.h>

enum { SPAWN_FILES = 8, SPAWN_HIDDEN = 8, SPAWN_WARNINGS = 20, SPAWN_QUEUES = 16 };

/* Bound of the files together; they are written to a memory file system. */
enum { SPAWN_FILE_OCTETS = 4 * 1024 * 1024 };

struct spawn_file {
	const char *path;
	const char *content;
	size_t length;
};

struct spawn_plan {
	/* "ID ID 1" lines; NULL without a user namespace. */
	const char *uid_map;
	const char *gid_map;
	struct tun_request device;
	int queues; /* of the device, 1 to SPAWN_QUEUES */
	struct tun_settings settings;
	/* Instead of settings.mtu where the kernel refuses TSO; 0: the same. */
	int mtu_without_tso;
	struct spawn_file files[SPAWN_FILES];
	int file_count;
	const char *hidden[SPAWN_HIDDEN];
	int hidden_count;
	/* What to execute: the candidates of the PATH search, each tried with argv. */
	char **candidates;
	char **argv;
	/* For a script without "#!": [0] "/bin/sh", [1] the candidate, the rest as argv. */
	char **shell_argv;
	char **envp;
	rlim_t nofile;
};

/* First message of the supervisor. With `ready`, the descriptors of the TUN's queues travel along (SCM_RIGHTS). */
struct spawn_report {
	bool ready;
	struct failure failure;
	struct tun_info tun; /* its descriptor is queues[0] */
	int queues[SPAWN_QUEUES];
	int warning_count;
	char warnings[SPAWN_WARNINGS][96];
	int warning_errnos[SPAWN_WARNINGS];
};

/* Last message of the supervisor. */
struct spawn_exit {
	int status;
	int signal;
	int exec_errno;
	int start_errno; /* of what comes before execve; or 0 */
};

/* Messages to the supervisor: one int32, SPAWN_GO once, then signals for the command or SPAWN_ASK. */
enum { SPAWN_GO = 0, SPAWN_ASK = 1000 };

/*
 * Messages of the supervisor between the report and the last one: one int32. STOPPED whenever the command
 * was stopped; STAYS in answer to SPAWN_ASK, if it is stopped still.
 */
enum { SPAWN_STOPPED = 1, SPAWN_STAYS = 2 };

/*
 * The life of pid 1 inside. `control` is a SOCK_SEQPACKET socket to the parent. Called right after
 * clone with every signal blocked; async-signal-safe; never returns.
 */
_Noreturn void supervise(const struct spawn_plan *plan, int control);

/* Binds the plan's files and hides its directories; what fails becomes a warning of the report. */
void spawn_mount_files(const struct spawn_plan *plan, struct spawn_report *report);
/* Appends "STEPDETAIL" and `err`; beyond SPAWN_WARNINGS nothing. */
void spawn_warn(struct spawn_report *report, int err, const char *step, const char *detail);

#endif
