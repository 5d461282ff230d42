// How long a request may take. The SDK's own timeouts end uploads that are moving and let downloads drip for ever, so a request
// has a deadline of its own, by what it carries; a caller's signal may be stricter.

import { largestObjectBytes, TransportError } from 'vmstore/transport'

/** Slower than this, beside others, is a path on which no move would end. */
const slowestBytesPerSecond = 16 * 1024

export interface Deadline {
  readonly signal: AbortSignal
  /** It has turned out how much comes: there is time for that from now on. */
  carries(bytes: number): void
}

export interface Patience {
  readonly timeoutMs: number
  readonly bytes: number
  readonly signal: AbortSignal | undefined
}

/** @throws the signal's reason, or a TransportError when time is over, whatever `work` makes of its abort */
export async function withDeadline<T>(patience: Patience, work: (deadline: Deadline) => Promise<T>): Promise<T> {
  const { timeoutMs, signal } = patience
  signal?.throwIfAborted()
  const control = new AbortController()
  const onAbort = () => control.abort(signal!.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  let timer: NodeJS.Timeout | undefined
  const carries = (bytes: number) => {
    clearTimeout(timer)
    const ms = timeoutMs + (Math.min(bytes, largestObjectBytes) / slowestBytesPerSecond) * 1000
    timer = setTimeout(() => control.abort(late(ms)), ms)
  }
  carries(patience.bytes)
  try {
    return await work({ signal: control.signal, carries })
  } catch (error) {
    throw control.signal.aborted ? control.signal.reason : error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

function late(ms: number): TransportError {
  return new TransportError('unavailable', `the store has not answered in full within ${Math.round(ms / 100) / 10} s`)
}
