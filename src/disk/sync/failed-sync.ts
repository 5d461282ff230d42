// What a failed sync means for its disk, and how it is told. The kernel may have dropped what was written since the last
// answered flush, and the next sync would say nothing of it: so an owned disk takes no more writes, at later starts neither
// (the mark in its record), until its operator accepts what is left (acceptance.ts). A disk that still arrives
// is mended by its next start, which the mark has write anew all that is here, and fetch what is not.

import type { DiskRecord } from '../../store/records.ts'

/** Of a disk that is opened: the failure that its record tells of. */
export function failureOf({ state, failedSync }: DiskRecord): Error | undefined {
  return state === 'owned' && failedSync ? new Error(failedSync.message) : undefined
}

/** What failed, when, what is safe, what may be lost, what to do next. */
export function failureSentence(record: DiskRecord, failure: Error): string {
  const { name, state, failedSync } = record
  const when = failedSync ? ` at ${failedSync.at}` : ''
  const what = `a sync failed${when} (${failure.message}): the disk takes no more writes`
  if (state !== 'owned') return `${what}. Mend the storage, and start vmstore again.`
  const unrecorded = failedSync ? '' : ' The failure is not on record: do not restart vmstore before it is accepted.'
  return `${what}, and is not moved. What was flushed before is safe; what was written after the last answered flush may be lost.${unrecorded} Mend the storage, check the disk, then: vmstore disk accept ${name}.`
}
