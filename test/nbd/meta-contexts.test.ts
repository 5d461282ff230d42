// What an export tells of its blocks, under NBD's names, ids and flags.

import assert from 'node:assert/strict'
import { type StatusKind, statusWords } from '../../src/guest/export.ts'
import { contextExtents, type MetaContext, matchContexts } from '../../src/nbd/server/meta-contexts.ts'
import { Command, ErrorNumber } from '../../src/nbd/wire/constants.ts'
import { decodeErrorPayload } from '../../src/nbd/wire/transmission-codecs.ts'
import { RawClient, serve } from './harness.ts'
import { MemoryExport } from './memory-export.ts'

describe('metadata contexts', () => {
  const every: readonly StatusKind[] = ['allocation', 'present', 'dirty']
  const contexts = matchContexts(every, [], 'list')

  it('have names and ids that clients know', () => {
    assert.deepEqual(
      contexts.map(({ id, name }) => [id, name]),
      [
        [1, 'base:allocation'],
        [2, 'vmstore:present'],
        [3, 'vmstore:dirty'],
      ],
    )
  })

  it('keep their ids whichever of them an export offers, and in whatever order it names them', () => {
    const ids = (...told: StatusKind[]) => matchContexts(told, [], 'list').map(({ id, kind }) => [id, kind])
    assert.deepEqual(ids('dirty'), [[3, 'dirty']])
    assert.deepEqual(ids('dirty', 'allocation'), [
      [1, 'allocation'],
      [3, 'dirty'],
    ])
  })

  it('have flags for every word of their kind', () => {
    const flagsOf = (context: MetaContext) =>
      statusWords[context.kind].map((status) => {
        const [told] = contextExtents(context, [{ lengthBytes: 1, status }], 1, 1)
        return [status, told!.flags]
      })
    assert.deepEqual(contexts.map(flagsOf), [
      [
        ['data', 0],
        ['hole', 3],
        ['zero', 2],
      ],
      [
        ['absent', 0],
        ['present', 1],
      ],
      [
        ['clean', 0],
        ['dirty', 1],
      ],
    ])
  })

  it('what is told in the words of another kind is told to nobody: the export has failed', async () => {
    const disk = new MemoryExport()
    await using site = await serve([disk])
    const client = await RawClient.open(site.path, { structured: true, contexts: ['base:allocation'] })
    disk.blockStatusFault = [{ lengthBytes: 4096, status: 'dirty' }]
    client.request({ type: Command.blockStatus, lengthBytes: 4096 })
    assert.equal(decodeErrorPayload((await client.chunk()).payload).errorNumber, ErrorNumber.EIO)
    client.destroy()
  })
})
