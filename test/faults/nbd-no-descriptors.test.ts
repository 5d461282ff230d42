// A client that comes when the process has one descriptor left: the connection itself takes it, and nothing more can be
// opened for that client.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { Command } from '../../src/nbd/wire/constants.ts'
import { RawClient, serve } from '../nbd/harness.ts'
import { MemoryExport } from '../nbd/memory-export.ts'

/** Leaves this process exactly one descriptor, until it is disposed. */
function allDescriptorsButOne(): Disposable {
  const setLimit = (soft: string): void => {
    assert.equal(spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${soft}:`]).status, 0)
  }
  const open = readdirSync('/proc/self/fd').map(Number)
  const { stdout } = spawnSync('prlimit', ['--pid', String(process.pid), '--nofile', '--noheadings', '--output=SOFT'])
  setLimit(String(Math.max(...open) + 20))
  const taken: number[] = []
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'))
  } catch {
    closeSync(taken.pop()!)
  }
  return {
    [Symbol.dispose]: () => {
      for (const fd of taken) closeSync(fd)
      setLimit(stdout.toString().trim())
    },
  }
}

describe('faults: no descriptor is left for a client', () => {
  it('the client is dropped, and the others are served', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const before = await RawClient.open(site.path)
    const late = connect({ path: site.path })
    late.on('error', () => {})
    const gone = once(late, 'close')
    {
      using _scarce = allDescriptorsButOne()
      late.resume()
      await gone
    }
    assert(site.log.some(({ level, message }) => level === 'warn' && message.includes('EMFILE')))
    assert.equal(site.server.sessions, 1)
    before.request({ type: Command.flush, cookie: 5 })
    assert.equal((await before.reply()).cookieLow, 5)
    const after = await RawClient.open(site.path)
    before.destroy()
    after.destroy()
  })
})
