// The bounds against clients that nobody vouches for. Every buffer, queue, loop and wait of the server has its maximum here.

export interface NbdLimits {
  /** From accept to the end of negotiation. */
  readonly negotiationTimeoutMs: number
  /** Options in one negotiation, on top of one for each export. */
  readonly options: number
  readonly optionBytes: number
  readonly connections: number
  /** Requests of one connection that a handle has and has not answered. */
  readonly inFlightRequests: number
  /** The memory for their answers. A single request may exceed it, alone. */
  readonly inFlightBytes: number
  /** The memory for payloads that a handle has and has not answered. The rest waits with the client. */
  readonly payloadBytes: number
  /** Reply bytes that wait for one client to read them; above it no further request of that client is begun. */
  readonly outputBytes: number
  /** Requests not begun, payloads and replies of requests in flight, and unread replies, of all connections together. */
  readonly serverBytes: number
  /** How long a connection waits for memory before the one that holds the most for its client, and not little, is dropped. */
  readonly memoryWaitMs: number
  /** Extents in one chunk of a BLOCK_STATUS reply. */
  readonly extents: number
  /** Requests of one connection that are begun in one turn of the event loop. */
  readonly batchRequests: number
  /**
   * What all connections together do in one turn, in requests; dearer work counts as several (turn-share.ts). A connection's
   * first few cheap requests in a turn are begun in any case.
   */
  readonly turnSteps: number
  /** How long the loop looks for the next request before it sleeps, while requests come that fast. */
  readonly pollMs: number
  /** How long a client has to read its last replies. */
  readonly lingerMs: number
}

export const defaultLimits: NbdLimits = {
  negotiationTimeoutMs: 10_000,
  options: 32,
  optionBytes: 64 * 1024,
  connections: 256,
  inFlightRequests: 256,
  inFlightBytes: 64 * 1024 * 1024,
  payloadBytes: 1024 * 1024,
  outputBytes: 128 * 1024,
  serverBytes: 512 * 1024 * 1024,
  memoryWaitMs: 1000,
  extents: 512,
  batchRequests: 128,
  turnSteps: 512,
  pollMs: 0.1,
  lingerMs: 10_000,
}

/** Where the server's messages go: facts first, then the sentence. */
export interface NbdLog {
  debug(facts: object, message: string): void
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}
