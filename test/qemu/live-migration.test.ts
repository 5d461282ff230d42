// A virtual machine that QEMU moves from one site to another while it works on its disks, and vmstore moves the disks.
// The guest itself knows what every sector must hold (guest.c).

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { MigrationEvent } from '../../src/control/types.ts'
import {
  afterwards,
  attach,
  createDisk,
  endSitesAfterEach,
  fetchRest,
  folder,
  refusedWith,
  type Site,
  twoSites,
  untilDisk,
} from '../e2e/sites.ts'
import { Program } from '../program.ts'
import { buildGuest, needGuestTools } from './guest-image.ts'
import { type ConsoleLine, GuestConsole, Machine } from './machine.ts'

const runFile = join(import.meta.dirname, '../../bin/run.js')
const disk = 'web01'
const dataDisk = 'web01-data'
const sizeBytes = 64 * 2 ** 20
/** Of each of two. */
const smallBytes = 16 * 2 ** 20
const sectorBytes = 512
/** So low that blocks come because the guest asks for them, and the copy still runs when it works at the destination. */
const maxRate = 64 * 1024
/** What the copy may send before it is paced. */
const chunkBytes = 256 * 1024
const bootDeadlineSeconds = 300
const workDeadlineSeconds = 200
const copyDeadlineSeconds = 300
const quitDeadlineSeconds = 100
const requestsAtSource = 2000
const requestsAtDestination = 4000
const requestsOfTwo = 1000

describe('a virtual machine under QEMU', function () {
  this.timeout(900_000)
  endSitesAfterEach()

  it('promises 1, 3 and 5: moves live, with its disk, and sees no I/O error and no wrong byte', async function () {
    needGuestTools(this)
    const path = folder()
    const guest = buildGuest(path, { init: 'guest.c', modules: ['virtio_pci', 'virtio_blk'] })
    const { a, b } = await twoSites()
    const { present: whole } = await createDisk(a, disk, sizeBytes)
    const guestConsole = new GuestConsole()
    const machine = { folder: path, guest, guestConsole, exportNames: [disk] }
    const endAfterwards = (program: Program) => afterwards(() => program.kill())

    const source = await Machine.start({ ...machine, name: 'source', nbdSocket: a.nbdSocket }, endAfterwards)
    await guestConsole.lines.find('disk filled by the guest', bootDeadlineSeconds, saying(/^ready /))
    await requests(guestConsole, 'source', requestsAtSource)

    const migrate = new Program('vmstore migrate', process.execPath, [
      ...[
        runFile,
        'migrate',
        disk,
        '--to',
        b.name,
        '--mode',
        'post-copy',
        '--switchover',
        'auto',
        '--max-rate',
        `${maxRate}`,
      ],
      ...['--json', '--control', a.controlSocket],
    ])
    endAfterwards(migrate)
    await migrate.stdout.find('ready event', workDeadlineSeconds, eventOf('ready'))
    const incoming = { ...machine, name: 'destination', nbdSocket: b.nbdSocket, isIncoming: true }
    const destination = await Machine.start(incoming, endAfterwards)
    assert.deepEqual(await standing(a, b), ['owned 1', 'incoming 1'], 'a disk that was opened is not taken yet')

    const movedAtMs = performance.now()
    await source.migrateTo(destination, join(path, 'migration'), workDeadlineSeconds)
    await migrate.stdout.find('switchover event', workDeadlineSeconds, eventOf('switchover'))
    const { present } = await untilDisk(b, disk, ({ state }) => state === 'arriving')
    assert(present.blocks < whole.blocks, 'the guest is at the destination before the copy is over')
    assert.deepEqual(await standing(a, b), ['departed 2', 'arriving 2'])

    // QEMU flushes when it quits, and waits for the answers (whatever they are).
    await source.qmp.execute('quit')
    await source.process.succeed(quitDeadlineSeconds)

    await requests(guestConsole, 'destination', requestsAtDestination)
    const { sent } = (await b.control.listMigrations())[0]!.bytes
    const background = chunkBytes + (maxRate * (performance.now() - movedAtMs)) / 1000
    assert(sent > background, `the guest fetched on demand: ${sent} bytes came, the copy sent ${background} at most`)
    await fetchRest(b, disk)
    await migrate.succeed(copyDeadlineSeconds)
    const { state, bytes } = await migrate.stdout.find('result event', quitDeadlineSeconds, eventOf('result'))
    assert.deepEqual([state, bytes.missing], ['done', 0])

    destination.type('finish\n')
    const done = await guestConsole.lines.find('end of the guest', workDeadlineSeconds, saying(/^done (.*)/))
    await destination.process.succeed(quitDeadlineSeconds)
    const { wrong, errors, verified, ...counts } = numbers(done[1]!)
    assert.deepEqual({ wrong, errors, verified }, { wrong: 0, errors: 0, verified: sizeBytes / sectorBytes })
    for (const kind of ['reads', 'writes', 'flushes', 'discards', 'zeroes']) assert(counts[kind]! > 0, `no ${kind}`)
    for (const { qmp } of [source, destination]) assert.deepEqual(qmp.events('BLOCK_IO_ERROR'), [])

    assert.deepEqual(await standing(a, b), ['released 2', 'owned 2'])
    const { id } = await b.control.describe()
    for (const site of [a, b]) assert.equal((await site.control.showDisk(disk)).owner, id)
    const stray = await attach(a, disk)
    await refusedWith('ESHUTDOWN', stray.read(0, sectorBytes))
    await refusedWith('ESHUTDOWN', stray.write(0, Buffer.alloc(sectorBytes)))
    console.log(`      ${report(guestConsole, counts['requests']!)}`)
  })

  it('promises 1, 2 and 3: moves live in hybrid mode, with two disks that are copied ahead while it writes, and pass together', async function () {
    needGuestTools(this)
    const path = folder()
    const guest = buildGuest(path, { init: 'guest.c', modules: ['virtio_pci', 'virtio_blk'] })
    const { a, b } = await twoSites()
    const names = [disk, dataDisk]
    for (const name of names) await createDisk(a, name, smallBytes)
    const guestConsole = new GuestConsole()
    const machine = { folder: path, guest, guestConsole, exportNames: names }
    const endAfterwards = (program: Program) => afterwards(() => program.kill())
    const source = await Machine.start({ ...machine, name: 'source', nbdSocket: a.nbdSocket }, endAfterwards)
    await guestConsole.lines.find('disks filled by the guest', bootDeadlineSeconds, saying(/^ready /))

    const words = [runFile, 'migrate', ...names, '--to', b.name, '--json', '--control', a.controlSocket]
    const migrate = new Program('vmstore migrate', process.execPath, words)
    endAfterwards(migrate)
    await migrate.stdout.find('ready event', workDeadlineSeconds, eventOf('ready'))
    const { sent } = (await b.control.listMigrations())[0]!.bytes
    assert(sent > smallBytes, `${sent} bytes of the two disks were copied ahead`)
    const incoming = { ...machine, name: 'destination', nbdSocket: b.nbdSocket, isIncoming: true }
    const destination = await Machine.start(incoming, endAfterwards)
    await requests(guestConsole, 'source', requestsOfTwo)
    for (const name of names) assert.deepEqual(await standing(a, b, name), ['owned 1', 'incoming 1'])

    await source.migrateTo(destination, join(path, 'migration'), workDeadlineSeconds)
    await migrate.stdout.find('switchover event', workDeadlineSeconds, eventOf('switchover'))
    await source.qmp.execute('quit')
    await source.process.succeed(quitDeadlineSeconds)
    await requests(guestConsole, 'destination', requestsOfTwo)
    await migrate.succeed(copyDeadlineSeconds)
    const { state, bytes } = await migrate.stdout.find('result event', quitDeadlineSeconds, eventOf('result'))
    assert.deepEqual([state, bytes.missing], ['done', 0])

    destination.type('finish\n')
    const done = await guestConsole.lines.find('end of the guest', workDeadlineSeconds, saying(/^done (.*)/))
    await destination.process.succeed(quitDeadlineSeconds)
    const { wrong, errors, verified, ...counts } = numbers(done[1]!)
    assert.deepEqual({ wrong, errors, verified }, { wrong: 0, errors: 0, verified: (2 * smallBytes) / sectorBytes })
    for (const { qmp } of [source, destination]) assert.deepEqual(qmp.events('BLOCK_IO_ERROR'), [])
    for (const name of names) assert.deepEqual(await standing(a, b, name), ['released 2', 'owned 2'])
    console.log(`      ${report(guestConsole, counts['requests']!)}`)
  })
})

