// What --from may name, and what is said of what it may not.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { UsageError } from '../../src/cli/errors.ts'
import { explainUnseen, imageArgument } from '../../src/cli/image-argument.ts'
import { ControlError, errorViewOf } from '../../src/control/errors.ts'

describe('what --from names', () => {
  let place: string
  before(() => {
    place = mkdtempSync(join(tmpdir(), 'vms-'))
  })
  after(() => rmSync(place, { recursive: true }))

  it('a path is made whole, a URI stays', () => {
    assert.equal(imageArgument('web01.raw'), resolve('web01.raw'))
    for (const uri of ['nbd://host/web01', 'nbds://host:1/x', 'nbd+unix:///x?socket=/run/s', 'NBD://host'])
      assert.equal(imageArgument(uri), uri)
  })

  const explained: readonly (readonly [from: string, next: RegExp])[] = [
    ['nbd:unix:/run/nbd.sock', /nbd\+unix:\/\/\/\?socket=\/run\/nbd\.sock\.$/],
    ['nbd:unix:/run/nbd.sock:exportname=web01', /nbd\+unix:\/\/\/web01\?socket=\/run\/nbd\.sock\.$/],
    ['nbd:10.0.0.5:10809', /nbd:\/\/10\.0\.0\.5:10809\/\.$/],
    ['nbd:10.0.0.5:10809:exportname=web01', /nbd:\/\/10\.0\.0\.5:10809\/web01\.$/],
    ['tokyo:10809/web01', /nbd:\/\/tokyo:10809\/web01\.$/],
    ['[2001:db8::1]:10809', /nbd:\/\/\[2001:db8::1\]:10809\/\.$/],
    ['json:{"driver":"nbd"}', /qemu-nbd/],
    ['rbd:pool/web01', /qemu-nbd/],
    ['https://host/web01.img', /nbdkit curl/],
    ['file:///srv/web01.img', /\/srv\/web01\.img\.$/],
  ]
  for (const [from, next] of explained) {
    it(`${from} is no path: what would do is said`, () => {
      assert.throws(
        () => imageArgument(from),
        (error: UsageError) => {
          return error instanceof UsageError && error.view.exit === 2 && next.test(error.view.next!)
        },
      )
    })
  }

  it('a file that is there is a file, whatever it is called', () => {
    for (const name of ['tokyo:10809', 'json:x']) {
      const path = join(place, name)
      writeFileSync(path, '')
      assert.equal(imageArgument(path), path)
    }
  })

  it('a file that this command sees and the daemon does not: why that may be', () => {
    const path = join(place, 'web01.raw')
    writeFileSync(path, '')
    const error = new ControlError({ code: 'image-unknown', message: `there is no file ${path}.`, exit: 3 })
    const view = errorViewOf(explainUnseen(error, path))
    assert.match(view!.message, /this command sees it.*ProtectHome=.*PrivateTmp=/)
    assert.match(view!.next!, /nbd\+unix/)
    assert.equal(explainUnseen(error, join(place, 'missing')), error)
    assert.equal(explainUnseen(error, undefined), error)
  })
})
