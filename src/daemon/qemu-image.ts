// Images of other formats, read through QEMU's own tools: qemu-img says whether an image stands alone and is sound, qemu-nbd
// exports it read-only on a socket in a private folder, and the copy is that of any NBD server.
//
// Always: QEMU is told the format and told to open no backing file; the image has been looked through before, so that one
// that names another file, or is cut short, does not come here. What QEMU reads has the size that the image's header says.

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { Refusal } from '../disk/refusal.ts'
import { formatNames, titled } from '../image/image-formats.ts'
import { formatNbdUri } from '../nbd/wire/uri.ts'
import type { InspectedImage } from './image-inspection.ts'
import type { CopyTarget, ImageSource } from './image-source.ts'
import { openNbdImage } from './nbd-image.ts'
import { ask, connections, findProgram, isLockSentence, QemuNbd, sentenceOf } from './qemu-programs.ts'

const infoTimeoutMs = 30_000
/** From the start of qemu-nbd to its first answer. */
const startTimeoutMs = 10_000
const startPauseMs = 20
/** It is on this host and does not come back: a broken connection is an end. */
const reconnectForMs = 500
/** From the break of its connections to the end of the program. */
const endTimeoutMs = 5_000
/** What sun_path takes on Linux, less the final zero. */
const socketPathMaxBytes = 107
/** Exit codes of `qemu-img check`: sound, clusters that nobody uses, and a format that has no check. */
const soundExits = [0, 3, 63]

export interface QemuPlace {
  /** Holds a private folder while the image is open. What a start finds there of a name like it belongs to nobody. */
  readonly folder: string
  readonly passingPrefix: string
}

