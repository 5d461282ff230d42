// SHA-256 of many bytes, in steps with turns of the loop between: a piece at once would take longer than guests may wait.

import { createHash, hash } from 'node:crypto'
import { stepBytes } from './turns.ts'

/** The bytes must not change until it resolves. `turn` resolves when the next step may begin. */
export async function sha256(bytes: Uint8Array, turn: () => Promise<void>): Promise<Buffer> {
  const hash = createHash('sha256')
  for (let at = 0; at < bytes.length; at += stepBytes) {
    await turn()
    hash.update(bytes.subarray(at, at + stepBytes))
  }
  return hash.digest()
}

/** Of a short digest: enough to say that two ranges are alike, for what is believed by it is compared in the end. */
export const shortDigestBytes = 16

/** The first bytes of SHA-256, in base64. Of no more than `stepBytes`: it is one step. */
export function shortDigest(bytes: Uint8Array): string {
  return (hash('sha256', bytes, 'buffer') as Buffer).toString('base64', 0, shortDigestBytes)
}
