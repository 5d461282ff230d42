// docs/libvirt/qemu-nbd-reconnect between libvirt and QEMU: a fake QEMU says what it was started with.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { ScriptScene } from './programs.ts'

describe('docs/libvirt/qemu-nbd-reconnect', () => {
  removeFoldersAfterEach()

  /** What QEMU is given for what libvirt gives. */
  async function passedOn(...words: string[]): Promise<string[]> {
    const scene = new ScriptScene(temporaryFolder(), 'docs/libvirt/qemu-nbd-reconnect', ['/usr/bin'])
    const qemu = join(scene.folder, 'usr/bin/qemu-system-x86_64')
    scene.program('qemu', `printf '%s\\0' "$@"`, qemu)
    const { status, stdout, stderr } = await scene.run(words)
    assert.equal(status, 0, stderr)
    return stdout.split('\0').slice(0, -1)
  }

  it('has QEMU wait for the server of each NBD disk', async () => {
    // As libvirt 9.0 writes it.
    const disk = `{"driver":"nbd","server":{"type":"unix","path":"/run/vmstore/main.sock"},"export":"web01","node-name":"libvirt-1-storage"}`
    const [, given, , second] = await passedOn('-blockdev', disk, '-blockdev', disk.replaceAll('1', '2'))
    const wanted = { ...(JSON.parse(disk) as object), 'reconnect-delay': 30, 'open-timeout': 30 }
    assert.deepEqual(JSON.parse(given!), wanted)
    assert.equal((JSON.parse(second!) as { 'reconnect-delay': number })['reconnect-delay'], 30)
  })

  it('leaves every other argument as it is: empty ones, spaces, lines, and a delay that libvirt set', async () => {
    const words = [
      ...['-name', 'guest=web 01', '', "it's", 'two\nlines', '*', '-append', 'x={"driver":"nbd",'],
      ...['-blockdev', '{"driver":"file","filename":"/x"}'],
      ...['-blockdev', '{"driver":"nbd","reconnect-delay":5,"export":"web01"}'],
    ]
    assert.deepEqual(await passedOn(...words), words)
  })
})
