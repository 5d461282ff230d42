// An emulated path between two network namespaces: `path NETNS-A NETNS-B`. Makes a TUN device `path0` in each and carries
// packets between them, each direction with its own rate, delay, loss and queue. Standard input takes a line a command:
//
//   set RATE DELAY LOSS QUEUE SEED   both ways: bits a second, microseconds one way, packets lost of a million, bytes; a new seed
//   cut | heal                       nothing passes, silently; all passes again
//   stats                            one line of JSON: what has passed and what was dropped, each way
//
// Each answers with a line. It ends with its standard input.
//
// A packet leaves the queue when those before it have been sent at the rate, and arrives one delay later. What does not find
// room in the queue is dropped, as at a router. Segments that the kernel has not cut yet (TSO) pass as one, so that a gigabit
// does not cost a core; whoever makes the devices bounds how long they are (gso_max_size).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

// A TSO segment is at most 64 KiB, behind a virtio_net_hdr.
enum { most_bytes = 65536 + 256, header_bytes = 10, burst = 64 };

struct packet {
  struct packet *next;
  uint64_t due_ns;
  size_t length;
  unsigned char bytes[];
};

struct way {
  int from, to;
  struct packet *first, *last;
  uint64_t sent_until_ns;
  uint64_t passed, passed_bytes, lost, overflowed, most_queued_bytes;
  uint64_t random;
};

static double rate_bits = 1e9;
static uint64_t delay_ns, loss_per_million, queue_bytes = 1 << 20;
static int is_cut;

static void die(const char *what) {
  fprintf(stderr, "path: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int device_in(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", name);
  int space = open(path, O_RDONLY | O_CLOEXEC);
  if (space < 0 || setns(space, CLONE_NEWNET) < 0) die(path);
  close(space);
  int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) die("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  strcpy(request.ifr_name, "path0");
  if (ioctl(device, TUNSETIFF, &request) < 0) die("TUNSETIFF");
  if (ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) die("TUNSETOFFLOAD");
  return device;
}

// xorshift64*: the same losses for the same seed and the same packets.
static uint64_t draw(struct way *way) {
  uint64_t x = way->random;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  way->random = x;
  return (x * 0x2545F4914F6CDD1Du) >> 33;
}

static uint64_t bits_to_ns(double bytes) { return (uint64_t)(bytes * 8e9 / rate_bits); }

static void take_in(struct way *way) {
  static unsigned char buffer[most_bytes];
  for (int count = 0; count < burst; count++) {
    ssize_t length = read(way->from, buffer, sizeof buffer);
    if (length <= 0) return;
    uint64_t now = now_ns();
    size_t bytes = (size_t)length > header_bytes ? (size_t)length - header_bytes : 0;
    if (is_cut || draw(way) % 1000000 < loss_per_million) {
      way->lost++;
      continue;
    }
    uint64_t waiting_ns = way->sent_until_ns > now ? way->sent_until_ns - now : 0;
    double queued = (double)waiting_ns * rate_bits / 8e9;
    if (queued + (double)bytes > (double)queue_bytes) {
      way->overflowed++;
      continue;
    }
    if (queued > (double)way->most_queued_bytes) way->most_queued_bytes = (uint64_t)queued;
    struct packet *packet = malloc(sizeof *packet + (size_t)length);
    if (!packet) die("memory");
    memcpy(packet->bytes, buffer, (size_t)length);
    packet->length = (size_t)length;
    packet->next = NULL;
    way->sent_until_ns = (waiting_ns ? way->sent_until_ns : now) + bits_to_ns((double)bytes);
    packet->due_ns = way->sent_until_ns + delay_ns;
    if (way->last) way->last->next = packet;
    else way->first = packet;
    way->last = packet;
    way->passed++;
    way->passed_bytes += bytes;
  }
}

static void deliver(struct way *way, uint64_t now) {
  while (way->first && way->first->due_ns <= now) {
    struct packet *packet = way->first;
    way->first = packet->next;
    if (!way->first) way->last = NULL;
    // What a full receiver drops is its own loss, as on a wire.
    if (write(way->to, packet->bytes, packet->length) < 0 && errno != EAGAIN && errno != EIO && errno != EINVAL)
      die("deliver");
    free(packet);
  }
}

static void tell(const struct way *way, const char *name, const char *end) {
  printf("\"%s\":{\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"overflowed\":%" PRIu64
         ",\"mostQueuedBytes\":%" PRIu64 "}%s",
         name, way->passed, way->passed_bytes, way->lost, way->overflowed, way->most_queued_bytes, end);
}

static void obey(char *line, struct way ways[2]) {
  double rate;
  uint64_t delay_us, loss, queue, seed;
  if (sscanf(line, "set %lf %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &rate, &delay_us, &loss, &queue, &seed) == 5 &&
      rate > 0) {
    rate_bits = rate;
    delay_ns = delay_us * 1000;
    loss_per_million = loss;
    queue_bytes = queue;
    ways[0].random = seed * 2 + 1;
    ways[1].random = ~(seed * 2);
  } else if (strcmp(line, "cut") == 0) is_cut = 1;
  else if (strcmp(line, "heal") == 0) is_cut = 0;
  else if (strcmp(line, "stats") == 0) {
    printf("{");
    tell(&ways[0], "ab", ",");
    tell(&ways[1], "ba", "}\n");
    fflush(stdout);
    return;
  } else {
    printf("? %s\n", line);
    fflush(stdout);
    return;
  }
  printf("ok\n");
  fflush(stdout);
}

int main(int count, char **words) {
  if (count != 3) {
    fprintf(stderr, "path NETNS-A NETNS-B\n");
    return 2;
  }
  int a = device_in(words[1]), b = device_in(words[2]);
  struct way ways[2] = {{.from = a, .to = b, .random = 3}, {.from = b, .to = a, .random = ~2ull}};
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer < 0) die("timerfd_create");
  static char line[4096];
  size_t filled = 0;
  printf("up\n");
  fflush(stdout);
  for (;;) {
    uint64_t due = UINT64_MAX;
    for (int i = 0; i < 2; i++)
      if (ways[i].first && ways[i].first->due_ns < due) due = ways[i].first->due_ns;
    struct itimerspec at = {0};
    if (due != UINT64_MAX) at.it_value = (struct timespec){(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL) < 0) die("timerfd_settime");
    struct pollfd waits[] = {{0, POLLIN, 0}, {a, POLLIN, 0}, {b, POLLIN, 0}, {timer, POLLIN, 0}};
    if (poll(waits, 4, -1) < 0 && errno != EINTR) die("poll");
    uint64_t expirations;
    if ((waits[3].revents & POLLIN) && read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timer");
    for (int i = 0; i < 2; i++) {
      deliver(&ways[i], now_ns());
      if (waits[1 + i].revents & POLLIN) take_in(&ways[i]);
    }
    if (waits[0].revents & (POLLIN | POLLHUP)) {
      ssize_t length = read(0, line + filled, sizeof line - 1 - filled);
      if (length <= 0) return 0;
      filled += (size_t)length;
      for (char *end; (end = memchr(line, '\n', filled));) {
        *end = 0;
        obey(line, ways);
        filled -= (size_t)(end + 1 - line);
        memmove(line, end + 1, filled);
      }
      if (filled == sizeof line - 1) filled = 0;
    }
  }
}
