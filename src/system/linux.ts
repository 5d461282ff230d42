// Linux calls that Node lacks, through koffi. Each is a thin, typed name for one call; errors are thrown as ErrnoException
// with the call's name, as Node's own are. Calls that may wait for the disk are asynchronous (koffi's pool is libuv's).

import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'

const libc = koffi.load('libc.so.6')
koffi.struct('vmstore_iovec', { iov_base: 'void *', iov_len: 'size_t' })
koffi.struct('vmstore_flock', {
  l_type: 'int16_t',
  l_whence: 'int16_t',
  l_start: 'int64_t',
  l_len: 'int64_t',
  l_pid: 'int32_t',
})
const callFallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')
const callLseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)')
const callPreadv2 = libc.func('int64_t preadv2(int fd, vmstore_iovec *iov, int count, int64_t offset, int flags)')
const callFadvise = libc.func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)')
const callFcntl = libc.func('int fcntl(int fd, int command, _Inout_ vmstore_flock *lock)')

// <fcntl.h>, <linux/falloc.h>, <linux/fs.h>, the generic values (x86-64 and arm64 agree).
const SEEK_END = 2
const SEEK_DATA = 3
const SEEK_HOLE = 4
const FALLOC_FL_KEEP_SIZE = 0x01
const FALLOC_FL_PUNCH_HOLE = 0x02
const FALLOC_FL_ZERO_RANGE = 0x10
const RWF_NOWAIT = 0x08
const POSIX_FADV_RANDOM = 1
const POSIX_FADV_WILLNEED = 3
const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
const F_RDLCK = 0
const F_WRLCK = 1
const F_UNLCK = 2

/** Of a longer range the kernel takes a part: what one request to the device may have, or its own read-ahead. */
const willNeedBytes = 128 * 1024

export function errnoError(call: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(`${call}: ${code}`), { code, errno: -errno, syscall: call })
}

/** @throws ErrnoException */
export async function fallocate(fd: number, mode: number, offset: number, lengthBytes: number): Promise<void> {
  const result = await new Promise<number>((resolve, reject) => {
    callFallocate.async(fd, mode, offset, lengthBytes, (error: Error | null, value: number) =>
      error ? reject(error) : resolve(value),
    )
  })
  // errno is per thread: a failed call is asked once more on this thread, where its errno can be read.
  if (result !== 0 && callFallocate(fd, mode, offset, lengthBytes) !== 0) throw errnoError('fallocate', koffi.errno())
}

/** Deallocates a range; it reads as zeros after. The size of the file stays. */
export function punchHole(fd: number, offset: number, lengthBytes: number): Promise<void> {
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, lengthBytes)
}

/** Zeroes a range and leaves it allocated. The size of the file stays. */
export function zeroRange(fd: number, offset: number, lengthBytes: number): Promise<void> {
  return fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, lengthBytes)
}

/** undefined: none, or the end is passed. 'unknown': block devices and some file systems do not tell data from holes. */
function seek(fd: number, offset: number, whence: number): number | undefined | 'unknown' {
  const result = Number(callLseek(fd, offset, whence))
  if (result >= 0) return result
  const errno = koffi.errno()
  const code = getSystemErrorName(-errno)
  if (code === 'ENXIO') return undefined // No data after offset, or offset is past the end.
  if (code === 'EINVAL') return 'unknown'
  throw errnoError('lseek', errno)
}

/** Where the next data at or after `offset` begins; undefined when only hole follows. Where nobody knows, all is data. */
export function seekData(fd: number, offset: number): number | undefined {
  const found = seek(fd, offset, SEEK_DATA)
  return found === 'unknown' ? offset : found
}

/**
 * Where the next hole at or after `offset` begins; the end of the file counts as one. undefined past the end, and where
 * nobody knows.
 */
export function seekHole(fd: number, offset: number): number | undefined {
  const found = seek(fd, offset, SEEK_HOLE)
  return found === 'unknown' ? undefined : found
}

/** The size of a file or of a block device, in bytes. */
export function endOfFile(fd: number): number {
  const result = Number(callLseek(fd, 0, SEEK_END))
  if (result < 0) throw errnoError('lseek', koffi.errno())
  return result
}

/** Bytes that the page cache had at once, -1 when the read would wait, -2 when the file system cannot tell. */
export function readNoWait(fd: number, target: Uint8Array, offset: number): number {
  const count = Number(callPreadv2(fd, [{ iov_base: target, iov_len: target.length }], 1, offset, RWF_NOWAIT))
  if (count >= 0) return count
  const code = getSystemErrorName(-koffi.errno())
  if (code === 'EAGAIN') return -1
  if (code === 'ENOTSUP' || code === 'ENOSYS') return -2 // Node's name for EOPNOTSUPP too: both are 95.
  throw Object.assign(new Error(`preadv2: ${code}`), { code, syscall: 'preadv2' })
}

/**
 * Reads through this descriptor have nothing read ahead (posix_fadvise(2), POSIX_FADV_RANDOM), and what they bring in lies
 * in the page cache page by page. Where the file system has no such thing, nothing is changed.
 */
export function readNothingAhead(fd: number): void {
  callFadvise(fd, 0, 0, POSIX_FADV_RANDOM) // Only advice: it returns the error's number.
}

/** Has a range read into the page cache, page by page, and does not wait for its bytes (POSIX_FADV_WILLNEED). */
export async function willNeed(fd: number, offset: number, lengthBytes: number): Promise<void> {
  for (let at = 0; at < lengthBytes; at += willNeedBytes) {
    const bytes = Math.min(willNeedBytes, lengthBytes - at)
    await new Promise<void>((resolve, reject) => {
      // What cannot be read is told to whoever reads it.
      const over = (error: Error | null) => (error ? reject(error) : resolve())
      callFadvise.async(fd, offset + at, bytes, POSIX_FADV_WILLNEED, over)
    })
  }
}

/** An open-file-description lock on [offset, offset + lengthBytes); false when someone else holds a conflicting one. */
export function lockRange(fd: number, offset: number, lengthBytes: number, kind: 'shared' | 'exclusive'): boolean {
  const lock = {
    l_type: kind === 'shared' ? F_RDLCK : F_WRLCK,
    l_whence: 0,
    l_start: offset,
    l_len: lengthBytes,
    l_pid: 0,
  }
  if (callFcntl(fd, F_OFD_SETLK, lock) === 0) return true
  const errno = koffi.errno()
  const code = getSystemErrorName(-errno)
  if (code === 'EAGAIN' || code === 'EACCES') return false
  throw errnoError('fcntl', errno)
}

/** Whether an exclusive lock on the range would conflict with somebody else's lock. */
export function isRangeLocked(fd: number, offset: number, lengthBytes: number): boolean {
  const lock = { l_type: F_WRLCK, l_whence: 0, l_start: offset, l_len: lengthBytes, l_pid: 0 }
  if (callFcntl(fd, F_OFD_GETLK, lock) !== 0) throw errnoError('fcntl', koffi.errno())
  return lock.l_type !== F_UNLCK
}
