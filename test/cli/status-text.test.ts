import assert from 'node:assert/strict'
import { Frames } from '../../src/cli/frames.ts'
import { type Snapshot, troubleLines, watchText } from '../../src/cli/status-text.ts'
import { ControlClient } from '../../src/control/client.ts'
import type { SessionView, StatusView } from '../../src/control/types.ts'
import { migrationView, type Served, serveFakeSite } from '../control/fake-site.ts'

describe('a site that is watched', () => {
  let served: Served
  let status: StatusView
  let session: SessionView
  before(async () => {
    served = await serveFakeSite()
    const client = new ControlClient(served.path)
    status = { ...(await client.status()), refusedConnections: null }
    session = (await client.listSessions())[0]!
    await client.close()
  })
  after(() => served[Symbol.asyncDispose]())

  const at = (
    atMs: number,
    more: Partial<StatusView> = {},
    sessions: readonly SessionView[] = [session],
  ): Snapshot => ({
    atMs,
    sessions,
    status: { ...status, ...more },
  })

  it('tells what is wrong before all else', () => {
    const { link } = migrationView('copying')
    const down = { ...link, state: 'down', since: '2026-11-30T16:08:12.000Z', why: 'no route' } as const
    const bytes = { ...migrationView('copying').bytes, exposed: 310 * 2 ** 20 }
    const text = watchText(at(1e12, { migrations: [migrationView('copying', { link: down, bytes })] }), undefined)
    const [, troubles] = text.split('\n\n')
    assert.match(troubles!, /^! web01: The link to tokyo is down since 2026-11-30T16:08:12Z: no route\./m)
    assert.match(troubles!, /310 MiB exist only at this site/)
  })

  it('has nothing to tell of a site where nothing is wrong, and of moves that are over', () => {
    const bytes = { ...migrationView('done').bytes, exposed: 5 }
    const calm = { ...status, disks: [], peers: [], migrations: [migrationView('done', { bytes, note: 'once' })] }
    assert.deepEqual(troubleLines(calm), [])
    assert.match(watchText(at(1e12, calm), undefined), /Nothing is wrong\.[\s\S]*Nothing is on its way\./)
  })

  it('has the rates of each client since the frame before, and none of one that has just come', () => {
    const earlier = { ...session, reads: { count: 100, bytes: 0 }, writes: { count: 10, bytes: 2 ** 20 } }
    const now = { ...session, reads: { count: 600, bytes: 0 }, writes: { count: 30, bytes: 5 * 2 ** 20 } }
    const text = watchText(at(3000, {}, [now, { ...now, id: 'new', disk: 'web02' }]), at(1000, {}, [earlier]))
    assert.match(text, new RegExp(`${session.disk} +250 +10 +0 B/s +2 MiB/s`))
    assert.match(text, /web02 +0 +yes|web02 +\d+ +(yes|no)/)
  })
})

describe('text that takes the place of what was shown before', () => {
  const frames = (isTTY: boolean, columns = 20, rows = 4) => {
    const written: string[] = []
    const output = { isTTY, columns, rows, write: (text: string) => written.push(text) > 0 }
    return { written, frames: new Frames(output as never) }
  }

  it('has a screen of its own on a terminal, cut to its size, and gives it back', () => {
    const { written, frames: shown } = frames(true)
    shown.show(`${'x'.repeat(30)}\n2\n3\n4\n5`)
    shown.show('again')
    shown[Symbol.dispose]()
    assert.deepEqual(written, [
      '\x1b[?1049h\x1b[?25l',
      `\x1b[H${'x'.repeat(20)}\x1b[K\r\n2\x1b[K\r\n3\x1b[K\r\n…\x1b[K\x1b[J`,
      '\x1b[Hagain\x1b[K\x1b[J',
      '\x1b[?25h\x1b[?1049l',
    ])
  })

  it('is plain elsewhere', () => {
    const { written, frames: shown } = frames(false)
    shown.show('one\ntwo')
    shown[Symbol.dispose]()
    assert.deepEqual(written, ['one\ntwo\n\n'])
  })
})
