// `vmstore deed verify`, as anybody runs it who was handed a deed: no daemon, no key, no network.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { DeedView } from '../../src/control/types.ts'
import { generationOf, headOf } from '../../src/deed/deed.ts'
import type { Deed } from '../../src/deed/entries.ts'
import { signRekeyed, signReleased, signTakenBack } from '../../src/deed/signing.ts'
import { a, at, b, c, disk, given, made, move } from '../deed/sites.ts'

const program = join(import.meta.dirname, '../../bin/run.js')

describe('deed verify', () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmstore-deed-'))
  })
  after(() => rmSync(folder, { recursive: true }))

  async function run(words: readonly string[], stdin = ''): Promise<{ exit: number; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [program, 'deed', 'verify', ...words], {
      env: { ...process.env, VMSTORE_CONTROL: join(folder, 'nobody.sock'), NO_COLOR: '1', XDG_CONFIG_HOME: folder },
    })
    child.stdin.on('error', () => {}).end(stdin)
    const exited = new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? -1)))
    const [exit, stdout, stderr] = await Promise.all([exited, text(child.stdout), text(child.stderr)])
    return { exit, stdout, stderr }
  }

  function file(content: unknown): string {
    const path = join(folder, 'deed.json')
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content, null, 2))
    return path
  }

  /** As `disk show --deed --json` prints it. */
  function printed(entries: Deed, more: Partial<DeedView> = {}): DeedView {
    const names = { [a.fingerprint]: 'osaka', [b.fingerprint]: 'this site' }
    return { disk, name: 'web01', generation: generationOf(entries), holder: b.fingerprint, names, entries, ...more }
  }

  const released = () => signReleased(a, given(made(), a, b), at)

  it('says who owns, in which generation, and how it came to that, of what `disk show --deed --json` prints', async () => {
    const { exit, stdout, stderr } = await run([file(printed(released()))])
    assert.deepEqual([exit, stderr], [0, ''])
    assert.match(stdout, new RegExp(`^The deed of disk ${disk} is whole: 3 entries`))
    assert.match(stdout, /the site that printed it \([0-9a-f]{16}…\) owns generation 2\. Who gave it has let it go/)
    assert.match(stdout, /made by osaka/)
    assert.match(stdout, new RegExp(`given by osaka .* to the site that printed it .*, in move ${move}`))
  })

  it('--json has the whole chain; a bare list of entries and stdin will do', async () => {
    const deed = signRekeyed(b, released(), c.fingerprint, at)
    const { exit, stdout } = await run(['-', '--json'], JSON.stringify(deed))
    assert.equal(exit, 0)
    const view = JSON.parse(stdout)
    assert.deepEqual([view.disk, view.generation, view.holder, view.head], [disk, 2, c.fingerprint, headOf(deed)])
    assert.deepEqual(
      view.entries.map(({ kind, holder }: { kind: string; holder: string }) => [kind, holder]),
      [
        ['made', a.fingerprint],
        ['given', b.fingerprint],
        ['released', b.fingerprint],
        ['rekeyed', c.fingerprint],
      ],
    )
  })

  it('an entry that is void is named, with why, and the exit code is 1', async () => {
    const deed = signTakenBack(a, given(made(), a, b), 'the guest is off', at)
    const changed = structuredClone(deed) as unknown as Record<string, unknown>[]
    changed[1]!['toSite'] = 'elsewhere'
    const { exit, stderr } = await run([file(changed)])
    assert.equal(exit, 1)
    assert.match(stderr, /entry 2 \(given\) is void: its signature is not of the key that it names/)
    const cut = await run([file([deed[0], deed[2]]), '--json'])
    assert.equal(cut.exit, 1)
    const { error } = JSON.parse(cut.stdout)
    assert.deepEqual([error.code, error.exit], ['deed-void', 1])
    assert.match(error.message, /entry 2 \(taken-back\) is void: it does not follow the entry before it/)
  })

  it('what is printed beside the entries must be what they say', async () => {
    for (const more of [{ generation: 7 }, { holder: a.fingerprint }, { disk: move }]) {
      const { exit, stderr } = await run([file(printed(released(), more))])
      assert.equal(exit, 1)
      assert.match(stderr, /was changed: its (generation|holder|disk) is not/)
    }
  })

  it('what is no deed at all is an answer, exit 1', async () => {
    for (const content of ['', 'no JSON', '7', 'null', '[]', '{}', '[7]', '{"entries": [{"kind": "made"}]}']) {
      const { exit, stderr } = await run([file(content)])
      assert.equal(exit, 1, content)
      assert.match(stderr, /\S+ \S+ \S+/)
      assert.doesNotMatch(stderr, /nobody foresaw/, content)
    }
    const missing = await run([join(folder, 'missing.json')])
    assert.equal(missing.exit, 1)
    assert.match(missing.stderr, /cannot be read as a deed/)
  })

  it('a word in it that would write on the terminal does not', async () => {
    const deed = signTakenBack(a, given(made(), a, b), 'off', at)
    const names = { [a.fingerprint]: '\x1b[2Jgone' }
    const { exit, stdout } = await run([file(printed(deed, { holder: a.fingerprint, names }))])
    assert.equal(exit, 0)
    assert.doesNotMatch(stdout, /(?!\n)\p{Cc}/u)
  })
})
