// Why an image is not taken, as its operator is told.

import { Refusal } from '../disk/refusal.ts'
import { rawAllTheSame, Undecided } from '../image/decision.ts'
import { ImageFault } from '../image/image-fault.ts'
import { type ImageFormat, titled } from '../image/image-formats.ts'

const nothingChanged = 'Nothing was changed.'

export function notRaw(
  path: string,
  why: string,
  next = 'Give an image of a disk: its bytes, or a format that QEMU reads.',
): Refusal {
  return new Refusal('not-raw', `${path} is not a raw disk image: ${why}`, { safe: nothingChanged, next })
}

/** Of what looks through images; anything else goes through as it is. `mayBeRaw`: only its bytes say the format. */
export function imageRefusal(
  path: string,
  format: ImageFormat | undefined,
  mayBeRaw: boolean,
  error: unknown,
): unknown {
  const refuse = (fault: Undecided | ImageFault, message: string, next: string) => {
    const safe = fault.code === 'image-not-alone' ? 'Nothing was changed, and no other file was read.' : nothingChanged
    return new Refusal(fault.code, `${path} ${message}`, { safe, next: forFile(next, path), cause: fault })
  }
  if (error instanceof Undecided) return refuse(error, error.message, error.next)
  if (!(error instanceof ImageFault)) return error
  const isRaw = format === undefined || format === 'raw'
  const message = isRaw ? error.message.replace(/^it /, '') : `is ${titled(format)}, and ${error.message}`
  const isDoubtful = mayBeRaw && (error.code === 'image-cut' || error.code === 'image-damaged')
  return refuse(error, message, isDoubtful ? `${error.next} ${rawAllTheSame}` : error.next)
}

const forFile = (text: string, path: string): string => text.replaceAll('FILE', () => path)
