/**
 * The volunteer: everything that happens between "yes, contribute" and "stop". Read `work` first; the rest of the
 * file is what it calls, in the order in which it calls it.
 *
 *     hello ─► lease ─► start ─► parameters ─► compute ─► update ─► (accepted) ─► the next lease's start ─► …
 *                                                 └─ meanwhile: the next lease, its shards and its model
 *
 * One lease is computed while the next is fetched. The update names the next lease, so its acceptance brings that
 * lease's Start: bound after our own update, it never begins behind ourselves, and no round trip is lost.
 *
 * What goes wrong costs a lease and nothing else: a lease that is refused is dropped and another one asked for, ever
 * more slowly while refusals follow each other. Lost connections come back by themselves (session.ts). Only four things
 * end a volunteer: `stop`, a refusal that says so, a page too old, and a device that cannot compute.
 *
 * No DOM and no tfjs in here: it runs in a browser's worker and in Node alike.
 */
import { codecs, decodeVector, encodeVectors, payloadSize } from '../../shared/codec.ts'
import type { Lease, Start, Welcome } from '../../shared/protocol.ts'
import { backoffMs } from './backoff.ts'
import type { BlobCache } from './blobs.ts'
import { type Clock, systemClock } from './clock.ts'
import type { Engine, Trainer } from './compute/engine.ts'
import { Refused } from './connection.ts'
import { computeLease, type LeaseResult } from './lease-work.ts'
import { Materials, type ReadyLease } from './materials.ts'
import { Pace } from './pace.ts'
import { Session } from './session.ts'
import { type Accepted, BadBlob, download, submit } from './transfer.ts'
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

/** The speed shown is a mean over about so much computing. */
const SPEED_OVER_MS = 20_000
const WAIT_AT_LEAST_MS = 20
const WAIT_AT_MOST_MS = 60_000

class Stopped extends Error {
  override readonly name = 'Stopped'
}

export class Volunteer {
  private readonly options: VolunteerOptions
  private readonly clock: Clock
  private readonly uniform: () => number
  private readonly pace: Pace | null
  private readonly stopping = new AbortController()
  private engine: Engine | null = null
  private session: Session | null = null
  private materials: Materials | null = null
  /** Leases that are ours to give back. */
  private readonly held = new Set<string>()
  /** The lease that is being computed, and the next one as soon as it is ready. */
  private current: ReadyLease | null = null
  private next: ReadyLease | null = null
  /**
   * The newest parameters downloaded; several leases may start at one version. Of one welcome only: a coordinator that
   * lost its newest versions with its power makes others of the same number.
   */
  private parameters: { run: string; version: number; welcome: Welcome | null; floats: Float32Array } | null = null
  /** The lease whose replica a trainer still holds. */
  private replica: { lease: string; trainer: Trainer } | null = null
  private refusalsInARow = 0
  private endNap = () => {}
  private end: { state: Extract<VolunteerState, 'stopped' | 'failed'>; reason: string | null } | null = null
  private waitingFor: string | null = null
  private examples = 0
  private updatesAccepted = 0
  private updatesRefused = 0
  private speed = { examples: 0, ms: 0 }

  constructor(options: VolunteerOptions) {
    this.options = options
    this.clock = options.clock ?? systemClock
    this.uniform = options.uniform ?? Math.random
    this.pace = options.pace ? new Pace(options.pace, this.clock) : null
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

    let coming = this.procure(session, this.materials)
    /** What the last update's acceptance brought along. */
    let accepted: Accepted | null = null
    for (;;) {
      const ready = await coming.lease
      this.next = null
      this.current = ready
      this.report()
      // From here on, the next lease is on its way while this one is computed.
      coming = this.procure(session, this.materials, accepted?.lease)
      let computed = false
      try {
        const start = accepted?.start ?? (await session.ask('start', { lease: ready.lease.id })).start
        accepted = null
        const parameters = await this.parametersFor(session, ready, start)
        const result = await this.compute(ready, start, parameters)
        computed = true
        const payload = result.gradient
          ? encodeVectors(codecs[ready.lease.codec], result.gradient, ready.model.size)
          : (result.outcomes ?? new Uint8Array())
        const { minibatches, examples, lossSum, correct, computeMs } = result
        const update = {
          lease: ready.lease.id,
          version: start.version,
          minibatches,
          examples,
          lossSum,
          correct,
          measureSum: ready.model.measures ? result.measureSum : null,
          computeMs,
        }
        accepted = await submit(session, update, payload, () => this.next?.lease.id)
        this.accepted(ready.lease, result)
      } catch (error) {
        accepted = null
        this.dropped(ready.lease, error, computed)
      }
      this.current = null
      // Our update may have been what others, and so our next lease, were waiting for.
      this.endNap()
    }
  }

  /** Fetches the next lease in the background until it is ready to start: the offered one, else one asked for. */
  private procure(session: Session, materials: Materials, offered?: Lease): { lease: Promise<ReadyLease> } {
    const lease = this.nextLease(session, materials, offered)
    // It is awaited later; failing before then must not end the process.
    lease.catch(() => {})
    return { lease }
  }

  private async nextLease(session: Session, materials: Materials, offered?: Lease): Promise<ReadyLease> {
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
      this.held.add(lease.id)
      try {
        this.next = await materials.prepare(lease, this.current?.model.hash ?? null)
        this.waitingFor = null
        return this.next
      } catch (error) {
        this.giveBack(session, lease)
        this.refused(error)
      }
    }
  }

  /** The parameters that the lease starts from: those of its version, or the replica that it goes on from. */
  private async parametersFor(session: Session, { lease, model }: ReadyLease, start: Start): Promise<Float32Array> {
    if (start.continues !== null && this.replica?.lease === start.continues && this.replica.trainer === model.trainer) {
      return model.trainer.replica()
    }
    const { run } = lease
    const { version } = start
    const { welcome } = session
    const known = this.parameters
    if (known?.run === run && known.version === version && known.welcome === welcome) return known.floats
    const codec = codecs[lease.parametersCodec]
    this.parameters = null
    const bytes = await download(session, { run, version }, payloadSize(codec, model.size))
    this.parameters = { run, version, welcome, floats: decodeVector(codec, bytes, model.size) }
    return this.parameters.floats
  }

  private async compute(
    { lease, model, examples }: ReadyLease,
    start: Start,
    parameters: Float32Array,
  ): Promise<LeaseResult> {
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

  private accepted(lease: Lease, { examples, computeMs }: LeaseResult): void {
    this.held.delete(lease.id)
    this.refusalsInARow = 0
    this.updatesAccepted++
    this.examples += examples
    const kept = 0.5 ** (computeMs / SPEED_OVER_MS)
    this.speed = { examples: kept * this.speed.examples + examples, ms: kept * this.speed.ms + computeMs }
    this.report()
  }

  /** A lease came to nothing. Throws what a volunteer cannot go on from. */
  private dropped(lease: Lease, error: unknown, computed: boolean): void {
    this.refused(error)
    if (computed) this.updatesRefused++
    this.giveBack(this.session!, lease)
    this.report()
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
      examplesPerSecond: this.speed.ms > 0 ? (1000 * this.speed.examples) / this.speed.ms : null,
      progress: session?.progress ?? null,
      token: session?.token ?? null,
    }
  }

  private get state(): VolunteerState {
    if (this.end) return this.end.state
    if (!this.session) return 'starting'
    if (this.session.state !== 'up') return this.session.state
    return this.current ? 'working' : 'waiting'
  }

  private report(): void {
    this.options.onStatus?.(this.status)
  }
}
