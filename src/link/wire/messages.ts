// The JSON inside frames: what a peer may say, checked once, then trusted. Unknown fields are ignored, so that a newer peer
// of a compatible version may add some.

import { z } from 'zod'
import { LinkError, purposes } from '../channel.ts'
import { maximumRuns } from './coverage.ts'

/** 2: a hello names its stripe, and an answer may have a body. 3: what is given is an entry of the disk's deed. */
export const protocolVersion = 3
/** The oldest version that this code still speaks. */
export const oldestVersion = 3
/** Of a purpose. */
export const maximumStripes = 8

const version = z.number().int().min(1).max(0xffff)
const purpose = z.enum(purposes)

/** What a hello of any version has. `purpose`: for an answer to it. */
export const anyHelloMessage = z.object({
  protocolVersion: version,
  oldestVersion: version,
  purpose: purpose.catch('control'),
})

export const helloMessage = z.object({
  protocolVersion: version,
  oldestVersion: version,
  purpose,
  stripe: z
    .number()
    .int()
    .min(0)
    .max(maximumStripes - 1),
  features: z.array(z.string().max(64)).max(64),
})
export type HelloMessage = z.infer<typeof helloMessage>

const safeInteger = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

/** `bodyBytes`: the answer may have a body, of at most so many bytes. */
export const callMessage = z.object({
  method: z.string().min(1).max(128),
  params: z.looseObject({}),
  bodyBytes: safeInteger.optional(),
})
export type CallMessage = z.infer<typeof callMessage>

export const errorMessage = z.object({
  code: z.string().min(1).max(64),
  message: z.string().max(4096),
  facts: z.looseObject({}).optional(),
})
export type ErrorMessage = z.infer<typeof errorMessage>

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
  const both = `the peer speaks link protocol ${named(peer)}, this site ${named(own)}`
  if (peer.oldestVersion > own.protocolVersion) return `${both}: upgrade vmstore at this site`
  if (peer.protocolVersion < own.oldestVersion) return `${both}: upgrade vmstore at the peer`
  return undefined
}

function named({ oldestVersion, protocolVersion }: Versions): string {
  return oldestVersion === protocolVersion ? `${protocolVersion}` : `${oldestVersion} to ${protocolVersion}`
}

/** A peer's words end on terminals and in logs: control characters do not. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, ' ')
}
