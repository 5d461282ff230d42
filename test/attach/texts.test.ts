// What people read of an attached device's course.

import assert from 'node:assert/strict'
import type { AttachEvent } from '../../src/attach/attachment.ts'
import { sentenceOf } from '../../src/attach/texts.ts'

const facts = { device: '/dev/nbd0', disk: 'web01' }
const one = { ...facts, connections: 1 }
const two = { ...facts, connections: 2 }

describe('the events of an attached device, as sentences', () => {
  const sentences: [AttachEvent, string, boolean][] = [
    [
      { ...one, live: 1, type: 'attached', size: 4096, readOnly: true, takenOver: false },
      '/dev/nbd0 is attached: web01, 4096 bytes, read-only.',
      false,
    ],
    [
      { ...one, live: 1, type: 'attached', size: 4096, readOnly: false, takenOver: true },
      '/dev/nbd0 was attached already, and is cared for again: web01, 4096 bytes.',
      false,
    ],
    [
      { ...one, live: 0, type: 'link-down' },
      '/dev/nbd0: a connection to web01 broke; none is left: what is asked of it waits.',
      true,
    ],
    [{ ...two, live: 1, type: 'link-down' }, '/dev/nbd0: a connection to web01 broke; 1 of 2 are left.', true],
    [{ ...one, live: 1, type: 'link-up' }, '/dev/nbd0: connected to web01 again.', false],
    [{ ...two, live: 1, type: 'link-up' }, '/dev/nbd0: connected to web01 again; 1 of 2 connections are up.', false],
    [
      { ...one, live: 0, type: 'waiting', reason: 'It is away.' },
      '/dev/nbd0: no new connection to web01 yet, and trying on: It is away.',
      true,
    ],
    [
      { ...one, live: 0, type: 'failing', seconds: 600 },
      '/dev/nbd0: there has been no connection to web01 for 600 s: what is asked of it fails now. Trying on.',
      true,
    ],
    [{ ...one, live: 0, type: 'detached' }, '/dev/nbd0 is detached.', false],
  ]
  for (const [event, text, isWarning] of sentences) {
    it(text, () => assert.deepEqual(sentenceOf(event), { text, isWarning }))
  }
})
