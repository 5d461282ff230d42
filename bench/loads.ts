// What the servers are measured with: fio's nbd engine and nbdcopy.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

interface Outcome {
  /** In the load's unit. */
  readonly rate: number
  readonly bytes: number
}

export interface Load {
  readonly name: string
  readonly unit: 'IO/s' | 'MiB/s'
  readonly writes: boolean
  command(uri: string, seconds: number, sourceImage: string): readonly string[]
  outcome(stdout: string, elapsedSeconds: number, imageBytes: number): Outcome
}

interface Pattern {
  readonly rw: string
  readonly blockKib: 4 | 1024
  readonly depth: number
  readonly connections?: number
  /** A flush behind every so many writes. */
  readonly flushEvery?: number
}

interface FioReport {
  readonly jobs: readonly { readonly [way in 'read' | 'write']: { readonly iops: number; readonly io_bytes: number } }[]
}

const bytesPerMib = 2 ** 20

/** As much of fio's own cost is left out as it lets us: the client's core is often what bounds a row. */
export function fio(name: string, { rw, blockKib, depth, connections = 1, flushEvery }: Pattern): Load {
  const unit = blockKib === 4 ? 'IO/s' : 'MiB/s'
  const mix = rw.endsWith('rw') ? [`--rwmixread=${blockKib === 4 ? 70 : 50}`] : []
  const shape = [`--rw=${rw}`, `--bs=${blockKib}k`, `--iodepth=${depth}`, `--numjobs=${connections}`, ...mix]
  if (flushEvery !== undefined) shape.push(`--fsync=${flushEvery}`)
  const fixed = ['--name=bench', '--ioengine=nbd', '--thread', '--group_reporting', '--output-format=json']
  const cheap = ['--norandommap', '--gtod_reduce=1', '--time_based']
  return {
    name,
    unit,
    writes: !rw.endsWith('read'),
    command: (uri, seconds) => ['fio', ...fixed, ...cheap, ...shape, `--runtime=${seconds}`, `--uri=${uri}`],
    outcome: (stdout) => {
      const { read, write } = (JSON.parse(stdout.slice(stdout.indexOf('{'))) as FioReport).jobs[0]!
      const perSecond = read.iops + write.iops
      const rate = unit === 'IO/s' ? perSecond : (perSecond * blockKib * 1024) / bytesPerMib
      return { rate, bytes: read.io_bytes + write.io_bytes }
    },
  }
}

function nbdcopy(name: string, writes: boolean): Load {
  return {
    name,
    unit: 'MiB/s',
    writes,
    command: (uri, _seconds, sourceImage) => ['nbdcopy', ...(writes ? [sourceImage, uri] : [uri, 'null:'])],
    outcome: (_stdout, elapsedSeconds, imageBytes) => {
      return { rate: imageBytes / bytesPerMib / elapsedSeconds, bytes: imageBytes }
    },
  }
}

export const loads: readonly Load[] = [
  fio('4 KiB random read, depth 1', { rw: 'randread', blockKib: 4, depth: 1 }),
  fio('4 KiB random write, depth 1', { rw: 'randwrite', blockKib: 4, depth: 1 }),
  fio('4 KiB random read, depth 32', { rw: 'randread', blockKib: 4, depth: 32 }),
  fio('4 KiB random write, depth 32', { rw: 'randwrite', blockKib: 4, depth: 32 }),
  fio('4 KiB random 70/30, depth 32', { rw: 'randrw', blockKib: 4, depth: 32 }),
  fio('4 KiB random read, depth 32, 4 connections', { rw: 'randread', blockKib: 4, depth: 32, connections: 4 }),
  fio('4 KiB random write, depth 32, 4 connections', { rw: 'randwrite', blockKib: 4, depth: 32, connections: 4 }),
  fio('1 MiB sequential read, depth 8', { rw: 'read', blockKib: 1024, depth: 8 }),
  fio('1 MiB sequential write, depth 8', { rw: 'write', blockKib: 1024, depth: 8 }),
  nbdcopy('nbdcopy from the server', false),
  nbdcopy('nbdcopy to the server', true),
]

/** For resident memory; its rate is shown too. */
export const memoryLoad = fio('1 MiB 50/50, depth 8, 16 connections', {
  rw: 'rw',
  blockKib: 1024,
  depth: 8,
  connections: 16,
})

/** Has the server write its dirty pages back, by a flush behind one small write: nbdcopy flushes where it wrote. */
export async function settle(
  uri: string,
  smallImage: string,
  limits: { readonly timeout: number; readonly signal: AbortSignal },
): Promise<void> {
  await promisify(execFile)('nbdcopy', ['--flush', smallImage, uri], limits)
}
