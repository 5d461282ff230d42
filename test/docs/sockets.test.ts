// One socket in all documents, that of the socket unit: in a folder that others reach, open to the group of the hypervisors.
// A socket in the data folder is the daemon's user's alone, and libvirt's QEMU is another.

import assert from 'node:assert/strict'
import { contentOf } from '../architecture/sources.ts'
import { documents } from './documents.ts'

const unit = contentOf('docs/systemd/vmstore@.socket')
const instance = 'main'

function setting(name: string): string | undefined {
  return new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1]
}

describe('the socket in README and docs', () => {
  it('is where the socket unit has it, alike on every host', () => {
    const path = setting('ListenStream')?.replace('%i', instance)
    assert.equal(path, '/run/vmstore/main.sock')
    const others = documents.flatMap((document) => {
      const named = contentOf(document).match(/\/(?:run|var\/lib)\/vmstore\/[\w.%/-]*\.sock\b/g) ?? []
      return named.filter((name) => name !== path && name !== setting('ListenStream')).map((name) => [document, name])
    })
    assert.deepEqual(others, [])
  })

  it('belongs to an instance that is called alike in every document', () => {
    const instances = documents.flatMap((document) =>
      [...contentOf(document).matchAll(/\bvmstore@(\w+)|\/var\/lib\/vmstore\/(\w+)|\/etc\/vmstore\/(\w+)\.env/g)].map(
        (match) => `${document}: ${match[1] ?? match[2] ?? match[3]}`,
      ),
    )
    assert(instances.length > 3)
    assert.deepEqual(
      instances.filter((name) => !name.endsWith(`: ${instance}`) && !name.endsWith(': plugins')), // Of all instances.
      [],
    )
  })

  it('may be opened by libvirt’s QEMU, of the group kvm, and by no other user', () => {
    assert.equal(setting('SocketGroup'), 'kvm')
    assert.equal(setting('SocketMode'), '0660')
    // systemd makes the folders of a socket for everybody to pass through, unless told otherwise.
    assert.equal(setting('DirectoryMode'), undefined)
  })
})
