// A disk in words. Pure.

import type { CountView, DiskView, VerifyView } from '../control/types.ts'
import { percent, rangeText } from './migration-text.ts'
import { formatSize } from './sizes.ts'
import { whenText } from './standing-text.ts'
import { facts, table } from './table.ts'

export const diskHeader = ['name', 'size', 'state', 'generation', 'owner', 'present', 'sessions'] as const

export function diskRow(disk: DiskView): readonly string[] {
  const present = isPresentKnown(disk) ? `${percent(Math.min(disk.present.bytes, disk.size), disk.size)}%` : '?'
  const { name, size, state, generation, ownerName, sessions } = disk
  return [name, formatSize(size), state, String(generation), ownerName, present, String(sessions)]
}

/** A table of disks, and what is wrong with any of them. */
export function disksText(disks: readonly DiskView[], none: string): string {
  return [table(diskHeader, disks.map(diskRow), none), ...troublesText(disks)].join('\n\n')
}

export function troublesText(disks: readonly DiskView[]): readonly string[] {
  return disks.flatMap(({ name, trouble, guestErrors }) => {
    // Whoever has moved is told ESHUTDOWN until it quits: that is no trouble.
    const errors = errorsText(Object.entries(guestErrors).filter(([error]) => error !== 'ESHUTDOWN'))
    return [
      ...(trouble === null ? [] : [`${name}: ${trouble}`]),
      ...(errors === null ? [] : [`${name}: guests were answered with errors: ${errors}`]),
    ]
  })
}

/** 'ENOSPC 3 times, the last at 2026-11-30T16:08:12Z' */
function errorsText(errors: readonly [error: string, count: CountView][]): string | null {
  return errors.length === 0 ? null : errors.map(([error, count]) => `${error} ${countText(count)}`).join('; ')
}

/** '3 times, the last at 2026-11-30T16:08:12Z' */
export function countText({ count, last }: CountView): string {
  return count === 1 ? `once, at ${whenText(last)}` : `${count} times, the last at ${whenText(last)}`
}

/** What `disk verify` found. */
export function verifyText({ disk, peer, bytes, differing }: VerifyView): string {
  const missing = bytes.missing > 0 ? `; ${formatSize(bytes.missing)} are not here yet` : ''
  const compared = `${formatSize(bytes.compared)} of ${disk} were compared with ${peer}${missing}.`
  if (differing.length === 0) return `${compared}\nNothing differs.`
  return [`${compared}\nThese ranges differ, and are fetched again:`, ...differing.map(rangeText)].join('\n  ')
}

/** Bytes that one site alone has are with the source: this site, once it has given the disk up. */
const homeOfExposed = ({ state }: DiskView): string =>
  state === 'departed' ? 'this site' : 'the site that it comes from'

/** What is superseded may have been arriving, and its maps are not read any more. */
const isPresentKnown = ({ state }: DiskView): boolean => state !== 'superseded'

const presentText = ({ present, blockSize }: DiskView): string =>
  `${formatSize(present.bytes)}, ${present.blocks} blocks of ${formatSize(blockSize)}`

/** A released disk whose bytes were not kept. */
const hasNoFile = ({ state, present, allocated }: DiskView): boolean =>
  state === 'released' && present.bytes === 0 && allocated === 0

/** A move of it was cancelled. */
const isSeedOnly = ({ state, present, allocated }: DiskView): boolean =>
  state === 'released' && present.bytes === 0 && allocated > 0

export function diskFacts(disk: DiskView): string {
  return facts({
    name: disk.name,
    id: disk.id,
    size: `${formatSize(disk.size)} (${disk.size} bytes)`,
    state: disk.state,
    generation: disk.generation,
    owner: disk.ownerName === disk.owner ? disk.owner : `${disk.ownerName} (${disk.owner})`,
    present: isPresentKnown(disk) ? presentText(disk) : null,
    exposed: disk.exposed > 0 ? `${formatSize(disk.exposed)} exist only at ${homeOfExposed(disk)}` : null,
    allocated: formatSize(disk.allocated),
    kept: isSeedOnly(disk)
      ? `what a cancelled move copied, as a seed for the next; vmstore disk delete ${disk.name} removes it`
      : null,
    file: hasNoFile(disk) ? null : disk.path,
    sessions: disk.sessions,
    migration: disk.migration,
    trouble: disk.trouble,
    'guest errors': errorsText(Object.entries(disk.guestErrors)),
  })
}
