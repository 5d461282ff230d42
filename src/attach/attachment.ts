// A device of the kernel's NBD client, cared for: made of connections that were negotiated here, or taken over as it stands;
// a link that dies gets a new connection, for as long as it takes. Time, kernel, device and server are given.
//
// What always holds:
// - The kernel gets a connection only to what the device was made of (backend.ts).
// - Requests wait, and fail in no case but that every link was dead for longer than the dead timeout.
// - When this process ends without a detach, the device goes on with the connections that it has.

import { closeSync } from 'node:fs'
import { TransmissionFlag } from '../nbd/wire/constants.ts'
import { type Backend, changeOf, formatBackend, parseBackend } from './backend.ts'
import { detachDevice } from './detach.ts'
import type { Device } from './device.ts'
import { dialFirst } from './first-connections.ts'
import type { NbdKernel } from './kernel.ts'
import { deviceBusy, kernelRefused, noDevice, serverAway } from './refusals.ts'
import type { DiskServer } from './server.ts'

/** How often it is looked for links that died. */
export const lookMs = 200
/** Negotiation has a deadline of its own; a daemon that hangs before it has none. */
const attemptMs = 15_000
/** How often it is looked whether the device is ours still. */
const ownershipMs = 1000
const firstRestMs = 100
const restMaxMs = 2000
/**
 * With one connection, a request whose link has died is sent again when the kernel looks after it: so often. With several
 * the kernel gives up on a connection that has not answered by then, so that there it stays at the kernel's own 30 s.
 */
const lookAfterMs = 5000

export interface AttachFacts {
  readonly device: string
  readonly disk: string
  /** Connections that are up, and all of them. */
  readonly live: number
  readonly connections: number
}

export type AttachEvent = AttachFacts &
  (
    | { readonly type: 'attached'; readonly size: number; readonly readOnly: boolean; readonly takenOver: boolean }
    | { readonly type: 'link-down' | 'link-up' | 'detached' }
    /** A new connection cannot be had yet. */
    | { readonly type: 'waiting'; readonly reason: string }
    /** No link for longer than the dead timeout: what is asked of the device fails. */
    | { readonly type: 'failing'; readonly seconds: number }
  )

export interface AttachParts {
  readonly kernel: NbdKernel
  readonly device: Device
  readonly server: DiskServer
  readonly clock: { nowMs(): number; sleep(ms: number, signal: AbortSignal): Promise<void> }
  /** Told in order. */
  tell(event: AttachEvent): void
}

export interface AttachOptions {
  /** Asked for; one, if the server does not say that more are safe. */
  readonly connections: number
  readonly deadTimeoutSeconds: number
}

export class Attachment {
  readonly #parts: AttachParts
  readonly #deadTimeoutSeconds: number
  readonly #backend: Backend
  /** As the kernel has it: it compares the text. */
  readonly #backendText: string
  #dead = 0
  /** After a taking over: which links are dead is not known, so all are offered a new connection, and nothing is told of it. */
  #isGuess: boolean
  #reason: string | undefined
  #mending: Promise<void> | undefined
  #downSinceMs: number | undefined
  #isFailing = false

  private constructor(
    parts: AttachParts,
    options: AttachOptions,
    backend: Backend,
    text: string,
    isTakenOver: boolean,
  ) {
    this.#parts = parts
    this.#deadTimeoutSeconds = options.deadTimeoutSeconds
    this.#backend = backend
    this.#backendText = text
    this.#isGuess = isTakenOver
    if (isTakenOver) this.#dead = backend.connections
  }

  /** The device is attached when this resolves. @throws ControlError */
  static async begin(parts: AttachParts, options: AttachOptions, signal: AbortSignal): Promise<Attachment> {
    const { device, server, kernel } = parts
    const facts = await device.facts()
    if (facts === undefined) throw noDevice(device.path, false)
    if (facts.isAttached) {
      const backend = facts.backend === undefined ? undefined : parseBackend(facts.backend)
      if (backend?.target !== server.target) {
        throw deviceBusy(
          device.path,
          `it is attached to ${backend?.target ?? facts.backend ?? 'what another program chose'}`,
        )
      }
      return Attachment.#attached(parts, options, backend, facts.backend!, true)
    }
    const { backend, sockets, blockSizeBytes } = await dialFirst(server, options.connections, attemptOf(signal))
    const text = formatBackend(backend)
    const { sizeBytes, flags: serverFlags } = backend
    const { deadTimeoutSeconds } = options
    try {
      kernel.connect({
        ...{ index: device.index, sizeBytes, blockSizeBytes, serverFlags, deadTimeoutSeconds, sockets },
        backend: text,
      })
    } catch (error) {
      throw kernelRefused(device.path, error)
    } finally {
      for (const fd of sockets) closeSync(fd)
    }
    return Attachment.#attached(parts, options, backend, text, false)
  }

