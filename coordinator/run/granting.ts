/**
 * Granting: how many leases a volunteer may hold, how work that a strategy or a test has to give becomes one, and how
 * its volunteer sees it. A lease fits the volunteer's time box at its measured speed, and is expected back accordingly.
 */
import { examplesAtOnce } from '../../shared/limits.ts'
import { type Lease, type LeaseReply, type Refusal, refuse } from '../../shared/protocol.ts'
import { lengthOf, type Stretch } from '../strategies/epochs.ts'
import { type Outstanding, PLAIN } from '../strategies/strategy.ts'
import type { Examiner } from './examiner.ts'
import type { History } from './history.ts'
import { allowanceMs, type HeldLease, type Lease as HeldWork, type Leases, type StartedLease } from './leases.ts'
import { Patience } from './patience.ts'
import { type Member, Roster } from './roster.ts'
import { Shards, sampled } from './shards.ts'

/** A volunteer may compute one lease and have the next one at hand; where they overlap, send a third meanwhile. */
const LEASES_PER_VOLUNTEER = 2
/** Granted beyond what the time box should hold, so that a volunteer that speeds up does not run dry. */
const GRANT_MARGIN = 1.25
/** A lease is expected to take at most this beyond the time box, whatever its volunteer says of its speed. */
const BEYOND_MS = 60_000
/** A lease that takes this many times what it should, and so long, is late. */
const LATE_FACTOR = 2
const LATE_MS = 1_000
/** What a part of a test should take: short enough that a lost one costs little. */
const PART_SECONDS = 15
/** Examples that a volunteer evaluates at a time, where its memory holds what the layers make of them. */
const EVALUATED_AT_ONCE = 500
/** The time box of what has none. */
const UNHURRIED_MS = 1e9
/** How long a volunteer that gets no work is told to wait before it asks again, if nobody calls it earlier. */
export const WAIT_MS = 5_000

export class Granting {
  private readonly run: string
  private readonly boot: string
  private readonly history: History
  private readonly leases: Leases
  private readonly roster: Roster
  private readonly shards: Record<HeldWork['from'], Shards>
  private granted = 0
  private patience = new Patience()

  /** `boot` makes this process' lease ids unlike those of any other. */
  constructor(run: string, boot: string, history: History, leases: Leases, roster: Roster) {
    const { dataset, spec } = history
    this.run = run
    this.boot = boot
    this.history = history
    this.leases = leases
    this.roster = roster
    this.shards = {
      shuffled: new Shards(dataset.train, spec.seed, 'shuffled'),
      train: new Shards(dataset.train, spec.seed, 'stored'),
      test: new Shards(dataset.test, spec.seed, 'stored'),
    }
  }

  /**
   * The answer to who holds as many leases as it may, `elsewhere` of other runs among them; null where it gets one
   * more.
   */
  ofHeld(volunteer: string, model: () => string, elsewhere: number): LeaseReply | Refusal | null {
    this.endOutlived(volunteer)
    const held = this.leases.of(volunteer)
    const most = LEASES_PER_VOLUNTEER + (held.some(({ overlaps }) => overlaps) ? 1 : 0)
    if (held.length + elsewhere < most) return null
    // Who asks again did not hear the answer: the newest lease that it cannot know of is granted to it once more.
    const unheard = held.findLast((lease) => lease.state === 'granted')
    if (unheard !== undefined) return { ok: true, lease: this.describe(unheard, model()) }
    return refuse('busy', `a volunteer holds at most ${most} leases`, WAIT_MS)
  }

  /** What a volunteer was granted in a stage that is over is of no use to it. */
  private endOutlived(volunteer: string): void {
    for (const { id, state, stage } of this.leases.of(volunteer)) {
      if (state === 'granted' && stage !== this.history.stage.index) this.leases.end(id, 'given-back')
    }
  }

  /** `elsewhere`: leases of other runs that it holds. */
  training(member: Member, model: () => string, elsewhere: number, now: number): LeaseReply {
    const { state, trained } = this.history
    if (state !== 'running') return wait(`the run is ${state}`)
    if (trained) return wait('training is complete; the model is being tested')
    const { roster, leases, budgetMs } = this
    const { stage } = this.history
    const draft = stage.strategy.next({
      volunteer: member.volunteer,
      // Counted only where a strategy wants it: it walks the whole roster.
      get rank() {
        return member.trusted ? 0 : roster.rank(member.volunteer, now)
      },
      fitting: Math.ceil((GRANT_MARGIN * Roster.speedOf(member) * budgetMs) / 1000),
      epochs: stage.epochs,
      get out() {
        return outstanding(leases.all(), stage.index, now)
      },
      idle: (volunteer) => roster.idle(volunteer, now),
      mayTake: (free) => elsewhere + leases.count(member.volunteer) === 0 || free > roster.unoccupied(now),
    })
    if ('wait' in draft) return wait(draft.wait)
    const version = stage.strategy.lockstep ? stage.parameters.version : null
    return this.grant(member, model, { kind: 'gradient', version, ...PLAIN, ...draft }, now)
  }

