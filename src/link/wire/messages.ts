// The JSON inside frames: what a peer may say, checked once, then trusted. Unknown fields are ignored, so that a newer peer
// of a compatible version may add some.

import { z } from 'zod'
import { LinkError } from '../channel.ts'
import { maximumRuns } from './coverage.ts'

export const protocolVersion = 1
/** The oldest version that this code still speaks. */
export const oldestVersion = 1

const version = z.number().int().min(1).max(0xffff)

export const helloMessage = z.object({
  protocolVersion: version,
  oldestVersion: version,
  purpose: z.enum(['control', 'demand', 'background']),
  features: z.array(z.string().max(64)).max(64),
})
export type HelloMessage = z.infer<typeof helloMessage>

export const callMessage = z.object({ method: z.string().min(1).max(128), params: z.looseObject({}) })

export const errorMessage = z.object({
  code: z.string().min(1).max(64),
  message: z.string().max(4096),
  facts: z.looseObject({}).optional(),
})
export type ErrorMessage = z.infer<typeof errorMessage>

const safeInteger = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

export const fetchMessage = z.object({
  migration: z.string().min(1).max(128),
  disk: z.string().min(1).max(128),
  generation: safeInteger,
  urgency: z.enum(['demand', 'background']),
  runs: z
    .array(z.tuple([safeInteger, safeInteger]))
    .min(1)
    .max(maximumRuns),
})

export function parseMessage<Message>(schema: z.ZodType<Message>, json: object, what: string): Message {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new LinkError('protocol', `the peer sent an illegal ${what}: ${issue?.path.join('.')} ${issue?.message}`)
}

export interface Versions {
  readonly protocolVersion: number
  readonly oldestVersion: number
}

/** undefined when both can speak; else a sentence that says which side to upgrade. */
export function incompatibility(peer: Versions, own: Versions): string | undefined {
  const theirs = `the peer speaks link protocols ${peer.oldestVersion} to ${peer.protocolVersion}`
  const ours = `this site ${own.oldestVersion} to ${own.protocolVersion}`
  if (peer.oldestVersion > own.protocolVersion) return `${theirs}, ${ours}: upgrade vmstore here`
  if (peer.protocolVersion < own.oldestVersion) return `${theirs}, ${ours}: upgrade vmstore there`
  return undefined
}

/** A peer's words end on terminals and in logs: control characters do not. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ')
}
