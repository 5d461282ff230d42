// Why an image is not taken: what it lacks, and what would give its bytes.

/**
 * image-cut: bytes that it speaks of lie beyond its end. image-not-alone: they lie in another file. image-encrypted: they
 * need a key. image-unclosed: whoever wrote it did not finish. image-damaged: it contradicts itself.
 */
export type ImageFaultCode = 'image-cut' | 'image-not-alone' | 'image-encrypted' | 'image-unclosed' | 'image-damaged'

export class ImageFault extends Error {
  readonly code: ImageFaultCode
  /** What the operator can do; FILE stands for the image. */
  readonly next: string

  /** `message` goes on after "FILE is a qcow2 image": a clause, such as "its L1 table lies beyond its end". */
  constructor(code: ImageFaultCode, message: string, next: string) {
    super(message)
    this.name = 'ImageFault'
    this.code = code
    this.next = next
  }
}

const fetchAgain = 'Copy or download it again, and compare its size and checksum with where it comes from.'

export function cutShort(what: string, endBytes: number, sizeBytes: number): ImageFault {
  const message = `it is cut short: ${what} reaches to byte ${endBytes}, and the file ends at ${sizeBytes}`
  return new ImageFault('image-cut', message, fetchAgain)
}

export function cutOff(why: string): ImageFault {
  return new ImageFault('image-cut', `it is cut short: ${why}`, fetchAgain)
}

export function damaged(why: string, next = fetchAgain): ImageFault {
  return new ImageFault('image-damaged', why, next)
}
