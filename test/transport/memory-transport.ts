// The smallest ObjectTransport that keeps the contract: objects in memory, shared by the stores of one driver address.

import { contractVersion, type ObjectStore, type ObjectTransport } from '../../src/transport/index.ts'

const byBytes = (one: string, other: string) => Buffer.compare(Buffer.from(one), Buffer.from(other))

export function memoryTransport(objects = new Map<string, Uint8Array>()): ObjectTransport {
  const store: ObjectStore = {
    async put(key, body, { ifAbsent = false, signal } = {}) {
      signal?.throwIfAborted()
      if (ifAbsent && objects.has(key)) return 'exists'
      objects.set(key, Uint8Array.from(body))
      return 'stored'
    },
    async get(key, { signal } = {}) {
      signal?.throwIfAborted()
      return objects.get(key)
    },
    async *list(prefix, { after, signal } = {}) {
      for (const key of [...objects.keys()].sort(byBytes)) {
        signal?.throwIfAborted()
        if (!key.startsWith(prefix) || (after !== undefined && byBytes(key, after) <= 0)) continue
        yield { key, sizeBytes: objects.get(key)!.length }
      }
    },
    async delete(keys, { signal } = {}) {
      signal?.throwIfAborted()
      for (const key of keys) objects.delete(key)
    },
    async close() {},
  }
  return { contractVersion, kind: 'object', schemes: ['memory'], open: async () => store }
}
