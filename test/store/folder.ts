// A folder for one test's files, gone after the test. To be called in a test or a beforeEach of a suite that has called
// `removeFoldersAfterEach`.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folders: string[] = []

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

/** Where a tmpfs is mounted, on most machines. */
export const tmpfsFolder = '/dev/shm'
