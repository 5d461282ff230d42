// A worker of pool.ts: packs and unpacks chunks, one at a time. Memory comes and goes with the messages: it is transferred,
// and what is left of a job is given back before the next begins.

import { parentPort } from 'node:worker_threads'
import { detach } from '../../block/own-memory.ts'
import { SealError } from '../errors.ts'
import { type ChunkKeys, type ExpectedChunk, type PackedChunk, packChunk, unpackChunk } from './chunk.ts'

export type ChunkJob = { readonly id: number; readonly keys: ChunkKeys; readonly bytes: Uint8Array } & (
  | { readonly do: 'pack' }
  | { readonly do: 'unpack'; readonly name: string; readonly expected: ExpectedChunk }
)

export interface ChunkReply {
  readonly id: number
  readonly packed?: PackedChunk
  readonly plain?: Uint8Array
  readonly error?: { readonly isOfSeal: boolean; readonly message: string }
}

parentPort!.on('message', (job: ChunkJob) => {
  const reply = answer(job)
  detach(job.bytes)
  const bytes = reply.packed?.sealed ?? reply.plain
  parentPort!.postMessage(reply, bytes ? [bytes.buffer as ArrayBuffer] : [])
})

function answer(job: ChunkJob): ChunkReply {
  const { id } = job
  try {
    if (job.do === 'pack') return { id, packed: packChunk(job.keys, job.bytes) }
    return { id, plain: unpackChunk(job.keys, job.name, job.bytes, job.expected) }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return { id, error: { isOfSeal: error instanceof SealError, message } }
  }
}
