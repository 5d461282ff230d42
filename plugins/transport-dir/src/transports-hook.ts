// Answers the hook `vmstore:transports`: what this plugin keeps objects in.

import type { TransportDriver } from 'vmstore/transport'
import { DirTransport } from './dir-transport.ts'

export default async function transports(): Promise<TransportDriver[]> {
  return [new DirTransport()]
}
