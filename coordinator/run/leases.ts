/**
 * Leases: work granted to one volunteer, settled at most once.
 *
 * A lease is **granted** (its examples are out, its shards can be downloaded), then **started** (bound to a version;
 * from here on it is a pure function of what it names), then **ended**: settled by an update, given back, or expired.
 * It ends once; whoever asks for an ended lease is told how it ended. A granted lease waits behind the one its
 * volunteer is computing, so its deadline is that one's and its own together. Deadlines follow the volunteer's
 * measured speed: three times what the lease should take, never less than ten seconds. An upload that gets on moves
 * the deadline away, but not without end: nobody may keep others waiting by never coming to an end.
 */
import { isRefusal, type Refusal, refuse, type UpdateRequest } from '../../shared/protocol.ts'
import { type Stretch, split } from '../strategies/epochs.ts'
import type { Binding, Work } from '../strategies/strategy.ts'

export interface Lease extends Work {
  readonly id: string
  readonly volunteer: string
  /** Index of the run's stage. */
  readonly stage: number
  readonly kind: 'gradient' | 'evaluate'
  /** What it will be bound to, where that is certain when it is granted. */
  readonly version: number | null
  /** In its stretches; where only a sample is taken, those that are. */
  readonly examples: number
  /** How many times as long as usual it may take (patience.ts). */
  readonly patience: number
  /** What it should take this volunteer, start to announcement, milliseconds. */
  readonly expectedMs: number
}

export type HeldLease = Lease &
  (
    | { readonly state: 'granted'; deadline: number }
    | {
        readonly state: 'started'
        deadline: number
        /** Its update was announced: that moves the deadline once. */
        announced: boolean
        /** The deadline never moves past this. */
        readonly latest: number
        readonly startedAt: number
        readonly binding: Binding
      }
  )

export type StartedLease = Extract<HeldLease, { state: 'started' }>

type Ending = 'settled' | 'given-back' | 'expired'

/** A lease may take this many times what it should. */
const DEADLINE_FACTOR = 3
const DEADLINE_MIN_MS = 10_000
/** Room for an upload on a slow line, renewed with every chunk that arrives. */
const UPLOAD_MS = 60_000
/** All such room together: 100 MB at 64 kB/s. */
const UPLOADS_MAX_MS = 1_800_000
/** How many ended leases are remembered at least, so that a late or repeated update gets the right answer. */
const ENDED_REMEMBERED = 10_000

/** The examples that were done, and those that were not. Work without a time box is done whole. */
export function doneOf(lease: StartedLease, { examples }: UpdateRequest): { head: Stretch[]; tail: Stretch[] } {
  return lease.timeBoxed ? split(lease.stretches, examples) : { head: [...lease.stretches], tail: [] }
}

/** Over how many mean gradients an update is a sum. */
export function unitsOf({ reduce }: StartedLease, { minibatches, examples }: UpdateRequest): number {
  return reduce === 'sum' ? examples : minibatches
}

export const allowanceMs = (expectedMs: number): number => Math.max(DEADLINE_MIN_MS, DEADLINE_FACTOR * expectedMs)

export class Leases {
  private readonly held = new Map<string, HeldLease>()
  /** The same by volunteer, in order of grant; those who hold none are not in it. */
  private readonly byVolunteer = new Map<string, Map<string, HeldLease>>()
  private readonly ended = new Map<string, { volunteer: string; ending: Ending }>()
  private readonly onEnd: (lease: HeldLease) => void

  /** `onEnd` hears of every lease that ends, however it does. */
  constructor(onEnd: (lease: HeldLease) => void = () => {}) {
    this.onEnd = onEnd
  }

  of(volunteer: string): HeldLease[] {
    return [...(this.byVolunteer.get(volunteer)?.values() ?? [])]
  }

  count(volunteer: string): number {
    return this.byVolunteer.get(volunteer)?.size ?? 0
  }

  /**
   * The other leases on the same work: several are out where a backup was given. Only work that is done whole is
   * copied.
   */
  copies({ id, stage, kind, from: side, timeBoxed, stretches }: Lease): HeldLease[] {
    if (timeBoxed) return []
    const [{ epoch, from }] = stretches
    return [...this.held.values()].filter((other) => {
      const [first] = other.stretches
      const alike = other.kind === kind && other.stage === stage && other.from === side
      return alike && first.epoch === epoch && first.from === from && other.id !== id
    })
  }

