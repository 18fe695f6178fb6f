/**
 * What does overlapping leases bring on a slow line? Examples per second of one headless WASM volunteer behind a line
 * of 20 Mbit/s and 20 ms each way, with `overlap` and without, for leases of some sizes; the same volunteer on loopback
 * beside it. 784-512-256-10, batches of 64, int8 up and f16 down: 0.5 MB up and 1.1 MB down a lease.
 *
 *     npm run bench -- slow-line
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startServer } from '../../coordinator/server.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { openLine } from './line.ts'
import { type Row, report } from './report.ts'

const LINE = { megabits: 20, delayMs: 20 }
const PUSHES = [8, 32, 128]
/** Few, so that the shards are there before anything is measured. */
const EXAMPLES = 10_000
const SECONDS = 12

async function examplesPerSecond(pushEvery: number, overlap: boolean, slow: boolean): Promise<number> {
  const parsed = parseRunSpec({
    name: 'slow-line',
    dataset: { name: 'mnist', train: EXAMPLES, test: 100 },
    model: { template: 'mlp', hidden: [512, 256] },
    strategy: { name: 'downpour', batchSize: 64, pushEvery, overlap },
    updateRule: { name: 'sgd', rate: 0.01 },
    codec: { up: 'int8', down: 'f16' },
    stop: { epochs: 1000 },
    evaluateEveryEpochs: 0,
  })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-slow-line-'))
  const coordinator = await startServer({ port: 0, dataFolder: folder, ownVolunteer: false })
  const { run } = coordinator.runs.create('slow', parsed.spec, Date.now())
  const slowed = await openLine(coordinator.url, LINE)
  const address = slow ? slowed.url : coordinator.url
  const headless = fileURLToPath(new URL('../../client/volunteer/headless.ts', import.meta.url))
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', headless, address, '--backend', 'wasm'], {
    stdio: 'ignore',
  })
  const counted = () => coordinator.runs.get(run)!.history.counts.examples
  const seconds = (count: number) => new Promise((resolve) => setTimeout(resolve, 1000 * count))
  try {
    while (counted() < EXAMPLES) await seconds(0.1)
    const before = { examples: counted(), at: performance.now() }
    await seconds(SECONDS)
    return (1000 * (counted() - before.examples)) / (performance.now() - before.at)
  } finally {
    child.kill('SIGKILL')
    slowed.close()
    await coordinator.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

const rows: Row[] = []
const figures: Record<string, number> = {}
for (const pushEvery of PUSHES) {
  const near = await examplesPerSecond(pushEvery, false, false)
  const awaited = await examplesPerSecond(pushEvery, false, true)
  const overlapped = await examplesPerSecond(pushEvery, true, true)
  rows.push({ 'minibatches a lease': pushEvery, loopback: near, awaited, overlapped, gain: overlapped / awaited })
  figures[`overlapOverAwaited${pushEvery}`] = overlapped / awaited
}
console.log('Examples per second.\n')
report('slow-line', rows, figures)
