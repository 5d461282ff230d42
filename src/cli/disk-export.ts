// Copies a disk into a new file: read from the daemon by NBD, over a connection to its control socket, so that it does not
// matter where and how guests may connect; and written with the rights of whoever runs the command.
//
// What always holds:
// - FILE is there when all of it is, durably, or it is not there at all. A file that exists is never touched.
// - A copy that is not said to be consistent may be of no single instant: a client was attached, or wrote, meanwhile.
// - By its name and its bytes FILE is taken for the raw image that it is, or for nothing (export-likeness.ts).
// - Only the owner's bytes are copied: those of a disk that was given away, or is not here yet, are refused.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, link, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { ControlClient } from '../control/client.ts'
import { ControlError } from '../control/errors.ts'
import { type DiskView, ExitCode } from '../control/types.ts'
import { NbdClient, NbdConnectionError, NbdRefusedError, NbdRequestError } from '../nbd/client/client.ts'
import { allocationContext, copyOut } from '../nbd/client/copy-out.ts'
import { refused } from './errors.ts'
import { likenessIn } from './export-likeness.ts'
import { checkAbsent, checkName } from './export-target.ts'

/** What a file system says that has no links; ENOSYS: one in user space. */
const linkless: readonly string[] = ['EPERM', 'ENOTSUP', 'ENOSYS']

/** One call writes no more: on ext4 a longer one makes small writes slow to whoever serves the file (docs/storage.md). */
const sliceBytes = 64 * 1024

export interface ExportRequest {
  readonly client: Pick<ControlClient, 'showDisk' | 'openNbd'>
  readonly disk: string
  /** Absolute. */
  readonly file: string
  /** Copy although clients are attached, or write meanwhile. */
  readonly force: boolean
  readonly signal: AbortSignal
  progress(bytes: { readonly done: number; readonly total: number }): void
}

export interface ExportResult {
  readonly disk: string
  readonly id: string
  readonly generation: number
  readonly file: string
  /** `data`: what was written, the rest being holes. */
  readonly bytes: { readonly disk: number; readonly data: number }
  /** No client was attached when it began, and nothing was written until its end. */
  readonly consistent: boolean
  /** What the file would be taken for by its bytes, as its guest wrote them: 'a qcow2 image'. null: for what it is. */
  readonly likeness: string | null
}

/** @throws ControlError */
export async function exportDisk(request: ExportRequest): Promise<ExportResult> {
  const { client, file, force, signal } = request
  checkName(file, request.disk)
  const before = await client.showDisk(request.disk)
  checkState(before)
  if (before.sessions > 0 && !force) throw inUse(before)
  await checkAbsent(file, before).catch((error: unknown) => {
    throw error instanceof ControlError ? error : fileFailed(before.name, file, error)
  })
  const passing = await PassingFile.create(file, before)
  try {
    const { data, likeness } = await copy(request, before, passing)
    const after = await client.showDisk(before.id)
    const isSame = after.writes === before.writes && after.generation === before.generation
    if (!isSame && !force) throw changed(before.name)
    signal.throwIfAborted()
    await passing.finish()
    const { name: disk, id, generation, size } = before
    const consistent = isSame && before.sessions === 0
    return { disk, id, generation, file, bytes: { disk: size, data }, consistent, likeness }
  } finally {
    await passing.remove()
  }
}

