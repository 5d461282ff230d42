// Whether a descriptor takes bytes now: poll(2), without waiting.

import koffi from 'koffi'

koffi.struct('vmstore_pollfd', { fd: 'int', events: 'int16_t', revents: 'int16_t' })
const callPoll = koffi.load('libc.so.6').func('int poll(_Inout_ vmstore_pollfd *fds, uint64_t count, int timeout_ms)')

const POLLOUT = 0x004

/** A pipe that answers true takes PIPE_BUF bytes (4096) without waiting. Of a closed descriptor: false. */
export function canWrite(fd: number): boolean {
  const polled = { fd, events: POLLOUT, revents: 0 }
  return callPoll(polled, 1, 0) === 1 && (polled.revents & POLLOUT) !== 0
}
