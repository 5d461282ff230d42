// What is read of a device from sysfs, and the lock by which one process cares for it. The folders are a test's.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatBackend, parseBackend } from '../../src/attach/backend.ts'
import { DeviceLock, indexOf, KernelDevice } from '../../src/attach/device.ts'

describe('a device of the kernel’s NBD client', () => {
  let place: string
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), 'vmstore-device-'))
  })
  afterEach(() => rmSync(place, { recursive: true }))

  it('is named by its path or its name, and nothing else is one', () => {
    assert.deepEqual(
      ['/dev/nbd0', 'nbd12', '/dev/nbd0p1', '/dev/nbd', '/dev/nbd01', '/dev/sda', 'x/nbd0', ''].map(indexOf),
      [...[0, 12], ...Array(6).fill(undefined)],
    )
  })

  it('is there, attached or not, with the text that it was made with', async () => {
    const device = new KernelDevice(7, place)
    assert.equal(await device.facts(), undefined)
    const folder = join(place, 'block/nbd7')
    mkdirSync(join(folder, 'queue'), { recursive: true })
    writeFileSync(join(folder, 'size'), '2048\n')
    assert.deepEqual(await device.facts(), { isAttached: false, backend: undefined, sizeBytes: 1 << 20 })
    writeFileSync(join(folder, 'pid'), '77\n')
    writeFileSync(join(folder, 'backend'), 'made of this\n')
    assert.deepEqual(await device.facts(), { isAttached: true, backend: 'made of this', sizeBytes: 1 << 20 })
  })

  it('has the deadlines with requests that it is given, where the kernel lets it be changed', async () => {
    const device = new KernelDevice(7, place)
    assert.equal(await device.lookAfterRequests(5000), false)
    mkdirSync(join(place, 'block/nbd7/queue'), { recursive: true })
    assert.equal(await device.lookAfterRequests(5000), true)
    assert.equal(readFileSync(join(place, 'block/nbd7/queue/io_timeout'), 'utf8'), '5000')
  })

  it('is one process’s to care for, until it lets go', () => {
    const lock = DeviceLock.take(7, place)
    assert(lock instanceof DeviceLock)
    assert.deepEqual(DeviceLock.take(7, place), { holder: String(process.pid) })
    const other = DeviceLock.take(8, place)
    assert(other instanceof DeviceLock)
    other.release()
    lock.release()
    const again = DeviceLock.take(7, place)
    assert(again instanceof DeviceLock)
    again.release()
  })

  it('is known again by the text that it was made with, and texts of others are not taken for it', () => {
    const backend = {
      target: 'a "name" of\nmine',
      identity: 'disk x in generation 2',
      sizeBytes: 2 ** 52,
      flags: 0xffff,
      connections: 4,
    }
    assert.deepEqual(parseBackend(formatBackend(backend)), backend)
    assert(!formatBackend(backend).includes('\n'), 'sysfs shows a line')
    const { identity: _, ...ofUri } = backend
    assert.deepEqual(parseBackend(formatBackend(ofUri)), ofUri)
    const whole = JSON.parse(formatBackend(backend)) as Record<string, unknown>
    for (const text of [
      ...['', 'x', 'null', '[]', '{}'],
      ...Object.keys(whole)
        .filter((key) => key !== 'identity')
        .flatMap((key) => [null, -1, 'x '.repeat(3), 0.5].map((value) => JSON.stringify({ ...whole, [key]: value })))
        .filter((text) => !text.includes('"target":"x')),
      JSON.stringify({ ...whole, connections: 0 }),
    ]) {
      assert.equal(parseBackend(text), undefined, text)
    }
  })
})
