import assert from 'node:assert/strict'
import { type RequestKind, type SessionActivity, Sessions } from '../../src/disk/sessions.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { block, closeDisksAfterEach, openDisk, ReadySource, settled } from './hand.ts'

/** A request that is answered at once. */
function did(sessions: Sessions, session: SessionActivity, kind: RequestKind, good = true): void {
  sessions.end(session, kind, sessions.begin(session, kind), good)
}

describe('quiet rule', () => {
  it('a disk without sessions is quiet', () => {
    assert.equal(new Sessions().busyReason(), undefined)
  })

  it('a session that has only read counts for nothing, even with a read in flight', () => {
    const sessions = new Sessions()
    const session = sessions.open('reader')
    did(sessions, session, 'read')
    sessions.begin(session, 'read')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that has written and not flushed is busy, and is named', () => {
    const sessions = new Sessions()
    did(sessions, sessions.open('10.0.0.7:4000'), 'write')
    assert.match(sessions.busyReason()!, /10\.0\.0\.7:4000/)
  })

  it('a session whose last request was an answered flush is quiet', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    did(sessions, session, 'flush')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session with a write in flight is busy', () => {
    const sessions = new Sessions()
    sessions.begin(sessions.open('guest'), 'write')
    assert(sessions.busyReason())
  })

  it('a flush that is not answered yet does not count', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    sessions.begin(session, 'flush')
    assert(sessions.busyReason())
  })

  it('a flush that failed does not count', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    did(sessions, session, 'flush', false)
    assert(sessions.busyReason())
  })

  it('a read after the flush makes a writer busy again: its guest runs', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    did(sessions, session, 'flush')
    did(sessions, session, 'read')
    assert(sessions.busyReason())
  })

  it('a write that began after the flush and was answered before it is a later request: busy', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    const began = sessions.begin(session, 'flush') // The flush …
    did(sessions, session, 'write')
    sessions.end(session, 'flush', began, true) // … is answered last, and was not the last.
    assert(sessions.busyReason())
  })

  it('one busy writer among quiet ones is enough', () => {
    const sessions = new Sessions()
    const quiet = sessions.open('quiet')
    did(sessions, quiet, 'write')
    did(sessions, quiet, 'flush')
    did(sessions, sessions.open('busy'), 'write')
    assert.match(sessions.busyReason()!, /busy/)
  })

  it('a flush of another session makes a writer quiet when it began after the write: a flush covers every connection', () => {
    const sessions = new Sessions()
    did(sessions, sessions.open('writer'), 'write')
    did(sessions, sessions.open('other'), 'flush')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a flush of another session that began before the write was answered covers nothing', () => {
    const sessions = new Sessions()
    const [writer, other] = [sessions.open('writer'), sessions.open('other')]
    const began = sessions.begin(other, 'flush')
    did(sessions, writer, 'write')
    sessions.end(other, 'flush', began, true)
    assert.match(sessions.busyReason()!, /writer/)
  })

  it('a write that failed makes no writer', () => {
    const sessions = new Sessions()
    did(sessions, sessions.open('stray'), 'write', false)
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a writer that said DISC is quiet, flushed or not', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    sessions.close(session, 'disconnected')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that broke while it was busy stays busy', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    sessions.close(session, 'broken')
    assert.match(sessions.busyReason()!, /guest.*broke/)
  })

  it('a session that broke while it was busy stays busy though one that was open before writes and flushes', () => {
    const sessions = new Sessions()
    const [broken, other] = [sessions.open('broken'), sessions.open('other')]
    did(sessions, broken, 'write')
    sessions.close(broken, 'broken')
    did(sessions, other, 'write')
    did(sessions, other, 'flush')
    assert.match(sessions.busyReason()!, /broken/)
  })

  it('a session that broke while it was busy stays busy though one that came later only flushes', () => {
    const sessions = new Sessions()
    const broken = sessions.open('broken')
    did(sessions, broken, 'write')
    sessions.close(broken, 'broken')
    did(sessions, sessions.open('later'), 'flush')
    assert.match(sessions.busyReason()!, /broken/)
  })

  it('a hypervisor that came back, wrote and flushed, is quiet, and what broke before is forgotten', () => {
    const sessions = new Sessions()
    const broken = sessions.open('guest')
    did(sessions, broken, 'write')
    sessions.close(broken, 'broken')
    const back = sessions.open('guest')
    did(sessions, back, 'write')
    assert(sessions.busyReason())
    did(sessions, back, 'flush')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that broke while it was quiet is quiet', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    did(sessions, session, 'write')
    did(sessions, session, 'flush')
    sessions.close(session, 'broken')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that only read and broke counts for nothing', () => {
    const sessions = new Sessions()
    const session = sessions.open('reader')
    did(sessions, session, 'read')
    sessions.close(session, 'broken')
    assert.equal(sessions.busyReason(), undefined)
  })

  describe('of writers that are gone', () => {
    it('holds when the last session that had written has said DISC', () => {
      const sessions = new Sessions()
      const [first, second] = [sessions.open('first'), sessions.open('second')]
      did(sessions, first, 'write')
      did(sessions, second, 'write')
      sessions.close(first, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
      sessions.close(second, 'disconnected')
      assert.equal(sessions.writersAreGone, true)
    })

    it('does not hold when nobody has written', () => {
      const sessions = new Sessions()
      const session = sessions.open('reader')
      did(sessions, session, 'read')
      sessions.close(session, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
    })

    it('does not hold while anybody is attached: who only reads may be about to write', () => {
      const sessions = new Sessions()
      const [writer, reader] = [sessions.open('writer'), sessions.open('reader')]
      did(sessions, writer, 'write')
      sessions.close(writer, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
      sessions.close(reader, 'disconnected')
      assert.equal(sessions.writersAreGone, true)
    })

    it('does not hold when a busy writer broke', () => {
      const sessions = new Sessions()
      const [broken, polite] = [sessions.open('broken'), sessions.open('polite')]
      did(sessions, broken, 'write')
      did(sessions, polite, 'write')
      sessions.close(broken, 'broken')
      sessions.close(polite, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
    })

    it('does not hold when a writer broke that had flushed: it has not said DISC, and may come back', () => {
      const sessions = new Sessions()
      const [broken, polite] = [sessions.open('broken'), sessions.open('polite')]
      did(sessions, broken, 'write')
      did(sessions, broken, 'flush')
      did(sessions, polite, 'write')
      sessions.close(broken, 'broken')
      sessions.close(polite, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
    })

    it('does not hold when somebody broke after the last writer said DISC, though it only read: it may come back', () => {
      const sessions = new Sessions()
      const [writer, reader] = [sessions.open('writer'), sessions.open('reader')]
      did(sessions, writer, 'write')
      did(sessions, reader, 'read')
      sessions.close(writer, 'disconnected')
      sessions.close(reader, 'broken')
      assert.equal(sessions.writersAreGone, false)
      const back = sessions.open('reader')
      did(sessions, back, 'write')
      sessions.close(back, 'disconnected')
      assert.equal(sessions.writersAreGone, true)
    })

    it('does not hold any more when somebody writes again', () => {
      const sessions = new Sessions()
      const first = sessions.open('first')
      did(sessions, first, 'write')
      sessions.close(first, 'disconnected')
      did(sessions, sessions.open('second'), 'write')
      assert.equal(sessions.writersAreGone, false)
    })
  })
  describe('of a disk that a daemon which ended may have served to writers', () => {
    let sessions: Sessions
    beforeEach(() => {
      sessions = new Sessions()
      sessions.reopened()
    })

    it('nobody attached is quiet', () => {
      assert.equal(sessions.busyReason(), undefined)
    })

    it('a session that only reads counts as a writer, is named, and is told what to do', () => {
      did(sessions, sessions.open('10.0.0.7:4000'), 'read')
      assert.match(sessions.busyReason()!, /10\.0\.0\.7:4000 has not flushed yet, and may have written before .*sync/)
      assert.deepEqual(sessions.attachedWriters(), ['10.0.0.7:4000'])
    })

    it('until a flush is answered, its own or that of another session', () => {
      const [guest, other] = [sessions.open('guest'), sessions.open('other')]
      did(sessions, guest, 'flush', false)
      assert(sessions.busyReason(), 'one that failed does not count')
      did(sessions, other, 'flush')
      did(sessions, guest, 'read')
      assert.equal(sessions.busyReason(), undefined)
      did(sessions, guest, 'write')
      assert.match(sessions.busyReason()!, /guest has written/)
    })

    it('not for a flush that began before it opened', () => {
      const other = sessions.open('other')
      const began = sessions.begin(other, 'flush')
      sessions.open('guest')
      sessions.end(other, 'flush', began, true)
      assert.match(sessions.busyReason()!, /guest/)
    })

    it('one that says DISC is quiet', () => {
      sessions.close(sessions.open('guest'), 'disconnected')
      assert.equal(sessions.busyReason(), undefined)
    })

    it('one that broke counts as it stood, until any flush after that', () => {
      const other = sessions.open('other')
      did(sessions, other, 'flush')
      sessions.close(sessions.open('guest'), 'broken')
      assert.match(sessions.busyReason()!, /guest broke before it had flushed what it may have written/)
      assert.equal(sessions.attachedReason(), undefined)
      did(sessions, other, 'flush')
      assert.equal(sessions.busyReason(), undefined)
    })

    it('one that broke does not hide a writer that broke', () => {
      const writer = sessions.open('writer')
      did(sessions, writer, 'write')
      sessions.close(writer, 'broken')
      sessions.close(sessions.open('reader'), 'broken')
      did(sessions, sessions.open('other'), 'flush')
      assert.match(sessions.busyReason()!, /writer broke/)
    })
  })
})

describe('quiet rule, on a disk', () => {
  removeFoldersAfterEach()
  closeDisksAfterEach()

  it('a session is quiet after a write and its flush, and busy in between', async () => {
    const { disk } = await openDisk(new ReadySource(), { state: 'owned' })
    const session = disk.open('guest')
    await session.write(0, Buffer.alloc(block, 1), false)
    assert(disk.sessions.busyReason())
    await session.flush()
    assert.equal(disk.sessions.busyReason(), undefined)
    session.close('disconnected')
  })

  it('a trim and a write of zeroes count as writes', async () => {
    const { disk } = await openDisk(new ReadySource(), { state: 'owned' })
    const [trimmer, zeroer] = [disk.open('trimmer'), disk.open('zeroer')]
    await trimmer.trim(0, block, false)
    assert.match(disk.sessions.busyReason()!, /trimmer/)
    trimmer.close('disconnected')
    await zeroer.writeZeroes(0, block, { mayPunch: true, fast: false, fua: false })
    assert.match(disk.sessions.busyReason()!, /zeroer/)
    zeroer.close('disconnected')
  })

  it('a write with FUA is no flush', async () => {
    const { disk } = await openDisk(new ReadySource(), { state: 'owned' })
    const session = disk.open('guest')
    await session.write(0, Buffer.alloc(block, 1), true)
    assert(disk.sessions.busyReason())
    session.close('disconnected')
  })

  it('a session counts as it stood when it broke: its flush in flight was never answered', async () => {
    const { disk, files } = await openDisk(new ReadySource(), { state: 'owned' })
    const session = disk.open('guest')
    await session.write(0, Buffer.alloc(block, 1), false)
    files.hold('sync')
    const flushing = Promise.resolve(session.flush())
    session.hangUp!() // The connection breaks here.
    files.release('sync')
    await flushing
    session.close('broken')
    await settled()
    assert.match(disk.sessions.busyReason() ?? 'quiet', /guest.*broke/)
  })
})
