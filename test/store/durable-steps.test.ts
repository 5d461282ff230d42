// What the kernel is told, and in which order, where store/files.ts promises that something is durable: the crash model
// believes that promise, and stands in for these files. Each step is done by a program of its own (durable-steps.ts), below
// whose libc a library notes the calls (storage-calls.c).

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { needTool } from '../tools.ts'
import { removeFoldersAfterEach, temporaryFolder } from './folder.ts'

describe('durable steps of kernel files', () => {
  removeFoldersAfterEach()
  let place: string | undefined
  let library: string
  before(function () {
    needTool(this, 'gcc')
    place = mkdtempSync(join(tmpdir(), 'vmstore-test-'))
    library = join(place, 'storage-calls.so')
    const source = join(import.meta.dirname, 'storage-calls.c')
    execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o', library, source])
  })
  after(() => {
    if (place) rmSync(place, { recursive: true })
  })

  /** The calls of a step in a folder with these files, each begun after the one before had returned. */
  function callsOf(step: string, ...there: readonly string[]): string[] {
    const folder = realpathSync(temporaryFolder())
    if (there.length > 0) mkdirSync(join(folder, 'disk'))
    for (const name of there) writeFileSync(join(folder, 'disk', name), Buffer.alloc(8192))
    const log = join(temporaryFolder(), 'calls')
    execFileSync(process.execPath, [join(import.meta.dirname, 'durable-steps.ts'), step, folder], {
      env: { ...process.env, LD_PRELOAD: library, STORAGE_CALLS: log, STORAGE_CALLS_BELOW: folder },
    })
    const calls: string[] = []
    let under: string | undefined
    for (const line of readFileSync(log, 'utf8').trimEnd().split('\n')) {
      const [, when, call] = /^(begin|done|fail) (.*)$/.exec(line)!
      if (when === 'begin') assert.equal(under, undefined, `${call} begins while ${under} is under way`)
      else assert.equal(under, call)
      under = when === 'begin' ? call : undefined
      if (when === 'done' && calls.at(-1) !== call) calls.push(call!)
    }
    assert.equal(under, undefined)
    return calls
  }

  it('a block file that was created is there after a power loss: its size, its name, and the name of its folder', () => {
    assert.deepEqual(callsOf('createBlockFile'), [
      'mkdir disk',
      'fsync .',
      'create disk/web01.raw',
      'truncate disk/web01.raw',
      'fsync disk/web01.raw',
      'fsync disk',
      'mkdir answered',
    ])
  })

  it('promise 4: a log takes the place of the old one only once its bytes are durable, and then its name is', () => {
    assert.deepEqual(callsOf('replaceLog', 'maps.log'), [
      'create disk/maps.log.new',
      'write disk/maps.log.new',
      'fsync disk/maps.log.new',
      'rename disk/maps.log.new disk/maps.log',
      'fsync disk',
      'mkdir answered',
    ])
  })

  it('promise 6: a write is with the kernel when it is answered, and durable when the sync after it is', () => {
    assert.deepEqual(callsOf('write', 'web01.raw'), [
      'write disk/web01.raw',
      'mkdir written',
      'write disk/web01.raw',
      'mkdir written-too',
      'fdatasync disk/web01.raw',
      'mkdir answered',
    ])
  })

  it('promise 6: a record of the maps is with the kernel at once, and durable with its commit when that is answered', () => {
    const calls = callsOf('commit', 'web01.raw')
    assert.deepEqual(calls.slice(calls.indexOf('mkdir made')), [
      'mkdir made',
      'write disk/maps.log',
      'mkdir appended',
      'write disk/maps.log',
      'fdatasync disk/maps.log',
      'mkdir answered',
    ])
  })

  it('a folder that was renamed keeps its new name', () => {
    assert.deepEqual(callsOf('rename', 'web01.raw'), ['rename disk other', 'fsync .', 'mkdir answered'])
  })

  it('what was removed does not come back: a folder with all that is in it', () => {
    assert.deepEqual(callsOf('remove', 'web01.raw'), [
      'unlink disk/web01.raw',
      'rmdir disk',
      'fsync .',
      'mkdir answered',
    ])
  })

  it('what was removed does not come back: a file', () => {
    assert.deepEqual(callsOf('removeFile', 'maps.log'), ['unlink disk/maps.log', 'fsync disk', 'mkdir answered'])
  })
})