  evaluation(member: Member, examiner: Examiner, model: () => string, now: number): LeaseReply {
    const taken = examiner.take(Math.ceil(PART_SECONDS * Roster.speedOf(member)))
    if (taken === null) return wait('nothing is to be evaluated now')
    const { side: from, stretches } = taken
    const batchSize = Math.min(EVALUATED_AT_ONCE, examplesAtOnce(this.history.model.topology))
    const whole = { ...PLAIN, from, stretches, batchSize, timeBoxed: false }
    return this.grant(member, model, { kind: 'evaluate', version: examiner.version, ...whole }, now)
  }

  private grant(
    member: Member,
    model: () => string,
    work: Omit<HeldWork, 'id' | 'volunteer' | 'stage' | 'examples' | 'patience' | 'expectedMs'>,
    now: number,
  ): LeaseReply {
    const examples = this.taken(work)
    const computeMs = (1000 * examples) / Roster.speedOf(member)
    const granted = this.leases.grant(
      {
        ...work,
        id: `${this.run}.${this.boot}.${++this.granted}`,
        volunteer: member.volunteer,
        stage: this.history.stage.index,
        examples,
        patience: this.patience.times,
        expectedMs: Math.min(this.patience.times * this.mostMs, computeMs) + Roster.overheadOf(member),
      },
      now,
    )
    if (work.version !== null) this.history.versions.hold(work.version)
    return { ok: true, lease: this.describe(granted, model()) }
  }

  /** How many of the examples a lease takes. */
  private taken({ stretches, fraction }: Pick<HeldWork, 'stretches' | 'fraction'>): number {
    if (fraction === 1) return lengthOf(stretches)
    const { train } = this.history.dataset
    return stretches.reduce(
      (sum, stretch) => sum + sampled(train, this.history.spec.seed, stretch.epoch, fraction, stretch),
      0,
    )
  }

  /** A lease as its volunteer sees it. */
  private describe(lease: HeldLease, model: string): Lease {
    const { id, stage, kind, version, stretches, from, timeBoxed } = lease
    const { fraction, batchSize, reduce, compensated, overlaps, sure } = lease
    const { plan } = this.history.stage
    return {
      id,
      run: this.run,
      stage,
      kind,
      version,
      model,
      seed: this.history.spec.seed,
      shuffled: from === 'shuffled',
      ...{ fraction, batchSize, reduce, compensated, overlaps, sure },
      segments: this.shards[from].segments(stretches),
      budgetMs: timeBoxed ? this.budgetMs : UNHURRIED_MS,
      codec: plan.codec.up,
      parametersCodec: plan.codec.down,
    }
  }

  /** So many examples of a lease were done. */
  settled(lease: StartedLease, examples: number, now: number): void {
    if (lease.kind === 'gradient') this.patience.settled(lease, examples, allowanceMs(this.mostMs), now)
  }

  /** A lease ran past its deadline. Where others got on meanwhile, nobody needs to wait longer for this one. */
  expired(lease: HeldLease): void {
    if (lease.state === 'granted' || this.roster.get(lease.volunteer)?.connected !== true) return
    // A test gets on by trusted ones only, and in parts that are as small as need be.
    if (lease.kind === 'evaluate' || this.patience.expired(lease)) this.roster.late(lease.volunteer)
  }

  /** In a new stage an example is other work. */
  beginAnew(): void {
    this.patience = new Patience()
  }

  /** The time box. */
  private get budgetMs(): number {
    return 1000 * this.history.spec.leaseSeconds
  }

  /** What a lease is expected to take at most. */
  private get mostMs(): number {
    return this.budgetMs + BEYOND_MS
  }
}

/** The training work that is out, oldest first, each with all who hold it. */
function outstanding(leases: Iterable<HeldLease>, stage: number, now: number): Outstanding[] {
  const found = new Map<string, { stretches: readonly Stretch[]; volunteers: string[]; late: boolean }>()
  for (const lease of leases) {
    if (lease.kind !== 'gradient' || lease.stage !== stage) continue
    const [{ epoch, from }] = lease.stretches
    const known = found.get(`${epoch} ${from}`)
    const late = lease.state === 'started' && now - lease.startedAt > Math.max(LATE_MS, LATE_FACTOR * lease.expectedMs)
    if (known === undefined)
      found.set(`${epoch} ${from}`, { stretches: lease.stretches, volunteers: [lease.volunteer], late })
    else {
      known.volunteers.push(lease.volunteer)
      known.late &&= late
    }
  }
  return [...found.values()]
}

const wait = (reason: string): LeaseReply => ({ ok: true, waitMs: WAIT_MS, reason })
