// Runs the documents' shell scripts with fakes for the programs that they start: what each was called with is written down.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { contentOf } from '../architecture/sources.ts'

const deadlineMs = 60_000

export interface Ending {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A copy of a script whose absolute paths of the system lie below `folder`, and programs that it finds first. */
export class ScriptScene {
  readonly folder: string
  readonly #script: string
  readonly #programs: string
  readonly #called: string

  constructor(folder: string, script: string, paths: readonly string[]) {
    this.folder = folder
    this.#programs = join(folder, 'programs')
    this.#called = join(folder, 'called')
    this.#script = join(folder, 'script')
    mkdirSync(this.#programs)
    // Only where a path begins: /run of /run/lock, and not of /var/run.
    const begins = new RegExp(`(?<![\\w.}])(?=(?:${paths.join('|')})\\b)`, 'g')
    writeFileSync(this.#script, contentOf(script).replace(begins, folder))
    chmodSync(this.#script, 0o755)
  }

  /** A program in shell; `called` has its name and words, one call a line, before it runs. */
  program(name: string, body: string, path = join(this.#programs, name)): void {
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, `#!/bin/sh\necho "${name} $*" >> '${this.#called}'\n${body}\n`)
    chmodSync(path, 0o755)
  }

  file(path: string, content = ''): void {
    const whole = join(this.folder, path)
    mkdirSync(join(whole, '..'), { recursive: true })
    writeFileSync(whole, content)
  }

  async run(words: readonly string[], environment: Record<string, string> = {}): Promise<Ending> {
    const env = { PATH: `${this.#programs}:/usr/bin:/bin`, ...environment }
    const child = spawn(this.#script, words, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: deadlineMs })
    const closed = once(child, 'close')
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
    const [status] = (await closed) as [number | null]
    return { status, stdout, stderr }
  }

  /** The calls since the last look, without the folder's own path. */
  calls(): string[] {
    if (!existsSync(this.#called)) return []
    const lines = readFileSync(this.#called, 'utf8').replaceAll(this.folder, '').trimEnd().split('\n')
    writeFileSync(this.#called, '')
    return lines.filter((line) => line !== '')
  }
}
