// The block, declared once: the unit in which presence and dirtiness are tracked, and in which zeros are found. Whoever
// copies a disk finds its zeros by the same grain, so that what is thin stays thin on every way.

/** In bytes. */
export const blockSizeBytes = 4096
