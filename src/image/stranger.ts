// A file that is no whole image: it is a part of one, or something else.

export interface Stranger {
  /** 'gzip-compressed data', 'the descriptor of a VMDK'. */
  readonly title: string
  /** What would give the image's bytes; FILE stands for the file. */
  readonly next: string
  /** It is a part of an image, whose bytes lie in other files. */
  readonly isPart: boolean
}
