// What a destination is told after the source took the disk back (`disk reclaim`): that a later generation exists. It
// then serves nobody any more, and keeps its bytes.

import { z } from 'zod'
import { PeerRefusal } from '../link/channel.ts'
import type { MigrationRecord } from '../store/records.ts'

const supersededCode = 'superseded'

const facts = z.object({ generation: z.number().int().positive(), owner: z.string().min(1).max(100) })
export type Supersession = z.infer<typeof facts>

/** The source's answer to whatever is asked under a generation that it took back. */
export function supersededRefusal(record: MigrationRecord, generation: number, siteId: string): PeerRefusal {
  const message = `${record.diskName} was taken back as generation ${generation}: generation ${record.generation} is void`
  return new PeerRefusal(supersededCode, message, { generation, owner: siteId } satisfies Supersession)
}

/** What the source said, if it said that. A generation that is not later than ours says nothing. */
export function supersessionIn(error: unknown, ownGeneration: number): Supersession | undefined {
  if (!(error instanceof PeerRefusal) || error.code !== supersededCode) return undefined
  const parsed = facts.safeParse(error.facts)
  return parsed.success && parsed.data.generation > ownGeneration ? parsed.data : undefined
}
