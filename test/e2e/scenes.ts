// Where many tests begin: two sites that trust each other, and the disk web01 at the first of them.

import { attach, createDisk, type Site, twoSites, untilDisk } from './sites.ts'

const writeBytes = 2 ** 20
/** What every byte of a disk of `sitesWithData` is. */
const dataByte = 7

export interface Sites {
  readonly a: Site
  readonly b: Site
}

/** The disk is one hole. */
export async function sitesWithDisk(sizeBytes: number): Promise<Sites> {
  const sites = await twoSites()
  await createDisk(sites.a, 'web01', sizeBytes)
  return sites
}

/** The disk was written all over, and nobody is attached to it any more. */
export async function sitesWithData(sizeBytes: number): Promise<Sites> {
  const sites = await sitesWithDisk(sizeBytes)
  const guest = await attach(sites.a, 'web01')
  for (let at = 0; at < sizeBytes; at += writeBytes)
    await guest.write(at, Buffer.alloc(Math.min(writeBytes, sizeBytes - at), dataByte))
  await guest.disconnect()
  await untilDisk(sites.a, 'web01', ({ sessions }) => sessions === 0)
  return sites
}
