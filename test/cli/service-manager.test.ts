// What is said to a service manager, in which order, and that a manager that is away or does not listen stops nothing.

import assert from 'node:assert/strict'
import { ServiceManager, takeManagerWords } from '../../src/cli/service-manager.ts'

const words = { socket: '/run/notify', watchdogMs: undefined }

/** A manager whose messages are kept; `accepts` says which attempts find room. */
function listening(accepts: (attempt: number) => boolean = () => true) {
  const told: string[] = []
  const warned: object[] = []
  let attempts = 0
  const send = (path: string, bytes: Uint8Array): boolean => {
    assert.equal(path, words.socket)
    const hasRoom = accepts(++attempts)
    if (hasRoom) told.push(Buffer.from(bytes).toString())
    return hasRoom
  }
  const log = { warn: (facts: object) => void warned.push(facts) }
  return { told, warned, send, log: log as never }
}

describe('the service manager', () => {
  it('is told that we are ready, reload and stop, in this order', async () => {
    const { told, log, send } = listening()
    const manager = new ServiceManager(words, log, send)
    void manager.ready('serving')
    void manager.reloading(async () => {}, 'serving\nas before')
    await manager.stopping('finishing')
    await manager.stopping('gone')
    const [reload] = told.splice(
      told.findIndex((text) => text.startsWith('RELOADING')),
      1,
    )
    assert.match(reload!, /^RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=reloading$/)
    assert.deepEqual(told, [
      'READY=1\nSTATUS=serving',
      'STOPPING=1\nSTATUS=finishing',
      'READY=1\nSTATUS=serving as before',
      'STOPPING=1\nSTATUS=gone',
    ])
  })

  it('hears the time of a reload on its own clock', async () => {
    const { told, log, send } = listening()
    const before = process.hrtime.bigint() / 1000n
    await new ServiceManager(words, log, send).reloading(async () => {}, 'serving')
    const time = BigInt(/MONOTONIC_USEC=(\d+)/.exec(told[0]!)![1]!)
    assert(time >= before && time <= process.hrtime.bigint() / 1000n)
  })

  it('is told that we are ready after a reload that failed too, and the failure goes on', async () => {
    const { told, log, send } = listening()
    const failing = new ServiceManager(words, log, send).reloading(async () => {
      throw new Error('no certificate')
    }, 'serving')
    await assert.rejects(failing, /no certificate/)
    assert.equal(told[1], 'READY=1\nSTATUS=serving')
  })

  it('gets its messages in order when its queue was full', async () => {
    const { told, warned, log, send } = listening((attempt) => attempt > 2)
    const manager = new ServiceManager(words, log, send)
    await Promise.all([manager.ready('serving'), manager.stopping('finishing')])
    assert.deepEqual(
      told.map((text) => text.split('\n')[0]),
      ['READY=1', 'STOPPING=1'],
    )
    assert.deepEqual(warned, [])
  })

  it('that cannot be reached is a warning, and the next message is tried', async () => {
    const { told, warned, log, send } = listening((attempt) => {
      if (attempt === 1) throw new Error('ECONNREFUSED')
      return true
    })
    const manager = new ServiceManager(words, log, send)
    await manager.ready('serving')
    await manager.stopping('finishing')
    assert.equal(warned.length, 1)
    assert.deepEqual(told, ['STOPPING=1\nSTATUS=finishing'])
  })

  it('that is not there is told nothing', async () => {
    const { told, log, send } = listening()
    const manager = new ServiceManager({ socket: undefined, watchdogMs: undefined }, log, send)
    await manager.ready('serving')
    await manager.stopping('finishing')
    assert.deepEqual(told, [])
  })

  it('names its socket and its watchdog in the environment, once', () => {
    const environment = { NOTIFY_SOCKET: '@manager', WATCHDOG_USEC: '30000000', WATCHDOG_PID: '77', HOME: '/' }
    assert.deepEqual(takeManagerWords(environment, 77), { socket: '@manager', watchdogMs: 30_000 })
    assert.deepEqual(environment, { HOME: '/' })
    assert.deepEqual(takeManagerWords(environment, 77), { socket: undefined, watchdogMs: undefined })
  })

  it('whose watchdog has months of deadlines gets its signs of life all the same', () => {
    assert.equal(takeManagerWords({ WATCHDOG_USEC: String(90 * 86_400 * 1e6) }, 77).watchdogMs, 120_000)
  })

  it('whose watchdog is for another process, or no time, gets no signs of life', () => {
    for (const watchdog of [
      { WATCHDOG_USEC: '1000', WATCHDOG_PID: '78' },
      { WATCHDOG_USEC: 'x' },
      { WATCHDOG_USEC: '0' },
    ]) {
      assert.equal(takeManagerWords({ ...watchdog }, 77).watchdogMs, undefined)
    }
  })
})
