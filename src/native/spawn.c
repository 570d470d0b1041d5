/*
 * Spawning a command in private namespaces: the parent's side. supervisor.c is the child's.
 *
 * The supervisor is made by clone(2) without CLONE_VM and without exec: it is single-threaded from its
 * first instruction (a user namespace asks for that), pid 1 of its pid namespace, and our direct child.
 * Whatever it needs is copied into one plan before the clone.
 *
 * While the command runs, signals that a terminal generates reach it by themselves, as a member of the
 * foreground process group; here they are swallowed, so that we outlive it. Signals that a process sent
 * to us (si_code <= 0, sigaction(2)) are passed on. A signal sent by a process to the whole group
 * cannot be told from one sent to us alone, so the command gets that one twice.
 *
 * A command that stops alone, by a signal of its own, would leave the shell that waits for us without its
 * terminal. So where there is one we stop with the command, and continue it when we are continued.
 *
 * From spawnGo to onExit these signals must not be listened to from JavaScript: libuv would take the
 * handlers over.
 *
 * One per process, and only in its main thread: PDEATHSIG follows the thread that cloned (prctl(2)), and
 * a worker's thread may end before the process does.
 */
#include "addon.h"
#include "spawn_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPORT_MS = 10000, REAP_MS = 2 };

static const int forwarded[] = {SIGHUP,	 SIGINT,   SIGQUIT, SIGTERM, SIGUSR1,
				SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP};
enum { FORWARDED = sizeof(forwarded) / sizeof(forwarded[0]) };

static struct {
	struct instance *in; /* NULL: nothing is spawned */
	pid_t pid;	     /* 0: reaped */
	int control;
	bool going;
	struct spawn_exit end;
	napi_ref on_exit;
	uv_poll_t poll;
	uv_timer_t timer;
	int closing; /* handles whose close callback is due */
	int terminal; /* the controlling terminal, if we were in its foreground; or -1 */
	volatile sig_atomic_t continued; /* SIGCONTs so far */
	volatile sig_atomic_t stopping;	 /* stop_with_command() passes SIGCONT on itself */
	sig_atomic_t asked;		 /* `continued` at the last SPAWN_ASK */
	struct sigaction previous[FORWARDED];
} child = {.control = -1, .terminal = -1};

/* ---- signals --------------------------------------------------------------------------------- */

/* As the default action would: a process group without a shell to continue it does not stop. */
static void stop_self(void)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	struct sigaction ours;
	sigset_t stop, mask;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	sigaction(SIGTSTP, &standard, &ours);
	pthread_sigmask(SIG_UNBLOCK, &stop, &mask);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGTSTP);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGTSTP, &ours, NULL);
}

