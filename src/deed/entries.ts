// The entries of a deed (docs/deed.md): what each kind has, and the bytes of it that are signed and hashed. Pure.
//
// What always holds: an entry has the fields of its kind and no other, in one order, and its texts have nothing that JSON
// would have to escape but quotation marks and backslashes: so its bytes are the same whoever writes them.

import { createHash } from 'node:crypto'
import { z } from 'zod'

const hash = z.string().regex(/^[0-9a-f]{64}$/)
const base64 = z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/)
/** Time of day, as Date's toISOString writes it. */
const timeOfDay = z.string().regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/)
const words = (maxLength: number, minLength = 0) =>
  z
    .string()
    .min(minLength)
    .max(maxLength)
    .refine((text) => text.isWellFormed() && !/\p{Cc}/u.test(text), { error: 'it has characters that are no text' })

const disk = z.uuid()
const generation = z
  .number()
  .int()
  .min(1)
  .max(2 ** 48)
/** The signer's public key: SPKI in DER, in base64. */
const by = base64.max(200)
const signature = base64.max(200)
const common = { disk, generation, at: timeOfDay, by }

export const entryShape = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('made'), ...common, previous: z.null(), signature }),
  z.strictObject({
    kind: z.literal('adopted'),
    ...common,
    previous: z.null(),
    /** Fingerprint of the key that had given it before deeds, and may still take it back; absent: nobody may. */
    from: hash.optional(),
    signature,
  }),
  z.strictObject({
    kind: z.literal('given'),
    ...common,
    previous: hash,
    /** Fingerprint of the key that holds the disk from here on; the site's name, for people; the migration. */
    to: hash,
    toSite: words(200),
    move: words(64, 1),
    signature,
  }),
  z.strictObject({
    kind: z.literal('taken-back'),
    ...common,
    previous: hash,
    /** The hash of the `given` that is void. */
    undoes: hash,
    /** The operator's. */
    word: words(1000),
    signature,
  }),
  z.strictObject({ kind: z.literal('released'), ...common, previous: hash, signature }),
  z.strictObject({ kind: z.literal('rekeyed'), ...common, previous: hash, to: hash, signature }),
])

export type DeedEntry = z.infer<typeof entryShape>
export type Entry<Kind extends DeedEntry['kind']> = Extract<DeedEntry, { readonly kind: Kind }>
/** An entry that nobody has signed yet. */
export type Unsigned<Of extends DeedEntry = DeedEntry> = Of extends DeedEntry ? Omit<Of, 'signature'> : never

/** At least one; the first is a root. */
export type Deed = readonly DeedEntry[]

/** What is signed is not taken for anything else that a site signs. */
const domain = 'vmstore deed 1\n'

/** In this order, as far as the kind has them. */
const fields = [
  'kind',
  'disk',
  'generation',
  'at',
  'by',
  'previous',
  'from',
  'to',
  'toSite',
  'move',
  'undoes',
  'word',
] as const

/** What is signed, and hashed: of the signature nothing, so that another valid one of the same entry makes no other entry. */
export function canonicalBytes(entry: Unsigned): Buffer {
  const known = entry as Readonly<Record<string, unknown>>
  const ordered = Object.fromEntries(fields.flatMap((field) => (field in known ? [[field, known[field]]] : [])))
  return Buffer.from(domain + JSON.stringify(ordered))
}

/** Of parsed entries, which do not change: a chain is hashed once. */
const hashes = new WeakMap<object, string>()

/** SHA-256, in hexadecimal digits. */
export function hashOf(entry: DeedEntry): string {
  const known = hashes.get(entry)
  if (known !== undefined) return known
  const found = createHash('sha256').update(canonicalBytes(entry)).digest('hex')
  hashes.set(entry, found)
  return found
}
