// `vmstore serve FILE`: a raw image is served where it lies, its state in FILE.vmstore/ beside it. A note there says which
// site has it, so that no second site takes it for a disk of its own.

import { randomUUID } from 'node:crypto'
import { mkdir, readFile, realpath } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import type { SigningKey } from '../deed/keys.ts'
import { signMade } from '../deed/signing.ts'
import type { Disk } from '../disk/disk.ts'
import { diskNamePattern } from '../disk/disk-name.ts'
import type { Disks } from '../disk/disks.ts'
import { Refusal } from '../disk/refusal.ts'
import type { DataFolder } from '../store/data-folder.ts'
import type { Files } from '../store/files.ts'
import { stateSuffix } from '../store/record-paths.ts'
import type { DiskRecord } from '../store/records.ts'
import { inspectRawImage } from './image-inspection.ts'

const noteName = 'disk.json'
const imageSuffix = /\.(raw|img)$/i

/** The folder beside an image that holds its state. */
export function stateFolderOf(path: string): string {
  return `${path}${stateSuffix}`
}

/** The data folder of an image that was served by the site that it belongs to; another's image says whose it is. */
export async function isBesideServedFile({ root }: Pick<DataFolder, 'root'>, siteId: string): Promise<boolean> {
  return (await readNote(root))?.site === siteId
}

/** Serves the image, as the disk that it was before if it was one of this site's. @throws Refusal */
export async function serveFile(
  disks: Disks,
  files: Files,
  siteId: string,
  key: SigningKey,
  file: string,
): Promise<Disk> {
  // A disk that was released with its bytes deleted, or came back to another file, is known by the note all the same.
  const path = await realpath(file).catch(() => resolve(file))
  const folder = stateFolderOf(path)
  const note = await readNote(folder)
  const known = note && disks.get(note.id)
  if (known) return known
  const { sizeBytes } = await inspectRawImage(path)
  const name = basename(path).replace(imageSuffix, '')
  if (!diskNamePattern.test(name)) {
    const next = 'Rename it, or copy it into a disk: vmstore disk create NAME --from FILE.'
    throw new Refusal('bad-name', `${basename(path)} does not make a disk name: letters, digits, . _ - only`, { next })
  }
  const id = await claimImage(files, note, folder, path, siteId)
  const madeAt = new Date().toISOString()
  return disks.adopt({ id, name, sizeBytes, deed: signMade(key, id, madeAt) }, path, folder, madeAt)
}

/**
 * To be called before the record of a served file is removed: the file stays, and so does the knowledge of what it is.
 * Bytes that were moved away are not served again as if they were the disk.
 */
export async function leaveFile(files: Files, record: DiskRecord, siteId: string): Promise<void> {
  if (record.servedFile === null) return
  const notePath = join(stateFolderOf(record.servedFile), noteName)
  if (record.state === 'owned' && record.path === record.servedFile) {
    await files.remove(notePath)
  } else {
    const note: ImageNote = { site: siteId, id: record.id, movedTo: record.owner, generation: record.generation }
    await writeNote(files, notePath, note)
  }
}

/** The notes beside served images that name a site by what it was called before its key was renewed. @throws when one cannot be written */
export async function renameNotes(
  files: Files,
  records: readonly DiskRecord[],
  before: string,
  after: string,
): Promise<void> {
  for (const { servedFile } of records) {
    if (servedFile === null) continue
    const folder = stateFolderOf(servedFile)
    const note = await readNote(folder)
    if (note?.site === before) await writeNote(files, join(folder, noteName), { ...note, site: after })
  }
}

const noteShape = z.object({
  site: z.string(),
  id: z.uuid(),
  /** The site that has the disk since `generation`; absent while it is this one's. */
  movedTo: z.string().optional(),
  generation: z.number().optional(),
})
type ImageNote = z.infer<typeof noteShape>

async function readNote(folder: string): Promise<ImageNote | undefined> {
  const path = join(folder, noteName)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return undefined
  try {
    return noteShape.parse(JSON.parse(text))
  } catch (error) {
    const next = `If no site has this image as a disk, remove ${path}.`
    throw new Refusal('note-damaged', `${path} cannot be read`, { safe: 'Nothing was changed.', next, cause: error })
  }
}

/** The disk id that the note beside the image gives this site, made when there is none. */
async function claimImage(
  files: Files,
  note: ImageNote | undefined,
  folder: string,
  path: string,
  siteId: string,
): Promise<string> {
  const notePath = join(folder, noteName)
  if (note === undefined) {
    const id = randomUUID()
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await writeNote(files, notePath, { site: siteId, id })
    return id
  }
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
