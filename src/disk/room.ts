// Room for a new disk: what it must leave to the others, and what is said where it does not fit. Pure.

/** Free space that a new disk must leave. */
export const spareBytes = 64 * 2 ** 20
const mebibyte = 2 ** 20

/** What follows `the data folder has …`; undefined: the disk fits. */
export function lackOfRoom(freeBytes: number, name: string, neededBytes: number): string | undefined {
  if (freeBytes >= neededBytes + spareBytes) return undefined
  const [free, needed] = [Math.floor(freeBytes / mebibyte), Math.ceil(neededBytes / mebibyte)]
  return `${free} MiB free; ${name} needs ${needed} MiB, and ${spareBytes / mebibyte} MiB to spare`
}
