// A disk in words. Pure.

import type { DiskView, VerifyView } from '../control/types.ts'
import { percent, rangeText } from './migration-text.ts'
import { formatSize } from './sizes.ts'
import { facts, table } from './table.ts'

export const diskHeader = ['name', 'size', 'state', 'generation', 'owner', 'present', 'sessions'] as const

export function diskRow(disk: DiskView): readonly string[] {
  const present = `${percent(Math.min(disk.present.bytes, disk.size), disk.size)}%`
  const { name, size, state, generation, ownerName, sessions } = disk
  return [name, formatSize(size), state, String(generation), ownerName, present, String(sessions)]
}

/** A table of disks, and what is wrong with any of them. */
export function disksText(disks: readonly DiskView[], none: string): string {
  return [table(diskHeader, disks.map(diskRow), none), ...troublesText(disks)].join('\n\n')
}

export function troublesText(disks: readonly DiskView[]): readonly string[] {
  return disks.filter(({ trouble }) => trouble !== null).map(({ name, trouble }) => `${name}: ${trouble}`)
}

/** What `disk verify` found. */
export function verifyText({ disk, peer, bytes, differing }: VerifyView): string {
  const missing = bytes.missing > 0 ? `; ${formatSize(bytes.missing)} are not here yet` : ''
  const compared = `${formatSize(bytes.compared)} of ${disk} were compared with ${peer}${missing}.`
  if (differing.length === 0) return `${compared}\nNothing differs.`
  return [`${compared}\nThese ranges differ, and are fetched again:`, ...differing.map(rangeText)].join('\n  ')
}

export function diskFacts(disk: DiskView): string {
  return facts({
    name: disk.name,
    id: disk.id,
    size: `${formatSize(disk.size)} (${disk.size} bytes)`,
    state: disk.state,
    generation: disk.generation,
    owner: disk.ownerName === disk.owner ? disk.owner : `${disk.ownerName} (${disk.owner})`,
    present: `${formatSize(disk.present.bytes)}, ${disk.present.blocks} blocks of ${formatSize(disk.blockSize)}`,
    exposed: disk.exposed > 0 ? `${formatSize(disk.exposed)} exist only at the site that it comes from` : null,
    allocated: formatSize(disk.allocated),
    file: disk.path,
    sessions: disk.sessions,
    migration: disk.migration,
    trouble: disk.trouble,
  })
}
