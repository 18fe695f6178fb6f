/**
 * One training run: the straight line from a volunteer's question to a new version. Read this first.
 *
 *     join ─► lease ─► start ─► (the volunteer computes) ─► submit ─► [journal] ─► settle ─► fold ─► a new version
 *
 * Pure: no clock, no randomness, no I/O; time comes in as `now` (milliseconds since 1970). `submit` checks an update
 * and says what is to be journalled; when the journal has it, `settle` folds it in and the answer may go out. What
 * `fold` changes (parameters, epochs, strategy, counters, curves, state) is durable: recovery is the same fold over
 * the same entries from the newest checkpoint. Everything else here (who is connected, which leases are out, which
 * evaluation is under way) may be lost at any instant and costs no more than the work that was out.
 */
import type { RunDetail, RunState } from '../../shared/api.ts'
import { codecs, payloadSize } from '../../shared/codec.ts'
import {
  isRefusal,
  type LeaseReply,
  type Progress,
  type Refusal,
  refuse,
  type Start,
  type UpdateRequest,
} from '../../shared/protocol.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Dataset } from '../datasets/dataset.ts'
import type { Checkpoint, Entry, NewEntry } from '../journal/journal.ts'
import { Belief, type Believed } from './belief.ts'
import { detailOf, progressOf } from './detail.ts'
import { Examiner } from './examiner.ts'
import { Granting } from './granting.ts'
import { History, type Points, type Said, type UpdateData } from './history.ts'
import { doneOf, type HeldLease, Leases, type StartedLease } from './leases.ts'
import { impossible, wrongLength } from './plausibility.ts'
import { type Introduction, type Member, Roster } from './roster.ts'

/** An update that was checked and is to be journalled. */
interface Submission {
  readonly lease: StartedLease
  readonly update: UpdateRequest
  /** null of an evaluation, which is a trusted volunteer's. */
  readonly believed: Believed | null
  /** null where nothing is durable yet: a part of an evaluation. */
  readonly entry: NewEntry | null
}

export interface Settlement extends Points {
  readonly version: number
  readonly staleness: number
}

export class Run {
  readonly id: string
  readonly spec: RunSpec
  readonly createdAt: number
  readonly roster: Roster
  /** What is durable; everything else here may be lost at any instant. */
  readonly history: History
  bytesDown = 0
  private readonly leases = new Leases((lease) => this.releaseVersion(lease))
  private readonly granting: Granting
  private readonly belief: Belief
  private examiner: Examiner
  updatesRefused = 0

  /**
   * `boot` makes this process' lease ids unlike those of any other. A checkpoint brings the run to where it was. Throws
   * where the model does not fit the dataset.
   */
  constructor(id: string, spec: RunSpec, dataset: Dataset, boot: string, createdAt: number, checkpoint?: Checkpoint) {
    this.id = id
    this.spec = spec
    this.createdAt = createdAt
    this.history = new History(spec, dataset, checkpoint)
    this.roster = new Roster((volunteer) => this.leases.count(volunteer))
    this.granting = new Granting(id, boot, this.history, this.leases, this.roster)
    this.belief = new Belief(this.history, this.roster)
    this.examiner = new Examiner(this.history, this.leases)
  }

  /**
   * After entries of the journal were folded in: what is not durable follows. Of a run that failed nothing is asked.
   */
  follow(): void {
    this.followStage()
    if (this.state === 'failed') this.examiner.end()
    else this.examiner.plan()
  }

  get state(): RunState {
    return this.history.state
  }

  /** Why it cannot go on, where its data are not there; null where they are. */
  get lacking(): string | null {
    const { absent } = this.history.dataset
    return absent && `its data are not there: put them back and start the coordinator again. ${absent}`
  }

  get model() {
    return this.history.model
  }

  get parameters() {
    return this.history.parameters
  }

  get versions() {
    return this.history.versions
  }

  private get plan() {
    return this.history.stage.plan
  }

  /** Of an encoded vector as updates bring it. */
  private get vectorBytes(): number {
    return payloadSize(codecs[this.plan.codec.up], this.model.layout.size)
  }

