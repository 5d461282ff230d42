// Ports that a test asks for by number, because who listens there goes away and comes back: nobody else takes them meanwhile,
// nor does another run of the tests. What always holds: a port has one claim, an abstract Unix socket. Its name can be taken
// once in a network namespace, just as the port, and it goes with the process that took it.

import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ListenOptions, type Server } from 'node:net'

/** Below Linux's ephemeral ports, so that nobody who dials out gets a port that is free for the moment. */
const range = { first: 20_000, count: 12_000 }
const attemptsMax = 1000

const claims = new Set<Server>()

/** Where nobody listens, and nobody else will until `releasePorts`. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const port = range.first + randomInt(range.count)
    const claim = await listening({ path: `\0vmstore-test-port-${port}` })
    if (claim === undefined) continue
    const trial = await listening({ port, host: '127.0.0.1' })
    await closed(trial ?? claim)
    if (trial === undefined) continue
    claims.add(claim.unref())
    return port
  }
  throw new Error('no free port was found')
}

/** To be called when nobody listens any more at the ports that were given out. */
export async function releasePorts(): Promise<void> {
  for (const claim of claims) {
    claims.delete(claim)
    await closed(claim)
  }
}

/** undefined: somebody else does. */
async function listening(options: ListenOptions): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy())
  try {
    server.listen(options)
    await once(server, 'listening')
    return server
  } catch {
    return undefined
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
