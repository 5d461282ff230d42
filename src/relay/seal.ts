// Objects of a relay, sealed: AES-256-GCM, whose associated data say which object of which move it is. Pure but for nonces.
//
// An object is: one byte of the format (1), a nonce of 12 bytes, the ciphertext, the tag of 16 bytes.
//
// What always holds: what `open` gives was sealed by a holder of the key for this very place. An object that lay elsewhere, one
// of another move, kind or generation, one that was cut or changed by a bit is a SealError, and none of its bytes are seen.
// That an object is the newest of its place, no seal can say: what is sealed there has to.

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { SealError } from './errors.ts'

export interface SealedAs {
  readonly move: string
  readonly kind: 'chunk' | 'manifest' | 'mail' | 'claim' | 'fence' | 'state'
  /** Where in its kind: what stands behind the kind in its key (names.ts). */
  readonly position: string
  /** The one that the move makes; 0 for what is of no generation. */
  readonly generation: number
}

const format = 1
const nonceBytes = 12
const tagBytes = 16
const headBytes = 1 + nonceBytes
/** What an object is longer than what is sealed in it. */
export const sealBytes = headBytes + tagBytes

/** With a random nonce: of one key no more than 2^32 objects. */
export function seal(key: Uint8Array, as: SealedAs, plain: Uint8Array): Buffer {
  return sealWith(key, randomBytes(nonceBytes), as, [plain])
}

/** With a nonce that the caller answers for: of one key, a nonce is for one text alone. The parts are sealed as one text. */
export function sealWith(key: Uint8Array, nonce: Uint8Array, as: SealedAs, parts: readonly Uint8Array[]): Buffer {
  const plainBytes = parts.reduce((sum, part) => sum + part.length, 0)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
  cipher.setAAD(associated(as))
  // Memory of its own, so that it can be transferred between threads.
  const sealed = Buffer.allocUnsafeSlow(plainBytes + sealBytes)
  sealed[0] = format
  sealed.set(nonce, 1)
  let at = headBytes
  for (const part of parts) {
    const out = cipher.update(part)
    sealed.set(out, at)
    at += out.length
  }
  cipher.final()
  sealed.set(cipher.getAuthTag(), at)
  return sealed
}

/** @throws SealError */
export function open(key: Uint8Array, as: SealedAs, sealed: Uint8Array): Buffer {
  const what = `the relay's object ${as.kind}/${as.position}`
  if (sealed.length < sealBytes) throw new SealError(`${what} was cut: it has ${sealed.length} bytes`)
  if (sealed[0] !== format) throw new SealError(`${what} is in no format that this vmstore knows, or was changed`)
  const end = sealed.length - tagBytes
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(1, headBytes), { authTagLength: tagBytes })
  decipher.setAAD(associated(as))
  decipher.setAuthTag(sealed.subarray(end))
  try {
    const plain = decipher.update(sealed.subarray(headBytes, end))
    decipher.final()
    return plain
  } catch (error) {
    throw new SealError(
      `${what} is not what was put there: it was swapped for another, cut or forged, or sealed with another key`,
      { cause: error },
    )
  }
}

/** Each text behind its length, so that no two places give the same bytes. */
function associated({ move, kind, position, generation }: SealedAs): Buffer {
  const texts = ['vmstore relay 1', move, kind, position].map((text) => Buffer.from(text))
  const bytes = Buffer.alloc(texts.reduce((sum, text) => sum + 4 + text.length, 8))
  let at = 0
  for (const text of texts) {
    at = bytes.writeUInt32BE(text.length, at)
    at += text.copy(bytes, at)
  }
  bytes.writeBigUInt64BE(BigInt(generation), at)
  return bytes
}
