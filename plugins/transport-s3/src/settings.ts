// What an address and the configuration's transports.s3 say. Secrets stand in neither: they come from the SDK's own chain
// (environment, profiles, SSO, roles of a machine or a pod).

import { TransportError } from 'vmstore/transport'

export interface Place {
  readonly bucket: string
  /** Empty, or with a slash at its end. */
  readonly prefix: string
}

export interface Settings {
  /** Of a store that is not AWS. */
  readonly endpoint: URL | undefined
  /** Missing: what the SDK finds, or us-east-1. */
  readonly region: string | undefined
  /** The bucket in the path instead of in the host's name; the default where there is an endpoint. */
  readonly pathStyle: boolean
  /** Of ~/.aws/config and ~/.aws/credentials. */
  readonly profile: string | undefined
  /** Sent with every request, such as `X-Tigris-Consistent: true`. */
  readonly headers: Readonly<Record<string, string>>
  /** At once, to the store's host. */
  readonly connections: number
  /** For an answer to begin; bytes have time of their own beside it. */
  readonly timeoutMs: number
}

export const settingNames = ['endpoint', 'region', 'pathStyle', 'profile', 'headers', 'connections', 'timeoutSeconds']
const mostConnections = 256

/** @throws TransportError */
export function placeOf(address: URL): Place {
  let path: string | undefined
  try {
    path = decodeURIComponent(address.pathname.replace(/^\//, ''))
  } catch {}
  const { hostname: bucket, username, password, port, search, hash } = address
  const isPlain = !(username || password || port || search || hash)
  if (
    address.protocol !== 's3:' ||
    !isPlain ||
    path === undefined ||
    !/^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$/.test(bucket)
  ) {
    // Not the address itself: it may hold what should not be told.
    throw new TransportError(
      'missing',
      `the address of a bucket is s3://bucket/prefix, without credentials, port or query`,
    )
  }
  return { bucket, prefix: path === '' || path.endsWith('/') ? path : `${path}/` }
}

/** @throws TransportError */
export function settingsOf(given: Readonly<Record<string, unknown>>): Settings {
  const endpoint = endpointOf(text(given, 'endpoint'))
  const { pathStyle = endpoint !== undefined, connections = 64, timeoutSeconds = 60 } = given
  const headers = text(given, 'headers')
  if (typeof pathStyle !== 'boolean') throw wrong('pathStyle', 'is true or false')
  if (!isNumber(connections, 1, mostConnections)) throw wrong('connections', `is a number from 1 to ${mostConnections}`)
  if (!isNumber(timeoutSeconds, 0.01, 3600)) throw wrong('timeoutSeconds', 'is a number up to 3600')
  return {
    endpoint,
    region: text(given, 'region'),
    pathStyle,
    profile: text(given, 'profile'),
    headers: headers === undefined ? {} : headersOf(headers),
    connections: Math.floor(connections),
    timeoutMs: timeoutSeconds * 1000,
  }
}

function endpointOf(given: string | undefined): URL | undefined {
  if (given === undefined) return undefined
  const url = URL.parse(given)
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search) return url
  throw wrong('endpoint', 'is a URL such as https://s3.example.com, without credentials')
}

/** 'Name: value; Name: value', as a setting is one text. */
function headersOf(given: string): Record<string, string> {
  const headers = given.split(';').map((header) => /^\s*([\w-]+):\s*([ -~]*?)\s*$/.exec(header))
  if (!headers.every((header) => header !== null)) throw wrong('headers', 'is written as Name: value; Name: value')
  return Object.fromEntries(headers.map(([, name, value]) => [name!.toLowerCase(), value!]))
}

function text(given: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = given[name]
  if (value === undefined || (typeof value === 'string' && value !== '')) return value
  if (typeof value === 'number') return String(value)
  throw wrong(name, 'is a text')
}

function isNumber(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && value >= least && value <= most
}

function wrong(name: string, why: string): TransportError {
  return new TransportError('denied', `the setting transports.s3.${name} cannot be used: it ${why}`)
}
