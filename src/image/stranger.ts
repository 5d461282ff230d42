// What is no image that stands for itself, or none at all.

export interface Stranger {
  /** 'gzip-compressed data', 'the descriptor of a VMDK'. */
  readonly title: string
  /** What would give the image's bytes; FILE stands for the file. */
  readonly next: string
  /** It is a part of an image, whose bytes lie in other files. */
  readonly isPart: boolean
}
