// npm run bench:moves. Moves over an emulated path (wan/): what a move costs the guest, how many bytes it takes, and how
// long. Prints and keeps a table in results/. Needs root, gcc, iproute2, fio; for `clone` mmdebstrap and e2fsprogs.
//
//   --rows a,b,…     only these: guest, switchover, sparse, clone, back; or mirror
//   --qemu DIR       a root folder with QEMU's programs, for mirror; else one is made of Debian 13
//   --before DIR     another checkout in turn with this one, where the row can be had of both
//
// Always: each row has a path, namespaces and two sites of its own, which are gone at its end.

import { execFile } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { release, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import type { MigrationView } from '../src/control/types.ts'
import { EmulatedPath, type PathShape } from './wan/path.ts'
import { MirroredDisk, mirrorMs } from './wan/qemu-mirror.ts'
import { pair, type Site, startSite, WritingGuest } from './wan/sites.ts'

const run = promisify(execFile)
const kibibyte = 1024
const mib = 2 ** 20
const gib = 2 ** 30
const mbit = 1e6
const waitMs = 600_000
const usual = { switchoverWaitMs: 30_000, source: 'keep' as const }
const ms = (value: number): string => `${value.toFixed(0)} ms`
const kib = (value: number): string => `${(value / 1024).toFixed(0)} KiB`

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: 'guest,switchover,sparse,back,clone' },
    before: { type: 'string' },
    qemu: { type: 'string' },
    folder: { type: 'string', default: tmpdir() },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
  },
})
const seconds = Number(values.seconds)
const rounds = Number(values.rounds)
const here = resolve(import.meta.dirname, '..')
const before = values.before === undefined ? undefined : resolve(values.before)
const folder = await mkdtemp(join(values.folder, 'vmstore-moves-'))
/** Whoever waits looks at it, so that what was begun is taken away again. */
const stopping = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => stopping.abort(new Error(`the bench was stopped by ${name}`)))

interface Row {
  readonly what: string
  readonly found: string
  readonly bar: string
}
const rows: Row[] = []

interface Lab {
  readonly path: EmulatedPath
  readonly a: Site
  readonly b: Site
  readonly place: string
}

const benches: Readonly<Record<string, () => Promise<void>>> = { guest, switchover, mirror, sparse, back, clone }
try {
  for (const name of values.rows.split(',')) {
    const bench = benches[name]
    if (!bench) throw new Error(`--rows knows ${Object.keys(benches).join(', ')}`)
    console.error(name)
    await bench()
  }
  const report = await reportOf()
  await mkdir(join(import.meta.dirname, 'results'), { recursive: true })
  await writeFile(join(import.meta.dirname, 'results', `moves-${new Date().toISOString().slice(0, 10)}.md`), report)
  console.log(report)
} finally {
  await rm(folder, { recursive: true, force: true })
}

/** A guest's fio at the source, alone and beside a pre-copy, in turn. */
async function guest(): Promise<void> {
  await inLab(here, { rate: 100 * mbit, roundTripMs: 50 }, async ({ a, place }) => {
    await serveImage(a, place, 'vm', 1024 * mib, 1024 * mib)
    const ratios: { rate: number[]; p99: number[] } = { rate: [], p99: [] }
    await fio(a, 'vm')
    for (let round = 1; round <= rounds; round++) {
      const alone = await fio(a, 'vm')
      const { id } = await a.client.migrate({ ...usual, disk: 'vm', to: 'b', mode: 'hybrid', switchover: 'manual' })
      await until(a, id, ({ bytes }) => bytes.sent > mib)
      const beside = await fio(a, 'vm')
      const { state } = await a.client.showMigration(id)
      await a.client.cancel(id, {})
      ratios.rate.push(beside.rate / alone.rate)
      ratios.p99.push(beside.p99Ms / alone.p99Ms)
      const figures = `${alone.rate.toFixed(0)} and ${beside.rate.toFixed(0)} IO/s, p99 ${alone.p99Ms.toFixed(2)} and ${beside.p99Ms.toFixed(2)} ms`
      console.error(`  round ${round}: ${figures} (${state})`)
    }
    add('fio at the source beside pre-copy, 100 Mbit/s, 50 ms: rate to alone', median(ratios.rate).toFixed(2), '≥ 0.90')
    add('the same: 4 KiB p99 to alone', median(ratios.p99).toFixed(2), '≤ 1.5')
  })
}

