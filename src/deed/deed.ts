// A deed: the chain of entries by which a disk went from key to key. Which entry may follow which, who must have signed it,
// and who holds the disk at the end. Pure.
//
// What always holds: what `verifyDeed` gives back was looked at to the last signature. Nothing is read from a deed that
// came from elsewhere before that.

import { canonicalBytes, type Deed, type DeedEntry, entryShape, hashOf } from './entries.ts'
import { fingerprintOfKey, isSignedBy } from './keys.ts'

/** A disk that has moved so often moves no more: each move adds two entries. */
export const maximumEntries = 4096
export const maximumDeedBytes = 4 * 2 ** 20
/** Signatures that are looked at in one turn of the loop: some 0.1 ms each. */
const entriesInTurn = 16

/** A deed is not one. The message is a sentence that names the entry. */
export class DeedError extends Error {
  /** Of the entry that is wrong, from 0; undefined: it is wrong as a whole. */
  readonly entry: number | undefined
  constructor(message: string, entry?: number, options?: ErrorOptions) {
    super(message, options)
    this.name = 'DeedError'
    this.entry = entry
  }
}

/** How the disk stands after an entry. */
export interface Standing {
  readonly generation: number
  /** Fingerprint of the key that may serve this generation. */
  readonly holder: string
  /** The `given` by which the holder has it, while its giver may still take it back. */
  readonly given: { readonly hash: string; readonly by: string } | undefined
  /** The hash of the entry. */
  readonly head: string
}

/** @throws DeedError */
export function verifyDeed(value: unknown): Deed {
  const deed = shapedDeed(value)
  for (const _ of verifying(deed)) {
    // Without a pause.
  }
  return deed
}

/** The same of a deed that came from elsewhere: it may be long, and the loop has others to serve. @throws DeedError */
export async function verifyDeedInTurns(value: unknown, turn: () => Promise<void>): Promise<Deed> {
  const deed: DeedEntry[] = []
  for (const entry of shaping(value)) {
    deed.push(entry)
    if (deed.length % entriesInTurn === 0) await turn()
  }
  let inTurn = 0
  for (const _ of verifying(deed)) {
    if (++inTurn % entriesInTurn === 0) await turn()
  }
  return deed
}

function shapedDeed(value: unknown, first = 1): Deed {
  return [...shaping(value, first)]
}

/** Yields each entry that has the shape of one. @throws DeedError at the first that has not */
function* shaping(value: unknown, first = 1): Generator<DeedEntry> {
  if (!Array.isArray(value) || value.length === 0) throw new DeedError('a deed is a list of entries, at least one')
  if (value.length > maximumEntries)
    throw new DeedError(`it has ${value.length} entries, and a deed has at most ${maximumEntries}`)
  let bytes = 0
  for (const [index, each] of value.entries()) {
    const found = entryShape.safeParse(each)
    if (!found.success) {
      const [issue] = found.error.issues
      const kind = (each as { kind?: unknown } | null)?.kind
      const what = `${issue?.path.join('.') || 'the entry'}: ${issue?.message ?? 'not as it should be'}`
      throw new DeedError(`entry ${index + first} (${printed(kind)}) is not as an entry is: ${what}`, index)
    }
    bytes += JSON.stringify(found.data).length
    if (bytes > maximumDeedBytes) throw new DeedError(`it has over ${maximumDeedBytes} bytes, which no deed has`, index)
    yield found.data
  }
}

function printed(kind: unknown): string {
  return typeof kind === 'string' && /^[a-z-]{1,20}$/.test(kind) ? kind : 'of no known kind'
}

/** Yields after each entry that is right. @throws DeedError at the first that is not */
function* verifying(deed: Deed): Generator<Standing> {
  let before: Standing | undefined
  for (const [index, entry] of deed.entries()) {
    const wrong = fault(before, entry, deed[0]!.disk) ?? unsigned(entry)
    if (wrong !== undefined) throw new DeedError(`entry ${index + 1} (${entry.kind}) is void: ${wrong}`, index)
    before = after(before, entry)
    yield before
  }
}

function unsigned(entry: DeedEntry): string | undefined {
  const isRight = isSignedBy(entry.by, canonicalBytes(entry), entry.signature)
  return isRight ? undefined : 'its signature is not of the key that it names'
}

