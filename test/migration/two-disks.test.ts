import assert from 'node:assert/strict'
import type { Deed } from '../../src/deed/entries.ts'
import { signGiven, signTakenBack } from '../../src/deed/signing.ts'
import { LinkError, PeerRefusal } from '../../src/link/channel.ts'
import { signComplete, signMark } from '../../src/migration/signed-words.ts'
import { at } from '../deed/sites.ts'
import { closeDisksAfterEach, isSettled, read, settled } from '../disk/hand.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { elsewhere, ourKey, theirKey } from './site-keys.ts'
import { ids, TwoDisks } from './two-disks.ts'

describe('a move of two disks, at its destination', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()
  let two: TwoDisks
  afterEach(() => two.close())

  async function started(move: TwoDisks, terms: object = {}): Promise<void> {
    two = move
    await two.open(terms)
    two.course.start()
    await two.until('the source confirms that it owns', () => two.course.owner === 'there')
  }

  const holdBlocks = (name: keyof typeof ids) => two.held.set(ids[name], Promise.withResolvers())
  const letBlocksCome = (name: keyof typeof ids) => two.held.get(ids[name])!.resolve()

  describe('promise 2: the first write to either', () => {
    it('asks once, for both, and writes to the other are held likewise until both are taken', async () => {
      const answer = Promise.withResolvers<void>()
      await started(
        new TwoDisks({
          acquire: async (asked) => {
            two.acquired.push(asked)
            await answer.promise
            return two.grant(asked)
          },
        }),
      )
      const writes = [two.write('web02'), two.write('web01')]
      await two.until('it is asked', () => two.acquired.length > 0)
      for (const write of writes) assert.equal(await isSettled(write), false)
      answer.resolve()
      await two.until('both are taken', () => two.states.every((state) => state === 'arriving'))
      await Promise.all(writes)
      const both = Object.values(ids).map((disk) => ({ disk, generation: 2 }))
      assert.deepEqual(two.acquired, [{ disks: both, reason: 'guest-write', force: false }])
    })

    it('is answered after one transaction in which both are arriving', async () => {
      await started(new TwoDisks())
      const before = two.records.commits.length
      let putAtAnswer: string[][] = []
      const write = two.write('web02').then(() => {
        putAtAnswer = two.records.put(before)
      })
      await two.until('both are taken', () => two.states.every((state) => state === 'arriving'))
      await write
      const taken = putAtAnswer.filter((put) => put.some((each) => each.endsWith('arriving')))
      assert.deepEqual(taken[0], ['web01 arriving', 'web02 arriving', 'move copying'])
      assert.deepEqual(
        two.course.record.disks.map(({ owner }) => owner),
        ['here', 'here'],
      )
    })

    it('waits, and both stay incoming, while that transaction fails', async () => {
      await started(new TwoDisks())
      two.records.failure = new Error('no space left on device')
      const write = two.write('web01')
      const before = two.records.tries
      await two.until('it is tried again', () => two.records.tries > before + 1)
      assert.deepEqual(two.states, ['incoming', 'incoming'])
      assert.equal(await isSettled(write), false)
      assert.match(two.course.note ?? '', /web01, web02: it cannot be recorded that this site owns them now/)
      two.records.failure = undefined
      await two.until('both are taken', () => two.states.every((state) => state === 'arriving'))
      await write
    })

    it('is granted by an answer that names both, and by no other', async () => {
      const answers: number[] = []
      await started(
        new TwoDisks({
          acquire: async (asked) => {
            const named = answers.push(asked.disks.length) === 1 ? asked.disks.slice(0, 1) : asked.disks
            return two.grant({ ...asked, disks: named })
          },
        }),
      )
      const write = two.write('web01')
      await two.until('the first answer has come', () => answers.length === 1)
      assert.deepEqual(two.states, ['incoming', 'incoming'])
      await two.until('both are taken', () => two.states.every((state) => state === 'arriving'))
      await write
    })
  })

  it('a reader that stays on either asks for both', async () => {
    await started(
      new TwoDisks({
        inquire: async () => ({ state: 'ready', writersAreGone: true, sessions: 0, boot: 'boot-1' }),
      }),
    )
    const reader = two.disk('web02').open('reader')
    await read(reader, 0, 512)
    await two.until('both are taken', () => two.states.every((state) => state === 'arriving'), 1000)
    assert.deepEqual(two.acquired[0]?.reason, 'reader-only')
  })

  it('cancelled, both are gone in one commit', async () => {
    await started(new TwoDisks())
    const before = two.records.commits.length
    const write = two.write('web02')
    two.source.acquire = () => assert.fail('nobody asks a cancelled migration')
    await two.course.desk.cancelled(AbortSignal.timeout(10_000))
    await assert.rejects(write)
    assert.deepEqual(two.states, ['gone', 'gone'])
    const gone = two.records.put(before).filter((put) => put.some((each) => each.endsWith('gone')))
    assert.deepEqual(gone, [['web01 gone', 'web02 gone', 'move cancelled']])
  })

  it('a cancel that cannot be recorded leaves both incoming until it can', async () => {
    await started(new TwoDisks())
    two.records.failure = new Error('no space left on device')
    const cancelled = two.course.desk.cancelled(AbortSignal.timeout(10_000))
    const before = two.records.tries
    await two.until('it is tried again', () => two.records.tries > before + 1)
    assert.deepEqual(two.states, ['incoming', 'incoming'])
    two.records.failure = undefined
    await two.until('it is cancelled', () => two.course.ended)
    await cancelled
    assert.deepEqual(two.states, ['gone', 'gone'])
  })

  /** Both are taken, and blocks of web02 are held up. */
  async function firstIsOwned(move = new TwoDisks()): Promise<void> {
    await started(move)
    holdBlocks('web02')
    const write = two.write('web01')
    await two.until('the first is owned', () => two.states[0] === 'owned')
    await write
  }

  it('promise 8: one is owned by a commit of its own when it has come, and the source is released when both are', async () => {
    await firstIsOwned()
    assert.deepEqual([two.states, two.course.record.state], [['owned', 'arriving'], 'copying'])
    assert.deepEqual([two.course.record.disks[0]?.verified, two.completed], [true, []])
    assert.equal(two.course.missingBytes, two.disk('web02').sizeBytes)
    letBlocksCome('web02')
    await two.until('it is over', () => two.course.ended)
    const put = two.records.put()
    assert(put.some((each) => each.join() === 'web01 owned,move copying'))
    assert(put.some((each) => each.join() === 'web02 owned,move finishing'))
    assert.deepEqual(put.at(-1), ['web01 owned', 'web02 owned', 'move done'])
    assert.deepEqual(
      two.completed.at(-1)?.disks.map(({ disk, generation, verified }) => [disk, generation, verified]),
      [
        [ids.web01, 2, true],
        [ids.web02, 2, true],
      ],
    )
    assert.deepEqual(
      two.course.disks.map(({ record }) => record.migrationId),
      [null, null],
    )
  })

  it('goes on after a restart with what is not owned yet, and keeps what was counted', async () => {
    await firstIsOwned()
    const counted = two.course.countersOf(two.disk('web01'))
    assert(counted.data > 0)
    await two.restart()
    two.fetched.length = 0
    two.course.start()
    await two.until('it is over', () => two.course.ended)
    assert.deepEqual([...new Set(two.fetched)], [ids.web02], 'of the other nothing is fetched again')
    assert.deepEqual(two.course.record.disks[0]?.counters, counted)
    assert.deepEqual(two.states, ['owned', 'owned'])
    assert.equal(two.course.record.state, 'done')
  })

  it('promise 2: takes both by the same grant after a restart that lost the answer', async () => {
    await started(
      new TwoDisks({
        acquire: async () => Promise.reject(new LinkError('lost', 'the lane broke')),
      }),
    )
    void two.write('web02')
    await two.until('the answer is lost', () => two.course.owner === 'unknown')
    two.source.inquire = async () => ({ state: 'departed', writersAreGone: true, sessions: 0, boot: 'boot-1' })
    two.source.acquire = async (asked) => {
      two.acquired.push(asked)
      return two.grant(asked)
    }
    await two.restart()
    two.course.start()
    await two.until('both are taken', () => two.states.every((state) => state !== 'incoming'))
    assert.deepEqual([two.acquired[0]?.reason, two.acquired[0]?.disks.length], ['resume', 2])
  })

  it("a guest's read of the second does not wait for the copy of the first", async () => {
    await started(new TwoDisks())
    const urgencies: string[] = []
    const { blocks } = two.source
    two.source.blocks = (at, runs, options) => {
      urgencies.push(`${at.disk === ids.web01 ? 'web01' : 'web02'} ${options.urgency}`)
      return blocks!(at, runs, options)
    }
    holdBlocks('web01')
    await two.write('web01', 1)
    await two.until('the copy is at the first', () => urgencies.includes('web01 background'))
    const bytes = await read(two.disk('web02').open('guest'), 0, 512)
    assert.equal(bytes[0], 1)
    assert.deepEqual([...new Set(urgencies)], ['web01 background', 'web02 demand'])
  })

  it('a range of one that the source cannot read keeps nothing of the other from coming', async () => {
    let isBad = true
    await started(
      new TwoDisks({
        blocks: (at, runs) => {
          if (!isBad || at.disk !== ids.web01) return two.bytes.fetch(runs)
          const bad = { offset: runs[0]!.offset, length: runs[0]!.length }
          return failing(new PeerRefusal('unreadable', 'the source cannot read it', bad))
        },
      }),
    )
    await two.write('web02')
    await two.until('the second is owned', () => two.states[1] === 'owned')
    assert.deepEqual([two.states[0], two.course.record.state], ['arriving', 'copying'])
    assert.match(two.course.note ?? '', /^web01: the source cannot read/)
    assert.equal(two.course.figures(two.disk('web01')).unreadable.length, 1)
    isBad = false
    await two.until('it is over', () => two.course.ended)
    assert.equal(two.course.record.state, 'done')
  })

  describe('promise 1: one that is superseded while it arrives', () => {
    const by = elsewhere(3, 'osaka')

    it('leaves the move, which goes on for the other', async () => {
      await firstIsOwned()
      await two.course.supersede(by, two.disk('web02'))
      assert.deepEqual(two.states, ['owned', 'superseded'])
      await two.until('it is over', () => two.course.ended)
      const { record } = two.course
      assert.equal(record.state, 'done')
      assert.match(record.note ?? '', /web02 left the move: superseded: generation 3 of the disk exists at osaka/)
      assert.deepEqual(
        record.disks.map(({ owner, hasLeft }) => [owner, hasLeft]),
        [
          ['here', false],
          ['osaka', true],
        ],
      )
      assert.deepEqual(
        two.completed.map(({ disks }) => disks.map(({ disk }) => disk)),
        [[ids.web01]],
      )
      assert.deepEqual([two.course.missingBytes, two.disk('web02').record.generation], [0, 3])
    })

    it('interrupts the copy of the other for a moment only, and is served to nobody', async () => {
      await started(new TwoDisks())
      holdBlocks('web01')
      holdBlocks('web02')
      await two.write('web01', 1)
      const reading = read(two.disk('web02').open('guest'), 0, 512)
      reading.catch(() => {})
      await two.until('the copy is at the first', () => two.fetched.includes(ids.web01))
      const superseding = two.course.supersede(by, two.disk('web02'))
      await two.until('it is superseded', () => two.states[1] === 'superseded')
      await superseding
      await assert.rejects(reading)
      letBlocksCome('web01')
      await two.until('it is over', () => two.course.ended)
      assert.deepEqual(two.states, ['owned', 'superseded'])
      assert.equal(two.course.record.state, 'done')
    })

    it('is superseded also when the operator ends the move in the same moment', async () => {
      await started(new TwoDisks())
      two.source.complete = () => Promise.reject(new LinkError('lost', 'the lane broke'))
      await two.write('web01')
      await two.until('the source is told', () => /not released yet/.test(two.course.note ?? ''))
      const commit = two.records.commit.bind(two.records)
      const held = Promise.withResolvers<void>()
      two.records.commit = async (changes) => {
        await held.promise
        await commit(changes)
      }
      const superseding = two.course.supersede(by, two.disk('web01'))
      const ending = two.course.cancel(true, AbortSignal.timeout(60_000))
      await settled() // It waits for its turn behind the end.
      held.resolve()
      await Promise.all([superseding, ending, two.course.settled()])
      assert.deepEqual([two.course.record.state, two.states], ['done', ['superseded', 'owned']])
    })

    it('says no more what it waited for', async () => {
      const refusal = new PeerRefusal('no-right', 'it is not departed')
      const isHeld = new Set<string>([ids.web01, ids.web02])
      await started(
        new TwoDisks({ blocks: (at, runs) => (isHeld.has(at.disk) ? failing(refusal) : two.bytes.fetch(runs)) }),
      )
      await two.write('web02')
      await two.until('the copy waits', () => /^web01: the background copy waits/.test(two.course.note ?? ''))
      await two.course.supersede(by, two.disk('web01'))
      await two.until('the other waits', () => /web02: the background copy/.test(two.course.note ?? ''))
      assert.doesNotMatch(two.course.note ?? '', /web01/)
      isHeld.clear()
      await two.until('it is over', () => two.course.ended)
      assert.deepEqual(two.states, ['superseded', 'owned'])
    })

    it('ends the move when the other has left it before', async () => {
      await firstIsOwned()
      two.source.complete = () => Promise.reject(new LinkError('lost', 'the lane broke'))
      await two.course.supersede(by, two.disk('web02'))
      await two.course.supersede(elsewhere(4, 'nara'), two.disk('web01'))
      assert.deepEqual([two.course.record.state, two.states], ['failed', ['superseded', 'superseded']])
      assert.deepEqual(
        two.course.record.disks.map(({ owner }) => owner),
        ['nara', 'osaka'],
      )
    })

    it('is not opened again by the move after a restart', async () => {
      await firstIsOwned()
      two.source.complete = () => Promise.reject(new LinkError('lost', 'the lane broke'))
      await two.course.supersede(by, two.disk('web02'))
      await two.restart()
      assert.deepEqual(two.states, ['owned'])
      two.source.complete = async (said) => {
        two.completed.push(said)
        return { answer: 'released', disks: [], released: [] }
      }
      two.course.start()
      await two.until('it is over', () => two.course.ended)
      assert.deepEqual(
        two.course.record.disks.map(({ owner }) => owner),
        ['here', 'osaka'],
      )
    })

    it('is not, whatever the source says, as long as its deed does not show it', async () => {
      await started(new TwoDisks())
      await two.write('web01')
      let refused = 0
      two.source.taken = () => {
        refused++
        return Promise.reject(new PeerRefusal('superseded', 'it was taken back'))
      }
      await two.until('the source has said so again and again', () => refused > 3)
      assert.deepEqual(two.states, ['arriving', 'arriving'])
      await two.write('web02')
    })

    it('is not by a mark that this site has not signed', async () => {
      await started(new TwoDisks())
      await two.write('web01')
      let refused = 0
      two.source.taken = async ({ run }) => {
        const said = { mark: 9, run: `${run}-before` }
        const proofs = [
          { ...said, markSigned: null, completeSigned: null },
          { ...said, markSigned: signMark(theirKey, two.course.record, said).signature, completeSigned: null },
          {
            ...said,
            markSigned: signMark(ourKey, { ...two.course.record, id: 'm-2' }, said).signature,
            completeSigned: null,
          },
          {
            ...said,
            run,
            markSigned: signMark(ourKey, two.course.record, { mark: 9, run }).signature,
            completeSigned: null,
          },
          { ...said, markSigned: null, completeSigned: signComplete(theirKey, two.course.record).signature },
        ]
        throw new PeerRefusal('restored', 'it was further once', proofs[refused++ % proofs.length])
      }
      await two.until('the source has said so again and again', () => refused > 5)
      assert.deepEqual(two.states, ['arriving', 'arriving'])
      two.source.taken = async ({ mark, run }) => {
        const said = { mark, run: `${run}-before` }
        const { signature: markSigned } = signMark(ourKey, two.course.record, said)
        throw new PeerRefusal('restored', 'it was further once', { ...said, markSigned, completeSigned: null })
      }
      await two.until('the move has failed', () => two.course.ended)
      assert.deepEqual(two.states, ['superseded', 'superseded'])
    })

    it('and the other, when the source says that both were taken back: each under its generation', async () => {
      await started(new TwoDisks())
      await two.write('web01')
      const disks = [
        { disk: ids.web01, generation: 3, owner: 'there' },
        { disk: ids.web02, generation: 5, owner: 'there' },
      ]
      const gift = { to: ourKey.fingerprint, toSite: 'here', move: 'm-2' }
      const backAgain = (deed: Deed) => signTakenBack(theirKey, deed, 'lost', at)
      const back = new Map(two.course.disks.map(({ id, record }) => [id, backAgain(record.deed!)]))
      two.deeds = (disk) => {
        const deed = back.get(disk)!
        return disk === ids.web01 ? deed : backAgain(signGiven(theirKey, deed, gift, at))
      }
      two.source.taken = () => Promise.reject(new PeerRefusal('superseded', 'it was taken back', { disks }))
      two.source.progress = two.source.taken as never
      await two.until('the move has failed', () => two.course.ended)
      assert.deepEqual(
        two.course.disks.map(({ state, record }) => [state, record.generation]),
        [
          ['superseded', 3],
          ['superseded', 5],
        ],
      )
      assert.equal(two.course.record.state, 'failed')
    })
  })
})

async function* failing(error: Error): AsyncGenerator<never> {
  yield await Promise.reject(error)
}
