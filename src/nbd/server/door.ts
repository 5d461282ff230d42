// One way in to the NBD server: a listener, or the connections that the control socket hands over. It has places of its own,
// so that whoever fills it keeps nobody from coming in by another.

import { type Count, Newcomers } from '../../entrance/newcomers.ts'
import { sourceOfAddress } from '../../entrance/source.ts'
import type { NbdLimits } from './limits.ts'
import type { TlsMode } from './tls-mode.ts'

/** Who has connected. */
export interface Client {
  /** For messages: "127.0.0.1:40000", "unix". */
  readonly name: string
  /** Of a network. */
  readonly address: string | undefined
  /** The process at the other end of a Unix socket, where the system tells. */
  readonly pid: number | undefined
}

export class Door {
  /** Where clients find it, or `control`. */
  name: string
  readonly tlsMode: TlsMode
  readonly newcomers: Newcomers
  readonly sessionsMost: number
  /** Sessions with an export. */
  sessions = 0
  refused: Count | null = null

  constructor(name: string, tlsMode: TlsMode, limits: NbdLimits) {
    this.name = name
    this.tlsMode = tlsMode
    this.newcomers = new Newcomers(limits)
    this.sessionsMost = limits.connections
  }

  get isFull(): boolean {
    return this.sessions >= this.sessionsMost
  }

  refuse(): void {
    this.refused = { count: (this.refused?.count ?? 0) + 1, last: new Date().toISOString() }
  }
}

/** Who counts as one with a client while it is not known. */
export function sourceOfClient({ address, pid }: Client): string | undefined {
  return sourceOfAddress(address) ?? (pid === undefined ? undefined : `process ${pid}`)
}