static int send_message(int32_t message)
{
	ssize_t sent = send(child.control, &message, sizeof(message), MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent < 0 ? -errno : 0;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	if (number == SIGCONT)
		child.continued++;
	if (info->si_code <= 0 && !(number == SIGCONT && child.stopping))
		send_message(number);
	if (number == SIGTSTP)
		stop_self();
	errno = saved;
}

static void take_signals(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	for (int i = 0; i < FORWARDED; i++)
		sigaction(forwarded[i], &action, &child.previous[i]);
}

static void return_signals(void)
{
	for (int i = 0; i < FORWARDED; i++)
		sigaction(forwarded[i], &child.previous[i], NULL);
}

/* ---- the terminal ---------------------------------------------------------------------------- */

static void remember_terminal(void)
{
	child.terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (child.terminal >= 0 && tcgetpgrp(child.terminal) != getpgrp()) {
		close(child.terminal);
		child.terminal = -1;
	}
}

static void give_terminal(pid_t group)
{
	sigset_t output, mask;

	sigemptyset(&output);
	sigaddset(&output, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &output, &mask);
	tcsetpgrp(child.terminal, group);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/*
 * An interactive shell inside leaves its own, now dead, process group in the foreground: seen from its
 * pid namespace the group it came from is 0, which tcsetpgrp(3) does not take back.
 */
static void return_terminal(void)
{
	if (child.terminal < 0)
		return;
	if (tcgetpgrp(child.terminal) != getpgrp())
		give_terminal(getpgrp());
	close(child.terminal);
	child.terminal = -1;
}

/*
 * What fg gives the terminal to is our group; a shell inside, which has one of its own, had it before.
 * Where nobody could continue us (stop_self) the command stays stopped alone, as it would without us.
 */
static void stop_with_command(void)
{
	pid_t foreground = tcgetpgrp(child.terminal);
	sig_atomic_t before = child.continued;

	child.stopping = 1;
	stop_self();
	child.stopping = 0;
	if (child.continued == before)
		return;
	if (foreground > 0 && foreground != getpgrp() && tcgetpgrp(child.terminal) == getpgrp())
		give_terminal(foreground);
	send_message(SIGCONT);
}

/*
 * News of a stop may be old: after Ctrl-Z and fg it is read when all is running again. So the supervisor is
 * asked, and its answer counts only if nobody continued us since.
 */
static void on_stop(int32_t message)
{
	if (child.terminal < 0)
		return;
	if (message == SPAWN_STOPPED) {
		child.asked = child.continued;
		send_message(SPAWN_ASK);
	} else if (message == SPAWN_STAYS && child.asked == child.continued) {
		stop_with_command();
	}
}

/* ---- the end --------------------------------------------------------------------------------- */

static void end_with_environment(void *data);

/* The supervisor is dead and reaped: what it had of ours goes back. */
static void let_go(void)
{
	child.pid = 0;
	if (child.going) {
		return_signals();
		return_terminal();
	}
	if (child.control >= 0)
		close(child.control);
	child.control = -1;
}

static void kill_and_reap(void)
{
	if (child.pid == 0)
		return;
	kill(child.pid, SIGKILL);
	while (waitpid(child.pid, NULL, 0) < 0 && errno == EINTR)
		;
	let_go();
}

static void on_closed(uv_handle_t *handle)
{
	napi_handle_scope scope;
	napi_value argument;
	struct instance *in = child.in;
	napi_ref on_exit = child.on_exit;

	(void)handle;
	if (--child.closing > 0)
		return;
	child.in = NULL;
	child.on_exit = NULL;
	child.going = false;
	if (in == NULL)
		return;
	napi_remove_env_cleanup_hook(in->env, end_with_environment, NULL);
	napi_open_handle_scope(in->env, &scope);
	napi_create_object(in->env, &argument);
	set_integer(in->env, argument, "status", child.end.status);
	set_integer(in->env, argument, "signal", child.end.signal);
	set_integer(in->env, argument, "execErrno", child.end.exec_errno);
	set_integer(in->env, argument, "startErrno", child.end.start_errno);
	call_back(in, on_exit, argument);
	napi_delete_reference(in->env, on_exit);
	napi_close_handle_scope(in->env, scope);
}

static void close_handles(void)
{
	child.closing = 2;
	uv_close((uv_handle_t *)&child.poll, on_closed);
	uv_close((uv_handle_t *)&child.timer, on_closed);
}

/* The socket closes before the last process inside is gone, so its end is only the beginning. */
static void on_reap(uv_timer_t *timer)
{
	pid_t pid = waitpid(child.pid, NULL, WNOHANG);

	(void)timer;
	if (pid == 0 || (pid < 0 && errno == EINTR))
		return;
	uv_timer_stop(&child.timer);
	let_go();
	close_handles();
}

static void on_control(uv_poll_t *poll, int status, int events)
{
	union {
		struct spawn_exit end;
		int32_t stop;
	} message;

	(void)status;
	(void)events;
	for (;;) {
		ssize_t got = recv(child.control, &message, sizeof(message), MSG_DONTWAIT);
		if (got == (ssize_t)sizeof(message.end)) {
			child.end = message.end;
			continue;
		}
		if (got == (ssize_t)sizeof(message.stop)) {
			on_stop(message.stop);
			continue;
		}
		/* ECONNRESET, once, when it left a signal of ours unread; its report comes after. */
		if (got < 0 && (errno == EINTR || errno == ECONNRESET))
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		break;
	}
	uv_poll_stop(poll);
	uv_timer_start(&child.timer, on_reap, 0, REAP_MS);
}

static void end_with_environment(void *data)
{
	(void)data;
	kill_and_reap();
	child.in = NULL;
	if (child.going && child.closing == 0)
		close_handles();
}

/* ---- the clone ------------------------------------------------------------------------------- */

/* Sets child.pid and child.control. 0, or -1 with *failure. */
static int clone_supervisor(const struct spawn_plan *plan, struct failure *failure)
{
	int ends[2];
	sigset_t all, mask;
	unsigned long flags = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | SIGCHLD;
	long pid;

	if (plan->uid_map != NULL)
		flags |= CLONE_NEWUSER;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		failure_set(failure, errno, "socketpair");
		return -1;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
#ifdef __s390__
	pid = syscall(SYS_clone, NULL, flags, NULL, NULL, NULL);
#else
	pid = syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
#endif
	if (pid == 0)
		supervise(plan, ends[1]);
	if (pid < 0)
		failure_set(failure, errno, "clone");
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -1;
	}
	child.pid = (pid_t)pid;
	child.control = ends[0];
	return 0;
}

static int64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Takes the descriptors of the queues. 0, or -1 when our own table of descriptors is full (unix(7)): then fewer came,
 * which are closed.
 */
static int take_queues(struct msghdr *message, struct spawn_report *report, int queues)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	size_t length = sizeof(int) * (size_t)queues;

	if (header == NULL || header->cmsg_type != SCM_RIGHTS)
		return -1;
	if (header->cmsg_len < CMSG_LEN(length))
		length = header->cmsg_len - CMSG_LEN(0);
	memcpy(report->queues, CMSG_DATA(header), length);
	if (length == sizeof(int) * (size_t)queues)
		return 0;
	for (size_t i = 0; i < length / sizeof(int); i++)
		close(report->queues[i]);
	return -1;
}

