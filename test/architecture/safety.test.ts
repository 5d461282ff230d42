// docs/safety.md stays true: the tests that it names exist, every promise has one, and its plants are those that are planted.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { plants } from '../model/plants-list.ts'

const top = join(import.meta.dirname, '../..')
const text = readFileSync(join(top, 'docs/safety.md'), 'utf8')
const promises = 12

/** The cells of the rows of the table whose head begins with `head`. */
function tableOf(head: string): string[][] {
  const lines = text.split('\n')
  const begin = lines.findIndex((line) => line.startsWith(head))
  assert(begin >= 0, head)
  const rows = lines.slice(begin + 2)
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith('|')),
    )
    .map((line) => line.split('|').map((cell) => cell.trim()))
}

describe('docs/safety.md', () => {
  it('names files that exist', () => {
    const named = [...new Set(text.match(/\btest\/[\w./-]+\.ts\b/g))]
    assert(named.length > 20)
    assert.deepEqual(
      named.filter((path) => !existsSync(join(top, path))),
      [],
    )
  })

  it('has a proof for each promise, which names that promise', () => {
    const rows = tableOf('| promise |')
    assert.equal(rows.length, promises)
    for (const [index, [, promise, proof]] of rows.entries()) {
      assert(promise!.startsWith(`${index + 1}. `), promise)
      const files = proof!.match(/test\/[\w./-]+\.ts/g) ?? []
      assert(files.length > 0, promise)
    }
  })

  it('lists the plants that are planted, each with the seed that found it', () => {
    const rows = tableOf('| plant |')
    assert.deepEqual(
      rows.map(([, name, file]) => [name, file]),
      plants.map(({ name, file }) => [name, file]),
    )
    for (const [, name, , seed, sentence] of rows) {
      assert.match(seed!, /^\d+$/, name)
      assert(sentence, name)
    }
  })

  it('names no plant that is not there', () => {
    const mistakes = tableOf('| mistake |').flatMap(([, , found]) => [...found!.matchAll(/\*([^*]+)\*/g)])
    assert(mistakes.length > 5)
    for (const [, name] of mistakes)
      assert(
        plants.some((plant) => plant.name === name),
        name,
      )
  })

  it('every plant fits the source in exactly one place', () => {
    for (const { name, file, was } of plants) {
      const places = readFileSync(join(top, file), 'utf8').split(was).length - 1
      assert.equal(places, 1, name)
    }
  })
})
