// NBD's names, bits and error values stand in its own part alone, so that a server of another protocol can stand beside it.

import assert from 'node:assert/strict'
import { contentOf, filesBelow } from './sources.ts'

/** Of constants, of errors, of metadata contexts, and the two error values that no file system gives here. */
const words =
  /\bNBD_[A-Z]|\bNbdError(?:Code)?\b|\b(?:base:allocation|vmstore:(?:present|dirty))\b|(['"`])(?:ESHUTDOWN|EOVERFLOW)\1/

/** What operators see, and what speaks to a server. */
const excepted: Readonly<Record<string, string>> = {
  'src/cli/disk-text.ts': 'shows what `disk show --json` has, by the names that it has there',
  'src/demo/course.ts': 'its guest is a client of NBD',
}

/** Lines of the files that match, comments among them. */
function linesWith(pattern: RegExp, paths: readonly string[]): string[] {
  return paths.flatMap((path) =>
    contentOf(path)
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}: ${line.trim()}`] : [])),
  )
}

describe('the words of NBD', () => {
  const outside = filesBelow(['src'], /\.ts$/).filter((path) => !/^src\/(?:nbd|attach)\//.test(path))

  it('are found where they are', () => {
    const inside = linesWith(words, filesBelow(['src/nbd'], /\.ts$/)).join('\n')
    for (const word of ['NBD_CMD_', "'ESHUTDOWN'", 'NbdError', 'base:allocation', 'vmstore:dirty']) {
      assert(inside.includes(word), word)
    }
  })

  it('stand in nbd and attach alone', () => {
    assert(outside.length > 150)
    const bound = outside.filter((path) => !(path in excepted))
    assert.deepEqual(linesWith(words, bound), [])
  })

  it('no exception outlives its use', () => {
    for (const path of Object.keys(excepted)) assert(linesWith(words, [path]).length > 0, path)
  })

  it('the contract of guests, and all that their servers share, does not know NBD by name', () => {
    assert.deepEqual(linesWith(/nbd/i, filesBelow(['src/guest'], /\.ts$/)), [])
  })

  it('nor do a disk and a move', () => {
    assert.deepEqual(linesWith(/\bNBD|Nbd/, filesBelow(['src/disk', 'src/migration'], /\.ts$/)), [])
  })
})
