/**
 * What does SQLite take to make updates durable? (A coordinator does not wait for it: its journal has a tail.)
 * Microseconds of CPU and of time for one 55 kB update, appended in groups of 1, 8 and 64, beside the floor: the same
 * bytes written one after the other to a plain file, fdatasync after each group. And what a checkpoint and a replay
 * cost.
 *
 *     npm run bench -- journal [folder]
 *
 * The folder decides: it must lie on the disk in question (/tmp may be memory). Journal and floor take turns, several
 * rounds, each in a new file; figures are medians. CPU is of all threads, user and system.
 */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Checkpoint, NewEntry } from '../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import { ranges } from '../../shared/layout.ts'
import { payload } from '../support/journal-entries.ts'
import { median, type Row, report } from './report.ts'

const PAYLOAD_BYTES = 55_000
const ROUNDS = 5
/** Updates a round and group size. */
const UPDATES = 1024
const GROUPS = [1, 8, 64]
/** The seed's 784-500-500-2000-10 with Adagrad: parameters and sums of squares. */
const CHECKPOINT_FLOATS = 1_665_010

const folder = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'crowdgrad-bench-'))
let files = 0
const newPath = () => join(folder, `${++files}`)
const remove = (path: string) => {
  for (const suffix of ['', '-wal', '-journal']) rmSync(path + suffix, { force: true })
}

interface Cost {
  readonly wallUs: number
  readonly cpuUs: number
}
function cost(work: () => void, per: number): Cost {
  const cpu = process.cpuUsage()
  const from = performance.now()
  work()
  const wallUs = (1000 * (performance.now() - from)) / per
  const { user, system } = process.cpuUsage(cpu)
  return { wallUs, cpuUs: (user + system) / per }
}
const medians = (costs: readonly Cost[]): Cost => ({
  wallUs: median(costs.map((each) => each.wallUs)),
  cpuUs: median(costs.map((each) => each.cpuUs)),
})

const update: NewEntry = {
  run: 'run-1',
  at: Date.now(),
  kind: 'update',
  data: { lease: 'k3v9x0', volunteer: 'v-71', version: 812, examples: 512, loss: 0.31, staleness: 3 },
  payload: payload(1, PAYLOAD_BYTES),
}

function appendAll(group: number): Cost {
  const path = newPath()
  const journal = openSqliteJournal(path)
  const entries = new Array<NewEntry>(group).fill(update)
  const measured = cost(() => {
    for (let done = 0; done < UPDATES; done += group) journal.append(entries)
  }, UPDATES)
  journal.close()
  remove(path)
  return measured
}

function writeAll(group: number): Cost {
  const path = newPath()
  const file = openSync(path, 'w')
  const bytes = Buffer.alloc(group * PAYLOAD_BYTES, update.payload as Uint8Array)
  const measured = cost(() => {
    for (let done = 0; done < UPDATES; done += group) {
      writeSync(file, bytes)
      fdatasyncSync(file)
    }
  }, UPDATES)
  closeSync(file)
  remove(path)
  return measured
}

const rows: Row[] = []
const figures: Record<string, number> = {}
const megabytesPerSecond = ({ wallUs }: Cost) => PAYLOAD_BYTES / wallUs
for (const group of GROUPS) {
  const journal: Cost[] = []
  const floor: Cost[] = []
  for (let round = 0; round < ROUNDS; round++) {
    journal.push(appendAll(group))
    floor.push(writeAll(group))
  }
  const append = medians(journal)
  const write = medians(floor)
  const fraction = write.wallUs / append.wallUs
  rows.push({
    group,
    'append wall µs': append.wallUs,
    'append CPU µs': append.cpuUs,
    'MB/s': megabytesPerSecond(append),
    'write+fsync wall µs': write.wallUs,
    'write+fsync CPU µs': write.cpuUs,
    'write+fsync MB/s': megabytesPerSecond(write),
    'fraction of it': fraction,
  })
  Object.assign(figures, {
    [`append${group}WallUs`]: append.wallUs,
    [`append${group}CpuUs`]: append.cpuUs,
    [`append${group}OverRawWrite`]: fraction,
  })
}

/** Saving, loading, replaying and pruning, in milliseconds. */
function recovery(): Record<string, number> {
  const path = newPath()
  const journal = openSqliteJournal(path)
  const vectors = ['parameters', 'squares'].flatMap((name) => {
    const values = new Float32Array(CHECKPOINT_FLOATS).fill(0.1)
    return ranges(CHECKPOINT_FLOATS).map(({ index, from, to }) => ({
      name,
      range: index,
      values: values.subarray(from, to),
    }))
  })
  const checkpoint: Checkpoint = { run: update.run, seq: 1, state: {}, vectors }
  journal.append(new Array<NewEntry>(400).fill(update))
  const milliseconds = (work: () => void) => cost(work, 1).wallUs / 1000
  let count = 0
  const measured = {
    saveCheckpointMs: milliseconds(() => journal.saveCheckpoint({ ...checkpoint, seq: 200 })),
    loadCheckpointMs: milliseconds(() => journal.loadCheckpoint(update.run)),
    replay400Ms: milliseconds(() => {
      for (const { payload } of journal.read(update.run, 0)) count += payload === null ? 0 : 1
    }),
    prune200Ms: Number.NaN,
  }
  if (count !== 400) throw new Error(`invariant: expected 400 payloads, read ${count}`)
  journal.saveCheckpoint({ ...checkpoint, seq: 400 })
  measured.prune200Ms = milliseconds(() => journal.prune(update.run))
  journal.close()
  remove(path)
  return measured
}
const recoveries = Array.from({ length: ROUNDS }, recovery)
for (const name of Object.keys(recoveries[0])) figures[name] = median(recoveries.map((each) => each[name]))
rmSync(folder, { recursive: true })

const { saveCheckpointMs, loadCheckpointMs, replay400Ms, prune200Ms } = figures
console.log(`55 kB updates, ${UPDATES} a round, ${ROUNDS} rounds, in ${folder}\n`)
console.log(
  `checkpoint of 2 × ${CHECKPOINT_FLOATS} floats: save ${Math.round(saveCheckpointMs)} ms, load ${Math.round(loadCheckpointMs)} ms`,
)
console.log(`400 entries: replay ${Math.round(replay400Ms)} ms; prune of 200 ${prune200Ms.toFixed(1)} ms\n`)
report('journal', rows, figures)