  static async #attached(
    parts: AttachParts,
    options: AttachOptions,
    backend: Backend,
    text: string,
    takenOver: boolean,
  ): Promise<Attachment> {
    if (backend.connections === 1) await parts.device.lookAfterRequests(lookAfterMs)
    const attachment = new Attachment(parts, options, backend, text, takenOver)
    const readOnly = (backend.flags & TransmissionFlag.readOnly) !== 0
    attachment.#tell({ type: 'attached', size: backend.sizeBytes, readOnly, takenOver })
    return attachment
  }

  /** Cares for the device until the signal, or until somebody else has detached it: then it resolves. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, device } = this.#parts
    const ended = new AbortController()
    const caring = AbortSignal.any([signal, ended.signal])
    try {
      for (let lookedAtMs = clock.nowMs(); ; await clock.sleep(lookMs, caring)) {
        this.#care(caring)
        if (clock.nowMs() - lookedAtMs < ownershipMs) continue
        lookedAtMs = clock.nowMs()
        if (await this.#isOurs()) continue
        this.#tell({ type: 'detached' })
        return
      }
    } catch (error) {
      if (!signal.aborted) throw error
      throw signal.reason
    } finally {
      ended.abort(new Error(`${device.path} is cared for no more`))
      await this.#mending
    }
  }

  /** Flushes, then has the kernel let go. @throws ControlError: the device stays attached */
  async detach(): Promise<void> {
    const { device, kernel, server } = this.#parts
    this.#look()
    const isAway = this.#dead >= this.#backend.connections && (!this.#isGuess || this.#reason !== undefined)
    if (isAway) throw serverAway(device.path, server.disk)
    await detachDevice(kernel, device, (flush) => this.#caringUntil(flush))
    this.#tell({ type: 'detached' })
  }

  /** A flush waits for a link that dies under it, and what it has not written yet would fail at the dead timeout. */
  async #caringUntil(flush: Promise<void>): Promise<void> {
    const { clock } = this.#parts
    const ended = new AbortController()
    const caring = (async () => {
      for (; ; await clock.sleep(lookMs, ended.signal)) this.#care(ended.signal)
    })().catch(() => {})
    try {
      await flush
    } finally {
      ended.abort(new Error('the flush has ended'))
      await caring
      await this.#mending
    }
  }

  /** Once: sees which links died, and has them mended. */
  #care(signal: AbortSignal): void {
    this.#look()
    this.#watchDead()
    if (this.#dead > 0) this.#mending ??= this.#mend(signal).finally(() => (this.#mending = undefined))
  }

  #look(): void {
    const { kernel, device } = this.#parts
    const { indexes, isIncomplete } = kernel.deadLinks()
    const { connections } = this.#backend
    const died = indexes.filter((index) => index === device.index).length
    for (let count = 0; count < died && this.#dead < connections; count++) {
      this.#dead++
      this.#tell({ type: 'link-down' })
    }
    if (!isIncomplete || this.#dead === connections) return
    this.#isGuess = true
    this.#dead = connections
  }

  #watchDead(): void {
    const { clock } = this.#parts
    if (this.#dead < this.#backend.connections || this.#isGuess) {
      this.#downSinceMs = undefined
      this.#isFailing = false
      return
    }
    this.#downSinceMs ??= clock.nowMs()
    if (this.#isFailing || clock.nowMs() - this.#downSinceMs < this.#deadTimeoutSeconds * 1000) return
    this.#isFailing = true
    this.#tell({ type: 'failing', seconds: this.#deadTimeoutSeconds })
  }

  /** Until no link is dead. */
  async #mend(signal: AbortSignal): Promise<void> {
    let restMs = firstRestMs
    while (this.#dead > 0 && !signal.aborted) {
      try {
        await this.#replace(signal)
        restMs = firstRestMs
      } catch (error) {
        if (signal.aborted) return
        this.#tellWaiting((error as Error).message)
        await this.#parts.clock.sleep(restMs, signal).catch(() => {})
        restMs = Math.min(restMs * 2, restMaxMs)
      }
    }
  }

  async #replace(signal: AbortSignal): Promise<void> {
    const { server, kernel, device } = this.#parts
    const dialled = await server.dial(attemptOf(signal))
    try {
      const change = changeOf(this.#backend, dialled)
      if (change !== undefined) throw new Error(change)
      kernel.reconfigure({ index: device.index, backend: this.#backendText, sockets: [dialled.fd] })
    } finally {
      closeSync(dialled.fd)
    }
    this.#dead--
    if (!this.#isGuess || this.#reason !== undefined) this.#tell({ type: 'link-up' })
    if (this.#dead > 0) return
    this.#reason = undefined
    this.#isGuess = false
  }

  async #isOurs(): Promise<boolean> {
    const facts = await this.#parts.device.facts()
    if (facts?.isAttached !== true) return false
    // A kernel that keeps no text says of what is attached only that it is.
    return facts.backend === undefined || facts.backend === this.#backendText
  }

  /** Once, until the reason is another. */
  #tellWaiting(reason: string): void {
    if (reason === this.#reason) return
    this.#reason = reason
    this.#tell({ type: 'waiting', reason })
  }

  #tell(event: DistributiveOmit<AttachEvent, keyof AttachFacts>): void {
    const { device, server, tell } = this.#parts
    const { connections } = this.#backend
    const live = event.type === 'detached' ? 0 : this.#isGuess ? connections : connections - this.#dead
    tell({ ...event, device: device.path, disk: server.disk, live, connections })
  }
}

type DistributiveOmit<Union, Key extends PropertyKey> = Union extends unknown ? Omit<Union, Key> : never

function attemptOf(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(attemptMs)])
}
