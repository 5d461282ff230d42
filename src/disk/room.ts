// Room on the disks of the host: what a new disk must leave to the others, what is said where it does not fit, and how an
// error looks that came for want of it. Pure.

/** Free space that a new disk must leave. */
export const spareBytes = 64 * 2 ** 20
const mebibyte = 2 ** 20

/** What follows `the data folder has …`; undefined: the disk fits. */
export function lackOfRoom(freeBytes: number, name: string, neededBytes: number): string | undefined {
  if (freeBytes >= neededBytes + spareBytes) return undefined
  return `${Math.floor(freeBytes / mebibyte)} MiB free; ${name} needs ${neededText(neededBytes)}`
}

/** '100 MiB, and 64 MiB to spare' */
export function neededText(neededBytes: number): string {
  return `${Math.ceil(neededBytes / mebibyte)} MiB, and ${spareBytes / mebibyte} MiB to spare`
}

/** The file system is full, or a quota is. */
export function isNoSpace(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'no-space'
}
