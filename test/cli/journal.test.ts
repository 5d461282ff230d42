// The log's lines as journald takes them.

import assert from 'node:assert/strict'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { pino } from 'pino'
import { isJournal, journalText } from '../../src/cli/journal.ts'

/** What `write` makes of a log. */
function logged(write: (log: pino.Logger) => void): string {
  let text = ''
  write(pino({ level: 'debug', base: null }, { write: (line: string) => (text += journalText(line)) }))
  return text
}

describe('the log under journald', () => {
  it('begins with the priority of syslog that the level means', () => {
    const text = logged((log) => {
      for (const level of ['debug', 'info', 'warn', 'error', 'fatal'] as const) log[level](level)
    })
    assert.equal(text, '<7>debug\n<6>info\n<4>warn\n<3>error\n<2>fatal\n')
  })

  it('is a sentence and its facts, without the time, which the journal has', () => {
    const text = logged((log) => log.info({ disk: 'web01', bytes: 4096, at: { osaka: true } }, 'a disk was opened'))
    assert.equal(text, '<6>a disk was opened disk=web01 bytes=4096 at={"osaka":true}\n')
  })

  it('gives an error its sentence, and its stack in lines of the same priority', () => {
    const lines = logged((log) => log.error({ err: new Error('no space') }, 'a write failed')).split('\n')
    assert.equal(lines[0], '<3>a write failed error="no space"')
    assert(lines.length > 3)
    for (const line of lines.slice(1, -1)) assert.match(line, /^<3> +at /)
  })

  it('promise 11: what a client called itself begins no line of its own', () => {
    const text = logged((log) => log.info({ client: 'a\n<0>forged' }, 'said\r\n<0>so'))
    assert.equal(text, '<6>said <0>so client="a\\n<0>forged"\n')
  })

  it('is text when stderr is the stream that the environment names, and only then', () => {
    const fd = openSync('/dev/null', 'w')
    const { dev, ino } = fstatSync(fd, { bigint: true })
    assert(isJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, fd))
    assert(!isJournal({ JOURNAL_STREAM: `${dev}:${ino + 1n}` }, fd))
    assert(!isJournal({}, fd))
    closeSync(fd)
  })
})