/** Why an entry may not follow, as the end of a sentence; its signature is not looked at. undefined: it may. */
export function fault(before: Standing | undefined, entry: DeedEntry, disk: string): string | undefined {
  if (entry.disk !== disk) return `it is of disk ${entry.disk}, and the deed of ${disk}`
  if (entry.kind === 'made' || entry.kind === 'adopted') return faultOfRoot(before, entry)
  if (!before) return 'a deed begins with made or adopted'
  if (entry.previous !== before.head) return 'it does not follow the entry before it'
  const signer = fingerprintOfKey(entry.by)
  const isOneMore = entry.generation === before.generation + 1
  if (entry.kind === 'given') {
    if (signer !== before.holder) return 'it is not signed by the key that held the disk'
    return isOneMore ? undefined : wrongGeneration(entry, before.generation + 1)
  }
  if (entry.kind === 'taken-back') {
    if (before.given?.hash !== before.head || entry.undoes !== before.head)
      return 'it undoes nothing that may be undone'
    if (entry.by !== before.given.by) return 'it is not signed by the key that had given the disk'
    return isOneMore ? undefined : wrongGeneration(entry, before.generation + 1)
  }
  if (entry.generation !== before.generation) return wrongGeneration(entry, before.generation)
  if (entry.kind === 'released') {
    if (!before.given) return 'there is nothing given that could be released'
    return entry.by === before.given.by ? undefined : 'it is not signed by the key that had given the disk'
  }
  return signer === before.holder ? undefined : 'it is not signed by the key that held the disk'
}

function faultOfRoot(before: Standing | undefined, entry: DeedEntry): string | undefined {
  if (before) return `a deed begins with ${entry.kind}, and nowhere else`
  return entry.kind === 'made' && entry.generation !== 1 ? wrongGeneration(entry, 1) : undefined
}

const wrongGeneration = ({ generation }: DeedEntry, right: number) =>
  `it speaks of generation ${generation}, and only ${right} may follow`

function after(before: Standing | undefined, entry: DeedEntry): Standing {
  const { generation, kind } = entry
  const head = hashOf(entry)
  if (kind === 'given') return { generation, head, holder: entry.to, given: { hash: head, by: entry.by } }
  // A rekeyed holder may be released still: its giver need not know of the new key. It may not be taken from, see docs/deed.md.
  if (kind === 'rekeyed') return { generation, head, holder: entry.to, given: before?.given }
  if (kind === 'released') return { generation, head, holder: before!.holder, given: undefined }
  return { generation, head, holder: fingerprintOfKey(entry.by), given: undefined }
}

/** After each entry, in their order. Of a deed that was verified, or made here. */
export function standingsOf(deed: Deed): readonly Standing[] {
  const standings: Standing[] = []
  for (const entry of deed) standings.push(after(standings.at(-1), entry))
  return standings
}

export function standingOf(deed: Deed): Standing {
  let standing: Standing | undefined
  for (const entry of deed) standing = after(standing, entry)
  return standing!
}

/** Fingerprint of the key that may serve the disk. */
export const holderOf = (deed: Deed): string => standingOf(deed).holder
export const generationOf = (deed: Deed): number => deed.at(-1)!.generation
/** The hash of its last entry, which stands for all of it. */
export const headOf = (deed: Deed): string => hashOf(deed.at(-1)!)

/** The last two entries say that who had given the disk has let it go for good. */
export const isReleased = (deed: Deed): boolean => deed.at(-1)!.kind === 'released'

/** Whether a key has, or had, to do with the disk: it signed an entry, or was given it. */
export function isNamed(deed: Deed, fingerprint: string): boolean {
  return deed.some((entry) => fingerprintOfKey(entry.by) === fingerprint || ('to' in entry && entry.to === fingerprint))
}

/** The deed with one entry more, which came from elsewhere. @throws DeedError when it may not follow, or is not signed right */
export function followedBy(deed: Deed, value: unknown): Deed {
  const [entry] = shapedDeed([value], deed.length + 1)
  const wrong = fault(standingOf(deed), entry!, deed[0]!.disk) ?? unsigned(entry!)
  if (wrong === undefined && deed.length < maximumEntries) return [...deed, entry!]
  throw new DeedError(
    wrong === undefined
      ? `a deed has at most ${maximumEntries} entries`
      : `entry ${deed.length + 1} (${entry!.kind}) is void: ${wrong}`,
    deed.length,
  )
}
