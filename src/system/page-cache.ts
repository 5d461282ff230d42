// Which pages of a file the page cache has, whole and readable now (mincore(2)). The file is mapped, and never touched
// through the mapping: what is asked for is found in the kernel's tables. Unlike cachestat(2) it does not count pages that
// are still on their way from the disk.

import koffi from 'koffi'
import { errnoError } from './linux.ts'

const libc = koffi.load('libc.so.6')
const callMmap = libc.func(
  'uintptr_t mmap(uintptr_t address, size_t lengthBytes, int protection, int flags, int fd, int64_t offset)',
)
const callMincore = libc.func('int mincore(uintptr_t address, size_t lengthBytes, uint8_t *pages)')
const callMunmap = libc.func('int munmap(uintptr_t address, size_t lengthBytes)')

// <sys/mman.h>, the generic values (x86-64 and arm64 agree).
const PROT_NONE = 0
const MAP_PRIVATE = 0x02
const MAP_NORESERVE = 0x4000

const pageBytes = 4096
const isResident = 1
/** Of the longest range that can be asked about at once, 16 MiB. */
const pagesMax = 4096

/** For one open file. The kernel tells it only to those who may write the file, or own it: to others all seems resident. */
export class PageCacheView {
  readonly #address: bigint
  readonly #lengthBytes: number
  readonly #pages = new Uint8Array(pagesMax)
  #isOpen = true

  /** `lengthBytes` over 0. @throws ErrnoException */
  constructor(fd: number, lengthBytes: number) {
    const result = BigInt(callMmap(0, lengthBytes, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, fd, 0))
    if (BigInt.asIntN(64, result) === -1n) throw errnoError('mmap', koffi.errno())
    this.#address = result
    this.#lengthBytes = lengthBytes
  }

  /** Whether the whole of [offset, offset + lengthBytes) is there. */
  has(offset: number, lengthBytes: number): boolean {
    const first = offset - (offset % pageBytes)
    const pages = Math.ceil((offset + lengthBytes - first) / pageBytes)
    if (!this.#isOpen || pages > pagesMax || offset + lengthBytes > this.#lengthBytes) return false
    if (callMincore(this.#address + BigInt(first), pages * pageBytes, this.#pages) !== 0) return false
    for (let page = 0; page < pages; page++) if ((this.#pages[page]! & isResident) === 0) return false
    return true
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    callMunmap(this.#address, this.#lengthBytes)
  }
}
