// Images of other formats, read through QEMU's own tools: qemu-img says whether an image stands alone, qemu-nbd exports it
// read-only on a socket in a private folder, and the copy is that of any NBD server.
//
// Always: QEMU is told the format and told to open no backing file; an image that names another file is not opened for
// reading at all. qemu-nbd ends when the copy does; when the daemon dies it ends too, as its last client is gone then.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { z } from 'zod'
import { Refusal } from '../disk/refusal.ts'
import { formatNbdUri } from '../nbd/uri.ts'
import { type ForeignFormat, otherFileNamed } from './image-format.ts'
import type { ImageSource } from './image-source.ts'
import { openNbdImage } from './nbd-image.ts'

/** Connections to qemu-nbd, which takes no more than it was told. */
const connections = 4
const infoTimeoutMs = 30_000
/** From the start of qemu-nbd to its first answer. */
const startTimeoutMs = 10_000
const startPauseMs = 20
/** It is on this host and does not come back: a broken connection is an end. */
const reconnectForMs = 500
/** Kept of what it says of its troubles. */
const stderrMaxLength = 4096
/** What sun_path takes on Linux, less the final zero. */
const socketPathMaxBytes = 107

export interface QemuPlace {
  /** Holds a private folder while the image is open. What a start finds there of a name like it belongs to nobody. */
  readonly folder: string
  readonly passingPrefix: string
}

/** @throws Refusal */
export async function openQemuImage(
  path: string,
  format: ForeignFormat,
  place: QemuPlace,
  signal: AbortSignal,
): Promise<ImageSource> {
  const named = await otherFileNamed(path, format)
  if (named !== undefined) throw notAlone(path, format, named)
  const programs = findPrograms(path, format)
  const image = JSON.stringify({
    driver: format.driver,
    file: { driver: 'file', filename: path },
    backing: null,
  })
  checkInfo(path, format, await infoOf(programs.qemuImg, `json:${image}`, path, format, signal))
  const folder = await mkdtemp(join(place.folder, place.passingPrefix))
  const socket = join(folder, 's')
  const server = new QemuNbd(programs.qemuNbd, `json:${image}`, socket)
  const end = async () => {
    await server.end()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    if (Buffer.byteLength(socket) > socketPathMaxBytes) throw pathTooLong(place.folder)
    server.start()
    const source = await openStarted(server, socket, path, signal)
    return {
      ...source,
      async [Symbol.asyncDispose]() {
        await source[Symbol.asyncDispose]()
        await end()
      },
    }
  } catch (error) {
    await end()
    throw error
  }
}

/** Until it listens a connection is refused, which costs nothing; it ends by itself if it cannot open the image. */
async function openStarted(server: QemuNbd, socket: string, path: string, signal: AbortSignal): Promise<ImageSource> {
  const uri = formatNbdUri({ tls: false, address: { transport: 'unix', path: socket }, exportName: '' })
  const giveUp = AbortSignal.any([signal, AbortSignal.timeout(startTimeoutMs)])
  for (;;) {
    try {
      return await openNbdImage(uri, giveUp, { what: path, connections, reconnectForMs })
    } catch (error) {
      signal.throwIfAborted()
      if (server.hasEnded || giveUp.aborted) throw unreadable(path, server.stderr || 'qemu-nbd did not start', error)
      if ((error as Refusal).code !== 'source-unreachable') throw error
    }
    await new Promise((resolve) => setTimeout(resolve, startPauseMs))
  }
}

class QemuNbd {
  readonly #program: string
  readonly #args: readonly string[]
  #child: ChildProcess | undefined
  #ended: Promise<void> = Promise.resolve()
  #hasEnded = false
  #stderr = ''

