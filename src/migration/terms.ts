// What an operator chooses for a move: one schema, of which the request of the control API, the message to the other site and
// the record are made. Imports nothing of ours, so that whoever asks may know it.

import { z } from 'zod'

export const switchoverModes = ['auto', 'now', 'manual'] as const
/** Whether the destination copies before switchover, after it, or both. A record from before there was a choice says post-copy. */
export const migrationModes = ['post-copy', 'hybrid', 'pre-copy'] as const
/** What becomes of the source's bytes once it is released. */
export const sourcePolicies = ['keep', 'delete'] as const
/** That pass together. */
export const maximumDisks = 64
const longestWaitMs = 86_400_000
const lowestRate = 4096

/** Bytes a second. */
export const maxRate = z.number().int().min(lowestRate)

export const terms = z.object({
  mode: z.enum(migrationModes),
  switchover: z.enum(switchoverModes),
  /** How long a guest's write at the destination waits for a source that answers busy. */
  switchoverWaitMs: z.number().int().min(0).max(longestWaitMs),
  /** Bytes a second of background copy; null: no bound. */
  maxRate: maxRate.nullable(),
  /** How long a guest's read waits for a source that is away before it fails; null: for ever. */
  stallTimeoutMs: z.number().int().min(1).nullable(),
  sourcePolicy: z.enum(sourcePolicies),
  /** Bytes of the destination's site that may spare sending: a disk there, or a raw image. Absent: what it kept, if anything. */
  seed: z.string().min(1).max(4096).optional(),
  /** What the disk is called at the destination. Absent: as at the source. Not with several. */
  as: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$/)
    .optional(),
  /** With `now`: also while a client works at the source, which is cut off then. */
  force: z.boolean().default(false),
})
export type Terms = z.infer<typeof terms>

/** As operators ask for them: what is not said has its usual value. */
export const askedTerms = terms.omit({ sourcePolicy: true }).extend({
  maxRate: terms.shape.maxRate.default(null),
  stallTimeoutMs: terms.shape.stallTimeoutMs.default(null),
  source: terms.shape.sourcePolicy,
})

/** Whether something is copied before switchover. A machine that is off has nothing to wait for: hybrid fetches all of it then. */
export function copiesAhead({ mode, switchover }: Pick<Terms, 'mode' | 'switchover'>): boolean {
  return mode === 'pre-copy' || (mode === 'hybrid' && switchover !== 'now')
}

/** Of a record, which was looked at when it was loaded (`wrongTerms`), or has just been made. */
export function termsOf(record: { readonly terms: object }): Terms {
  return record.terms as Terms
}

/** What is wrong with the terms of a record: 'mode: …'. undefined: nothing. */
export function wrongTerms(value: object): string | undefined {
  const [issue] = terms.safeParse(value).error?.issues ?? []
  return issue && `${issue.path.join('.')}: ${issue.message}`
}
