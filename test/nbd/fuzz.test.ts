// Broken and cut streams against the server, from a seed, for a bounded time: SEED=… FUZZ_SECONDS=… for other or longer
// runs. Every round has a seed of its own, so that SEED repeats the one that failed. What a client does is chosen by the
// seed; how the kernel cuts what is sent is not.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { TlsServer } from '../../src/nbd/server/tls-server.ts'
import { Authority, layOut } from './certificates.ts'
import { type Credentials, fuzzRound } from './fuzz-round.ts'
import { temporaryFolder } from './harness.ts'

const first = Number(process.env['SEED'] ?? randomInt(2 ** 31))
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 6)
/** What the process may have more of in buffers after many rounds than after one. */
const leakMostBytes = 32 * 1024 * 1024

/** Bytes of buffers that somebody can still reach. */
function reachableBufferBytes(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  return process.memoryUsage().arrayBuffers
}

describe(`nbd fuzzing (seed ${first})`, () => {
  const folder = temporaryFolder()
  let credentials: Credentials
  before(async () => {
    const authority = await Authority.make()
    const server = await authority.issue('server', { hosts: ['localhost'], purpose: 'server' })
    const files = layOut(join(folder.path, 'pki'), { authority: authority.certificate, server })
    const tls = await TlsServer.open({ folder: files, verifyPeer: false })
    credentials = { tls, trust: { ca: authority.certificate, servername: 'localhost' } }
  })
  after(() => folder[Symbol.dispose]())

  it(`broken and cut streams are survived, judged and forgotten, for ${seconds} s`, async function () {
    this.timeout((seconds + 600) * 1000)
    const end = Date.now() + seconds * 1000
    let startBytes: number | undefined
    let rounds = 0
    for (let seed = first; Date.now() < end || rounds < 3; seed++) {
      await fuzzRound(seed, credentials).catch((error: unknown) => {
        throw new Error(`SEED=${seed} repeats it: ${String(error)}`, { cause: error })
      })
      startBytes ??= reachableBufferBytes()
      rounds++
    }
    process.stdout.write(`      ${rounds} rounds from seed ${first}\n`)
    const grownBytes = reachableBufferBytes() - startBytes!
    assert.ok(grownBytes < leakMostBytes, `${grownBytes} bytes of buffers are left of ${rounds} rounds`)
  })
})