  /** Why the run can only fail; null while it need not. */
  get failure(): string | null {
    return this.belief.failure
  }

  /** Every planned example of this stage is counted; what is left is its last evaluation. */
  get trained(): boolean {
    return this.history.trained
  }

  /** A trusted volunteer would get work here. */
  get wantsTrusted(): boolean {
    return this.examiner.waiting || this.suspect
  }

  /** Nothing is under way that would still change what the run says of itself. */
  get over(): boolean {
    return (this.state === 'finished' || this.state === 'failed') && this.examiner.version === null
  }

  /**
   * Nobody's numbers can be believed any more: the coordinator's own volunteer computes a lease. Where its numbers are
   * no better, it is not the crowd that is at fault but the run, which has diverged.
   */
  private get suspect(): boolean {
    return this.state === 'running' && this.belief.exhausted
  }

  // ---- volunteers -----------------------------------------------------------------------------------------------

  join(introduction: Introduction, now: number): void {
    this.roster.join(introduction, now)
  }

  /**
   * The volunteer's connection is gone. The lease it computes stays out, since it may be back with it before it
   * expires; one that it has not begun is free at once.
   */
  leave(volunteer: string, now: number): void {
    for (const lease of this.leases.of(volunteer)) if (lease.state === 'granted') this.lost(lease)
    this.roster.leave(volunteer, now)
    this.history.strategy.left(volunteer)
  }

  /** Leases of this run that the volunteer holds. */
  holds(volunteer: string): number {
    return this.leases.count(volunteer)
  }

  /** The volunteer holds the lease, or any where none is named, and has not started it. */
  isToBegin(volunteer: string, id?: string): boolean {
    return this.leases.of(volunteer).some((lease) => lease.state === 'granted' && (id === undefined || lease.id === id))
  }

  /** `elsewhere`: leases of other runs that it holds. */
  lease(volunteer: string, model: () => string, elsewhere: number, now: number): LeaseReply | Refusal {
    const member = this.member(volunteer, now)
    const answer = this.granting.ofHeld(volunteer, model, elsewhere)
    if (answer !== null) return answer
    if (!member.trusted || (this.suspect && !this.examiner.waiting)) {
      return this.granting.training(member, model, elsewhere, now)
    }
    return this.granting.evaluation(member, this.examiner, model, now)
  }

  /** Binds a granted lease to a version. Asked again for a started one, the answer is the same. */
  start(volunteer: string, id: string, now: number): Start | Refusal {
    this.member(volunteer, now)
    let lease = this.leases.find(id, volunteer)
    if (isRefusal(lease)) return lease
    if (lease.state === 'granted') {
      const outlived = this.outlived(lease)
      if (outlived !== null) return this.lostFor(lease, outlived)
      if (lease.kind === 'evaluate' && this.examiner.restart()) {
        return refuse('version-gone', 'the version to be tested is not kept any more; the newest one is tested instead')
      }
      const binding =
        lease.kind === 'gradient'
          ? this.history.strategy.bind(id, volunteer, this.parameters.version, this.history.stage.rate)
          : { version: this.examiner.version, localRate: 0, continues: null }
      if (binding.version === null) return this.lostFor(lease, refuse('version-gone', 'this evaluation is over'))
      if (lease.version === null) this.versions.hold(binding.version)
      else if (lease.version !== binding.version)
        throw new Error(`invariant: lease ${id} was to start at version ${lease.version}, not ${binding.version}`)
      lease = this.leases.start(id, volunteer, { ...binding, version: binding.version }, now)
    }
    const { version, localRate, continues } = (lease as StartedLease).binding
    return { lease: id, version, localRate, continues, deadlineMs: lease.deadline - now }
  }

  /** It was held from when it was certain: when the lease was granted, or started. */
  private releaseVersion(lease: HeldLease): void {
    const version = lease.state === 'started' ? lease.binding.version : lease.version
    if (version !== null) this.versions.release(version)
  }

  /** May this update be sent? Everything but its bytes is checked; null means yes. */
  announce(volunteer: string, update: UpdateRequest, now: number): Refusal | null {
    const lease = this.answerable(volunteer, update, now)
    if (isRefusal(lease)) return this.refused(volunteer, lease)
    this.leases.announced(lease, now)
    return null
  }

