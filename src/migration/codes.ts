// Codes by which one site refuses another, as far as the other acts upon them.

/** That site starts, and does not know yet which migrations it has; or cannot say yet: ask again. */
export const startingCode = 'starting'
/** A client works at the source, and the operator has not forced the switchover. */
export const atWorkCode = 'client-at-work'
/** The source cannot make durable what it has answered. */
export const syncFailedCode = 'sync-failed'
/** The source has not, or has no more, the right under which it was asked. */
export const noRightCode = 'no-right'
/** That site knows no such migration, or none of this one's peers. */
export const unknownMigrationCode = 'migration-unknown'
/** A source that says one of these has moved on since, or knows nothing of the migration any more: it need not be told. */
export const movedOnCodes: readonly string[] = ['stale', unknownMigrationCode]
/** The source knows no such epoch, or round of it: what was given out under it may have been written since. Track it anew. */
export const epochOverCode = 'epoch-over'
