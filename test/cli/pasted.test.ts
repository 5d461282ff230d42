import assert from 'node:assert/strict'
import { withSite } from '../../src/cli/pasted.ts'

const ids = [
  'serve',
  'migrate',
  'migration watch',
  'migration cancel',
  'migration list',
  'disk list',
  'disk show',
  'peer invite',
]
const at = (text: string) => withSite(text, ids, { root: '/srv/a' })

describe('commands that a sentence proposes', () => {
  it('name the site by which this command found its own, behind their arguments', () => {
    assert.equal(
      at('See it with vmstore migration watch 3f2a-77; end it with vmstore migration cancel 3f2a-77.'),
      'See it with vmstore migration watch 3f2a-77 --root /srv/a; end it with vmstore migration cancel 3f2a-77 --root /srv/a.',
    )
    assert.equal(
      at('Make one: vmstore disk show NAME --deed.'),
      'Make one: vmstore disk show NAME --root /srv/a --deed.',
    )
    assert.equal(at('vmstore disk show web01.raw'), 'vmstore disk show web01.raw --root /srv/a')
  })

  it('are told from the words around them', () => {
    assert.equal(at('`vmstore peer invite` makes one'), '`vmstore peer invite --root /srv/a` makes one')
    assert.equal(at('Start it with vmstore serve, then look.'), 'Start it with vmstore serve --root /srv/a, then look.')
    assert.equal(at('vmstore serves disks, and vmstore moves them'), 'vmstore serves disks, and vmstore moves them')
  })

  it('are left alone where they are for the other site, or nothing was said', () => {
    const text = 'Look with vmstore disk show web01 at both sites.'
    assert.equal(at(text), text)
    assert.equal(withSite('vmstore disk list', ids, {}), 'vmstore disk list')
  })

  it('can be pasted into a shell whatever the path is', () => {
    assert.equal(
      withSite('vmstore disk list', ids, { control: "/tmp/it's here" }),
      "vmstore disk list --control '/tmp/it'\\''s here'",
    )
  })
})
