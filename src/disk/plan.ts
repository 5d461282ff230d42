// A change of a disk's record that is not on record yet. Whoever has plans for several disks commits them together, with what
// must be durable in the same transaction.
//
// What always holds: all of it is durable, or nothing changes in memory. Once it is, every record changes, and what goes with
// it in memory happens, in one synchronous step: nobody sees one disk moved and another not yet.

import type { Change } from '../store/records.ts'
import { CommittedRecord, type NextRecord } from './committed-record.ts'

/** `next`: what the record becomes. Pure; asked when the commits before it are done; throws when it may not be. */
export interface DiskPlan extends NextRecord {
  /** What goes with it in memory, in the step in which the record has changed. */
  committed?(): void
  /** Cleans up behind it, afterwards. Never rejects. */
  afterwards?(): Promise<void>
}

/**
 * Commits the plans, of different disks and at least one, together with `others`. `committed`: what goes with it, in the step
 * in which all have changed. Rejects, and then the next start may find it, and this daemon does not.
 */
export async function commitTogether(
  plans: readonly DiskPlan[],
  others: readonly Change[] = [],
  committed: () => void = () => {},
): Promise<void> {
  await CommittedRecord.commit(plans, others, () => {
    for (const plan of plans) plan.committed?.()
    committed()
  })
  await Promise.all(plans.map((plan) => plan.afterwards?.()))
}
