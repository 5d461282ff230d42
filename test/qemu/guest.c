// The whole user space of the test guest: its init, and a workload that knows what every sector of its disks must hold. There
// may be several of one size, /dev/vda, vdb and so on: their sectors count as if one stood behind the other.
//
// Requests of 512 bytes, 4 KiB and 64 KiB, several at a time, on disks opened with O_DIRECT; never two over one sector,
// often two over one block. Every written sector carries its number and the number of the write, so that a wrong one says
// what it is. A read is held against what was last acknowledged.
//
// The serial console, one line each:
//   guest:  ready SECTORS | tick REQUESTS (every 20 ms in which one completed) | trouble WHAT | done KEY=NUMBER ...
//   host:   finish                      the guest then reads the whole disk once more, says done, and powers off

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
  sector_bytes = 512,
  sector_words = sector_bytes / 8,
  block_sectors = 8,
  large_sectors = 128,
  hole_sectors = 2048, // Every eighth MiB is not filled, and must read as zeros until it is written.
  hole_every = 8,
  worker_count = 4,
  zeroed_max_sectors = 512,
  troubles_told = 20,
  tick_us = 20000,
  most_disks = 4,
};

// What a sector must hold: the number of the write that made it (0: zeros), and whether it was discarded since. A discarded
// sector may read as before or as zeros, but once zeros, zeros.
static const uint32_t write_mask = 0x3fffffff, seen_zero = 0x40000000, was_discarded = 0x80000000;

static int disks[most_disks], disk_count, console;
static uint64_t disk_sectors, sector_count;
static uint32_t *expected;
static uint8_t *busy;
static pthread_mutex_t picking = PTHREAD_MUTEX_INITIALIZER, telling = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint last_write;
static atomic_ullong requests, reads, writes, flushes, discards, zeroes, wrong, errors, verified, longest_us;
static atomic_int troubles, stopping;

static void tell(const char *format, ...) {
  char line[400];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  if (length > (int)sizeof line - 2) length = sizeof line - 2;
  line[length++] = '\n';
  pthread_mutex_lock(&telling);
  for (int at = 0; at < length;) {
    ssize_t written = write(console, line + at, length - at);
    if (written > 0) at += written;
  }
  pthread_mutex_unlock(&telling);
}

