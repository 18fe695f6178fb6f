/**
 * Downpour SGD (Dean et al. 2012, §4.1 and appendix Alg. 1.1).
 *
 * A lease is a push: up to `pushEvery` minibatches from one base, the replica moving on by -localRate·g, their
 * gradients accrued. The update is applied the moment it is in the journal, at whatever version the server then has.
 * Every `fetchEvery / pushEvery` leases the replica starts from the newest version; in between a lease continues the
 * one before it, and its staleness counts from the version that was fetched. Warm start: until `warmStart` updates
 * are in, one volunteer works alone; then two, four, … are released, twice as many after each further `warmStart`
 * updates, since releasing all at once can undo what the first one learnt (ALGORITHMS §6). With `overlap` a lease is
 * bound before the one in front of it has settled, so fetch and push run beside compute.
 *
 * What is done about staleness is the spec's `policy`, which at staleness 0 leaves an update as it is: weights
 * (staleness.ts), delay compensation (compensation.ts), a buffer (update-buffer.ts), in this order, and a bound on who
 * may run ahead (bound.ts). `maxStaleness` is Ringmaster ASGD's cut-off (Maranjyan, Tyurin & Richtárik 2025): there an
 * update counts when its delay is below R, so R = maxStaleness + 1. With maxStaleness 0 what counts is sequential SGD,
 * whoever computes it, and all else is in vain; with one above every delay it is plain asynchronous SGD. Once or twice
 * as many versions as there are volunteers is a place to begin. A refused update's examples go out again.
 */
import type { DownpourSpec } from '../../shared/run-spec.ts'
import type { Vectors } from '../parameters/vectors.ts'
import { type Bound, openBound } from './bound.ts'
import { Compensation } from './compensation.ts'
import { stalenessWeight } from './staleness.ts'
import type { Apply, Ask, Binding, Draft, Settled, Strategy, StrategyRoom } from './strategy.ts'
import { UpdateBuffer } from './update-buffer.ts'

/** A volunteer's leases since its last fetch. It is a hint: a crash forgets it and the volunteer fetches anew. */
interface Chain {
  readonly version: number
  /** What was in when it was fetched, as the bound counts it. */
  readonly fetched: number
  readonly leases: number
  /** The last lease of the chain, and whether it has settled: only then may the next one continue it. */
  readonly last: string
  readonly settled: boolean
}

interface DownpourState {
  updates: number
  compensation?: ReturnType<Compensation['toJSON']>
}

/** The vector in which an update is decoded where it is not applied as it came. */
const UPDATE = 'update'

export class Downpour implements Strategy {
  readonly maxStaleness: number
  readonly lockstep = false
  readonly ended = null
  private readonly spec: DownpourSpec
  private readonly codec: StrategyRoom['codec']
  private readonly stored: Vectors
  /** localRate null and rule sgd: the replica moves as the server does. */
  private readonly followsServer: boolean
  private readonly leasesPerFetch: number
  private readonly chains = new Map<string, Chain>()
  private readonly bound: Bound | null
  private readonly compensation: Compensation | null
  /** null where every update is a step of its own. */
  private readonly buffer: UpdateBuffer | null
  private updates: number

  constructor(
    spec: DownpourSpec,
    { rule, codec, parameters }: Pick<StrategyRoom, 'rule' | 'codec' | 'parameters'>,
    state?: unknown,
  ) {
    const { pushEvery, fetchEvery = pushEvery, maxStaleness, policy } = spec
    const saved = state as DownpourState | undefined
    this.spec = spec
    this.codec = codec
    this.stored = parameters.vectors
    this.maxStaleness = maxStaleness
    this.followsServer = rule === 'sgd'
    this.leasesPerFetch = fetchEvery / pushEvery
    this.updates = saved?.updates ?? 0
    this.bound = openBound(policy.bound)
    this.compensation = policy.compensation
      ? new Compensation(policy.compensation, maxStaleness, parameters, saved?.compensation)
      : null
    this.buffer = policy.buffer > 1 ? new UpdateBuffer(policy.buffer, parameters.vectors) : null
  }

  get quiescent(): boolean {
    return this.held === 0
  }

