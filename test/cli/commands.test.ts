// Commands as scripts and operators run them: real processes against a site that does what the test says.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { ControlError } from '../../src/control/errors.ts'
import type { MigrationEvent } from '../../src/control/types.ts'
import {
  aborted,
  diskView,
  each,
  MiB,
  migrationView,
  movedDisk,
  refusal,
  type Served,
  serveFakeSite,
  wholeMigration,
} from '../control/fake-site.ts'
import { needTool } from '../tools.ts'

const program = join(import.meta.dirname, '../../bin/run.js')

interface Ended {
  readonly exit: number | null
  readonly stdout: string
  readonly stderr: string
}

describe('commands', () => {
  let served: Served
  let env: NodeJS.ProcessEnv

  beforeEach(async () => {
    served = await serveFakeSite()
    const { VMSTORE_ROOT, VMSTORE_CONTROL, DEBUG, ...others } = process.env
    env = {
      ...others,
      VMSTORE_CONFIG_DIR: join(served.folder, 'config'),
      HOME: served.folder,
      XDG_DATA_HOME: served.folder,
    }
  })
  afterEach(() => served[Symbol.asyncDispose]())

  function start(...words: string[]): { child: ChildProcess; ended: Promise<Ended> } {
    const child = spawn(process.execPath, [program, ...words], {
      env: { VMSTORE_CONTROL: served.path, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: served.folder,
    })
    const closed = once(child, 'close')
    const ended = Promise.all([text(child.stdout!), text(child.stderr!), closed]).then(([stdout, stderr]) => ({
      exit: child.exitCode,
      stdout,
      stderr,
    }))
    return { child, ended }
  }
  const run = (...words: string[]) => start(...words).ended
  /** Fails unless stdout is exactly one JSON document. */
  const json = async (...words: string[]) => {
    const { stdout, ...rest } = await run(...words, '--json')
    return { ...rest, document: JSON.parse(stdout) }
  }
  /** Fails unless stdout is one JSON document a line. */
  const lines = (stdout: string) => {
    assert(stdout.endsWith('\n'))
    return stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  }

  describe('of a hostile peer', () => {
    const hostile = '\x1b[2Jgone\x9b1A\u202e'
    const escapes = /(?!\n)[\p{Cc}\p{Bidi_Control}]/u

    it('a note reaches no terminal as it is, with --json neither', async () => {
      served.site.shown = { note: hostile, peer: hostile }
      for (const words of ['migration show m-7', 'migration list', 'status']) {
        const shown = await run(...words.split(' '))
        assert.doesNotMatch(shown.stdout + shown.stderr, escapes, words)
        const told = await run(...words.split(' '), '--json')
        assert.doesNotMatch(told.stdout + told.stderr, escapes, words)
      }
      const { stdout } = await run('migration', 'show', 'm-7', '--json')
      assert.equal(JSON.parse(stdout).note, hostile)
    })

    it('a refusal neither', async () => {
      const facts = { code: 'refused', exit: 3, disk: hostile, safe: hostile, next: hostile } as const
      served.site.migrateError = new ControlError({ ...facts, message: `tokyo refused: ${hostile}` })
      const { stderr } = await run('migrate', 'web01', '--to', 'tokyo')
      assert.match(stderr, /tokyo refused: \\u001b\[2Jgone/)
      assert.doesNotMatch(stderr, escapes)
    })
  })

  describe('with --json', () => {
    const short: [words: string, check: (document: never) => unknown, expected: unknown][] = [
      ['status', (view: { site: { name: string } }) => view.site.name, 'osaka'],
      ['disk list', (view: unknown[]) => view.length, 2],
      ['disk show web01', (view: { name: string }) => view.name, 'web01'],
      ['disk show web01 --deed', (view: { entries: unknown[] }) => view.entries.length, 2],
      ['disk delete web01', (view: { name: string }) => view.name, 'web01'],
      ['disk verify web01', (view: { differing: unknown[] }) => view.differing.length, 0],
      ['disk reclaim web01 --yes', (view: { generation: number }) => view.generation, 3],
      ['disk accept web01 --yes', (view: { trouble: string | null }) => view.trouble, null],
      ['peer show', (view: { fingerprint: string }) => view.fingerprint, 'SHA256:a'],
      ['peer invite', (view: { token: string }) => view.token, 'vms1.abc'],
      ['peer join TOKEN', (view: { name: string }) => view.name, 'tokyo'],
      ['peer list', (view: unknown[]) => view.length, 1],
      ['peer rekey --yes', (view: { after: { id: string } }) => view.after.id, 'site-n'],
      ['peer remove tokyo', (view: { name: string }) => view.name, 'tokyo'],
      ['session list', (view: unknown[]) => view.length, 1],
      ['session drop 3f9a12c4', (view: { id: string }) => view.id, '3f9a12c4'],
      ['migration list', (view: unknown[]) => view.length, 1],
      ['migration show m-7', (view: { id: string }) => view.id, 'm-7'],
      ['migration switchover m-7', (view: { state: string }) => view.state, 'switching'],
      ['migration pause m-7', (view: { paused: boolean }) => view.paused, true],
      ['migration set m-7 --max-rate 20M', (view: { maxRate: number }) => view.maxRate, 20 * 2 ** 20],
      ['migration set m-7 --max-rate none', (view: { maxRate: null }) => view.maxRate, null],
      ['migration resume m-7', (view: { paused: boolean }) => view.paused, false],
      ['migration cancel m-7 --force', (view: { state: string }) => view.state, 'cancelled'],
      ['config list', (view: object) => Object.keys(view).length, 0],
    ]
    for (const [words, check, expected] of short) {
      it(`${words}: one document on stdout, nothing on stderr, exit 0`, async () => {
        const { exit, stderr, document } = await json(...words.split(' '))
        assert.deepEqual([exit, stderr, check(document as never)], [0, '', expected])
      })
    }

    it('disk create tells events, the last of which is the result', async () => {
      const { exit, stdout, stderr } = await run('disk', 'create', 'web01', '--size', '1G', '--from', 'x.raw', '--json')
      assert.deepEqual(
        lines(stdout).map(({ type }) => type),
        ['progress', 'result'],
      )
      assert.deepEqual([exit, stderr], [0, ''])
      assert.deepEqual(served.site.asked, [{ name: 'web01', sizeBytes: 2 ** 30, from: join(served.folder, 'x.raw') }])
    })

    it('disk create says what the image was taken for, and what the operator may want to know of it', async () => {
      served.site.createEvents = () =>
        each([
          { type: 'result', ...diskView('web01'), format: 'qcow2', notes: ['An internal snapshot stayed behind.'] },
        ])
      const { exit, stdout } = await run('disk', 'create', 'web01', '--from', 'x', '--format', 'qcow2')
      assert.equal(exit, 0)
      assert.match(stdout, /^web01 has been made from a qcow2 image: .*\nAn internal snapshot stayed behind\.\n$/)
      assert.deepEqual(served.site.asked, [{ name: 'web01', from: join(served.folder, 'x'), format: 'qcow2' }])
    })

    it('migrate tells events, the last of which is the result', async () => {
      const { exit, stdout, stderr } = await run('migrate', 'web01', '--to', 'tokyo', '--max-rate', '50M', '--json')
      const events = lines(stdout)
      assert.deepEqual(
        events.map(({ type }) => type),
        ['step', 'ready', 'switchover', 'progress', 'result'],
      )
      const { id, state, bytes, seconds, verified } = events.at(-1)
      assert.deepEqual([id, state, bytes.disk, seconds.total, verified], ['m-1', 'done', 2 ** 29, 12.5, true])
      assert.deepEqual([exit, stderr], [0, ''])
      assert.deepEqual(served.site.asked, [
        {
          disks: ['web01'],
          to: 'tokyo',
          mode: 'hybrid',
          switchover: 'auto',
          switchoverWaitMs: 10_000,
          maxRate: 50 * 2 ** 20,
          stallTimeoutMs: null,
          source: 'keep',
          force: false,
        },
      ])
    })

    it('disk verify: a range that differs is named, exit 1', async () => {
      served.site.differing = [{ offset: 8192, length: 4096 }]
      const { exit, document } = await json('disk', 'verify', 'web01')
      assert.deepEqual([exit, document.differing], [1, served.site.differing])
      const { stdout } = await run('disk', 'verify', 'web01')
      assert.match(stdout, /4 KiB at 8 KiB/)
    })

    it('disk reclaim without --yes is refused where nobody can be asked, with what would be lost', async () => {
      const { exit, document } = await json('disk', 'reclaim', 'web01')
      assert.deepEqual([exit, document.error.code], [3, 'not-confirmed'])
      assert.deepEqual(served.site.asked, [{ confirmed: false }])
    })

    it('disk accept without --yes is refused where nobody can be asked, with what may be lost', async () => {
      const { exit, document } = await json('disk', 'accept', 'web01')
      assert.deepEqual([exit, document.error.code], [3, 'not-confirmed'])
      assert.deepEqual(served.site.asked, [{ confirmed: false }])
    })

    it('a refusal is one document with the whole error, exit 3', async () => {
      served.site.deleteError = refusal
      const { exit, stderr, document } = await json('disk', 'delete', 'web01')
      assert.deepEqual(document, { error: refusal.view })
      assert.deepEqual([exit, stderr], [3, ''])
    })

    it('usage errors are documents too: in a command, and outside of any', async () => {
      const wrong = [
        ['disk', 'show'],
        ['disk', 'show', 'web01', '--bogus'],
        ['disk', 'crate'],
        ['frobnicate'],
        ['config', 'get', 'colour'],
      ]
      for (const words of wrong) {
        const { exit, stderr, document } = await json(...words)
        assert.deepEqual([exit, stderr, document.error.code], [2, '', 'usage'], words.join(' '))
        assert.match(document.error.message, /^[^\n]+[.!?]$/)
      }
    })

    it('a long command says its usage errors as its last event', async () => {
      for (const words of [
        'disk create web01',
        'disk create web01 --size 3KB',
        'migrate web01',
        'migrate web01 --to a --from b',
      ]) {
        const { exit, stdout } = await run(...words.split(' '), '--json')
        const [event, ...rest] = lines(stdout)
        assert.deepEqual([exit, event.type, event.error.code, rest.length], [2, 'error', 'usage', 0], words)
      }
    })
  })

  describe('for people', () => {
    it('an error is a sentence, what is safe, and what to do next, on stderr', async () => {
      served.site.deleteError = refusal
      const { exit, stdout, stderr } = await run('disk', 'delete', 'web01')
      assert.equal(
        stderr,
        'web01 has 2 clients, so it was not deleted.\n  safe: Nothing was changed.\n  next: Detach them.\n',
      )
      assert.deepEqual([exit, stdout], [3, ''])
    })
    it('no daemon: exit 1, and `vmstore serve` is the next step', async () => {
      const { exit, stderr } = await run('status', '--control', '/nowhere/control.sock')
      assert.equal(exit, 1)
      assert.match(stderr, /^No vmstore daemon answers on \/nowhere\/control\.sock\.\n(.*\n)*.*next: .*vmstore serve/)
    })
    it('an unforeseen error is a sentence with exit 1, and a stack only with DEBUG', async () => {
      served.site.deleteError = new TypeError('x is not a function')
      const quiet = await run('disk', 'delete', 'web01')
      assert.equal(quiet.exit, 1)
      assert.match(quiet.stderr, /^The daemon failed in a way nobody foresaw: x is not a function\.\n/)
      assert.doesNotMatch(quiet.stderr, /^\s+at /m)
      env['DEBUG'] = 'vmstore'
      assert.match((await run('disk', 'delete', 'web01')).stderr, /^\s+at /m)
    })
    it('tables and facts go to stdout', async () => {
      const { stdout } = await run('disk', 'list')
      assert.match(stdout, /^NAME +SIZE +STATE .*\nweb01 +512 MiB +owned /)
      assert.match((await run('disk', 'show', 'web01')).stdout, /^generation: 1$/m)
      assert.match((await run('status')).stdout, /^site: +osaka \(site-a\)$/m)
    })
    it('peer invite prints the token alone on stdout', async () => {
      const { stdout, stderr } = await run('peer', 'invite', '--address', 'tcp://a:7')
      assert.equal(stdout, 'vms1.abc\n')
      assert.match(stderr, /tcp:\/\/a:7/)
    })
    it('a reader that has closed the pipe is no error', async () => {
      const child = spawn(process.execPath, [program, '--help'], { env, stdio: ['ignore', 'pipe', 'pipe'] })
      child.stdout.destroy()
      const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')])
      assert.deepEqual([child.exitCode, stderr], [0, ''])
    })
  })

  describe('the way to the daemon', () => {
    it('is the socket in the root that is named, by flag, environment or configuration', async () => {
      env['VMSTORE_CONTROL'] = ''
      assert.equal((await run('status', '--root', served.folder)).exit, 0)
      assert.equal((await run('config', 'set', 'root', served.folder)).exit, 0)
      assert.equal((await run('status')).exit, 0)
      env['VMSTORE_ROOT'] = '/nowhere'
      assert.match((await run('status')).stderr, /\/nowhere\/control\.sock/)
    })
  })

  describe('config', () => {
    it('keeps settings in a private file, shows no secret in a list, and forgets with --unset', async () => {
      await run('config', 'set', 'transports.s3.secretAccessKey', 'hunter2')
      await run('config', 'set', 'transports.s3.region', 'eu-west-1')
      const file = join(served.folder, 'config', 'config.json')
      assert.equal(statSync(file).mode & 0o777, 0o600)
      assert.equal(JSON.parse(readFileSync(file, 'utf8')).transports.s3.secretAccessKey, 'hunter2')
      const list = await json('config', 'list')
      assert.deepEqual(list.document, {
        'transports.s3.region': 'eu-west-1',
        'transports.s3.secretAccessKey': '(set, not shown)',
      })
      assert.equal((await run('config', 'get', 'transports.s3.secretAccessKey')).stdout, 'hunter2\n')
      await run('config', 'set', 'transports.s3.region', '--unset')
      assert.equal((await run('config', 'get', 'transports.s3.region')).exit, 3)
    })
    it('says which file is broken', async () => {
      await run('config', 'set', 'root', '/x')
      writeFileSync(join(served.folder, 'config', 'config.json'), '{')
      const { exit, stderr } = await run('config', 'list')
      assert.equal(exit, 1)
      assert.match(stderr, /config\.json cannot be read/)
    })
  })

  describe('what cannot be undone', () => {
    /** On a terminal, where `answer` is typed when the question comes. */
    async function asked(words: string, answer: string): Promise<{ exit: number | null; screen: string }> {
      const line = `exec "${process.execPath}" "${program}" ${words} --control "${served.path}"`
      const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
      let screen = ''
      child.stdout.on('data', (chunk) => {
        const before = screen
        screen += chunk
        if (/To go on, type/.test(screen) && !/To go on, type/.test(before)) child.stdin.write(`${answer}\n`)
      })
      await once(child, 'close')
      return { exit: child.exitCode, screen }
    }

    it('is asked of whoever sits at a terminal, with what is lost', async function () {
      needTool(this, 'script')
      for (const [words, warning, name] of [
        ['disk delete web01', /web01 \(.*\) and its bytes at this site go for good/, 'web01'],
        ['peer remove tokyo', /the two sites would have to be paired anew/, 'tokyo'],
      ] as const) {
        const refused = await asked(words, 'no')
        assert.deepEqual([refused.exit, warning.test(refused.screen)], [3, true], refused.screen)
        const done = await asked(words, name)
        assert.equal(done.exit, 0, done.screen)
        assert.equal((await asked(`${words} --yes`, 'no')).exit, 0)
      }
    })
  })

  describe('migrate', () => {
    const words = ['migrate', 'web01', '--to', 'tokyo']
    const stopAfter = (events: readonly MigrationEvent[]) =>
      async function* (signal: AbortSignal): AsyncGenerator<MigrationEvent> {
        yield* events
        await aborted(signal)
      }

    it('tells its course on stderr and a report on stdout', async () => {
      const { exit, stdout, stderr } = await run(...words)
      assert.equal(exit, 0)
      assert.match(stderr, /Checking web01 and tokyo\.\nMove the machine to tokyo now\.\nSwitchover: /)
      assert.match(stdout, /^web01 has moved to tokyo, as generation 2, in 12\.5 s\.\n/)
      assert.match(stdout, /skipped as zero: +202 MiB/)
    })

    const refusals: [string, RegExp][] = [
      ['migrate web01 --via s3://bucket/x', /object store .* comes in a later version/],
    ]
    for (const [line, sentence] of refusals) {
      it(`${line}: refused with a sentence, exit 3, and nobody is asked`, async () => {
        const { exit, stderr } = await run(...line.split(' '))
        assert.equal(exit, 3)
        assert.match(stderr, sentence)
        assert.match(stderr, /safe: Nothing was changed\./)
        assert.deepEqual(served.site.asked, [])
      })
    }

    it('of several disks asks for one move of all of them, in their order, and names them all', async () => {
      const disks = ['web01', 'db01'].map((name) => ({ ...movedDisk(name), hasLeft: false }))
      const several = migrationView('done', { disk: 'web01, db01', disks })
      served.site.events = () => each([wholeMigration[0]!, { type: 'result', ...several }])
      const { exit, stdout } = await run('migrate', 'web01', 'db01', '--to', 'tokyo')
      assert.equal(exit, 0)
      const asked = served.site.asked[0] as { disks: string[]; disk?: string }
      assert.deepEqual([asked.disks, asked.disk], [['web01', 'db01'], undefined])
      assert.match(stdout, /^web01, db01 have moved to tokyo, as generation 2 of web01, 3 of db01, in 12\.5 s\.\n/)
      assert.match(stdout, /^ {2}db01: +512 MiB, of which 310 MiB data, 300 MiB sent, verified$/m)
    })

    it('--dry-run says what it would cost, and begins nothing', async () => {
      const { exit, stdout } = await run(...words, '--dry-run')
      assert.equal(exit, 0)
      assert.match(stdout, /^web01 could move to tokyo\. Nothing was changed\.\n/)
      assert.match(
        stdout,
        /already there: +about 10 MiB\n +to send: +about 300 MiB\n +time: +about 10 s, at 30 MiB\/s\n/,
      )
      assert.deepEqual(served.site.asked, [])
      const told = await run(...words, '--dry-run', '--json')
      assert.deepEqual(lines(told.stdout).at(-1).bytes.sent, 300 * MiB)
    })

    it('the report says what was estimated before, and --json has it', async () => {
      assert.match((await run(...words)).stdout, /estimated before: 300 MiB to send in 10 s$/m)
      assert.equal(lines((await run(...words, '--json')).stdout).at(-1).estimate.seconds, 10)
    })

    it('of one disk twice is not understood: exit 2', async () => {
      const { exit, stderr } = await run('migrate', 'web01', 'web01', '--to', 'tokyo')
      assert.equal(exit, 2)
      assert.match(stderr, /^web01 is named twice\./)
    })

    for (const exit of [3, 4, 5, 6] as const) {
      it(`ends with the exit code of the error event: ${exit}`, async () => {
        const error = { code: 'link-lost', message: 'The link to tokyo was lost.', exit, disk: 'web01' }
        served.site.events = () => each([wholeMigration[0]!, { type: 'error', error }])
        const ended = await run(...words, '--json')
        assert.equal(ended.exit, exit)
        assert.deepEqual(lines(ended.stdout).at(-1), { type: 'error', error })
      })
    }

    it('a refused start ends with exit 3', async () => {
      served.site.migrateError = new ControlError({ code: 'peer-unknown', message: 'There is no peer tokyo.', exit: 3 })
      assert.deepEqual((await run(...words)).exit, 3)
    })

    it('a cancelled migration ends with exit 4 and says that the source owns', async () => {
      const cancelled = migrationView('cancelled', { ownerSide: 'source', ownerName: 'this site' })
      served.site.events = () => each([wholeMigration[0]!, { type: 'result', ...cancelled }])
      const { exit, stdout } = await run(...words, '--json')
      const last = lines(stdout).at(-1)
      assert.deepEqual([exit, last.type, last.error.code], [4, 'error', 'migration-cancelled'])
      assert.match(last.error.safe, /The source, this site, owns web01/)
    })

    it('a migration that was left without the source ends with exit 6 where nobody knows who owns', async () => {
      const left = migrationView('cancelled', { ownerSide: 'unknown', ownerName: 'unknown' })
      served.site.events = () => each([wholeMigration[0]!, { type: 'result', ...left }])
      const { exit, stdout } = await run(...words, '--json')
      const { error } = lines(stdout).at(-1)
      assert.deepEqual([exit, error.code], [6, 'owner-unknown'])
      assert.doesNotMatch(`${error.safe} ${error.next}`, /goes on|vmstore serve/, 'it is over, and the daemon runs')
      assert.match(error.next, /both sites/)
    })

    it('a migration that is stopped until the next start has not failed, and nobody says who owns: exit 6', async () => {
      const note = 'stopped until the next start: the maps are damaged'
      for (const state of ['ready', 'copying', 'finishing'] as const) {
        const stopped = migrationView(state, { role: 'destination', ownerSide: 'source', ownerName: 'osaka', note })
        served.site.events = () => each([wholeMigration[0]!, { type: 'result', ...stopped }])
        const { exit, stdout } = await run(...words, '--json')
        const { error } = lines(stdout).at(-1)
        assert.deepEqual([exit, error.code], [6, 'owner-unknown'])
        assert.match(error.message, /stopped until the next start: the maps are damaged/)
      }
    })

    const owners = [
      ['source', 4, /^The source, osaka, owns web01\.$/],
      ['destination', 5, /^The destination, osaka, owns web01\.$/],
      ['other', 1, /^Another site, osaka, owns web01\.$/],
      ['unknown', 6, /at most one site serves the disk/],
    ] as const
    for (const [ownerSide, exit, safe] of owners) {
      it(`a migration that failed ends with ${exit} when its record says that the owner is: ${ownerSide}`, async () => {
        const failed = migrationView('failed', { ownerSide, ownerName: 'osaka', note: 'superseded' })
        served.site.events = () => each([wholeMigration[0]!, { type: 'result', ...failed }])
        const ended = await run(...words, '--json')
        assert.equal(ended.exit, exit)
        assert.match(lines(ended.stdout).at(-1).error.safe, safe)
      })
    }

    it('--source delete is refused where nobody can be asked, exit 3; --yes says it', async () => {
      const asking = [...words, '--source', 'delete', '--detach']
      const { exit, stderr } = await run(...asking)
      assert.equal(exit, 3)
      assert.match(stderr, /removes its bytes at this site for good.*\n +safe: Nothing was changed\.\n +next: .*--yes/)
      assert.equal(served.site.asked.length, 0)
      assert.equal(lines((await run(...asking, '--json')).stdout).at(-1).error.code, 'not-confirmed')
      assert.equal((await run(...asking, '--yes')).exit, 0)
      assert.equal((served.site.asked[0] as { source: string }).source, 'delete')
    })

    it('--source delete on a terminal asks for the name of the disk', async function () {
      needTool(this, 'script')
      const line = `exec "${process.execPath}" "${program}" ${words.join(' ')} --source delete --detach --control "${served.path}"`
      const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
      let screen = ''
      child.stdout.on('data', (chunk) => {
        const isAsked = screen.includes('type web01')
        screen += chunk
        if (!isAsked && screen.includes('type web01')) child.stdin.write('web01\n')
      })
      await once(child, 'close')
      assert.equal(child.exitCode, 0, screen)
      assert.equal((served.site.asked[0] as { source: string }).source, 'delete')
    })

    it('on a terminal a note, a pause and a dead link stand beside how far it is', async function () {
      needTool(this, 'script')
      const bytes = { ...migrationView('done').bytes, missing: 200 * MiB, exposed: 200 * MiB }
      const link = { state: 'down', since: '2024-05-01T10:00:05.123Z', why: 'no route' } as const
      const more = { bytes, link, paused: true, note: 'the destination has no room', rate: 0, secondsLeft: null }
      const progress = { type: 'progress', migration: migrationView('copying', more) } as const
      served.site.events = stopAfter([wholeMigration[2]!, progress])
      const line = `stty cols 400 rows 40; exec "${process.execPath}" "${program}" ${words.join(' ')} --control "${served.path}"`
      const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
      const parts = [
        '312 MiB of 512 MiB (60%). The link to tokyo is down since 2024-05-01T10:00:05Z: no route. ',
        '200 MiB exist only at this site',
        'The background copy is paused.',
        'The destination has no room.',
      ]
      let screen = ''
      let isLeft = false
      child.stdout.on('data', (chunk) => {
        screen += chunk
        if (isLeft || !parts.every((part) => screen.includes(part))) return
        isLeft = true
        child.stdin.write('\x03')
      })
      await once(child, 'close')
      assert.equal(child.exitCode, 7, screen)
    })

    it('Ctrl-C detaches: the migration goes on, exit 7, and how to come back', async () => {
      served.site.events = stopAfter(wholeMigration.slice(0, 2))
      const { child, ended } = start(...words)
      child.stderr!.on('data', (chunk) => String(chunk).includes('Move the machine') && child.kill('SIGINT'))
      const { exit, stdout, stderr } = await ended
      assert.deepEqual([exit, stdout], [7, ''])
      assert.match(stderr, /vmstore migration watch m-1/)
      assert.match(stderr, /vmstore migration cancel m-1/)
      assert.equal(served.site.asked.length, 1, 'nothing was cancelled')
    })

    it('on a terminal it shows the steps, and Ctrl-C detaches there too', async function () {
      needTool(this, 'script')
      served.site.events = stopAfter(wholeMigration.slice(0, 4))
      const line = `stty cols 120 rows 40; exec "${process.execPath}" "${program}" ${words.join(' ')} --control "${served.path}"`
      const child = spawn('script', ['-qec', line, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
      let screen = ''
      child.stdout.on('data', (chunk) => {
        const before = screen
        screen += chunk
        if (screen.includes('312 MiB of 512 MiB') && !before.includes('312 MiB of 512 MiB')) child.stdin.write('\x03')
      })
      await once(child, 'close')
      assert.equal(child.exitCode, 7, screen)
      assert.match(screen, /Ready: Move the machine to tokyo now\./)
      assert.match(screen, /vmstore migration watch m-1/)
    })

    it('Ctrl-C with --json: the last line is the error, exit 7', async () => {
      served.site.events = stopAfter(wholeMigration.slice(0, 1))
      const { child, ended } = start(...words, '--json')
      child.stdout!.once('data', () => child.kill('SIGINT'))
      const { exit, stdout, stderr } = await ended
      assert.deepEqual([exit, stderr, lines(stdout).at(-1).error.code], [7, '', 'detached'])
    })

    it('Ctrl-C before the daemon had answered says that it is not known whether it began', async () => {
      const asked = Promise.withResolvers<void>()
      served.site.migrating = async (signal) => {
        asked.resolve()
        await aborted(signal)
      }
      const { child, ended } = start(...words)
      await asked.promise
      child.kill('SIGINT')
      const { exit, stderr } = await ended
      assert.equal(exit, 7)
      assert.match(stderr, /vmstore migration list/)
    })

    it('--detach returns once it has begun, exit 0', async () => {
      const people = await run(...words, '--detach')
      assert.equal(people.exit, 0)
      assert.match(people.stdout, /Migration m-1 of web01 to tokyo has begun/)
      const { exit, stdout } = await run(...words, '--detach', '--json')
      assert.deepEqual([exit, lines(stdout).map(({ type, id }) => [type, id])], [0, [['result', 'm-1']]])
      assert.equal(served.site.watches, 0)
    })

    it('a broken connection is mended, and stdout stays pure', async () => {
      served.site.events = (_signal, watch) => each(watch === 1 ? wholeMigration.slice(0, 1) : wholeMigration.slice(1))
      const { exit, stdout, stderr } = await run(...words, '--json')
      assert.equal(exit, 0)
      assert.deepEqual(
        lines(stdout).map(({ type }) => type),
        ['step', 'ready', 'switchover', 'progress', 'result'],
      )
      assert.match(stderr, /The daemon is back\./)
    })

    it('a daemon that stays away: exit 6, the owner is not known', async () => {
      served.site.events = stopAfter(wholeMigration.slice(0, 1))
      const { child, ended } = start(...words, '--reconnect-for', '1ms')
      child.stderr!.once('data', () => served.server.close())
      const { exit, stderr } = await ended
      assert.equal(exit, 6)
      assert.match(stderr, /how far web01 was moved is not known here/)
    })

    it('a daemon that dies before it answers whether it began: exit 6', async () => {
      served.site.migrating = async (signal) => {
        void served.server.close()
        await aborted(signal)
        await new Promise(() => {})
      }
      assert.equal((await run(...words)).exit, 6)
    })
  })

  it('under an old Node: one sentence that says what is missing, exit 1', () => {
    const older = `data:text/javascript,Object.defineProperty(process.versions, 'node', { value: '20.11.0' })`
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', older, program], { encoding: 'utf8' })
    assert.deepEqual([status, stdout], [1, ''])
    assert.match(stderr, /^vmstore needs Node 24 or later .*`npm ci`.*\n$/)
  })

  it('the thread pool has 16 threads, or as many as the operator says', async () => {
    const threads = async () => {
      const { promise, resolve } = Promise.withResolvers<number>()
      served.site.events = async function* () {
        const tasks = `/proc/${child.pid}/task`
        const names = readdirSync(tasks).map((task) => readFileSync(`${tasks}/${task}/comm`, 'utf8'))
        resolve(names.filter((name) => name === 'libuv-worker\n').length)
        yield* wholeMigration
      }
      const { child, ended } = start('migrate', 'web01', '--to', 'tokyo')
      await ended
      return promise
    }
    assert.equal(await threads(), 64)
    env['UV_THREADPOOL_SIZE'] = '6'
    assert.equal(await threads(), 6)
  })
})
