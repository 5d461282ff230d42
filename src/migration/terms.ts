// What an operator chooses for a migration.

import { z } from 'zod'

export const terms = z.object({
  mode: z.enum(['post-copy']),
  switchover: z.enum(['auto', 'now', 'manual']),
  switchoverWaitMs: z.number().int().min(0).max(86_400_000),
  maxRate: z.number().int().min(4096).nullable(),
  stallTimeoutMs: z.number().int().min(1).nullable(),
  sourcePolicy: z.enum(['keep', 'delete']),
  /** With `now`: also while a client works at the source. Kept there. */
  force: z.boolean().optional(),
})
export type Terms = z.infer<typeof terms>
