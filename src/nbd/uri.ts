// NBD URIs, both ways (uri.md of the NBD project): nbd://host:port/name, nbd+unix:///name?socket=/path, and nbds for TLS.
// Pure. What parses formats back to the same address; an unknown parameter is left aside, as the document asks.

import { defaultPort, stringMaxBytes } from './constants.ts'

export type NbdAddress =
  | { readonly transport: 'tcp'; readonly host: string; readonly port: number }
  | { readonly transport: 'unix'; readonly path: string }

export interface NbdUri {
  readonly tls: boolean
  readonly address: NbdAddress
  /** '' is the default export. */
  readonly exportName: string
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
  return { tls, address, exportName }
}

export function formatNbdUri(uri: NbdUri): string {
  const scheme = uri.tls ? 'nbds' : 'nbd'
  const name = uri.exportName === '' ? '' : encode(uri.exportName)
  if (uri.address.transport === 'unix') return `${scheme}+unix:///${name}?socket=${encode(uri.address.path)}`
  const host = uri.address.host.includes(':') ? `[${uri.address.host}]` : uri.address.host
  return `${scheme}://${host}:${uri.address.port}${name === '' ? '' : `/${name}`}`
}

function tcpAddress(text: string, authority: string): NbdAddress {
  const match = authorityShape.exec(authority)
  if (match === null) throw new NbdUriError(text, `${JSON.stringify(authority)} is not host:port`)
  const [, host = '', portText = ''] = match
  const port = portText === '' ? defaultPort : Number(portText)
  if (port > 65_535) throw new NbdUriError(text, `port ${portText} is above 65535`)
  const plain = host.startsWith('[') ? host.slice(1, -1) : host
  return { transport: 'tcp', host: plain === '' ? 'localhost' : decode(text, plain), port }
}

function unixAddress(text: string, authority: string, query: string): NbdAddress {
  if (authority !== '') throw new NbdUriError(text, 'a Unix socket has no host: write nbd+unix:///name?socket=/path')
  // Not URLSearchParams: a plus sign in a path is a plus sign here.
  const values = query
    .split('&')
    .filter((pair) => pair.startsWith('socket='))
    .map((pair) => decode(text, pair.slice('socket='.length)))
  const [path] = values
  if (values.length !== 1 || path === undefined || path === '' || path.includes('\0')) {
    throw new NbdUriError(text, 'it needs one socket=/path')
  }
  return { transport: 'unix', path }
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
