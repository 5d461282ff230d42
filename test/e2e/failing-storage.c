// Loaded before libc (LD_PRELOAD), lets a program's storage fail: in files whose names end as FAILING_STORAGE_SUFFIX says,
// while there is `no-syncs` in the folder FAILING_STORAGE, fdatasync and fsync fail with EIO and sync nothing; while there
// is `no-reads`, pread fails with EIO where it meets the range FAILING_STORAGE_BAD, "offset length" in bytes.

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_on(const char *fault) {
  const char *folder = getenv("FAILING_STORAGE");
  char path[4096];
  if (folder == NULL || snprintf(path, sizeof path, "%s/%s", folder, fault) >= (int)sizeof path) return 0;
  return access(path, F_OK) == 0;
}

static int is_meant(int fd) {
  const char *suffix = getenv("FAILING_STORAGE_SUFFIX");
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path), tail = suffix == NULL ? 0 : strlen(suffix);
  return tail > 0 && length > tail && memcmp(path + length - tail, suffix, tail) == 0;
}

static int is_bad(off64_t offset, size_t length) {
  const char *range = getenv("FAILING_STORAGE_BAD");
  long long from, count;
  if (range == NULL || sscanf(range, "%lld %lld", &from, &count) != 2) return 0;
  return offset < from + count && offset + (long long)length > from;
}

static int synced(long call, int fd) {
  if (!is_on("no-syncs") || !is_meant(fd)) return (int)syscall(call, fd);
  errno = EIO;
  return -1;
}

int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }
int fsync(int fd) { return synced(SYS_fsync, fd); }

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
  if (!is_bad(offset, length) || !is_on("no-reads") || !is_meant(fd)) return syscall(SYS_pread64, fd, bytes, length, offset);
  errno = EIO;
  return -1;
}

ssize_t pread(int fd, void *bytes, size_t length, off_t offset) { return pread64(fd, bytes, length, offset); }
