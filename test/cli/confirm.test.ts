import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { confirmed } from '../../src/cli/confirm.ts'

const warning = { code: 'not-confirmed', message: 'All of it is lost.', exit: 3 } as const

/** What an operator is asked, and what comes of the answer. `undefined`: the input ends. */
async function asked(answer: string | undefined): Promise<{ isConfirmed: boolean; question: string }> {
  const input = new PassThrough()
  const output = new PassThrough()
  const question: string[] = []
  output.on('data', (text) => question.push(String(text)))
  const isConfirmed = confirmed(warning, 'web01', input, output)
  if (answer === undefined) input.end()
  else input.write(answer)
  return { isConfirmed: await isConfirmed, question: question.join('') }
}

describe('a confirmation', () => {
  it('is the name, typed', async () => {
    const { isConfirmed, question } = await asked('web01\n')
    assert.equal(isConfirmed, true)
    assert.match(question, /type web01/)
  })

  it('is nothing else', async () => {
    for (const answer of ['yes\n', '\n', 'web02\n', undefined]) {
      assert.equal((await asked(answer)).isConfirmed, false, String(answer))
    }
  })
})
