// Where the demo's sites live: a new folder for each run, on a path short enough for Unix sockets, with room for the
// image and both sites' disks.

import { mkdtempSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { refused } from '../cli/errors.ts'
import { formatSize } from '../cli/sizes.ts'

/** unix(7): sun_path has 108 bytes with the NUL. */
export const socketPathMaxBytes = 107
/** The longest name below the folder that a socket has, with room to spare. */
const belowMaxBytes = 32

/** The folders that are tried, in this order. */
export const usualPlaces = (): readonly string[] => [...new Set([tmpdir(), '/var/tmp', '/tmp'])]

export async function makeFolder(roomBytes: number, places: readonly string[] = usualPlaces()): Promise<string> {
  const reasons: string[] = []
  for (const place of places) {
    const prefix = join(place, 'vmstore-demo-')
    if (Buffer.byteLength(prefix) + 6 + belowMaxBytes > socketPathMaxBytes) {
      reasons.push(`the path of ${place} is too long for a Unix socket`)
      continue
    }
    try {
      const { bavail, bsize } = await statfs(place)
      if (bavail * bsize >= roomBytes) return mkdtempSync(prefix)
      reasons.push(`${place} has ${formatSize(bavail * bsize)}`)
    } catch (error) {
      reasons.push(`${place} cannot be used (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  const message = `There is no folder with ${formatSize(roomBytes)} for the demo's two sites: ${reasons.join(', ')}.`
  throw refused('no-room', message, { next: 'Name another folder with TMPDIR, or a smaller disk with --size.' })
}
