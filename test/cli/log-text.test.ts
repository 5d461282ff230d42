// The log on a terminal, and what the process is called.

import assert from 'node:assert/strict'
import { pino } from 'pino'
import { terminalText, textOfLog } from '../../src/cli/log-text.ts'
import { processTitle } from '../../src/cli/process-title.ts'

function logged(write: (log: pino.Logger) => void): string {
  let text = ''
  write(pino({ level: 'debug', base: null }, { write: (line: string) => (text += terminalText(line)) }))
  return text
}

describe('the log on a terminal', () => {
  it('is a line for people: the time, the level, the sentence, the facts', () => {
    const text = logged((log) => log.warn({ peer: 'tokyo', seconds: 3 }, 'the link is down'))
    assert.match(text, /^\d\d:\d\d:\d\d warn {2}the link is down peer=tokyo seconds=3\n$/)
  })

  it('shows no control character of a client, and its stack below an error', () => {
    const lines = logged((log) => log.error({ client: '\u001b[2Jx', err: new Error('no space') }, 'a write failed'))
    assert(!lines.includes('\u001b'))
    assert.match(lines, /a write failed client="\\u001b\[2Jx" error="no space"\n +at /)
  })

  it('is JSON where nobody reads it, and text under journald before anything else', () => {
    assert.equal(textOfLog({}, false)('{"level":30}'), '{"level":30}')
    assert.equal(textOfLog({}, true), terminalText)
  })
})

describe('the title of the process', () => {
  it('is the command, and of a daemon its folder', () => {
    assert.equal(processTitle(['serve', '--root', '/srv/osaka', '--nbd', 'x']), 'vmstore serve --root /srv/osaka')
    assert.equal(processTitle(['serve']), 'vmstore serve')
    assert.equal(processTitle(['disk', 'show', 'web01']), 'vmstore disk show')
    assert.equal(processTitle([]), 'vmstore')
  })

  it('has no word that may be secret', () => {
    assert.equal(processTitle(['peer', 'join', 'vmstore-c2VjcmV0', '--name', 'osaka']), 'vmstore peer join')
    assert.equal(processTitle(['--json', 'peer', 'join', 'vmstore-c2VjcmV0']), 'vmstore')
    assert.equal(processTitle(['config', 'set', 'transports.s3.secretKey', 'abc']), 'vmstore config set')
  })
})
