/**
 * All runs of this coordinator, and the journal they share. Routes a volunteer's question to its run, and journals what
 * is accepted before it is folded in and answered. Like run.ts it reads no clock and starts no timer; the shell calls
 * `expire` every second, and hears of what happened through `Listener`.
 */
import type { LiveEvent, RunDetail, RunMetrics, RunState } from '../../shared/api.ts'
import {
  type DownloadRequest,
  type GiveBackRequest,
  isRefusal,
  type LeaseReply,
  type Refusal,
  type Reply,
  refuse,
  type Start,
  type UpdateRequest,
  type Verdict,
} from '../../shared/protocol.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Blob, Dataset } from '../datasets/dataset.ts'
import { identityOf } from '../datasets/identity.ts'
import { type Entry, type Journal, type NewEntry, StorageError } from '../journal/journal.ts'
import { assigned } from './assignment.ts'
import { type Alarm, type CreatedData, Durability } from './durability.ts'
import { WAIT_MS } from './granting.ts'
import type { History } from './history.ts'
import { ModelBlobs } from './model-blobs.ts'
import { OpenDatasets } from './open-datasets.ts'
import type { Introduction } from './roster.ts'
import { Run, type Settlement } from './run.ts'

interface Listener extends Alarm {
  /** There may be work now for a volunteer that was told to wait. */
  work(): void
  event(event: LiveEvent): void
}

export interface Surroundings {
  readonly journal: Journal
  openDataset(spec: RunSpec['dataset']): Dataset
  /** Names bytes by their SHA-256. */
  blob(bytes: Uint8Array): Blob
  /** Unlike that of any other process on the same journal: lease ids are never used twice. */
  readonly boot: string
  readonly listener: Listener
}

const DATA_WERE_GONE = 'its data were not there when the coordinator was started'

/** After a write failed: when volunteers try again. */
const STORAGE_RETRY_MS = 5_000

export class Runs {
  private readonly surroundings: Surroundings
  private readonly runs = new Map<string, Run>()
  private readonly models: ModelBlobs
  private readonly datasets: OpenDatasets
  private readonly durability: Durability
  /** Volunteers of this process, and the run each works on. */
  private readonly volunteers = new Map<
    string,
    { introduction: Introduction; wanted: string | undefined; run: string | null }
  >()

  constructor(surroundings: Surroundings) {
    this.surroundings = surroundings
    this.models = new ModelBlobs(surroundings.blob)
    this.datasets = new OpenDatasets(surroundings.openDataset)
    this.durability = new Durability(surroundings.journal, surroundings.listener, (run) => this.models.forget(run))
  }

  /** Why the last write to the journal failed: nothing is accepted until one succeeds. */
  get storageFault(): string | null {
    return this.durability.fault
  }

  /** Brings back every run of the journal. */
  recover(now: number): void {
    const { journal, boot } = this.surroundings
    for (const id of journal.runs()) {
      const run = this.durability.recover(id, ({ spec, createdAt, data }, checkpoint) => {
        return new Run(id, spec, this.datasets.again(id, spec, data), boot, createdAt, checkpoint)
      })
      this.runs.set(run.id, run)
      if (run.lacking !== null) {
        this.surroundings.listener.warn('the data of a run are not there', { run: id, why: run.lacking })
      }
      if (run.state === 'running') {
        const recovered: NewEntry = { run: id, at: now, kind: 'recovered', data: null, payload: null }
        const paused = run.lacking === null ? [] : [entering(run, 'paused', DATA_WERE_GONE, now)]
        for (const entry of this.durability.append([recovered, ...paused])) run.history.fold(entry)
      }
      run.follow()
      // Where the process was gone before its last checkpoint was written.
      if (run.over) this.durability.saveCheckpoint(run)
      this.durability.restIfOver(run)
    }
  }

  // ---- operators ------------------------------------------------------------------------------------------------

  /** Creates a run and starts it. Throws Unfit where the dataset cannot be opened or the model does not fit it. */
  create(id: string, spec: RunSpec, now: number): RunDetail {
    const dataset = this.datasets.fitting(spec)
    const run = new Run(id, spec, dataset, this.surroundings.boot, now)
    const data: CreatedData = { spec, createdAt: now, data: identityOf(dataset) }
    // Together: a run that is journalled has begun.
    const created: NewEntry = { run: id, at: now, kind: 'created', data, payload: null }
    const entries = this.durability.append([created, entering(run, 'running', null, now)])
    this.runs.set(run.id, run)
    return this.changed(run, entries, now)
  }

  list(): Run[] {
    return [...this.runs.values()].reverse()
  }

  get(id: string): Run | undefined {
    return this.runs.get(id)
  }

  metrics(run: Run): RunMetrics {
    const { train, test } = run.history.series
    return { run: run.id, train: [...train], test: [...test], iterations: [...(run.history.strategy.history ?? [])] }
  }

  /** What the run has come to; of one that failed, as its last good checkpoint has it. */
  lastGood(run: Run): History {
    return this.durability.lastGood(run)
  }

