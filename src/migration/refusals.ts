// What operators are told when a migration's peer said no, did not answer, or cannot do what was asked any more.

import type { Disk } from '../disk/disk.ts'
import { Refusal } from '../disk/refusal.ts'
import { LinkError, PeerRefusal } from '../link/channel.ts'
import type { MigrationRecord } from '../store/records.ts'
import { atWorkCode } from './codes.ts'
import type { Course } from './course.ts'
import { diskNames } from './move.ts'

/** What the operator is told when a peer said no or did not answer, before anything changed. */
export function asRefusal(error: unknown, disk: string, peerName: string): unknown {
  const safe = 'Nothing was changed.'
  if (error instanceof PeerRefusal && error.code === atWorkCode)
    return new Refusal(error.code, error.message, { disk, ...atWorkAdvice, cause: error })
  if (error instanceof PeerRefusal)
    return new Refusal(error.code, `${peerName} refused: ${error.message}`, { disk, safe, cause: error })
  if (error instanceof LinkError && error.code === 'incompatible') {
    const next = 'Upgrade vmstore where it says so: the two versions do not understand each other.'
    return new Refusal('peer-incompatible', `${peerName} cannot be spoken with: ${error.message}`, {
      disk,
      safe,
      next,
      cause: error,
    })
  }
  if (error instanceof LinkError) {
    const reason = error.code === 'aborted' && error.cause instanceof Error ? error.cause.message : error.message
    const next = `See that vmstore runs at ${peerName} and can be reached: vmstore peer list.`
    return new Refusal('peer-unreachable', `${peerName} could not be reached: ${reason}`, {
      disk,
      safe,
      next,
      cause: error,
    })
  }
  return error
}

/** `migrate --from`: the source may have begun all the same. */
export function perhapsBegun(disk: string, peerName: string, error: LinkError): Refusal {
  return new Refusal(
    'no-answer',
    `${peerName} did not answer (${error.message}), and may have begun the migration all the same`,
    {
      exit: 6,
      disk,
      safe: `${peerName} owns the disk until this site has asked for it.`,
      next: 'See whether it began, here or there: vmstore migration list.',
      cause: error,
    },
  )
}

/** The destination may have heard the command: it will then take the disk when it reaches the source. */
export function notKnown(course: Course, error: LinkError): Refusal {
  const disk = diskNames(course.record)
  return new Refusal(
    'no-answer',
    `the destination did not answer (${error.message}), and may have heard it all the same`,
    {
      exit: 6,
      disk,
      safe: 'The source owns the disk until the destination has asked for it; then the destination does.',
      next: `See who owns it: vmstore disk show ${disk}. To take the command back: vmstore migration cancel ${course.id}.`,
      cause: error,
    },
  )
}

/** A later generation of the disk is known to exist elsewhere. */
export function isElsewhere({ name: disk }: Disk): Refusal {
  return new Refusal('superseded', `a later generation of ${disk} exists at another site`, {
    disk,
    safe: 'Nothing was moved or taken back, and the bytes are kept.',
    next: `Go on at the site that owns it: vmstore disk show ${disk} names it.`,
  })
}

/** The preparation failed, and so did taking it back: the disk stays in the migration for a while. */
export function notUndone(course: Course, cause: unknown): Refusal {
  const disk = diskNames(course.record)
  return new Refusal(
    'not-undone',
    `the migration could not be prepared (${(cause as Error).message}), nor taken back yet`,
    {
      exit: 4,
      disk,
      safe: 'The source owns the disk and serves it; taking the migration back is tried again.',
      next: `See when it is in no migration any more: vmstore disk show ${disk}. The log tells what failed.`,
      cause,
    },
  )
}

/** What watchers are told of a pause, or of its end. */
export function pauseSentence(paused: boolean): string {
  return paused
    ? 'the background copy is paused; what the guest reads is fetched all the same'
    : 'the background copy goes on'
}

