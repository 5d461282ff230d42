// A transport that a third party wrote, installed as a user installs it, carries a whole move.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MigrationView } from '../../src/control/types.ts'
import { NbdClient } from '../../src/nbd/client/client.ts'
import { streamTransportContract } from '../../src/transport/testkit.ts'
import { endSitesAfterEach, must, pair, Site } from '../e2e/sites.ts'
import { unixTransport } from './example-transport/transports.js'

const example = join(import.meta.dirname, 'example-transport')
const runFile = join(import.meta.dirname, '../../bin/run.js')
const sockets = mkdtempSync(join(tmpdir(), 'vmt-'))
let count = 0

after(() => rmSync(sockets, { recursive: true, force: true }))

streamTransportContract(
  'the example of a third party',
  () => unixTransport,
  () => new URL(`unix://${sockets}/${++count}.sock`),
)

describe('a transport plugin of a third party', () => {
  const home = mkdtempSync(join(tmpdir(), 'vmh-'))
  const dataHome = process.env['XDG_DATA_HOME']
  endSitesAfterEach()

  before(() => {
    process.env['XDG_DATA_HOME'] = home
    execFileSync(process.execPath, [runFile, 'plugins', 'link', '--no-install', example], { stdio: 'pipe' })
  })
  after(() => {
    if (dataHome === undefined) delete process.env['XDG_DATA_HOME']
    else process.env['XDG_DATA_HOME'] = dataHome
    rmSync(home, { recursive: true, force: true })
  })

  it('is listed once it is linked', () => {
    const listed = JSON.parse(
      execFileSync(process.execPath, [runFile, 'transport', 'list', '--json'], { encoding: 'utf8' }),
    )
    const schemes = (listed as { schemes: string[] }[]).flatMap((transport) => transport.schemes)
    assert.deepEqual(schemes.sort(), ['dir', 's3', 'tcp', 'unix'])
  })

  it('carries a whole move: pairing, reads from afar, switchover, copy, release', async () => {
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