  constructor(program: string, image: string, socket: string) {
    this.#program = program
    // Not persistent: it ends with its last client.
    this.#args = ['--read-only', '--shared', String(connections), '--socket', socket, image]
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  get stderr(): string {
    return this.#stderr.trim()
  }

  start(): void {
    const child = spawn(this.#program, this.#args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk).slice(0, stderrMaxLength)
    })
    this.#ended = new Promise((resolve) => {
      const over = () => {
        this.#hasEnded = true
        resolve()
      }
      child.once('close', over)
      child.once('error', (error) => {
        this.#stderr ||= error.message
        over()
      })
    })
  }

  /** It only reads: nothing is lost by killing it. */
  async end(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#ended
  }
}

function findPrograms(path: string, format: ForeignFormat): { readonly qemuImg: string; readonly qemuNbd: string } {
  const qemuImg = findProgram('qemu-img')
  const qemuNbd = findProgram('qemu-nbd')
  if (qemuImg !== undefined && qemuNbd !== undefined) return { qemuImg, qemuNbd }
  const message = `${path} is a ${format.name} image, which vmstore reads through qemu-img and qemu-nbd: they are not installed here`
  throw new Refusal('no-qemu', message, {
    safe: 'Nothing was changed.',
    next: `Install them (Debian: apt-get install qemu-utils), or convert the image elsewhere: qemu-img convert -O raw ${path} disk.raw.`,
  })
}

function findProgram(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter(Boolean)
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

/** What of `qemu-img info` says whether an image stands alone. */
const infoShape = z.object({
  'backing-filename': z.string().optional(),
  'format-specific': z
    .object({
      data: z.object({
        'data-file': z.string().optional(),
        extents: z.array(z.object({ filename: z.string() })).optional(),
      }),
    })
    .optional(),
})

function infoOf(
  program: string,
  image: string,
  path: string,
  format: ForeignFormat,
  signal: AbortSignal,
): Promise<z.infer<typeof infoShape>> {
  const { promise, resolve, reject } = Promise.withResolvers<z.infer<typeof infoShape>>()
  execFile(program, ['info', '--output=json', image], { timeout: infoTimeoutMs, signal }, (error, stdout, stderr) => {
    if (signal.aborted) reject(signal.reason)
    else if (error) reject(unreadable(path, stderr.trim() || error.message, error))
    else {
      try {
        resolve(infoShape.parse(JSON.parse(stdout)))
      } catch (cause) {
        reject(unreadable(path, `qemu-img describes this ${format.name} image in a way that is not known`, cause))
      }
    }
  })
  return promise
}

/** The header has been looked at before; formats that it was not looked at for are seen through here. */
function checkInfo(path: string, format: ForeignFormat, info: z.infer<typeof infoShape>): void {
  if (info['backing-filename'] !== undefined) throw notAlone(path, format, 'it has a backing file')
  const { data } = info['format-specific'] ?? {}
  const named = [data?.['data-file'], ...(data?.extents ?? []).map(({ filename }) => filename)]
  if (named.some((file) => file !== undefined && file !== path))
    throw notAlone(path, format, 'its data lie in another file')
}

function notAlone(path: string, format: ForeignFormat, why: string): Refusal {
  const message = `${path} is a ${format.name} image that does not stand alone: ${why}`
  return new Refusal('image-not-alone', message, {
    safe: 'Nothing was changed, and no other file was read.',
    next: `If you trust the image, make it one file: qemu-img convert -O raw ${path} disk.raw.`,
  })
}

function unreadable(path: string, why: string, cause: unknown): Refusal {
  const [first = ''] = why.replace(/^qemu-(img|nbd): /, '').split('\n')
  const inUse = /lock/i.test(first)
  return new Refusal(inUse ? 'in-use' : 'image-unreadable', `QEMU cannot read ${path}: ${first}`, {
    safe: 'Nothing was changed.',
    next: inUse ? 'Stop the program that has it open, then try again.' : `See what qemu-img check says of ${path}.`,
    cause,
  })
}

function pathTooLong(folder: string): Refusal {
  return new Refusal(
    'path-too-long',
    `a socket below ${folder} would have a path of over ${socketPathMaxBytes} bytes`,
    {
      safe: 'Nothing was changed.',
      next: 'Convert the image with qemu-img convert -O raw, or use a data folder with a shorter path.',
    },
  )
}