  /** Moves a run into a state; a string says why it cannot. */
  move(run: Run, state: RunState, reason: string | null, now: number): RunDetail | string {
    const entry = run.transition(state, reason, now)
    if (typeof entry === 'string') return entry
    return this.changed(run, this.durability.append([entry]), now)
  }

  /** What an operator, or we ourselves, did to a run is in the journal. */
  private changed(run: Run, entries: readonly Entry[], now: number): RunDetail {
    this.durability.fold(() => {
      for (const entry of entries) run.history.fold(entry)
      run.follow()
    })
    if (entries[0].kind === 'created' || run.state === 'finished') this.durability.saveCheckpoint(run)
    this.durability.restIfOver(run)
    this.surroundings.listener.work()
    return this.tell(run, now)
  }

  // ---- volunteers -----------------------------------------------------------------------------------------------

  hello(introduction: Introduction, wanted: string | undefined, now: number): Refusal | null {
    if (wanted !== undefined && !this.runs.has(wanted)) return refuse('run-unknown', `there is no run ${wanted}`)
    const before = this.volunteers.get(introduction.volunteer)
    // Its connection of before is dead, whether anybody has noticed or not.
    if (before !== undefined) this.bye(introduction.volunteer, now)
    this.volunteers.set(introduction.volunteer, { introduction, wanted, run: before?.run ?? null })
    this.assign(introduction.volunteer, now)
    return null
  }

  bye(volunteer: string, now: number): void {
    for (const run of this.runs.values()) run.leave(volunteer, now)
    this.volunteers.delete(volunteer)
    this.surroundings.listener.work()
  }

  /** The run the volunteer works on now. */
  runOf(volunteer: string): Run | undefined {
    return this.runs.get(this.volunteers.get(volunteer)?.run ?? '')
  }

  lease(volunteer: string, now: number): LeaseReply | Refusal {
    const run = this.assign(volunteer, now)
    if (run === undefined) return { ok: true, waitMs: WAIT_MS, reason: 'no run is under way' }
    let elsewhere = 0
    for (const other of this.runs.values()) if (other !== run) elsewhere += other.holds(volunteer)
    return run.lease(volunteer, () => this.models.hashOf(run), elsewhere, now)
  }

  start(volunteer: string, lease: string, now: number): Start | Refusal {
    const run = this.runHolding(volunteer, lease)
    const start = isRefusal(run) ? run : run.start(volunteer, lease, now)
    // What is refused may be free again; and the next one that a trusted one is to do may be of another run.
    if (isRefusal(start) || this.volunteers.get(volunteer)?.introduction.trusted) this.surroundings.listener.work()
    return start
  }

  /** May this update be sent? null means yes. */
  announce(volunteer: string, update: UpdateRequest, now: number): Refusal | null {
    const run = this.runHolding(volunteer, update.lease)
    if (isRefusal(run)) return run
    const refusal = run.announce(volunteer, update, now)
    this.failDiverged(run, now)
    if (refusal !== null) this.surroundings.listener.work()
    return refusal
  }

  /** More bytes of an announced update have come; a refusal where nobody wants them any more. */
  uploading(volunteer: string, lease: string, now: number): Refusal | null {
    const run = this.runHolding(volunteer, lease)
    if (isRefusal(run)) return run
    const refusal = run.uploading(volunteer, lease, now)
    if (refusal !== null) this.surroundings.listener.work()
    return refusal
  }

  /** Takes an update: when it is answered, it is in the journal and folded in. */
  submit(volunteer: string, update: UpdateRequest, payload: Uint8Array, now: number): Verdict | Refusal {
    const run = this.runHolding(volunteer, update.lease)
    if (isRefusal(run)) return run
    const submission = run.submit(volunteer, update, payload, now)
    if (isRefusal(submission)) {
      this.failDiverged(run, now)
      this.surroundings.listener.work()
      return submission
    }
    const { entry } = submission
    let written: Entry | null
    try {
      written = entry && this.durability.append([entry])[0]
    } catch (error) {
      run.unsettle(submission, now)
      return storageRefusal(error)
    }
    const settlement = this.durability.fold(() => run.settle(submission, written, now))
    const answer = this.answer(volunteer, update.next, settlement, now)
    this.announceEvents(run, settlement, now)
    if (run.history.checkpointDue || run.state === 'finished') this.durability.saveCheckpoint(run)
    this.durability.restIfOver(run)
    this.surroundings.listener.work()
    return answer
  }

  /** Even what the coordinator's own volunteer computes is no number: the run fails. */
  private failDiverged(run: Run, now: number): void {
    if (run.failure === null || run.state !== 'running') return
    try {
      this.move(run, 'failed', run.failure, now)
    } catch (error) {
      // Where it cannot be written now, the next refusal brings it here again.
      if (!(error instanceof StorageError)) throw error
    }
  }

  giveBack(volunteer: string, { lease }: GiveBackRequest): Reply<object> {
    const run = this.runHolding(volunteer, lease)
    if (isRefusal(run)) return run
    const refusal = run.giveBack(volunteer, lease)
    if (refusal !== null) return refusal
    this.surroundings.listener.work()
    return { ok: true }
  }