async function copy(
  request: ExportRequest,
  disk: DiskView,
  passing: PassingFile,
): Promise<{ data: number; likeness: string | null }> {
  const { client, signal } = request
  try {
    // One connection, which is not mended: a daemon that was away has forgotten what was written meanwhile.
    const socket = await client.openNbd(signal)
    const nbd = await NbdClient.over(socket, disk.name, { metaContexts: [allocationContext], signal })
    try {
      const total = nbd.info().sizeBytes
      const likeness = await likenessIn(nbd, disk.name, request.file)
      await passing.resize(total)
      const data = await copyOut(nbd, {
        signal,
        give: (offset, bytes) => passing.write(offset, bytes),
        progress: (done) => request.progress({ done, total }),
      })
      await nbd.disconnect()
      return { data, likeness }
    } finally {
      nbd.destroy()
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason
    throw explained(error, disk.name)
  }
}

/** What is written beside FILE until it is whole. */
class PassingFile {
  readonly #path: string
  readonly #file: string
  readonly #disk: DiskView
  #handle: FileHandle | undefined

  private constructor(path: string, file: string, disk: DiskView, handle: FileHandle) {
    this.#path = path
    this.#file = file
    this.#disk = disk
    this.#handle = handle
  }

  static async create(file: string, disk: DiskView): Promise<PassingFile> {
    const path = join(dirname(file), `.${basename(file)}.${randomBytes(4).toString('hex')}.part`)
    try {
      return new PassingFile(path, file, disk, await open(path, 'wx', 0o600)) // Its bytes are a machine's: nobody else's.
    } catch (error) {
      throw fileFailed(disk.name, file, error)
    }
  }

  /** Holes only. */
  resize(sizeBytes: number): Promise<void> {
    return this.#act((handle) => handle.truncate(sizeBytes))
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#act(async (handle) => {
      for (let done = 0; done < bytes.length; ) {
        const lengthBytes = Math.min(sliceBytes, bytes.length - done)
        done += (await handle.write(bytes, done, lengthBytes, offset + done)).bytesWritten
      }
    })
  }

  /** Durable, then under its name, then the name durable. */
  finish(): Promise<void> {
    return this.#act(async (handle) => {
      await handle.sync()
      await this.#takeName()
      await this.#syncFolder()
    })
  }

  /** The file is whole: a file system that does not sync folders keeps it; a name that may be gone tomorrow is no file. */
  async #syncFolder(): Promise<void> {
    try {
      const folder = await open(dirname(this.#file), constants.O_RDONLY | constants.O_DIRECTORY)
      await folder.sync().finally(() => folder.close())
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EINVAL') return
      await rm(this.#file, { force: true })
      throw error
    }
  }

  /** Whatever is left under the passing name. */
  async remove(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
    await rm(this.#path, { force: true })
  }

  /** A link fails where a rename would replace what came to be there meanwhile; not every file system has links. */
  async #takeName(): Promise<void> {
    try {
      await link(this.#path, this.#file)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      await checkAbsent(this.#file, this.#disk)
      if (code === undefined || !linkless.includes(code)) throw error
      await rename(this.#path, this.#file)
    }
  }

  async #act(act: (handle: FileHandle) => Promise<void>): Promise<void> {
    try {
      await act(this.#handle!)
    } catch (error) {
      throw error instanceof ControlError ? error : fileFailed(this.#disk.name, this.#file, error)
    }
  }
}

function checkState({ name, state, ownerName }: DiskView): void {
  if (state === 'owned' || state === 'arriving' || state === 'freezing') return
  const message = `${name} is ${state} here: the bytes that this site has of it are not, or not surely, the newest.`
  const where = ownerName === 'unknown' ? 'its owner' : ownerName
  throw refused('not-owned', message, { disk: name, next: `Export it at ${where}.` })
}

function inUse({ name, sessions }: DiskView): ControlError {
  const message = `${name} has ${sessions} client(s) attached: what they write while it is copied makes a copy of no single instant.`
  const next = 'Stop the machine, or take such a copy with --force.'
  return refused('disk-in-use', message, { disk: name, next })
}

function changed(disk: string): ControlError {
  const message = `${disk} was written to while it was copied, so the copy would be of no single instant.`
  return failed('disk-changed', message, disk, 'Stop the machine and try again, or take such a copy with --force.')
}

function fileFailed(disk: string, file: string, cause: unknown): ControlError {
  return failed('file-failed', `${file} cannot be written: ${(cause as Error).message}.`, disk, undefined, cause)
}

function explained(error: unknown, disk: string): unknown {
  const isOfNbd = [NbdConnectionError, NbdRefusedError, NbdRequestError].some((type) => error instanceof type)
  if (!isOfNbd) return error
  const next = `See what vmstore disk show ${disk} says of it.`
  return failed('export-failed', `${disk} cannot be read: ${(error as Error).message}.`, disk, next, error)
}

function failed(code: string, message: string, disk: string, next?: string, cause?: unknown): ControlError {
  const safe = 'The disk was not changed, and no file was made.'
  const view = { code, message, exit: ExitCode.other, disk, safe, ...(next !== undefined && { next }) }
  return new ControlError(view, { cause })
}
