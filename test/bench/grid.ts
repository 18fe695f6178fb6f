/**
 * What does the grid cost? Examples per second of one and of two headless WASM volunteers on a real coordinator
 * (sockets, journal with fsync, int8 updates, f32 parameters), against a plain loop of the same step in one process,
 * and against a stock tfjs loop. 784-500-500-2000-10, batch 100, one thread a volunteer, leases of the default size.
 * A volunteer's speed is what the journal says: examples of all its updates but the first, over the time between the
 * first and the last, so starting up counts for nothing and everything else counts.
 *
 *     npm run bench -- grid [rounds]
 */
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { startServer } from '../../coordinator/server.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { GRID } from './grid-task.ts'
import { median, type Row, report } from './report.ts'

const ROUNDS = Number(process.argv[2] ?? 3)
const LOOP_SECONDS = 15
/** Updates of each volunteer, the first one aside. */
const UPDATES = 3
const LEASE_SECONDS = 15
const RUN = 'grid'

const parsed = parseRunSpec({
  name: 'grid',
  dataset: { name: 'mnist', test: 100 },
  model: GRID.model,
  strategy: { name: 'downpour', batchSize: GRID.batchSize, pushEvery: 10000, maxStaleness: 1000 },
  updateRule: { name: 'sgd', rate: GRID.rate },
  codec: { up: 'int8', down: 'f32' },
  stop: { epochs: 1000 },
  evaluateEveryEpochs: 0,
  leaseSeconds: LEASE_SECONDS,
})
if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
const { spec } = parsed

async function loop(role: 'here' | 'stock'): Promise<number> {
  const file = fileURLToPath(new URL('./grid-loop.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file, role, String(LOOP_SECONDS)])
  return Number(stdout.trim().split('\n').at(-1))
}

/** Examples per second of the whole grid with so many volunteers. */
async function grid(volunteers: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'crowdgrad-grid-'))
  const server = await startServer({ port: 0, dataFolder: folder, ownVolunteer: false })
  server.runs.create(RUN, spec, Date.now())
  const headless = fileURLToPath(new URL('../../client/volunteer/headless.ts', import.meta.url))
  const children = Array.from({ length: volunteers }, () =>
    spawn(process.execPath, ['--import', 'tsx', headless, server.url, '--backend', 'wasm'], { stdio: 'ignore' }),
  )
  try {
    const { roster } = server.runs.get(RUN)!
    const enough = () => {
      const accepted = roster.details().map(({ updatesAccepted }) => updatesAccepted)
      return accepted.length === volunteers && accepted.every((updates) => updates >= UPDATES + 2)
    }
    while (!enough()) await new Promise((resolve) => setTimeout(resolve, 500))
  } finally {
    for (const child of children) child.kill('SIGKILL')
    await server.close()
  }
  try {
    return speedOf(join(folder, 'journal.sqlite'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function speedOf(file: string): number {
  const byVolunteer = new Map<string, { at: number; examples: number }[]>()
  const journal = openSqliteJournal(file)
  for (const { kind, at, data } of journal.read(RUN, 0)) {
    if (kind !== 'update') continue
    const { volunteer, examples } = data as { volunteer: string; examples: number }
    byVolunteer.set(volunteer, [...(byVolunteer.get(volunteer) ?? []), { at, examples }])
  }
  journal.close()
  // The first lease was cut for an unknown volunteer; the next ones have the size of the time box.
  return [...byVolunteer.values()].reduce((sum, updates) => {
    const counted = updates.slice(2)
    const seconds = (counted.at(-1)!.at - updates[1].at) / 1000
    return sum + counted.reduce((examples, update) => examples + update.examples, 0) / seconds
  }, 0)
}

const rows: Row[] = []
const measured = { loop: [] as number[], one: [] as number[], two: [] as number[], stock: [] as number[] }
for (let round = 1; round <= ROUNDS; round++) {
  const row = { round, stock: await loop('stock'), loop: await loop('here'), one: await grid(1), two: await grid(2) }
  rows.push(row)
  for (const name of ['loop', 'one', 'two', 'stock'] as const) measured[name].push(row[name])
}
const over = (a: number[], b: number[]) => median(a.map((value, i) => value / b[i]))
console.log('Examples per second.\n')
report('grid', rows, {
  gridOverLoop: over(measured.one, measured.loop),
  gridOverStock: over(measured.one, measured.stock),
  twoOverOne: over(measured.two, measured.one),
})
