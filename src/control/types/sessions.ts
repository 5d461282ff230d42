// The clients of NBD that are attached, and what is answered when one is dropped.

/** One connection of a client that uses a disk. */
export interface SessionView {
  /** Of this run of the daemon. */
  readonly id: string
  readonly disk: string
  readonly diskId: string
  /** "192.0.2.7:41234", or "unix". */
  readonly client: string
  /** The client's process, over a Unix socket; null where the system does not tell. */
  readonly pid: number | null
  /** The NBD URI at which it came in, or `control` for one that came over the control socket. */
  readonly listener: string
  /** The version of TLS, or null in the clear. */
  readonly tls: string | null
  readonly since: string
  /** `ending`: nothing more of it is begun. */
  readonly state: 'open' | 'ending'
  /** What it has asked for. Trims and zeroes count as writes. */
  readonly reads: AmountView
  readonly writes: AmountView
  readonly flushes: number
  /** Requests that are begun and not answered. */
  readonly inFlight: number
  /** Bytes of replies that wait for the client to read. */
  readonly unread: number
  /** It has written what no flush covers yet, its own or another session's. */
  readonly unflushed: boolean
}

export interface AmountView {
  readonly count: number
  readonly bytes: number
}

/** How it stood when it was dropped, and what that means. */
export interface DroppedSessionView extends SessionView {
  readonly safe: string
  readonly next: string
}
