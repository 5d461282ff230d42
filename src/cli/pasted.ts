// Commands that a sentence proposes, as they can be pasted: with the --root or --control by which this command found its site.
// Pure.

/** Sentences that speak of the other site, whose root nobody knows here. */
const elsewhere = /\b(at both sites|at the other site|at the source|at the destination|there)\b/

export interface SiteWords {
  /** As the operator gave them on the command line. */
  readonly root?: string | undefined
  readonly control?: string | undefined
}

/** `ids`: of all commands, their words joined by spaces. */
export function withSite(text: string, ids: readonly string[], { root, control }: SiteWords): string {
  const words = [
    ...(root === undefined ? [] : ['--root', quoted(root)]),
    ...(control === undefined ? [] : ['--control', quoted(control)]),
  ].join(' ')
  if (words === '' || elsewhere.test(text)) return text
  const longestFirst = ids.toSorted((one, other) => other.length - one.length).map(escaped)
  if (longestFirst.length === 0) return text
  const command = new RegExp(`\\bvmstore (?:${longestFirst.join('|')})(?![\\w-])${argument.source}*`, 'g')
  return text.replaceAll(command, `$& ${words}`)
}

/** What follows a command and can be no word of the sentence: an id, a place for a name. Behind it come flags, or the sentence goes on. */
const argument = /(?: (?!-)[^\s,;:)]*[\dA-Z][^\s,;:)]*?(?=[.,;:)]*(?:\s|$)))/

/** As a shell reads it. */
const quoted = (word: string): string => (/^[\w./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)
const escaped = (id: string): string => id.replaceAll(/[^\w ]/g, '\\$&')
