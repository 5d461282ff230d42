// The documents' XML is libvirt's: what virt-xml-validate would say of it, with the schema of a libvirt that knows
// <reconnect> in an NBD source (9.2; Debian 13 has 11.3). Debian 12's schema does not, so it cannot judge.

import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../interop/clients.ts'
import { removeFoldersAfterEach, temporaryFolder } from '../store/folder.ts'
import { needTool, skipHere } from '../tools.ts'
import { fenced, quoted, type Snippet } from './documents.ts'

/** Folders with libvirt's schemas (Debian 13's package libvirt-common), the first choice first. */
const schemaFolders = [process.env['VMSTORE_LIBVIRT_SCHEMAS'], '/usr/share/libvirt/schemas']

function schemaFile(context: Mocha.Context): string {
  const found = schemaFolders.find((folder) => folder !== undefined && knowsReconnect(folder))
  if (found !== undefined) return join(found, 'domain.rng')
  const reason = 'no schema of libvirt 9.2 or later is here (CONTRIBUTING.md says how to get it)'
  if (process.env['CI']) throw new Error(reason)
  return skipHere(context, reason)
}

function knowsReconnect(folder: string): boolean {
  const path = join(folder, 'domaincommon.rng')
  if (!existsSync(path)) return false
  const nbdSource = /<define name="diskSourceNetworkProtocolNBD">[\s\S]*?<\/define>/.exec(readFileSync(path, 'utf8'))
  return nbdSource?.[0].includes('name="reconnect"') ?? false
}

/** A domain with the snippet where it belongs: whole devices, or one element in place of the usual one. */
function domainWith({ place, text }: Snippet): string {
  const element = /^<(\w+)/.exec(text.trim())?.[1]
  const usual: Record<string, string> = {
    emulator: '',
    driver: "<driver name='qemu' type='raw'/>",
    host: "<host transport='unix' socket='/run/vmstore/main.sock'/>",
    reconnect: '',
  }
  const part = (name: string) => (element === name ? text : usual[name]!)
  if (element === 'domain') return text
  if (element !== 'disk' && element !== 'source' && !(element! in usual)) assert.fail(`${place}: where does it belong?`)
  // Prose shows a source often by its opening tag alone.
  const opening = element === 'source' && !text.endsWith('</source>') ? text : "<source protocol='nbd' name='web01'>"
  const source = text.endsWith('</source>') ? text : `${opening}${part('host')}${part('reconnect')}</source>`
  const disk = `<disk type='network' device='disk'>${part('driver')}${source}<target dev='vda' bus='virtio'/></disk>`
  return (
    "<domain type='kvm'><name>web01</name><memory unit='MiB'>1024</memory><os><type>hvm</type></os>" +
    `<devices>${part('emulator')}${element === 'disk' ? text : disk}</devices></domain>\n`
  )
}

/** What xmllint says against a document, or nothing: virt-xml-validate calls it so. */
async function faultsOf(schema: string, xml: string): Promise<string> {
  const path = join(temporaryFolder(), 'domain.xml')
  writeFileSync(path, xml)
  return run('xmllint', '--noout', '--relaxng', schema, path).then(
    () => '',
    (error: Error & { stderr?: string }) => error.stderr || error.message,
  )
}

describe('the XML in README and docs', function () {
  this.timeout(60_000)
  let schema: string
  removeFoldersAfterEach()

  before(function () {
    needTool(this, 'xmllint')
    schema = schemaFile(this)
  })

  it('is what libvirt takes for a domain, its disks and their parts', async () => {
    const blocks = fenced('xml')
    // Elements, or their opening tags with attributes: `<emulator>` alone is only a name.
    const parts = quoted().filter(({ text }) => /^<\w+(?: .*|>.*<\/\w+)>$/.test(text))
    assert(blocks.length >= 2 && parts.length >= 2, 'the documents have XML')
    for (const snippet of [...blocks, ...parts]) {
      assert.equal(await faultsOf(schema, domainWith(snippet)), '', snippet.place)
    }
  })

  it('would be refused with an element that libvirt does not know, at each of these places', async () => {
    for (const text of [
      "<reconnect delays='30'/>",
      "<driver name='qemu' type='raw' error='stop'/>",
      "<host transport='unix' path='/run/vmstore/main.sock'/>",
      "<source protocol='nbd' name='web01'><reconnect/></source>",
      "<source protocol='nbd' name='web01' tls='on'>",
      "<emulator path='/usr/bin/qemu-system-x86_64'/>",
    ]) {
      assert.match(await faultsOf(schema, domainWith({ place: 'here', text })), /fails to validate/, text)
    }
  })
})
