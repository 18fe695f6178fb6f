/**
 * A trial as anybody would run it: `npm run train -- spec.json --volunteers N --data folder --json`. What the folder
 * holds already goes on from where it was.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RunSpec } from '../../../shared/run-spec.ts'
import { Interrupted } from './interrupted.ts'

const CHILD = fileURLToPath(new URL('./train-child.ts', import.meta.url))

/**
 * Trains to the end and returns the bytes that went down since it was started. Throws Interrupted when `signal` says
 * so.
 */
export async function trainByCommand(
  folder: string,
  spec: RunSpec,
  volunteers: number,
  signal: AbortSignal,
): Promise<{ bytesDown: number }> {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'spec.json')
  writeFileSync(file, `${JSON.stringify(spec, null, 2)}\n`)
  const options = ['--volunteers', String(volunteers), '--data', folder, '--json']
  // In a process group of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once. Twice,
  // `train` would end at once.
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD, file, ...options], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    detached: true,
  })
  let output = ''
  child.stdout!.on('data', (data) => {
    output += data
  })
  const interrupt = () => child.kill('SIGINT')
  signal.addEventListener('abort', interrupt)
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  signal.removeEventListener('abort', interrupt)
  if (signal.aborted) throw new Interrupted()
  if (code !== 0) throw new Error(`npm run train -- ${file} ended with ${code}; it says why above`)
  return JSON.parse(output.trim().split('\n').at(-1)!) as { bytesDown: number }
}
