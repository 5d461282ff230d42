// Where a disk may be exported to: a file that is not there yet, and whose name promises no other format than raw.
// What is there already is never touched, and nobody is told to remove what is no file of theirs to remove.

import type { Stats } from 'node:fs'
import { lstat, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import type { ControlError } from '../control/errors.ts'
import { refused } from './errors.ts'
import { formatSize } from './sizes.ts'

interface ExportedDisk {
  readonly name: string
  readonly size: number
}

interface Format {
  readonly name: string
  /** qemu-img's word for it, if it can make one. */
  readonly driver?: string
}

/** What a name promises, by its end. */
const formats: ReadonlyMap<string, Format> = new Map<string, Format>([
  ['.qcow2', { name: 'qcow2', driver: 'qcow2' }],
  ['.qcow', { name: 'qcow', driver: 'qcow' }],
  ['.qed', { name: 'QED', driver: 'qed' }],
  ['.vmdk', { name: 'VMDK', driver: 'vmdk' }],
  ['.vhd', { name: 'VHD', driver: 'vpc' }],
  ['.avhd', { name: 'VHD', driver: 'vpc' }],
  ['.vhdx', { name: 'VHDX', driver: 'vhdx' }],
  ['.avhdx', { name: 'VHDX', driver: 'vhdx' }],
  ['.vdi', { name: 'VDI', driver: 'vdi' }],
  ['.hdd', { name: 'Parallels', driver: 'parallels' }],
  ['.hds', { name: 'Parallels', driver: 'parallels' }],
  ['.luks', { name: 'LUKS encrypted', driver: 'luks' }],
  ...['.gz', '.xz', '.zst', '.bz2', '.lz4', '.zip', '.7z', '.tar', '.tgz', '.ova', '.ovf', '.xva', '.dmg'].map(
    (end) => [end, { name: end.slice(1) }] as const,
  ),
])

/** Before anybody is asked. @throws ControlError `not-raw-name` */
export function checkName(file: string, disk: string): void {
  const end = extname(file)
  const format = formats.get(end.toLowerCase())
  if (format === undefined) return
  const stem = basename(file, end)
  const raw = /\.(raw|img)$/i.test(stem) ? stem : `${stem}.raw`
  const convert = `then: qemu-img convert -f raw -O ${format.driver} ${raw} ${basename(file)}`
  const next = `export it to ${raw}, ${format.driver === undefined ? 'then pack it' : convert}`
  const message = `A disk is exported as raw bytes, and ${file} is the name of something else: ${format.name}.`
  throw refused('not-raw-name', message, { disk, next })
}

/** @throws ControlError `file-exists`, `not-a-file` */
export async function checkAbsent(file: string, disk: ExportedDisk): Promise<void> {
  const found = await statOf(file)
  if (found !== undefined) throw isThere(file, found, disk)
}

/** What came to be there, or was there all the time. undefined: nothing is. */
async function statOf(file: string): Promise<Stats | undefined> {
  try {
    return await stat(file)
  } catch {
    return lstat(file).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
  }
}

function isThere(file: string, found: Stats, { name: disk, size }: ExportedDisk): ControlError {
  const notAFile = (what: string, next: string) =>
    refused('not-a-file', `${file} is ${what}, and a disk is exported into a new file.`, { disk, next })
  if (found.isDirectory()) return notAFile('a folder', `name a file in it: ${join(file, `${disk}.raw`)}`)
  if (found.isBlockDevice()) {
    const room = `it must have at least ${size} bytes (${formatSize(size)})`
    return notAFile(
      'a block device',
      `write to it with an NBD client, which replaces what is on it: nbdcopy URI ${file}, with the disk's NBD URI; ${room}`,
    )
  }
  if (found.isSymbolicLink()) return notAFile('a symbolic link to nothing', 'name the file itself')
  if (!found.isFile()) return notAFile('no regular file', 'name another one')
  return refused('file-exists', `${file} exists, and is not replaced.`, {
    disk,
    next: 'name another file, or remove that one if nobody needs it',
  })
}
