// Which format a file is taken for: what the operator says, or what its bytes and its name say when they agree. What they
// disagree about is refused, for either may be a mistake, or a guest's doing. Pure.

import { type Promised, promisedBy } from './file-names.ts'
import { type ForeignFormat, formatNames, type ImageFormat, titled } from './image-formats.ts'
import { type FileEnds, type Recognised, recognise } from './recognition.ts'

export interface Decided {
  readonly format: ImageFormat
  /** What the operator may want to know; sentences. */
  readonly notes: readonly string[]
}

/** not-raw, image-not-alone: it is no whole image. format-mismatch: name, bytes or the operator's word disagree. */
export type UndecidedCode = 'not-raw' | 'image-not-alone' | 'format-mismatch'

export class Undecided extends Error {
  readonly code: UndecidedCode
  /** What the operator can do; FILE stands for the image. */
  readonly next: string

  /** `message` goes on after the file's name: 'is a zip archive'. */
  constructor(code: UndecidedCode, message: string, next: string) {
    super(message)
    this.name = 'Undecided'
    this.code = code
    this.next = next
  }
}

/** How to have a file taken for what the operator says that it is. */
export const sayFormat = (format: ImageFormat): string => `vmstore disk create NAME --from FILE --format ${format}`

export const rawAllTheSame = `If its bytes are those of a disk all the same: ${sayFormat('raw')}.`

/** `said`: by the operator. @throws Undecided */
export function decideFormat(path: string, ends: FileEnds, said: ImageFormat | undefined): Decided {
  const found = recognise(ends)
  if (said === 'raw') return { format: said, notes: rawNotes(found) }
  if (said !== undefined) return bySay(found, said)
  const promised = promisedBy(path)
  if (found.kind === 'stranger') {
    const code = found.isPart ? 'image-not-alone' : 'not-raw'
    const next = found.isPart ? found.next : `${found.next} ${rawAllTheSame}`
    throw new Undecided(code, `is no disk image by itself: it is ${found.title}`, next)
  }
  if (promised.kind === 'part') throw partOfImage(promised, found)
  const format = formatOf(found, promised)
  if (format === undefined) throw ambiguous(found, promised)
  return { format, notes: [] }
}

/** The operator has said it, and may have meant another thing. */
function rawNotes(found: Recognised): string[] {
  return found.kind === 'raw' ? [] : [`The file looks like ${found.title}; its bytes were taken as they are.`]
}

function bySay(found: Recognised, said: ForeignFormat): Decided {
  if (found.kind === 'image' && found.format === said) return { format: said, notes: [] }
  if (found.kind === 'raw-or-vhd' && said === 'vhd') return { format: said, notes: [] }
  const instead = found.kind === 'raw' ? 'it has no header of one' : `it is, or begins like, ${found.title}`
  const next = 'Leave --format out to have it told by its bytes, or say the format that it has.'
  throw new Undecided('format-mismatch', `is not ${titled(said)}: ${instead}`, next)
}

/** undefined: name and bytes disagree. */
function formatOf(found: Exclude<Recognised, { kind: 'stranger' }>, promised: Promised): ImageFormat | undefined {
  switch (found.kind) {
    case 'image':
      return promised.kind === 'nothing' || promises(promised, found.format) ? found.format : undefined
    case 'raw-or-vhd':
      return promises(promised, 'vhd') ? 'vhd' : undefined
    case 'raw':
      return promised.kind === 'raw' || promised.kind === 'nothing' ? 'raw' : undefined
  }
}

const promises = (promised: Promised, format: ForeignFormat): boolean =>
  promised.kind === 'image' && promised.formats.includes(format)

function ambiguous(found: Exclude<Recognised, { kind: 'stranger' }>, promised: Promised): Undecided {
  if (found.kind === 'raw') {
    const ending = promised.kind === 'image' || promised.kind === 'other' ? promised.ending : ''
    const names = promised.kind === 'image' ? promised.formats.map((format) => formatNames[format].title) : [ending]
    const lack = names.includes('VHD')
      ? 'no footer of a VHD, with which it would end'
      : `no header of ${names.join(' or ')}`
    const message = `is not what a file called .${ending} is: it has ${lack}`
    const next = `See whether it is whole, and what it is; rename it if its name is wrong. ${rawAllTheSame}`
    return new Undecided('format-mismatch', message, next)
  }
  const how = found.kind === 'raw-or-vhd' ? 'ends' : 'begins'
  const format = found.kind === 'raw-or-vhd' ? 'vhd' : found.format
  const code = promised.kind === 'raw' ? 'not-raw' : 'format-mismatch'
  const message = `${how} like ${found.title}, and its name does not say that it is one`
  const next = `If it is ${titled(format)}: ${sayFormat(format)}. If it is raw, and its guest wrote that: ${sayFormat('raw')}.`
  return new Undecided(code, message, next)
}

function partOfImage({ why, next }: { why: string; next: string }, found: Recognised): Undecided {
  const format = found.kind === 'image' ? found.format : 'raw'
  return new Undecided(
    'image-not-alone',
    `is not a whole image: ${why}`,
    `${next} If it is whole: ${sayFormat(format)}.`,
  )
}
