// The kernel's NBD client as it is spoken to: each method asks one thing and returns when it is done. Errors are
// ErrnoExceptions, as of system calls, with the request's name. Always: the events are listened to before anything is asked.

import { errnoError } from '../system/linux.ts'
import { NetlinkSocket } from '../system/netlink.ts'
import { decodeError, decodeMessages, errorType, type Message, NetlinkFormatError } from './generic-netlink.ts'
import {
  type ConnectRequest,
  decodeFamily,
  decodeLinkDead,
  encodeConnect,
  encodeDisconnect,
  encodeFindFamily,
  encodeReconfigure,
  type NbdFamily,
  type ReconfigureRequest,
} from './nbd-netlink.ts'

/** Datagrams that one look takes at most: a flood of them must not keep the process from its work. */
const eventsMax = 1000

/** What this needs of a netlink socket. */
export interface NetlinkPort {
  join(group: number): void
  send(bytes: Uint8Array): void
  receive(): Buffer | undefined
  close(): void
}

export interface DeadLinks {
  /** A device's index for each link of it that has died. */
  readonly indexes: readonly number[]
  /** Some were not told: any link may have died. */
  readonly isIncomplete: boolean
}

export interface NbdKernel {
  /** Makes a device of negotiated connections, of which the kernel then has its own hold. */
  connect(request: ConnectRequest): void
  /** Puts connections in the place of those that are dead. */
  reconfigure(request: ReconfigureRequest): void
  /** What is in flight fails, and the server is told DISC. */
  disconnect(index: number): void
  /** Links that died since it was asked last. */
  deadLinks(): DeadLinks
  close(): void
}

export class NetlinkKernel implements NbdKernel {
  readonly #requests: NetlinkPort
  readonly #events: NetlinkPort
  readonly #family: NbdFamily
  #sequence = 1

  private constructor(requests: NetlinkPort, events: NetlinkPort, family: NbdFamily) {
    this.#requests = requests
    this.#events = events
    this.#family = family
  }

  /** @throws ErrnoException: ENOENT when the kernel has no NBD client (the module is not there) */
  static open(port: () => NetlinkPort = () => new NetlinkSocket()): NetlinkKernel {
    const requests = port()
    try {
      const family = decodeFamily(exchange(requests, 1, 'CTRL_CMD_GETFAMILY', encodeFindFamily(1))!)
      const events = port()
      try {
        events.join(family.group)
        return new NetlinkKernel(requests, events, family)
      } catch (error) {
        events.close()
        throw error
      }
    } catch (error) {
      requests.close()
      throw error
    }
  }

  connect(request: ConnectRequest): void {
    this.#ask('NBD_CMD_CONNECT', (family, sequence) => encodeConnect(family, sequence, request))
  }

  reconfigure(request: ReconfigureRequest): void {
    this.#ask('NBD_CMD_RECONFIGURE', (family, sequence) => encodeReconfigure(family, sequence, request))
  }

  disconnect(index: number): void {
    this.#ask('NBD_CMD_DISCONNECT', (family, sequence) => encodeDisconnect(family, sequence, index))
  }

  deadLinks(): DeadLinks {
    const indexes: number[] = []
    for (let count = 0; count < eventsMax; count++) {
      let bytes: Buffer | undefined
      try {
        bytes = this.#events.receive()
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOBUFS') throw error
        return { indexes, isIncomplete: true }
      }
      if (bytes === undefined) break
      for (const message of decodeMessages(bytes)) {
        const index = message.type === this.#family.id ? decodeLinkDead(message.payload) : undefined
        if (index !== undefined) indexes.push(index)
      }
    }
    return { indexes, isIncomplete: false }
  }

  close(): void {
    this.#requests.close()
    this.#events.close()
  }

  #ask(name: string, encode: (family: number, sequence: number) => Buffer): void {
    const sequence = ++this.#sequence
    exchange(this.#requests, sequence, name, encode(this.#family.id, sequence))
  }
}

/** Sends a request and takes its answers: the payload of the reply, if there is one, once the request is known to be done. */
function exchange(port: NetlinkPort, sequence: number, name: string, request: Buffer): Buffer | undefined {
  port.send(request)
  let reply: Buffer | undefined
  while (true) {
    const bytes = port.receive()
    if (bytes === undefined) throw new NetlinkFormatError(`there is no answer to ${name}`)
    for (const message of decodeMessages(bytes).filter((one) => one.sequence === sequence)) {
      if (message.type === errorType) {
        throwError(message, name)
        return reply
      }
      reply = message.payload
    }
  }
}

function throwError({ payload }: Message, name: string): void {
  const errno = decodeError(payload)
  if (errno !== 0) throw errnoError(name, errno)
}
