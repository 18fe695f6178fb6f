/**
 * The project's programs as child processes of a test: started through tsx, their output gathered, ended by the test.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export interface Program {
  readonly child: ChildProcess
  /** What it has printed so far. */
  readonly output: () => string
  readonly errors: () => string
  /** Its exit code (null where a signal ended it), once it is gone. */
  readonly exit: Promise<number | null>
  /** The first match in its standard output, past or future. */
  printed(pattern: RegExp, withinMs?: number): Promise<RegExpMatchArray>
  /** Ends it, if need be by force, and waits until it is gone. */
  end(signal?: NodeJS.Signals): Promise<number | null>
}

export function startProgram(file: string, args: string[], environment: Record<string, string> = {}): Program {
  const child = spawn(process.execPath, ['--import', 'tsx', file, ...args], {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let errors = ''
  let awoken = () => {}
  child.stdout!.on('data', (data) => {
    output += data
    awoken()
  })
  child.stderr!.on('data', (data) => {
    errors += data
  })
  const exit = new Promise<number | null>((resolve) => {
    child.once('close', (code) => {
      resolve(code)
      awoken()
    })
  })
  const over = () => child.exitCode !== null || child.signalCode !== null
  return {
    child,
    output: () => output,
    errors: () => errors,
    exit,
    async printed(pattern, withinMs = 30_000) {
      const deadline = Date.now() + withinMs
      for (;;) {
        const match = output.match(pattern)
        if (match !== null) return match
        if (over() || Date.now() > deadline) {
          const state = over()
            ? `it ended with ${child.exitCode ?? child.signalCode}`
            : `it still runs after ${withinMs} ms`
          throw new Error(`${file} did not print ${pattern}; ${state}; it said: ${output}\n${errors}`)
        }
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.max(1, deadline - Date.now()))
          awoken = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
    end(signal = 'SIGKILL') {
      if (!over()) child.kill(signal)
      return exit
    },
  }
}