  get vectors(): string[] {
    return this.compensation?.vectors ?? []
  }

  next(ask: Ask): Draft {
    const released = this.released
    if (released < Number.POSITIVE_INFINITY && ask.rank >= released) {
      this.bound?.turnedAway(ask.volunteer)
      return { wait: `warm start: ${released} ${released === 1 ? 'volunteer trains' : 'volunteers train'} first` }
    }
    const wait = this.bound?.wait(ask) ?? null
    if (wait !== null) return { wait }
    const { batchSize, pushEvery } = this.spec
    const minibatches = Math.max(1, Math.min(pushEvery, Math.floor(ask.fitting / batchSize)))
    const stretches = ask.epochs.take(minibatches * batchSize)
    if (stretches.length === 0) return { wait: 'every example of this epoch is out with other volunteers' }
    this.bound?.granted(ask.volunteer)
    return { stretches, batchSize, timeBoxed: true, overlaps: this.spec.overlap }
  }

  bind(lease: string, volunteer: string, version: number, rate: number): Binding {
    const localRate = this.spec.localRate ?? (this.followsServer ? rate : 0)
    const continued = this.continued(volunteer, version)
    const base = continued?.version ?? version
    if (this.leasesPerFetch > 1) {
      const fetched = continued?.fetched ?? this.bound?.fetched() ?? 0
      const leases = (continued?.leases ?? 0) + 1
      this.chains.set(volunteer, { version: base, fetched, leases, last: lease, settled: false })
    }
    this.bound?.started(lease, volunteer)
    return { version: base, localRate, continues: continued?.last ?? null }
  }

  /** The chain that the volunteer's next lease goes on with; null where it is to fetch. */
  private continued(volunteer: string, version: number): Chain | null {
    const chain = this.chains.get(volunteer)
    if (chain === undefined || !chain.settled || chain.leases >= this.leasesPerFetch) return null
    // A chain that fell too far behind would only be refused: it ends early.
    if (version - chain.version > this.maxStaleness) return null
    return this.bound === null || this.bound.fresh(volunteer, chain.fetched) ? chain : null
  }

  fold(settled: Settled): Apply | null {
    this.updates++
    const chain = this.chains.get(settled.volunteer)
    if (chain?.last === settled.lease) this.chains.set(settled.volunteer, { ...chain, settled: true })
    this.bound?.ended(settled.lease, settled.volunteer, true)
    return this.step(settled)
  }

  private step(settled: Settled): Apply | null {
    const { compensation, buffer, stored } = this
    const weight = stalenessWeight(this.spec.policy.weight, settled.staleness)
    const { payload, minibatches } = settled
    if (compensation === null && buffer === null) return { parts: [{ payload, weight, minibatches }] }
    if (!stored.has(UPDATE)) stored.create(UPDATE)
    stored.decode(UPDATE, this.codec, payload)
    compensation?.compensate(UPDATE, settled)
    if (buffer !== null) return buffer.add(UPDATE, weight, minibatches) ? this.emptied(buffer) : null
    compensation?.remember()
    return { parts: [{ vector: UPDATE, weight, minibatches }] }
  }

  /** What a buffer holds that is not full belongs to the model, too. */
  conclude(): Apply | null {
    return this.buffer === null || this.buffer.held === 0 ? null : this.emptied(this.buffer)
  }

  private emptied(buffer: UpdateBuffer): Apply {
    this.compensation?.remember()
    return buffer.take()
  }

  lost(lease: string, volunteer: string): void {
    this.bound?.ended(lease, volunteer, false)
  }

  left(volunteer: string): void {
    this.chains.delete(volunteer)
    this.bound?.left(volunteer)
  }

  toJSON(): DownpourState {
    const { updates, compensation } = this
    return { updates, ...(compensation && { compensation: compensation.toJSON() }) }
  }

  /** Updates that wait in the buffer. */
  private get held(): number {
    return this.buffer?.held ?? 0
  }

  private get released(): number {
    const { warmStart } = this.spec
    return warmStart === 0 ? Number.POSITIVE_INFINITY : 2 ** Math.min(30, Math.floor(this.updates / warmStart))
  }
}
