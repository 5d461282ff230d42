// A disk that a run begins with: owned by one site, in part of zeros, so that there are holes too.

import { signMade } from '../../src/deed/signing.ts'
import type { Random } from '../random.ts'
import { keyOf } from './keys.ts'
import { fill } from './oracle.ts'
import { sectorBytes } from './sim-file.ts'
import type { SimSite } from './sim-site.ts'
import { diskIds, diskNames, sectors, sizeBytes } from './stage.ts'

/** Returns the sectors' values. `index`: which of the disks. */
export function putDisk(site: SimSite, random: Random, index = 0): number[] {
  const [id, name] = [diskIds[index]!, diskNames[index]!]
  const initial = Array.from({ length: sectors }, (_, index) => (random.chance(0.3) ? 0 : index + 1))
  for (let at = 0; at < sectors; at += 8) if (random.chance(0.3)) initial.fill(0, at, Math.min(at + 8, sectors))
  const image = new Uint8Array(sizeBytes)
  for (const [index, value] of initial.entries())
    fill(image.subarray(index * sectorBytes, (index + 1) * sectorBytes), value)
  const folder = `${site.name}/${id}`
  const path = `${folder}/${name}.raw`
  site.machine.putFile(path, image)
  const identity = { id, name, path, folder, sizeBytes, servedFile: null }
  const standing = {
    state: 'owned',
    generation: 1,
    owner: site.name,
    migrationId: null,
    before: null,
    taken: false,
    failedSync: null,
    mapLog: null,
    unsynced: null,
    powerLoss: null,
    deed: signMade(keyOf(site.name), id, '2026-01-01T00:00:00.000Z'),
    offered: null,
    rival: null,
  }
  site.database.disk.set(id, { ...identity, ...standing, createdAt: '2026-01-01T00:00:00.000Z' })
  return initial
}
