// What a disk may be called and how large it may be, whoever asks: an operator, a file's name, a peer. A name becomes a
// file's name, so it has no separator and does not begin with a dot.

export const diskNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$/

/** 1 PiB. */
export const largestDiskBytes = 2 ** 50
