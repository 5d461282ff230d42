// Answers the hook `vmstore:transports`: what this plugin carries bytes over.

import type { TransportDriver } from 'vmstore/transport'
import { TcpTransport } from './tcp-transport.ts'

export default async function transports(): Promise<TransportDriver[]> {
  return [new TcpTransport()]
}
