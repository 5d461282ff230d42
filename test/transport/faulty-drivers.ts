// Drivers that break the contract, each in one way, for the suite to find: run by mocha in a process of its own, with the fault's
// name in FAULT. testkit.test.ts says which test has to fail.

import { Duplex, PassThrough } from 'node:stream'
import { TcpTransport } from '../../plugins/transport-tcp/src/tcp-transport.ts'
import type { ObjectStore, ObjectTransport, StreamTransport, TransportOptions } from '../../src/transport/index.ts'
import { objectTransportContract, streamTransportContract } from '../../src/transport/testkit.ts'
import { memoryTransport } from './memory-transport.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

const objectFaults: Readonly<Record<string, (store: ObjectStore) => Partial<ObjectStore>>> = {
  /** Looks, and puts later. */
  'looks-then-puts': (store) => ({
    async put(key, body, options = {}) {
      const { ifAbsent, ...rest } = options
      if (ifAbsent && (await store.get(key)) !== undefined) return 'exists'
      await turn()
      return await store.put(key, body, rest)
    },
  }),
  'ignores-after': (store) => ({ list: (prefix, options = {}) => store.list(prefix, { ...options, after: '' }) }),
  'one-page': (store) => ({
    async *list(prefix, options) {
      let count = 0
      for await (const info of store.list(prefix, options)) if (count++ < 1000) yield info
    },
  }),
  'ignores-signals': (store) => ({ get: (key) => store.get(key) }),
  /** As one that keeps objects in folders without telling a folder from an object. */
  'folders-hide-objects': (store) => ({
    async put(key, body, options) {
      await store.delete([key.slice(0, key.lastIndexOf('/'))])
      return await store.put(key, body, options)
    },
  }),
}

function faultyObjects(fault: string): ObjectTransport {
  const transport = memoryTransport(objects)
  return {
    ...transport,
    async open(address, options) {
      const store = await transport.open(address, options)
      return { ...store, ...objectFaults[fault]!(store) }
    },
  }
}
const objects = new Map<string, Uint8Array>()

const streamFaults: Readonly<Record<string, (stream: Duplex) => Duplex>> = {
  /** Takes whatever is written, into memory. */
  'no-back-pressure': (stream) => {
    const buffer = new PassThrough({ highWaterMark: 2 ** 40 })
    buffer.pipe(stream)
    return Duplex.from({ writable: buffer, readable: stream })
  },
  /** Says that it has finished before anything has left. */
  'finishes-early': (stream) =>
    new Duplex({
      allowHalfOpen: false,
      read: () => {},
      write(chunk, _, done) {
        if (chunk.length > 2 ** 20) setImmediate(() => stream.write(chunk))
        else stream.write(chunk)
        done()
      },
      final: (done) => done(),
      destroy(error, done) {
        stream.destroy()
        done(error)
      },
    }),
}

function faultyStreams(fault: string): StreamTransport {
  const transport = new TcpTransport()
  const { contractVersion, kind, schemes } = transport
  return {
    ...{ contractVersion, kind, schemes },
    listen: transport.listen.bind(transport),
    connect: async (address: URL, options: TransportOptions) => {
      const stream = await transport.connect(address, options)
      return streamFaults[fault]!(stream).on('error', () => {})
    },
  }
}

const fault = process.env['FAULT'] ?? ''
if (fault in objectFaults) {
  objectTransportContract(
    fault,
    () => faultyObjects(fault),
    () => new URL('memory://here/'),
  )
} else {
  streamTransportContract(
    fault,
    () => faultyStreams(fault),
    () => new URL('tcp://127.0.0.1:0'),
  )
}
