// A connection that is negotiated here and used by somebody else, who gets its descriptor: the kernel's NBD client, which
// knows simple replies and nothing more. Always: not a byte of the transmission phase was read, and nothing was agreed on but the export.

import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { descriptorOf, duplicate, setTcpUserTimeout } from '../../system/sockets.ts'
import { ProtocolError } from '../wire/negotiation-codecs.ts'
import type { NbdUri } from '../wire/uri.ts'
import { type NbdConnectOptions, withNegotiation, withNegotiationOver } from './connection.ts'
import type { ClientNegotiation, NbdExportInfo } from './negotiation.ts'

/** A path that has gone silent is a dead one after so long; whoever has the connection would wait for a quarter of an hour. */
const silenceMs = 20_000
const keepAliveMs = 10_000

export interface BareConnection {
  /** The caller's to close. */
  readonly fd: number
  readonly info: NbdExportInfo
}

type Options = Pick<NbdConnectOptions, 'signal' | 'connectTimeoutMs'>

/** Opens the URI's export, in the clear. Throws NbdConnectionError, NbdRefusedError, or the signal's reason. */
export function openBare(uri: NbdUri, options: Options = {}): Promise<BareConnection> {
  assert(!uri.tls, 'a descriptor has no TLS')
  return withNegotiation(uri, options, (socket, negotiation) => {
    if (uri.address.transport === 'tcp') socket.setKeepAlive(true, keepAliveMs)
    return handOver(socket, negotiation, uri)
  })
}

/** As openBare(), over a connection that is there and was not read from. */
export function openBareOver(connected: Socket, exportName: string, options: Options = {}): Promise<BareConnection> {
  return withNegotiationOver(connected, options, (socket, negotiation) => handOver(socket, negotiation, { exportName }))
}

async function handOver(
  socket: Socket,
  negotiation: ClientNegotiation,
  { exportName, address }: Pick<NbdUri, 'exportName'> & Partial<NbdUri>,
): Promise<BareConnection> {
  await negotiation.replyStyle({ structuredReplies: false })
  const info = await negotiation.open(exportName)
  if (negotiation.release().length > 0) throw new ProtocolError('bytes came behind the end of the negotiation')
  const fd = duplicate(descriptorOf(socket))
  if (address?.transport === 'tcp') setTcpUserTimeout(fd, silenceMs)
  socket.destroy() // Closes its descriptor and shuts nothing down.
  return { fd, info }
}
