// What a site is told when it must serve a disk no more, and keeps its bytes: that a later generation exists (the disk was
// taken back, or this site was restored from an old copy of its data folder), or that the same generation was further here
// once, so that this copy of it lacks what its guest has written since.

import { z } from 'zod'
import type { Disk } from '../disk/disk.ts'
import { largestGeneration, unknownOwner } from '../disk/states.ts'
import { PeerRefusal } from '../link/channel.ts'
import type { MigrationRecord } from '../store/records.ts'
import { peerWords } from './peer-words.ts'

const supersededCode = 'superseded'
const restoredCode = 'restored'

const facts = z.object({
  generation: z.number().int().positive().max(largestGeneration),
  owner: peerWords(100, 1),
})
export type Supersession = z.infer<typeof facts>
/** Of disks of a move of several. */
const factsOfDisks = z.object({ disks: z.array(facts.extend({ disk: z.uuid() })).min(1) })

/** Whether guests are served here, or may be once more: a later generation elsewhere must be heeded. */
export function mayServe(disk: Disk): boolean {
  return ['owned', 'arriving', 'departed'].includes(disk.state)
}

/** Whether what a peer says makes the disk here an old one. */
export function isOld(disk: Disk, { generation }: Supersession): boolean {
  return mayServe(disk) && generation > disk.record.generation
}

/** The source's answer to a destination that wants what another site has already. */
export function voidRefusal(disk: Disk): { answer: 'refused'; code: string; message: string } {
  const message = `a later generation of ${disk.name} exists at another site: this one is given to nobody`
  return { answer: 'refused', code: supersededCode, message }
}

/** The source's answer to whatever is asked under generations that it took back; at least one disk of the move was. */
export function supersededRefusal(record: MigrationRecord, siteId: string): PeerRefusal {
  const back = record.disks.flatMap(({ id, name, generation: given, reclaimedAs: generation }) =>
    generation === null ? [] : [{ disk: id, name, given, generation, owner: siteId }],
  )
  const message = back
    .map(
      ({ name, generation, given }) =>
        `${name} was taken back as generation ${generation}: generation ${given} is void`,
    )
    .join('; ')
  const said = back.map(({ disk, generation, owner }) => ({ disk, generation, owner }))
  return new PeerRefusal(supersededCode, message, record.disks.length > 1 ? { disks: said } : said[0])
}

/** The source's answer to whatever is asked under the generation `given` of a disk that was superseded here after it had passed. */
export function leftRefusal({ id: disk, name, record: { generation, owner } }: Disk, given: number): PeerRefusal {
  const message = `generation ${generation} of ${name} exists elsewhere: generation ${given} is void`
  return new PeerRefusal(supersededCode, message, { disks: [{ disk, generation, owner }] })
}

/**
 * The source's answer to a destination that was further once than it knows. `later`: of its disks that have moved on since, as
 * this site knows.
 */
export function restoredRefusal(
  record: MigrationRecord,
  later: readonly (Supersession & { readonly disk: string })[] = [],
): PeerRefusal {
  const generations = record.disks.map(({ name, generation }) => `generation ${generation} of ${name}`)
  const message = `${generations.join(', ')} was further there once: that site was restored from an old copy, which lacks what the guest has written since`
  return new PeerRefusal(restoredCode, message, later.length > 0 ? { disks: [...later] } : undefined)
}

/**
 * What the source said of a disk, if it said that: of all disks of the move, or of this one by its id. A generation that is not
 * later than ours says nothing.
 */
export function supersessionIn(error: unknown, ownGeneration: number, disk?: string): Supersession | undefined {
  if (!(error instanceof PeerRefusal)) return undefined
  if (error.code !== supersededCode && error.code !== restoredCode) return undefined
  const ofDisks = factsOfDisks.safeParse(error.facts).data?.disks
  const said = ofDisks ? ofDisks.find((each) => each.disk === disk) : facts.safeParse(error.facts).data
  if (said && said.generation > ownGeneration) return { generation: said.generation, owner: said.owner }
  return error.code === restoredCode ? { generation: ownGeneration, owner: unknownOwner } : undefined
}

/** Of a move that goes on without a disk. */
export function leftNote(diskName: string, by: Supersession): string {
  return `${diskName} left the move: ${supersededNote(by)}`
}

/** For the migration's record and its operator. */
export function supersededNote({ generation, owner }: Supersession): string {
  if (owner === unknownOwner)
    return `superseded: this site was restored from an old copy of generation ${generation}; what its guest has written since is not here, and the source may take the disk back: vmstore disk reclaim`
  return `superseded: generation ${generation} of the disk exists at ${owner}; what this site has is older`
}
