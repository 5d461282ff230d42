import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { pictureLines, speaksUnicode } from '../../src/cli/disk-picture.ts'
import { hearKeys, isInForeground } from '../../src/cli/keys.ts'
import { migrationView, movedDisk } from '../control/fake-site.ts'

const picture = `${'h'.repeat(60)}${'a'.repeat(60)}${'w'.repeat(60)}${'s'.repeat(30)}${'z'.repeat(30)}`
const view = (disks = [movedDisk('web01', { picture })]) => migrationView('copying', { disks })

describe('the picture of a move', () => {
  it('is a line as wide as asked, and one that says what the signs mean', () => {
    assert.deepEqual(pictureLines(view(), { width: 24, isUnicode: true }), [
      '██████▓▓▓▓▓▓▒▒▒▒▒▒░░░···',
      '█ at tokyo ▓ copied ahead ▒ guest wrote ░ here · zero',
    ])
    for (const width of [20, 80, 200, 500])
      assert.equal(pictureLines(view(), { width, isUnicode: true })[0]!.length, width)
  })

  it('needs no more than ASCII where a terminal has no more', () => {
    const [line, legend] = pictureLines(view(), { width: 24, isUnicode: false })
    assert.equal(line, '######++++++wwwwww---...')
    assert.match(legend!, /^[ -~]+$/)
    assert.deepEqual(
      [
        { LANG: 'C' },
        { LANG: 'de_DE.UTF-8' },
        { LANG: 'C.utf8', LC_ALL: 'C' },
        { LANG: 'C.UTF-8', TERM: 'dumb' },
        {},
      ].map(speaksUnicode),
      [false, true, false, false, false],
    )
  })

  it('of several disks has a line each, with its name; of one that has left none', () => {
    const disks = [
      movedDisk('web01-root', { picture }),
      movedDisk('db', { picture: 's' }),
      movedDisk('gone', { picture, hasLeft: true }),
    ]
    const lines = pictureLines(view(disks), { width: 34, isUnicode: true })
    assert.equal(lines.length, 3)
    assert.match(lines[0]!, /^web01-root █/)
    assert.equal(lines[1], `db         ${'░'.repeat(23)}`)
  })

  it('is none while nothing is known, or where there is no room', () => {
    assert.deepEqual(pictureLines(view([movedDisk('web01')]), { width: 80, isUnicode: true }), [])
    assert.deepEqual(pictureLines(view(), { width: 10, isUnicode: true }), [])
  })
})

describe('keys at a terminal', () => {
  it('are heard one by one, and the terminal is left as it was', () => {
    const modes: boolean[] = []
    const input = Object.assign(new PassThrough(), {
      isTTY: true,
      isRaw: false,
      setRawMode: (isRaw: boolean) => modes.push(isRaw),
    })
    const heard: string[] = []
    const keys = hearKeys(input, { p: () => heard.push('p'), d: () => heard.push('d') }, () => true)
    input.emit('data', Buffer.from('pxd'))
    keys[Symbol.dispose]()
    input.emit('data', Buffer.from('p'))
    assert.deepEqual(
      [heard, modes],
      [
        ['p', 'd'],
        [true, false],
      ],
    )
  })

  it('are not asked for in the background: the system would stop the command', () => {
    const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => assert.fail() })
    hearKeys(input, {}, () => false)[Symbol.dispose]()
    assert.equal(isInForeground('4711 (node (x) y) S 4700 4711 4700 34816 4711 4194304 0'), true)
    assert.equal(isInForeground('4711 (node) S 4700 4711 4700 34816 4700 4194304 0'), false)
    assert.equal(isInForeground('4711 (node) S 4700 4711 4711 0 -1 4194304 0'), false)
    assert.equal(isInForeground(''), false)
  })

  it('are not asked for where no terminal is', () => {
    const input = Object.assign(new PassThrough(), { setRawMode: () => assert.fail() })
    hearKeys(input, {})[Symbol.dispose]()
  })
})
