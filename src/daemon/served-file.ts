// `vmstore serve FILE`: a raw image is served where it lies, its state in FILE.vmstore/ beside it. A note there says which
// site has it, so that no second site takes it for a disk of its own.

import { randomUUID } from 'node:crypto'
import { mkdir, readFile, realpath } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Disk } from '../disk/disk.ts'
import { diskNamePattern } from '../disk/disk-name.ts'
import type { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import type { Files } from '../store/files.ts'
import type { DiskRecord } from '../store/records.ts'
import { inspectRawImage } from './raw-image.ts'

export const stateSuffix = '.vmstore'
const noteName = 'disk.json'
const imageSuffix = /\.(raw|img)$/i

/** The folder beside an image that holds its state. */
export function stateFolderOf(path: string): string {
  return `${path}${stateSuffix}`
}

/** Serves the image, as the disk that it was before if it was one of this site's. @throws Refusal */
export async function serveFile(disks: Disks, files: Files, siteId: string, file: string): Promise<Disk> {
  const path = await realpath(file).catch((error: NodeJS.ErrnoException) => {
    throw new Refusal('image-unknown', `${file} cannot be served: ${error.code}`, { cause: error })
  })
  const known = disks.all().find((disk) => disk.record.path === path)
  if (known) return known
  const { sizeBytes } = await inspectRawImage(path)
  const name = basename(path).replace(imageSuffix, '')
  if (!diskNamePattern.test(name)) {
    const next = 'Rename it, or copy it into a disk: vmstore disk create NAME --from FILE.'
    throw new Refusal('bad-name', `${basename(path)} does not make a disk name: letters, digits, . _ - only`, { next })
  }
  const folder = stateFolderOf(path)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const id = await claimImage(files, folder, path, siteId)
  return disks.adopt({ id, name, sizeBytes }, path, folder, new Date().toISOString())
}

/**
 * To be called before the record of a served file is removed: the file stays, and so does the knowledge of what it is.
 * Bytes that were moved away are not served again as if they were the disk.
 */
export async function leaveFile(files: Files, record: DiskRecord, siteId: string): Promise<void> {
  if (record.path.startsWith(`${record.folder}/`)) return
  const notePath = join(record.folder, noteName)
  if (record.state === 'owned') {
    await files.remove(notePath)
  } else {
    const note: ImageNote = { site: siteId, id: record.id, movedTo: record.owner, generation: record.generation }
    await writeNote(files, notePath, note)
  }
}

interface ImageNote {
  readonly site: string
  readonly id: string
  /** The site that has the disk since `generation`; absent while it is this one's. */
  readonly movedTo?: string
  readonly generation?: number
}

/** The disk id that the note beside the image gives this site, made when there is none. */
async function claimImage(files: Files, folder: string, path: string, siteId: string): Promise<string> {
  const notePath = join(folder, noteName)
  const text = await readFile(notePath, 'utf8').catch(() => undefined)
  if (text === undefined) {
    const id = randomUUID()
    await writeNote(files, notePath, { site: siteId, id })
    return id
  }
  const note = JSON.parse(text) as ImageNote
  const safe = 'Nothing was changed.'
  if (note.movedTo !== undefined) {
    const message = `the disk in ${path} was moved to site ${note.movedTo}, in generation ${note.generation}: these bytes are old`
    throw new Refusal('image-moved', message, {
      safe,
      next: `To serve them all the same, as another disk, remove ${notePath} first.`,
    })
  }
  if (note.site === siteId) return note.id
  throw new Refusal('image-of-other-site', `${path} is a disk of another site (${note.site})`, {
    safe,
    next: `Serve it with the --root of that site. If that site is gone for good, remove ${folder} and serve it anew.`,
  })
}

async function writeNote(files: Files, path: string, note: ImageNote): Promise<void> {
  const log = await files.replaceLog(path, Buffer.from(`${JSON.stringify(note)}\n`))
  await log.close()
}
