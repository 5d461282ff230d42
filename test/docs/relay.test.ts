// docs/relay.md: what people copy from it is well formed, and the figures are those that the code reckons.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chunkName, moveFolder, parseKey } from '../../src/relay/names.ts'
import { costOf, foreseen, pricesOf } from '../../src/relay/prices.ts'

const text = readFileSync(join(import.meta.dirname, '../../docs/relay.md'), 'utf8')
const documents = [...text.matchAll(/```json\n([\s\S]*?)```/g)].map(([, document]) => JSON.parse(document!))

interface Statement {
  readonly Action: string | readonly string[]
  readonly Resource: string | readonly string[]
}

describe('docs/relay.md', () => {
  it('has policies that let each side do what it does, and nothing to the bucket itself', () => {
    const [source, destination] = documents as { Statement: Statement[] }[]
    const mayPut = ({ Statement }: { Statement: Statement[] }, key: string) =>
      Statement.some(
        ({ Action, Resource }) =>
          [Action].flat().includes('s3:PutObject') &&
          [Resource].flat().some((arn) => new RegExp(`^${arn.replaceAll('*', '.*')}$`).test(`arn:aws:s3:::${key}`)),
      )
    const folder = moveFolder(Buffer.alloc(32))
    for (const kind of ['chunk', 'manifest', 'mail', 'claim', 'fence', 'state']) {
      const key = `${folder}/${kind}/${chunkName(Buffer.alloc(32), Buffer.alloc(32))}`
      assert.equal(parseKey(key)?.kind, kind)
      assert(mayPut(source!, `bucket/moves/${key}`), kind)
      assert.equal(mayPut(destination!, `bucket/moves/${key}`), !['chunk', 'manifest'].includes(kind), kind)
    }
    for (const { Statement } of [source!, destination!]) {
      for (const { Action } of Statement)
        for (const action of [Action].flat()) assert.match(action, /^s3:((Put|Get|Delete)Object|ListBucket)$/)
    }
  })

  it('has a rule of expiry below the prefix alone', () => {
    const [, , { Rules }] = documents as [unknown, unknown, { Rules: { Filter: { Prefix: string } }[] }]
    assert.deepEqual(
      Rules.map(({ Filter }) => Filter.Prefix),
      ['moves/'],
    )
  })

  it('says what a move costs as the code reckons it', () => {
    const moved = foreseen({
      dataBytes: 60 * 2 ** 30,
      chunkBytes: 2 * 2 ** 20,
      compressedTo: 0.5,
      distinctShare: 1,
      sparedShare: 0,
      rangesOfPart: 256,
      seconds: 3600,
      pollsPerSecond: 2,
      mails: 2000,
      once: { puts: 70, gets: 70, lists: 2 },
    })
    const month = 30 * 24 * 3600
    const parked = { ...moved, gets: moved.gets + month / 30, byteSeconds: moved.bytesUp * month }
    const stores = {
      'AWS S3 (destination elsewhere)': undefined,
      'Cloudflare R2': 'https://account.r2.cloudflarestorage.com',
      Tigris: 'https://t3.storage.dev',
    }
    for (const [name, endpoint] of Object.entries(stores)) {
      const prices = pricesOf('s3', endpoint)!
      const row = `| ${name} | $${costOf(moved, prices).toFixed(2)} | $${costOf(parked, prices).toFixed(2)} |`
      assert(text.includes(row), row)
    }
  })
})
