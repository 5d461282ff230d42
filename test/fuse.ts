// Files that nbdfuse shows, where FUSE mounts are permitted.

import { stat } from 'node:fs/promises'
import { until } from './e2e/sites.ts'
import type { Program } from './program.ts'
import { skipHere } from './tools.ts'

/** What libfuse says where nobody may mount, as in many containers. */
const mayNotMount = /fuse: (device not found|failed to open|mount failed)|fusermount3?: /

/** Waits until nbdfuse has mounted a file of this size at `path`; where nobody may mount, the test is skipped. */
export async function mounted(context: Mocha.Context, fuse: Program, path: string, sizeBytes: number): Promise<void> {
  const isMounted = await until('nbdfuse has mounted', async () => {
    if ((await stat(path)).size === sizeBytes) return true
    return fuse.stderr.seen.some((line) => mayNotMount.test(line)) ? false : undefined
  })
  if (!isMounted) skipHere(context, 'FUSE mounts are not permitted')
}
