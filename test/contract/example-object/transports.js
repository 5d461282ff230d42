// A transport as a third party would write it: plain JavaScript, one file, nothing of vmstore but its contract.
// Keeps objects in one SQLite file that both sites can open: sqlite:///path/of/file.

import { DatabaseSync } from 'node:sqlite'
import { contractVersion, largestObjectBytes, TransportError } from 'vmstore/transport'

const table = 'CREATE TABLE IF NOT EXISTS objects (key BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID'
const pageOfKeys = 'SELECT key, length(body) AS size FROM objects WHERE key >= ? AND key > ? ORDER BY key LIMIT 100'
const SQLITE_BUSY = 5

/** What the world does wrong gets a code that says whether another attempt may help. */
function told(error, signal) {
  if (signal?.aborted) return signal.reason
  if (error instanceof TransportError) return error
  return new TransportError(error.errcode === SQLITE_BUSY ? 'throttled' : 'unavailable', error.message, {
    cause: error,
  })
}

/** @type {import('vmstore/transport').ObjectTransport} */
export const sqliteTransport = {
  contractVersion,
  kind: 'object',
  schemes: ['sqlite'],

  async open(address, { signal, settings }) {
    const attempt = async (work, itsSignal) => {
      try {
        itsSignal?.throwIfAborted()
        return work()
      } catch (error) {
        throw told(error, itsSignal)
      }
    }
    const options = { timeout: Number(settings.busyTimeoutMs ?? 5000) }
    const database = await attempt(() => new DatabaseSync(decodeURIComponent(address.pathname), options), signal)
    await attempt(() => database.exec(table))
    const run = (sql, ...values) => database.prepare(sql).run(...values)

    return {
      put: (key, body, { ifAbsent = false, signal } = {}) =>
        attempt(() => {
          if (body.length > largestObjectBytes) throw new TransportError('denied', `${key} is too large`)
          const verb = ifAbsent ? 'INSERT OR IGNORE' : 'REPLACE'
          return run(`${verb} INTO objects VALUES (?, ?)`, Buffer.from(key), body).changes ? 'stored' : 'exists'
        }, signal),
      get: (key, { signal } = {}) =>
        attempt(() => database.prepare('SELECT body FROM objects WHERE key = ?').get(Buffer.from(key))?.body, signal),
      async *list(prefix, { after = '', signal } = {}) {
        for (let last = Buffer.from(after); ; ) {
          const page = await attempt(() => database.prepare(pageOfKeys).all(Buffer.from(prefix), last), signal)
          for (const { key, size } of page) {
            const name = Buffer.from(key).toString()
            if (!name.startsWith(prefix)) return
            yield { key: name, sizeBytes: size }
            last = key
          }
          if (page.length === 0) return
        }
      },
      delete: (keys, { signal } = {}) =>
        attempt(() => {
          for (const key of keys) run('DELETE FROM objects WHERE key = ?', Buffer.from(key))
        }, signal),
      close: async () => database.close(),
    }
  },
}

/** What the hook `vmstore:transports` answers. */
export default async function transports() {
  return [sqliteTransport]
}