/** A guest that writes until the last moment, hybrid, moved when it is ready. */
async function switchover(): Promise<void> {
  const shape = { rate: 100 * mbit, roundTripMs: 50 }
  await inLab(here, shape, async ({ path, a, b, place }) => {
    await serveImage(a, place, 'vm', 256 * mib, 128 * mib)
    const before = await wireBytes(path)
    const from = performance.now()
    const guest = await WritingGuest.start(a.uriOf('vm'), 128 * mib, mib)
    const { id } = await a.client.migrate({ ...usual, disk: 'vm', to: 'b', mode: 'hybrid', switchover: 'auto' })
    const ready = await until(a, id, ({ state }) => state === 'ready')
    await sleep(2000)
    const pauseMs = await guest.move(b.uriOf('vm'))
    const at = performance.now()
    const missing = (await b.client.showMigration(id)).bytes.missing
    await until(b, id, ({ bytes, state }) => bytes.missing === 0 || state === 'done')
    const missingMs = performance.now() - at
    const hereMs = performance.now() - from
    const wire = (await wireBytes(path)) - before
    await guest.stop()
    const done = await until(b, id, ({ state }) => state === 'done')
    add(
      'hybrid, a guest writing 1 MiB/s, 100 Mbit/s, 50 ms: pause of the guest',
      ms(pauseMs),
      '≤ 2 round trips + three syncs',
    )
    add('the same: missing after switchover', `${kib(missing)}, here after ${ms(missingMs)}`, '≤ 1 s of the link')
    add('the same: everything at the destination, on the wire', `${ms(hereMs)}, ${(wire / mib).toFixed(1)} MiB`, '')
    add('the same: seconds until ready', ready.seconds.precopy.toFixed(1), '')
    add('the same: verified', String(done.verified), 'true')
  })
}

/**
 * What `switchover` does, done with QEMU's mirror: as it is; told to count what was written by blocks of 4 KiB; and to have each
 * write of the guest wait until it is at the destination too.
 */
async function mirror(): Promise<void> {
  const root = values.qemu === undefined ? await debianRoot() : resolve(values.qemu)
  const image = join(folder, 'mirrored.raw')
  await writeImage(image, 256 * mib, 128 * mib)
  const title = `the mirror of QEMU ${await MirroredDisk.version(root)}, the same disk and guest`
  const kinds = [{}, { granularity: 4096 }, { 'copy-mode': 'write-blocking' }]
  for (const options of kinds) await mirrored(`${title}, ${JSON.stringify(options)}`, root, image, options)
}

async function mirrored(title: string, root: string, image: string, options: object): Promise<void> {
  const path = await EmulatedPath.make({ rate: 100 * mbit, roundTripMs: 50 })
  await using stack = new AsyncDisposableStack()
  stack.defer(() => path.close())
  const disk = await MirroredDisk.start(path, root, image)
  stack.defer(() => disk.stop())
  const before = await wireBytes(path)
  const from = performance.now()
  const guest = await WritingGuest.start(disk.uriOf('a'), 128 * mib, mib)
  const isReady = await disk.mirror(options)
  const readyMs = performance.now() - from
  stopping.signal.throwIfAborted()
  if (isReady) await sleep(2000)
  const pauseMs = isReady ? await guest.move(disk.uriOf('b'), () => disk.complete()) : undefined
  const hereMs = performance.now() - from
  const wire = `${(((await wireBytes(path)) - before) / mib).toFixed(1)} MiB`
  await guest.stop()
  if (pauseMs === undefined) return add(`${title}: ready`, `not within ${mirrorMs / 1000} s; ${wire} on the wire`, '')
  add(`${title}: pause of the guest`, ms(pauseMs), '')
  add('the same: everything at the destination, on the wire', `${ms(hereMs)}, ${wire}`, '')
  const rate = guest.writtenBytes / kibibyte / (hereMs / 1000)
  add(
    'the same: seconds until ready',
    `${(readyMs / 1000).toFixed(1)}; the guest wrote ${rate.toFixed(0)} KiB/s of 1024`,
    '',
  )
}

/** 1 TiB with random dirt. */
async function sparse(): Promise<void> {
  await inLab(here, { rate: 100 * mbit, roundTripMs: 20 }, async ({ a, b, place }) => {
    for await (const event of a.client.createDisk({ name: 'vm', sizeBytes: 1024 * gib })) void event
    await run('fio', [
      '--name=dirt',
      '--ioengine=nbd',
      '--thread',
      '--rw=randwrite',
      '--bs=4k',
      '--iodepth=32',
      '--norandommap',
      '--io_size=256m',
      `--uri=${a.uriOf('vm')}`,
    ])
    const { id } = await a.client.migrate({ ...usual, disk: 'vm', to: 'b', mode: 'hybrid', switchover: 'manual' })
    await until(a, id, ({ state }) => state === 'ready')
    await run('fio', [
      '--name=dirt',
      '--ioengine=nbd',
      '--thread',
      '--rw=randwrite',
      '--bs=4k',
      '--iodepth=32',
      '--norandommap',
      '--io_size=256m',
      '--randseed=7',
      `--uri=${a.uriOf('vm')}`,
    ])
    const from = performance.now()
    await a.client.switchover(id, {})
    await until(b, id, ({ state }) => state === 'copying' || state === 'finishing' || state === 'done')
    add('1 TiB sparse, 65,536 blocks of random dirt: from the order to serving', ms(performance.now() - from), '< 3 s')
    add(
      'the same: most memory, source and destination',
      `${await memoryOf(a, place)} and ${await memoryOf(b, place)} MiB`,
      '< 400',
    )
    await until(b, id, ({ state }) => state === 'done')
  })
}

