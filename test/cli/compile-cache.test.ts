// Compiled code is run as it lies in its folder: whose that is decides whether it is used.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { skipHere } from '../tools.ts'

const program = resolve(import.meta.dirname, '../../bin/run.js')
const nobody = 65534

describe('the cache of compiled code', () => {
  let home: string

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'vmstore-home-'))
  })

  afterEach(() => rmSync(home, { recursive: true, force: true }))

  /** Starts the program; how many entries its cache then has, undefined if there is none. */
  function entriesAfterStart(environment: NodeJS.ProcessEnv = { HOME: home }): number | undefined {
    const { PATH } = process.env
    const { status, stderr } = spawnSync(process.execPath, [program, '--version'], { env: { PATH, ...environment } })
    assert.equal(status, 0, stderr.toString())
    const folder = join(home, '.cache', 'vmstore')
    return existsSync(folder) ? readdirSync(folder).length : undefined
  }

  it('is made below the user’s home', () => {
    assert.equal(entriesAfterStart(), 1)
  })

  it('is made where XDG_CACHE_HOME says, unless that is no whole path', () => {
    assert.equal(entriesAfterStart({ HOME: home, XDG_CACHE_HOME: 'here' }), undefined)
    assert.equal(entriesAfterStart({ HOME: '/nonexistent', XDG_CACHE_HOME: join(home, '.cache') }), 1)
  })

  it('is not used below a folder that others may write to', () => {
    mkdirSync(join(home, '.cache', 'vmstore'), { recursive: true })
    chmodSync(join(home, '.cache'), 0o777)
    assert.equal(entriesAfterStart(), 0)
  })

  it('is neither made nor used in the home of another user', function () {
    if (process.getuid!() !== 0) skipHere(this, 'only root can stand in the home of another')
    chownSync(home, nobody, nobody)
    assert.equal(entriesAfterStart(), undefined)
    mkdirSync(join(home, '.cache', 'vmstore'), { recursive: true })
    assert.equal(entriesAfterStart(), 0)
  })
})
