// docs/errors.md names every code that an operator may meet, and none that is gone.

import assert from 'node:assert/strict'
import { contentOf, filesBelow } from '../architecture/sources.ts'

/** How the source says a code: as the first word of what is thrown, as a field, or as a constant. */
const said =
  /(?:new (?:Refusal|PeerRefusal|StoreError)|\brefused|\brefuse|\bfailed|\bcannotBeAttached)\(\s*'([a-z]+(?:-[a-z]+)*)'|\bcode: '([a-z-]+)'|Code = '([a-z-]+)'/g

/** What drivers, stores, links and clients of NBD are told is no error of a command: it becomes one of those in the document. */
const inside = ['io', 'lost', 'denied', 'missing', 'unavailable', 'unfit', 'throttled', 'ticket-invalid']

/** Said by a choice or a list, where the pattern does not see them. */
const elsewhere = [
  ...[
    'nothing-to-accept',
    'disk-refused',
    'server-unreachable',
    'records-full',
    'records-failed',
    'records-locked',
    'client-at-work',
  ],
  ...['image-encrypted', 'image-unclosed', 'image-cut', 'migration-cancelled', 'migration-failed'],
]

describe('docs/errors.md', () => {
  const document = contentOf('docs/errors.md')
  const named = new Set(
    [...document.matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`([a-z-]+)`/g)].map(([, code]) => code!),
    ),
  )
  for (const code of ['migration-cancelled', 'migration-failed']) if (document.includes(`\`${code}\``)) named.add(code)

  const sources = filesBelow(['src'], /(?<!testkit-\w+|testkit)\.ts$/)
  const inSource = new Set<string>()
  for (const path of sources)
    for (const [, thrown, field, constant] of contentOf(path).matchAll(said))
      inSource.add((thrown ?? field ?? constant)!)

  it('names every code of the source', () => {
    assert(inSource.size > 100)
    assert.deepEqual([...inSource].filter((code) => !named.has(code) && !inside.includes(code)).sort(), [])
  })

  it('names none that is gone', () => {
    assert.deepEqual([...named].filter((code) => !inSource.has(code) && !elsewhere.includes(code)).sort(), [])
  })

  it('has what stands elsewhere in the source, too', () => {
    const all = sources.map(contentOf).join(' ')
    for (const code of elsewhere) assert(all.includes(`'${code}'`) || /migration-\$\{state\}/.test(all), code)
  })
})
