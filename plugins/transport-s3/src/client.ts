// The SDK's client, tuned for chunks: real Agents (without them a put of 2 MiB or more leaves the pool), no wait for
// '100 Continue', no checksums beside the ones that are signed, one attempt (its retries share a small budget; whoever asked
// tries again), and the hash of a body from node:crypto.

import { createHash } from 'node:crypto'
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { Duplex } from 'node:stream'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import type { Log, TransportOptions } from 'vmstore/transport'
import type { Settings } from './settings.ts'

const connectTimeoutMs = 10_000
/** What the SDK takes where nothing names a region; most stores that are not AWS do not look. */
const fallbackRegion = 'us-east-1'

export interface Agents {
  readonly httpAgent: HttpAgent
  readonly httpsAgent: HttpsAgent
}

export function makeAgents(settings: Settings, options: TransportOptions): Agents {
  const agentOptions = { keepAlive: true, maxSockets: settings.connections, scheduling: 'lifo' } as const
  const agents = { httpAgent: new HttpAgent(agentOptions), httpsAgent: new HttpsAgent(agentOptions) }
  for (const agent of Object.values(agents)) tuneSockets(agent, options)
  return agents
}

/** Reads the sources of credentials anew, each time that it is called. */
export async function makeClient(settings: Settings, agents: Agents, log: Log): Promise<S3Client> {
  const { endpoint, profile, pathStyle } = settings
  // `ignoreCache` goes on to those who read ~/.aws: else a file that was renewed is not seen by this process.
  const config: S3ClientConfig & { ignoreCache: boolean } = {
    ...(endpoint && { endpoint: endpoint.href.replace(/\/$/, '') }),
    ...(profile && { profile }),
    forcePathStyle: pathStyle,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    followRegionRedirects: false,
    requestHandler: { ...agents, connectionTimeout: connectTimeoutMs, logger: loggerOf(log) },
    ignoreCache: true,
  }
  const client = new S3Client(settings.region ? { ...config, region: settings.region } : await withRegion(config))
  addHeaders(client, settings.headers)
  return client
}

/** What the SDK would else write to the console, which is not its own. */
function loggerOf(log: Log) {
  const tell = (level: keyof Log) => (text: unknown) => log[level]({}, String(text))
  return { debug: tell('debug'), info: tell('debug'), warn: tell('warn'), error: tell('error') }
}

async function withRegion(config: S3ClientConfig): Promise<S3ClientConfig> {
  try {
    return { ...config, region: await new S3Client(config).config.region() }
  } catch {
    return { ...config, region: fallbackRegion }
  }
}

function addHeaders(client: S3Client, headers: Readonly<Record<string, string>>): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const request = args.request as { headers: Record<string, string>; body?: unknown }
      Object.assign(request.headers, headers)
      if (request.body instanceof Uint8Array) {
        request.headers['x-amz-content-sha256'] = createHash('sha256').update(request.body).digest('hex')
      }
      return await next(args)
    },
    { step: 'build', name: 'vmstoreHeaders' },
  )
}

/** A socket has a descriptor once it is connected. */
function tuneSockets(agent: HttpAgent, options: TransportOptions): void {
  const create = agent.createConnection.bind(agent)
  agent.createConnection = (...given: Parameters<typeof create>): Duplex | null | undefined => {
    const socket = create(...given)
    socket?.once('connect', () => {
      const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } }
      if (typeof handle?.fd === 'number' && handle.fd >= 0) options.tune(handle.fd)
    })
    return socket
  }
}
