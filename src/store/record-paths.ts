// Paths of disks, as they are recorded: relative to the data folder, so that a folder that was copied or moved serves its own
// bytes and never those of the original. Pure.
//
// What always holds: a recorded path lies in the data folder, or belongs to an image that was served where it lies. The data
// folder of such an image lies beside it (FILE.vmstore), and then both may be moved together.

import { basename, dirname, isAbsolute, join, normalize, relative, sep } from 'node:path'
import type { DiskRecord } from './records.ts'

/** What a served image's folder adds to its name. */
export const stateSuffix = '.vmstore'

type Paths = Pick<DiskRecord, 'path' | 'folder' | 'servedFile' | 'before'>

/** `record` with its paths as they are kept. `root`: the data folder, absolute. */
export function withStoredPaths(record: DiskRecord, root: string): DiskRecord {
  return { ...record, ...eachPath(record, (path) => storedPath(path, root)) }
}

/** `record` as kept, with absolute paths. `undefined`: one of its paths is not this disk's. */
export function withPaths(record: DiskRecord, root: string): DiskRecord | undefined {
  const found = { ...record, ...eachPath(record, (path) => (isAbsolute(path) ? path : join(root, path))) }
  const { servedFile, before } = found
  const isOurs = (path: string) => isWithin(root, path) || (servedFile !== null && isOfImage(path, servedFile))
  const all = [found.path, found.folder, ...(before ? [before.path] : [])]
  return all.every(isOurs) ? found : undefined
}

/**
 * Of format 1, whose paths were absolute, in whichever folder they were written: what lay in the data folder lies in it
 * still, in the disk's own folder; an image beside its data folder does so still.
 */
export function withPathsOfFormat1(record: DiskRecord, root: string): DiskRecord {
  const image = record.servedFile
  const moved = (path: string): string => {
    const parts = path.split(sep)
    const at = parts.lastIndexOf(record.id)
    if (at > 0 && parts[at - 1] === 'disks') return join('disks', ...parts.slice(at))
    if (image !== null && basename(image) + stateSuffix === basename(root) && isOfImage(path, image))
      return join('..', relative(dirname(image), path))
    return storedPath(path, root)
  }
  return { ...record, ...eachPath(record, moved) }
}

function eachPath({ path, folder, servedFile, before }: Paths, change: (path: string) => string): Paths {
  return {
    path: change(path),
    folder: change(folder),
    servedFile: servedFile === null ? null : change(servedFile),
    before: before && { ...before, path: change(before.path) },
  }
}

function storedPath(path: string, root: string): string {
  if (isWithin(root, path)) return relative(root, path) || '.'
  const image = root.endsWith(stateSuffix) ? root.slice(0, -stateSuffix.length) : undefined
  return path === image ? join('..', basename(path)) : path
}

function isWithin(folder: string, path: string): boolean {
  const way = relative(folder, normalize(path))
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way))
}

/** The image, or something in the folder beside it. */
function isOfImage(path: string, image: string): boolean {
  return path === image || isWithin(image + stateSuffix, path)
}
