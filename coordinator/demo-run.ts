/** The run a fresh coordinator starts with: all of MNIST, a multi-layer perceptron, Downpour SGD. */
import { readFileSync } from 'node:fs'
import { parseRunSpec } from '../shared/run-spec.ts'
import type { Runs } from './run/runs.ts'

const DEMO = new URL('../runs/demo.json', import.meta.url)

export function demoRun(runs: Runs, now: number): void {
  const parsed = parseRunSpec(JSON.parse(readFileSync(DEMO, 'utf8')))
  if (!parsed.ok) throw new Error(`invariant: runs/demo.json: ${JSON.stringify(parsed.problems)}`)
  runs.create('demo', parsed.spec, now)
}
