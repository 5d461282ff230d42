// The places of those who are not known yet.

import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Dismissal, type NewcomerLimits, Newcomers } from '../../src/entrance/newcomers.ts'
import { sourceOfAddress } from '../../src/entrance/source.ts'
import { handTimers } from '../hand-timers.ts'

function entrance(limits: Partial<NewcomerLimits>) {
  const newcomers = new Newcomers(limits)
  const gone: string[] = []
  const spoken = new Set<string>()
  const enter = (name: string, source: string | undefined = name) =>
    newcomers.enter({
      source,
      hasSpoken: () => spoken.has(name),
      dismiss: (why: Dismissal) => gone.push(`${name} ${why}`),
    })
  return { newcomers, gone, spoken, enter }
}

describe('newcomers', () => {
  it('the oldest makes room for whoever comes when all places are taken', () => {
    const { newcomers, gone, enter } = entrance({ newcomers: 2 })
    for (const name of ['a', 'b', 'c', 'd']) enter(name)
    assert.deepEqual(gone, ['a pushedOut', 'b pushedOut'])
    assert.equal(newcomers.size, 2)
    assert.equal(newcomers.counts.pushedOut?.count, 2)
  })

  it('a source that has all of its own places pushes out its own oldest, while others are free', () => {
    const { newcomers, gone, enter } = entrance({ newcomers: 10, newcomersPerAddress: 2 })
    enter('other')
    for (const name of ['a', 'b', 'c']) enter(name, 'herd')
    assert.deepEqual(gone, ['a pushedOut'])
    assert.equal(newcomers.size, 3)
  })

  it('when all are taken, the source that has most of them pays, however old the others are', () => {
    const { gone, enter } = entrance({ newcomers: 5, newcomersPerAddress: 4 })
    enter('honest')
    for (const name of ['a', 'b', 'c', 'd']) enter(name, 'herd')
    enter('newcomer')
    for (const name of ['e', 'f', 'g']) enter(name, 'herd')
    assert.deepEqual(gone, ['a pushedOut', 'b pushedOut', 'c pushedOut', 'd pushedOut'])
  })

  it('whose source is not known is bound by the places of all alone', () => {
    const newcomers = new Newcomers({ newcomers: 3, newcomersPerAddress: 1 })
    const gone: number[] = []
    for (let index = 0; index < 4; index++) {
      newcomers.enter({ source: undefined, hasSpoken: () => true, dismiss: () => gone.push(index) })
    }
    assert.deepEqual(gone, [0])
  })

  it('the first byte has a deadline, and who has sent it has one for the rest', async () => {
    using timers = handTimers()
    const { newcomers, gone, spoken, enter } = entrance({ firstByteMs: 3000, negotiationMs: 10_000 })
    enter('mute')
    enter('dripping')
    enter('honest').leave()
    spoken.add('dripping')
    timers.pass(3000)
    await nextTurn()
    assert.deepEqual(gone, ['mute silent'])
    timers.pass(7000)
    assert.deepEqual(gone, ['mute silent', 'dripping slow'])
    assert.equal(newcomers.size, 0)
    assert.deepEqual([newcomers.counts.silent?.count, newcomers.counts.slow?.count], [1, 1])
  })

  it('a byte that came while the process stood still counts, though the deadline is looked at first', async () => {
    using timers = handTimers()
    const { gone, spoken, enter } = entrance({ firstByteMs: 3000 })
    enter('late')
    timers.pass(3000)
    spoken.add('late') // Sockets are read after timers, in the same turn of the loop.
    await nextTurn()
    assert.deepEqual(gone, [])
  })

  it('who is known, or has left, holds no place and is not sent away', () => {
    using timers = handTimers()
    const { newcomers, gone, enter } = entrance({ newcomers: 1 })
    const place = enter('a')
    place.leave()
    place.leave()
    enter('b')
    assert.deepEqual([newcomers.size, gone], [1, []])
    timers.pass(20_000)
    assert.deepEqual([newcomers.size, gone], [0, ['b silent']])
  })

  it('addresses of one host count as one', () => {
    const same = ['2001:db8:0:1::1', '2001:db8::1:0:0:0:2', '2001:0DB8:0000:0001:ffff::', '2001:db8:0:1:1:2:3:4%eth0']
    assert.deepEqual([...new Set(same.map(sourceOfAddress))], ['2001:db8:0:1::/64'])
    assert.equal(sourceOfAddress('::ffff:192.0.2.7'), sourceOfAddress('192.0.2.7'))
    assert.equal(sourceOfAddress('::1'), '0:0:0:0::/64')
    assert.notEqual(sourceOfAddress('192.0.2.7'), sourceOfAddress('192.0.2.8'))
    assert.notEqual(sourceOfAddress('2001:db8:0:1::1'), sourceOfAddress('2001:db8:0:2::1'))
    assert.equal(sourceOfAddress(undefined), undefined)
  })
})
