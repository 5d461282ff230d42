// The socket of one connection, as requests come in and replies leave, whatever the protocol. Plain sockets are read into
// one buffer that all connections of a server share (what arrives is used up, or copied, before the call returns), and
// written with one call to the kernel; only what the kernel does not take at once goes through the stream. Measured against
// streams alone: no 64 KiB of fresh memory for each read, and about 4 µs less for each write.

import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { PagePipe } from '../system/page-pipe.ts'
import { descriptorOf, duplicate, sendNow, setSendBuffer, setTcpUserTimeout } from '../system/sockets.ts'

/** Free bytes before what arrives, where a connection puts what it has left of earlier bytes. */
export const headroomBytes = 16 * 1024

/** Read at once; it stays in the processor's second-level cache until it is written to the file. */
const readBytes = 256 * 1024

/** Of a Unix socket. The usual 208 KiB are less than one piece of a long read: writer and reader would take turns. */
const unixSendBufferBytes = 1024 * 1024

/** After which an idle client's host is asked whether it is there. */
const keepAliveMs = 60_000
/** The kernel counts in seconds. */
const leastKeepAliveMs = 1000

/** Gets [from, to) of `bytes`, which last for the time of the call; `headroomBytes` before `from` are free, if `from` is that large. */
export type Receive = (bytes: Buffer, from: number, to: number) => void

/** One for each server. */
export class ReadBuffer {
  readonly bytes = Buffer.alloc(headroomBytes + readBytes)
  readonly target: Uint8Array = this.bytes.subarray(headroomBytes)
}

/** Through which the pages of long reads go to the sockets. One for each server, made when it is first used. Always: given out empty. */
export class SharedPipe {
  #pipe: PagePipe | undefined
  #isClosed = false

  /** undefined: it was closed, or the system has none to give now. */
  get pipe(): PagePipe | undefined {
    if (this.#pipe !== undefined && this.#pipe.heldBytes > 0) {
      // Whoever had it failed on the way. Those bytes are not the next client's.
      this.#pipe.close()
      this.#pipe = undefined
    }
    if (this.#pipe === undefined && !this.#isClosed) {
      try {
        this.#pipe = new PagePipe()
      } catch {
        return undefined // Such as EMFILE. Reads go the other way, which needs no descriptor.
      }
    }
    return this.#pipe
  }

  close(): void {
    this.#isClosed = true
    this.#pipe?.close()
    this.#pipe = undefined
  }
}

/**
 * A socket in the place of an accepted one, which must not have been read from. What arrives goes to `receive`. A host that
 * is gone, with replies under way or idle, ends the connection after `deadClientMs`; 0: when the system says so.
 */
export function takeOver(
  accepted: Socket,
  { buffer, deadClientMs }: { readonly buffer: ReadBuffer; readonly deadClientMs: number },
  receive: Receive,
): { socket: Socket; fd: number } {
  const fd = duplicate(descriptorOf(accepted))
  try {
    const isUnix = accepted.remoteAddress === undefined
    if (isUnix) setSendBuffer(fd, unixSendBufferBytes)
    else if (deadClientMs > 0) setTcpUserTimeout(fd, deadClientMs)
    accepted.destroy()
    const socket = socketOf(fd, buffer, receive)
    socket.setNoDelay(true)
    // An idle host is asked from half of that time on; the kernel gives it up at the end of it.
    socket.setKeepAlive(
      true,
      deadClientMs > 0 ? Math.min(keepAliveMs, Math.max(leastKeepAliveMs, deadClientMs / 2)) : keepAliveMs,
    )
    return { socket, fd }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function socketOf(fd: number, buffer: ReadBuffer, receive: Receive): Socket {
  const callback = (lengthBytes: number): boolean => {
    receive(buffer.bytes, headroomBytes, headroomBytes + lengthBytes)
    return true
  }
  // Half-open: a client that has said all it wants still gets its answers.
  return new Socket({ fd, allowHalfOpen: true, onread: { buffer: buffer.target, callback } })
}

/** The writing side. */
export class Wire {
  readonly #socket: Socket
  readonly #fd: number | undefined
  readonly #pipe: SharedPipe
  #queuedWrites = 0
  #sentWrites = 0

  /** `fd`: the socket's, if bytes may go to the kernel as they are. */
  constructor(socket: Socket, fd: number | undefined, pipe: SharedPipe) {
    this.#socket = socket
    this.#fd = fd
    this.#pipe = pipe
  }

  /** Bytes that were queued and are not with the kernel. */
  get queuedBytes(): number {
    return this.#socket.writableLength
  }

  /** The number of the queued write that is to leave next. The same number after a while: the client does not read. */
  get waitingWrite(): number | undefined {
    return this.#queuedWrites > this.#sentWrites ? this.#sentWrites : undefined
  }

  /** For sendPages(). undefined: pages cannot go to this socket by reference, or not now. */
  get pipe(): PagePipe | undefined {
    const isDirect = this.#fd !== undefined && this.#socket.writable && this.#socket.writableLength === 0
    return isDirect ? this.#pipe.pipe : undefined
  }

  /** Gives the kernel what the pipe holds; what it does not take at once stays in the pipe. */
  sendPages(pipe: PagePipe): void {
    // Once the socket is destroyed, the descriptor's number may be another file's. One that has failed says so through its stream.
    if (this.#socket.writable) pipe.sendTo(this.#fd!)
  }

  /** How many bytes, from the first on, need no further care: the kernel has them, or nobody will. */
  sendNow(bytes: Buffer, more = false): number {
    if (!this.#socket.writable) return bytes.length
    if (this.#fd === undefined || this.#socket.writableLength > 0) return 0
    // A socket that has failed says so through its stream.
    return Math.max(0, sendNow(this.#fd, bytes, more))
  }

  /** `sent`: the memory is free again, whatever became of the bytes. */
  queue(bytes: Buffer, sent: () => void): void {
    this.#queuedWrites++
    this.#socket.write(bytes, () => {
      this.#sentWrites++
      sent()
    })
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Breaks the connection off. */
  destroy(): void {
    this.#socket.destroy()
  }
}