  all(): IterableIterator<HeldLease> {
    return this.held.values()
  }

  grant(lease: Lease, now: number): HeldLease {
    const before = this.of(lease.volunteer).reduce((sum, other) => sum + allowanceMs(other.expectedMs), 0)
    const granted: HeldLease = { ...lease, state: 'granted', deadline: now + before + allowanceMs(lease.expectedMs) }
    this.hold(granted)
    return granted
  }

  start(id: string, volunteer: string, binding: Binding, now: number): StartedLease {
    const lease = this.held.get(id)
    if (lease?.volunteer !== volunteer) throw new Error(`invariant: ${volunteer} starts ${id}, which it does not hold`)
    const deadline = now + allowanceMs(lease.expectedMs)
    const latest = deadline + UPLOADS_MAX_MS
    const rest = { binding, deadline, latest, startedAt: now, announced: false }
    const started: StartedLease = { ...lease, state: 'started', ...rest }
    this.hold(started)
    return started
  }

  /** The lease, if this volunteer holds it; otherwise the refusal that says what became of it. */
  find(id: string, volunteer: string): HeldLease | Refusal {
    const lease = this.held.get(id)
    const owner = lease?.volunteer ?? this.ended.get(id)?.volunteer
    if (owner === undefined) return refuse('lease-unknown', `no lease ${id} is held; ask for a new one`)
    if (owner !== volunteer) return refuse('lease-foreign', `lease ${id} belongs to another volunteer`)
    if (lease !== undefined) return lease
    const { ending } = this.ended.get(id)!
    return ending === 'expired'
      ? refuse('lease-expired', `lease ${id} ran past its deadline and was granted anew`)
      : refuse('lease-settled', `lease ${id} is ${ending}; it settles at most once`)
  }

  /** The lease that an update answers, if it was started at the version that the update says it is from. */
  findStarted({ lease: id, version }: UpdateRequest, volunteer: string, newest: number): StartedLease | Refusal {
    const lease = this.find(id, volunteer)
    if (isRefusal(lease)) return lease
    if (lease.state === 'granted') return refuse('lease-not-started', `lease ${id} was not started`)
    if (version > newest) return refuse('version-unknown', `there is no version ${version}; the newest is ${newest}`)
    const bound = lease.binding.version
    if (version === bound) return lease
    return refuse('version-mismatch', `lease ${id} is bound to version ${bound}, got ${version}`)
  }

  /** Its update was announced and may be sent. */
  announced(lease: StartedLease, now: number): void {
    if (!lease.announced) this.extend(lease.id, now)
    lease.announced = true
  }

  /** Moves the deadline away: bytes of its update have come, or it could not be written and is to be sent again. */
  extend(id: string, now: number): void {
    const lease = this.held.get(id)
    if (lease?.state !== 'started') return
    lease.deadline = Math.max(lease.deadline, Math.min(lease.latest, now + UPLOAD_MS))
  }

  end(id: string, ending: Ending): void {
    const lease = this.held.get(id)
    if (lease === undefined) throw new Error(`invariant: lease ${id} ends twice`)
    this.held.delete(id)
    const theirs = this.byVolunteer.get(lease.volunteer)
    theirs?.delete(id)
    if (theirs?.size === 0) this.byVolunteer.delete(lease.volunteer)
    this.onEnd(lease)
    this.ended.set(id, { volunteer: lease.volunteer, ending })
    if (this.ended.size > 2 * ENDED_REMEMBERED) this.forget(ENDED_REMEMBERED)
  }

  /** Many at a time: to find the oldest key of a map, all those deleted before it are passed over. */
  private forget(count: number): void {
    let left = count
    for (const id of this.ended.keys()) {
      if (left-- === 0) return
      this.ended.delete(id)
    }
  }

  /**
   * Ends and returns the leases whose deadline is past. `ending` hears of each while it is still held, and of its
   * copies those that are.
   */
  expire(now: number, ending: (lease: HeldLease) => void = () => {}): HeldLease[] {
    const late = [...this.held.values()].filter(({ deadline }) => deadline <= now)
    for (const lease of late) {
      ending(lease)
      this.end(lease.id, 'expired')
    }
    return late
  }

  private hold(lease: HeldLease): void {
    this.held.set(lease.id, lease)
    const theirs = this.byVolunteer.get(lease.volunteer) ?? new Map<string, HeldLease>()
    this.byVolunteer.set(lease.volunteer, theirs.set(lease.id, lease))
  }
}
