// A store in memory for tests of the relay, that does to requests what a test says.

import type { ObjectInfo, ObjectStore } from '../../src/transport/index.ts'

export type StoreRequest = {
  readonly do: 'put' | 'get' | 'list' | 'delete'
  readonly key: string
  readonly ifAbsent: boolean
  readonly signal: AbortSignal | undefined
}

/** Throws instead of the request; 'after': does it, and then throws. */
export type Fault = (request: StoreRequest) => undefined | Error | { readonly after: Error } | Promise<undefined>

export class Objects implements ObjectStore {
  readonly objects: Map<string, Buffer>
  readonly asked: StoreRequest[] = []
  fault: Fault = () => undefined
  /** Puts with `ifAbsent` overwrite, and say that they stored. */
  ignoresConditions = false
  isClosed = false

  constructor(objects = new Map<string, Buffer>()) {
    this.objects = objects
  }

  async put(
    key: string,
    body: Uint8Array,
    { ifAbsent = false, signal }: { ifAbsent?: boolean; signal?: AbortSignal } = {},
  ): Promise<'stored' | 'exists'> {
    return await this.#do({ do: 'put', key, ifAbsent, signal }, () => {
      if (ifAbsent && !this.ignoresConditions && this.objects.has(key)) return 'exists'
      this.objects.set(key, Buffer.from(body))
      return 'stored'
    })
  }

  async get(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<Uint8Array | undefined> {
    return await this.#do({ do: 'get', key, ifAbsent: false, signal }, () => {
      const found = this.objects.get(key)
      return found && Buffer.from(found)
    })
  }

  async *list(
    prefix: string,
    { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    const keys = await this.#do({ do: 'list', key: prefix, ifAbsent: false, signal }, () =>
      [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > (after ?? '')).sort(),
    )
    for (const key of keys) yield { key, sizeBytes: this.objects.get(key)?.length ?? 0 }
  }

  async delete(keys: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#do({ do: 'delete', key: keys[0] ?? '', ifAbsent: false, signal }, () => {
      for (const key of keys) this.objects.delete(key)
    })
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  async #do<Answer>(request: StoreRequest, run: () => Answer): Promise<Answer> {
    request.signal?.throwIfAborted()
    this.asked.push(request)
    const fault = await this.fault(request)
    if (fault instanceof Error) throw fault
    const answer = run()
    if (fault) throw fault.after
    return answer
  }
}

/** As a plugin that carries a copy of the contract's module throws it. */
export function storeError(code: string, message = `the store said ${code}`, retryAfterMs?: number): Error {
  return Object.assign(new Error(message), { name: 'TransportError', code, retryAfterMs })
}
