// The user space of a guest whose kernel is the NBD client: with nbd-client it attaches an export of the host as /dev/nbd0,
// mounts the ext4 in it, copies /in to /out-N, and lets go again; once for each number of connections that it is told.
// The bytes of /in come over NBD, and so do those of /out-N: the host compares them.
//
// The kernel's command line, as environment: port=TCP port of the host, connections=one digit for each round, such as 12.
// The serial console, one line each: attached N | copied FILES BYTES | detached N | trouble WHAT | done

#include "guest-init.h"
#include <dirent.h>
#include <linux/fs.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { copy_bytes = 128 * 1024, path_bytes = 512, spare_bytes = 16 * 1024 * 1024 };
static const char device[] = "/dev/nbd0", export_name[] = "web01";

static void run(char *const words[]) {
  pid_t child = fork();
  if (child == 0) {
    execv(words[0], words);
    _exit(127);
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child) give_up(words[0]);
  if (status == 0) return;
  tell("trouble %s ended with status %d", words[0], status);
  power_off();
}

static uint64_t copy_file(const char *from, const char *to) {
  static char bytes[copy_bytes];
  int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (source < 0 || target < 0) give_up(to);
  uint64_t copied = 0;
  for (;;) {
    ssize_t length = read(source, bytes, sizeof bytes);
    if (length < 0) give_up(from);
    if (length == 0) break;
    if (write(target, bytes, length) != length) give_up(to);
    copied += length;
  }
  if (fsync(target) != 0) give_up(to);
  close(source);
  close(target);
  return copied;
}

static void copy_folder(const char *from, const char *to) {
  if (mkdir(to, 0700) != 0) give_up(to);
  DIR *folder = opendir(from);
  if (folder == NULL) give_up(from);
  unsigned files = 0;
  uint64_t total = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    char source[path_bytes], target[path_bytes];
    snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
    snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
    total += copy_file(source, target);
    files++;
  }
  closedir(folder);
  tell("copied %u %llu", files, (unsigned long long)total);
}

// Written, then removed: the host's file has grown, and only a trim lets it shrink.
static void write_and_remove(const char *path) {
  static char bytes[copy_bytes];
  memset(bytes, 0x5a, sizeof bytes);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (fd < 0) give_up(path);
  for (int i = 0; i < spare_bytes / copy_bytes; i++)
    if (write(fd, bytes, sizeof bytes) != sizeof bytes) give_up(path);
  if (fsync(fd) != 0 || close(fd) != 0 || unlink(path) != 0) give_up(path);
  sync();
}

static void trim(const char *folder) {
  struct fstrim_range all = {.len = UINT64_MAX};
  int fd = open(folder, O_RDONLY);
  if (fd < 0 || ioctl(fd, FITRIM, &all) != 0) give_up("FITRIM");
  close(fd);
}

static void use_disk(char connections, char *port) {
  char count[] = {connections, 0}, to[] = {'/', 'm', '/', 'o', 'u', 't', '-', connections, 0};
  char *name = (char *)export_name, *where = (char *)device, *host = (char *)host_address;
  run((char *[]){"/nbd-client", host, port, where, "-N", name, "-C", count, NULL});
  tell("attached %s", count);
  if (mount(device, "/m", "ext4", 0, NULL) != 0) give_up("mount");
  copy_folder("/m/in", to);
  write_and_remove("/m/spare");
  trim("/m");
  if (umount("/m") != 0) give_up("umount");
  run((char *[]){"/nbd-client", "-d", where, NULL});
  tell("detached %s", count);
}

int main(void) {
  open_console();
  load_modules();
  join_network();
  char *port = getenv("port"), *connections = getenv("connections");
  if (port == NULL || connections == NULL) give_up("the kernel's command line");
  for (; *connections; connections++) use_disk(*connections, port);
  tell("done");
  power_off();
}
