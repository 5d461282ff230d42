// What a server costs, by /proc: processor time and resident memory of a process and its children.

import { readFileSync } from 'node:fs'

/** USER_HZ, which Linux promises to user space on every architecture of ours. */
const ticksPerSecond = 100
const watchIntervalMs = 200

export interface Cost {
  readonly cpuSeconds: number
  /** The most that it ever had resident; pages that children share with it count for each. */
  readonly peakBytes: number
}

/** Of the process, its children that live, and (time only) those that it has waited for. A process that is gone has none. */
export function costOf(pid: number): Cost {
  try {
    // proc_pid_stat(5): what follows the name's closing bracket begins with field 3.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
      .map(Number)
    const ticks = fields.slice(11, 15).reduce((sum, part) => sum + part, 0)
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    let cpuSeconds = ticks / ticksPerSecond
    let peakBytes = Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
    for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)) {
      const cost = costOf(Number(child))
      cpuSeconds += cost.cpuSeconds
      peakBytes += cost.peakBytes
    }
    return { cpuSeconds, peakBytes }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return { cpuSeconds: 0, peakBytes: 0 }
    throw error
  }
}

/** Looks again and again until it is disposed of, for children end with their connection. */
export function watchMemory(pid: number): Disposable & { peakBytes(): number } {
  let peakBytes = 0
  const look = (): number => {
    peakBytes = Math.max(peakBytes, costOf(pid).peakBytes)
    return peakBytes
  }
  const timer = setInterval(look, watchIntervalMs)
  return { peakBytes: look, [Symbol.dispose]: () => clearInterval(timer) }
}
