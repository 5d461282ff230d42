// Events as lines of JSON (NDJSON), both ways. Whatever happens to the source of the events, the reader of the lines is
// told: the lines end with `result` or `error`, or the connection is seen to have ended before either.

import type { ErrorView } from './types.ts'

/** A line longer than this is not ours. */
export const maxLineBytes = 1 << 20

/** The events of `source` until it ends or `signal` aborts, even if `source` itself does not heed the signal. */
export async function* untilAborted<T>(source: AsyncIterator<T>, signal: AbortSignal): AsyncGenerator<T> {
  const aborted = Promise.withResolvers<IteratorReturnResult<undefined>>()
  const onAbort = () => aborted.resolve({ done: true, value: undefined })
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  try {
    while (true) {
      const next = source.next()
      next.catch(() => {}) // It may reject after the abort won, with nobody to tell.
      const event = await Promise.race([aborted.promise, next])
      if (event.done) return
      yield event.value
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    source.return?.().catch(() => {}) // Not awaited: it waits for a next() that may hang.
  }
}

/** One line an event; what `events` throws becomes the last line. */
export async function* toLines(
  events: AsyncIterable<unknown>,
  viewOf: (error: unknown) => ErrorView,
): AsyncGenerator<string> {
  try {
    for await (const event of events) yield `${JSON.stringify(event)}\n`
  } catch (error) {
    yield `${JSON.stringify({ type: 'error', error: viewOf(error) })}\n`
  }
}

/** Throws a SyntaxError for a line that is no JSON or too long. An unfinished last line is dropped: it was cut off. */
export async function* fromLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<unknown> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop()!
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line)
    if (rest.length > maxLineBytes) throw new SyntaxError(`a line of over ${maxLineBytes} bytes`)
  }
}
