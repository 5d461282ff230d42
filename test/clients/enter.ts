// Runs a program of ours that finds another Debian's NBD programs in place of this machine's. Each of them becomes a small
// script, first on the path, that runs it with chroot. The folders that tests use are bound into the root at their own
// paths, so that files and sockets have one name on both sides. What always holds: the mounts are made in a namespace that
// ends with the program, so that nothing is left mounted, however it ends.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clientPrograms, clientsVariable } from '../tools.ts'

const projectFolder = join(import.meta.dirname, '../..')

/** /boot has the kernel of test guests. */
const shared = ['/dev', '/proc', '/sys', '/boot', tmpdir(), projectFolder].filter((path) => existsSync(path))

/** Shared again, though of this namespace alone: what nbdfuse mounts in the root is to be seen outside it. */
const bindAndRun = `
set -eu
root=$1
shift
mount --make-rshared /
while [ "$1" != -- ]; do
  mkdir -p "$root$1"
  mount --rbind "$1" "$root$1"
  shift
done
shift
exec "$@"
`

export interface Finished {
  readonly code: number | null
  /** Standard output and standard error, as they came. */
  readonly output: string
}

/** The command that runs tests, with what .mocharc.json says. */
export function mochaOf(paths: readonly string[]): string[] {
  return [process.execPath, join(projectFolder, 'node_modules/mocha/bin/mocha.js'), ...paths]
}

export interface RunOptions {
  /** Gets what it prints, as it comes. */
  readonly show?: (text: string) => void
  /** It is ended then. */
  readonly deadlineMs?: number
}

/** Runs it to its end, with the programs of `root`, or with this machine's. */
export async function runWith(
  root: string | undefined,
  command: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  if (root === undefined) return await finished(command, {}, options)
  const scripts = mkdtempSync(join(tmpdir(), 'vmstore-clients-'))
  try {
    for (const program of clientPrograms) writeScript(scripts, root, program)
    const environment = { [clientsVariable]: scripts, PATH: `${scripts}:${process.env['PATH']}` }
    const entering = ['unshare', '--mount', 'sh', '-c', bindAndRun, 'sh', root, ...shared]
    return await finished([...entering, '--', ...command], environment, options)
  } finally {
    rmSync(scripts, { recursive: true, force: true })
  }
}

/** One that the root does not have gets none, and counts as missing (test/tools.ts). */
function writeScript(folder: string, root: string, program: string): void {
  const path = ['/usr/bin', '/usr/sbin'].map((place) => join(place, program)).find((each) => existsSync(root + each))
  if (path === undefined) return
  // By its own path alone: what it runs in turn, as nbdkit does, lies in the root too.
  const lines = ['#!/bin/sh', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'export PATH']
  const run = `exec chroot '${root}' /usr/bin/env -C "$PWD" ${path} "$@"`
  writeFileSync(join(folder, program), `${[...lines, run].join('\n')}\n`, { mode: 0o755 })
}

/** As in CI, a program that is missing is an error there. */
function finished(
  [program, ...words]: readonly string[],
  environment: NodeJS.ProcessEnv,
  { show, deadlineMs }: RunOptions,
): Promise<Finished> {
  const child = spawn(program!, words, {
    cwd: projectFolder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CI: 'true', ...environment },
    timeout: deadlineMs ?? 0,
  })
  let output = ''
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      show?.(text)
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output }))
  })
}
