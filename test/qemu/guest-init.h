// What the inits of guests share whose kernel is an NBD client of the host: the console, modules, the network, and giving up.
// The serial console has one line for each thing that is told; `trouble WHAT` ends the guest.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

// QEMU's user network: the guest, and the host's loopback as the guest finds it.
static const char guest_address[] = "10.0.2.15", network_mask[] = "255.255.255.0", host_address[] = "10.0.2.2";

static void tell(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static _Noreturn void power_off(void) {
  tcdrain(STDOUT_FILENO);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

static _Noreturn void give_up(const char *what) {
  tell("trouble %s: %s", what, strerror(errno));
  power_off();
}

static void open_console(void) {
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
  for (int fd = 0; fd <= 2; fd++) dup2(console, fd);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("proc", "/proc", "proc", 0, NULL);
}

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

static void set_address(int fd, unsigned long request, struct ifreq *interface, const char *address) {
  struct sockaddr_in wanted = {.sin_family = AF_INET};
  inet_pton(AF_INET, address, &wanted.sin_addr);
  memcpy(&interface->ifr_addr, &wanted, sizeof wanted);
  if (ioctl(fd, request, interface) != 0) give_up(address);
}

// The route to the host comes with the mask.
static void join_network(void) {
  struct ifreq interface = {.ifr_name = "eth0"};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  set_address(fd, SIOCSIFADDR, &interface, guest_address);
  set_address(fd, SIOCSIFNETMASK, &interface, network_mask);
  if (ioctl(fd, SIOCGIFFLAGS, &interface) != 0) give_up("eth0");
  interface.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (ioctl(fd, SIOCSIFFLAGS, &interface) != 0) give_up("eth0");
  close(fd);
}
