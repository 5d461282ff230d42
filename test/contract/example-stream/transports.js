// A transport as a third party would write it: plain JavaScript, one file, nothing of vmstore but its contract.
// Carries byte streams over Unix sockets: unix:///path/of/socket.

import { connect, createServer } from 'node:net'
import { contractVersion, TransportError } from 'vmstore/transport'

const unavailable = (error) => new TransportError('unavailable', error.message, { cause: error })

/** @type {import('vmstore/transport').StreamTransport} */
export const unixTransport = {
  contractVersion,
  kind: 'stream',
  schemes: ['unix'],

  listen(address, accept, { signal, log }) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', (error) => log.debug({ err: error }, 'a connection broke'))
        accept(socket)
      })
      server.once('error', (error) => reject(unavailable(error)))
      server.listen(decodeURIComponent(address.pathname), () => {
        resolve({ address, close: async () => void server.close() })
      })
    })
  },

  connect(address, { signal, log }) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const socket = connect({ path: decodeURIComponent(address.pathname), allowHalfOpen: true })
      const giveUp = () => {
        socket.destroy()
        reject(signal.reason)
      }
      const settle = () => signal.removeEventListener('abort', giveUp)
      signal.addEventListener('abort', giveUp, { once: true })
      socket.on('error', (error) => {
        settle()
        log.debug({ err: error }, 'a connection broke')
        reject(unavailable(error))
      })
      socket.once('connect', () => {
        settle()
        resolve(socket)
      })
    })
  },
}

export default async function transports() {
  return [unixTransport]
}
