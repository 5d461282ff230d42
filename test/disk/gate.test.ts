import assert from 'node:assert/strict'
import { Gate } from '../../src/disk/gate.ts'
import { isSettled } from './hand.ts'

describe('gate', () => {
  it('lets requests in at once, and counts them', () => {
    const gate = new Gate()
    assert.equal(gate.enter(), undefined)
    assert.equal(gate.enter(), undefined)
    gate.leave()
    assert.equal(gate.inFlight, 1)
  })

  it('freezes at once when nothing is in flight', async () => {
    const gate = new Gate()
    assert.equal(await isSettled(gate.freeze()), true)
  })

  it('freezes when the last request in flight is done, and no sooner', async () => {
    const gate = new Gate()
    gate.enter()
    gate.enter()
    const frozen = gate.freeze()
    gate.leave()
    assert.equal(await isSettled(frozen), false)
    gate.leave()
    assert.equal(await isSettled(frozen), true)
  })

  it('holds new requests from the moment on at which it begins to freeze', async () => {
    const gate = new Gate()
    gate.enter()
    void gate.freeze()
    const held = gate.enter()
    assert(held)
    assert.equal(gate.inFlight, 1)
    assert.equal(await isSettled(held), false)
  })

  it('does not count what it holds: who was held enters again after the thaw', async () => {
    const gate = new Gate()
    await gate.freeze()
    const held = gate.enter()
    gate.thaw()
    await held
    assert.equal(gate.inFlight, 0)
    assert.equal(gate.enter(), undefined)
  })

  it('can freeze again after a thaw', async () => {
    const gate = new Gate()
    await gate.freeze()
    gate.thaw()
    assert.equal(gate.frozen, false)
    gate.enter()
    const frozen = gate.freeze()
    gate.leave()
    await frozen
    assert.equal(gate.frozen, true)
  })

  it('that two have frozen is thawed by the second', async () => {
    const gate = new Gate()
    gate.enter()
    const frozen = [gate.freeze(), gate.freeze()]
    const held = gate.enter()!
    gate.leave()
    await Promise.all(frozen)
    gate.thaw()
    assert.equal(gate.frozen, true)
    assert.equal(await isSettled(held), false)
    await gate.freeze()
    gate.thaw()
    gate.thaw()
    await held
    assert.equal(gate.frozen, false)
  })

  it('that is thawed more often than frozen is a bug', () => {
    assert.throws(() => new Gate().thaw(), { name: 'AssertionError' })
  })

  it('that is left more often than entered is a bug', () => {
    assert.throws(() => new Gate().leave(), { name: 'AssertionError' })
  })
})
