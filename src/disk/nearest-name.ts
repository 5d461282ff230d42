// What somebody may have meant who named something that is not there. Pure.

/** More letters than this are another word. */
const mostEdits = 2
/** Names beyond it are not looked at, so that the cost is bounded. */
const mostNames = 10_000

/** The name that is spelled most like `word`, if one is; of equals the first. */
export function nearestName(word: string, names: Iterable<string>): string | undefined {
  let nearest: string | undefined
  let least = Math.min(mostEdits, Math.floor(word.length / 2)) + 1
  let looked = 0
  for (const name of names) {
    if (++looked > mostNames) break
    if (Math.abs(name.length - word.length) >= least) continue
    const edits = editsBetween(word.toLowerCase(), name.toLowerCase())
    if (edits < least) [nearest, least] = [name, edits]
  }
  return nearest
}

/** 'Did you mean web01? ', or nothing: the beginning of what to do next. */
export function nearestText(word: string, names: Iterable<string>): string {
  const nearest = nearestName(word, names)
  return nearest === undefined ? '' : `Did you mean ${nearest}? `
}

/** Letters that are put in, left out, changed, or change places with their neighbour (Damerau-Levenshtein, adjacent alone). */
function editsBetween(one: string, other: string): number {
  const rows = [Array.from({ length: other.length + 1 }, (_, index) => index)]
  for (let at = 1; at <= one.length; at++) {
    const row = [at]
    for (let to = 1; to <= other.length; to++) {
      const change = one[at - 1] === other[to - 1] ? 0 : 1
      const best = Math.min(rows[at - 1]![to]! + 1, row[to - 1]! + 1, rows[at - 1]![to - 1]! + change)
      const isSwap = at > 1 && to > 1 && one[at - 1] === other[to - 2] && one[at - 2] === other[to - 1]
      row.push(isSwap ? Math.min(best, rows[at - 2]![to - 2]! + 1) : best)
    }
    rows.push(row)
  }
  return rows[one.length]![other.length]!
}
