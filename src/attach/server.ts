// Where the connections of a device come from: the local daemon, by a disk's name, over its control socket, so that it does
// not matter where and how guests may connect; or any NBD server, by its URI. Always: a disk of the daemon is known by its
// id and the generation in which this site has it, so that neither another disk of that name is taken for it, nor the same
// disk after it was elsewhere: what a kernel still had to write would land over what was written there.

import type { ControlClient } from '../control/client.ts'
import type { DiskView } from '../control/types.ts'
import { type BareConnection, openBare, openBareOver } from '../nbd/client/bare-connection.ts'
import { NbdConnectionError, NbdRefusedError } from '../nbd/client/errors.ts'
import { formatNbdUri, type NbdUri, parseNbdUri } from '../nbd/wire/uri.ts'
import { cannotBeAttached, noConnection, notUnderstood } from './refusals.ts'

export interface Dialled extends BareConnection {
  /** Which disk, and what of it, if the server can say. */
  readonly identity?: string
}

export interface DiskServer {
  /** What the operator calls the disk. */
  readonly disk: string
  /** The same for every start of the same command. */
  readonly target: string
  /** A negotiated connection, whose descriptor is the caller's to close. */
  dial(signal: AbortSignal): Promise<Dialled>
}

/** The states in which a site serves nobody any more, but would negotiate still, for a hypervisor that has to end. */
const endedStates: readonly string[] = ['departed', 'released', 'superseded']

export class DaemonDisk implements DiskServer {
  readonly disk: string
  readonly target: string
  readonly #client: Pick<ControlClient, 'showDisk' | 'openNbd' | 'path'>

  constructor(client: Pick<ControlClient, 'showDisk' | 'openNbd' | 'path'>, disk: string) {
    this.disk = disk
    this.target = `${disk} of the daemon at ${client.path}`
    this.#client = client
  }

  async dial(signal: AbortSignal): Promise<Dialled> {
    const view = await unlessAborted(this.#client.showDisk(this.disk), signal)
    const { name, state, ownerName } = view
    if (endedStates.includes(state)) {
      throw cannotBeAttached(
        'not-owned',
        `${name} is ${state} here: this site serves it no more.`,
        ownerName === 'unknown' ? 'attach it at its owner' : `attach it at ${ownerName}`,
        name,
      )
    }
    const socket = await this.#client.openNbd(signal)
    return { ...(await opened(name, openBareOver(socket, name, { signal }))), identity: identityOf(view) }
  }
}

/** What keeps it from being opened, as a sentence. */
async function opened(disk: string, opening: Promise<BareConnection>): Promise<BareConnection> {
  try {
    return await opening
  } catch (error) {
    throw error instanceof NbdRefusedError || error instanceof NbdConnectionError ? noConnection(disk, error) : error
  }
}

/** An incoming disk is this site's in the generation that comes with switchover. */
function identityOf({ id, generation, state }: DiskView): string {
  return `disk ${id} in generation ${state === 'incoming' ? generation + 1 : generation}`
}

export class UriDisk implements DiskServer {
  readonly disk: string
  readonly target: string
  readonly #uri: NbdUri

  /** @throws ControlError */
  constructor(text: string) {
    this.#uri = parsed(text)
    this.disk = text
    this.target = formatNbdUri(this.#uri)
  }

  dial(signal: AbortSignal): Promise<Dialled> {
    return opened(this.disk, openBare(this.#uri, { signal }))
  }
}

function parsed(text: string): NbdUri {
  let uri: NbdUri
  try {
    uri = parseNbdUri(text)
  } catch (error) {
    throw notUnderstood((error as Error).message, 'NBD URIs are like nbd://192.0.2.1:10809/web01', error)
  }
  if (!uri.tls) return uri
  throw cannotBeAttached(
    'no-tls',
    `${text} wants TLS, which the kernel's NBD client is not given here.`,
    'run vmstore attach at the daemon of this host, by the name of the disk, or go through a tunnel',
  )
}

/** The answer itself has no limit. Throws the signal's reason. */
async function unlessAborted<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await Promise.race([answer, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
