// docs/writing-a-transport.md shows pieces of the examples, and these are what the examples are.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as contract from '../../src/transport/contract.ts'

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/writing-a-transport.md'), 'utf8')
const read = (path: string) => readFileSync(join(root, 'test/contract', path), 'utf8')

describe('docs/writing-a-transport.md', () => {
  it('shows what stands in the examples', () => {
    const examples = read('example-stream/transports.js') + read('example-object/transports.js')
    const blocks = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code!)
    assert.equal(blocks.length, 4)
    for (const block of blocks) assert.ok(examples.includes(block), block)
  })

  it("shows the example's package, but what does not matter", () => {
    const [, shown] = /```json\n(.*?)```/s.exec(page)!
    const { description, private: isPrivate, ...rest } = JSON.parse(read('example-stream/package.json'))
    assert.ok(description && isPrivate)
    assert.deepEqual(JSON.parse(shown!), rest)
  })

  it('has each code that an error may have', () => {
    const text = readFileSync(join(root, 'src/transport/contract.ts'), 'utf8')
    const [, codes] = /export type TransportErrorCode = (.*)/.exec(text)!
    for (const [, code] of codes!.matchAll(/'(\w+)'/g)) assert.ok(page.includes(`| \`${code}\` |`), code)
    assert.ok(page.includes(`contractVersion: ${contract.contractVersion}`))
  })
})