function saying(pattern: RegExp): (line: ConsoleLine) => RegExpExecArray | undefined {
  return ({ text }) => pattern.exec(text) ?? undefined
}

/** For lines of `migrate --json`. */
function eventOf<Type extends MigrationEvent['type']>(type: Type) {
  return (line: string) => {
    const event = JSON.parse(line) as MigrationEvent
    return event.type === type ? (event as Extract<MigrationEvent, { type: Type }>) : undefined
  }
}

/** Waits until the guest has completed so many requests on that machine. */
async function requests(guestConsole: GuestConsole, machine: string, count: number): Promise<void> {
  let first: number | undefined
  await guestConsole.lines.find(`${count} requests at the ${machine}`, workDeadlineSeconds, ({ from, text }) => {
    const completed = from === machine ? /^tick (\d+)$/.exec(text)?.[1] : undefined
    if (completed === undefined) return undefined
    first ??= Number(completed)
    return Number(completed) - first >= count || undefined
  })
}

/** KEY=NUMBER ... */
function numbers(text: string): Record<string, number> {
  const pairs = text.split(' ').map((pair) => pair.split('='))
  return Object.fromEntries(pairs.map(([key, value]) => [key, Number(value)]))
}

/** State and generation at each site. */
async function standing(a: Site, b: Site, name = disk): Promise<string[]> {
  const views = await Promise.all([a, b].map((site) => site.control.showDisk(name)))
  return views.map(({ state, generation }) => `${state} ${generation}`)
}

/** Pauses are by the host's clock, between reports of completed requests: the guest's own clock stands still while it moves. */
function report(guestConsole: GuestConsole, requestCount: number): string {
  const ticks = guestConsole.lines.seen.filter(({ text }) => text.startsWith('tick '))
  let longestMs = 0
  let switchMs = 0
  for (const [index, tick] of ticks.entries()) {
    const before = ticks[index - 1] ?? tick
    longestMs = Math.max(longestMs, tick.atMs - before.atMs)
    if (tick.from !== before.from) switchMs = tick.atMs - before.atMs
  }
  const [longest, atSwitch] = [longestMs, switchMs].map((ms) => `${Math.round(ms)} ms`)
  return `${requestCount} requests; the guest's longest pause: ${longest}, at the switch: ${atSwitch}`
}
