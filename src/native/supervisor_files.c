/*
 * What the command sees of the file system that is not the host's: files of ours bound over the host's
 * (resolv.conf), and directories hidden (sockets of the host's name services). All of it lives in the
 * supervisor's private mount namespace and ends with it. Async-signal-safe. Nothing here is fatal.
 */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

void spawn_warn(struct spawn_report *report, int err, const char *step, const char *detail)
{
	if (report->warning_count == SPAWN_WARNINGS)
		return;
	char *text = report->warnings[report->warning_count];
	size_t room = sizeof(report->warnings[0]);
	size_t length = strnlen(step, room - 1);
	memcpy(text, step, length);
	size_t more = strnlen(detail, room - 1 - length);
	memcpy(text + length, detail, more);
	text[length + more] = '\0';
	report->warning_errnos[report->warning_count++] = err;
}

/* "/proc/self/fd/N" into `text`, at least 32 octets: the path by which a mount reaches an open place. */
static void descriptor_path(char *text, int fd)
{
	static const char prefix[] = "/proc/self/fd/";
	char digits[12];
	int count = 0;
	do {
		digits[count++] = (char)('0' + fd % 10);
		fd /= 10;
	} while (fd > 0);
	memcpy(text, prefix, sizeof(prefix) - 1);
	char *end = text + sizeof(prefix) - 1;
	while (count > 0)
		*end++ = digits[--count];
	*end = '\0';
}

/* One file of the scratch file system. 0 or errno. */
static int write_file(const char *path, const struct spawn_file *file)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return errno;
	int err = 0;
	size_t done = 0;
	while (done < file->length) {
		ssize_t wrote = write(fd, file->content + done, file->length - done);
		if (wrote <= 0) {
			err = wrote < 0 ? errno : EIO;
			break;
		}
		done += (size_t)wrote;
	}
	/* The parent's umask is not the file's business. */
	if (err == 0 && fchmod(fd, 0644) != 0)
		err = errno;
	close(fd);
	return err;
}

/* Mounts a scratch file system; its directory, or NULL. */
static const char *mount_scratch(struct spawn_report *report)
{
	static const char *const places[] = {"/tmp", "/run", "/dev"};
	int err = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		/* SPAWN_FILE_OCTETS, and for each file the page it rounds up to. */
		if (mount("tmpfs", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "size=4128k,mode=755") == 0)
			return places[i];
		err = errno;
	}
	spawn_warn(report, err, "mount tmpfs", "");
	return NULL;
}

/*
 * Binds the plan's files and hides its directories.
 *
 * Every place is opened before anything is mounted, and mounted on through its descriptor. So the
 * scratch directory may cover any of them, and with O_NOFOLLOW a file lands on the name itself:
 * /etc/resolv.conf that is a symbolic link into a hidden /run/systemd/resolve, or a dangling one, is
 * covered where programs look it up, whatever becomes of the directory it pointed into.
 */
void spawn_mount_files(const struct spawn_plan *plan, struct spawn_report *report)
{
	int files[SPAWN_FILES];
	int hidden[SPAWN_HIDDEN];
	char target[32];
	for (int i = 0; i < plan->file_count; i++) {
		files[i] = open(plan->files[i].path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (files[i] < 0)
			spawn_warn(report, errno, "bind ", plan->files[i].path);
	}
	for (int i = 0; i < plan->hidden_count; i++) {
		hidden[i] = open(plan->hidden[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (hidden[i] < 0 && errno != ENOENT && errno != ENOTDIR)
			spawn_warn(report, errno, "hide ", plan->hidden[i]);
	}
	const char *scratch = plan->file_count > 0 ? mount_scratch(report) : NULL;
	for (int i = 0; i < plan->file_count; i++) {
		if (files[i] < 0)
			continue;
		if (scratch != NULL) {
			char source[32] = "";
			strcat(source, scratch);
			char name[] = "/0";
			name[1] = (char)('0' + i);
			strcat(source, name);
			descriptor_path(target, files[i]);
			int err = write_file(source, &plan->files[i]);
			if (err == 0 && mount(source, target, NULL, MS_BIND, NULL) != 0)
				err = errno;
			if (err != 0)
				spawn_warn(report, err, "bind ", plan->files[i].path);
		}
		close(files[i]);
	}
	if (scratch != NULL && umount2(scratch, MNT_DETACH) != 0)
		spawn_warn(report, errno, "umount ", scratch);
	for (int i = 0; i < plan->hidden_count; i++) {
		if (hidden[i] < 0)
			continue;
		descriptor_path(target, hidden[i]);
		if (mount("tmpfs", target, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "size=4k,mode=755") != 0)
			spawn_warn(report, errno, "hide ", plan->hidden[i]);
		close(hidden[i]);
	}
}
