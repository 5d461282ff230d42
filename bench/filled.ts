// How fast small writes are by what filled the page cache: npm run bench:nbd -- --filled. Each server has its own file, and
// fills it as its users do: by its import, by a move of the disk, and by reading it in order after a restart. `--before DIR`
// names a worktree of an older build of ours, which is measured beside it.
// Always: every file is made anew for each measurement; the servers take turns within a round; one is there at a time.

import { execFile } from 'node:child_process'
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Contender, nbdkit, type Served, vmstore } from './fillers.ts'
import { fio, type Load, settle } from './loads.ts'
import { costOf } from './process-cost.ts'

const imageMib = 512
const timeoutMs = 300_000

export interface FilledBench {
  readonly folder: string
  readonly image: string
  readonly rounds: number
  readonly seconds: number
  readonly before: string | undefined
  readonly pinServer: readonly string[]
  readonly pinClient: readonly string[]
  readonly signal: AbortSignal
}

export interface FilledMeasurement {
  readonly state: string
  readonly round: number
  readonly contender: string
  readonly load: string
  readonly unit: Load['unit']
  readonly rate: number
  /** Of the server, for each request. */
  readonly cpuMicroseconds: number
}

/** In the order in which they run. The first two write here and there, and leave the folios as they found them. */
const loads: readonly Load[] = [
  fio('4 KiB random write, depth 32', { rw: 'randwrite', blockKib: 4, depth: 32 }),
  fio('the same, a flush every 256', { rw: 'randwrite', blockKib: 4, depth: 32, flushEvery: 256 }),
  fio('1 MiB sequential read, depth 8', { rw: 'read', blockKib: 1024, depth: 8 }),
  fio('1 MiB sequential write, depth 8', { rw: 'write', blockKib: 1024, depth: 8 }),
]

export const states = ['import', 'move', 'restart and sequential read'] as const
type State = (typeof states)[number]

export async function measureFilled(bench: FilledBench): Promise<FilledMeasurement[]> {
  const contenders = [vmstore('vmstore', join(import.meta.dirname, '..')), nbdkit]
  if (bench.before !== undefined) contenders.push(vmstore('before', bench.before))
  const measurements: FilledMeasurement[] = []
  for (let round = 1; round <= bench.rounds; round++) {
    for (const state of states) {
      for (const contender of contenders) {
        console.error(`round ${round} of ${bench.rounds}, after ${state}: ${contender.id}`)
        for (const result of await measureOne(bench, contender, state)) measurements.push({ ...result, state, round })
      }
    }
  }
  return measurements
}

type Result = Omit<FilledMeasurement, 'state' | 'round'>

async function measureOne(bench: FilledBench, contender: Contender, state: State): Promise<Result[]> {
  const { signal, pinServer, image } = bench
  const folder = await mkdtemp(join(bench.folder, 'filled-'))
  const place = { folder, image, pin: pinServer, signal }
  let served: Served | undefined
  try {
    served = state === 'move' ? await contender.moved(place) : await contender.imported(place)
    await written(bench, served)
    if (state === 'restart and sequential read') {
      await served.stop()
      await dropPages(served.file)
      served = await contender.again(place, served)
      await run(bench, [...readOnce, `--uri=${served.uri}`])
    }
    const results: Result[] = []
    for (const load of loads) results.push(await measureLoad(bench, contender, served, load))
    return results
  } finally {
    await served?.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

const readOnce = [
  ...['fio', '--name=read', '--ioengine=nbd', '--thread', '--output-format=json', '--rw=read', '--bs=1m'],
  ...['--iodepth=8', `--size=${imageMib}m`],
]

async function measureLoad(bench: FilledBench, contender: Contender, served: Served, load: Load): Promise<Result> {
  const cpuBefore = costOf(served.pid).cpuSeconds
  const stdout = await run(bench, load.command(served.uri, bench.seconds, bench.image))
  const { rate, bytes } = load.outcome(stdout, bench.seconds, imageMib * 2 ** 20)
  const cpuSeconds = costOf(served.pid).cpuSeconds - cpuBefore
  if (load.writes) await written(bench, served)
  const requests = bytes / (load.unit === 'IO/s' ? 4096 : 2 ** 20)
  return {
    contender: contender.id,
    load: load.name,
    unit: load.unit,
    rate,
    cpuMicroseconds: (cpuSeconds / requests) * 1e6,
  }
}

async function run({ pinClient, signal }: FilledBench, command: readonly string[]): Promise<string> {
  const [program = '', ...options] = [...pinClient, ...command]
  const limits = { timeout: timeoutMs, signal, killSignal: 'SIGKILL', maxBuffer: 2 ** 24 } as const
  return (await promisify(execFile)(program, options, limits)).stdout
}

/** Nothing is left to be written back. */
async function written({ folder, signal }: FilledBench, { uri, file }: Served): Promise<void> {
  await settle(uri, join(folder, 'small.raw'), { timeout: timeoutMs, signal })
  const handle = await open(file, 'r')
  await handle.sync()
  await handle.close()
}

/** As after a start of the machine. */
async function dropPages(file: string): Promise<void> {
  const options = [`of=${file}`, 'conv=notrunc,fdatasync', 'oflag=nocache', 'count=0', 'status=none']
  await promisify(execFile)('dd', options)
}

/** The image that is imported, and the small one that a flush goes with. */
export async function makeImage(folder: string, image: string, piece: Uint8Array): Promise<void> {
  const file = await open(image, 'wx')
  for (let at = 0; at < imageMib * 2 ** 20; at += piece.length) await file.write(piece, 0, piece.length, at)
  await file.sync()
  await file.close()
  await writeFile(join(folder, 'small.raw'), piece.subarray(0, 4096))
}
