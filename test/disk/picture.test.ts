import assert from 'node:assert/strict'
import { BlockMap } from '../../src/block/block-map.ts'
import { picturedCells, pictureOf } from '../../src/disk/picture.ts'

const noHole = () => false

describe('the picture of a disk', () => {
  it('has a letter a cell: at the source, here, the guest’s, copied ahead, and without bytes', () => {
    const blocks = picturedCells * 4
    const here = new BlockMap(blocks)
    const written = new BlockMap(blocks)
    here.add(4, 16) // Cells 1, 2 and 3.
    written.add(8, 10) // Half of cell 2.
    const isHole = ({ first }: { first: number }) => first === 12
    const aheadIn = ({ first }: { first: number }) => (first === 16 ? 3 : 0)
    const picture = pictureOf({ blocks, here, written, aheadIn, isHole })
    assert.equal(picture, `shwza${'s'.repeat(picturedCells - 5)}`)
  })

  it('says here of a cell only when half of it is', () => {
    const here = new BlockMap(picturedCells * 4)
    here.add(0, 1)
    here.add(4, 6)
    assert.match(pictureOf({ blocks: picturedCells * 4, here, isHole: noHole }), /^shs+$/)
  })

  it('of a disk that is owned whole has no cell at the source', () => {
    const isHole = ({ first }: { first: number }) => first === 4
    assert.match(pictureOf({ blocks: picturedCells * 4, here: 'all', isHole }), /^hzh+$/)
  })

  it('of a few blocks has a cell for each, of none has none, and of any number at most the most', () => {
    const lengthOf = (blocks: number) => pictureOf({ blocks, here: new BlockMap(blocks), isHole: noHole }).length
    assert.deepEqual([0, 1, 7, 240, 241].map(lengthOf), [0, 1, 7, 240, 121])
    for (const blocks of [2 ** 20 + 1, 2 ** 28, 2 ** 38]) assert(lengthOf(blocks) <= picturedCells)
  })
})
