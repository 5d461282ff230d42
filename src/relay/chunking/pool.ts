// Packs and unpacks chunks in worker threads, for all moves of a site: compressing, hashing and sealing 4 MiB take 20 ms, which
// the loop that serves guests does not have.
//
// What always holds:
// - A worker has two jobs at most, one that it does and one that it begins with next; all others wait here, in order, what
//   guests wait for first. So the memory in work is bounded, whatever is asked.
// - Bytes that are given to a job are the job's: they are transferred, and have no length any more for whoever gave them.
// - A worker that dies fails its jobs, and another takes its place.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { Worker, type WorkerOptions } from 'node:worker_threads'
import { withOwnMemory } from '../../block/own-memory.ts'
import type { Urgency } from '../../block/units.ts'
import { SealError } from '../errors.ts'
import { type ChunkKeys, type ExpectedChunk, type PackedChunk, packChunk, unpackChunk } from './chunk.ts'
import type { ChunkJob, ChunkReply } from './worker.ts'

export interface ChunkOptions {
  /** `demand`: a guest waits. Default: background. */
  readonly urgency?: Urgency
  /** Ends the wait for a worker; what a worker has is finished. */
  readonly signal?: AbortSignal
}

/** The chunks of one move. */
export interface Chunks {
  /**
   * Equal bytes give an equal name and an equal object. `plain`, of 1 to `largestChunkBytes`, is given away by it.
   */
  pack(plain: Uint8Array, options?: ChunkOptions): Promise<PackedChunk>
  /** @throws SealError if it is not the chunk of that name, or not as expected. `sealed` is given away by it. */
  unpack(name: string, sealed: Uint8Array, expected: ExpectedChunk, options?: ChunkOptions): Promise<Uint8Array>
}

const jobsPerWorker = 2
/** Whoever asks for more at once has forgotten to bound it. */
const mostWaiting = 4096
const mostThreads = 8

type Work = { do: 'pack' } | { do: 'unpack'; name: string; expected: ExpectedChunk }

interface Waiting {
  readonly urgency: Urgency
  readonly turn: PromiseWithResolvers<PoolWorker>
}

interface PoolWorker {
  readonly thread: Worker
  readonly jobs: Map<number, PromiseWithResolvers<ChunkReply>>
  /** Of its `jobsPerWorker`. */
  places: number
  isGone: boolean
}

export type StartThread = (url: URL, options: WorkerOptions) => Worker

export class ChunkPool {
  readonly #threads: number
  readonly #startThread: StartThread
  readonly #workers = new Set<PoolWorker>()
  #waiting: Waiting[] = []
  #nextId = 1
  #isClosed = false

  /** Threads start when there is work for them. */
  constructor(
    threads: number = Math.min(mostThreads, availableParallelism()),
    startThread: StartThread = (url, options) => new Worker(url, options),
  ) {
    this.#threads = threads
    this.#startThread = startThread
  }

  of({ move, names, chunk }: ChunkKeys): Chunks {
    const keys: ChunkKeys = { move, names, chunk }
    return {
      pack: async (plain, options) => {
        const { packed } = await this.#run(keys, plain, { do: 'pack' }, options)
        withOwnMemory(packed!.sealed)
        return packed!
      },
      unpack: async (name, sealed, expected, options) => {
        const { plain } = await this.#run(keys, sealed, { do: 'unpack', name, expected }, options)
        return withOwnMemory(plain!)
      },
    }
  }

  /** What is in work, or waits, fails. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (const { turn } of this.#waiting.splice(0)) turn.reject(stopped())
    await Promise.all([...this.#workers].map(({ thread }) => thread.terminate()))
  }

  async #run(keys: ChunkKeys, bytes: Uint8Array, work: Work, options: ChunkOptions = {}): Promise<ChunkReply> {
    const worker = await this.#place(options)
    try {
      const id = this.#nextId++
      const own = ownMemory(bytes)
      const answer = Promise.withResolvers<ChunkReply>()
      worker.thread.postMessage({ id, keys, bytes: own, ...work } satisfies ChunkJob, [own.buffer as ArrayBuffer])
      worker.jobs.set(id, answer)
      const reply = await answer.promise
      if (!reply.error) return reply
      throw reply.error.isOfSeal ? new SealError(reply.error.message) : new Error(reply.error.message)
    } finally {
      this.#leave(worker)
    }
  }

  /** Takes one of a worker's places, in the step in which it is free. */
  #place({ urgency = 'background', signal }: ChunkOptions): PoolWorker | Promise<PoolWorker> {
    signal?.throwIfAborted()
    if (this.#isClosed) throw stopped()
    const free = this.#freest()
    if (free) {
      free.places--
      return free
    }
    assert(this.#waiting.length < mostWaiting, `${mostWaiting} chunks wait for a worker`)
    const one: Waiting = { urgency, turn: Promise.withResolvers() }
    const firstOfBackground = this.#waiting.findIndex((other) => other.urgency === 'background')
    if (urgency === 'background' || firstOfBackground < 0) this.#waiting.push(one)
    else this.#waiting.splice(firstOfBackground, 0, one)
    const giveUp = (): void => {
      this.#waiting = this.#waiting.filter((other) => other !== one)
      one.turn.reject(signal?.reason)
    }
    signal?.addEventListener('abort', giveUp, { once: true })
    return one.turn.promise.finally(() => signal?.removeEventListener('abort', giveUp))
  }

  #leave(worker: PoolWorker): void {
    worker.places++
    if (this.#isClosed) return
    const free = worker.isGone ? this.#freest() : worker
    const next = free && this.#waiting.shift()
    if (!next) return
    free.places--
    next.turn.resolve(free)
  }

  /** A worker with a place; none does nothing while another has two jobs. */
  #freest(): PoolWorker | undefined {
    const [best] = [...this.#workers].filter(({ places }) => places > 0).sort((one, other) => other.places - one.places)
    if (best?.places === jobsPerWorker || this.#workers.size >= this.#threads) return best
    return this.#start()
  }

  #start(): PoolWorker {
    const thread = this.#startThread(new URL('./worker.ts', import.meta.url), {
      name: 'chunks',
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    })
    thread.unref() // A process with nothing else to do ends.
    const worker: PoolWorker = { thread, jobs: new Map(), places: jobsPerWorker, isGone: false }
    this.#workers.add(worker)
    const end = (error: Error): void => {
      worker.isGone = true
      this.#workers.delete(worker)
      for (const job of worker.jobs.values()) job.reject(error)
      worker.jobs.clear()
    }
    thread.on('message', (reply: ChunkReply) => {
      worker.jobs.get(reply.id)?.resolve(reply)
      worker.jobs.delete(reply.id)
    })
    thread.on('error', (error) => end(new Error('a worker for chunks failed', { cause: error })))
    thread.on('exit', () => end(stopped()))
    return worker
  }
}

/** Without threads, for whoever drives everything from a seed. */
export function chunksInThread(keys: ChunkKeys): Chunks {
  return {
    pack: async (plain) => packChunk(keys, plain),
    unpack: async (name, sealed, expected) => unpackChunk(keys, name, sealed, expected),
  }
}

function stopped(): Error {
  return new Error('the workers for chunks are stopped')
}

/** What can be transferred: all of its memory is the bytes'. */
function ownMemory(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}
