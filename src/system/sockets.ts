// Socket calls that Node lacks, through koffi: what a descriptor that we were given is, writing to a connection at once,
// and datagrams to a Unix socket. Thin, typed, none of them waits. Errors are thrown as ErrnoException with the call's name.

import type { Socket } from 'node:net'
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import { errnoError } from './linux.ts'

const libc = koffi.load('libc.so.6')
const callGetsockopt = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ int32_t *value, _Inout_ uint32_t *lengthBytes)',
)
const callGetsockname = libc.func('int getsockname(int fd, void *address, _Inout_ uint32_t *lengthBytes)')
const callFcntl = libc.func('int fcntl(int fd, int command, int argument)')
const callSocket = libc.func('int socket(int domain, int type, int protocol)')
const callSendto = libc.func(
  'int64_t sendto(int fd, void *bytes, size_t lengthBytes, int flags, void *address, uint32_t addressBytes)',
)
const callSend = libc.func('int64_t send(int fd, const void *bytes, size_t lengthBytes, int flags)')
const callSetsockopt = libc.func(
  'int setsockopt(int fd, int level, int name, const int32_t *value, uint32_t lengthBytes)',
)
const callClose = libc.func('int close(int fd)')

// <sys/socket.h>, <fcntl.h>, the generic values (x86-64 and arm64 agree).
const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
const SOL_SOCKET = 1
const SO_TYPE = 3
const SO_SNDBUF = 7
const SO_PEERCRED = 17
const SO_ACCEPTCONN = 30
const IPPROTO_TCP = 6
const TCP_USER_TIMEOUT = 18
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_MORE = 0x8000
const F_SETFD = 2
const F_DUPFD_CLOEXEC = 1030
const FD_CLOEXEC = 1

/** sizeof(struct sockaddr_storage), which every address fits. */
const addressMaxBytes = 128
const familyBytes = 2
/** What sun_path takes, less the NUL that ends a path. */
const unixPathMaxBytes = 107

export type SocketAddress =
  | { readonly family: 'unix' /** An abstract name begins with '@'; '' is no name. */; readonly path: string }
  | { readonly family: 'inet'; readonly host: string; readonly port: number }
  | { readonly family: 'other'; readonly number: number }

export interface SocketFacts {
  readonly isStream: boolean
  readonly isListening: boolean
  readonly address: SocketAddress
}

/** undefined: the descriptor is open and no socket. @throws ErrnoException, EBADF for one that is not open */
export function socketFacts(fd: number): SocketFacts | undefined {
  const type = socketOption(fd, SO_TYPE)
  if (type === undefined) return undefined
  return {
    isStream: type === SOCK_STREAM,
    isListening: socketOption(fd, SO_ACCEPTCONN) === 1,
    address: socketAddress(fd),
  }
}

function socketOption(fd: number, name: number): number | undefined {
  const value = [0]
  if (callGetsockopt(fd, SOL_SOCKET, name, value, [4]) === 0) return value[0]
  const errno = koffi.errno()
  if (getSystemErrorName(-errno) === 'ENOTSOCK') return undefined
  throw errnoError('getsockopt', errno)
}

function socketAddress(fd: number): SocketAddress {
  const bytes = Buffer.alloc(addressMaxBytes)
  const length = [addressMaxBytes]
  if (callGetsockname(fd, bytes, length) !== 0) throw errnoError('getsockname', koffi.errno())
  return decodeSocketAddress(bytes.subarray(0, length[0]))
}

/** struct sockaddr_un, sockaddr_in or sockaddr_in6, on a little-endian machine. */
export function decodeSocketAddress(bytes: Buffer): SocketAddress {
  const family = bytes.length < familyBytes ? 0 : bytes.readUInt16LE(0)
  if (family === AF_UNIX) return { family: 'unix', path: unixName(bytes.subarray(familyBytes)) }
  if (family === AF_INET && bytes.length >= 8) {
    return { family: 'inet', host: bytes.subarray(4, 8).join('.'), port: bytes.readUInt16BE(2) }
  }
  if (family === AF_INET6 && bytes.length >= 24) {
    const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(8 + 2 * index).toString(16)).join(':')
    // The shortest form, as URL writes it.
    const host = new URL(`tcp://[${groups}]`).hostname.slice(1, -1)
    return { family: 'inet', host, port: bytes.readUInt16BE(2) }
  }
  return { family: 'other', number: family }
}

