/**
 * Carrying a trial out: in a folder of its own, where an interrupted one goes on and a finished one is only read. What
 * the journal does not know of it (commit, machine, what went down) is kept beside it.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { StorageError } from '../../../coordinator/journal/journal.ts'
import { openSqliteJournal } from '../../../coordinator/journal/sqlite-journal.ts'
import { trainWithCrowd } from './measured-crowd.ts'
import type { Places } from './places.ts'
import { writePicture } from './results.ts'
import type { Crowd, Outcome, Row, Trial } from './row.ts'
import { trainByCommand } from './train-command.ts'
import { readTrainedRun } from './trained-run.ts'

/** What makes two trials the same. */
interface Identity {
  readonly spec: Trial['spec']
  readonly crowd: Crowd
}

/** A trial that has begun, and by which code. */
interface Begun extends Identity {
  readonly commit: string
}

interface Kept extends Identity, Pick<Outcome, 'date' | 'commit' | 'machine' | 'replaced' | 'bytesDown'> {}

export interface Doing {
  readonly places: Places
  /** Forgets what was done before. */
  readonly fresh: boolean
  readonly signal: AbortSignal
  say(words: string): void
}

/** `siblings`: the row's trials. */
export async function outcomeOf(row: Row, trial: Trial, siblings: readonly Trial[], doing: Doing): Promise<Outcome> {
  const { places, fresh, say } = doing
  const folder = folderOf(row, trial, places)
  const identity: Identity = { spec: trial.spec, crowd: trial.crowd }
  if (fresh) forget(folder)
  const before = readJson<Begun>(join(folder, 'trial.json'))
  if (before !== null && !isDeepStrictEqual(pick(before), asKept(identity))) {
    throw new Error(
      `${folder} holds ${trial.name} with other settings: expected the same spec and crowd. ` +
        '--fresh forgets it, another --data keeps it',
    )
  }
  const finished = readJson<Kept>(join(folder, 'finished.json'))
  if (finished !== null) say(`${trial.name}: finished before, in ${folder}`)
  const kept = finished ?? (await carryOut(folder, trial, identity, doing))
  const run = readTrainedRun(folder, trial.spec)
  const { date, commit, machine, replaced, bytesDown } = kept
  const { pictures = {}, ...reading } = await row.read(run, trial, (name) => {
    const other = siblings.find((sibling) => sibling.name === name)!
    return readTrainedRun(folderOf(row, other, places), other.spec)
  })
  for (const [name, png] of Object.entries(pictures)) writePicture(`${row.name}-${name}`, png, places)
  return {
    trial: trial.name,
    seed: trial.seed,
    spec: trial.spec,
    volunteers: trial.crowd.volunteers,
    pace: trial.crowd.measured?.pace ?? null,
    ...{ date, commit, machine, replaced, bytesDown },
    ...{ seconds: run.seconds, examples: run.examples, updates: run.updates.length },
    ...{ meanStaleness: run.meanStaleness, bytesUp: run.bytesUp },
    ...reading,
  }
}

const folderOf = (row: Row, { name, sharedWith }: Trial, { data }: Places): string =>
  join(data, `${sharedWith?.row ?? row.name}-${sharedWith?.trial ?? name}`)

async function carryOut(
  folder: string,
  { name, spec, crowd }: Trial,
  identity: Identity,
  { signal, say }: Doing,
): Promise<Kept> {
  // Where time is the figure, a break in the middle would count as time.
  if (crowd.measured !== undefined && !crowd.measured.tabs) forget(folder)
  const resumed = existsSync(join(folder, 'journal.sqlite'))
  say(`${name}: ${resumed ? 'goes on' : 'begins'}, in ${folder}`)
  mkdirSync(folder, { recursive: true })
  const now = commit()
  const begun = readJson<Begun>(join(folder, 'trial.json'))?.commit ?? now
  writeFileSync(join(folder, 'trial.json'), `${JSON.stringify({ ...identity, commit: begun } satisfies Begun)}\n`)
  const { bytesDown, replaced, backends } =
    crowd.measured === undefined
      ? { ...(await trainByCommand(folder, spec, crowd.volunteers, signal)), replaced: 0, backends: [] }
      : await trainWithCrowd(folder, spec, crowd, signal, (words) => say(`${name}: ${words}`))
  const kept: Kept = {
    ...identity,
    commit: begun === now ? now : `${begun} to ${now}`,
    machine: [machine(), ...backends.map((backend) => `tabs on ${backend}`)].join(', '),
    date: new Date().toISOString(),
    replaced,
    bytesDown: resumed ? null : bytesDown,
  }
  writeFileSync(join(folder, 'finished.json'), `${JSON.stringify(kept)}\n`)
  return kept
}

/** Throws StorageError where another process is at it. */
function forget(folder: string): void {
  const journal = join(folder, 'journal.sqlite')
  try {
    if (existsSync(journal)) openSqliteJournal(journal).close()
  } catch (error) {
    // Whatever else is wrong with it, it is to be forgotten.
    if (!(error instanceof StorageError) || error.fault === 'locked') throw error
  }
  rmSync(folder, { recursive: true, force: true })
}

const pick = ({ spec, crowd }: Identity): Identity => ({ spec, crowd })
/** As it comes back from a file. */
const asKept = (identity: Identity): Identity => JSON.parse(JSON.stringify(identity))

function readJson<T>(file: string): T | null {
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as T) : null
}

/** With a plus where the code is not what was committed; results are not code. */
function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
  try {
    const results = ['results', 'plots'].map((folder) => `:!test/bench/reproduce/${folder}`)
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ...results, ':!*.md')
    return `${git('rev-parse', '--short', 'HEAD')}${changed === '' ? '' : '+'}`
  } catch {
    return 'no git'
  }
}

const machine = (): string => `${cpus()[0].model.trim()}, ${cpus().length} cores, Node ${process.versions.node}`
