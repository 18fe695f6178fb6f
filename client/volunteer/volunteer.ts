/**
 * The volunteer: everything that happens between "yes, contribute" and "stop". Read `work` first; the rest of the
 * file is what it calls, in the order in which it calls it.
 *
 *     hello ─► lease ─► start ─► parameters ─► compute ─► update ─► (accepted) ─► the next lease's start ─► …
 *                                                 └─ meanwhile: the next lease, its model and its shards, and
 *                                                    its parameters where it says its version
 *
 * One lease is computed while the next is fetched. The update names a lease that is fetched, so its acceptance brings
 * that lease's Start: bound after our own update, it never begins behind ourselves, and no round trip is lost. Where
 * leases overlap, two are begun at a time: one is computed while the update of the one before it is sent and the
 * parameters of the one after it come.
 *
 * What goes wrong costs a lease and nothing else: a lease that is refused is dropped and another one asked for, ever
 * more slowly while refusals follow each other. Lost connections come back by themselves (session.ts). Only four things
 * end a volunteer: `stop`, a refusal that says so, a page too old, and a device that cannot compute.
 *
 * No DOM and no tfjs in here: it runs in a browser's worker and in Node alike.
 */
import { codecs, encodeVectors } from '../../shared/codec.ts'
import type { Lease, Start } from '../../shared/protocol.ts'
import { backoffMs } from './backoff.ts'
import type { BlobCache } from './blobs.ts'
import { type Clock, systemClock } from './clock.ts'
import type { Engine, Trainer } from './compute/engine.ts'
import { Refused } from './connection.ts'
import { handled } from './handled.ts'
import { computeLease, type LeaseResult } from './lease-work.ts'
import { Materials, type ReadyLease } from './materials.ts'
import { Pace } from './pace.ts'
import { Session } from './session.ts'
import { Speed } from './speed.ts'
import { type Accepted, BadBlob, submit } from './transfer.ts'
import type { VolunteerState, VolunteerStatus } from './worker-messages.ts'

export interface VolunteerOptions {
  /** The coordinator's origin. */
  address: string
  openEngine(): Promise<Engine>
  cache: BlobCache
  /** An identity of before; null comes as a newcomer. */
  token?: string | null
  trustKey?: string | null
  run?: string | null
  /** At most so many examples a second, to measure with; as fast as it goes when absent. */
  pace?: number | null
  clock?: Clock
  /** A draw from [0, 1), for back-offs. */
  uniform?: () => number
  /** Told of every change. */
  onStatus?(status: VolunteerStatus): void
}

const WAIT_AT_LEAST_MS = 20
const WAIT_AT_MOST_MS = 60_000
const ASK_AGAIN_MS = 1_000

/** What leases are got with. */
interface Hands {
  readonly session: Session
  readonly materials: Materials
}

/** A lease that can be computed now. */
interface Work {
  readonly ready: ReadyLease
  readonly start: Start
  readonly parameters: Float32Array
}

class Stopped extends Error {
  override readonly name = 'Stopped'
}

export class Volunteer {
  private readonly options: VolunteerOptions
  private readonly clock: Clock
  private readonly uniform: () => number
  private readonly pace: Pace | null
  private readonly speed: Speed
  private readonly stopping = new AbortController()
  private engine: Engine | null = null
  private session: Session | null = null
  private materials: Materials | null = null
  /** Leases that are ours to give back. */
  private readonly held = new Set<string>()
  /** Leases from their beginning until they are answered. */
  private readonly begun = new Set<ReadyLease>()
  /** The next lease that nobody has taken, on its way; and as soon as it is ready. */
  private coming!: Promise<ReadyLease>
  private next: ReadyLease | null = null
  /** The update that is on its way. */
  private sending: Promise<unknown> = Promise.resolve()
  /** The lease whose replica a trainer still holds. */
  private replica: { lease: string; trainer: Trainer } | null = null
  private refusalsInARow = 0
  private endNap = () => {}
  private end: { state: Extract<VolunteerState, 'stopped' | 'failed'>; reason: string | null } | null = null
  private waitingFor: string | null = null
  private examples = 0
  private updatesAccepted = 0
  private updatesRefused = 0

  constructor(options: VolunteerOptions) {
    this.options = options
    this.clock = options.clock ?? systemClock
    this.uniform = options.uniform ?? Math.random
    this.pace = options.pace ? new Pace(options.pace, this.clock) : null
    this.speed = new Speed(this.clock)
  }

  /** Contributes until it is stopped or cannot go on; the status says which. Never rejects. Call it once. */
  async run(): Promise<VolunteerStatus> {
    try {
      this.report()
      const engine = await this.options.openEngine()
      this.engine = engine
      this.stopping.signal.throwIfAborted()
      await this.work(engine)
    } catch (error) {
      const stopped = this.stopping.signal.aborted
      this.end = stopped ? { state: 'stopped', reason: null } : { state: 'failed', reason: (error as Error).message }
    }
    this.stopping.abort(new Stopped())
    this.endNap()
    await this.session?.leave(this.held)
    try {
      this.materials?.dispose()
      await this.engine?.close()
    } catch {
      // A device that is gone cannot be put away.
    }
    this.report()
    return this.status
  }

