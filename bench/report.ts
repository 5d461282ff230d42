// Makes the Markdown of a run out of its measurements.

import { execFile } from 'node:child_process'
import { availableParallelism, release, totalmem } from 'node:os'
import { promisify } from 'node:util'
import type { ServerKind, Transport } from './servers.ts'

export interface Measurement {
  readonly transport: Transport
  readonly round: number
  readonly server: string
  readonly load: string
  readonly unit: string
  readonly rate: number
  readonly cpuPerGib: number
  readonly peakBytes: number
}

export interface Notes {
  readonly command: string
  readonly canPin: boolean
  readonly rounds: number
  /** Peers that were not measured, and why. */
  readonly left: readonly string[]
  /** The folder of the build that is measured beside this one, in place of peers. */
  readonly before: string | undefined
}

export async function reportOf(all: readonly Measurement[], kinds: readonly ServerKind[], notes: Notes) {
  const shown = kinds.filter(({ id }) => all.some(({ server }) => server === id))
  const rows = Map.groupBy(all, ({ transport, load, unit }) => `${transport}: ${load}, ${unit}`)
  const titles = shown.map(({ title }) => title)
  const rates = [...rows].map(([name, row]) => rateRow(name, row, shown))
  const costs = [...rows].map(([name, row]) => [
    name.replace(/,[^,]*$/, ''),
    ...shown.map(({ id }) => cell(median(ofServer(row, id).map(({ cpuPerGib }) => cpuPerGib)), 2)),
  ])
  const peaks = Map.groupBy(all, ({ transport }) => transport)
  const memory = [...peaks].map(([transport, row]) => [
    transport,
    ...shown.map(({ id }) => Math.max(...ofServer(row, id).map(({ peakBytes }) => peakBytes / 2 ** 20)).toFixed(0)),
  ])
  const other = notes.before === undefined ? 'the best peer' : 'the build before'
  return `# NBD servers, ${new Date().toISOString().slice(0, 10)}

    ${notes.command}

${(await factsOf(shown, notes)).map((fact) => `- ${fact}\n`).join('')}
## Rates

Medians of ${notes.rounds} (the row with 16 connections: once). The ratio is vmstore to ${other}; behind it the lowest and highest ratio of one round.

${table(['row', ...titles, 'ratio', 'of rounds'], rates)}
## Processor seconds of the server per GiB

${table(['row', ...titles], costs)}
## Resident memory, MiB

The most at any time (VmHWM), under all loads of the transport, of which the last has 16 busy connections. Pages that the children of nbd-server share count for each of them.

${table(['transport', ...titles], memory)}`
}

function rateRow(name: string, row: readonly Measurement[], kinds: readonly ServerKind[]): string[] {
  const medians = kinds.map(({ id }) => median(ofServer(row, id).map(({ rate }) => rate)))
  const ratios = [...Map.groupBy(row, ({ round }) => round).values()].map((round) =>
    ratioOf(kinds.map(({ id }) => ofServer(round, id)[0]?.rate ?? 0)),
  )
  const spread = `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`
  return [name, ...medians.map((rate) => cell(rate, 0)), ratioOf(medians).toFixed(2), spread]
}

/** vmstore is the first of the kinds. */
function ratioOf([own = 0, ...peers]: readonly number[]): number {
  return own / Math.max(...peers.filter((rate) => rate > 0))
}

function ofServer(row: readonly Measurement[], id: string): Measurement[] {
  return row.filter(({ server }) => server === id)
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

/** 0: not measured. */
function cell(value: number, digits: number): string {
  return value === 0 ? '–' : value.toFixed(digits)
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = head.map((_, index) => (index === 0 ? '---' : '---:'))
  return [head, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

async function factsOf(kinds: readonly ServerKind[], { canPin, left, before }: Notes): Promise<string[]> {
  const cores = availableParallelism()
  const kernel = /^\d+(\.\d+)*/.exec(release())?.[0]
  const pinned = canPin
    ? 'servers pinned to core 0, clients to core 1'
    : 'nothing is pinned (that takes taskset and two cores)'
  const peers = kinds.filter(
    ({ id }, index) =>
      id !== 'vmstore' && id !== 'before' && index === kinds.findIndex((one) => one.program === kinds[index]!.program),
  )
  const versions = [
    `vmstore ${await firstLine('git', ['rev-parse', '--short', 'HEAD'])}`,
    ...(before === undefined
      ? []
      : [`before: ${await firstLine('git', ['-C', before, 'rev-parse', '--short', 'HEAD'])}`]),
    `Node ${process.version}`,
    ...(await Promise.all(peers.map(({ program, versionFlag }) => firstLine(program, [versionFlag])))),
    await firstLine('fio', ['--version']),
    await firstLine('nbdcopy', ['--version']),
  ]
  return [
    `${cores} cores, ${Math.round(totalmem() / 2 ** 30)} GiB of memory, Linux ${kernel}, ${process.arch}; ${pinned}`,
    'one file of 1 GiB for each server, in the page cache; its dirty pages are written back after each row that writes',
    versions.join('; '),
    ...left.map((peer) => `not measured: ${peer}`),
  ]
}

export async function firstLine(program: string, options: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, options, { cwd: import.meta.dirname })
    return (stdout || stderr).trim().split('\n')[0]!
  } catch {
    return `${program} of unknown version`
  }
}