/** Every block is here, or the migration is over. */
export function nothingToPause(record: MigrationRecord, paused: boolean): Refusal {
  const what = paused ? 'paused' : 'resumed'
  const disk = diskNames(record)
  return new Refusal(
    'nothing-to-pause',
    `migration ${record.id} of ${disk} cannot be ${what}: it is ${record.state}, and copies nothing`,
    { disk, safe: 'Nothing was changed.' },
  )
}

/** Every block is here, or the migration is over. */
export function nothingToBound(record: MigrationRecord): Refusal {
  const disk = diskNames(record)
  const message = `migration ${record.id} of ${disk} is ${record.state}: it copies nothing that could be bounded`
  return new Refusal('nothing-to-bound', message, { disk, safe: 'Nothing was changed.' })
}

/** The destination may have heard it, and copies by it then. */
export function notBounded(course: Course, error: LinkError): Refusal {
  const disk = diskNames(course.record)
  const message = `the destination did not answer (${error.message}), and may have heard it all the same`
  const safe = 'Who owns the disk does not change by it.'
  const next = `Try again when it can be reached, or at the destination: vmstore migration set ${course.id} --max-rate RATE.`
  return new Refusal('no-answer', message, { exit: 1, disk, safe, next, cause: error })
}

/** The destination may have heard it, and holds the copy then. */
export function notPaused(course: Course, paused: boolean, error: LinkError): Refusal {
  const disk = diskNames(course.record)
  const what = paused ? 'pause' : 'resume'
  return new Refusal(
    'no-answer',
    `the destination did not answer (${error.message}), and may have heard it all the same`,
    {
      exit: 1,
      disk,
      safe: 'Who owns the disk does not change by it.',
      next: `Try again when it can be reached, or at the destination: vmstore migration ${what} ${course.id}.`,
      cause: error,
    },
  )
}

/** Why there is nothing with which a disk could be compared here. */
export function nothingToCompare(disk: Disk): Refusal {
  const { state, owner } = disk.record
  const why: Readonly<Record<string, string>> = {
    owned:
      'every block of it is here, compared already if it came from elsewhere; a copy that was released is older, and shows nothing',
    incoming: 'none of its bytes is here',
    departed: `its bytes here are what ${owner} compares its own with`,
  }
  const message = `${disk.name} is ${state} here, and there is nothing to compare it with: ${why[state] ?? 'its bytes here are old'}`
  const next =
    state === 'departed' ? `Say it at the site that owns the disk: vmstore disk verify ${disk.name}.` : undefined
  return new Refusal('nothing-to-compare', message, {
    disk: disk.name,
    safe: 'Nothing was changed.',
    ...(next && { next }),
  })
}

/** The comparison was cut short. */
export function notCompared(disk: Disk, peerName: string, error: Error): Refusal {
  return new Refusal(
    'not-compared',
    `${disk.name} could not be compared with ${peerName} to the end: ${error.message}`,
    {
      exit: 1,
      disk: disk.name,
      safe: 'What was found to differ is fetched again; the source is not released before all is compared.',
      next: 'Try again when the source can be reached.',
      cause: error,
    },
  )
}

/** Only what was given away, and not given back, can be taken back. */
export function notReclaimable(disk: Disk): Refusal {
  const { state, generation, owner } = disk.record
  const next: Readonly<Record<string, string>> = {
    owned: 'This site owns it: there is nothing to take back.',
    released: `Its bytes here are old: ${owner} had every block. Bring that site back, or restore a copy as a new disk.`,
    incoming: 'It was never here. Cancel the migration, with --force if the source is gone.',
    arriving: 'This site owns it: there is nothing to take back.',
  }
  return new Refusal(
    'not-departed',
    `${disk.name} is ${state} here in generation ${generation}: only a departed disk is taken back`,
    {
      disk: disk.name,
      safe: 'Nothing was changed.',
      next: next[state] ?? `Look at the site that owns generation ${generation}: ${owner}.`,
    },
  )
}

