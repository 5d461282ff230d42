import assert from 'node:assert/strict'
import { GuestErrors } from '../../src/disk/guest-errors.ts'
import { GuestError } from '../../src/guest/export.ts'
import { nbdErrorCodes } from '../../src/nbd/server/guest-errors.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { closeDisksAfterEach, openDisk, ReadySource } from './hand.ts'

describe('what guests were answered with', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  it('is counted by error, and logged for the 1st, 2nd, 4th of a kind and so on', () => {
    const lines: object[] = []
    let seconds = 0
    const errors = new GuestErrors({
      diskName: 'web01',
      errorNames: nbdErrorCodes,
      log: (level, facts) => lines.push([level, facts['code'], facts['count']]),
      date: () => new Date(1_700_000_000_000 + 1000 * seconds++),
    })
    for (let count = 0; count < 5; count++) errors.add('no-space', 'a', 'no space left on device')
    errors.add('not-served', 'a', 'it has departed')
    assert.deepEqual(lines, [
      ['warn', 'ENOSPC', 1],
      ['warn', 'ENOSPC', 2],
      ['warn', 'ENOSPC', 4],
      ['info', 'ESHUTDOWN', 1],
    ])
    const [noSpace, notServed] = [errors.counts.get('no-space'), errors.counts.get('not-served')]
    assert.deepEqual([noSpace!.count, noSpace!.last, notServed!.count], [5, '2023-11-14T22:13:24.000Z', 1])
  })

  it('a write that fails is counted, whichever way it fails', async () => {
    const { disk, files } = await openDisk(new ReadySource())
    const guest = disk.open('guest')
    files.fail('write', Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }))
    assert.throws(() => guest.write(0, Buffer.alloc(4096), false), GuestError)
    files.hold('write')
    const late = guest.write(0, Buffer.alloc(4096), false)
    files.release('write')
    await assert.rejects(async () => late, GuestError)
    assert.equal(disk.guestErrors.counts.get('no-space')!.count, 2)
  })

  it('what a client that is gone would have been told is not', async () => {
    const { disk, files } = await openDisk(new ReadySource())
    const guest = disk.open('guest')
    files.hold('write')
    const write = guest.write(0, Buffer.alloc(4096), false)
    guest.hangUp?.()
    files.fail('write', new Error('given up'))
    files.release('write')
    await assert.rejects(async () => write)
    assert.equal(disk.guestErrors.counts.size, 0)
  })
})
