import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { contentOf } from '../architecture/sources.ts'
import { documents } from './documents.ts'

describe('docs/README.md', () => {
  it('names every document once, and none that is not there', () => {
    const named = [...contentOf('docs/README.md').matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, name]) => name!)
    const there = documents.filter((path) => /^docs\/[\w-]+\.md$/.test(path)).map((path) => basename(path))
    assert.deepEqual(named.toSorted(), there.filter((name) => name !== 'README.md').toSorted())
  })
})
