// A kernel, a device, a server and a clock that do what a test says, for the course of an attached device.

import assert from 'node:assert/strict'
import { fstatSync, openSync } from 'node:fs'
import type { AttachEvent, AttachParts } from '../../src/attach/attachment.ts'
import type { Device, DeviceFacts } from '../../src/attach/device.ts'
import type { DeadLinks, NbdKernel } from '../../src/attach/kernel.ts'
import type { ConnectRequest, ReconfigureRequest } from '../../src/attach/nbd-netlink.ts'
import type { Dialled, DiskServer } from '../../src/attach/server.ts'
import type { NbdExportInfo } from '../../src/nbd/client/negotiation.ts'
import { TransmissionFlag } from '../../src/nbd/wire/constants.ts'

const index = 3
const usualFlags = TransmissionFlag.hasFlags | TransmissionFlag.sendFlush | TransmissionFlag.canMultiConn

export function infoOf(flags = usualFlags, sizeBytes = 1 << 20, minimum = 1): NbdExportInfo {
  const has = (flag: number) => (flags & flag) !== 0
  const abilities = {
    canFlush: true,
    canFua: false,
    canTrim: false,
    canWriteZeroes: false,
    canFastZero: false,
    canCache: false,
  }
  return {
    ...{ name: 'web01', description: '', sizeBytes, flags, ...abilities },
    ...{ readOnly: has(TransmissionFlag.readOnly), canMultiConn: has(TransmissionFlag.canMultiConn) },
    blockSize: { minimum, preferred: 4096, maximum: 32 << 20 },
  }
}

/** Sleepers wake when the test lets time pass. */
export class FakeClock {
  #nowMs = 0
  readonly #sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>()

  nowMs(): number {
    return this.#nowMs
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const sleeper = {
        untilMs: this.#nowMs + ms,
        wake: () => {
          this.#sleepers.delete(sleeper)
          signal.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      const onAbort = () => {
        this.#sleepers.delete(sleeper)
        reject(signal.reason)
      }
      this.#sleepers.add(sleeper)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Wakes whoever sleeps until then, one after the other, each with all that follows from it. */
  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    for (;;) {
      await settled()
      const due = [...this.#sleepers].filter(({ untilMs }) => untilMs <= endMs)
      const next = due.sort((a, b) => a.untilMs - b.untilMs)[0]
      if (next === undefined) break
      this.#nowMs = Math.max(this.#nowMs, next.untilMs)
      next.wake()
    }
    this.#nowMs = endMs
  }
}

/** Everything that can go on without time has gone on: nothing here waits for the system. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

export class FakeHost implements AttachParts {
  readonly events: AttachEvent[] = []
  /** What was asked of kernel, device and server, in order. */
  readonly calls: string[] = []
  readonly requests: (ConnectRequest | ReconfigureRequest)[] = []
  /** Descriptors that the server gave. */
  readonly fds: number[] = []
  facts: DeviceFacts | undefined = { isAttached: false, backend: undefined, sizeBytes: 0 }
  /** Thrown by the next of these. */
  faults: Partial<Record<'connect' | 'reconfigure' | 'flush', Error>> = {}
  isHeldByOther = false
  /** A flush waits for it. */
  flushed: Promise<void> = Promise.resolve()
  info = infoOf()
  identity: string | undefined
  dialFault: Error | undefined
  #dead: DeadLinks = { indexes: [], isIncomplete: false }
  readonly clock = new FakeClock()

  readonly kernel: NbdKernel = {
    connect: (request) => {
      this.#take('connect', request)
      this.facts = { isAttached: true, backend: request.backend, sizeBytes: request.sizeBytes }
    },
    reconfigure: (request) => this.#take('reconfigure', request),
    disconnect: () => {
      this.calls.push('disconnect')
      this.facts = { isAttached: false, backend: undefined, sizeBytes: 0 }
    },
    deadLinks: () => {
      const dead = this.#dead
      this.#dead = { indexes: [], isIncomplete: false }
      return dead
    },
    close: () => {},
  }

  readonly device: Device = {
    index,
    path: '/dev/nbd3',
    facts: async () => this.facts,
    lookAfterRequests: async (everyMs) => {
      this.calls.push(`look after requests every ${everyMs}`)
      return true
    },
    hold: async () => {
      this.calls.push('hold')
      if (this.isHeldByOther) return undefined
      return {
        flush: async () => {
          this.calls.push('flush')
          await this.flushed
          if (this.faults.flush) throw this.faults.flush
        },
        close: async () => void this.calls.push('let go'),
      }
    },
  }

  readonly server: DiskServer = {
    disk: 'web01',
    target: 'web01 of the daemon',
    dial: async (): Promise<Dialled> => {
      if (this.dialFault) throw this.dialFault
      const fd = openSync('/dev/null', 'r')
      this.fds.push(fd)
      return { fd, info: this.info, ...(this.identity !== undefined && { identity: this.identity }) }
    },
  }

  readonly tell = (event: AttachEvent): void => void this.events.push(event)

  /** So many links of the device have died, beside some of others. */
  linksDie(count: number): void {
    this.#dead = { indexes: [index + 1, ...Array<number>(count).fill(index)], isIncomplete: false }
  }

  eventsAreLost(): void {
    this.#dead = { indexes: [], isIncomplete: true }
  }

  /** "link-down 1/2", and what else is to be known. */
  get told(): string[] {
    return this.events.map((event) => {
      const more =
        event.type === 'waiting' ? ` ${event.reason}` : event.type === 'attached' && event.takenOver ? ' over' : ''
      return `${event.type} ${event.live}/${event.connections}${more}`
    })
  }

  #take(name: 'connect' | 'reconfigure', request: ConnectRequest | ReconfigureRequest): void {
    this.calls.push(name)
    this.requests.push(request)
    for (const fd of request.sockets) fstatSync(fd) // The kernel finds what is open only.
    const fault = this.faults[name]
    delete this.faults[name]
    if (fault) throw fault
  }

  assertNothingIsOpen(): void {
    for (const fd of this.fds) assert.throws(() => fstatSync(fd), { code: 'EBADF' })
  }
}