/** There and back again, with 1 % changed in between. */
async function back(): Promise<void> {
  const found: string[] = []
  for (const [title, build] of builds()) {
    await inLab(build, { rate: 1000 * mbit, roundTripMs: 10 }, async ({ path, a, b, place }) => {
      await serveImage(a, place, 'vm', 1024 * mib, 1024 * mib)
      await wholeMove(a, b, 'vm', 'b')
      const changed = Math.floor((1024 * mib) / 100 / 65_536) * 65_536
      const guest = [
        '--name=one',
        '--ioengine=nbd',
        '--thread',
        '--rw=randwrite',
        '--bs=64k',
        '--iodepth=8',
        `--io_size=${changed}`,
      ]
      await run('fio', [...guest, '--size=1g', `--uri=${b.uriOf('vm')}`])
      const there = (await path.stats()).ba.bytes + (await path.stats()).ab.bytes
      const view = await wholeMove(b, a, 'vm', 'a')
      const bytes = (await path.stats()).ba.bytes + (await path.stats()).ab.bytes - there
      found.push(
        `${title} ${(bytes / mib).toFixed(1)} MiB on the wire, ${(view.bytes.sent / mib).toFixed(1)} sent (changed ${(changed / mib).toFixed(1)})`,
      )
    })
  }
  add('way back of 1 GiB after 1 % changed', found.join('; '), '≤ changed × 1.05 + digests; ≤ 1/20 of before')
}

/** A Debian system cloned from an image that the destination has. */
async function clone(): Promise<void> {
  const image = await debianImage()
  const shape = { rate: 25 * mbit, roundTripMs: 50 }
  await inLab(
    here,
    shape,
    async ({ path, a, b, place }) => {
      await createFrom(b, 'base', image)
      await createFrom(a, 'vm', image)
      void place
      const guest = await WritingGuest.start(a.uriOf('vm'), 8 * gib, mib)
      await sleep(2000)
      const from = performance.now()
      const request = { ...usual, disk: 'vm', to: 'b', mode: 'hybrid', switchover: 'auto', seed: 'base' }
      const { id } = await a.client.migrate(request as never)
      await until(a, id, ({ state }) => state === 'ready')
      const readyMs = performance.now() - from
      const pauseMs = await guest.move(b.uriOf('vm'))
      await until(b, id, ({ bytes, state }) => bytes.missing === 0 || state === 'done')
      const hereMs = performance.now() - from
      await guest.stop()
      const done = await until(b, id, ({ state }) => state === 'done')
      const wire = await path.stats()
      add('clone of a Debian system, 8 GiB, 25 Mbit/s, 50 ms, writing 1 MiB/s: ready', ms(readyMs), '')
      add('the same: everything at the destination', ms(hereMs), '≤ 60 s')
      add('the same: pause', ms(pauseMs), '≤ 500 ms')
      add(
        'the same: on the wire to the end',
        `${((wire.ab.bytes + wire.ba.bytes) / mib).toFixed(1)} MiB; sent ${(done.bytes.sent / mib).toFixed(1)}`,
        '',
      )
    },
    ['--seed-disk', 'base'],
  )
}

function builds(): readonly (readonly [string, string])[] {
  return [...(before === undefined ? [] : [['before', before] as const]), ['this build', here] as const]
}

async function inLab(
  build: string,
  shape: PathShape,
  work: (lab: Lab) => Promise<void>,
  ofB: readonly string[] = [],
): Promise<void> {
  const place = await mkdtemp(join(folder, 'lab-'))
  await using stack = new AsyncDisposableStack()
  stack.defer(() => rm(place, { recursive: true, force: true }))
  const path = await EmulatedPath.make(shape)
  stack.defer(() => path.close())
  const a = await startSite(build, path, 'a', place)
  stack.defer(() => a.stop())
  const b = await startSite(build, path, 'b', place, ofB)
  stack.defer(() => b.stop())
  await pair(a, b)
  await work({ path, a, b, place })
}

/** A disk whose first `dataBytes` are random. */
async function serveImage(
  site: Site,
  place: string,
  name: string,
  sizeBytes: number,
  dataBytes: number,
): Promise<void> {
  const image = join(place, `${name}.raw`)
  await writeImage(image, sizeBytes, dataBytes)
  await createFrom(site, name, image)
  await rm(image)
}

