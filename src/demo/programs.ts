// System programs that the demo uses when they are there.

import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const outputMaxBytes = 16 * 1024 * 1024

/** Where `program` lies, or undefined. sbin, where file systems' programs lie, is not on everybody's path. */
export function findProgram(program: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'].filter(
    (folder) => folder !== '',
  )
  return folders.map((folder) => join(folder, program)).find(isExecutable)
}

/** What it prints on stdout. Throws with what it prints on stderr. */
export async function runProgram(path: string, words: readonly string[], signal: AbortSignal): Promise<string> {
  const options = { signal, maxBuffer: outputMaxBytes, env: { ...process.env, LC_ALL: 'C' } }
  const { stdout } = await promisify(execFile)(path, words, options)
  return stdout
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