/* Waits for the report. 0 with report->queues open here, or -1 with *failure. */
static int receive_report(struct spawn_report *report, int queues, struct failure *failure)
{
	struct iovec part = {.iov_base = report, .iov_len = sizeof(*report)};
	union {
		struct cmsghdr header;
		char octets[CMSG_SPACE(sizeof(report->queues))];
	} rights;
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = rights.octets,
				 .msg_controllen = sizeof(rights.octets)};
	struct pollfd watched = {.fd = child.control, .events = POLLIN};
	int64_t deadline = milliseconds() + REPORT_MS;
	int ready;
	ssize_t got;

	do {
		int64_t left = deadline - milliseconds();
		ready = poll(&watched, 1, left > 0 ? (int)left : 0);
	} while (ready < 0 && errno == EINTR);
	if (ready <= 0) {
		failure_set(failure, ready < 0 ? errno : ETIMEDOUT, "wait for the namespace");
		return -1;
	}
	got = recvmsg(child.control, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (got != (ssize_t)sizeof(*report)) {
		failure_set(failure, got < 0 ? errno : ECHILD, "set up the namespace");
		return -1;
	}
	if (!report->ready) {
		*failure = report->failure;
		return -1;
	}
	if (take_queues(&message, report, queues) != 0) {
		failure_set(failure, EMFILE, "receive the TUN device");
		return -1;
	}
	report->tun.fd = report->queues[0];
	return 0;
}

/* ---- registered functions -------------------------------------------------------------------- */

static napi_value spawned_object(napi_env env, const struct spawn_report *report, int count)
{
	napi_value object, queues, warnings;
	char line[160];

	napi_create_object(env, &object);
	napi_create_array(env, &warnings);
	for (int i = 0; i < report->warning_count; i++) {
		snprintf(line, sizeof(line), "%s: %s", report->warnings[i],
			 uv_err_name(-report->warning_errnos[i]));
		napi_set_element(env, warnings, (uint32_t)i, string(env, line));
	}
	set_integer(env, object, "pid", child.pid);
	set(env, object, "tun", tun_info_object(env, &report->tun));
	napi_create_array(env, &queues);
	for (int i = 0; i < count; i++)
		napi_set_element(env, queues, (uint32_t)i, integer(env, report->queues[i]));
	set(env, object, "queues", queues);
	set(env, object, "warnings", warnings);
	return object;
}

