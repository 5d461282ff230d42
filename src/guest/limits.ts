// The bounds against clients that nobody vouches for, whatever protocol they speak: every buffer, queue, loop and wait that
// guest-facing servers share has its maximum here. What a protocol bounds of its own is added by its server.

export interface GuestLimits {
  /** With an export, at one listener. */
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
  /** How long a client's host may take to acknowledge what was sent, or to make room for it. 0: as long as the system lets it. */
  readonly deadClientMs: number
}

export const defaultGuestLimits: GuestLimits = {
  connections: 256,
  inFlightRequests: 256,
  inFlightBytes: 64 * 1024 * 1024,
  payloadBytes: 1024 * 1024,
  outputBytes: 128 * 1024,
  serverBytes: 512 * 1024 * 1024,
  memoryWaitMs: 1000,
  batchRequests: 128,
  turnSteps: 512,
  pollMs: 0.1,
  lingerMs: 10_000,
  deadClientMs: 120_000,
}
