// Loaded before libc (LD_PRELOAD), notes what a program has the kernel change below the folder STORAGE_CALLS_BELOW: a line in
// the file STORAGE_CALLS when a call begins, and another when it has returned, as "begin|done|fail CALL PATH [PATH]", with
// paths relative to the folder.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_BYTES 4096

/** What of `path` stands behind the folder; "." is the folder; NULL: it is not below it. */
static const char *below(const char *path) {
  const char *folder = getenv("STORAGE_CALLS_BELOW");
  size_t length = folder == NULL ? 0 : strlen(folder);
  if (length == 0 || strncmp(path, folder, length) != 0) return NULL;
  if (path[length] == 0) return ".";
  return path[length] == '/' ? path + length + 1 : NULL;
}

static void note(const char *when, const char *call, const char *path, const char *to) {
  const char *log = getenv("STORAGE_CALLS"), *name = below(path), *target = to == NULL ? "" : below(to);
  char line[3 * PATH_BYTES];
  int before = errno;
  if (log == NULL || name == NULL || target == NULL) return;
  int length = snprintf(line, sizeof line, "%s %s %s%s%s\n", when, call, name, *target ? " " : "", target);
  long fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || syscall(SYS_write, fd, line, length) != length) abort();
  syscall(SYS_close, fd);
  errno = before;
}

static void of_file(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_BYTES - 1);
  path[length < 0 ? 0 : length] = 0;
}

#define NOTED(call, path, to, work)                        \
  do {                                                     \
    note("begin", call, path, to);                         \
    long result = work;                                    \
    note(result < 0 ? "fail" : "done", call, path, to);    \
    return result;                                         \
  } while (0)

#define NOTED_FILE(call, fd, work)  \
  do {                              \
    char path[PATH_BYTES];          \
    of_file(fd, path);              \
    NOTED(call, path, NULL, work);  \
  } while (0)

int fsync(int fd) { NOTED_FILE("fsync", fd, syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { NOTED_FILE("fdatasync", fd, syscall(SYS_fdatasync, fd)); }
ssize_t write(int fd, const void *bytes, size_t length) { NOTED_FILE("write", fd, syscall(SYS_write, fd, bytes, length)); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  NOTED_FILE("write", fd, syscall(SYS_pwrite64, fd, bytes, length, offset));
}
int ftruncate64(int fd, off64_t length) { NOTED_FILE("truncate", fd, syscall(SYS_ftruncate, fd, length)); }

int rename(const char *from, const char *to) {
  NOTED("rename", from, to, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int mkdir(const char *path, mode_t mode) { NOTED("mkdir", path, NULL, syscall(SYS_mkdirat, AT_FDCWD, path, mode)); }
int rmdir(const char *path) { NOTED("rmdir", path, NULL, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)); }
int unlink(const char *path) { NOTED("unlink", path, NULL, syscall(SYS_unlinkat, AT_FDCWD, path, 0)); }

static long opened(const char *path, int flags, mode_t mode) {
  if (!(flags & O_CREAT)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  NOTED("create", path, NULL, syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return opened(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return opened(path, flags | O_LARGEFILE, mode);
}
