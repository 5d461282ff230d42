// Which file is which key. Pure. A key's parts between slashes are folders, the last one a file; no key leads out of the
// store's folder, none hides another one's file, and names that differ in case alone stay apart where the file system's
// do not. So every byte but [a-z0-9_-] is written as %xx, and an object's file ends with '=', which no folder's name does:
// the keys 'a' and 'a/b' stand side by side.

import { TransportError } from 'vmstore/transport'

/** As S3 bounds it. */
const longestKeyBytes = 1024
/** What file systems take is 255; a temporary file's name has a longer ending than an object's. */
const longestNameBytes = 200
const objectEnding = '='
const temporaryPattern = /^\.[0-9a-f]{24}\.part$/
const plain = /^[a-z0-9_-]$/

/** Relative to the store's folder: the folders' names, then the file's. */
export interface Place {
  readonly folders: readonly string[]
  readonly file: string
}

/** @throws TransportError */
export function placeOf(key: string): Place {
  if (key === '' || !key.isWellFormed() || Buffer.byteLength(key) > longestKeyBytes) {
    throw refused(key, `a key has 1 to ${longestKeyBytes} bytes of UTF-8`)
  }
  const parts = key.split('/').map((part) => written(part))
  if (parts.some((part) => part.length > longestNameBytes)) {
    throw refused(key, `a part between slashes fills at most ${longestNameBytes} bytes as a file's name`)
  }
  return { folders: parts.slice(0, -1), file: parts.at(-1)! + objectEnding }
}

/** The folders below which every key with this prefix lies. */
export function foldersOf(prefix: string): string[] {
  return prefix.split('/').slice(0, -1).map(written)
}

export type Entry = { readonly kind: 'object' | 'folder'; readonly part: string } | undefined

/** What a name in a folder stands for; undefined: nothing of this store's. */
export function entryOf(name: string, isFolder: boolean): Entry {
  if (isFolder === name.endsWith(objectEnding)) return undefined
  const part = read(isFolder ? name : name.slice(0, -objectEnding.length))
  return part === undefined ? undefined : { kind: isFolder ? 'folder' : 'object', part }
}

/** A name that is no object's: `random` is 24 hexadecimal digits. */
export const temporaryName = (random: string): string => `.${random}.part`
export const isTemporary = (name: string): boolean => temporaryPattern.test(name)

/** An empty part is a lone '%', which nothing else is written as. */
function written(part: string): string {
  if (part === '') return '%'
  let name = ''
  for (const byte of Buffer.from(part)) {
    const letter = String.fromCharCode(byte)
    name += plain.test(letter) ? letter : `%${byte.toString(16).padStart(2, '0')}`
  }
  return name
}

function read(name: string): string | undefined {
  if (name === '%') return ''
  if (!/^(?:[a-z0-9_-]|%[0-9a-f]{2})+$/.test(name)) return undefined
  const bytes = name.replace(/%(..)|(.)/g, (_, hex: string | undefined, letter: string) =>
    hex === undefined ? Buffer.from(letter).toString('hex') : hex,
  )
  const part = Buffer.from(bytes, 'hex').toString()
  return written(part) === name ? part : undefined
}

function refused(key: string, why: string): TransportError {
  return new TransportError('denied', `the key ${JSON.stringify(key.slice(0, 80))} cannot be kept in a folder: ${why}`)
}