/** The record may be durable or not; until it is known, nobody is served. */
export function notReclaimed(disk: Disk, cause: unknown): Refusal {
  if (cause instanceof Refusal) return cause
  return new Refusal(
    'not-recorded',
    `it could not be recorded that ${disk.name} is taken back (${(cause as Error).message})`,
    {
      exit: 6,
      disk: disk.name,
      safe: 'This site serves the disk to nobody until it is recorded, or vmstore is started again.',
      next: 'Make room, or mend the storage, and say it again.',
      cause,
    },
  )
}

/** The destination lives: there it is to be decided what becomes of the disk. */
export function destinationAnswers(disk: Disk, peerName: string, says: string): Refusal {
  return new Refusal('destination-answers', `${peerName} answers: ${says}`, {
    disk: disk.name,
    safe: 'Nothing was changed.',
    next: `Move the disk back from ${peerName} with vmstore migrate. Only when that site is lost for good, and is off, take the disk back here.`,
  })
}

/** A deed of the disk goes further than this site's. */
export function deedGoesOn(
  { name: disk }: Disk,
  peerName: string,
  holder: { readonly site: string; readonly generation: number },
): Refusal {
  const { site, generation } = holder
  return new Refusal(
    'deed-goes-on',
    `${peerName} has a deed of ${disk} that goes further than this site's: ${site} owns generation ${generation} by it, and this site gave that up for good`,
    {
      disk,
      safe: 'Nothing was changed.',
      next: `Go on at the site that owns it; its deed there says how it came to that: vmstore disk show ${disk} --deed.`,
    },
  )
}

/** What an operator has to know, and to say, before a disk is taken back. `notAsked`: peers, by their names. */
export function notConfirmed(record: MigrationRecord, peerName: string, notAsked: readonly string[] = []): Refusal {
  const since = record.switchedAt === null ? '' : ` since ${record.switchedAt}`
  const disks = record.disks.filter(({ hasLeft }) => !hasLeft)
  const names = disks.map(({ name }) => name).join(', ')
  const generations = [...new Set(disks.map(({ generation }) => generation))]
  const under = `generation${generations.length > 1 ? 's' : ''} ${generations.join(', ')}`
  const together = disks.length > 1 ? ' They passed together, and come back together.' : ''
  return new Refusal(
    'not-confirmed',
    `Taking ${names} back loses all that ${disks.length > 1 ? 'their' : 'its'} guest wrote at ${peerName}${since}, in ${under}.${together}${notAskedWords(notAsked, disks.length)}`,
    {
      disk: names,
      safe: 'Nothing was changed.',
      next: `Be sure that the guest at ${peerName} is off and stays off: two guests on one disk destroy each other's data. Then say so with --yes.`,
    },
  )
}

function notAskedWords(names: readonly string[], diskCount: number): string {
  if (names.length === 0) return ''
  const deeds = diskCount > 1 ? "the disks' deeds" : "the disk's deed"
  return ` ${names.join(', ')} could not be asked for ${deeds}, which may go on there.`
}

/** The destination has not made room yet. */
export function notPreparedYet(disk: Disk, record: MigrationRecord): Refusal {
  return new Refusal('not-ready', `migration ${record.id} of ${disk.name} is still being prepared`, {
    disk: disk.name,
    next: 'Try again in a moment.',
  })
}

/** `--mode pre-copy`: nothing is to be fetched after switchover but what was written in the last moments. `why`: a sentence's end. */
export function notAheadYet(record: MigrationRecord, why: string): Refusal {
  const disk = diskNames(record)
  return new Refusal('not-ready', `${disk} is moved in mode pre-copy, and cannot be switched over yet: ${why}`, {
    disk,
    safe: 'Nothing was changed: the source owns the disk and serves it as before.',
    next: `See when it is ready: vmstore migration show ${record.id}.`,
  })
}

/** The operator says that the machine is off or has moved, and a client works at the source. `why`: a sentence's end. */
export function clientAtWork(disk: string, why: string, isHere: boolean): Refusal {
  const message = (place: string) => `a client works with ${disk} at ${place}: ${why}`
  const facts = { disk, ...atWorkAdvice, toPeer: message('the source') }
  return new Refusal(atWorkCode, message(isHere ? 'this site' : 'the source'), facts)
}

