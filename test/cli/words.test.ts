// What operators write and read: sizes, rates, times, tables, the course of a migration in lines.

import assert from 'node:assert/strict'
import { diskFacts, diskRow } from '../../src/cli/disk-text.ts'
import { viewOfAny } from '../../src/cli/errors.ts'
import { follow } from '../../src/cli/follow.ts'
import { LinesDisplay, StepTexts } from '../../src/cli/migration-display.ts'
import {
  detailsOf,
  migrationRow,
  progressLines,
  progressOf,
  rangeText,
  reportOf,
  wayBack,
} from '../../src/cli/migration-text.ts'
import { defaultRoot } from '../../src/cli/paths.ts'
import {
  exactSize,
  formatRate,
  formatSeconds,
  formatSize,
  parseRate,
  parseSize,
  parseTime,
} from '../../src/cli/sizes.ts'
import { asSentence, standingOf } from '../../src/cli/standing-text.ts'
import { facts, table } from '../../src/cli/table.ts'
import { jsonText, printable } from '../../src/cli/terminal.ts'
import type { ToldMigrationEvent } from '../../src/control/client.ts'
import { ControlError } from '../../src/control/errors.ts'
import { contentOf, filesBelow } from '../architecture/sources.ts'
import { diskView, MiB, migrationView, movedDisk, wholeMigration } from '../control/fake-site.ts'

