// A transport as a third party would write it: plain JavaScript, one file, nothing of vmstore but its contract.
// Carries byte streams over Unix sockets: unix:///path/of/socket.

import { connect, createServer } from 'node:net'
import { contractVersion, TransportError } from 'vmstore/transport'

const unavailable = (error) => new TransportError('unavailable', error.message, { cause: error })
/** A stream that breaks closes, which vmstore sees; without a listener the error would end the process. */
const guard = (socket, log) => socket.on('error', (error) => log.debug({ err: error }, 'a connection broke'))

/** @type {import('vmstore/transport').StreamTransport} */
export const unixTransport = {
  contractVersion,
  kind: 'stream',
  schemes: ['unix'],

  listen(address, accept, { signal, log }) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const server = createServer((socket) => {
        guard(socket, log)
        accept(socket)
      })
      server.once('error', (error) => reject(unavailable(error)))
      server.listen(decodeURIComponent(address.pathname), () => {
        resolve({ address, close: async () => void server.close() })
      })
    })
  },

  connect(address, { signal, log, settings }) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const socket = connect({ path: decodeURIComponent(address.pathname), noDelay: settings.noDelay !== false })
      guard(socket, log)
      const giveUp = () => {
        socket.destroy()
        reject(signal.reason)
      }
      const settle = (outcome) => () => {
        signal.removeEventListener('abort', giveUp)
        outcome()
      }
      signal.addEventListener('abort', giveUp, { once: true })
      socket.once('error', (error) => settle(() => reject(unavailable(error)))())
      socket.once(
        'connect',
        settle(() => resolve(socket)),
      )
    })
  },
}

/** What the hook `vmstore:transports` answers. */
export default async function transports() {
  return [unixTransport]
}