/** Only the operator at the source says so, and has not. `why`: a sentence's end. */
export function ownersWord(disk: string, why: string): Refusal {
  return new Refusal('owners-word', `the source gave ${disk} up to nobody: ${why}`, {
    disk,
    safe: 'Nothing was changed: the source owns the disk and serves it as before.',
    next: 'Say it at the source. Its operator lets this site say it from the next move on with vmstore peer allow NAME --take DISK --give.',
  })
}

const atWorkAdvice = {
  safe: 'Nothing was changed: the source owns the disk and serves it as before.',
  next: 'Stop the machine there, or move it, and say it again. With --force that client is cut off: whatever it does next fails.',
} as const

/** After switchover there is no way back but a move. */
export function tooLate(disk: Disk, record: MigrationRecord, what: string): Refusal {
  return new Refusal('too-late', `migration ${record.id} of ${disk.name} cannot be ${what}: it is ${record.state}`, {
    disk: disk.name,
    safe: `Generation ${disk.record.generation} is owned by ${disk.record.owner}; nothing was changed.`,
    next: 'After switchover there is no cancel, only a move back once it is done.',
  })
}

/** Only the source can decide to cancel, and it does not answer. */
export function noAnswerToCancel(disk: string, error: Error): Refusal {
  return new Refusal('no-answer', `the source does not answer (${error.message}), and only it can decide to cancel`, {
    disk,
    safe: 'If the source has heard it, the migration is cancelled, and this site follows when it hears so.',
    next: 'Cancel at the source, or bring the link back. --force leaves here all the same: if the source has granted the disk already, no site serves it then.',
    cause: error,
  })
}

// ---- without a site that is trusted no more: what became of a migration, for the operator and for its record

/** Nothing passed. */
export function cancelledWithout(record: MigrationRecord): string {
  return `migration ${record.id} of ${diskNames(record)} was cancelled: this site owns ${itOrThem(record)}, as before`
}

export function endedBefore({ id, disks, state }: MigrationRecord): string {
  return `migration ${id} of ${disks.map(({ name }) => name).join(', ')} was ${state} before`
}

/** At the source, after switchover. */
export function givenStranded(record: MigrationRecord, peerName: string, missingBytes: number): string {
  const what = `migration ${record.id}: ${diskNames(record)} had been given to ${peerName}, and ${isOrAre(record)} served to nobody here`
  const bytes =
    missingBytes > 0
      ? `at least ${missingBytes} bytes that ${peerName} may lack exist only here`
      : 'the bytes here are kept'
  return `${what}; ${bytes}, until vmstore disk delete`
}

/** At the destination, before switchover. */
export function leftWithout(record: MigrationRecord, peerName: string): string {
  const has = `${peerName} has all bytes of ${diskNames(record)}`
  return `migration ${record.id} was left: ${has}, and nothing of ${itOrThem(record)} stays here`
}

/** At the destination, with every block. */
export function finishedWithout(record: MigrationRecord, peerName: string): string {
  return `migration ${record.id} is done: this site owns ${diskNames(record)}, whole; ${peerName} was not told, and keeps its old bytes`
}

/** At the destination, with blocks missing. */
export function arrivingStranded(record: MigrationRecord, peerName: string, missingBytes: number): string {
  const goesOn = `this site goes on with what is here of ${diskNames(record)}, and nothing more comes`
  return `migration ${record.id} ended before all had come: ${missingBytes} bytes may exist only at ${peerName}, and reads of them fail (EIO); ${goesOn}`
}

/** The disks are frozen, and nobody knows who owns them. */
export function grantNotRecorded(record: MigrationRecord): Refusal {
  return new Refusal('not-recorded', `that ${diskNames(record)} passes is being recorded, and is not yet`, {
    disk: diskNames(record),
    safe: 'The peer was not removed.',
    next: 'Make room, or mend the storage, and say it again.',
  })
}

const itOrThem = ({ disks }: MigrationRecord): string => (disks.length > 1 ? 'them' : 'it')
const isOrAre = ({ disks }: MigrationRecord): string => (disks.length > 1 ? 'are' : 'is')
