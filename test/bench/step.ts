/**
 * What does a synchronous step cost beside its compute? 784-500-500-2000-10, batches of 128 in two portions, Adam, f16
 * both ways: 3.3 MB up for each portion and 3.3 MB down for each volunteer and step, on loopback. For one and two
 * headless WASM volunteers: milliseconds a step, what their leases computed of it (the longest of the portions that run
 * side by side), and the share that is left for transfers, journal and fold. The coordinator's and the journal's CPU
 * time is that of this process. With a line (100x50: 100 Mbit/s and 50 ms each way) volunteers are behind one each.
 *
 *     npm run bench -- step [rounds] [volunteers,…] [line]
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startServer } from '../../coordinator/server.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { GRID } from './grid-task.ts'
import { openLine } from './line.ts'
import { median, type Row, report } from './report.ts'

const ROUNDS = Number(process.argv[2] ?? 3)
const CROWDS = (process.argv[3] ?? '1,2').split(',').map(Number)
/** null: on loopback. */
const LINE = process.argv[4]?.split('x').map(Number) ?? null
const BATCH = 128
const PORTIONS = 2
/** Few, so that the shards are there before anything is measured: one epoch. */
const EXAMPLES = 2560
const SECONDS = 12

const parsed = parseRunSpec({
  name: 'step',
  dataset: { name: 'mnist', train: EXAMPLES, test: 100 },
  model: GRID.model,
  strategy: { name: 'synchronous', batchSize: BATCH, portionSize: BATCH / PORTIONS },
  updateRule: { name: 'adam', rate: 0.0001 },
  codec: { up: 'f16', down: 'f16' },
  stop: { epochs: 1000 },
  evaluateEveryEpochs: 0,
})
if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
const { spec } = parsed

interface Step {
  readonly ms: number
  readonly computeMs: number
  readonly coordinatorCpuMs: number
}

async function steps(volunteers: number): Promise<Step> {
  const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-step-'))
  const server = await startServer({ port: 0, dataFolder: folder, ownVolunteer: false })
  const run = server.runs.get(server.runs.create('step', spec, Date.now()).run)!
  const headless = fileURLToPath(new URL('../../client/volunteer/headless.ts', import.meta.url))
  const line = LINE && (await openLine(server.url, { megabits: LINE[0], delayMs: LINE[1] }))
  const { url } = line ?? server
  const children = Array.from({ length: volunteers }, () =>
    spawn(process.execPath, ['--import', 'tsx', headless, url, '--backend', 'wasm'], { stdio: 'ignore' }),
  )
  const seconds = (count: number) => new Promise((resolve) => setTimeout(resolve, 1000 * count))
  const seen = () => {
    const { user, system } = process.cpuUsage()
    return { at: performance.now(), version: run.parameters.version, cpuMs: (user + system) / 1000 }
  }
  try {
    while (run.history.counts.examples < EXAMPLES || run.roster.crowd < volunteers) {
      await seconds(0.1)
      if (children.some(({ exitCode }) => exitCode !== null)) throw new Error('a volunteer ended by itself')
    }
    const before = seen()
    await seconds(SECONDS)
    const after = seen()
    const count = after.version - before.version
    const speeds = run.roster.connected.map(({ examplesPerSecond }) => examplesPerSecond!)
    const slowest = Math.min(...speeds)
    return {
      ms: (after.at - before.at) / count,
      computeMs: (1000 * BATCH) / Math.min(volunteers, PORTIONS) / slowest,
      coordinatorCpuMs: (after.cpuMs - before.cpuMs) / count,
    }
  } finally {
    for (const child of children) child.kill('SIGKILL')
    line?.close()
    await server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

const rows: Row[] = []
const measured = new Map<number, Step[]>(CROWDS.map((volunteers) => [volunteers, []]))
for (let round = 1; round <= ROUNDS; round++) {
  for (const volunteers of CROWDS) {
    const step = await steps(volunteers)
    measured.get(volunteers)!.push(step)
    const { ms, computeMs, coordinatorCpuMs } = step
    rows.push({
      ...{ round, volunteers, 'ms a step': ms, compute: computeMs, beside: ms - computeMs },
      'coordinator CPU ms': coordinatorCpuMs,
    })
  }
}
const figures = [...measured].map(([volunteers, found]) => [
  `besideMs${volunteers}`,
  median(found.map(({ ms, computeMs }) => ms - computeMs)),
])
report('step', rows, Object.fromEntries(figures))
