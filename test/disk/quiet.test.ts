import assert from 'node:assert/strict'
import { type SessionActivity, Sessions } from '../../src/disk/quiet.ts'
import { removeFoldersAfterEach } from '../store/folder.ts'
import { block, closeDisksAfterEach, openDisk, ReadySource, settled } from './hand.ts'

function read(session: SessionActivity): void {
  session.begin(false)
  session.end(false)
}

function write(session: SessionActivity): void {
  session.begin(true)
  session.end(false)
}

function flush(session: SessionActivity, good = true): void {
  session.begin(false)
  session.end(good)
}

describe('quiet rule', () => {
  it('a disk without sessions is quiet', () => {
    assert.equal(new Sessions().busyReason(), undefined)
  })

  it('a session that has only read counts for nothing, even with a read in flight', () => {
    const sessions = new Sessions()
    const session = sessions.open('reader')
    read(session)
    session.begin(false)
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that has written and not flushed is busy, and is named', () => {
    const sessions = new Sessions()
    write(sessions.open('10.0.0.7:4000'))
    assert.match(sessions.busyReason()!, /10\.0\.0\.7:4000/)
  })

  it('a session whose last request was an answered flush is quiet', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    flush(session)
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session with a write in flight is busy', () => {
    const sessions = new Sessions()
    sessions.open('guest').begin(true)
    assert(sessions.busyReason())
  })

  it('a flush that is not answered yet does not count', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    session.begin(false)
    assert(sessions.busyReason())
  })

  it('a flush that failed does not count', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    flush(session, false)
    assert(sessions.busyReason())
  })

  it('a read after the flush makes a writer busy again: its guest runs', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    flush(session)
    read(session)
    assert(sessions.busyReason())
  })

  it('a write that began after the flush and was answered before it is a later request: busy', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    session.begin(false) // The flush …
    write(session)
    session.end(true) // … is answered last, and was not the last.
    assert(sessions.busyReason())
  })

  it('one busy writer among quiet ones is enough', () => {
    const sessions = new Sessions()
    const quiet = sessions.open('quiet')
    write(quiet)
    flush(quiet)
    write(sessions.open('busy'))
    assert.match(sessions.busyReason()!, /busy/)
  })

  it('a flush of one session does not make another quiet', () => {
    const sessions = new Sessions()
    write(sessions.open('busy'))
    flush(sessions.open('other'))
    assert(sessions.busyReason())
  })

  it('a writer that said DISC is quiet, flushed or not', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    sessions.close(session, 'disconnected')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that broke while it was busy stays busy', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    sessions.close(session, 'broken')
    assert.match(sessions.busyReason()!, /guest.*broke/)
  })

  it('a session that broke while it was busy stays busy whatever others do after', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    sessions.close(session, 'broken')
    const other = sessions.open('other')
    write(other)
    flush(other)
    sessions.close(other, 'disconnected')
    assert(sessions.busyReason())
  })

  it('a session that broke while it was quiet is quiet', () => {
    const sessions = new Sessions()
    const session = sessions.open('guest')
    write(session)
    flush(session)
    sessions.close(session, 'broken')
    assert.equal(sessions.busyReason(), undefined)
  })

  it('a session that only read and broke counts for nothing', () => {
    const sessions = new Sessions()
    const session = sessions.open('reader')
    read(session)
    sessions.close(session, 'broken')
    assert.equal(sessions.busyReason(), undefined)
  })

  describe('of writers that are gone', () => {
    it('holds when the last session that had written has said DISC', () => {
      const sessions = new Sessions()
      const [first, second] = [sessions.open('first'), sessions.open('second')]
      write(first)
      write(second)
      sessions.close(first, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
      sessions.close(second, 'disconnected')
      assert.equal(sessions.writersAreGone, true)
    })

    it('does not hold when nobody has written', () => {
      const sessions = new Sessions()
      const session = sessions.open('reader')
      read(session)
      sessions.close(session, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
    })

    it('does not mind a session that only reads', () => {
      const sessions = new Sessions()
      const [writer, reader] = [sessions.open('writer'), sessions.open('reader')]
      write(writer)
      read(reader)
      sessions.close(writer, 'disconnected')
      assert.equal(sessions.writersAreGone, true)
    })

    it('does not hold when a busy writer broke', () => {
      const sessions = new Sessions()
      const [broken, polite] = [sessions.open('broken'), sessions.open('polite')]
      write(broken)
      write(polite)
      sessions.close(broken, 'broken')
      sessions.close(polite, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
    })

    it('does not hold when a writer broke that had flushed: it has not said DISC, and may come back', () => {
      const sessions = new Sessions()
      const [broken, polite] = [sessions.open('broken'), sessions.open('polite')]
      write(broken)
      flush(broken)
      write(polite)
      sessions.close(broken, 'broken')
      sessions.close(polite, 'disconnected')
      assert.equal(sessions.writersAreGone, false)
    })

    it('does not hold any more when somebody writes again', () => {
      const sessions = new Sessions()
      const first = sessions.open('first')
      write(first)
      sessions.close(first, 'disconnected')
      write(sessions.open('second'))
      assert.equal(sessions.writersAreGone, false)
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
