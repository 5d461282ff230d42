// How a fuzzing client behaves on its connection: sends in parts of any size, at any pace; reads at once, with breaks, or
// not at all; and leaves by closing its half, by hanging up, or by a reset, when all is sent or in the midst of it.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import type { Random } from '../random.ts'
import { type Found, turns } from './fuzz-export.ts'

/** A connection that its client has ended is over on both sides: what a busy machine may take for it. */
const endMs = 60_000

export interface Conversation {
  readonly received: Buffer
  /** Everything was sent, and everything that came was read, to the end that the server made. */
  readonly isComplete: boolean
}

/** Rejects, with `what`, if `promise` has not settled in time. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${endMs} ms: ${what}`)), endMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

function* partsOf(random: Random, stream: Buffer): Generator<Buffer> {
  const mostBytes = random.pick([stream.length, 100_000, 3000, Math.max(50, Math.ceil(stream.length / 200))])
  for (let at = 0; at < stream.length; ) {
    const end = at + 1 + random.integer(mostBytes)
    yield stream.subarray(at, end)
    at = end
  }
}

/** Sends `stream`, a connected socket's first bytes from the client, and ends the connection in one of the ways. */
export async function converse(socket: Socket, random: Random, stream: Buffer, found: Found): Promise<Conversation> {
  const chunks: Buffer[] = []
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const reading = random.pick(['prompt', 'prompt', 'prompt', 'slow', 'never'] as const)
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    if (reading !== 'slow') return
    socket.pause()
    void turns(random.integer(20)).then(() => socket.resume())
  })
  if (reading === 'never') socket.pause()
  const breaksOff = random.chance(0.25)
  const parts = [...partsOf(random, stream)]
  const sent = breaksOff ? parts.slice(0, random.integer(parts.length + 1)) : parts
  for (const part of sent) {
    if (socket.destroyed) break
    socket.write(part)
    if (random.chance(0.5)) await turns(1 + random.integer(3))
  }
  const leaving = reading === 'never' ? 'destroy' : random.pick(['half', 'half', 'half', 'destroy', 'reset'] as const)
  const isComplete = !breaksOff && leaving === 'half'
  if (leaving === 'half') socket.end()
  else {
    await turns(random.integer(60))
    // Only TCP knows resets.
    if (leaving === 'reset' && socket.remoteAddress !== undefined && 'resetAndDestroy' in socket) {
      socket.resetAndDestroy()
    } else socket.destroy()
  }
  await within(closed, 'the connection ends').catch((error: Error) => {
    found(error.message)
    socket.destroy()
  })
  return { received: Buffer.concat(chunks), isComplete }
}

/** Resolves once the socket is connected, or has failed. */
export async function connected(socket: Socket): Promise<void> {
  await within(once(socket, 'connect'), 'a connection is accepted')
}