  // ---- time -----------------------------------------------------------------------------------------------------

  /** Takes back what is overdue, and lets the runs' clocks show. */
  expire(now: number): void {
    let any = false
    for (const run of this.runs.values()) any = run.expire(now) || any
    if (any) this.surroundings.listener.work()
  }

  /** The last act of an orderly stop: a checkpoint of every run, so that the next start has nothing to fold. */
  close(): void {
    for (const run of this.runs.values()) this.durability.saveCheckpoint(run)
  }

  /** Some bytes of what a lease named, and the whole they are of. */
  download(
    volunteer: string,
    { blob, offset, length }: DownloadRequest,
  ): { whole: Uint8Array; bytes: Uint8Array } | Refusal {
    const run = 'run' in blob ? this.runs.get(blob.run) : this.runOf(volunteer)
    const whole =
      'hash' in blob
        ? (this.blob(blob.hash) ?? refuse('blob-unknown', `there is no blob ${blob.hash}`))
        : (run?.versions.find(blob.version) ?? refuse('run-unknown', `there is no run ${blob.run}`))
    if (isRefusal(whole)) return whole
    if (offset >= whole.length) return refuse('malformed', `the blob has ${whole.length} bytes, asked from ${offset}`)
    const bytes = whole.subarray(offset, offset + length)
    if (run !== undefined) run.bytesDown += bytes.length
    return { whole, bytes }
  }

  /** A model or a shard by its hash, where one of that hash was named in a lease. */
  blob(hash: string): Uint8Array | null {
    return this.models.find(hash) ?? this.datasets.shard(hash)
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  /** The run a volunteer is to work on, which it then joins: the one it asked for, or the one it is assigned to. */
  private assign(volunteer: string, now: number): Run | undefined {
    const record = this.volunteers.get(volunteer)
    if (record === undefined) throw new Error(`invariant: ${volunteer} did not say hello`)
    const { introduction, wanted } = record
    const current = this.runs.get(record.run ?? '')
    const chosen = wanted !== undefined ? this.runs.get(wanted) : assigned(introduction, current, this.list())
    if (chosen !== undefined && (chosen !== current || chosen.roster.get(volunteer)?.connected !== true)) {
      if (chosen !== current) current?.leave(volunteer, now)
      chosen.join(introduction, now)
      record.run = chosen.id
    }
    return chosen
  }

  /** A lease's id begins with its run's. */
  private runOfLease(lease: string): Run | undefined {
    return this.runs.get(lease.split('.')[0])
  }

  private runHolding(volunteer: string, lease: string): Run | Refusal {
    const run = this.runOfLease(lease)
    if (run === undefined) return refuse('lease-unknown', `no lease ${lease} is held; ask for a new one`)
    if (run.roster.get(volunteer) === undefined)
      return refuse('lease-foreign', `lease ${lease} belongs to another volunteer`)
    return run
  }

  /** The answer to an accepted update carries what the volunteer would ask for next: no round trip is lost. */
  private answer(
    volunteer: string,
    next: string | undefined,
    { version, staleness }: Settlement,
    now: number,
  ): Verdict {
    const accepted = { ok: true, verdict: 'accepted', version, staleness } as const
    // Where it was started before, by another answer, that one brought more.
    const first = next !== undefined && this.runOfLease(next)?.isToBegin(volunteer, next) === true
    const start = next === undefined ? undefined : this.start(volunteer, next, now)
    if (start === undefined || isRefusal(start)) return accepted
    if (!first) return { ...accepted, start }
    const more = this.volunteers.has(volunteer) ? this.lease(volunteer, now) : undefined
    return more !== undefined && 'lease' in more ? { ...accepted, start, lease: more.lease } : { ...accepted, start }
  }

  private announceEvents(run: Run, { train, test }: Settlement, now: number): void {
    const { listener } = this.surroundings
    if (train !== null) listener.event({ type: 'train', run: run.id, point: train })
    if (test !== null) listener.event({ type: 'test', run: run.id, point: test })
    if (test !== null) this.tell(run, now)
  }

  private tell(run: Run, now: number): RunDetail {
    const detail = run.detail(now)
    this.surroundings.listener.event({ type: 'run', run: detail })
    return detail
  }
}

/** The entry that brings the run into a state that nothing keeps it from. */
function entering(run: Run, state: RunState, reason: string | null, now: number): NewEntry {
  const entry = run.transition(state, reason, now)
  if (typeof entry === 'string') throw new Error(`invariant: ${entry}`)
  return entry
}

/** The lease is as it was. Throws what is no fault of the storage. */
function storageRefusal(error: unknown): Refusal {
  if (!(error instanceof StorageError)) throw error
  const code = error.fault === 'full' ? 'storage-full' : 'storage-failed'
  return refuse(code, `${error.message}; the update was not taken, send it again`, STORAGE_RETRY_MS)
}
