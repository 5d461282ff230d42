import assert from 'node:assert/strict'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import { GuestNotices, GuestsLog } from '../../src/migration/guest-notices.ts'
import { HeldWritesWatch, type WaitingGuests, waitingGuests } from '../../src/migration/held-writes.ts'
import { FakeClock } from './fake-time.ts'

const migration = '3f1c9b8e-2b62-4f5e-9a51-0d6f4f1f7a10'

/** A destination, its watchers, and a source that answers as it is told to. */
function site() {
  const clock = new FakeClock()
  const told: WaitingGuests[] = []
  const heard: WaitingGuests[] = []
  const source: { answer: () => Promise<void> } = { answer: async () => {} }
  const stop = new AbortController()
  const notices: GuestNotices = new GuestNotices({
    clock,
    stopping: stop.signal,
    now: () => held.now,
    told: (guests) => told.push(guests),
    source: {
      guests: async (guests) => {
        await source.answer()
        heard.push(waitingGuests.parse(guests))
      },
    },
  })
  const held = new HeldWritesWatch(
    { clock, clients: () => ['10.0.0.7:4100'], why: () => 'the source is busy', changed: () => notices.changed() },
    null,
  )
  return { clock, told, heard, source, stop, notices, held }
}

describe('guests that wait for switchover', () => {
  it('a write that waits for a moment only is told to nobody', async () => {
    const { clock, told, heard, held } = site()
    const waiting = held.enter()
    await clock.advance(300)
    waiting[Symbol.dispose]()
    await clock.advance(10_000)
    assert.deepEqual([told, heard], [[], []])
    assert.equal(clock.sleeping, 0, 'nothing goes on')
  })

  it('a write that waits longer is told at both ends: who, since when, why; and its end too', async () => {
    const { clock, told, heard, held } = site()
    const since = clock.date().toISOString()
    const waiting = held.enter()
    await clock.advance(1500)
    assert.deepEqual(heard, told)
    assert.deepEqual(heard.at(-1)!.held, { clients: ['10.0.0.7:4100'], since, why: 'the source is busy' })
    await clock.advance(60_000)
    assert.equal(heard.length, 1, 'the same is not said again')
    waiting[Symbol.dispose]()
    await clock.advance(2000)
    assert.deepEqual(heard.at(-1), { held: null, refused: null })
    assert.equal(clock.sleeping, 0)
  })

  it('refused writes are counted, and the source hears the count once a second at most', async () => {
    const { clock, heard, held } = site()
    for (let count = 0; count < 24; count++) {
      using _waiting = held.enter()
      held.refuse('not switched over')
    }
    await clock.advance(2000)
    assert.deepEqual(
      heard.map(({ refused }) => refused?.count),
      [24],
    )
    assert.deepEqual(heard[0]!.refused!.clients, ['10.0.0.7:4100'])
  })

  it('a source that is away is told when it is back, and one that has started anew again', async () => {
    const { clock, heard, source, held, notices } = site()
    source.answer = () => Promise.reject(new LinkError('lost', 'the link is down'))
    held.refuse('not switched over')
    await clock.advance(10_000)
    assert.deepEqual(heard, [])
    source.answer = async () => {}
    await clock.advance(2000)
    assert.equal(heard.length, 1)
    notices.again()
    await clock.advance(2000)
    assert.equal(heard.length, 2)
  })

  it('a source of before, which does not know the word, is not asked again', async () => {
    const { clock, source, held } = site()
    let asked = 0
    source.answer = () => {
      asked++
      throw new PeerRefusal('unknown-method', 'a source does not know guests')
    }
    held.refuse('not switched over')
    await clock.advance(10_000)
    assert.deepEqual([asked, clock.sleeping], [1, 0])
  })

  it('nothing is left when the site stops', async () => {
    const { clock, stop, held } = site()
    held.enter()
    await clock.advance(100)
    stop.abort(new Error('stopping'))
    await clock.advance(10_000)
    assert.equal(clock.sleeping, 0)
  })

  it('the log has a line when a write begins to wait, and for the 1st, 2nd, 4th refusal and so on', () => {
    const lines: string[] = []
    const log = new GuestsLog((level, facts, message) => lines.push(`${level} ${facts['count'] ?? ''} ${message}`), {
      migration,
      disk: 'web01',
    })
    const held = { clients: ['a'], since: '2024-05-01T10:00:00.000Z', why: 'busy' }
    for (let count = 1; count <= 100; count++)
      log.write({ held, refused: { count, clients: [], last: '2024-05-01T10:00:00.000Z', why: 'busy' } })
    assert.equal(lines.filter((line) => line.includes('waits for switchover')).length, 1)
    assert.deepEqual(
      lines.filter((line) => line.includes('refused')).map((line) => Number(line.split(' ')[1])),
      [1, 2, 4, 8, 16, 32, 64],
    )
  })
})