static _Noreturn void power_off(void) {
  tcdrain(console);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

static _Noreturn void give_up(const char *what) {
  tell("trouble %s: %s", what, strerror(errno));
  power_off();
}

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

static uint64_t scramble(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

static uint64_t next_random(uint64_t *state) { return scramble(*state += 0x9e3779b97f4a7c15ull); }

// ---- what sectors hold

static void make_sector(uint64_t *words, uint64_t sector, uint32_t write_number) {
  uint64_t word = scramble(sector << 32 | write_number);
  words[0] = sector;
  words[1] = write_number;
  for (int i = 2; i < sector_words; i++) words[i] = word = word * 6364136223846793005ull + 1442695040888963407ull;
}

static int is_zero(const uint64_t *words) {
  uint64_t all = 0;
  for (int i = 0; i < sector_words; i++) all |= words[i];
  return all == 0;
}

static int is_right(const uint64_t *words, uint64_t sector) {
  uint32_t state = expected[sector], number = state & write_mask;
  int zero = is_zero(words);
  if (number == 0) return zero;
  if (zero && (state & was_discarded)) {
    expected[sector] |= seen_zero;
    return 1;
  }
  if (state & seen_zero) return 0;
  uint64_t right[sector_words];
  make_sector(right, sector, number);
  return memcmp(right, words, sector_bytes) == 0;
}

static void trouble(const char *what, uint64_t sector, uint64_t count) {
  int number = errno;
  atomic_fetch_add(&errors, 1);
  if (atomic_fetch_add(&troubles, 1) < troubles_told)
    tell("trouble %s of %llu sectors at %llu: %s", what, (unsigned long long)count, (unsigned long long)sector, strerror(number));
}

static void check(const uint64_t *words, uint64_t first, uint64_t count) {
  for (uint64_t i = 0; i < count; i++, words += sector_words) {
    uint64_t sector = first + i;
    if (is_right(words, sector)) continue;
    atomic_fetch_add(&wrong, 1);
    if (atomic_fetch_add(&troubles, 1) >= troubles_told) continue;
    uint32_t state = expected[sector];
    char found[80];
    if (is_zero(words)) snprintf(found, sizeof found, "zeros");
    else snprintf(found, sizeof found, "sector %llu of write %llu", (unsigned long long)words[0], (unsigned long long)words[1]);
    tell("trouble wrong bytes: sector %llu is of write %u%s%s, and reads as %s", (unsigned long long)sector, state & write_mask,
         state & was_discarded ? ", discarded" : "", state & seen_zero ? ", seen as zeros" : "", found);
  }
}

// ---- requests. The caller holds the sectors, which are of one disk.

static int disk_of(uint64_t sector) { return disks[sector / disk_sectors]; }

static uint64_t offset_of(uint64_t sector) { return sector % disk_sectors * sector_bytes; }

static void read_and_check(uint64_t *buffer, uint64_t first, uint64_t count) {
  ssize_t length = count * sector_bytes;
  memset(buffer, 0xa5, length);
  if (pread(disk_of(first), buffer, length, offset_of(first)) == length) check(buffer, first, count);
  else trouble("read", first, count);
  atomic_fetch_add(&reads, 1);
}

static void write_new(uint64_t *buffer, uint64_t first, uint64_t count) {
  uint32_t number = atomic_fetch_add(&last_write, 1) + 1;
  ssize_t length = count * sector_bytes;
  for (uint64_t i = 0; i < count; i++) make_sector(buffer + i * sector_words, first + i, number);
  if (pwrite(disk_of(first), buffer, length, offset_of(first)) != length) return trouble("write", first, count);
  for (uint64_t i = 0; i < count; i++) expected[first + i] = number;
  atomic_fetch_add(&writes, 1);
}

static void discard(uint64_t first, uint64_t count) {
  uint64_t range[2] = {offset_of(first), count * sector_bytes};
  if (ioctl(disk_of(first), BLKDISCARD, range) != 0) return trouble("discard", first, count);
  for (uint64_t i = 0; i < count; i++) expected[first + i] |= was_discarded;
  atomic_fetch_add(&discards, 1);
}

static void write_zeroes(uint64_t first, uint64_t count, int may_punch) {
  uint64_t range[2] = {offset_of(first), count * sector_bytes};
  int disk = disk_of(first);
  int result = may_punch ? fallocate(disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range[0], range[1])
                         : ioctl(disk, BLKZEROOUT, range);
  if (result != 0) return trouble("write of zeros", first, count);
  for (uint64_t i = 0; i < count; i++) expected[first + i] = 0;
  atomic_fetch_add(&zeroes, 1);
}

static void flush(void) {
  for (int i = 0; i < disk_count; i++)
    if (fdatasync(disks[i]) != 0) trouble("flush", i, 0);
  atomic_fetch_add(&flushes, 1);
}

// ---- workers

// Takes sectors that no other worker has, mostly at their natural alignment, often where the others are too.
static uint64_t take(uint64_t *random, uint64_t count) {
  static uint64_t hot;
  for (;;) {
    uint64_t number = next_random(random), first = number % (sector_count - count + 1);
    pthread_mutex_lock(&picking);
    if (number >> 60 < 5) first = (hot + number % 1024) % (sector_count - count + 1);
    else if (number >> 52 == 0xfff) hot = first;
    if (number >> 56 & 3 && count > 1) first -= first % (count < block_sectors ? count : block_sectors);
    if (first % disk_sectors + count > disk_sectors) first -= count; // It would reach into the next disk.
    int free = memchr(busy + first, 1, count) == NULL;
    if (free) memset(busy + first, 1, count);
    pthread_mutex_unlock(&picking);
    if (free) return first;
  }
}

static void give_back(uint64_t first, uint64_t count) {
  pthread_mutex_lock(&picking);
  memset(busy + first, 0, count);
  pthread_mutex_unlock(&picking);
}

static void *work(void *seed) {
  static const uint64_t sizes[] = {1, 1, 1, block_sectors, block_sectors, block_sectors, block_sectors, large_sectors};
  uint64_t random = scramble((uintptr_t)seed), *buffer;
  if (posix_memalign((void **)&buffer, 4096, large_sectors * sector_bytes) != 0) give_up("buffer");
  while (!atomic_load(&stopping)) {
    uint64_t dice = next_random(&random) % 1000, began = now_us();
    uint64_t count = sizes[next_random(&random) % 8];
    if (dice < 40) count = block_sectors + next_random(&random) % (zeroed_max_sectors - block_sectors);
    if (dice < 60 && dice >= 40) {
      flush();
    } else {
      uint64_t first = take(&random, count);
      if (dice < 16) discard(first, count);
      else if (dice < 40) write_zeroes(first, count, dice < 28);
      else if (dice < 540) read_and_check(buffer, first, count);
      else write_new(buffer, first, count);
      give_back(first, count);
    }
    unsigned long long took = now_us() - began, longest = atomic_load(&longest_us);
    while (took > longest && !atomic_compare_exchange_weak(&longest_us, &longest, took)) continue;
    atomic_fetch_add(&requests, 1);
  }
  return NULL;
}

static void *tick(void *unused) {
  (void)unused;
  for (unsigned long long told = 0; !atomic_load(&stopping);) {
    usleep(tick_us);
    unsigned long long done = atomic_load(&requests);
    if (done != told) tell("tick %llu", told = done);
  }
  return NULL;
}

static void fill(uint64_t *buffer) {
  for (uint64_t first = 0; first < sector_count; first += large_sectors) {
    if (first / hole_sectors % hole_every == hole_every - 1) continue;
    write_new(buffer, first, sector_count - first < large_sectors ? sector_count - first : large_sectors);
  }
  flush();
}

// ---- init

static void load_modules(void) {
  char name[64];
  FILE *order = fopen("/modules/order", "r");
  if (order == NULL) give_up("/modules/order");
  while (fscanf(order, "%63s", name) == 1) {
    char path[80];
    snprintf(path, sizeof path, "/modules/%s", name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || syscall(SYS_finit_module, file, "", 0) != 0) give_up(path);
    close(file);
  }
  fclose(order);
}

static void open_console(void) {
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  console = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
  struct termios mode;
  tcgetattr(console, &mode);
  cfmakeraw(&mode);
  tcsetattr(console, TCSANOW, &mode);
}

static void await_finish(void) {
  static const char word[] = "finish\n";
  for (size_t matched = 0; matched < sizeof word - 1;) {
    char letter;
    if (read(console, &letter, 1) == 1) matched = letter == word[matched] ? matched + 1 : letter == word[0];
  }
}

int main(void) {
  open_console();
  load_modules();
  uint64_t size_bytes, *buffer;
  for (; disk_count < most_disks; disk_count++) {
    char path[] = "/dev/vda";
    path[7] += disk_count;
    disks[disk_count] = open(path, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
    if (disks[disk_count] < 0 && disk_count > 0) break;
    if (disks[disk_count] < 0 || ioctl(disks[disk_count], BLKGETSIZE64, &size_bytes) != 0) give_up(path);
  }
  disk_sectors = size_bytes / sector_bytes;
  sector_count = disk_count * disk_sectors;
  expected = calloc(sector_count, sizeof *expected);
  busy = calloc(sector_count, 1);
  if (!expected || !busy || posix_memalign((void **)&buffer, 4096, large_sectors * sector_bytes) != 0) give_up("memory");

  fill(buffer);
  tell("ready %llu", (unsigned long long)sector_count);
  pthread_t workers[worker_count], ticker;
  for (uintptr_t i = 0; i < worker_count; i++) pthread_create(&workers[i], NULL, work, (void *)(i + 1));
  pthread_create(&ticker, NULL, tick, NULL);

  await_finish();
  atomic_store(&stopping, 1);
  for (int i = 0; i < worker_count; i++) pthread_join(workers[i], NULL);
  pthread_join(ticker, NULL);
  for (uint64_t first = 0; first < sector_count; first += large_sectors) {
    uint64_t count = sector_count - first < large_sectors ? sector_count - first : large_sectors;
    read_and_check(buffer, first, count);
    atomic_fetch_add(&verified, count);
  }
  flush();
  tell("done requests=%llu reads=%llu writes=%llu flushes=%llu discards=%llu zeroes=%llu wrong=%llu errors=%llu verified=%llu "
       "longestMicroseconds=%llu",
       requests, reads, writes, flushes, discards, zeroes, wrong, errors, verified, longest_us);
  power_off();
}
