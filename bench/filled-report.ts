// Makes the Markdown of a run with --filled.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type FilledMeasurement, states } from './filled.ts'
import { firstLine, median, table } from './report.ts'

export interface FilledNotes {
  readonly command: string
  readonly canPin: boolean
  readonly folder: string
  readonly rounds: number
  readonly before: string | undefined
}

const filledBy: Readonly<Record<(typeof states)[number], string>> = {
  import: 'vmstore: disk create --from a raw image; nbdkit: nbdcopy of it into its export',
  move: 'vmstore: a whole move from another site; nbdkit: nbdcopy from another nbdkit',
  'restart and sequential read':
    'as after the import; the server stopped, the file out of the page cache, the server started, all of the disk read once in order (1 MiB, depth 8)',
}

export async function filledReportOf(all: readonly FilledMeasurement[], notes: FilledNotes) {
  const ids = [...new Set(all.map(({ contender }) => contender))]
  const rows = [...Map.groupBy(all, ({ state, load, unit }) => `${state}: ${load}, ${unit}`)]
  const peers = ids.filter((id) => id !== 'vmstore')
  const rates = rows.map(([name, row]) => [
    name,
    ...ids.map((id) => median(rateOf(row, id)).toFixed(0)),
    ...peers.map((peer) => ratio(row, peer)),
  ])
  const costs = rows.map(([name, row]) => [
    name.replace(/,[^,]*$/, ''),
    ...ids.map((id) => median(ofOne(row, id).map(({ cpuMicroseconds }) => cpuMicroseconds)).toFixed(1)),
  ])
  const fileSystem = await line('stat', ['--file-system', '--format=%T', notes.folder])
  const text = `# Small writes, by what filled the page cache (${fileSystem}), ${new Date().toISOString().slice(0, 10)}

    ${notes.command}

${(await factsOf(notes, fileSystem)).map((fact) => `- ${fact}\n`).join('')}
## How the page cache was filled

${states.map((state) => `- after ${state}: ${filledBy[state]}\n`).join('')}
Written back before each row; the rows of a state run in this order on the same file.

## Rates

Medians of ${notes.rounds}, over a Unix socket. A ratio is the median of the rounds' ratios of vmstore to the other; in brackets their lowest and highest.

${table(['after', ...ids, ...peers.map((peer) => `to ${peer}`)], rates)}
## Processor time of the server, microseconds a request

${table(['after', ...ids], costs)}`
  return { fileSystem: fileSystem.replace('/ext3', '').replace('ext2', 'ext4'), text }
}

function ofOne(row: readonly FilledMeasurement[], id: string): FilledMeasurement[] {
  return row.filter(({ contender }) => contender === id)
}

function rateOf(row: readonly FilledMeasurement[], id: string): number[] {
  return ofOne(row, id).map(({ rate }) => rate)
}

/** Of rounds: noise of the machine meets both of a round. */
function ratio(row: readonly FilledMeasurement[], peer: string): string {
  const rounds = [...Map.groupBy(row, ({ round }) => round).values()]
  const ratios = rounds.map((each) => median(rateOf(each, 'vmstore')) / median(rateOf(each, peer)))
  return `${median(ratios).toFixed(2)} (${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)})`
}

async function factsOf({ canPin, folder, before }: FilledNotes, fileSystem: string): Promise<string[]> {
  const device = await line('findmnt', ['--noheadings', '--output', 'MAJ:MIN', '--target', folder])
  const builds = [`vmstore ${await firstLine('git', ['rev-parse', '--short', 'HEAD'])}`]
  if (before !== undefined) builds.push(`before: ${await line('git', ['-C', before, 'rev-parse', '--short', 'HEAD'])}`)
  const kernel = /^\d+(\.\d+)*/.exec(release())?.[0]
  return [
    `${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB of memory, Linux ${kernel}, ${process.arch}; ${canPin ? 'servers pinned to core 0, clients to core 1' : 'nothing is pinned'}`,
    `a file of 512 MiB each on ${fileSystem}, read_ahead_kb ${readAheadOf(device.trim())}`,
    [...builds, `Node ${process.version}`, await firstLine('nbdkit', ['--version'])].join('; '),
    `load average at the end: ${readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')}`,
  ]
}

function readAheadOf(device: string): string {
  for (const queue of ['queue', '../queue']) {
    try {
      return readFileSync(join('/sys/dev/block', device, queue, 'read_ahead_kb'), 'utf8').trim()
    } catch {} // A partition has its queue above it.
  }
  return 'unknown'
}

async function line(program: string, options: readonly string[]): Promise<string> {
  return (await promisify(execFile)(program, options)).stdout.trim()
}
