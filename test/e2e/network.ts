// Two hosts and a router between them, as network namespaces of this machine. The router can fall silent: it drops what it
// is given and tells nobody, while both hosts keep their interfaces and routes. What always holds: all is gone after the test.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { needTool, skipHere } from '../tools.ts'
import { afterwards } from './sites.ts'

const hosts = ['a', 'b'] as const
export type Host = (typeof hosts)[number]
const tools = ['ip', 'nsenter', 'tc']

export class Network {
  readonly #name: string

  private constructor(name: string) {
    this.#name = name
  }

  /** Until the end of the test, which is skipped where namespaces cannot be made. */
  static make(context: Mocha.Context): Network {
    needTool(context, ...tools)
    const network = new Network(`vms${randomBytes(4).toString('hex')}`)
    try {
      network.#make()
    } catch (error) {
      const { message } = error as Error
      skipHere(context, `network namespaces cannot be made here (${message.trim().split('\n').at(-1)})`)
    }
    return network
  }

  /** For a program that is to run at this host. */
  namespace(host: Host | 'router'): string {
    return `/run/netns/${this.#name}-${host}`
  }

  address(host: Host): string {
    return `10.77.${hosts.indexOf(host)}.2`
  }

  /** Packets of both directions vanish. */
  fallSilent(): void {
    this.#setForwarding(false)
  }

  speak(): void {
    this.#setForwarding(true)
  }

  /** What the router sends to the host takes a line of this rate, with a queue that holds so many milliseconds of it. */
  narrow(host: Host, kilobitsPerSecond: number, queueMs: number): void {
    const shape = ['tbf', 'rate', `${kilobitsPerSecond}kbit`, 'burst', '4kb', 'latency', `${queueMs}ms`]
    this.#at('router', 'tc', 'qdisc', 'replace', 'dev', `to-${host}`, 'root', ...shape)
  }

  #make(): void {
    for (const host of [...hosts, 'router'] as const) {
      const name = `${this.#name}-${host}`
      run('ip', 'netns', 'add', name)
      afterwards(() => run('ip', 'netns', 'del', name))
      this.#at(host, 'ip', 'link', 'set', 'lo', 'up')
    }
    for (const [index, host] of hosts.entries()) {
      const [near, far] = [`to-${host}`, `${this.#name}-${host}`]
      this.#at('router', 'ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', far)
      this.#at('router', 'ip', 'address', 'add', `10.77.${index}.1/24`, 'dev', near)
      this.#at('router', 'ip', 'link', 'set', near, 'up')
      this.#at(host, 'ip', 'address', 'add', `${this.address(host)}/24`, 'dev', 'eth0')
      this.#at(host, 'ip', 'link', 'set', 'eth0', 'up')
      this.#at(host, 'ip', 'route', 'add', 'default', 'via', `10.77.${index}.1`)
    }
    this.speak()
  }

  /** A router that does not forward drops without an ICMP message (ip_error() of the kernel). */
  #setForwarding(isOn: boolean): void {
    const file = '/proc/sys/net/ipv4/ip_forward'
    const seen = this.#at('router', 'sh', '-c', `echo ${isOn ? 1 : 0} >${file}; cat ${file}`)
    assert.equal(seen.trim(), isOn ? '1' : '0')
  }

  #at(host: Host | 'router', ...command: string[]): string {
    return run('nsenter', `--net=${this.namespace(host)}`, ...command)
  }
}

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 })
}
