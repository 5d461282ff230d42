// A herd: connections by the hundred that are made, and then do as they are told, or nothing; who is sent away comes again.
// All are ended after the test.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import { createInterface } from 'node:readline'
import { afterwards } from '../e2e/sites.ts'
import { findTool } from '../tools.ts'

export type Where = Pick<TcpNetConnectOpts, 'host' | 'port'> | { readonly path: string }

/** What one of the herd does once it is connected; undefined: nothing. What comes to it is read and left aside. */
export type Act = (one: Socket) => void

export class Herd {
  readonly #where: Where
  readonly #act: Act | undefined
  readonly #sockets = new Set<Socket>()
  #isOver = false
  #sentAway = 0

  private constructor(where: Where, act: Act | undefined) {
    this.#where = where
    this.#act = act
  }

  /** Resolves when each has been connected once. */
  static async gather(count: number, where: Where, act?: Act): Promise<Herd> {
    const herd = new Herd(where, act)
    afterwards(() => herd.#end())
    await Promise.all(Array.from({ length: count }, () => new Promise<void>((resolve) => herd.#come(resolve))))
    return herd
  }

  /** How often one of them was sent away, and came again. */
  get sentAway(): number {
    return this.#sentAway
  }

  #come(arrived: () => void): void {
    const socket = connect(this.#where)
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('connect', () => {
      socket.resume()
      this.#act?.(socket)
      arrived()
    })
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (this.#isOver) return
      this.#sentAway++
      this.#come(arrived)
    })
  }

  #end(): void {
    this.#isOver = true
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** A herd of idle ones in a network namespace, as a process there; resolves when all have been connected once. */
export async function herdFrom(namespace: string, count: number, where: { host: string; port: number }): Promise<void> {
  const program = `
    const { connect } = require('node:net')
    let arrived = 0
    const come = () => {
      const socket = connect(${JSON.stringify(where)})
      socket.on('error', () => {})
      socket.once('connect', () => { socket.resume(); if (++arrived === ${count}) console.log('all') })
      socket.once('close', () => setImmediate(come))
    }
    for (let index = 0; index < ${count}; index++) come()`
  const args = [`--net=${namespace}`, process.execPath, '--eval', program]
  const child = spawn(findTool('nsenter')!, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  afterwards(async () => {
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  })
  await once(createInterface(child.stdout), 'line')
}
