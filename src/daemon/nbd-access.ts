// Who may reach guests' disks over NBD: which addresses `serve` agrees to listen on, and TLS with the operator's files.
// Always: what cannot be used is refused before anything is touched; once serving, it is only logged.

import type { Logger } from 'pino'
import { Refusal } from '../disk/refusal.ts'
import type { ListenAddress } from '../guest/listener.ts'
import { tlsModeOf } from '../nbd/server/tls-mode.ts'
import { TlsServer, type TlsServerOptions } from '../nbd/server/tls-server.ts'
import { NbdTlsError } from '../nbd/wire/tls-credentials.ts'
import { formatNbdUri, type NbdUri, parseNbdUri } from '../nbd/wire/uri.ts'

export interface AccessOptions {
  /** NBD URIs to listen on. */
  readonly nbd: readonly string[]
  /** Listening sockets that were passed. */
  readonly sockets: readonly { readonly address: ListenAddress }[]
  readonly tls: TlsServerOptions | undefined
  readonly insecure: boolean
}

/** Throws Refusal for an address that would lay disks open. */
export function checkAddresses({ nbd, sockets, tls, insecure }: AccessOptions): void {
  const passed = sockets.map(({ address }) => ({ tls: false, address, exportName: '' }))
  for (const uri of [...nbd.map(nbdUri), ...passed]) {
    const text = formatNbdUri(uri)
    if (uri.tls && tls === undefined) {
      throw new Refusal('no-tls', `${text} wants TLS, and there are no certificates`, {
        next: 'Name their folder with --tls-certificates DIR.',
      })
    }
    const { address } = uri
    const isOpen = tlsModeOf(uri, tls !== undefined, insecure) !== 'require' && !insecure
    if (address.transport === 'unix' || !isOpen || isLoopback(address.host)) continue
    throw new Refusal('insecure', `${text} would serve disks in the clear to whoever reaches ${address.host}`, {
      next: 'Name certificates with --tls-certificates DIR, listen on loopback or a Unix socket, or say --insecure.',
    })
  }
}

/** Reads the files for the first time. Throws Refusal. */
export async function openTls(options: TlsServerOptions, log: Logger): Promise<TlsServer> {
  try {
    const tls = await TlsServer.open(options)
    for (const warning of tls.warnings) log.warn(warning)
    return tls
  } catch (error) {
    if (!(error instanceof NbdTlsError)) throw error
    throw new Refusal('bad-certificates', error.message, {
      safe: 'Nothing was started, no disk was touched.',
      next: 'Put that right, or serve without --tls-certificates.',
      cause: error,
    })
  }
}

/** Reads the files again, for new connections. What is wrong is said in the log, and then nothing changes. */
export async function reloadTls(tls: TlsServer | undefined, log: Logger): Promise<void> {
  if (tls === undefined) {
    log.info('SIGHUP: there are no certificates to read again')
    return
  }
  try {
    await tls.reload()
    for (const warning of tls.warnings) log.warn(warning)
    log.info('SIGHUP: the certificates were read again; new connections see the new ones')
  } catch (error) {
    log.error({ err: error }, `SIGHUP: the certificates of before stay in use: ${(error as Error).message}`)
  }
}

function nbdUri(text: string): NbdUri {
  try {
    return parseNbdUri(text)
  } catch (error) {
    throw new Refusal('bad-uri', (error as Error).message, {
      exit: 2,
      next: 'NBD URIs are like nbd://127.0.0.1:10809 and nbd+unix:///?socket=/run/nbd.sock.',
      cause: error,
    })
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}
