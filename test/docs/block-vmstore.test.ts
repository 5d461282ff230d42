// docs/xen/block-vmstore as Xen runs it, against fakes of xenstore and nbd-client: a disk is attached and handed over whole,
// or nothing is left of it; and what another guest uses is never taken, nor detached.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { findTool, needTool } from '../tools.ts'
import { type Ending, ScriptScene } from './programs.ts'

const backend = 'backend/vbd/3/51712'

/** A host with the devices nbd0 to nbd2, and the guest's disk in xenstore. */
class Host extends ScriptScene {
  constructor() {
    super(temporaryFolder(), 'docs/xen/block-vmstore', ['/sys', '/run', '/etc'])
    this.file('run/.keep')
    this.#key('params', 'web01')
    for (const [index, minor] of [0, 32, 480].entries()) this.file(`sys/block/nbd${index}/dev`, `43:${minor}\n`)
    const key = `key() { echo '${this.folder}/store/'"$1"; }`
    this.program('xenstore-read', `${key}\ncat "$(key "$1")"`)
    this.program('xenstore-write', `${key}\nwhile [ $# -gt 0 ]; do printf %s "$2" > "$(key "$1")"; shift 2; done`)
    this.program('xenstore-rm', `${key}\nrm "$(key "$1")"`)
    // As the real one: it detaches with -d, else it attaches to the first device that is named.
    this.program(
      'nbd-client',
      `for word; do case $word in /dev/*) device=\${word#/dev/}; break;; esac; done
       if [ "$1" = -d ]; then rm '${this.folder}'/sys/block/$device/pid; else echo 1 > '${this.folder}'/sys/block/$device/pid; fi`,
    )
  }

  start(command: string): Promise<Ending> {
    return this.run([command], { XENBUS_PATH: backend })
  }

  use(device: string): void {
    this.file(`sys/block/${device}/pid`, '1\n')
  }

  inUse(device: string): boolean {
    return existsSync(join(this.folder, 'sys/block', device, 'pid'))
  }

  stored(key: string): string | undefined {
    const path = join(this.folder, 'store', backend, key)
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined
  }

  withoutTarget(): void {
    this.program('xenstore-read', 'exit 1')
  }

  #key(key: string, value: string): void {
    this.file(`store/${backend}/${key}`, value)
  }
}

function calledNbdClient(host: Host): string[] {
  return host.calls().filter((call) => call.startsWith('nbd-client'))
}

describe('docs/xen/block-vmstore', () => {
  removeFoldersAfterEach()
  before(function () {
    needTool(this, 'flock')
  })

  it('add: attaches the disk to a free device and hands it to Xen; remove: detaches it', async () => {
    const host = new Host()
    host.use('nbd0')
    assert.equal((await host.start('add')).status, 0)
    assert.deepEqual(calledNbdClient(host), ['nbd-client -unix /run/vmstore/main.sock /dev/nbd1 -N web01'])
    assert.equal(host.stored('physical-device'), '2b:20')
    assert.equal(host.stored('physical-device-path'), '/dev/nbd1')
    assert.equal(host.stored('hotplug-status'), 'connected')

    assert.equal((await host.start('remove')).status, 0)
    assert.deepEqual(calledNbdClient(host), ['nbd-client -d /dev/nbd1'])
    assert(!host.inUse('nbd1') && host.inUse('nbd0'))
  })

  it('goes to the server that /etc/xen/vmstore.conf names', async () => {
    const host = new Host()
    host.file('etc/xen/vmstore.conf', "server='192.0.2.1 10809'\n")
    assert.equal((await host.start('add')).status, 0)
    assert.deepEqual(calledNbdClient(host), ['nbd-client 192.0.2.1 10809 /dev/nbd0 -N web01'])
  })

  it('a disk that the server does not give leaves nothing attached, and Xen is told why', async () => {
    const host = new Host()
    host.program('nbd-client', 'echo "Server replied with an error"; exit 1')
    const { status } = await host.start('add')
    assert.equal(status, 1)
    assert.match(
      host.stored('hotplug-error')!,
      /^block-vmstore: web01 cannot be attached to \/dev\/nbd0: Server replied/,
    )
    assert.equal(host.stored('hotplug-status'), 'error')
    assert.equal(host.stored('physical-device'), undefined)

    // Xen cleans up after a failure: nothing of another guest's is detached by that.
    host.calls()
    assert.equal((await host.start('remove')).status, 0)
    assert.deepEqual(calledNbdClient(host), [])
  })

  it('a disk that cannot be noted in xenstore is detached again, and by no later remove', async () => {
    const host = new Host()
    const node = `${host.folder}/store/${backend}/node`
    host.program('xenstore-write', `case $1 in */node) echo "$2" > '${node}';; esac; exit 1`)
    assert.equal((await host.start('add')).status, 1)
    assert(!host.inUse('nbd0'))
    host.use('nbd0') // by another guest
    assert.equal((await host.start('remove')).status, 0)
    assert(host.inUse('nbd0'))
  })

  it('a second remove detaches nothing: the device may be another guest’s', async () => {
    const host = new Host()
    assert.equal((await host.start('add')).status, 0)
    assert.equal((await host.start('remove')).status, 0)
    host.use('nbd0')
    assert.equal((await host.start('remove')).status, 0)
    assert(host.inUse('nbd0'))
  })

  it('with every device in use, or without a target, nothing is attached', async () => {
    const full = new Host()
    for (const device of ['nbd0', 'nbd1', 'nbd2']) full.use(device)
    assert.equal((await full.start('add')).status, 1)
    assert.match(full.stored('hotplug-error')!, /no free NBD device for web01/)
    const nameless = new Host()
    nameless.withoutTarget()
    assert.equal((await nameless.start('add')).status, 1)
    assert.match(nameless.stored('hotplug-error')!, /no target= was given/)
    assert.deepEqual([...calledNbdClient(full), ...calledNbdClient(nameless)], [])
  })

  it('a detaching that fails is told', async () => {
    const host = new Host()
    assert.equal((await host.start('add')).status, 0)
    host.program('nbd-client', 'exit 1')
    assert.equal((await host.start('remove')).status, 1)
    assert.match(host.stored('hotplug-error')!, /\/dev\/nbd0 cannot be detached/)
  })

  it('two disks that are set up at once do not choose one device: the second waits for the first', async () => {
    const host = new Host()
    const waiting = join(host.folder, 'waiting')
    host.program('flock', `: > '${waiting}'\nexec '${findTool('flock')!}' "$@"`)
    const first = spawn(findTool('flock')!, [
      join(host.folder, 'run/block-vmstore.lock'),
      'sh',
      '-c',
      'echo; read -r _',
    ])
    await once(first.stdout, 'data')
    let hasEnded = false
    const second = host.start('add').finally(() => {
      hasEnded = true
    })
    while (!existsSync(waiting) && !hasEnded) await turn()
    assert.deepEqual(calledNbdClient(host), [])
    host.use('nbd0')
    first.stdin.end('\n')
    assert.equal((await second).status, 0)
    assert.equal(host.stored('physical-device-path'), '/dev/nbd1')
  })

  it('refuses any other word', async () => {
    const { status, stderr } = await new Host().start('online')
    assert.equal(status, 1)
    assert.match(stderr, /add or remove, and not 'online'/)
  })
})
