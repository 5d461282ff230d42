// A guest may write what looks like another format's header to its own disk. As a file it would come back as another disk,
// were it taken for that format: so its name must say that it is raw, and whoever exports it is told how it comes back.

import { promisedBy } from '../image/file-names.ts'
import { headBytes, recognise, tailBytes } from '../image/recognition.ts'
import type { NbdClient } from '../nbd/client/client.ts'
import { refused } from './errors.ts'

/** What the disk's bytes look like, such as 'a qcow2 image'; null: like themselves. @throws ControlError `name-misleads` */
export async function likenessIn(nbd: NbdClient, disk: string, file: string): Promise<string | null> {
  const { sizeBytes } = nbd.info()
  const tailAt = Math.max(0, sizeBytes - tailBytes)
  const head = await nbd.read(0, Math.min(headBytes, sizeBytes))
  const found = recognise({ head, tail: await nbd.read(tailAt, sizeBytes - tailAt), sizeBytes })
  if (found.kind === 'raw') return null
  if (promisedBy(file).kind === 'raw') return found.title
  const message = `${disk} begins or ends like ${found.title}, as its guest wrote it, and ${file} would be taken for one.`
  const next =
    'Give the file a name that ends in .raw, and take it back with vmstore disk create NAME --from FILE --format raw.'
  throw refused('name-misleads', message, { disk, next })
}
