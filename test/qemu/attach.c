// The user space of a guest that attaches a disk of the host with vmstore attach, mounts the ext4 in it, and has fio write
// and verify there, round after round, while the host stops and starts the disk's server. Then it kills vmstore attach,
// starts it anew, and has fio work on; a detach must be refused. At last it unmounts, and has the disk detached.
// /dev/vda is a root of programs: /node, /fio, and vmstore in /vmstore.
//
// The kernel's command line, as environment: port=TCP port of the host, connections=N, outages=how many it is to outlive,
// end=detach (from elsewhere, by --detach) or signal (SIGTERM).
// The serial console, one line each: event JSON | mounted | round N | killed | done | trouble WHAT

#include "guest-init.h"
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { line_bytes = 4096, log_bytes = 1 << 20, refused_exit = 3 };
static const char device[] = "/dev/nbd0", mount_point[] = "/m", fio_output[] = "/run/fio";

static pthread_t reader;

// What vmstore attach has told, over all its starts.
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned starts, attached, link_ups;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void enter_root(void) {
  if (mkdir("/new", 0700) != 0 || mount("/dev/vda", "/new", "ext4", 0, NULL) != 0) give_up("/dev/vda");
  const char *moved[] = {"/dev", "/sys", "/proc"};
  for (unsigned i = 0; i < sizeof moved / sizeof *moved; i++) {
    char to[16];
    snprintf(to, sizeof to, "/new%s", moved[i]);
    if (mount(moved[i], to, NULL, MS_MOVE, NULL) != 0) give_up(to);
  }
  if (chdir("/new") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0) give_up("chroot");
  if (mount("tmpfs", "/run", "tmpfs", 0, NULL) != 0) give_up("/run");
}

static void count(const char *line) {
  pthread_mutex_lock(&seen.lock);
  seen.attached += strstr(line, "\"type\":\"attached\"") != NULL;
  seen.link_ups += strstr(line, "\"type\":\"link-up\"") != NULL;
  pthread_cond_broadcast(&seen.changed);
  pthread_mutex_unlock(&seen.lock);
}

static void *read_events(void *from) {
  char line[line_bytes];
  while (fgets(line, sizeof line, from) != NULL) {
    line[strcspn(line, "\n")] = 0;
    tell("event %s", line);
    count(line);
  }
  fclose(from);
  pthread_mutex_lock(&seen.lock);
  bool is_attached = seen.attached == seen.starts;
  pthread_mutex_unlock(&seen.lock);
  if (is_attached) return NULL;
  tell("trouble vmstore attach ended before it had attached");
  power_off();
}

static _Noreturn void become_vmstore(char *const words[]) {
  execve("/node", words, (char *[]){"HOME=/run", "PATH=/", "NO_COLOR=1", NULL});
  _exit(127);
}

static pid_t start_attach(const char *port, const char *connections) {
  char uri[64];
  snprintf(uri, sizeof uri, "nbd://%s:%s/web01", host_address, port);
  int events[2];
  if (pipe2(events, O_CLOEXEC) != 0) give_up("pipe2");
  pthread_mutex_lock(&seen.lock);
  seen.starts++;
  pthread_mutex_unlock(&seen.lock);
  pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    dup2(events[1], STDOUT_FILENO);
    become_vmstore((char *[]){"/node", "/vmstore/bin/run.js", "attach", uri, (char *)device, "--connections",
                              (char *)connections, "--json", NULL});
  }
  close(events[1]);
  if (pthread_create(&reader, NULL, read_events, fdopen(events[0], "r")) != 0) give_up("pthread_create");
  return child;
}

// The exit code of vmstore attach --detach.
static int detach(void) {
  pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) become_vmstore((char *[]){"/node", "/vmstore/bin/run.js", "attach", "--detach", (char *)device, NULL});
  int status;
  if (waitpid(child, &status, 0) != child) give_up("vmstore attach --detach");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void wait_attached(unsigned times) {
  pthread_mutex_lock(&seen.lock);
  while (seen.attached < times) pthread_cond_wait(&seen.changed, &seen.lock);
  pthread_mutex_unlock(&seen.lock);
}

static bool has_outlived(unsigned link_ups) {
  pthread_mutex_lock(&seen.lock);
  bool has = seen.link_ups >= link_ups;
  pthread_mutex_unlock(&seen.lock);
  return has;
}

static void show(const char *path) {
  char line[line_bytes];
  FILE *file = fopen(path, "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) fputs(line, stdout);
}

static void work(void) {
  static unsigned round;
  char directory[64], output[64];
  snprintf(directory, sizeof directory, "--directory=%s", mount_point);
  snprintf(output, sizeof output, "--output=%s", fio_output);
  char *words[] = {"/fio", "--name=verified", directory, output, "--rw=randwrite", "--bsrange=4k-64k", "--size=2m",
                   "--numjobs=3", "--thread", "--ioengine=psync", "--direct=1", "--rate_iops=40", "--eta=never", "--fsync=16", "--randrepeat=0",
                   "--verify=crc32c", "--do_verify=1", "--verify_backlog=32", "--verify_fatal=1", NULL};
  pid_t child = fork();
  if (child < 0) give_up("fork");
  if (child == 0) {
    execve(words[0], words, (char *[]){"PATH=/", NULL});
    _exit(127);
  }
  int status;
  if (waitpid(child, &status, 0) != child) give_up("waitpid");
  if (status != 0) {
    show(fio_output);
    tell("trouble fio ended with status %d", status);
    power_off();
  }
  tell("round %u", ++round);
}

// What no program need have seen: an error of a read ahead, of a journal, of a cache that was written back.
static void look_for_errors(void) {
  static char log[log_bytes];
  const char *bad[] = {"I/O error", "EXT4-fs error", "EXT4-fs warning", "Aborting journal"};
  int length = klogctl(3, log, sizeof log - 1);
  if (length < 0) give_up("klogctl");
  log[length] = 0;
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *at = strstr(log, bad[i]);
    if (at == NULL) continue;
    tell("trouble the kernel's log has: %.120s", at);
    power_off();
  }
}

// All that it has told is told then.
static int await_end(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) != child) give_up("vmstore attach");
  pthread_join(reader, NULL);
  return status;
}

static void must_be(const char *what, int wanted, int found) {
  if (found == wanted) return;
  tell("trouble %s: %d, not %d", what, found, wanted);
  power_off();
}

int main(void) {
  open_console();
  load_modules();
  join_network();
  enter_root();
  char *port = getenv("port"), *connections = getenv("connections"), *outages = getenv("outages"), *end = getenv("end");
  if (port == NULL || connections == NULL || outages == NULL || end == NULL) give_up("the kernel's command line");
  pid_t child = start_attach(port, connections);
  wait_attached(1);
  if (mount(device, mount_point, "ext4", 0, NULL) != 0) give_up("mount");
  tell("mounted");
  do work();
  while (!has_outlived(atoi(outages) * atoi(connections)));
  work();
  if (kill(child, SIGKILL) != 0) give_up("kill");
  await_end(child);
  tell("killed");
  child = start_attach(port, connections);
  wait_attached(2);
  work();
  must_be("the exit code of --detach while it is mounted", refused_exit, detach());
  work();
  if (umount(mount_point) != 0) give_up("umount");
  look_for_errors();
  if (strcmp(end, "detach") == 0) must_be("the exit code of --detach", 0, detach());
  else if (kill(child, SIGTERM) != 0) give_up("kill");
  must_be("how vmstore attach ended", 0, await_end(child));
  tell("done");
  power_off();
}
