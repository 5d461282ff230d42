// A crowd of clients that ask without a pause, for bench/neighbours.ts: `node bench/storm.ts status|zero URI CLIENTS SECONDS`.
// Prints what was answered.

import { NbdClient } from '../src/nbd/client/client.ts'

const requestsInFlight = 4
const zeroedBytes = 64 * 1024

const [kind, uri = '', clientCount, secondCount] = process.argv.slice(2)
if (kind !== 'status' && kind !== 'zero') throw new Error(`a storm of ${kind} is none that is known`)
const untilMs = performance.now() + Number(secondCount) * 1000
let answers = 0

async function ask(client: NbdClient): Promise<void> {
  const { sizeBytes } = client.info()
  for (; performance.now() < untilMs; answers++) {
    if (kind === 'status') await client.blockStatus(0, Math.min(sizeBytes, 2 ** 31))
    else {
      const offset = Math.floor((Math.random() * sizeBytes) / zeroedBytes) * zeroedBytes
      await client.writeZeroes(offset, Math.min(zeroedBytes, sizeBytes - offset))
    }
  }
}

const open = () => NbdClient.connect(uri, { metaContexts: ['base:allocation'] })
const clients = await Promise.all(Array.from({ length: Number(clientCount) }, open))
await Promise.all(clients.flatMap((client) => Array.from({ length: requestsInFlight }, () => ask(client))))
await Promise.all(clients.map((client) => client.disconnect()))
console.log(answers)
