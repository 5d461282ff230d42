// Where a disk may be exported to: a file that is not there yet, and whose name promises no other format than raw.
// What is there already is never touched, and nobody is told to remove what is no file of theirs to remove.

import type { Stats } from 'node:fs'
import { lstat, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import type { ControlError } from '../control/errors.ts'
import { refused } from './errors.ts'

interface ExportedDisk {
  readonly name: string
  readonly size: number
}

interface Format {
  readonly name: string
  /** What qemu-img convert makes one with, if it can. */
  readonly output?: string
}

/** What a name promises, by its end. */
const formats: ReadonlyMap<string, Format> = new Map<string, Format>([
  ['.qcow2', { name: 'qcow2', output: 'qcow2' }],
  ['.qcow', { name: 'qcow', output: 'qcow' }],
  ['.qed', { name: 'QED', output: 'qed' }],
  ['.vmdk', { name: 'VMDK', output: 'vmdk' }],
  ['.vhd', { name: 'VHD', output: 'vpc -o force_size=on' }],
  ['.avhd', { name: 'VHD', output: 'vpc -o force_size=on' }],
  ['.vhdx', { name: 'VHDX', output: 'vhdx' }],
  ['.avhdx', { name: 'VHDX', output: 'vhdx' }],
  ['.vdi', { name: 'VDI', output: 'vdi' }],
  ['.hdd', { name: 'Parallels', output: 'parallels' }],
  ['.hds', { name: 'Parallels', output: 'parallels' }],
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
  const convert = `then: qemu-img convert -f raw -O ${format.output} ${raw} ${basename(file)}`
  const next = `Export it to ${raw}, ${format.output === undefined ? 'then pack it' : convert}.`
  const message = `A disk is exported as raw bytes, and ${file} is the name of something else: ${format.name}.`
  throw refused('not-raw-name', message, { disk, next })
}

/** @throws ControlError `file-exists`, `not-a-file`; and what the file system says, when nobody can tell */
export async function checkAbsent(file: string, disk: ExportedDisk): Promise<void> {
  const found = await statOf(file)
  if (found !== undefined) throw isThere(file, found, disk)
}

/** What is there. undefined: nothing. */
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
  if (found.isDirectory()) return notAFile('a folder', `Name a file in it: ${join(file, `${disk}.raw`)}.`)
  if (found.isBlockDevice()) {
    const next = `To write to it, and replace what is on it: nbdcopy URI ${file} (URI: the disk's, as NBD clients have it). It must have at least ${size} bytes.`
    return notAFile('a block device', next)
  }
  if (found.isSymbolicLink()) return notAFile('a symbolic link that leads nowhere', 'Name the file itself.')
  if (!found.isFile()) return notAFile('no regular file', 'Name another one.')
  return refused('file-exists', `${file} exists, and is not replaced.`, {
    disk,
    next: 'Name another file, or remove that one if nobody needs it.',
  })
}
