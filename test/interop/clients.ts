// What the tests with other people's NBD clients share: how a client is run, and what a disk is filled with.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { TestServer } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'
import { findTool } from '../tools.ts'

export const mebibyte = 1024 * 1024
const execute = promisify(execFile)
const timeoutMs = 120_000

/** Standard output of a program that succeeds; a failure carries its standard error. */
export async function run(program: string, ...words: string[]): Promise<string> {
  const { stdout } = await execute(findTool(program)!, words, {
    timeout: timeoutMs,
    maxBuffer: 16 * mebibyte,
    // nbdsh runs `python3`: the system's, which has its module, not whichever a developer put before it.
    env: { ...process.env, PATH: `/usr/bin:/bin:${process.env['PATH']}` },
  })
  return stdout
}

/** Python lines in nbdsh, with the handle `h` connected and its own checks off. */
export function shell(uri: string, script: string, before = ''): Promise<string> {
  return run('nbdsh', '-c', before, '-c', 'h.set_strict_mode(0)', '-u', uri, '-c', script)
}

/** Bytes that differ everywhere. */
export function patterned(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  for (let at = 0; at + 4 <= lengthBytes; at += 4) bytes.writeUInt32LE(Math.imul(at + 1, 0x9e3779b1) >>> 0, at)
  return bytes
}

/** A disk with `bytes` in it, all of them written. */
export function filled(bytes: Buffer, options: { name?: string; readOnly?: boolean } = {}): MemoryExport {
  const disk = new MemoryExport({ ...options, sizeBytes: bytes.length })
  bytes.copy(disk.bytes)
  disk.written.fill(1)
  return disk
}

export function assertNoFailure(site: TestServer): void {
  const failures = site.log.filter(({ level }) => level === 'error' || level === 'warn')
  assert.deepEqual(failures, [])
}
