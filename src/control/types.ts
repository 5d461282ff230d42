// What travels between a command and its daemon: the shapes of the control API. Requests are checked with these schemas
// by the server; views are plain JSON, and are what `--json` prints.

export * from './types/deeds.ts'
export * from './types/disks.ts'
export * from './types/errors.ts'
export * from './types/migrations.ts'
export * from './types/peers.ts'
export * from './types/sessions.ts'
export * from './types/sites.ts'
