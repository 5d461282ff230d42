// Transports that third parties wrote keep the contract, are installed as a user installs them, and one that carries streams
// carries a whole move.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MigrationView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { objectTransportContract, streamTransportContract } from '../../src/transport/testkit.ts'
import { endSitesAfterEach, must, pair, Site } from '../e2e/sites.ts'
import { sqliteTransport } from './example-object/transports.js'
import { unixTransport } from './example-stream/transports.js'

const examples = ['example-stream', 'example-object'].map((name) => join(import.meta.dirname, name))
const runFile = join(import.meta.dirname, '../../bin/run.js')
const sockets = mkdtempSync(join(tmpdir(), 'vmt-'))
let count = 0

after(() => rmSync(sockets, { recursive: true, force: true }))

streamTransportContract(
  'the example of a third party',
  () => unixTransport,
  () => new URL(`unix://${sockets}/${++count}.sock`),
)
objectTransportContract(
  'the example of a third party',
  () => sqliteTransport,
  () => new URL(`sqlite://${sockets}/objects.sqlite`),
)

describe('transport plugins of third parties', () => {
  const home = mkdtempSync(join(tmpdir(), 'vmh-'))
  const dataHome = process.env['XDG_DATA_HOME']
  endSitesAfterEach()

  const vmstore = (...words: string[]) => execFileSync(process.execPath, [runFile, ...words], { encoding: 'utf8' })
  const link = (folder: string) => vmstore('plugins', 'link', '--no-install', folder)

  before(() => {
    process.env['XDG_DATA_HOME'] = home
    for (const example of examples) link(example)
    link(pluginOfTomorrow(join(home, 'plugin-of-tomorrow')))
  })
  after(() => {
    if (dataHome === undefined) delete process.env['XDG_DATA_HOME']
    else process.env['XDG_DATA_HOME'] = dataHome
    rmSync(home, { recursive: true, force: true })
  })

  it('import nothing of vmstore but its contract', () => {
    for (const example of examples) {
      const imported = readFileSync(join(example, 'transports.js'), 'utf8').matchAll(/from '([^']+)'/g)
      for (const [, name] of imported) assert.match(name!, /^(?:node:\w+|vmstore\/transport)$/)
    }
  })

  it('are listed once they are linked; one of another contract version as unusable', () => {
    const listed = JSON.parse(vmstore('transport', 'list', '--json')) as {
      schemes: string[]
      kind: string
      usable: boolean
    }[]
    const told = listed.map(({ schemes, kind, usable }) => `${schemes.join()} ${kind} ${usable}`)
    assert.deepEqual(told.sort(), [
      'dir object true',
      's3 object true',
      'sqlite object true',
      'tcp stream true',
      'tomorrow datagram false',
      'unix stream true',
    ])
    const unusable = 'vmstore-transport-tomorrow 2.0.0, unusable: it keeps contract version 2, and this vmstore 1'
    assert.ok(vmstore('transport', 'list').includes(unusable))
  })

  it('carry a whole move beside one that is unusable: pairing, reads from afar, switchover, copy, release', async () => {
    const a = await Site.start('osaka', { peer: `unix://${sockets}/a.sock` })
    const b = await Site.start('tokyo', { peer: `unix://${sockets}/b.sock` })
    await pair(a, b)
    await must(a, 'disk', 'create', 'web01', '--size', '8M')
    const bytes = Buffer.alloc(65536, 0x5a)
    const guest = await NbdClient.connect(a.uri('web01'))
    await guest.write(65536, bytes)
    await guest.disconnect()
    const result: MigrationView = await must(a, 'migrate', 'web01', '--to', 'tokyo', '--switchover', 'now')
    assert.deepEqual([result.state, result.transport], ['done', 'unix'])
    await a.kill()
    const moved = await NbdClient.connect(b.uri('web01'))
    assert.deepEqual(await moved.read(65536, bytes.length), bytes)
    await moved.disconnect()
  })
})

/** Written for a vmstore that is not there yet. */
function pluginOfTomorrow(folder: string): string {
  mkdirSync(folder)
  const hooks = { 'vmstore:transports': './transports.js' }
  const about = {
    name: 'vmstore-transport-tomorrow',
    version: '2.0.0',
    type: 'module',
    oclif: { commands: false, hooks },
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify(about))
  const driver = "{ contractVersion: 2, kind: 'datagram', schemes: ['tomorrow'] }"
  writeFileSync(join(folder, 'transports.js'), `export default async () => [${driver}]\n`)
  return folder
}
