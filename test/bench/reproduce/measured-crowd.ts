/**
 * A trial with a crowd made to measure: a coordinator in this process, and volunteers of a chosen pace in processes of
 * their own, or browser tabs. Training begins when all of them are there. Volunteers are killed and replaced where the
 * trial says so. An interrupted run goes on where the folder has it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Run } from '../../../coordinator/run/run.ts'
import { type RunningServer, startServer } from '../../../coordinator/server.ts'
import type { RunState } from '../../../shared/api.ts'
import type { RunSpec } from '../../../shared/run-spec.ts'
import { Interrupted } from './interrupted.ts'
import { ProcessCrowd } from './process-crowd.ts'
import type { Crowd } from './row.ts'
import { TabCrowd } from './tab-crowd.ts'

const LOOK_MS = 20
const SPEAK_MS = 15_000
/** So long may somebody be missing. */
const MISSED_MS = 60_000
/** So long may a crowd take to come together, on a machine that does much else. */
const GATHER_WITHIN_MS = 300_000

interface CrowdReport {
  /** Since this process was started. */
  readonly bytesDown: number
  readonly replaced: number
  /** What tabs computed on: `wasm`. */
  readonly backends: readonly string[]
}

/** Who computes. */
export interface Contributors {
  /** One of them ended by itself. */
  readonly failed: boolean
  start(address: string, run: string): void | Promise<void>
  replace?(n: number): void
  stop(): void | Promise<void>
}

/** Trains to the end. Throws Interrupted when `signal` says so. */
export async function trainWithCrowd(
  folder: string,
  spec: RunSpec,
  { volunteers, measured = {} }: Crowd,
  signal: AbortSignal,
  say: (words: string) => void,
): Promise<CrowdReport> {
  const { pace = null, tabs = false, together = 1, replaceAfter = [] } = measured
  const server = await startServer({
    onBroken: (error) => {
      throw error
    },
    port: 0,
    dataFolder: folder,
  })
  const paces = Array.from({ length: volunteers }, (_, i) => (Array.isArray(pace) ? pace[i] : pace))
  const crowd: Contributors = tabs ? new TabCrowd(volunteers) : new ProcessCrowd(paces, together)
  /** Waits a little. A tab that gave up still has its page: it is missed. */
  const look = async (patience: number) => {
    if (signal.aborted) throw new Interrupted()
    if (crowd.failed) throw new Error('a volunteer ended by itself; it says why above')
    if (run.roster.crowd >= volunteers) complete = Date.now()
    if (Date.now() - complete > patience)
      throw new Error(`only ${run.roster.crowd} of ${volunteers} volunteers are there`)
    await sleep(LOOK_MS)
  }
  let complete = Date.now()
  let run: Run
  try {
    run = await paused(server, spec)
    if (run.state === 'paused') {
      await crowd.start(server.url, run.id)
      while (run.roster.crowd < volunteers) await look(GATHER_WITHIN_MS)
      move(server, run, 'running')
    }
    const updates = () => run.history.counts.updates
    // What was replaced before an interruption is not replaced again.
    const due = replaceAfter.filter((after) => after > updates())
    let replaced = replaceAfter.length - due.length
    let spoken = Date.now()
    while (!run.over) {
      await look(MISSED_MS)
      if (due.length > 0 && updates() >= due[0]) {
        due.shift()
        crowd.replace?.(replaced++)
      }
      if (Date.now() - spoken < SPEAK_MS) continue
      spoken = Date.now()
      const { epoch, epochs, trainLoss, meanStaleness, examplesPerSecond } = run.detail(spoken)
      say(
        `${epoch.toFixed(2)}/${epochs}, loss ${trainLoss?.toFixed(4)}, staleness ${meanStaleness.toFixed(1)}, ${Math.round(examplesPerSecond)} examples/s`,
      )
    }
    if (run.state === 'failed') throw new Error(`the run failed: ${run.history.reason}`)
    const own = run.detail(Date.now()).volunteers.filter(({ trusted }) => !trusted)
    const backends = tabs ? [...new Set(own.map(({ backend }) => backend))] : []
    return { bytesDown: run.bytesDown, replaced, backends }
  } finally {
    await crowd.stop()
    await server.close()
  }
}

/**
 * The run of this spec that the folder holds, or a new one, at rest until its crowd is there; a finished one as it is.
 */
async function paused(server: RunningServer, spec: RunSpec): Promise<Run> {
  const { runs } = server
  let run = runs.list().find((other) => isDeepStrictEqual(other.spec, spec) && other.state !== 'failed')
  if (run === undefined) {
    const now = Date.now()
    run = runs.get(runs.create(`r${now.toString(36)}`, spec, now).run)!
  }
  if (run.state === 'running') move(server, run, 'paused')
  return run
}

function move({ runs }: RunningServer, run: Run, state: RunState): void {
  const outcome = runs.move(run, state, null, Date.now())
  if (typeof outcome === 'string') throw new Error(outcome)
}