async function writeImage(image: string, sizeBytes: number, dataBytes: number): Promise<void> {
  await using file = await open(image, 'w')
  await file.truncate(sizeBytes)
  const piece = Buffer.alloc(mib)
  for (let at = 0; at < dataBytes; at += mib) await file.write(randomFillSync(piece), 0, mib, at)
}

/** Both ways. */
async function wireBytes(path: EmulatedPath): Promise<number> {
  const { ab, ba } = await path.stats()
  return ab.bytes + ba.bytes
}

async function createFrom(site: Site, name: string, from: string): Promise<void> {
  const bytes = (await stat(from)).size
  for await (const event of site.client.createDisk({ name, sizeBytes: bytes, from, format: 'raw' })) void event
}

async function wholeMove(from: Site, to: Site, disk: string, peer: string): Promise<MigrationView> {
  const mode = 'post-copy' as const
  const { id } = await from.client.migrate({ ...usual, disk, to: peer, mode, switchover: 'now' })
  return until(to, id, ({ state }) => state === 'done')
}

async function until(site: Site, id: string, holds: (view: MigrationView) => boolean): Promise<MigrationView> {
  const deadlineMs = performance.now() + waitMs
  for (;;) {
    stopping.signal.throwIfAborted()
    const view = await site.client.showMigration(id)
    if (holds(view)) return view
    if (['failed', 'cancelled'].includes(view.state)) throw new Error(`the move is ${view.state}: ${view.note}`)
    if (performance.now() > deadlineMs) throw new Error(`it takes too long: ${JSON.stringify(view)}`)
    await sleep(50)
  }
}

async function fio(site: Site, disk: string): Promise<{ rate: number; p99Ms: number }> {
  const shape = [
    '--rw=randrw',
    '--rwmixread=70',
    '--bs=4k',
    '--iodepth=4',
    '--norandommap',
    '--time_based',
    `--runtime=${seconds}`,
  ]
  const fixed = ['--name=guest', '--ioengine=nbd', '--thread', '--output-format=json', '--rate_iops=5000']
  const { stdout } = await run('fio', [...fixed, ...shape, `--uri=${site.uriOf(disk)}`])
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs
  const p99 = (kind: 'read' | 'write') => job[kind].clat_ns.percentile['99.000000'] / 1e6
  return { rate: job.read.iops + job.write.iops, p99Ms: Math.max(p99('read'), p99('write')) }
}

/** VmHWM. */
async function memoryOf(site: Site, _place: string): Promise<string> {
  const status = await readFile(`/proc/${site.pid}/status`, 'utf8')
  return (Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024).toFixed(0)
}

/** An ext4 file system of 8 GiB with a Debian system. */
async function debianImage(): Promise<string> {
  const image = join(folder, 'debian.raw')
  const tar = join(folder, 'debian.tar')
  const tree = join(folder, 'debian')
  await run('mmdebstrap', ['--quiet', '--variant=important', '--include=linux-image-cloud-amd64', 'bookworm', tar], {
    maxBuffer: 2 ** 26,
  })
  await mkdir(tree)
  await run('tar', ['-C', tree, '-xf', tar])
  await run('mke2fs', ['-q', '-t', 'ext4', '-d', tree, image, '8g'])
  await rm(tree, { recursive: true })
  await rm(tar)
  return image
}

/** With the programs of Debian 13, whose QEMU is 10. */
async function debianRoot(): Promise<string> {
  const root = join(folder, 'root')
  const packages = 'qemu-system-common,qemu-utils'
  await run('mmdebstrap', ['--quiet', '--variant=apt', `--include=${packages}`, 'trixie', root], { maxBuffer: 2 ** 26 })
  return root
}

function add(what: string, found: string, bar: string): void {
  rows.push({ what, found, bar })
  console.error(`  ${what}: ${found}${bar && ` (bar: ${bar})`}`)
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1]!
}

async function reportOf(): Promise<string> {
  const { stdout } = await run('git', ['rev-parse', '--short', 'HEAD'], { cwd: here })
  return [
    `# Moves over an emulated path, ${new Date().toISOString().slice(0, 10)}`,
    '',
    `    npm run bench:moves -- --rows ${values.rows}${before === undefined ? '' : ' --before DIR'}`,
    '',
    `- 2 cores for both sites, the guest and the path; Linux ${/^\d+(\.\d+)*/.exec(release())?.[0]}, Node ${process.version}, vmstore ${stdout.trim()}`,
    '- rate each way and round trip as said in the row; no loss; a queue of one round trip',
    '',
    '| what | found | bar |',
    '| --- | --- | --- |',
    ...rows.map(({ what, found, bar }) => `| ${what} | ${found} | ${bar} |`),
    '',
  ].join('\n')
}
