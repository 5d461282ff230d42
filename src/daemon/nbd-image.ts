// A disk's first bytes from an NBD server: any that speaks newstyle. Several connections where the server allows them; a
// break of up to a minute is waited for; a server that comes back with another export is not believed.
// Always: memory is bounded by the copy's reads in flight; the file system keeps its spare room for the other disks.

import { Refusal } from '../disk/refusal.ts'
import { headBytes, recognise, tailBytes } from '../image/recognition.ts'
import { allocationContext, copyOut } from '../nbd/client/copy-out.ts'
import {
  NbdChangedError,
  NbdConnectionError,
  NbdRefusedError,
  NbdRequestError,
  NbdTooLargeError,
} from '../nbd/client/errors.ts'
import { SteadyNbdClient, type SteadyOptions } from '../nbd/client/steady-client.ts'
import { NbdUriError, parseNbdUri } from '../nbd/wire/uri.ts'
import type { CopyTarget, ImageSource } from './image-source.ts'

const sectorBytes = 512
/** Written between two looks at the room that is left. */
export const roomCheckBytes = 64 * 2 ** 20

/** Opens the export. `what` names it in messages, if the URI means nothing to the operator. @throws Refusal */
export async function openNbdImage(
  uri: string,
  signal: AbortSignal,
  options: SteadyOptions & { readonly what?: string } = {},
): Promise<ImageSource> {
  const what = options.what ?? uri
  checkUri(uri)
  const client = await connect(uri, what, { ...options, metaContexts: [allocationContext], signal })
  const { sizeBytes } = client.info()
  if (sizeBytes === 0 || sizeBytes % sectorBytes !== 0) {
    client.destroy()
    const size =
      sizeBytes === 0 ? 'it is empty' : `its size, ${sizeBytes} bytes, is not a whole number of sectors of 512`
    throw new Refusal('not-raw', `${what} makes no disk: ${size}`, { safe: 'Nothing was changed.' })
  }
  return {
    sizeBytes,
    format: 'raw',
    notes: options.what === undefined ? await notesOn(client, signal) : [],
    dataBytes: 0, // Only a walk over its extents would tell; the room is watched instead.
    copyTo: (target) => copyExport(client, what, target),
    // DISC, and no wait for a server that does not hang up.
    [Symbol.asyncDispose]: async () => void client.disconnect().catch(() => {}),
  }
}

/** An export has the bytes of a disk. If they look like the file of an image, whoever serves it may have meant another thing. */
async function notesOn(client: SteadyNbdClient, signal: AbortSignal): Promise<readonly string[]> {
  const { sizeBytes } = client.info()
  const tailAt = Math.max(0, sizeBytes - tailBytes)
  try {
    const [head, tail] = [
      await client.read(0, Math.min(headBytes, sizeBytes), { signal }),
      await client.read(tailAt, sizeBytes - tailAt, { signal }),
    ]
    const found = recognise({ head, tail, sizeBytes })
    if (found.kind === 'raw') return []
    return [`What the server exports looks like ${found.title}; its bytes were taken as they are.`]
  } catch {
    return [] // The copy reads them again, and says why it cannot.
  }
}

function checkUri(uri: string): void {
  try {
    const { address, tlsOptions } = parseNbdUri(uri)
    const socket = address.transport === 'unix' ? address.path : undefined
    const paths = [socket, tlsOptions?.certificates, tlsOptions?.pskFile]
    if (paths.every((path) => path === undefined || path.startsWith('/'))) return
    throw new NbdUriError(uri, 'a path in it must be absolute, for the daemon has a folder of its own')
  } catch (error) {
    if (!(error instanceof NbdUriError)) throw error
    const next = 'NBD URIs are like nbd://host:10809/name and nbd+unix:///name?socket=/run/nbd.sock.'
    throw new Refusal('bad-uri', error.message, { exit: 2, safe: 'Nothing was changed.', next, cause: error })
  }
}

async function connect(uri: string, what: string, options: SteadyOptions): Promise<SteadyNbdClient> {
  try {
    return await SteadyNbdClient.connect(uri, options)
  } catch (error) {
    if (error instanceof NbdTooLargeError) throw tooLarge(what, error)
    if (!(error instanceof NbdConnectionError || error instanceof NbdRefusedError)) throw error
    const next =
      'See that the server runs, that this host reaches it, and that it offers this export: nbdinfo --list URI.'
    throw new Refusal('source-unreachable', `${what} cannot be opened: ${error.message}`, {
      safe: 'Nothing was changed.',
      next,
      cause: error,
    })
  }
}

function tooLarge(what: string, cause: NbdTooLargeError): Refusal {
  const message = `${what} has ${cause.sizeBytes} bytes, which is more than a disk can have here (${Number.MAX_SAFE_INTEGER})`
  return new Refusal('too-large', message, {
    safe: 'Nothing was changed.',
    next: 'Have the server export the part of it that is wanted, such as with the filters offset and truncate of nbdkit.',
    cause,
  })
}

async function copyExport(client: SteadyNbdClient, what: string, target: CopyTarget): Promise<void> {
  const { files, path, progress, signal } = target
  const file = await files.openBlockFile(path, false)
  let untilCheckBytes = 0
  const give = async (offset: number, bytes: Uint8Array) => {
    untilCheckBytes -= bytes.length
    if (untilCheckBytes < 0) {
      untilCheckBytes = roomCheckBytes
      if ((await target.spareBytes()) < roomCheckBytes) throw noSpace(what)
    }
    await file.write(offset, bytes)
  }
  try {
    await copyOut(client, { signal, give, progress })
    await file.sync()
  } catch (error) {
    throw signal.aborted ? error : explained(error, what)
  } finally {
    await file.close()
  }
}

/** What ended the copy, as the operator is told it; our own bugs go through as they are. */
function explained(error: unknown, what: string): unknown {
  const { message } = error as Error
  const fail = (code: string, sentence: string, next: string) =>
    new Refusal(code, sentence, { exit: 1, safe: nothingLeft, next, cause: error })
  if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return noSpace(what, error)
  if (error instanceof NbdChangedError) {
    return fail(
      'source-changed',
      `${what} changed during the copy: ${message}`,
      'Let it be at rest, and copy it again.',
    )
  }
  if (error instanceof NbdConnectionError) {
    return fail(
      'source-lost',
      `the connection to ${what} was lost: ${message}`,
      'Copy it again when the server is there.',
    )
  }
  if (error instanceof NbdRequestError) {
    return fail(
      'source-failed',
      `${what} could not be read: ${message}`,
      'Ask the server what is wrong with its bytes.',
    )
  }
  return error
}

const nothingLeft = 'No disk was made, and nothing of it was left.'

export function noSpace(what: string, cause?: unknown): Refusal {
  const next = 'Make room, or use a data folder elsewhere.'
  return new Refusal('no-space', `the data folder has no room for ${what}`, { exit: 1, safe: nothingLeft, next, cause })
}
