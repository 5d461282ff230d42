// npm run bench:nbd. Measures vmstore and other NBD servers in turn, each on its own copy of one image, and writes a table.
// Always: the servers of a transport run side by side and idle but for one, so that noise of the machine meets all of a row
// alike; every load has a time limit; servers, images and sockets are gone at the end, whichever way it comes.

import { execFile } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { makeImage, measureFilled } from './filled.ts'
import { filledReportOf } from './filled-report.ts'
import { type Load, loads, memoryLoad, settle } from './loads.ts'
import { costOf, watchMemory } from './process-cost.ts'
import { type Measurement, reportOf } from './report.ts'
import { freePort, type Running, type ServerKind, serverKinds, start, type Transport, vmstoreOf } from './servers.ts'

const imageBytes = 2 ** 30
const bytesPerGib = 2 ** 30
/** On top of the seconds that a load is told to take. */
const loadGraceMs = 60_000
const transports: readonly Transport[] = ['unix', 'tcp']

interface Bench {
  readonly folder: string
  readonly image: string
  readonly seconds: number
  readonly pinServer: readonly string[]
  readonly pinClient: readonly string[]
  readonly signal: AbortSignal
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    folder: { type: 'string', default: tmpdir() },
    filled: { type: 'boolean', default: false },
    before: { type: 'string' },
  },
})
const rounds = wholeNumber('rounds', values.rounds, 101)
const seconds = wholeNumber('seconds', values.seconds, 600)

for (const client of ['fio', 'nbdcopy']) {
  if (!(await has(client))) throw new Error(`the bench needs ${client}: apt-get install fio libnbd-bin`)
}
const canPin = availableParallelism() >= 2 && (await has('taskset'))
const folder = await mkdtemp(join(values.folder, 'nbd-bench-'))
const aborter = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => aborter.abort(new Error(`the bench was stopped by ${name}`)))
}
const pins = {
  pinServer: canPin ? ['taskset', '-c', '0'] : [],
  pinClient: canPin ? ['taskset', '-c', '1'] : [],
  signal: aborter.signal,
}
try {
  await (values.filled ? benchFilled() : benchLoads())
} finally {
  await rm(folder, { recursive: true, force: true })
}

async function benchFilled(): Promise<void> {
  if (!(await has('nbdkit'))) throw new Error('the bench needs nbdkit: apt-get install nbdkit')
  const image = join(folder, 'source.raw')
  await makeImage(folder, image, randomFillSync(Buffer.alloc(8 * 2 ** 20)))
  const before = values.before === undefined ? undefined : resolve(values.before)
  const bench = { ...pins, folder, image, rounds, seconds, before }
  const measurements = await measureFilled(bench)
  const beforeOption = before === undefined ? '' : ' --before DIR'
  const command = `npm run bench:nbd -- --filled --rounds ${rounds} --seconds ${seconds}${beforeOption}`
  const report = await filledReportOf(measurements, { command, canPin, folder, rounds, before })
  await keep(`filled-${report.fileSystem}`, report.text)
}

async function benchLoads(): Promise<void> {
  const bench: Bench = {
    folder,
    image: join(folder, 'source.raw'),
    seconds,
    ...pins,
  }
  const left: string[] = []
  const kinds: ServerKind[] = []
  const before = values.before === undefined ? undefined : resolve(values.before)
  const wanted = before === undefined ? serverKinds : [serverKinds[0]!, vmstoreOf('before', before)]
  for (const kind of wanted) {
    if (isOurs(kind) || (await has(kind.program))) kinds.push(kind)
    else left.push(`${kind.title}: ${kind.program} is not installed`)
  }
  await makeImages(bench, kinds)
  const measurements: Measurement[] = []
  for (const transport of transports) measurements.push(...(await measureTransport(bench, kinds, transport, left)))
  const command = `npm run bench:nbd -- --rounds ${rounds} --seconds ${seconds}${before === undefined ? '' : ' --before DIR'}`
  const report = await reportOf(measurements, kinds, { command, canPin, rounds, left, before })
  await keep(before === undefined ? 'nbd' : 'nbd-before', report)
}

/** vmstore itself, this build or the one before. */
function isOurs({ id }: ServerKind): boolean {
  return id === 'vmstore' || id === 'before'
}

