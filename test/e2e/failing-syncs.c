// Loaded before libc (LD_PRELOAD): while the file that FAILING_SYNCS_TRIGGER names is there, fdatasync and fsync of a file
// whose name ends in .raw fail with EIO and sync nothing.

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int fd) {
  const char *trigger = getenv("FAILING_SYNCS_TRIGGER");
  char link[64], path[4096];
  if (trigger == NULL || access(trigger, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  return length > 4 && memcmp(path + length - 4, ".raw", 4) == 0;
}

static int synced(long call, int fd) {
  if (fails(fd)) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(call, fd);
}

int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }
int fsync(int fd) { return synced(SYS_fsync, fd); }
