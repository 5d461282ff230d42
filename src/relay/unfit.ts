// Stores that cannot decide who owns a disk, and what operators are told of them.

/** By name and code: a plugin may carry a copy of the contract's module, and weather.ts speaks of its own. */
export function isUnfit(error: unknown): boolean {
  return codeOf(error) === 'unfit'
}

/** Of a TransportError or a RelayError; undefined: it is neither. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !['TransportError', 'RelayError'].includes(error.name) || !('code' in error)) return
  return typeof error.code === 'string' ? error.code : undefined
}

export function unfitSentence(why: string): string {
  return (
    `this store cannot decide which site owns a disk: ${why}. Nothing is handed over by it. Pair the two sites ` +
    '(`vmstore peer invite`) and give --to besides --via: then the link decides, and the chunks go through the store; or use a bucket ' +
    'of another store, without versioning'
  )
}
