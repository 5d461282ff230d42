// QEMU's image locks (block/file-posix.c): byte 100 + p is held by whoever uses permission p, byte 200 + p by whoever does
// not share it. Holding them as a running QEMU does, QEMU and its tools refuse to open the file beside us, and we them.

import { isRangeLocked, lockRange } from '../system/linux.ts'
import { StoreError } from './store-error.ts'

const usedBase = 100
const unsharedBase = 200
const permission = { consistentRead: 0, write: 1, resize: 3 } as const

/** For as long as `fd` is open. @throws StoreError `in-use` */
export function takeImageLocks(fd: number, path: string, readOnly: boolean): void {
  const used = readOnly ? [permission.consistentRead] : [permission.consistentRead, permission.write, permission.resize]
  const unshared = [permission.write, permission.resize]
  // First taken, then looked at: of two that start at once, at least one sees the other. Own locks do not show.
  const taken =
    used.every((bit) => lockRange(fd, usedBase + bit, 1, 'shared')) &&
    unshared.every((bit) => lockRange(fd, unsharedBase + bit, 1, 'shared'))
  const conflict =
    used.some((bit) => isRangeLocked(fd, unsharedBase + bit, 1)) ||
    unshared.some((bit) => isRangeLocked(fd, usedBase + bit, 1))
  if (taken && !conflict) return
  throw new StoreError('in-use', `${path} is open in another program (QEMU, or another vmstore)`, {
    next: 'Stop the program that has it open, then try again.',
  })
}
