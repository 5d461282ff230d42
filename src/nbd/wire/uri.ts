// NBD URIs, both ways (uri.md of the NBD project): nbd://host:port/name, nbd+unix:///name?socket=/path, and nbds for TLS.
// Pure. What parses formats back to the same address; an unknown parameter is left aside, as the document asks.

import type { ListenAddress } from '../../guest/listener.ts'
import { defaultPort, stringMaxBytes } from './constants.ts'

export interface NbdUri {
  readonly tls: boolean
  readonly address: ListenAddress
  /** '' is the default export. */
  readonly exportName: string
  /** For clients, if the URI has any of them. */
  readonly tlsOptions?: NbdTlsOptions
}

/** By libnbd's names, with `tls-` before them: tls-certificates, tls-psk-file … */
export interface NbdTlsOptions {
  /** A folder with ca-cert.pem, client-cert.pem and client-key.pem, or keys.psk. */
  readonly certificates?: string
  readonly pskFile?: string
  /** Whose preshared key. Default: the user that the process runs as. */
  readonly username?: string
  /** What the server's certificate must say. Default: the host that is called; over a Unix socket nothing. */
  readonly hostname?: string
  /** Default true. */
  readonly verifyPeer?: boolean
}

export class NbdUriError extends Error {
  constructor(text: string, reason: string, options?: ErrorOptions) {
    super(`${JSON.stringify(text.slice(0, 200))} is not an NBD URI: ${reason}`, options)
    this.name = 'NbdUriError'
  }
}

const shape = /^(nbds?)(\+unix)?:(?:\/\/([^/?#]*))?(\/[^?#]*)?(?:\?([^#]*))?$/i
const authorityShape = /^(?:[^@]*@)?(\[[0-9a-f:.]+(?:%25[^\]]+)?\]|[^:@[\]]*)(?::([0-9]*))?$/i

/** Throws NbdUriError. */
export function parseNbdUri(text: string): NbdUri {
  const match = shape.exec(text)
  if (match === null) throw new NbdUriError(text, 'it must begin with nbd://, nbds://, nbd+unix:/// or nbds+unix:///')
  const [, scheme = '', unix, authority = '', path = '', query = ''] = match
  const exportName = decode(text, path.slice(1))
  if (Buffer.byteLength(exportName) > stringMaxBytes || exportName.includes('\0')) {
    throw new NbdUriError(text, `an export name has at most ${stringMaxBytes} bytes and no NUL`)
  }
  const tls = scheme.toLowerCase() === 'nbds'
  const address = unix === undefined ? tcpAddress(text, authority) : unixAddress(text, authority, query)
  const tlsOptions = tlsOptionsOf(text, authority, query)
  return { tls, address, exportName, ...(Object.keys(tlsOptions).length > 0 && { tlsOptions }) }
}

export function formatNbdUri({ tls, address, exportName, tlsOptions = {} }: NbdUri): string {
  const scheme = tls ? 'nbds' : 'nbd'
  const name = exportName === '' ? '' : encode(exportName)
  const parameters = [
    ['socket', address.transport === 'unix' ? address.path : undefined],
    ...tlsParameters.map(([parameter, key]) => [parameter, tlsOptions[key]] as const),
    ['tls-verify-peer', tlsOptions.verifyPeer === undefined ? undefined : String(Number(tlsOptions.verifyPeer))],
  ] as const
  const pairs = parameters.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encode(value)}`]))
  const query = pairs.length === 0 ? '' : `?${pairs.join('&')}`
  if (address.transport === 'unix') return `${scheme}+unix:///${name}${query}`
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${scheme}://${host}:${address.port}${name === '' && query === '' ? '' : '/'}${name}${query}`
}

const tlsParameters = [
  ['tls-certificates', 'certificates'],
  ['tls-psk-file', 'pskFile'],
  ['tls-username', 'username'],
  ['tls-hostname', 'hostname'],
] as const

function tlsOptionsOf(text: string, authority: string, query: string): NbdTlsOptions {
  const options: { -readonly [Key in keyof NbdTlsOptions]: NbdTlsOptions[Key] } = {}
  // uri.md: "The userinfo field is used to supply a username for certain less common sorts of TLS authentication."
  if (authority.includes('@')) options.username = decode(text, authority.slice(0, authority.lastIndexOf('@')))
  for (const [parameter, key] of tlsParameters) {
    const value = parameterOf(text, query, parameter)
    if (value !== undefined) options[key] = value
  }
  const verify = parameterOf(text, query, 'tls-verify-peer')
  if (verify === undefined) return options
  if (!/^(?:0|1|false|true)$/.test(verify)) throw new NbdUriError(text, 'tls-verify-peer is 0 or 1')
  return { ...options, verifyPeer: verify === '1' || verify === 'true' }
}

function tcpAddress(text: string, authority: string): ListenAddress {
  const match = authorityShape.exec(authority)
  if (match === null) throw new NbdUriError(text, `${JSON.stringify(authority)} is not host:port`)
  const [, host = '', portText = ''] = match
  const port = portText === '' ? defaultPort : Number(portText)
  if (port > 65_535) throw new NbdUriError(text, `port ${portText} is above 65535`)
  const plain = host.startsWith('[') ? host.slice(1, -1) : host
  return { transport: 'tcp', host: plain === '' ? 'localhost' : decode(text, plain), port }
}

function unixAddress(text: string, authority: string, query: string): ListenAddress {
  if (!/^(?:[^@]*@)?$/.test(authority)) {
    throw new NbdUriError(text, 'a Unix socket has no host: write nbd+unix:///name?socket=/path')
  }
  const path = parameterOf(text, query, 'socket')
  if (path === undefined) throw new NbdUriError(text, 'it needs one socket=/path')
  return { transport: 'unix', path }
}

/** A parameter that must not be empty, nor come twice. Not URLSearchParams: a plus sign in a path is a plus sign here. */
function parameterOf(text: string, query: string, name: string): string | undefined {
  const values = query
    .split('&')
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => decode(text, pair.slice(name.length + 1)))
  const [value] = values
  if (value === undefined) return undefined
  if (values.length > 1 || value === '' || value.includes('\0')) {
    throw new NbdUriError(text, `${name}= must have one value`)
  }
  return value
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(part)
  } catch (error) {
    throw new NbdUriError(text, 'a percent escape is broken', { cause: error })
  }
}

/** Slashes stay readable; the document asks for nothing else. */
function encode(part: string): string {
  return encodeURIComponent(part).replaceAll('%2F', '/')
}