describe('cli: sizes', () => {
  const sizes: [string, number][] = [
    ['0', 0],
    ['512', 512],
    ['512B', 512],
    ['4K', 4096],
    ['4k', 4096],
    ['64KiB', 65_536],
    ['100MiB', 104_857_600],
    ['10G', 10 * 2 ** 30],
    ['1.5G', 1.5 * 2 ** 30],
    ['0.5K', 512],
    ['2T', 2 ** 41],
    ['1P', 2 ** 50],
    [' 1M ', 2 ** 20],
  ]
  for (const [text, bytes] of sizes) it(`"${text}" is ${bytes} bytes`, () => assert.equal(parseSize(text), bytes))
  for (const text of [
    '',
    'G',
    '-1',
    '+1',
    '1 G',
    '3KB',
    '10GB',
    '1e3',
    '0x10',
    '1.G',
    '.5G',
    '1iB',
    '1X',
    '0.3',
    '10G5',
    '9999999P',
    'NaN',
    '१',
  ]) {
    it(`"${text}" is no size: exit 2`, () =>
      assert.throws(
        () => parseSize(text),
        (error) => viewOfAny(error).exit === 2,
      ))
  }

  it('a rate may say /s', () => {
    assert.equal(parseRate('50M'), 50 * MiB)
    assert.equal(parseRate('50MiB/s'), 50 * MiB)
    assert.throws(() => parseRate('50M/m'), /is not a rate/)
  })

  const times: [string, number][] = [
    ['500ms', 500],
    ['10s', 10_000],
    ['1.5s', 1500],
    ['0s', 0],
    ['5m', 300_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
  ]
  for (const [text, ms] of times) it(`"${text}" is ${ms} ms`, () => assert.equal(parseTime(text), ms))
  for (const text of ['', '10', 's', '10 s', '10S', '-1s', '10sec', '1h30m', 'constructor', '1constructor']) {
    it(`"${text}" is no time: a unit is required`, () => assert.throws(() => parseTime(text), /is not a time/))
  }

  it('are shown in the largest unit that fits', () => {
    const shown = [0, 1023, 1024, 1536, MiB - 1, MiB, 512 * MiB, 1.5 * 2 ** 30, 2 ** 50].map(formatSize)
    assert.deepEqual(shown, ['0 B', '1023 B', '1 KiB', '1.5 KiB', '1 MiB', '1 MiB', '512 MiB', '1.5 GiB', '1 PiB'])
    assert.equal(formatRate(40 * MiB + 0.3), '40 MiB/s')
  })

  it('what must be exact is shown whole, in the largest unit that is', () => {
    const shown = [0, 512, 4096, 4608, MiB, MiB + 4096, 2 ** 40].map(exactSize)
    assert.deepEqual(shown, ['0 B', '512 B', '4 KiB', '4608 B', '1 MiB', '1028 KiB', '1 TiB'])
    assert.equal(rangeText({ offset: MiB, length: 4096 }), '4 KiB at 1 MiB')
  })

  it('seconds are shown as people say them', () => {
    const shown = [0, 0.0213, 0.9999, 12.34, 59.96, 60, 75, 3600, 3660].map(formatSeconds)
    assert.deepEqual(shown, ['0 ms', '21 ms', '1 s', '12.3 s', '1 min', '1 min', '1 min 15 s', '1 h', '1 h 1 min'])
  })
})

describe('cli: tables', () => {
  it('columns are aligned, and no line ends in spaces', () => {
    assert.equal(
      table(
        ['name', 'size'],
        [
          ['a', '1'],
          ['long', ''],
        ],
        'none',
      ),
      'NAME  SIZE\na     1\nlong',
    )
    assert.equal(table(['name'], [], 'none'), 'none')
  })
  it('facts without a value are left out', () => {
    assert.equal(facts({ id: 'x', note: null, size: 3 }), 'id:   x\nsize: 3')
  })
})

describe('cli: the progress of several disks', () => {
  const missing = (name: string, bytes: number) =>
    movedDisk(name, { bytes: { ...movedDisk(name).bytes, missing: bytes } })
  const view = migrationView('copying', { disks: [missing('web01', 256 * MiB), missing('data-of-db01', 0)] })

  it('has a line a disk, with the names aligned; one that left says who owns it', () => {
    assert.deepEqual(progressLines(view), [
      'web01         256 MiB of 512 MiB (50%)',
      'data-of-db01  512 MiB of 512 MiB (100%)',
    ])
    const left = migrationView('copying', { disks: [movedDisk('web01'), movedDisk('db01', { hasLeft: true })] })
    assert.match(progressLines(left)[1]!, /^db01 {3}has left the migration: tokyo owns it$/)
  })
  it('is that of all where there is one', () => {
    assert.deepEqual(progressLines(migrationView('copying', { disks: [movedDisk('web01')] })), [])
  })
  it('is told below each tenth', () => {
    const told: string[] = []
    const display = new LinesDisplay((line) => told.push(line))
    const bytes = { ...view.bytes, disk: 1024 * MiB, missing: 256 * MiB }
    display.show({ type: 'progress', migration: { ...view, bytes } })
    assert.equal(told.length, 3)
    assert.match(told[1]!, /^ {2}web01 /)
  })
})

describe('cli: paths', () => {
  it('the root is what the environment says, else the custom of the system', () => {
    assert.equal(defaultRoot({ VMSTORE_ROOT: '/srv/v' }, true), '/srv/v')
    assert.equal(defaultRoot({}, true), '/var/lib/vmstore')
    assert.equal(defaultRoot({ XDG_DATA_HOME: '/d' }, false), '/d/vmstore')
    assert.match(defaultRoot({}, false), /\/\.local\/share\/vmstore$/)
  })
})

describe('cli: a disk in words', () => {
  it('bytes that one site alone has are here at the source, and there at the destination', () => {
    const exposed = (state: 'departed' | 'arriving') => diskFacts(diskView('web01', { state, exposed: 3 * MiB }))
    assert.match(exposed('departed'), /^exposed: +3 MiB exist only at this site$/m)
    assert.match(exposed('arriving'), /^exposed: +3 MiB exist only at the site that it comes from$/m)
  })
  it('how much is here of one that is superseded is not said: it may have been arriving', () => {
    const superseded = diskView('web01', { state: 'superseded' })
    assert.doesNotMatch(diskFacts(superseded), /^present:/m)
    assert(diskRow(superseded).includes('?'))
    assert.match(diskFacts(diskView('web01', { state: 'owned' })), /^present: /m)
  })
  it('one whose bytes were not kept has no file', () => {
    const released = (bytes: number) =>
      diskFacts(diskView('web01', { state: 'released', present: { bytes, blocks: 0 }, allocated: bytes }))
    assert.doesNotMatch(released(0), /^file:/m)
    assert.match(released(MiB), /^file: /m)
  })
})

describe('cli: the course of a migration in lines', () => {
  it('tells each step once, and a line for each tenth', () => {
    const lines: string[] = []
    const display = new LinesDisplay((line) => lines.push(line))
    const bytes = { ...migrationView('done').bytes, disk: 1000 * MiB }
    const at = (missing: number) => migrationView('copying', { bytes: { ...bytes, missing: missing * MiB } })
    for (const event of wholeMigration.slice(0, 2)) display.show(event as ToldMigrationEvent)
    display.show(wholeMigration[1] as ToldMigrationEvent)
    for (const missing of [999, 899, 898, 500]) display.show({ type: 'progress', migration: at(missing) })
    assert.deepEqual(lines, [
      'Checking web01 and tokyo.',
      'Move the machine to tokyo now.',
      '101 MiB of 1000 MiB (10%), 40 MiB/s, 5 s left',
      '500 MiB of 1000 MiB (50%), 40 MiB/s, 5 s left',
    ])
  })
  it('says 100% only when nothing is missing', () => {
    const bytes = { ...migrationView('done').bytes, missing: 1 }
    assert.match(progressOf(migrationView('copying', { bytes, rate: 0, secondsLeft: null })), /\(99%\)$/)
  })
})

describe('cli: what stands in the way of a migration', () => {
  const down = { state: 'down', since: '2024-05-01T10:00:05.123Z', why: 'no route' } as const
  const bytes = { ...migrationView('done').bytes, missing: 200 * MiB, exposed: 200 * MiB }
  const still = { rate: 0, secondsLeft: null }
  const held = { clients: ['10.0.0.7:41234'], since: '2024-05-01T10:00:05.123Z', why: 'at the source, it is busy' }
  const refused = { count: 24, clients: ['10.0.0.7:41234'], last: '2024-05-01T10:01:00.000Z', why: 'not switched over' }
  const texts = (more: Parameters<typeof migrationView>[1], state: 'copying' | 'ready' = 'copying') =>
    standingOf(migrationView(state, more)).map(({ text }) => text)

  it('a dead link: since when, why, and what exists only where; no rate and no time left', () => {
    assert.deepEqual(texts({ link: down, bytes }), [
      'The link to tokyo is down since 2024-05-01T10:00:05Z: no route. 200 MiB exist only at this site: reads of them wait there.',
    ])
    assert.deepEqual(texts({ link: down, bytes, role: 'destination', peer: 'osaka' }), [
      'The link to osaka is down since 2024-05-01T10:00:05Z: no route. 200 MiB exist only at osaka, which is out of reach: reads of them wait.',
    ])
    assert.equal(progressOf(migrationView('copying', { link: down, bytes, ...still })), '312 MiB of 512 MiB (60%)')
  })
  it('a pause and a note, both', () => {
    assert.deepEqual(texts({ paused: true, note: 'the destination has no room: ENOSPC' }), [
      'The background copy is paused.',
      'The destination has no room: ENOSPC.',
    ])
  })
  it('a write that is held: who, since when, why', () => {
    assert.deepEqual(texts({ held }, 'ready'), [
      'A write of 10.0.0.7:41234 at tokyo waits for switchover since 2024-05-01T10:00:05Z: at the source, it is busy.',
    ])
  })
  it('writes that were refused: how many, the last, and what to do, at either site', () => {
    const [atSource] = texts({ refusedWrites: refused }, 'ready')
    assert.match(
      atSource!,
      /^24 writes of 10\.0\.0\.7:41234 at tokyo were refused \(EPERM\), the last at 2024-05-01T10:01:00Z: /,
    )
    assert.match(
      atSource!,
      /If the machine runs at tokyo now: vmstore migration switchover m-1\. If not, stop that client\./,
    )
    const [atDestination] = texts({ refusedWrites: refused, role: 'destination', peer: 'osaka' }, 'ready')
    assert.match(atDestination!, /^24 writes of \S+ here were refused .*If the machine runs here now: /)
    assert.match(migrationRow(migrationView('ready', { refusedWrites: refused })).at(-1)!, /24 writes/)
    const details = detailsOf(migrationView('ready', { refusedWrites: refused, held }))
    for (const title of ['held writes', 'refused writes']) assert.match(details, new RegExp(`^${title}: `, 'm'))
    assert.match(reportOf(migrationView('done', { refusedWrites: refused })), /refused writes: +24 writes/)
  })
  it('nothing stands in the way of a migration that is over', () => {
    assert.deepEqual(standingOf(migrationView('done', { link: down, refusedWrites: refused, note: 'x' })), [])
    assert.match(detailsOf(migrationView('failed', { note: 'superseded: x' })), /^note: +superseded: x$/m)
  })
  it('the owner is named, with the id', () => {
    assert.match(detailsOf(migrationView('failed', {})), /^owner: +tokyo \(site-b\)$/m)
  })
  it('the rate of the report is that of the time in which it copied', () => {
    const seconds = { total: 612, precopy: 0, switchover: 0.02, postcopy: 600, copying: 10 }
    const report = reportOf(migrationView('done', { seconds }))
    assert.match(report, /sent: +300 MiB \(30 MiB\/s\)/)
    assert.match(report, /copy after it: +10 min, of which it copied for 10 s/)
    assert.doesNotMatch(reportOf(migrationView('done', { seconds: { ...seconds, copying: 0 } })), /\/s\)/, 'not known')
  })
  it('nobody is told to cancel what cannot be cancelled any more', () => {
    assert.match(wayBack('m-1'), /before its switchover, end it with vmstore migration cancel m-1$/)
  })
  it('a sentence begins with a capital letter, but for a name or a path', () => {
    assert.deepEqual(['it waits', 'web01: it waits', '/dev/x is gone', 'It waits.'].map(asSentence), [
      'It waits.',
      'web01: it waits.',
      '/dev/x is gone.',
      'It waits.',
    ])
  })

  it('lines tell each once, and that the link is up again', () => {
    const lines: string[] = []
    const display = new LinesDisplay((line) => lines.push(line))
    const show = (more: Parameters<typeof migrationView>[1]) =>
      display.show({ type: 'progress', migration: migrationView('copying', { bytes, ...more }) })
    show({})
    show({ link: down, ...still, note: 'the source is out of reach' })
    show({ link: down, ...still, note: 'the source is out of reach' })
    show({ note: 'the source is out of reach' })
    show({})
    show({ paused: true, ...still })
    assert.deepEqual(lines.slice(1), [
      'The link to tokyo is down since 2024-05-01T10:00:05Z: no route. 200 MiB exist only at this site: reads of them wait there.',
      'The source is out of reach.',
      'The link to tokyo is up again.',
      'The background copy is paused.',
    ])
  })
  it('a step that is over says what was told of it, and nothing of what stood in its way', () => {
    const course = new StepTexts()
    const ready = migrationView('ready', { refusedWrites: refused })
    course.show({ type: 'ready', message: 'move the machine now', migration: ready })
    assert.match(course.texts[2]!, /^Move the machine now\. 24 writes /)
    course.show({ type: 'progress', migration: migrationView('switching', { refusedWrites: refused }) })
    assert.match(course.texts[3]!, /^24 writes /)
    // As the source tells it: before its record of the migration says that it copies.
    const switching = migrationView('switching', { refusedWrites: refused })
    course.show({ type: 'switchover', generation: 2, seconds: 0.005, migration: switching })
    course.show({ type: 'progress', migration: migrationView('copying', { bytes }) })
    assert.equal(course.at, 4)
    assert.deepEqual(course.texts.slice(2, 5), [
      'move the machine now',
      'the destination owns web01 now, as generation 2 (5 ms).',
      '312 MiB of 512 MiB (60%), 40 MiB/s, 5 s left',
    ])
  })
  it('lines tell a growing count of refused writes when it has doubled', () => {
    const lines: string[] = []
    const display = new LinesDisplay((line) => lines.push(line))
    for (let count = 1; count <= 24; count++) {
      const migration = migrationView('ready', { refusedWrites: { ...refused, count } })
      display.show({ type: 'progress', migration })
    }
    const counts = lines.filter((line) => line.includes('refused')).map((line) => Number.parseInt(line, 10))
    assert.deepEqual(counts, [1, 2, 4, 8, 16])
  })
})

