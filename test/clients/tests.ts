// Which tests are run with other Debians' clients: all that use one of these programs, but those that say here why not.

import { contentOf, filesBelow } from '../architecture/sources.ts'
import { clientPrograms } from '../tools.ts'

/** Clients at our server, our client at other servers, and a guest that moves: with the newest stable Debian's in every run. */
export const everyTime: readonly string[] = [
  'test/interop/fio.test.ts',
  'test/interop/nbd-client.test.ts',
  'test/interop/nbdcopy.test.ts',
  'test/interop/nbddump.test.ts',
  'test/interop/nbdfuse.test.ts',
  'test/interop/nbdinfo.test.ts',
  'test/interop/nbdkit.test.ts',
  'test/interop/nbdsh.test.ts',
  'test/interop/our-client.test.ts',
  'test/interop/qemu-img.test.ts',
  'test/interop/qemu-io.test.ts',
  'test/interop/qemu-nbd.test.ts',
  'test/interop/tls.test.ts',
  'test/e2e/import.test.ts',
  'test/qemu/live-migration.test.ts',
  'test/store/image-locks.test.ts',
]

export const left: Readonly<Record<string, string>> = {
  'test/e2e/systemd.test.ts': 'systemd-socket-activate hands its descriptors on to programs of this machine',
  'test/qemu/kernel-client.test.ts': 'the client is the kernel of the guest, which nbd-client goes into as a file',
}

/** What a test says that needs a client, itself or by what it shares with others. */
const need = new RegExp(`'(${clientPrograms.join('|')})'|\\bneed(GuestTools|FioAndProxy)\\(|\\bfileThroughFuse\\b`)

/** Paths, from the project's folder. */
export function testsWithClients(): string[] {
  return filesBelow(['test', 'plugins'], /\.test\.ts$/).filter((path) => need.test(contentOf(path)))
}

/** What `npm run test:clients` runs. */
export function allTests(): string[] {
  return testsWithClients().filter((path) => !(path in left))
}
