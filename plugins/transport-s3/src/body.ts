// Reads an answer's body whole. A body that is not read to its end, or destroyed, keeps a connection for ever.

import type { Readable } from 'node:stream'
import { largestObjectBytes, TransportError } from 'vmstore/transport'

/** `lengthBytes` is what the answer's head says, if it does. */
export async function bytesOf(body: Readable, lengthBytes: number | undefined, signal: AbortSignal): Promise<Buffer> {
  const onAbort = () => body.destroy(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted()
    if (lengthBytes !== undefined && lengthBytes > largestObjectBytes) throw tooLarge()
    return lengthBytes === undefined ? await ofAnyLength(body) : await ofLength(body, lengthBytes)
  } finally {
    signal.removeEventListener('abort', onAbort)
    body.destroy()
  }
}

/** Into one piece of memory of its own, which may be given to another thread. */
async function ofLength(body: Readable, lengthBytes: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(lengthBytes)
  let filled = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (filled + chunk.length > lengthBytes) throw wrongLength(lengthBytes)
    bytes.set(chunk, filled)
    filled += chunk.length
  }
  if (filled < lengthBytes) throw wrongLength(lengthBytes)
  return bytes
}

async function ofAnyLength(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  let lengthBytes = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    lengthBytes += chunk.length
    if (lengthBytes > largestObjectBytes) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function wrongLength(lengthBytes: number): TransportError {
  return new TransportError('unavailable', `the store's answer has not the ${lengthBytes} bytes that it announced`)
}

function tooLarge(): TransportError {
  return new TransportError('denied', `an object is larger than ${largestObjectBytes} bytes`)
}