describe('cli: what a hostile peer or client may have named', () => {
  const hostile = '\x1b]0;owned\x07\x9b2J\x7f\u202eabc\u2066\nsafe: yes'
  const harmless = '\\u001b]0;owned\\u0007\\u009b2J\\u007f\\u202eabc\\u2066\\u000asafe: yes'

  it('is shown with its control characters and bidirectional marks as escapes, in one line', () => {
    assert.equal(printable(hostile), harmless)
    assert.equal(printable('größe 東京 …'), 'größe 東京 …')
  })

  it('in tables, facts, and the course of a migration', () => {
    assert.equal(table(['name'], [[hostile]], ''), `NAME\n${harmless}`)
    assert.equal(facts({ note: hostile }), `note: ${harmless}`)
    const lines: string[] = []
    new LinesDisplay((line) => lines.push(line)).show({
      type: 'ready',
      message: hostile,
      migration: migrationView('ready'),
    })
    assert.deepEqual(lines, [harmless])
  })

  it('in JSON it is the same value, and reaches the terminal as an escape', () => {
    const text = jsonText({ note: hostile }, 2)
    assert.deepEqual(JSON.parse(text), { note: hostile })
    assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Bidi_Control}]/u)
  })
})

describe('cli: what is safe, and what is next', () => {
  it('are sentences everywhere: a capital letter, a period, and no quotes around commands', () => {
    const strays: string[] = []
    let count = 0
    for (const path of filesBelow(['src'], /\.ts$/)) {
      const code = contentOf(path)
      const named = code.matchAll(/\b(?:safe|next)(?::|\s=)\s+(['`"])((?:\\.|(?!\1).)*)\1/g)
      const given = code.matchAll(/\bnew UsageError\((?:['`]).*['`],\s(['`])((?:\\.|(?!\1).)*)\1\)/g)
      for (const [, quote, text] of [...named, ...given]) {
        count++
        const isSentence = /^([A-Z]|\$\{)/.test(text!) && /[.!}]$/.test(text!) && !text!.includes('\\`')
        if (!isSentence) strays.push(`${path}: ${quote}${text}${quote}`)
      }
    }
    assert(count > 80, `${count} were found`)
    assert.deepEqual(strays, [])
  })
})

describe('cli: following a migration', () => {
  const lost = new ControlError({ code: 'daemon-lost', exit: 1, message: 'broke' })
  const away = new ControlError({ code: 'daemon-unreachable', exit: 1, message: 'away' })
  type Watch = readonly (ToldMigrationEvent | Error)[]

  /** Each watch tells what it was given, the last one again and again; time passes only in sleep. */
  async function run(watches: readonly Watch[], signal = new AbortController().signal) {
    let nowMs = 0
    let watch = 0
    const told: string[] = []
    const seen: string[] = []
    const client = {
      async *migrationEvents() {
        for (const event of watches[Math.min(watch++, watches.length - 1)]!) {
          if (event instanceof Error) throw event
          yield event
        }
      },
    }
    const clock = {
      nowMs: () => nowMs,
      sleep: async (ms: number) => {
        nowMs += ms
      },
    }
    const events = follow({
      client,
      id: 'm-1',
      disk: 'web01',
      signal,
      patienceMs: 10_000,
      clock,
      tell: (line) => told.push(line),
    })
    let error: unknown
    try {
      for await (const event of events) seen.push(event.type)
    } catch (thrown) {
      error = thrown
    }
    return { seen, told, error: error as ControlError | undefined, nowMs }
  }
  const whole = wholeMigration as readonly ToldMigrationEvent[]

  it('comes back to a daemon that was away, and says so', async () => {
    const { seen, told, error } = await run([[whole[0]!, lost], [away], [away], whole.slice(2)])
    assert.equal(error, undefined)
    assert.deepEqual(seen, ['step', 'switchover', 'progress', 'result'])
    assert.equal(told.length, 2)
    assert.match(told[1]!, /is back/)
  })
  it('goes on from how things stand when it was too far behind, without a word', async () => {
    const behind = new ControlError({ code: 'watcher-behind', exit: 1, message: 'behind' })
    const { seen, told, error } = await run([[whole[0]!, behind], whole.slice(2)])
    assert.equal(error, undefined)
    assert.deepEqual(seen, ['step', 'switchover', 'progress', 'result'])
    assert.deepEqual(told, [])
  })
  it('gives up on one that stays away: exit 6, and what to do', async () => {
    const { error, nowMs } = await run([[whole[0]!, lost], [away]])
    assert.deepEqual([error?.code, error?.exit, error?.disk], ['owner-unknown', 6, 'web01'])
    assert.match(error?.next ?? '', /vmstore migration show m-1/)
    assert.equal(nowMs, 10_000)
  })
  it('has new deadlines after each loss', async () => {
    const losses = Array.from({ length: 50 }, () => [[whole[3]!, lost], [away]] as const).flat()
    const { error, seen } = await run([...losses, whole])
    assert.equal(error, undefined)
    assert.equal(seen.length, 55)
  })
  it('the error of the migration itself decides, even after a loss', async () => {
    const failed = new ControlError({ code: 'no-space', exit: 5, message: 'full' })
    assert.equal((await run([[whole[0]!, failed]])).error, failed)
    assert.equal((await run([[lost], [failed]])).error, failed)
  })
  it('a daemon that has forgotten the migration leaves the owner unknown', async () => {
    const unknown = new ControlError({ code: 'no-such-migration', exit: 3, message: 'There is no migration m-1.' })
    assert.equal((await run([[whole[0]!, lost], [unknown]])).error?.exit, 6)
    assert.equal((await run([[unknown]])).error?.exit, 3)
  })
  it('ends at once when the operator has seen enough', async () => {
    const { error } = await run([[lost]], AbortSignal.abort(new Error('enough')))
    assert.equal(error?.message, 'enough')
  })
})