  /** More bytes of an announced update have come; a refusal where nobody wants them any more. */
  uploading(volunteer: string, id: string, now: number): Refusal | null {
    const lease = this.leases.find(id, volunteer)
    if (isRefusal(lease)) return this.refused(volunteer, lease)
    const outlived = this.outlived(lease)
    if (outlived !== null) return this.refused(volunteer, this.lostFor(lease, outlived))
    this.leases.extend(id, now)
    return null
  }

  /** Checks an update; `settle` or `unsettle` is called next. */
  submit(volunteer: string, update: UpdateRequest, payload: Uint8Array, now: number): Submission | Refusal {
    const lease = this.answerable(volunteer, update, now)
    if (isRefusal(lease)) return this.refused(volunteer, lease)
    if (payload.length !== update.size) return this.refused(volunteer, wrongLength(update.size, payload.length))
    if (lease.kind === 'evaluate') {
      const said = this.examiner.add(lease, update, payload)
      return { lease, update, believed: null, entry: said && this.entry(said, now) }
    }
    const believed = this.belief.judge(lease, update, payload, now)
    if (believed !== 'outside' && isRefusal(believed)) return this.refused(volunteer, this.lostFor(lease, believed))
    const data: UpdateData = {
      lease: lease.id,
      volunteer,
      version: lease.binding.version,
      minibatches: update.minibatches,
      examples: update.examples,
      lossSum: believed === 'outside' ? null : update.lossSum,
      correct: update.correct,
      computeMs: update.computeMs,
      stretches: doneOf(lease, update).head,
      volunteers: this.roster.crowd,
    }
    return { lease, update, believed, entry: this.entry({ kind: 'update', data, payload }, now) }
  }

  /** The journal has the submission's entry: the lease is settled and its update folded in. */
  settle({ lease, update, believed }: Submission, entry: Entry | null, now: number): Settlement {
    if (lease.kind === 'gradient') this.endCopies(lease)
    this.leases.end(lease.id, 'settled')
    this.granting.settled(lease, update.examples, now)
    // It cannot have computed for longer than the lease was out: what it says is taken for at most that.
    const elapsedMs = Math.max(0, now - lease.startedAt)
    const computeMs = Math.min(update.computeMs, elapsedMs)
    this.roster.credit(lease.volunteer, update.examples, computeMs, elapsedMs - computeMs)
    const staleness = lease.kind === 'gradient' ? this.parameters.version - lease.binding.version : 0
    if (believed !== null) {
      this.belief.accepted(lease, update, believed)
      this.history.epochs.giveBack(doneOf(lease, update).tail)
    }
    const points = entry === null ? { train: null, test: null } : this.history.fold(entry)
    if (points.test?.version === this.examiner.version) this.examiner.end()
    if (update.lossSum === null && lease.kind === 'evaluate') this.examiner.giveUp(lease.binding.version)
    this.follow()
    return { version: this.parameters.version, staleness, ...points }
  }

  /** Whoever computes the same examples need not go on. */
  private endCopies(lease: StartedLease): void {
    for (const { id, volunteer } of this.leases.copies(lease)) {
      this.leases.end(id, 'given-back')
      this.history.strategy.lost(id, volunteer)
    }
  }

  /** What belongs to a stage begins anew with it. */
  private followStage(): void {
    if (this.examiner.belongsTo(this.history.stage)) return
    this.examiner = new Examiner(this.history, this.leases)
    this.belief.beginAnew()
    this.granting.beginAnew()
  }

  /** The journal could not take the submission's entry: the lease is as it was, with time to try again. */
  unsettle({ lease }: Submission, now: number): void {
    if (lease.kind === 'evaluate') this.examiner.remove(lease.id)
    this.leases.extend(lease.id, now)
  }

  giveBack(volunteer: string, id: string): Refusal | null {
    const lease = this.leases.find(id, volunteer)
    if (isRefusal(lease)) return lease
    this.lost(lease)
    return null
  }

