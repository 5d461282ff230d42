// A generic netlink socket: requests to a part of the kernel, and what its multicast groups tell. Bytes only; their meaning
// is the caller's. Always: what did not come from the kernel is left aside. A request is worked on while it is sent, by the
// sending thread, so that descriptors in it are this process's, and its answer is there when send() returns.

import { closeSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import { errnoError } from './linux.ts'

const libc = koffi.load('libc.so.6')
const callSocket = libc.func('int socket(int domain, int type, int protocol)')
const callBind = libc.func('int bind(int fd, const void *address, uint32_t addressBytes)')
const callSetsockopt = libc.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t lengthBytes)')
const callSendto = libc.func(
  'int64_t sendto(int fd, const void *bytes, size_t lengthBytes, int flags, const void *address, uint32_t addressBytes)',
)
const callRecvfrom = libc.func(
  'int64_t recvfrom(int fd, void *bytes, size_t lengthBytes, int flags, void *address, _Inout_ uint32_t *addressBytes)',
)

// <sys/socket.h>, <linux/netlink.h>, the generic values (x86-64 and arm64 agree).
const AF_NETLINK = 16
const NETLINK_GENERIC = 16
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const SOL_NETLINK = 270
const NETLINK_ADD_MEMBERSHIP = 1
const MSG_DONTWAIT = 0x40

/** struct sockaddr_nl: family, padding, port id, groups. The kernel's port id is 0. */
const addressBytes = 12
const portIdAt = 4
/** Longer than any message of a family with few attributes; the kernel cuts what does not fit. */
const messageMaxBytes = 64 * 1024

export class NetlinkSocket {
  readonly #fd: number
  readonly #buffer = Buffer.alloc(messageMaxBytes)

  /** @throws ErrnoException, such as EPROTONOSUPPORT or EAFNOSUPPORT where there is no netlink */
  constructor() {
    this.#fd = callSocket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC) as number
    if (this.#fd < 0) throw errnoError('socket', koffi.errno())
    // A socket without a port id of its own gets no multicast.
    if (callBind(this.#fd, kernelAddress(), addressBytes) !== 0) {
      const errno = koffi.errno()
      closeSync(this.#fd)
      throw errnoError('bind', errno)
    }
  }

  /** @throws ErrnoException */
  join(group: number): void {
    const value = Buffer.alloc(4)
    value.writeUInt32LE(group)
    if (callSetsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, value, value.length) !== 0) {
      throw errnoError('setsockopt', koffi.errno())
    }
  }

  /** @throws ErrnoException */
  send(bytes: Uint8Array): void {
    const sent = Number(callSendto(this.#fd, bytes, bytes.length, 0, kernelAddress(), addressBytes))
    if (sent < 0) throw errnoError('sendto', koffi.errno())
  }

  /** What is there, one datagram of messages; undefined: nothing. @throws ErrnoException, ENOBUFS when some were lost */
  receive(): Buffer | undefined {
    const from = kernelAddress()
    while (true) {
      const count = Number(callRecvfrom(this.#fd, this.#buffer, messageMaxBytes, MSG_DONTWAIT, from, [addressBytes]))
      if (count < 0) {
        const errno = koffi.errno()
        if (getSystemErrorName(-errno) === 'EAGAIN') return undefined
        throw errnoError('recvfrom', errno)
      }
      if (from.readUInt32LE(portIdAt) === 0) return Buffer.from(this.#buffer.subarray(0, count))
    }
  }

  close(): void {
    closeSync(this.#fd)
  }
}

function kernelAddress(): Buffer {
  const address = Buffer.alloc(addressBytes)
  address.writeUInt16LE(AF_NETLINK)
  return address
}