/** @throws Refusal */
export async function openQemuImage(
  image: InspectedImage,
  place: QemuPlace,
  signal: AbortSignal,
): Promise<Pick<ImageSource, 'copyTo' | typeof Symbol.asyncDispose>> {
  const programs = findPrograms(image)
  const words = `json:${JSON.stringify(blockOptions(image))}`
  await checkInfo(
    image,
    await ask(programs.qemuImg, ['info', '--output=json', words], { signal, timeoutMs: infoTimeoutMs }),
  )
  if (!image.isPlain) checkSound(image, await ask(programs.qemuImg, ['check', '--output=json', words], { signal }))
  const folder = await mkdtemp(join(place.folder, place.passingPrefix))
  const socket = join(folder, 's')
  const server = new QemuNbd(programs.qemuNbd, words, socket)
  const end = async () => {
    await server.end()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    if (Buffer.byteLength(socket) > socketPathMaxBytes) throw pathTooLong(place.folder)
    server.start()
    const source = await openStarted(server, socket, image.path, signal)
    if (source.sizeBytes !== image.sizeBytes) throw otherSize(image, source.sizeBytes)
    return {
      copyTo: (target) => copyFrom(server, image.path, source, target),
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

function blockOptions({ path, format, isPlain, isDevice, sizeBytes }: InspectedImage): object {
  const file = { driver: isDevice ? 'host_device' : 'file', filename: path }
  // What its guest wrote at the beginning is not to be taken for a header.
  if (isPlain) return { driver: 'raw', size: sizeBytes, file }
  const { driver } = formatNames[format as keyof typeof formatNames]
  // QEMU takes the size of a VHD from its footer only if it knows who made it, else from cylinders, heads and sectors.
  return { driver, file, ...(format === 'vhd' ? { force_size_calc: 'current_size' } : { backing: null }) }
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
      if (server.how !== undefined || giveUp.aborted)
        throw unreadable(path, server.said || server.how || 'qemu-nbd did not start', error)
      if ((error as Refusal).code !== 'source-unreachable') throw error
    }
    await new Promise((resolve) => setTimeout(resolve, startPauseMs))
  }
}

/** The server is ours, and on this host: what fails is told as QEMU's, not as that of a server somewhere. */
async function copyFrom(server: QemuNbd, path: string, source: ImageSource, target: CopyTarget): Promise<void> {
  try {
    await source.copyTo(target)
  } catch (error) {
    const { code } = error as Refusal
    if (target.signal.aborted || !['source-lost', 'source-failed', 'source-changed'].includes(code)) throw error
    if (code === 'source-lost') await server.untilEnded(endTimeoutMs)
    // Who is killed says nothing; who cannot read says so, and hangs up.
    const isDead = server.how !== undefined && server.said === ''
    const why = isDead
      ? `qemu-nbd, which reads ${path} for vmstore, ended in the middle: ${server.how}`
      : `QEMU cannot read all of ${path}: ${server.said || causeOf(error)}`
    throw new Refusal('image-unreadable', why, {
      exit: 1,
      safe: 'No disk was made, and nothing of it was left.',
      next: isDead
        ? 'See what ended it (the log of the system: memory, an operator), and try again.'
        : `See what qemu-img check says of ${path}, and whether its storage can be read: dmesg.`,
      cause: error,
    })
  }
}

const causeOf = (error: unknown): string => ((error as Error).cause as Error | undefined)?.message ?? String(error)

function findPrograms({ path, format }: InspectedImage): { readonly qemuImg: string; readonly qemuNbd: string } {
  const qemuImg = findProgram('qemu-img')
  const qemuNbd = findProgram('qemu-nbd')
  if (qemuImg !== undefined && qemuNbd !== undefined) return { qemuImg, qemuNbd }
  const message = `${path} is ${titled(format)}, which vmstore reads through qemu-img and qemu-nbd: they are not installed here`
  throw new Refusal('no-qemu', message, {
    safe: 'Nothing was changed.',
    next: 'Install them where the daemon runs (Debian: apt-get install qemu-utils).',
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

/** The header has been looked at before; what it was not looked at for is seen through here. */
async function checkInfo(
  image: InspectedImage,
  { exit, stdout, stderr }: Awaited<ReturnType<typeof ask>>,
): Promise<void> {
  if (exit !== 0) throw unreadable(image.path, sentenceOf(stderr))
  const info = parsed(infoShape, stdout)
  if (!info) {
    throw unreadable(image.path, `qemu-img describes this ${titled(image.format).slice(2)} in a way that is not known`)
  }
  if (info['backing-filename'] !== undefined) throw notAlone(image, 'it has a backing file')
  const { data } = info['format-specific'] ?? {}
  const named = [data?.['data-file'], ...(data?.extents ?? []).map(({ filename }) => filename)]
  if (named.some((file) => file !== undefined && file !== image.path))
    throw notAlone(image, 'its data lie in another file')
}

const checkShape = z.object({ corruptions: z.number().optional(), 'check-errors': z.number().optional() })

function checkSound({ path, format }: InspectedImage, answer: Awaited<ReturnType<typeof ask>>): void {
  const { exit, stdout, stderr } = answer
  if (exit !== null && soundExits.includes(exit)) return
  const first = sentenceOf(stderr)
  if (isLockSentence(first)) throw unreadable(path, first)
  const faults = parsed(checkShape, stdout)?.corruptions
  const found = faults === undefined ? '' : `${faults} ${faults === 1 ? 'fault' : 'faults'}`
  const what = [found, first.replace(/^ERROR:? /, '')].filter(Boolean).join(': ') || 'that it cannot be checked'
  throw new Refusal('image-damaged', `${path} is ${titled(format)}, and qemu-img check finds in it ${what}`, {
    safe: 'Nothing was changed.',
    next: `Copy or download it again. If there is no other, mend a copy of it, which may lose bytes: qemu-img check -r all COPY.`,
  })
}

function parsed<Shape extends z.ZodType>(shape: Shape, text: string): z.infer<Shape> | undefined {
  try {
    return shape.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

function notAlone({ path, format }: InspectedImage, why: string): Refusal {
  const message = `${path} is ${titled(format)}, and does not stand alone: ${why}`
  return new Refusal('image-not-alone', message, {
    safe: 'Nothing was changed, and no other file was read.',
    next: `If you trust the image, make it one file: qemu-img convert -O raw ${path} disk.raw.`,
  })
}

function otherSize({ path, format, sizeBytes }: InspectedImage, foundBytes: number): Refusal {
  const message = `${path} is ${titled(format)} of ${sizeBytes} bytes, of which QEMU reads ${foundBytes}`
  return new Refusal('image-unreadable', message, {
    safe: 'Nothing was changed.',
    next: `See what qemu-img info says of ${path}, and convert it with the program that made it.`,
  })
}

function unreadable(path: string, why: string, cause?: unknown): Refusal {
  const inUse = isLockSentence(why)
  return new Refusal(inUse ? 'in-use' : 'image-unreadable', `QEMU cannot read ${path}: ${why}`, {
    safe: 'Nothing was changed.',
    next: inUse ? 'Stop the program that has it open, then try again.' : `See what qemu-img check says of ${path}.`,
    ...(cause !== undefined && { cause }),
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
