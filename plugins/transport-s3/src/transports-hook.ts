// Answers the hook `vmstore:transports`: what this plugin keeps objects in.

import type { TransportDriver } from 'vmstore/transport'
import { S3Transport } from './s3-transport.ts'

export default async function transports(): Promise<TransportDriver[]> {
  return [new S3Transport()]
}
