// One round of fuzzing, all of it chosen by a seed: a server with tight limits, three exports that answer as they like, a
// dozen clients that misbehave at the same time, and a bystander on an export of its own, who must not notice.

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import type { NbdLimits } from '../../src/nbd/server/limits.ts'
import type { TlsServer } from '../../src/nbd/server/tls-server.ts'
import { ClientFlag, Command, OptionType, ReplyType } from '../../src/nbd/wire/constants.ts'
import { type Random, seededRandom } from '../random.ts'
import { connected, converse, within } from './fuzz-client.ts'
import { type Found, longestRun, tags, UnrulyExport } from './fuzz-export.ts'
import { judge } from './fuzz-judge.ts'
import { announce, brokenNegotiation, type Opening, seenRequests, transmission, validOpening } from './fuzz-stream.ts'
import { RawClient, serve, type TestServer, until } from './harness.ts'

const mebibyte = 1024 * 1024
const clientsMax = 12
/** What one connection has received and not used up: a read of the socket, twice, and what lay before it. */
const keptMostBytes = 600 * 1024
/** More would be no accident. */
const foreignRunMost = 15

export interface Credentials {
  readonly tls: TlsServer
  readonly trust: ConnectionOptions
}

interface Stage {
  readonly site: TestServer
  readonly address: { readonly path: string } | { readonly host: string; readonly port: number }
  readonly targets: readonly UnrulyExport[]
  readonly found: Found
  readonly trust: ConnectionOptions | undefined
  readonly hello: Buffer
}

function limitsOf(random: Random): Partial<NbdLimits> {
  return {
    inFlightRequests: random.pick([1, 4, 256]),
    inFlightBytes: random.pick([1, 4]) * mebibyte,
    payloadBytes: random.pick([64 * 1024, mebibyte]),
    outputBytes: random.pick([1024, 64 * 1024, 512 * 1024]),
    serverBytes: random.pick([4, 16, 64]) * mebibyte,
    memoryWaitMs: 500,
    batchRequests: random.pick([1, 16, 128]),
    extents: random.pick([1, 8, 512]),
    pollMs: 0,
    lingerMs: 5000,
  }
}

/** Throws at the first thing that must not be. `credentials`: TLS is offered, and some use it. */
export async function fuzzRound(seed: number, credentials: Credentials): Promise<void> {
  const random = seededRandom(seed)
  const findings: string[] = []
  const found: Found = (sentence) => findings.push(sentence)
  const isSecure = random.chance(0.3)
  const mood = { late: random.pick([0, 0.3, 1]), fault: random.pick([0, 0.02, 0.2]) }
  const exportOf = (name: keyof typeof tags, sizeBytes: number, own = mood) =>
    new UnrulyExport({
      name,
      tag: tags[name],
      sizeBytes,
      random: seededRandom(random.integer(2 ** 32)),
      mood: own,
      found,
    })
  const alpha = exportOf('alpha', mebibyte + 3000)
  const bravo = exportOf('bravo', 300_001)
  const quiet = exportOf('bystander', mebibyte, { late: 0.5, fault: 0 })
  const limits = limitsOf(random)
  await using site = await serve([alpha, bravo, quiet], limits, isSecure ? { tls: credentials.tls } : {})
  // With credentials, TCP would demand TLS.
  const isTcp = !isSecure && random.chance(0.4)
  const address = isTcp ? await tcpAddress(site) : { path: site.path }
  const trust = isSecure ? credentials.trust : undefined
  const stage = { site, address, targets: [alpha, bravo], found, trust, hello: await clientHello(credentials.trust) }
  const clients = Array.from({ length: 1 + random.integer(clientsMax) }, () => seededRandom(random.integer(2 ** 32)))
  const memoryMost = limits.serverBytes! + (clients.length + 1) * keptMostBytes
  const watch = watchMemory(site, memoryMost, found)
  const bystander = await Bystander.open(site, quiet, seededRandom(random.integer(2 ** 32)))
  const bystanding = bystander.run()
  await Promise.all(clients.map((own) => oneClient(stage, own)))
  await within(
    until(() => site.server.sessions <= 1),
    'the server ends every session whose client has left',
  )
  bystander.leave()
  await within(bystanding, 'the bystander is answered').catch((error: Error) => found(error.message))
  await within(
    until(() => site.server.sessions === 0 && site.server.heldBytes === 0),
    'sessions and memory go to 0',
  )
  watch.stop()
  for (const { name, closes, opens } of [alpha, bravo, quiet]) assert.equal(closes, opens, `closes of ${name}`)
  assert.deepEqual(findings, [])
  assert.deepEqual(site.log.filter(isUnexpected), [])
}

/** Errors that nobody planted, at whatever level they are told. */
function isUnexpected({ level, facts, message }: TestServer['log'][number]): boolean {
  const { err } = facts as { readonly err?: unknown }
  const isOurFault = err instanceof TypeError || err instanceof RangeError || err instanceof assert.AssertionError
  return isOurFault || (level === 'error' && !/planted/.test(`${message} ${String(err)}`))
}

