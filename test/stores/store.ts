// What the tests of a real store need of it, whichever it is.

import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3'

export interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

export interface RealStore {
  /** As in 'radosgw of Ceph 18.2.7'. */
  readonly version: string
  readonly endpoint: string
  readonly credentials: Credentials
  end(): Promise<void>
}

/** Makes buckets, which a transport does not. */
export async function makeBuckets(store: RealStore, plain: string, versioned?: string): Promise<void> {
  const { endpoint, credentials } = store
  const client = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: plain }))
  if (versioned) {
    await client.send(new CreateBucketCommand({ Bucket: versioned }))
    const VersioningConfiguration = { Status: 'Enabled' } as const
    await client.send(new PutBucketVersioningCommand({ Bucket: versioned, VersioningConfiguration }))
  }
  client.destroy()
}

export async function answers(url: string): Promise<boolean> {
  const { ok } = await fetch(url, { signal: AbortSignal.timeout(3000) })
  return ok
}
