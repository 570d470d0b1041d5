/*
 * The supervisor: pid 1 of the private namespaces in which a command runs.
 *
 * It is a clone of a multi-threaded process that never calls execve, so everything here is
 * async-signal-safe: no malloc, no stdio, no fork(3) (its at-fork handlers take locks), raw system
 * calls where glibc would trust a thread descriptor that belongs to the parent.
 *
 *     maps ids -> makes mounts private -> /proc -> lo, TUN -> files -> report + fd
 *     -> waits for go -> forks the command -> passes signals on, tells of stops, reaps -> exit report -> exits
 *
 * Its death ends every process inside (pid_namespaces(7)). It dies with its parent: PDEATHSIG, and the
 * end of file on the control socket. The usual companion of PDEATHSIG, comparing getppid() against the
 * parent's pid, is of no use here: from a new pid namespace getppid() is 0 before and after. The socket
 * closes the same race: a parent that died before prctl() leaves an end of file behind.
 *
 * All signals stay blocked for life. A terminal's signals reach the whole foreground process group, of
 * which the supervisor stays a member; blocked, they neither end nor stop it.
 */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_range_raw(unsigned first, unsigned last)
{
	if (first > last)
		return;
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return;
#endif
	/* Linux before 5.9: one by one, up to the largest descriptor there can be. */
	struct rlimit limit;
	unsigned end = 1u << 20;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < end)
		end = (unsigned)limit.rlim_max;
	for (unsigned fd = first; fd < end && fd <= last; fd++)
		close((int)fd);
}

/* 0, or -1 with *failure. */
static int write_text(const char *path, const char *text, struct failure *failure)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t wrote = fd < 0 ? -1 : write(fd, text, strlen(text));
	if (wrote < 0)
		failure_set(failure, errno, path);
	if (fd >= 0)
		close(fd);
	return wrote < 0 ? -1 : 0;
}

/* user_namespaces(7): one line that maps our own ids may be written from inside once setgroups is denied. */
static int map_ids(const struct spawn_plan *plan, struct failure *failure)
{
	if (plan->uid_map == NULL)
		return 0;
	if (write_text("/proc/self/setgroups", "deny", failure) != 0) {
		failure_set(failure, failure->err, "write /proc/self/setgroups");
		return -1;
	}
	if (write_text("/proc/self/uid_map", plan->uid_map, failure) != 0) {
		failure_set(failure, failure->err, "write /proc/self/uid_map");
		return -1;
	}
	if (write_text("/proc/self/gid_map", plan->gid_map, failure) != 0) {
		failure_set(failure, failure->err, "write /proc/self/gid_map");
		return -1;
	}
	return 0;
}

/* What fails here ends the process, and with it the descriptors. */
static int open_queues(const struct spawn_plan *plan, struct spawn_report *report)
{
	struct tun_request next = plan->device;

	next.multi_queue = plan->queues > 1;
	if (tun_open_device(&next, &report->tun, &report->failure) != 0)
		return -1;
	report->queues[0] = report->tun.fd;
	for (int i = 1; i < plan->queues; i++) {
		struct tun_info info;

		if (tun_open_device(&next, &info, &report->failure) != 0)
			return -1;
		report->queues[i] = info.fd;
	}
	return 0;
}

/* Everything before the report. 0, or -1 with report->failure. */
static int set_up(const struct spawn_plan *plan, struct spawn_report *report)
{
	struct failure *failure = &report->failure;
	if (map_ids(plan, failure) != 0)
		return -1;
	/* Mounts of the host still arrive here, ours never leave. */
	if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) {
		failure_set(failure, errno, "mount /");
		return -1;
	}
	/* Refused in containers that mask parts of /proc; then the command sees the old one. */
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		spawn_warn(report, errno, "mount /proc", "");
	if (loopback_up(failure) != 0)
		return -1;
	if (open_queues(plan, report) != 0)
		return -1;
	struct tun_settings settings = plan->settings;
	struct failure refusal;
	if (settings.tx_queue_length > 0 &&
	    tun_set_queue_length(report->tun.name, settings.tx_queue_length, &refusal) != 0)
		spawn_warn(report, refusal.err, "set txqueuelen", "");
	settings.tx_queue_length = 0;
	if (plan->mtu_without_tso > 0 && !tun_segments(&report->tun))
		settings.mtu = plan->mtu_without_tso;
	if (tun_configure_device(report->tun.name, &settings, failure) != 0)
		return -1;
	if (settings.mtu > 0)
		report->tun.mtu = settings.mtu;
	spawn_mount_files(plan, report);
	return 0;
}

