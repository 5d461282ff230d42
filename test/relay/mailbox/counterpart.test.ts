// The words of a migration (migration/over-link.ts) through a store, as they are over a link.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import type { PeerHandlers } from '../../../src/link/channel.ts'
import type { SiteDesk, SourceDesk } from '../../../src/migration/counterpart.ts'
import { answersOverLink, overLink } from '../../../src/migration/over-link.ts'
import { chunksInThread } from '../../../src/relay/chunking/pool.ts'
import { moveKeys } from '../../../src/relay/keys.ts'
import { Mailbox } from '../../../src/relay/mailbox/mailbox.ts'
import { Objects } from '../objects.ts'
import { VirtualClock } from '../virtual-clock.ts'

describe('the counterpart of a migration through a mailbox', () => {
  const signal = new AbortController().signal
  const move = randomUUID()
  const at = { disk: randomUUID(), generation: 4 }
  const bytes = randomBytes(8192)
  let clock: VirtualClock
  let open: Mailbox[]

  /** What the destination sees of the source. */
  function through(source: Partial<SourceDesk>): SourceDesk {
    const store = new Objects()
    const keys = moveKeys(randomBytes(32), move)
    const mailbox = (side: 'source' | 'destination', handlers: PeerHandlers): Mailbox => {
      const made = new Mailbox({
        store,
        keys,
        chunks: chunksInThread({ move, ...keys }),
        move,
        generation: 5,
        side,
        peerId: 'peer',
        handlers,
        clock: { now: clock.now, sleep: clock.sleep, date: () => new Date() },
        nonce: randomUUID,
        notice: ({ error }) => assert.fail(error as Error),
      })
      open.push(made)
      made.start()
      return made
    }
    const desk = { source: () => source } as unknown as SiteDesk
    mailbox(
      'source',
      answersOverLink(() => desk),
    )
    return overLink(
      mailbox(
        'destination',
        answersOverLink(() => desk),
      ).channel,
    ).source(move)
  }

  beforeEach(() => {
    clock = new VirtualClock()
    open = []
  })
  afterEach(() => Promise.all(open.map((each) => each.close())))

  it('asks for what was written, whose map is a body', async () => {
    const spans = [{ first: 3, end: 9 }]
    const source = through({ collect: async () => ({ spans, left: 12 }) })
    const asked = {
      ...at,
      epoch: randomUUID(),
      run: { offset: 0, length: 65_536 },
      round: 1,
      confirmed: 0,
      most: 9,
      hot: false,
    }
    assert.deepEqual(await clock.run(source.collect(asked, signal)), { spans, left: 12 })
  })

  it('reads blocks', async () => {
    const pieces = [{ offset: 4096, length: bytes.length, bytes }]
    const source = through({
      async *blocks() {
        yield* pieces
      },
    })
    const got: Uint8Array[] = []
    const read = async (): Promise<void> => {
      const runs = [{ offset: 4096, length: bytes.length }]
      for await (const piece of source.blocks(at, runs, { urgency: 'demand', signal })) got.push(piece.bytes!)
    }
    await clock.run(read())
    assert(Buffer.concat(got).equals(bytes))
  })
})
