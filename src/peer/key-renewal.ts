// The key of a site, renewed (`vmstore peer rekey`): three files, of which a crash at any point leaves what the next start goes
// on with.
//
//   identity.key          the key by which the site is known
//   identity.next.key     the next one, which peers are told of. Nothing depends on it: a start that finds it removes it
//   identity.decided.key  the same, once it is decided. A start that finds it has the records changed, and puts it in place
//
// What always holds: identity.key is there, whole, at every instant; before the decision the site is who it was, after it the
// next one. The old key goes last, when everything that it had to sign is on record.

import { rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import {
  checkMode,
  createDurably,
  type Identity,
  identityOf,
  identityPaths,
  loadIdentity,
  newKey,
  PeerError,
  readIfThere,
  syncFolder,
} from './identity.ts'

/** The durable steps of a renewal, in their order. */
export interface KeyFiles {
  /** The next identity: one that was decided on before, or a new one. */
  prepare(): Promise<Identity>
  /** The next identity is not wanted any more. Only before `decide`. */
  forget(): Promise<void>
  /** From here on the site becomes the next one, whatever happens. When it rejects, it does not. */
  decide(): Promise<void>
  /** The next key is the key. To be called when all that the old one had to sign is on record. */
  replace(): Promise<void>
  /** What the last daemon had decided, and not finished. What it had only prepared is removed. */
  left(): Promise<Identity | undefined>
}

export class FolderKeyFiles implements KeyFiles {
  readonly #folder: string
  readonly #next: string
  readonly #decided: string

  constructor(folder: string) {
    this.#folder = folder
    this.#next = join(folder, 'identity.next.key')
    this.#decided = join(folder, 'identity.decided.key')
  }

  async prepare(): Promise<Identity> {
    const decided = await this.#read(this.#decided)
    if (decided) return decided
    await this.forget()
    const pem = await newKey()
    await createDurably(this.#folder, this.#next, pem, 0o600)
    return identityOf(pem, this.#next)
  }

  async forget(): Promise<void> {
    await removeIfThere(this.#next)
    await syncFolder(this.#folder)
  }

  async decide(): Promise<void> {
    if ((await readIfThere(this.#decided)) !== undefined) return
    await rename(this.#next, this.#decided)
    try {
      await syncFolder(this.#folder)
    } catch (error) {
      await rename(this.#decided, this.#next)
      throw error
    }
  }

  async replace(): Promise<void> {
    if ((await readIfThere(this.#decided)) === undefined) return // It was replaced before something else failed.
    const { key, certificate } = identityPaths(this.#folder)
    // A key without its certificate gets one; a certificate of another key would be taken for damage.
    await removeIfThere(certificate)
    await syncFolder(this.#folder)
    await rename(this.#decided, key)
    await syncFolder(this.#folder)
    await loadIdentity(this.#folder).catch(() => {}) // Without its certificate, which the next start makes.
  }

  async left(): Promise<Identity | undefined> {
    const decided = await this.#read(this.#decided)
    if (decided === undefined && (await readIfThere(this.#next)) !== undefined) await this.forget()
    return decided
  }

  async #read(path: string): Promise<Identity | undefined> {
    const pem = await readIfThere(path)
    if (pem === undefined) return undefined
    await checkMode(path)
    try {
      return await identityOf(pem, path)
    } catch (error) {
      if (!(error instanceof PeerError)) throw error
      const next = `This site was becoming the holder of that key. Restore ${path} from a copy of the data folder.`
      throw new PeerError(error.code, error.message, { cause: error, next })
    }
  }
}

async function removeIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}