/** unix(7): a path ends with a NUL that may be left out; an abstract name begins with one and is all the rest. */
function unixName(path: Buffer): string {
  if (path[0] === 0) return path.length > 1 ? `@${path.subarray(1).toString()}` : ''
  const end = path.indexOf(0)
  return path.subarray(0, end === -1 ? path.length : end).toString()
}

/** Programs that this process starts do not get the descriptor. @throws ErrnoException */
export function closeOnExec(fd: number): void {
  if (callFcntl(fd, F_SETFD, FD_CLOEXEC) === -1) throw errnoError('fcntl', koffi.errno())
}

/** Another descriptor for the same open socket, closed on exec. @throws ErrnoException */
export function duplicate(fd: number): number {
  const result: number = callFcntl(fd, F_DUPFD_CLOEXEC, 0)
  if (result === -1) throw errnoError('fcntl', koffi.errno())
  return result
}

/** How many bytes, from the first on, the kernel takes at once; -1 when the connection has failed. `more` will follow. */
export function sendNow(fd: number, bytes: Uint8Array, more: boolean): number {
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0)
  const count = Number(callSend(fd, bytes, bytes.length, flags))
  if (count >= 0) return count
  return getSystemErrorName(-koffi.errno()) === 'EAGAIN' ? 0 : -1
}

/** The process that connected over a Unix socket; undefined where the system does not tell, as of another pid namespace. */
export function peerProcess(fd: number): number | undefined {
  // struct ucred: pid, uid, gid.
  const credentials = [0, 0, 0]
  if (callGetsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, [12]) !== 0) return undefined
  return credentials[0] || undefined
}

/** How long what was sent may stay without an acknowledgement, as setTcpUserTimeout() set it. @throws ErrnoException */
export function tcpUserTimeout(fd: number): number {
  const value = [0]
  if (callGetsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value, [4]) !== 0) throw errnoError('getsockopt', koffi.errno())
  return value[0]!
}

/** Asks for a send buffer of this size; the kernel may grant less. @throws ErrnoException */
export function setSendBuffer(fd: number, sizeBytes: number): void {
  if (callSetsockopt(fd, SOL_SOCKET, SO_SNDBUF, [sizeBytes], 4) === -1) throw errnoError('setsockopt', koffi.errno())
}

/** How long what was sent over TCP may stay without an acknowledgement before the connection has failed. @throws ErrnoException */
export function setTcpUserTimeout(fd: number, timeoutMs: number): void {
  if (callSetsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, [timeoutMs], 4) === -1) {
    throw errnoError('setsockopt', koffi.errno())
  }
}

/**
 * Sends one datagram to the Unix socket at `path` ('@name' for an abstract one). false: nothing was sent, because the
 * receiver's queue is full. @throws ErrnoException
 */
export function sendDatagram(path: string, bytes: Uint8Array): boolean {
  const address = encodeUnixAddress(path)
  const fd = callSocket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) as number
  if (fd < 0) throw errnoError('socket', koffi.errno())
  try {
    const sent = Number(callSendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length))
    if (sent >= 0) return true
    const errno = koffi.errno()
    if (getSystemErrorName(-errno) === 'EAGAIN') return false
    throw errnoError('sendto', errno)
  } finally {
    callClose(fd)
  }
}

function encodeUnixAddress(path: string): Buffer {
  const name = Buffer.from(path)
  if (name.length === 0 || name.length > unixPathMaxBytes || name.includes(0)) {
    const message = `${JSON.stringify(path)} is no path of a Unix socket: it has 1 to ${unixPathMaxBytes} bytes and no NUL`
    throw Object.assign(new Error(message), { code: 'EINVAL', syscall: 'sendto' })
  }
  const isAbstract = path.startsWith('@')
  if (isAbstract) name[0] = 0
  const family = Buffer.alloc(familyBytes)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, name, Buffer.alloc(isAbstract ? 0 : 1)])
}

/** The descriptor of a connection. @throws Error when it is closed */
export function descriptorOf(socket: Socket): number {
  // Node has no other name for it.
  const { _handle } = socket as unknown as { readonly _handle: { readonly fd: number } | null }
  if (_handle === null) throw new Error('the connection is gone')
  return _handle.fd
}
