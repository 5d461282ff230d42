// A guest may begin its disk with any text, and an image may have any in its descriptor: to look at it is done at once. In a
// process of its own, as a pattern that tries forever can be ended in no other way.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

const images = join(import.meta.dirname, '../../src/image')
const deadlineMs = 60_000

/** What the program says, which may use whatever src/image has. */
async function said(program: string): Promise<string> {
  const words = ['--input-type=module-typescript', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, words, { timeout: deadlineMs })
  return stdout.trim()
}

describe('text that a guest or an image has made to be looked at', function () {
  this.timeout(deadlineMs + 10_000)

  it('blank lines and comments at the beginning of a disk are bytes like others', async () => {
    const units = ['\n', '\r\n', ' \n', '#\n', '\n#\n', '# \r\n\r\n', '#', ' ', '<', '<!', 'version=1\n', 'RW 1']
    const program = `
      import { recognise } from '${images}/recognition.ts'
      for (const unit of ${JSON.stringify(units)}) {
        const head = Buffer.from(unit.repeat(4096).slice(0, 4096), 'latin1')
        console.log(recognise({ head, tail: Buffer.alloc(512), sizeBytes: 2 ** 20 }).kind)
      }`
    assert.equal(await said(program), units.map(() => 'raw').join('\n'))
  })

  for (const unit of ['\n', ' ', ' \n', 'RW ', 'RW 1', 'createType', 'parentCID ']) {
    it(`a descriptor of a VMDK that is full of ${JSON.stringify(unit)} names no kind of image`, async () => {
      const program = `
        import { examineVmdk } from '${images}/vmdk.ts'
        const image = Buffer.alloc(2 ** 20 + 1024)
        image.write('KDMV')
        image.writeBigUInt64LE(2048n, 12)
        image.writeBigUInt64LE(1n, 28)
        image.writeBigUInt64LE(2048n, 36)
        image.fill(${JSON.stringify(unit)}, 512)
        const read = async (at, lengthBytes) => image.subarray(at, at + lengthBytes)
        await examineVmdk({ sizeBytes: image.length, read }).catch((error) => console.log(error.code))`
      assert.equal(await said(program), 'image-not-alone')
    })
  }
})
