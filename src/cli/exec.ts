// `migrate --exec`: a command that the operator has run here once the destination serves the disk, such as the one that moves
// the machine. It runs beside the watching: the move goes on whatever it does. What it prints goes to stderr.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { MigrationView } from '../control/types.ts'

export interface Ended {
  /** null: a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Runs it by the shell, with what is moved in its environment. Resolves when it has ended; rejects when there is no shell. */
export async function execute(command: string, { id, disk, peer }: MigrationView): Promise<Ended> {
  const env = { ...process.env, VMSTORE_MIGRATION: id, VMSTORE_DISK: disk, VMSTORE_PEER: peer }
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', process.stderr, process.stderr], env })
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  return { code, signal }
}

/** The end of a sentence. */
export const endedText = ({ code, signal }: Ended): string => (signal ? `was ended by ${signal}` : `ended with ${code}`)
