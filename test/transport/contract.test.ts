// The object suite proves itself over a store in memory; transport-tcp runs the stream suite.

import { objectTransportContract } from '../../src/transport/testkit.ts'
import { memoryTransport } from './memory-transport.ts'

const objects = new Map<string, Uint8Array>()
objectTransportContract(
  'memory',
  () => memoryTransport(objects),
  () => new URL('memory://here/'),
)