/* The report, with the TUN's descriptors when it is ready. 0 or -1. */
static int send_report(const struct spawn_plan *plan, int control, struct spawn_report *report)
{
	struct iovec part = {.iov_base = report, .iov_len = sizeof(*report)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union {
		struct cmsghdr header;
		char octets[CMSG_SPACE(sizeof(report->queues))];
	} rights;
	if (report->ready) {
		size_t length = sizeof(int) * (size_t)plan->queues;
		memset(&rights, 0, sizeof(rights));
		message.msg_control = rights.octets;
		message.msg_controllen = CMSG_SPACE(length);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(length);
		memcpy(CMSG_DATA(header), report->queues, length);
	}
	return sendmsg(control, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* The next message of the parent, or -1 when it is gone. */
static int receive(int control)
{
	int32_t message;
	ssize_t got = recv(control, &message, sizeof(message), 0);
	return got == (ssize_t)sizeof(message) ? message : -1;
}

/*
 * Becomes the command; on failure writes the errno of execve to `failed`. The search goes on and ends as
 * execvp(3) does it: past what is not there, past what may not be run, but remembering EACCES.
 */
static _Noreturn void become_command(const struct spawn_plan *plan, int failed)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = plan->nofile < limit.rlim_max ? plan->nofile : limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* Node marks its standard descriptors close-on-exec, and pipes among them non-blocking. */
	for (int fd = 0; fd <= 2; fd++) {
		int flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			continue;
		fcntl(fd, F_SETFD, 0);
		if (flags & O_NONBLOCK)
			fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	}
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	int err = ENOENT;
	bool denied = false;
	for (char **path = plan->candidates; *path != NULL; path++) {
		execve(*path, plan->argv, plan->envp);
		if (errno == ENOEXEC) {
			plan->shell_argv[1] = *path;
			execve(plan->shell_argv[0], plan->shell_argv, plan->envp);
		}
		err = errno;
		if (err == EACCES)
			denied = true;
		else if (err != ENOENT && err != ENOTDIR && err != ESTALE && err != ENODEV && err != ETIMEDOUT)
			break;
	}
	if (denied && (err == ENOENT || err == ENOTDIR))
		err = EACCES;
	ssize_t ignored = write(failed, &err, sizeof(err));
	(void)ignored;
	_exit(127);
}

/* Forks the command. Its pid, or -1 with the errno of pipe, clone or execve in *end. */
static pid_t start_command(const struct spawn_plan *plan, struct spawn_exit *end)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) != 0) {
		end->start_errno = errno;
		return -1;
	}
	pid_t command = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (command == 0)
		become_command(plan, ends[1]);
	if (command < 0)
		end->start_errno = errno;
	close(ends[1]);
	int err = 0;
	if (command > 0 && read(ends[0], &err, sizeof(err)) == (ssize_t)sizeof(err)) {
		end->exec_errno = err;
		waitpid(command, NULL, 0);
		command = -1;
	}
	close(ends[0]);
	return command;
}

static void tell(int control, int32_t message)
{
	send(control, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/*
 * Reaps whoever has ended, and follows the command's stops. True when the command was among the dead, with
 * *end filled.
 */
static bool reap(pid_t command, int control, bool *stopped, struct spawn_exit *end)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED);
		if (pid <= 0)
			return false;
		if (pid != command)
			continue;
		if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
			*stopped = WIFSTOPPED(status);
			if (*stopped)
				tell(control, SPAWN_STOPPED);
			continue;
		}
		end->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		return true;
	}
}

/*
 * Waits for "go". The parent takes its signals over before it says so, and what it is sent in between
 * comes first: it is for the command all the same, and kept in *early.
 */
static void wait_for_go(int control, sigset_t *early)
{
	int message;

	sigemptyset(early);
	while ((message = receive(control)) > SPAWN_GO)
		sigaddset(early, message);
	if (message != SPAWN_GO)
		_exit(1);
}

/* Runs the command to its end. */
static void run(const struct spawn_plan *plan, int control, const sigset_t *early, struct spawn_exit *end)
{
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	int ended = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (ended < 0) {
		end->start_errno = errno;
		return;
	}
	pid_t command = start_command(plan, end);
	if (command < 0)
		return;
	/* Only the command and our parent hold the invoker's descriptors from here on. */
	close_range_raw(0, 2);
	for (int number = 1; number < NSIG; number++)
		if (sigismember(early, number) == 1)
			kill(command, number);
	struct pollfd watched[2] = {{.fd = control, .events = POLLIN}, {.fd = ended, .events = POLLIN}};
	bool stopped = false;
	for (;;) {
		if (poll(watched, 2, -1) < 0)
			continue;
		int number = watched[0].revents != 0 ? receive(control) : 0;
		if (number < 0)
			_exit(1);
		if (number > 0 && number < NSIG)
			kill(command, number);
		if (watched[1].revents != 0 || number == SPAWN_ASK) {
			struct signalfd_siginfo info;
			while (read(ended, &info, sizeof(info)) > 0)
				;
			if (reap(command, control, &stopped, end))
				return;
		}
		if (number == SPAWN_ASK && stopped)
			tell(control, SPAWN_STAYS);
	}
}

_Noreturn void supervise(const struct spawn_plan *plan, int control)
{
	/* The parent's handlers must not run here, and what it ignores (SIGPIPE) the command must not. */
	struct sigaction standard = {.sa_handler = SIG_DFL};
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL);
	/* Late enough: no credentials change from here on, which would clear it (prctl(2)). */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "tun2socks-init");
	/* The parent's sockets must close when it closes them. */
	close_range_raw(3, (unsigned)control - 1);
	close_range_raw((unsigned)control + 1, ~0u);

	struct spawn_report report;
	memset(&report, 0, sizeof(report));
	report.tun.fd = -1;
	report.ready = set_up(plan, &report) == 0;
	/* Our image is a copy of the parent's, passwords included: not to be read through /proc/1. */
	prctl(PR_SET_DUMPABLE, 0);
	if (send_report(plan, control, &report) != 0 || !report.ready)
		_exit(1);
	for (int i = 0; i < plan->queues; i++)
		close(report.queues[i]);
	sigset_t early;
	wait_for_go(control, &early);

	struct spawn_exit end = {.status = -1};
	run(plan, control, &early, &end);
	send(control, &end, sizeof(end), MSG_NOSIGNAL);
	_exit(0);
}
