// How two deeds of a disk stand to each other: which of them goes on where the other ends, and which is void where they fork.
// Pure; both are verified.
//
// What always holds:
// - `released` gives the disk to nobody: that one deed has it where the other ends there, or goes on, makes no difference. It
//   decides a fork alone.
// - A fork is decided by what its giver has signed, and by nothing else: no generation wins by being higher.
// - Anybody can sign that he had a disk, gave it to a key, and took it back. Of a disk from before deeds only the key that is
//   named in its `adopted` may have taken it back.

import { standingsOf } from './deed.ts'
import { type Deed, type DeedEntry, hashOf } from './entries.ts'
import { fingerprintOfKey } from './keys.ts'

export type Relation =
  | { readonly kind: 'same' | 'unrelated' }
  /** Ours is a beginning of theirs: they know of more. */
  | { readonly kind: 'continues' }
  /** Theirs is a beginning of ours. */
  | { readonly kind: 'beginning' }
  | { readonly kind: 'fork'; readonly wins: 'ours' | 'theirs' | 'nobody' }

/** A deed without what gives the disk to nobody, and where each entry stands in all of it. */
interface Steps {
  readonly deed: Deed
  readonly places: readonly number[]
}

export function relate(ours: Deed, theirs: Deed): Relation {
  if (ours[0]!.disk !== theirs[0]!.disk) return { kind: 'unrelated' }
  const [a, b] = [stepsOf(ours), stepsOf(theirs)]
  const met = meetingOf(a, b)
  if (!met) return { kind: 'unrelated' }
  let [i, j] = met
  if (isTakenByStranger(ours[0]!, b, j) || isTakenByStranger(theirs[0]!, a, i)) return { kind: 'unrelated' }
  while (entryAt(a, i + 1) && entryAt(b, j + 1) && hashOf(entryAt(a, i + 1)!) === hashOf(entryAt(b, j + 1)!)) {
    i++
    j++
  }
  const [ourNext, theirNext] = [entryAt(a, i + 1), entryAt(b, j + 1)]
  if (!ourNext && !theirNext) return { kind: 'same' }
  const [ourBranch, theirBranch] = [branch(a, i), branch(b, j)]
  // What was released and taken back all the same is a fork, though nothing else may follow the release.
  if (!ourNext && !(undoes(theirBranch) && isLetGo(ourBranch))) return { kind: 'continues' }
  if (!theirNext && !(undoes(ourBranch) && isLetGo(theirBranch))) return { kind: 'beginning' }
  return { kind: 'fork', wins: winner(ourBranch, theirBranch) }
}

/** Whether theirs shows that who has ours may not serve the disk any more: it went on, or is the one that is valid. */
export function isVoidBeside(ours: Deed, theirs: Deed): boolean {
  const relation = relate(ours, theirs)
  return relation.kind === 'continues' || (relation.kind === 'fork' && relation.wins !== 'ours')
}

function stepsOf(deed: Deed): Steps {
  const places = [...deed.keys()].filter((place) => deed[place]!.kind !== 'released')
  return { deed, places }
}

function entryAt({ deed, places }: Steps, step: number): DeedEntry | undefined {
  const place = places[step]
  return place === undefined ? undefined : deed[place]
}

/** The steps at which the two are first the same: a root of both, or where the one joins the other. */
function meetingOf(a: Steps, b: Steps): readonly [number, number] | undefined {
  if (hashOf(a.deed[0]!) === hashOf(b.deed[0]!)) return [0, 0]
  const inOurs = joining(b.deed, a)
  if (inOurs !== undefined) return [inOurs, 0]
  const inTheirs = joining(a.deed, b)
  return inTheirs === undefined ? undefined : [0, inTheirs]
}

/** Where a deed that begins with `adopted` joins another: where the same key holds the disk in the same generation. */
function joining(adopted: Deed, other: Steps): number | undefined {
  if (adopted[0]!.kind !== 'adopted') return undefined
  const [root] = standingsOf(adopted.slice(0, 1))
  const standings = standingsOf(other.deed)
  const step = other.places.findIndex((place) => {
    const { generation, holder } = standings[place]!
    return generation === root!.generation && holder === root!.holder
  })
  return step < 0 ? undefined : step
}

/** Where a deed that begins with `root` joins another, that one has the disk taken back, by whom `root` knows nothing of. */
function isTakenByStranger(root: DeedEntry, other: Steps, step: number): boolean {
  const [joined, next] = [entryAt(other, step)!, entryAt(other, step + 1)]
  if (root.kind !== 'adopted' || hashOf(root) === hashOf(joined) || next?.kind !== 'taken-back') return false
  return fingerprintOfKey(next.by) !== root.from
}

/** What follows a step, `released` too. */
function branch({ deed, places }: Steps, step: number): Deed {
  return deed.slice(places[step]! + 1)
}

/** What a giver has taken back is void, unless it had released it before: then it was an old copy of it that took it back. */
function winner(ours: Deed, theirs: Deed): 'ours' | 'theirs' | 'nobody' {
  const [weUndo, theyUndo] = [undoes(ours), undoes(theirs)]
  if (weUndo === theyUndo) return 'nobody'
  if (weUndo) return isLetGo(theirs) ? 'theirs' : 'ours'
  return isLetGo(ours) ? 'ours' : 'theirs'
}

/** The last common entry is taken back: it is a `given`, or an `adopted` where the other side has the `given`. */
function undoes(branch: Deed): boolean {
  return branch[0]?.kind === 'taken-back'
}

/** Its holder was released by the giver before it gave the disk on. */
function isLetGo(branch: Deed): boolean {
  for (const { kind } of branch) {
    if (kind === 'released') return true
    if (kind !== 'rekeyed') return false
  }
  return false
}
