// Bytes behind answers, as chunks in the store: put before an answer names them, deleted once the answer is acknowledged.
//
// What always holds: at most `mostAtWork` bodies are made at once, each with one chunk in memory. A chunk that another answer
// names still is not deleted.

import { Places } from '../../link/lane/places.ts'
import type { ObjectStore } from '../../transport/index.ts'
import type { ChunkOptions, Chunks } from '../chunking/pool.ts'
import { SealError } from '../errors.ts'
import { keyOf } from '../names.ts'
import { mostParts, type Part } from './letter.ts'

const mostAtWork = 6
const partBytes = 4 * 1024 * 1024
/** A chunk that an answer names and the store does not show, or gives wrong, is asked for again so often. */
const mostReads = 10
const firstWaitMs = 100
const longestWaitMs = 5000

export interface BodiesParts {
  readonly store: Pick<ObjectStore, 'put' | 'get' | 'delete'>
  readonly folder: string
  readonly chunks: Chunks
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>
}

export class Bodies {
  readonly #parts: BodiesParts
  readonly #places = new Places(mostAtWork)
  /** By name: how many answers name it. */
  readonly #named = new Map<string, number>()
  /** Ends once nothing of that name is being put or deleted. */
  readonly #busy = new Map<string, Promise<unknown>>()

  constructor(parts: BodiesParts) {
    this.#parts = parts
  }

  /** Of all of `bytes`, in order; `named` has those that were put also if it fails. */
  async put(
    bytes: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    named: Part[],
    options: ChunkOptions & { signal: AbortSignal; maximumBytes: number },
  ): Promise<void> {
    using _place = await this.#places.enter(options.signal)
    let whole = Buffer.allocUnsafeSlow(0)
    let filled = 0
    let sum = 0
    const give = async (): Promise<void> => {
      if (filled === 0) return
      if (named.length >= mostParts) throw new Error(`an answer of over ${mostParts} chunks`)
      named.push(await this.#putOne(new Uint8Array(whole.subarray(0, filled)), options))
      filled = 0
    }
    for await (const each of bytes) {
      options.signal.throwIfAborted()
      sum += each.length
      if (sum > options.maximumBytes) {
        throw new Error(`the body is over the ${options.maximumBytes} bytes that the call takes`)
      }
      for (let at = 0; at < each.length; ) {
        const taken = Math.min(partBytes - filled, each.length - at)
        if (filled + taken > whole.length) {
          const larger = Buffer.allocUnsafeSlow(Math.min(partBytes, Math.max(2 * whole.length, filled + taken)))
          larger.set(whole.subarray(0, filled))
          whole = larger
        }
        whole.set(each.subarray(at, at + taken), filled)
        filled += taken
        at += taken
        if (filled === partBytes) await give()
      }
    }
    await give()
  }

  /** Checked. @throws SealError if the store gives nothing right for long; what the signal or the store throws. */
  async get({ name, lengthBytes, digest }: Part, options: ChunkOptions & { signal: AbortSignal }): Promise<Uint8Array> {
    const { store, folder, chunks, sleep } = this.#parts
    for (let read = 1; ; read++) {
      const sealed = await store.get(keyOf(folder, 'chunk', name), { signal: options.signal })
      let wrong = new SealError(`the relay does not have the chunk ${name} that an answer names`)
      if (sealed) {
        try {
          const expected = { lengthBytes, digest: Buffer.from(digest, 'base64') }
          return await chunks.unpack(name, new Uint8Array(sealed), expected, options)
        } catch (error) {
          if (!(error instanceof SealError)) throw error
          wrong = error
        }
      }
      if (read >= mostReads) throw wrong
      await sleep(Math.min(longestWaitMs, firstWaitMs * 2 ** (read - 1)), options.signal)
    }
  }

  /** The answer that named these is acknowledged, or never was given. */
  async drop(parts: readonly Part[], signal: AbortSignal): Promise<void> {
    const { store, folder } = this.#parts
    for (const { name } of parts) {
      const left = (this.#named.get(name) ?? 1) - 1
      if (left > 0) this.#named.set(name, left)
      else this.#named.delete(name)
    }
    const names = [...new Set(parts.map(({ name }) => name))]
    await Promise.all(
      names.map((name) =>
        this.#inTurn(name, async () => {
          if (!this.#named.has(name)) await store.delete([keyOf(folder, 'chunk', name)], { signal })
        }),
      ),
    )
  }

  async #putOne(plain: Uint8Array, options: ChunkOptions & { signal: AbortSignal }): Promise<Part> {
    const { store, folder, chunks } = this.#parts
    const lengthBytes = plain.length
    const { name, sealed, digest } = await chunks.pack(plain, options)
    // Always put, though another answer names it: a deletion that was given up may have come true since.
    this.#named.set(name, (this.#named.get(name) ?? 0) + 1)
    const part = { name, lengthBytes, digest: Buffer.from(digest).toString('base64') }
    try {
      await this.#inTurn(name, () => store.put(keyOf(folder, 'chunk', name), sealed, { signal: options.signal }))
    } catch (error) {
      await this.drop([part], options.signal).catch(() => undefined) // What is left is cleared at the end of the move.
      throw error
    }
    return part
  }

  async #inTurn(name: string, work: () => Promise<unknown>): Promise<void> {
    const mine = (this.#busy.get(name) ?? Promise.resolve()).catch(() => undefined).then(work)
    this.#busy.set(name, mine)
    try {
      await mine
    } finally {
      if (this.#busy.get(name) === mine) this.#busy.delete(name)
    }
  }
}
