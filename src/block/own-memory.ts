// Memory of bytes that come and go by the hundred megabytes a second: pieces, and what they are made of. Given back when
// nobody needs it any more, it is used again at once. Left to the garbage collector it makes V8 collect the whole heap some
// four times a second, with pauses of 10 ms and threads that take the processors from guests: beside a move of 120 MB/s the
// collector took a tenth of the loop's time, and a fifth of a processor besides.
//
// What always holds: only memory of which it was said that it is one holder's alone is given back; of other bytes nothing happens.
// Bytes that were given back have no length: who uses them too late gets none, and never another's.

const own = new WeakSet<Uint8Array>()

/** Says that nobody but the holder of this very view uses any of its memory, nor will. */
export function withOwnMemory<Bytes extends Uint8Array>(bytes: Bytes): Bytes {
  own.add(bytes)
  return bytes
}

/** The holder needs the bytes no more, nor does a call that got them. */
export function giveBack(bytes: Uint8Array | undefined): void {
  if (bytes && own.delete(bytes)) free(bytes.buffer)
}

/** Gives back memory that was made for these bytes, and that the caller alone knows, without its having been said. */
export function detach(bytes: Uint8Array): void {
  // Else it may be a part of what Node cuts small buffers from.
  if (bytes.byteLength === bytes.buffer.byteLength) free(bytes.buffer)
}

function free(memory: ArrayBufferLike): void {
  if (memory instanceof ArrayBuffer) memory.transfer(0)
}
