// A store of this plugin's over the S3 server of the tests.

import { S3Transport } from '../../../plugins/transport-s3/src/s3-transport.ts'
import { S3Server, type S3ServerOptions } from '../../../src/demo/s3/server.ts'
import type { ObjectStore } from '../../../src/transport/index.ts'
import { testOptions } from '../../../src/transport/testkit.ts'

export const key = { accessKeyId: 'AKIDTEST', secretAccessKey: 'a secret of the tests' }
const closing: (() => Promise<void>)[] = []

/** Where the SDK's chain would look beside what a test gives it: nowhere. */
const quiet = {
  AWS_EC2_METADATA_DISABLED: 'true',
  AWS_CONFIG_FILE: '/dev/null',
  AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
}

/** Sets variables of the environment for the tests of one `describe`; undefined: it is not set. */
export function withEnvironment(wanted: Readonly<Record<string, string | undefined>> = {}): void {
  const names = [...Object.keys(quiet), 'AWS_PROFILE', 'AWS_REGION', 'AWS_DEFAULT_REGION', 'AWS_SESSION_TOKEN']
  const all = {
    ...Object.fromEntries(names.map((name) => [name, undefined])),
    ...quiet,
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    ...wanted,
  }
  const saved = new Map<string, string | undefined>()
  const set = (name: string, value: string | undefined) => {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  before(() => {
    for (const [name, value] of Object.entries(all)) {
      saved.set(name, process.env[name])
      set(name, value)
    }
  })
  after(() => {
    for (const [name, value] of saved) set(name, value)
  })
}

export function closeAfterEach(): void {
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })
}

export async function startServer(options: Partial<S3ServerOptions> = {}): Promise<S3Server> {
  const server = await S3Server.start({ buckets: { bucket: {} }, keys: [key], ...options })
  closing.push(() => server.close())
  return server
}

export async function openStore(
  server: { readonly endpoint: string },
  settings: Readonly<Record<string, unknown>> = {},
  address = 's3://bucket/some/prefix',
): Promise<ObjectStore> {
  const options = testOptions({ settings: { endpoint: server.endpoint, ...settings } })
  const store = await new S3Transport().open(new URL(address), options)
  closing.push(() => store.close())
  return store
}

export async function keysIn(store: ObjectStore, prefix = '', after?: string): Promise<string[]> {
  const keys: string[] = []
  for await (const info of store.list(prefix, after === undefined ? {} : { after })) keys.push(info.key)
  return keys
}