  /** Gives leases back and closes; `run` resolves soon after. */
  stop(): void {
    if (this.stopping.signal.aborted) return
    this.stopping.abort(new Stopped())
    this.endNap()
    // Whatever waits for an answer gets none any more, and ends.
    void this.session?.leave(this.held)
  }

  // ---- the loop -------------------------------------------------------------------------------------------------

  private async work(engine: Engine): Promise<never> {
    const { address, token = null, trustKey = null, run = null, cache } = this.options
    const { clock, uniform } = this
    const { backend, device } = engine
    const stopping = this.stopping.signal
    const changed = () => this.report()
    const instance = Array.from({ length: 16 }, () => Math.floor(36 * uniform()).toString(36)).join('')
    const identity = { token, instance, trustKey, backend, device, run }
    const session = new Session({ address, ...identity, clock, uniform, stopping, changed })
    this.session = session
    this.materials = new Materials(session, cache, engine)
    this.report()

    const hands = { session, materials: this.materials }
    this.coming = handled(this.nextLease(hands))
    /** What is computed next, whichever is ready first: where leases overlap there are two. */
    const ahead = [this.begin(hands, null)]
    for (;;) {
      const { work, place } = await Promise.race(ahead.map(async (coming, place) => ({ work: await coming, place })))
      ahead.splice(place, 1)
      const { overlaps } = work.ready.lease
      if (overlaps && ahead.length === 0) ahead.push(this.begin(hands, null))
      const result = await this.compute(work).catch((error) => this.dropped(work.ready, error))
      // Where leases overlap no more, the one that is begun already comes next.
      if (!overlaps && ahead.length > 0) await (result && this.send(hands, work, result))
      else ahead.push(result ? this.deliver(hands, work, result) : this.begin(hands, null))
    }
  }

  /** Fetches the next lease until it is ready to start: the offered one, else one asked for. */
  private async nextLease({ session, materials }: Hands, offered?: Lease): Promise<ReadyLease> {
    for (let offer = offered; ; offer = undefined) {
      // Not a nap: no news ends it earlier.
      if (this.refusalsInARow > 0) {
        await this.clock.sleep(backoffMs(this.refusalsInARow - 1, this.uniform()), this.stopping.signal)
      }
      const askedAt = this.clock.now()
      const answer = offer ? { lease: offer } : await session.ask('lease', {}).catch((error) => this.refused(error))
      if (!answer) continue
      if ('waitMs' in answer) {
        this.waitingFor = answer.reason
        this.report()
        // A coordinator may hold the question until there is work; that time counts as waited.
        const waitMs = answer.waitMs - (this.clock.now() - askedAt)
        await this.nap(Math.min(WAIT_AT_MOST_MS, Math.max(WAIT_AT_LEAST_MS, waitMs)))
        continue
      }
      const { lease } = answer
      if (this.held.has(lease.id)) {
        // Told again what we have: there is no more for us now.
        await this.nap(ASK_AGAIN_MS)
        continue
      }
      this.held.add(lease.id)
      try {
        const inUse = [...this.begun].map(({ model }) => model.hash)
        const model = await materials.model(lease.model, inUse)
        if (lease.version !== null) void materials.parameters(lease, model, lease.version)
        this.next = { lease, model, examples: await materials.examples(lease, model) }
        this.waitingFor = null
        return this.next
      } catch (error) {
        this.giveBack(session, lease)
        this.refused(error)
      }
    }
  }

  /** Starts the next lease, with the Start that an acceptance brought or one asked for, and has its parameters. */
  private begin(hands: Hands, accepted: Accepted | null): Promise<Work> {
    return handled(this.beginNext(hands, accepted))
  }

  private async beginNext(hands: Hands, accepted: Accepted | null): Promise<Work> {
    const { session, materials } = hands
    for (let brought = accepted; ; brought = null) {
      const ready = await this.take(hands, brought?.lease)
      this.report()
      const { id } = ready.lease
      try {
        const start = brought?.start?.lease === id ? brought.start : (await session.ask('start', { lease: id })).start
        return { ready, start, parameters: await this.parameters(materials, ready, start) }
      } catch (error) {
        this.dropped(ready, error)
      }
    }
  }

  /** The next lease, once it is ready. From then on the one after it is on its way. */
  private take(hands: Hands, offered?: Lease): Promise<ReadyLease> {
    const taken = this.coming
    const after = taken.then((ready) => {
      this.next = null
      if (this.begun.size === 0) this.speed.begin()
      this.begun.add(ready)
      return this.nextLease(hands, offered)
    })
    this.coming = handled(after)
    return taken
  }