  /** Takes back the leases whose deadline is past; true when there were any. */
  expire(now: number): boolean {
    const expired = this.leases.expire(now, (lease) => {
      this.granting.expired(lease)
      this.release(lease)
    })
    return expired.length > 0
  }

  // ---- operator -------------------------------------------------------------------------------------------------

  /** The entry that brings the run into a state, or why it cannot. */
  transition(state: RunState, reason: string | null, now: number): NewEntry | string {
    const obstacle = this.history.cannotBecome(state) ?? (state === 'running' ? this.lacking : null)
    if (obstacle !== null) return obstacle
    return this.entry({ kind: 'state', data: { state, reason }, payload: null }, now)
  }

  // ---- to look at ----------------------------------------------------------------------------------------------

  detail(now: number): RunDetail {
    return detailOf(this, now)
  }

  progress(): Progress {
    return progressOf(this)
  }

  /** The leases that are out, and the version under test: to look at only. */
  inspect(): { leases: HeldLease[]; evaluating: number | null } {
    return { leases: [...this.leases.all()], evaluating: this.examiner.version }
  }

  // ---- inside ---------------------------------------------------------------------------------------------------

  private member(volunteer: string, now: number): Member {
    const member = this.roster.get(volunteer)
    if (member === undefined) throw new Error(`invariant: volunteer ${volunteer} did not join run ${this.id}`)
    member.lastSeen = now
    return member
  }

  /**
   * The started lease that an update answers, when all that it says can be true; one that none can answer any more
   * ends.
   */
  private answerable(volunteer: string, update: UpdateRequest, now: number): StartedLease | Refusal {
    this.member(volunteer, now)
    const lease = this.leases.findStarted(update, volunteer, this.parameters.version)
    if (isRefusal(lease)) return lease
    const outlived = this.outlived(lease)
    if (outlived !== null) return this.lostFor(lease, outlived)
    const vectors = lease.compensated ? 2 : 1
    const bytes = lease.kind === 'gradient' ? vectors * this.vectorBytes : this.examiner.outcomeBytes(lease)
    const refusal = impossible(lease, update, bytes, this.history.strategy.probes === true)
    if (refusal?.code === 'non-finite') this.lost(lease)
    return refusal ?? lease
  }

  /** Why nobody wants a lease's update any more, whatever it says; null where it is wanted. */
  private outlived({ kind, stage, ...lease }: HeldLease): Refusal | null {
    if (stage !== this.history.stage.index) return refuse('stale', STAGE_OVER)
    if (kind === 'evaluate') return null
    if (this.state === 'finished' || this.state === 'failed')
      return refuse('run-not-running', `the run is ${this.state}`)
    if (lease.state === 'granted') return null
    const { maxStaleness } = this.history.strategy
    const staleness = this.parameters.version - lease.binding.version
    if (staleness <= maxStaleness) return null
    return refuse('stale', `computed ${staleness} versions ago; at most ${maxStaleness} are taken`)
  }

  /** Ends a lease that came to nothing: its examples are free again. */
  private lost(lease: HeldLease): void {
    this.release(lease)
    this.leases.end(lease.id, 'given-back')
  }

  private lostFor(lease: HeldLease, refusal: Refusal): Refusal {
    this.lost(lease)
    return refusal
  }

  /** What a lease held is free again, and whoever let it come to nothing stands last in the queue. */
  private release(lease: HeldLease): void {
    this.roster.demote(lease.volunteer)
    if (lease.stage !== this.history.stage.index) return
    if (lease.kind === 'evaluate') return this.examiner.giveBack(lease)
    // While a copy is out, its examples are not free.
    if (this.leases.copies(lease).length === 0) this.history.epochs.giveBack(lease.stretches)
    this.history.strategy.lost(lease.id, lease.volunteer)
  }

  private refused(volunteer: string, refusal: Refusal): Refusal {
    this.updatesRefused++
    this.belief.refused(volunteer, refusal)
    const member = this.roster.get(volunteer)
    if (member !== undefined) member.updatesRefused++
    return refusal
  }

  private entry(said: Said, now: number): NewEntry {
    return { run: this.id, at: now, ...said }
  }
}

const STAGE_OVER = 'the stage it belongs to is over; the next one has another model'
