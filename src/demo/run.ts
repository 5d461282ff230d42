// Runs the demo in a folder of its own, and leaves nothing behind: its processes end and its folder goes, after success,
// Ctrl-C and a crash alike. Only after a failure the folder stays, and is named: it is the evidence.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { ControlError } from '../control/errors.ts'
import { ExitCode } from '../control/types.ts'
import { Demo } from './course.ts'
import { makeFolder } from './folder.ts'
import type { DemoResult } from './report.ts'
import type { Screen } from './screen.ts'

export interface RunOptions {
  readonly sizeBytes: number
  /** Of this project. */
  readonly projectFolder: string
  readonly screen: Screen
  /** For scripts. */
  event(event: { readonly type: string }): void
}

const endingSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** The image and two disks, none larger than this beside their size, with records and logs. */
const roomBesideBytes = 64 * 2 ** 20

/** Throws ControlError. */
export async function runDemo(options: RunOptions): Promise<DemoResult> {
  const { screen } = options
  const folder = await makeFolder(roomOf(options.sizeBytes))
  const children = new Set<ChildProcess>()
  const interrupt = new AbortController()
  const onSignal = () => interrupt.abort(new Error('interrupted'))
  // Whatever ends this process, but SIGKILL.
  const onExit = () => {
    for (const child of children) child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
  for (const signal of endingSignals) process.on(signal, onSignal)
  process.on('exit', onExit)
  try {
    const demo = new Demo({ ...options, folder, signal: interrupt.signal, spawned: (child) => children.add(child) })
    const result = await demo.run()
    await screen.end('done')
    await rm(folder, { recursive: true, force: true })
    return result
  } catch (error) {
    await screen.end('failed')
    await Promise.all([...children].map(kill))
    if (!interrupt.signal.aborted) throw failed(error, folder)
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    throw interrupted()
  } finally {
    process.off('exit', onExit)
    for (const signal of endingSignals) process.off(signal, onSignal)
  }
}

/** Of the image and of each site's disk at most as much as the disk is large, and mostly far less. */
function roomOf(sizeBytes: number): number {
  return 3 * Math.min(sizeBytes, 128 * 2 ** 20) + roomBesideBytes
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

function failed(error: unknown, folder: string): ControlError {
  const said = error instanceof Error ? error.message.trim().replace(/\.$/, '') : String(error)
  return new ControlError(
    {
      code: 'demo-failed',
      exit: ExitCode.other,
      message: `The demo failed: ${said}.`,
      safe: 'Its sites have been ended, and nothing outside of its folder was touched.',
      next: `Look into ${folder}, where the sites' folders and logs are, and remove it afterwards.`,
    },
    { cause: error },
  )
}

function interrupted(): ControlError {
  return new ControlError({
    code: 'interrupted',
    exit: ExitCode.other,
    message: 'The demo was interrupted: its sites have been ended, and its folder has been removed.',
  })
}
