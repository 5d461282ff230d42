// A folder for one test's files, gone after the test. To be called in a test or a beforeEach of a suite that has called
// `removeFoldersAfterEach`.

import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { skipHere } from '../tools.ts'

const folders: string[] = []
const tmpfsFolder = '/dev/shm'
/** TMPFS_MAGIC of <linux/magic.h>. */
const tmpfsMagic = 0x01021994

export function removeFoldersAfterEach(): void {
  afterEach(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
}

export function temporaryFolder(parent = tmpdir()): string {
  const folder = mkdtempSync(join(parent, 'vmstore-test-'))
  folders.push(folder)
  return folder
}

/** As temporaryFolder, on a tmpfs, which most machines have; without one the test is skipped. */
export function temporaryFolderOnTmpfs(context: Mocha.Context): string {
  const isThere = existsSync(tmpfsFolder) && statfsSync(tmpfsFolder).type === tmpfsMagic
  return isThere ? temporaryFolder(tmpfsFolder) : skipHere(context, `there is no tmpfs at ${tmpfsFolder}`)
}
