/**
 * A crowd of processes, each with one volunteer or several in it, of a chosen pace. One that is killed and replaced is
 * expected to end; any other that ends is a fault.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { CrowdProcessOptions } from './crowd-process.ts'
import type { Contributors } from './measured-crowd.ts'

const PROCESS = fileURLToPath(new URL('./crowd-process.ts', import.meta.url))

type Paces = CrowdProcessOptions['paces']

export class ProcessCrowd implements Contributors {
  failed = false
  private readonly paces: readonly Paces[]
  private url = ''
  private run = ''
  private readonly children: { child: ChildProcess; paces: Paces }[] = []
  private readonly expected = new Set<ChildProcess>()

  /** A pace for each volunteer, so many of them `together` in a process. */
  constructor(paces: Paces, together: number) {
    this.paces = Array.from({ length: Math.ceil(paces.length / together) }, (_, i) =>
      paces.slice(i * together, (i + 1) * together),
    )
  }

  start(url: string, run: string): void {
    this.url = url
    this.run = run
    for (const [at, paces] of this.paces.entries()) this.spawn(paces, at)
  }

  /** Kills the n-th process, counted round, and starts another in its place. */
  replace(n: number): void {
    const at = n % this.children.length
    const { child, paces } = this.children[at]
    this.expected.add(child)
    child.kill('SIGKILL')
    this.spawn(paces, at)
  }

  stop(): void {
    for (const { child } of this.children) {
      this.expected.add(child)
      child.kill('SIGTERM')
    }
  }

  private spawn(paces: Paces, at: number): void {
    const options: CrowdProcessOptions = { url: this.url, run: this.run, paces }
    const child = spawn(process.execPath, ['--import', 'tsx', PROCESS, JSON.stringify(options)], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      detached: true,
    })
    child.once('exit', () => {
      if (!this.expected.has(child)) this.failed = true
    })
    this.children[at] = { child, paces }
  }
}