static napi_value spawn(napi_env env, napi_callback_info info)
{
	napi_value options;
	struct instance *in = arguments(env, info, 1, &options);
	struct draft draft;
	struct spawn_report report;
	bool pending = false;
	int queues;

	if (syscall(SYS_gettid) != getpid())
		return throw_errno(env, EPERM, "spawn outside the main thread");
	if (child.in != NULL || child.closing > 0)
		return throw_errno(env, EBUSY, "spawn twice");
	if (!draft_plan(&draft, env, options) || clone_supervisor(&draft.plan, &draft.failure) != 0) {
		draft_discard(&draft);
		napi_is_exception_pending(env, &pending);
		return pending ? NULL : throw_failure(env, &draft.failure);
	}
	queues = draft.plan.queues;
	draft_discard(&draft);
	if (receive_report(&report, queues, &draft.failure) != 0) {
		kill_and_reap();
		return throw_failure(env, &draft.failure);
	}
	for (int i = 0; i < queues; i++) {
		if (own(in, report.queues[i]) < 0) {
			kill_and_reap();
			return throw_errno(env, ENOMEM, "own the TUN device");
		}
	}
	child.in = in;
	napi_add_env_cleanup_hook(env, end_with_environment, NULL);
	return spawned_object(env, &report, queues);
}

static napi_value spawn_go(napi_env env, napi_callback_info info)
{
	napi_value callback;
	struct instance *in = arguments(env, info, 1, &callback);
	int err;

	if (child.in != in || child.pid == 0 || child.going)
		return throw_errno(env, ESRCH, "spawnGo");
	if (napi_create_reference(env, callback, 1, &child.on_exit) != napi_ok)
		return throw_errno(env, EINVAL, "spawnGo");
	child.end = (struct spawn_exit){.status = -1, .signal = SIGKILL};
	err = uv_poll_init(in->loop, &child.poll, child.control);
	if (err != 0) {
		napi_delete_reference(env, child.on_exit);
		return throw_errno(env, -err, "uv_poll_init");
	}
	uv_timer_init(in->loop, &child.timer);
	uv_poll_start(&child.poll, UV_READABLE | UV_DISCONNECT, on_control);
	child.going = true;
	remember_terminal();
	take_signals();
	/* A supervisor that is gone already shows up in on_control. */
	send_message(SPAWN_GO);
	return undefined(env);
}

static napi_value spawn_signal(napi_env env, napi_callback_info info)
{
	napi_value value;
	struct instance *in = arguments(env, info, 1, &value);
	int32_t number = to_int(env, value, 0);

	if (number <= SPAWN_GO || number >= NSIG)
		return integer(env, -EINVAL);
	if (child.in != in || child.pid == 0 || !child.going)
		return integer(env, -ESRCH);
	return integer(env, send_message(number));
}

static napi_value spawn_kill(napi_env env, napi_callback_info info)
{
	struct instance *in = arguments(env, info, 0, NULL);

	if (child.in != in || child.pid == 0)
		return undefined(env);
	if (child.going) {
		/* on_control sees the end, reaps, and tells JavaScript. */
		kill(child.pid, SIGKILL);
		return undefined(env);
	}
	kill_and_reap();
	napi_remove_env_cleanup_hook(env, end_with_environment, NULL);
	child.in = NULL;
	return undefined(env);
}

void register_spawn(napi_env env, napi_value exports)
{
	static const struct function table[] = {
		{"spawn", spawn},
		{"spawnGo", spawn_go},
		{"spawnSignal", spawn_signal},
		{"spawnKill", spawn_kill},
	};

	define(env, exports, table, sizeof(table) / sizeof(table[0]));
}
