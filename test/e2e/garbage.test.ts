// Promise 11: any bytes on any socket of a site are answered with a defined error or a closed connection, and a guest, a
// peer and an operator beside them notice nothing.

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import type { DiskView } from '../../src/control/types.ts'
import { type Random, seededRandom } from '../random.ts'
import { sitesWithDisk } from './scenes.ts'
import { attach, begin, endSitesAfterEach, type Site, untilMigration } from './sites.ts'

const block = 4096
const mebibyte = 2 ** 20
const rounds = 60
const atOnce = 12
const longestNoise = 4096
/** A site may keep a connection that says nothing wrong yet: the test then closes it. */
const deadlinesMs = 400

/** What a stranger may begin with, so that the noise reaches deeper layers. */
const beginnings: Readonly<Record<string, readonly Buffer[]>> = {
  nbd: [
    Buffer.alloc(0),
    Buffer.from('00000003', 'hex'), // Client flags: fixed newstyle, no zeroes.
    Buffer.from('0000000349484156454f505400000007', 'hex'), // … and NBD_OPT_GO, whose length is noise.
    Buffer.from('0000000349484156454f50540000000700000010', 'hex'),
    Buffer.from('0000000149484156454f50540000000100000005', 'hex'), // EXPORT_NAME.
  ],
  peer: [
    Buffer.alloc(0),
    Buffer.from([22, 3, 1]),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.from([22, 3, 3, 1, 0]),
  ],
  control: [
    Buffer.alloc(0),
    Buffer.from('GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n'),
    Buffer.from('POST /v1/disks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n'),
    Buffer.from('GET /v1/nbd HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: nbd\r\n\r\n'),
    Buffer.from('DELETE /v1/disks/%00%ff HTTP/1.1\r\nHost: x\r\n\r\n'),
    Buffer.from('POST /v1/migrations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'),
  ],
}

describe('garbage', () => {
  endSitesAfterEach()

  type Opened = (site: Site) => Socket | Promise<Socket>
  const doors: readonly { name: string; kind: string; open: Opened }[] = [
    { name: 'the NBD Unix socket', kind: 'nbd', open: (site) => connect(site.nbdSocket) },
    { name: 'the NBD TCP port', kind: 'nbd', open: (site) => connect(site.nbdPort, '127.0.0.1') },
    { name: 'the peer port', kind: 'peer', open: (site) => connect(site.peerPort, '127.0.0.1') },
    { name: 'the control socket', kind: 'control', open: (site) => connect(site.controlSocket) },
    {
      name: 'a connection of the control socket that became one of NBD',
      kind: 'nbd',
      open: (site) => site.control.openNbd(),
    },
  ]

  for (const { name, kind, open } of doors) {
    it(`promise 11: random bytes on ${name} harm nobody`, async () => {
      const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32)
      const random = seededRandom(seed)
      const { a, b } = await sitesWithDisk(4 * mebibyte)
      const guest = await attach(a, 'web01')
      await guest.write(0, Buffer.alloc(block, 7))
      const before: DiskView = await a.control.showDisk('web01')
      const pid = a.pid
      try {
        for (let round = 0; round < rounds; round += atOnce) {
          const strangers = Array.from({ length: atOnce }, () =>
            Promise.resolve(open(a)).then((socket) => disturb(socket, noise(random, beginnings[kind]!), random)),
          )
          await guest.write(block, Buffer.alloc(block, round))
          assert((await guest.read(block, block)).equals(Buffer.alloc(block, round)))
          await Promise.all(strangers)
        }
        assert.deepEqual([a.isRunning, a.pid], [true, pid])
        await guest.flush()
        const { allocated: _, ...shown }: DiskView = await a.control.showDisk('web01')
        const { allocated: __, ...shownBefore } = before
        const writes = shownBefore.writes + rounds / atOnce
        assert.deepEqual(shown, { ...shownBefore, writes }, 'only the guest changed it, and no session is left behind')
        assert.deepEqual(
          (await a.control.listPeers()).map((peer: { name: string }) => peer.name),
          ['tokyo'],
        )
        const { id } = await begin(a, b, 'web01', 'now')
        await untilMigration(a, id, ({ state }) => state === 'done')
        assert.deepEqual(a.logged('"level":60'), [])
        assert.deepEqual(a.logged('nobody foresaw'), [])
      } catch (error) {
        throw new Error(`SEED=${seed}: ${(error as Error).message}`, { cause: error })
      }
    })
  }
})

function noise(random: Random, from: readonly Buffer[]): Buffer {
  const length = 1 + random.integer(random.chance(0.5) ? 64 : longestNoise)
  const bytes = Buffer.from(Array.from({ length }, () => random.integer(256)))
  return Buffer.concat([random.pick(from), bytes])
}

/** Sends it in up to three parts, and waits until the site has hung up, or for as long as a stranger has deadlines. */
async function disturb(socket: Socket, bytes: Buffer, random: Random): Promise<void> {
  const [first, second] = [random.integer(bytes.length), random.integer(bytes.length)].sort((one, two) => one - two)
  const mayEnd = random.chance(0.5)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket.on('error', () => {}) // Reset by the site: as good an answer as any.
  socket.resume()
  for (const part of [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]) {
    if (part.length > 0) await written(socket, part)
  }
  if (mayEnd) socket.end()
  const deadlines = setTimeout(() => socket.destroy(), deadlinesMs)
  await closed
  clearTimeout(deadlines)
}

function written(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve()
    socket.write(bytes, () => resolve())
  })
}