  /** The parameters that the lease starts from: those of its version, or the replica that it goes on from. */
  private parameters(materials: Materials, { lease, model }: ReadyLease, start: Start): Promise<Float32Array> {
    if (start.continues !== null && this.replica?.lease === start.continues && this.replica.trainer === model.trainer) {
      return model.trainer.replica()
    }
    return materials.parameters(lease, model, start.version)
  }

  private async compute({ ready, start, parameters }: Work): Promise<LeaseResult> {
    const { lease, model, examples } = ready
    const { trainer } = model
    if (this.replica?.trainer === trainer) this.replica = null
    const result = await computeLease(
      lease,
      start,
      trainer,
      parameters,
      examples,
      this.clock,
      this.pace,
      this.stopping.signal,
    )
    if (lease.kind === 'gradient') this.replica = { lease: lease.id, trainer }
    return result
  }

  /** Sends what was computed; its acceptance begins the next lease. */
  private deliver(hands: Hands, work: Work, result: LeaseResult): Promise<Work> {
    const next = () => this.next?.lease.id
    return handled(this.send(hands, work, result, next).then((accepted) => this.begin(hands, accepted)))
  }

  /** One update after the other: two at a time would only make both late. */
  private send(
    { session }: Hands,
    { ready, start }: Work,
    result: LeaseResult,
    next: () => string | undefined = () => undefined,
  ): Promise<Accepted | null> {
    const { lease, model } = ready
    const payload = result.gradient
      ? encodeVectors(codecs[lease.codec], result.gradient, model.size)
      : (result.outcomes ?? new Uint8Array())
    const { minibatches, examples, lossSum, correct, computeMs } = result
    const measureSum = model.measures ? result.measureSum : null
    const counts = { minibatches, examples, lossSum, correct, measureSum, computeMs }
    const update = { lease: lease.id, version: start.version, ...counts }
    const sent = this.sending
      .then(() => submit(session, update, payload, next, lease.sure))
      .then(
        (accepted) => {
          this.accepted(ready, result)
          return accepted
        },
        (error) => {
          this.dropped(ready, error)
          this.updatesRefused++
          this.report()
          return null
        },
      )
    this.sending = handled(sent)
    return sent
  }

  private accepted(ready: ReadyLease, { examples }: LeaseResult): void {
    this.ended(ready)
    this.refusalsInARow = 0
    this.updatesAccepted++
    this.examples += examples
    this.speed.worked(examples)
    this.report()
  }

  /** A lease came to nothing. Throws what a volunteer cannot go on from. */
  private dropped(ready: ReadyLease, error: unknown): void {
    this.refused(error)
    this.speed.worked(0)
    this.giveBack(this.session!, ready.lease)
    this.ended(ready)
    this.report()
  }

  private ended(ready: ReadyLease): void {
    this.held.delete(ready.lease.id)
    this.begun.delete(ready)
    // Our update may have been what others, and so our next lease, were waiting for.
    this.endNap()
  }

  /** Notes a refusal of the kind that another lease may be without; throws every other error. */
  private refused(error: unknown): void {
    this.stopping.signal.throwIfAborted()
    const another = error instanceof BadBlob || (error instanceof Refused && error.refusal.next === 'new-lease')
    if (!another) throw error
    this.refusalsInARow++
    this.waitingFor = (error as Error).message
  }

  /** So that others may have it at once; a lease that has ended already is refused, and that is all right too. */
  private giveBack(session: Session, lease: Lease): void {
    this.held.delete(lease.id)
    session.askOnce('giveBack', { lease: lease.id }).catch(() => {})
  }

  /** Waits, but not once there may be news. */
  private async nap(ms: number): Promise<void> {
    const nap = new AbortController()
    this.endNap = () => nap.abort()
    this.stopping.signal.throwIfAborted()
    await this.clock.sleep(ms, nap.signal).catch(() => {})
    this.stopping.signal.throwIfAborted()
  }

  // ---- how it goes ----------------------------------------------------------------------------------------------

  get status(): VolunteerStatus {
    const { session, engine } = this
    const state = this.state
    const reasons = { waiting: this.waitingFor, connecting: session?.reason, reconnecting: session?.reason }
    return {
      state,
      reason: this.end ? this.end.reason : (reasons[state as keyof typeof reasons] ?? null),
      backend: engine?.backend ?? null,
      device: engine?.device ?? null,
      examples: this.examples,
      updatesAccepted: this.updatesAccepted,
      updatesRefused: this.updatesRefused,
      examplesPerSecond: this.speed.examplesPerSecond,
      progress: session?.progress ?? null,
      token: session?.token ?? null,
    }
  }

  private get state(): VolunteerState {
    if (this.end) return this.end.state
    if (!this.session) return 'starting'
    if (this.session.state !== 'up') return this.session.state
    return this.begun.size > 0 ? 'working' : 'waiting'
  }

  private report(): void {
    this.options.onStatus?.(this.status)
  }
}