async function keep(name: string, report: string): Promise<void> {
  const results = join(import.meta.dirname, 'results', `${name}-${new Date().toISOString().slice(0, 10)}.md`)
  await mkdir(dirname(results), { recursive: true })
  await writeFile(results, report)
  console.log(report)
}

async function measureTransport(
  bench: Bench,
  kinds: readonly ServerKind[],
  transport: Transport,
  left: string[],
): Promise<Measurement[]> {
  const measurements: Measurement[] = []
  const servers: Running[] = []
  const measure = async (server: Running, load: Load, round: number): Promise<void> => {
    try {
      const measurement = await measureOne(bench, server, load)
      measurements.push({ ...measurement, transport, round })
    } catch (error) {
      bench.signal.throwIfAborted()
      if (isOurs(server.kind)) throw error
      left.push(`${server.kind.title} over ${transport}, ${load.name}, round ${round}: the load failed`)
    }
  }
  try {
    for (const kind of kinds) {
      const place = { transport, folder: bench.folder, port: transport === 'tcp' ? await freePort() : 0 }
      try {
        servers.push(await start(kind, place, bench.pinServer, bench.signal))
      } catch (error) {
        bench.signal.throwIfAborted()
        if (isOurs(kind)) throw error
        left.push(`${kind.title} over ${transport}: ${(error as Error).message}`)
      }
    }
    for (let round = 1; round <= rounds; round++) {
      for (const load of loads) {
        console.error(`${transport}, round ${round} of ${rounds}: ${load.name}`)
        // Whoever comes first meets what the load before left: that is each in turn.
        for (const server of round % 2 === 1 ? servers : servers.toReversed()) await measure(server, load, round)
      }
    }
    // Once, and last: what it leaves behind in a server must not be found by the other loads.
    for (const server of servers) await measure(server, memoryLoad, 1)
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
  return measurements
}

async function measureOne(
  bench: Bench,
  server: Running,
  load: Load,
): Promise<Omit<Measurement, 'transport' | 'round'>> {
  const { signal, pinClient } = bench
  const [program = '', ...options] = [...pinClient, ...load.command(server.uri, bench.seconds, bench.image)]
  const cpuBefore = costOf(server.pid).cpuSeconds
  const startedMs = performance.now()
  const timeout = bench.seconds * 1000 + loadGraceMs
  const limits = { timeout, signal, killSignal: 'SIGKILL', maxBuffer: 2 ** 24 } as const
  using watch = watchMemory(server.pid)
  const { stdout } = await promisify(execFile)(program, options, limits)
  const outcome = load.outcome(stdout, (performance.now() - startedMs) / 1000, imageBytes)
  const cpuSeconds = costOf(server.pid).cpuSeconds - cpuBefore
  const peakBytes = watch.peakBytes()
  // Nobody's dirty pages are written back while the next one is measured.
  if (load.writes) await settle(server.uri, join(bench.folder, 'small.raw'), limits)
  const cpuPerGib = (cpuSeconds * bytesPerGib) / outcome.bytes
  return { server: server.kind.id, load: load.name, unit: load.unit, rate: outcome.rate, cpuPerGib, peakBytes }
}

/** The source of copies, and a copy of it for each server; all of them durable and in the page cache. */
async function makeImages(bench: Bench, kinds: readonly ServerKind[]): Promise<void> {
  const piece = Buffer.alloc(8 * 2 ** 20)
  const file = await open(bench.image, 'wx')
  for (let at = 0; at < imageBytes; at += piece.length) await file.write(randomFillSync(piece), 0, piece.length, at)
  await file.close()
  await writeFile(join(bench.folder, 'small.raw'), piece.subarray(0, 4096))
  for (const kind of kinds) {
    bench.signal.throwIfAborted()
    const path = join(bench.folder, `${kind.id}.raw`)
    await copyFile(bench.image, path)
    const copy = await open(path, 'r+')
    await copy.sync()
    for (let at = 0; at < imageBytes; at += piece.length) await copy.read(piece, 0, piece.length, at)
    await copy.close()
  }
}

async function has(program: string): Promise<boolean> {
  try {
    await promisify(execFile)('which', [program])
    return true
  } catch {
    return false
  }
}

function wholeNumber(name: string, text: string, max: number): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new Error(`--${name} is a whole number from 1 to ${max}, not ${text}`)
}
