// What a site is told when it must serve a disk no more, and keeps its bytes: that another deed of the disk goes on where its own
// ends, or is the valid one where they fork (the disk was taken back, or this site was restored from an old copy of its data
// folder); or that the same generation was further here once, so that this copy of it lacks what its guest has written since.
//
// What always holds: a word of a peer makes nobody stop. A supersession comes of a deed that was verified, or of a word that
// this site has signed itself; what a refusal says besides is for people.

import { z } from 'zod'
import { generationOf, holderOf } from '../deed/deed.ts'
import type { Deed } from '../deed/entries.ts'
import { relate } from '../deed/relation.ts'
import type { Disk } from '../disk/disk.ts'
import { largestGeneration, unknownOwner } from '../disk/states.ts'
import { PeerRefusal } from '../link/channel.ts'
import type { MigrationRecord } from '../store/records.ts'
import { peerWords } from './peer-words.ts'

const supersededCode = 'superseded'
const restoredCode = 'restored'

export interface Supersession {
  readonly generation: number
  /** Site, or `unknown`. */
  readonly owner: string
  /** By which it is so; null: this site was further once, or nobody can say which of two deeds is valid. */
  readonly deed: Deed | null
  /** The other one, if nobody can say. */
  readonly rival: Deed | null
}

/** Of disks of a move of several; a refusal that is of one disk names none. */
const factsOfDisks = z.object({
  disks: z
    .array(
      z.object({
        disk: z.uuid(),
        generation: z.number().int().positive().max(largestGeneration),
        owner: peerWords(100, 1),
      }),
    )
    .min(1),
})

/** Whether guests are served here, or may be once more: a later generation elsewhere must be heeded. */
export function mayServe(disk: Disk): boolean {
  return ['owned', 'arriving', 'departed'].includes(disk.state)
}

/** What `theirs`, verified, means for a site that has the disk with the deed `ours`; undefined: nothing. */
export function supersessionBy(
  ours: Deed,
  theirs: Deed,
  siteOf: (fingerprint: string) => string,
): Supersession | undefined {
  const relation = relate(ours, theirs)
  if (relation.kind === 'continues' || (relation.kind === 'fork' && relation.wins === 'theirs'))
    return { generation: generationOf(theirs), owner: siteOf(holderOf(theirs)), deed: theirs, rival: null }
  if (relation.kind === 'fork' && relation.wins === 'nobody')
    return { generation: generationOf(ours), owner: unknownOwner, deed: null, rival: theirs }
  return undefined
}

/** This site was further once, by its own signed word. */
export function restoredHere(generation: number): Supersession {
  return { generation, owner: unknownOwner, deed: null, rival: null }
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
  return new PeerRefusal(supersededCode, message, { disks: said })
}

/** The source's answer to whatever is asked under the generation `given` of a disk that was superseded here after it had passed. */
export function leftRefusal({ id: disk, name, record: { generation, owner } }: Disk, given: number): PeerRefusal {
  const message = `generation ${generation} of ${name} exists elsewhere: generation ${given} is void`
  return new PeerRefusal(supersededCode, message, { disks: [{ disk, generation, owner }] })
}

/** The source's answer to a destination that was further once than it knows, with what that site signed when it was. */
export function restoredRefusal(record: MigrationRecord): PeerRefusal {
  const generations = record.disks.map(({ name, generation }) => `generation ${generation} of ${name}`)
  const message = `${generations.join(', ')} was further there once: that site was restored from an old copy, which lacks what the guest has written since`
  const { mark, markRun, markSigned, completeSigned } = record
  return new PeerRefusal(restoredCode, message, { mark, run: markRun, markSigned, completeSigned })
}

/** What the refusal says: that this disk is void, or that this site was further once. undefined: neither. */
export function voidWord(error: unknown, disk: string): 'superseded' | 'restored' | undefined {
  if (!(error instanceof PeerRefusal)) return undefined
  if (error.code === restoredCode) return 'restored'
  if (error.code !== supersededCode) return undefined
  const named = factsOfDisks.safeParse(error.facts).data?.disks
  return named === undefined || named.some((each) => each.disk === disk) ? 'superseded' : undefined
}

/** Of a move that goes on without a disk. */
export function leftNote(diskName: string, by: Supersession): string {
  return `${diskName} left the move: ${supersededNote(by)}`
}

/** For the migration's record and its operator. */
export function supersededNote({ generation, owner, rival }: Supersession): string {
  if (rival)
    return `superseded: there are two deeds of the disk which fork, this site's of generation ${generation} and another of generation ${generationOf(rival)}, and nothing in them says which is valid: nobody is served by either. Look at both with vmstore disk show --deed; the bytes are kept`
  if (owner === unknownOwner)
    return `superseded: this site was restored from an old copy of generation ${generation}; what its guest has written since is not here, and the source may take the disk back: vmstore disk reclaim`
  return `superseded: generation ${generation} of the disk exists at ${owner}; what this site has is older`
}
