// What ps, top and the kernel's log call this process. Pure.
// Always: words that may be secret, such as the token of `peer join`, stand in no title: only the command and, of a daemon,
// its folder.

export function processTitle(words: readonly string[]): string {
  const command = words.slice(0, firstNoWord(words)).slice(0, 2)
  const [first] = command
  if (first !== 'serve') return ['vmstore', ...command].join(' ')
  const root = wordAfter('--root', words)
  return ['vmstore serve', ...(root ? [`--root ${root}`] : [])].join(' ')
}

/** Commands and topics are of small letters; what follows may be a name, which stands in the titles of one-word topics only. */
function firstNoWord(words: readonly string[]): number {
  const index = words.findIndex((word) => !/^[a-z]+$/.test(word))
  return index === -1 ? words.length : index
}

function wordAfter(flag: string, words: readonly string[]): string | undefined {
  const index = words.findIndex((word) => word === flag || word.startsWith(`${flag}=`))
  if (index === -1) return undefined
  return words[index]!.includes('=') ? words[index]!.slice(flag.length + 1) : words[index + 1]
}