async function tcpAddress({ server }: TestServer): Promise<{ host: string; port: number }> {
  const { uri } = await server.listen('nbd://127.0.0.1:0')
  const { hostname, port } = new URL(uri)
  return { host: hostname, port: Number(port) }
}

function watchMemory({ server }: TestServer, mostBytes: number, found: Found): { stop(): void } {
  let isOn = true
  const look = (): void => {
    if (!isOn) return
    if (server.heldBytes > mostBytes) found(`${server.heldBytes} bytes are held, where ${mostBytes} may be`)
    if (server.heldBytes < 0) found(`${server.heldBytes} bytes are held`)
    setImmediate(look)
  }
  look()
  return {
    stop() {
      isOn = false
    },
  }
}

async function oneClient(stage: Stage, random: Random): Promise<void> {
  const of = random.pick(stage.targets)
  const kind = random.pick(
    stage.trust
      ? (['secure', 'secure', 'negotiation'] as const)
      : (['plain', 'plain', 'plain', 'negotiation'] as const),
  )
  if (kind === 'negotiation') {
    const socket = await connectTo(stage)
    const { received } = await converse(socket, random, brokenNegotiation(random, of, stage.hello), stage.found)
    scan(stage, received, ['bystander'])
    return
  }
  const opening = validOpening(random, of.name)
  const socket = kind === 'plain' ? await connectTo(stage) : await connectSecurely(stage, opening)
  const stream = transmission(random, of, opening.style, 0.6)
  const { requests, isSound } = seenRequests(stream, opening.style)
  announce(requests, of)
  // Behind TLS the flags and the greeting have been exchanged before.
  const bytes = kind === 'plain' ? opening.bytes : opening.bytes.subarray(4)
  const { received, isComplete } = await converse(socket, random, Buffer.concat([bytes, stream]), stage.found)
  scan(stage, received, ['bystander', of.name === 'alpha' ? 'bravo' : 'alpha'])
  const wasDropped = stage.site.log.some(({ message }) => message.includes('held the most memory'))
  judge({
    opening,
    of,
    requests,
    received: kind === 'plain' ? received : Buffer.concat([Buffer.alloc(18), received]),
    endedWell: isComplete && isSound && !wasDropped,
    found: stage.found,
  })
}

/** Nothing of these exports is in what the client got. */
function scan({ found }: Stage, received: Buffer, foreign: readonly (keyof typeof tags)[]): void {
  for (const name of foreign) {
    const run = longestRun(received, tags[name])
    if (run > foreignRunMost) found(`a client of another export got ${run} bytes of ${name}`)
  }
}

async function connectTo({ address }: Stage): Promise<Socket> {
  const socket = connect(address)
  await connected(socket)
  return socket
}

async function connectSecurely({ site, trust }: Stage, { hasZeroes }: Opening): Promise<Socket> {
  const plain = await RawClient.connect(site.path)
  await plain.greet(ClientFlag.fixedNewstyle | (hasZeroes ? 0 : ClientFlag.noZeroes))
  const [reply] = await plain.option(OptionType.startTls)
  assert.equal(reply!.type, ReplyType.ack)
  const { socket } = await plain.secure(trust!)
  socket.removeAllListeners('data')
  return socket
}

/** The first bytes of a TLS client. */
function clientHello(trust: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        done()
        resolve(chunk)
        wire.destroy()
      },
    })
    connectTls({ ...trust, socket: wire }).on('error', () => {})
  })
}

/** Writes, zeroes and reads, one after the other, and knows what every byte has to be. */
class Bystander {
  readonly #client: RawClient
  readonly #of: UnrulyExport
  readonly #random: Random
  readonly #known: Buffer
  #isLeaving = false

  private constructor(client: RawClient, of: UnrulyExport, random: Random) {
    this.#client = client
    this.#of = of
    this.#random = random
    this.#known = Buffer.from(of.bytes)
    of.mayBeZero.fill(1)
  }

  static async open({ path }: TestServer, of: UnrulyExport, random: Random): Promise<Bystander> {
    return new Bystander(await RawClient.open(path, { exportName: of.name }), of, random)
  }

  leave(): void {
    this.#isLeaving = true
  }

  async run(): Promise<void> {
    try {
      while (!this.#isLeaving) await within(this.#step(), 'a request of the bystander is answered')
      assert.deepEqual(this.#of.bytes, this.#known)
    } finally {
      this.#client.disconnect()
    }
  }

  async #step(): Promise<void> {
    const random = this.#random
    const offset = random.integer(this.#known.length)
    const lengthBytes = 1 + random.integer(Math.min(32_768, this.#known.length - offset))
    const end = offset + lengthBytes
    const type = random.pick([Command.read, Command.write, Command.writeZeroes])
    const payload = this.#of.pattern.subarray(offset, end)
    this.#client.request({ type, offset, lengthBytes, ...(type === Command.write && { payload }) })
    assert.equal((await this.#client.reply()).errorNumber, 0)
    if (type === Command.write) payload.copy(this.#known, offset)
    else if (type === Command.writeZeroes) this.#known.fill(0, offset, end)
    else assert.deepEqual(await this.#client.take(lengthBytes), this.#known.subarray(offset, end))
  }
}
