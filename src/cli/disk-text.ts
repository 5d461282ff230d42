// A disk in words. Pure.

import type { DiskView } from '../control/types.ts'
import { percent } from './migration-text.ts'
import { formatSize } from './sizes.ts'
import { facts } from './table.ts'

export const diskHeader = ['name', 'size', 'state', 'generation', 'owner', 'present', 'sessions'] as const

export function diskRow(disk: DiskView): readonly string[] {
  const present = `${percent(Math.min(disk.present.bytes, disk.size), disk.size)}%`
  const { name, size, state, generation, ownerName, sessions } = disk
  return [name, formatSize(size), state, String(generation), ownerName, present, String(sessions)]
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
    allocated: formatSize(disk.allocated),
    file: disk.path,
    sessions: disk.sessions,
    migration: disk.migration,
    trouble: disk.trouble,
  })
}
