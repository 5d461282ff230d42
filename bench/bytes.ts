// npm run bench:bytes. What a move costs on the wire: a disk with a file system on it goes to another site, comes back after some
// of it has changed, and a clone of an image goes to a site that has the image. With --before DIR, another build in turn.
// Always: all bytes between the two sites pass through this process, which counts them, both ways, TLS and digests included.

import { execFile, spawn } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { link, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { ControlClient } from '../src/control/client.ts'
import type { MigrationView } from '../src/control/types.ts'
import { NbdClient } from '../src/nbd/client/client.ts'
import { freePort } from './servers.ts'

const run = promisify(execFile)
const block = 4096
const cell = 16 * block
const mebibyte = 2 ** 20
const stopMs = 10_000
const moveMs = 1_800_000

const { values } = parseArgs({
  options: {
    tree: { type: 'string', default: '/usr/lib' },
    size: { type: 'string', default: '10G' },
    folder: { type: 'string', default: tmpdir() },
    before: { type: 'string' },
  },
})

interface Build {
  readonly title: 'now' | 'before'
  readonly folder: string
}

interface Row {
  readonly build: Build['title']
  readonly name: string
  readonly wireBytes: number
  readonly blocksBytes: number
  /** What had to travel: data, or what has changed of it. */
  readonly neededBytes: number
  readonly dataBytes: number
}

const scratch = await mkdtemp(join(values.folder, 'bytes-bench-'))
const running = new Set<{ stop(): Promise<void> }>()
try {
  const image = join(scratch, 'image.raw')
  await run('mke2fs', ['-q', '-t', 'ext4', '-d', values.tree, image, values.size], { maxBuffer: 16 * mebibyte })
  const builds: Build[] = [{ title: 'now', folder: join(import.meta.dirname, '..') }]
  if (values.before !== undefined) builds.push({ title: 'before', folder: resolve(values.before) })
  const rows: Row[] = []
  for (const build of builds) rows.push(...(await thereAndBack(build, image)), await clone(build, image))
  await keep(rows)
} finally {
  for (const each of running) await each.stop()
  await rm(scratch, { recursive: true, force: true })
}

// ---- what is measured

async function thereAndBack(build: Build, image: string): Promise<Row[]> {
  await using pair = await twoSites(build, [])
  const { a, b, wire } = pair
  await createDisk(a, image)
  const there = await moved(a, b, wire)
  const changed = await changeSome(b.nbd, image, there.view.bytes.data / 100)
  const back = await moved(b, a, wire)
  const row = rowOf(build)
  return [
    row('a disk with a file system, to a site that has nothing of it', there, there.view.bytes.data),
    row('its way back, after 1 % of its data has changed', back, changed),
  ]
}

/** The build before knows no seeds: it sends all. */
async function clone(build: Build, image: string): Promise<Row> {
  const images = join(scratch, `images-${build.title}`)
  await mkdir(images)
  await link(image, join(images, 'image.raw')) // A copy of it would lose its holes.
  const knowsSeeds = build.title === 'now'
  await using pair = await twoSites(build, knowsSeeds ? ['--seed-folder', images] : [])
  const { a, b, wire } = pair
  const { data } = await createDisk(a, image)
  const changed = await changeSome(a.nbd, image, data / 100)
  const move = await moved(a, b, wire, knowsSeeds ? 'image.raw' : undefined)
  return rowOf(build)('a clone of an image that the destination has, 1 % of its data being others', move, changed)
}

function rowOf({ title }: Build) {
  return (name: string, { view, wireBytes, blocksBytes }: Move, neededBytes: number): Row => {
    console.error(
      `${title}: ${name}: ${wireBytes} bytes, ${blocksBytes} with the blocks, for ${neededBytes}, of ${view.bytes.data} data`,
    )
    return { build: title, name, wireBytes, blocksBytes, neededBytes, dataBytes: view.bytes.data }
  }
}

interface Move {
  readonly view: MigrationView
  readonly wireBytes: number
  /** Of it, on the connection that carries the blocks. */
  readonly blocksBytes: number
}

async function moved(from: Site, to: Site, wire: Wire, seed?: string): Promise<Move> {
  const before = wire.bytes
  const beforeEach = wire.connections.map(({ bytes }) => bytes)
  const { id } = await from.control.migrate({
    disk: 'web01',
    to: to.name,
    mode: 'post-copy',
    switchover: 'now',
    switchoverWaitMs: 10_000,
    source: 'keep',
    ...(seed !== undefined && { seed }),
  })
  for (const deadline = performance.now() + moveMs; ; await sleep(200)) {
    const view = await from.control.showMigration(id)
    if (view.state === 'done' && view.verified)
      return { view, wireBytes: wire.bytes - before, blocksBytes: mostOf(wire, beforeEach) }
    if (view.state === 'failed' || performance.now() > deadline)
      throw new Error(`the move is ${view.state}: ${view.note}`)
  }
}

/** What the connection that carried most since then has carried. */
function mostOf({ connections }: Wire, before: readonly number[]): number {
  return Math.max(...connections.map(({ bytes }, index) => bytes - (before[index] ?? 0)))
}

/** Half in single blocks, half in runs of 64 KiB, wherever the image has data. Returns how many bytes. */
async function changeSome(nbd: string, image: string, wantedBytes: number): Promise<number> {
  const client = await NbdClient.connect(nbd)
  const file = await open(image, 'r')
  const changed = new Set<number>()
  try {
    const { size } = await file.stat()
    while (changed.size * block < wantedBytes) {
      const length = changed.size * block < wantedBytes / 2 ? block : cell
      const at = randomInt(Math.floor((size - cell) / block)) * block
      const there = Buffer.alloc(length)
      await file.read(there, 0, length, at)
      const isData = Array.from({ length: length / block }, (_, index) => index * block).every(
        (from) => !there.subarray(from, from + block).every((byte) => byte === 0),
      )
      if (!isData) continue
      await client.write(at, randomBytes(length))
      for (let from = at; from < at + length; from += block) changed.add(from)
    }
    await client.flush()
  } finally {
    await file.close()
    await client.disconnect()
  }
  return changed.size * block
}

async function createDisk(site: Site, image: string): Promise<{ readonly data: number }> {
  for await (const event of site.control.createDisk({ name: 'web01', from: image, format: 'raw' }))
    if (event.type === 'result') return { data: event.allocated }
  throw new Error('the disk was not made')
}

// ---- two sites, and what is between them

interface Site {
  readonly name: string
  readonly control: ControlClient
  readonly nbd: string
}

interface Wire {
  bytes: number
  /** Of each connection: one of them carries what the background copies. */
  readonly connections: { bytes: number }[]
  readonly servers: Server[]
}

async function twoSites(build: Build, flags: readonly string[]) {
  const root = await mkdtemp(join(scratch, 'r'))
  const [portOfA, portOfB, knownOfB] = [await freePort(), await freePort(), await freePort()]
  const listening = (port: number) => ['--peer', `tcp://127.0.0.1:${port}`]
  const a = await start(build, join(root, 'a'), 'osaka', listening(portOfA))
  const first = await start(build, join(root, 'b'), 'tokyo', listening(knownOfB))
  const wire: Wire = { bytes: 0, connections: [], servers: [] }
  const { token } = await a.control.invite({
    name: first.name,
    address: `tcp://127.0.0.1:${await leadTo(portOfA, 0, wire)}`,
  })
  await first.control.join({ token, name: a.name })
  await first.stop() // It is known by an address from now on at which this process answers.
  const b = await start(build, join(root, 'b'), 'tokyo', [...listening(portOfB), ...flags])
  await leadTo(portOfB, knownOfB, wire)
  return {
    a,
    b,
    wire,
    async [Symbol.asyncDispose]() {
      await Promise.all([a.stop(), b.stop()])
      for (const server of wire.servers) server.close()
      await rm(root, { recursive: true, force: true })
    },
  }
}

async function start({ folder }: Build, root: string, name: string, flags: readonly string[]) {
  const nbd = `nbd+unix:///web01?socket=${join(root, 'nbd.sock')}`
  const args = ['serve', '--root', root, '--nbd', nbd.replace('/web01', '/'), '--json', '--log-level', 'warn', ...flags]
  const child = spawn(process.execPath, [join(folder, 'bin/run.js'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const control = new ControlClient(join(root, 'control.sock'))
  const site = {
    name,
    control,
    nbd,
    async stop() {
      running.delete(site)
      await control.close()
      child.kill('SIGTERM')
      await Promise.race([exited, sleep(stopMs, undefined, { ref: false }).then(() => child.kill('SIGKILL'))])
    },
  }
  running.add(site)
  await Promise.race([
    once(createInterface(child.stdout), 'line'),
    exited.then(() => Promise.reject(new Error(`${name} did not start`))),
  ])
  return site
}

/** Forwards what comes to `port` (0: any) to the target. Resolves to the port. */
async function leadTo(targetPort: number, port: number, wire: Wire): Promise<number> {
  const server = createServer((near) => {
    const far = connect(targetPort, '127.0.0.1')
    const connection = { bytes: 0 }
    wire.connections.push(connection)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('data', (bytes) => {
        wire.bytes += bytes.length
        connection.bytes += bytes.length
      })
      one.pipe(other)
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  wire.servers.push(server)
  return (server.address() as { port: number }).port
}

// ---- the table

async function keep(rows: readonly Row[]): Promise<void> {
  const mib = (bytes: number) => (bytes / mebibyte).toFixed(1)
  const lines = rows
    .filter(({ build }) => build === 'now')
    .map((row) => {
      const before = rows.find(({ build, name }) => build === 'before' && name === row.name)
      const less = before ? `${(before.wireBytes / row.wireBytes).toFixed(1)}` : ''
      const cells = [row.name, mib(row.dataBytes), mib(row.neededBytes), mib(row.wireBytes), mib(row.blocksBytes)]
      const ratio = (row.blocksBytes / row.neededBytes).toFixed(3)
      return `| ${[...cells, ratio, before ? mib(before.wireBytes) : '', less].join(' | ')} |`
    })
  const command = `npm run bench:bytes -- --tree ${values.tree} --size ${values.size}${values.before === undefined ? '' : ' --before DIR'}`
  const date = new Date().toISOString().slice(0, 10)
  const text = `# Bytes on the wire, ${date}

\`${command}\`

MiB, counted between the two sites, both ways, TLS included. Needed: the data, or what has changed of it, in whole blocks.
With the blocks: on the connection that carries them; the rest is digests (of what is here already, and of the comparison in
the end), extents, and what is told of the progress. Before: another build, which sends all of it again.

| move | data | needed | on the wire | of it with the blocks | blocks / needed | before | times less |
| --- | --- | --- | --- | --- | --- | --- | --- |
${lines.join('\n')}
`
  const path = join(import.meta.dirname, 'results', `bytes-${date}.md`)
  await writeFile(path, text)
  console.log(text)
}
