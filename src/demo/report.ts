// The demo in words. Pure.

import { formatSize } from '../cli/sizes.ts'
import type { Finding, FindingKind } from './model.ts'
import { findingText } from './model.ts'

/** The last event of `demo --json`. */
export interface DemoResult {
  readonly disk: { readonly size: number; readonly data: number; readonly content: string }
  /** Of the client, over the whole run; each read was checked. */
  readonly reads: number
  readonly writes: number
  readonly flushes: number
  /** Of these, between the start of the migration and its end. */
  readonly duringMove: { readonly reads: number; readonly writes: number }
  /** Acknowledged writes that were not there, reads of older writes, bytes that nobody wrote: none, or there is no result. */
  readonly lost: 0
  readonly stale: 0
  readonly damaged: 0
  /** From the moment that a request was wanted to its answer, the client's own move included. */
  readonly longestPauseMs: number
  readonly longestPausesMs: { readonly read: number; readonly write: number; readonly flush: number }
  readonly bytesMoved: number
  readonly bytesVerified: number
  /** Whether e2fsck found the file system clean; null: there is none. */
  readonly fileSystemClean: boolean | null
  readonly owner: string
  readonly generation: number
  readonly transport: string
  readonly seconds: { readonly total: number; readonly switchover: number; readonly copy: number }
}

/** The last line. */
export function provenText(result: DemoResult): string {
  const { reads, writes, duringMove, longestPauseMs, bytesMoved, fileSystemClean, owner, generation } = result
  const parts = [
    `Proven: ${count(reads, 'read')} and ${count(writes, 'write')}, ${number(duringMove.reads + duringMove.writes)} of them while the disk moved`,
    'none lost, none stale',
    `longest pause ${Math.ceil(longestPauseMs)} ms`,
    `${formatSize(bytesMoved)} moved`,
    ...(fileSystemClean === true ? ['the file system is clean'] : []),
    `${owner} owns generation ${generation} without the site that it came from`,
  ]
  return `${parts.join('; ')}.`
}

/** '12,345 reads, 6,789 writes, longest pause 12 ms' */
export function workText(counts: { reads: number; writes: number; longestPauseMs: number }): string {
  const { reads, writes, longestPauseMs } = counts
  return `${count(reads, 'read')}, ${count(writes, 'write')}, longest pause ${Math.ceil(longestPauseMs)} ms`
}

/** 'The disk at tokyo is wrong: 3 sectors lost, 1 stale; the first, lost: at byte …' */
export function wrongText(findings: readonly Finding[], site: string): string {
  const kinds: readonly FindingKind[] = ['lost', 'stale', 'damaged']
  const amounts = kinds
    .map((kind) => ({ kind, amount: findings.filter((finding) => finding.kind === kind).length }))
    .filter(({ amount }) => amount > 0)
    .map(({ kind, amount }) => `${number(amount)} ${kind}`)
  return `The disk at ${site} is wrong: sectors of 512 bytes ${amounts.join(', ')}; the first is ${findingText(findings[0]!)}`
}

const number = (value: number): string => value.toLocaleString('en-US')
const count = (value: number, noun: string): string => `${number(value)} ${noun}${value === 1 ? '' : 's'}`
