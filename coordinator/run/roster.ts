/** The roster: the volunteers of a run, what they did and how fast they are. Measured, never taken on trust. */
import type { VolunteerDetail } from '../../shared/api.ts'
import type { BackendName } from '../../shared/backends.ts'

export interface Introduction {
  readonly volunteer: string
  readonly backend: BackendName
  readonly device: string
  /** The coordinator's own, or one that shows its key: only these get evaluations. */
  readonly trusted: boolean
}

export interface Member extends Introduction {
  connected: boolean
  joinedAt: number
  lastSeen: number
  examples: number
  updatesAccepted: number
  updatesRefused: number
  /** Examples per second of compute, a running mean that forgets with each lease; null before the first. */
  examplesPerSecond: number | null
  /** What a lease takes beside its compute (downloads, upload), milliseconds, likewise. */
  overheadMs: number
  /** How many times slower than that it is taken to be, since its last leases ran past their deadlines. */
  lateness: number
}

/** Weight of the newest lease in the running means. */
const FORGET = 0.3
/** Assumed before the first measurement: a slow phone, so that a first lease is short. */
const FIRST_EXAMPLES_PER_SECOND = 200
const FIRST_OVERHEAD_MS = 5_000
/** Believed at most: a volunteer that claims to have computed in no time must not earn a far deadline. */
const OVERHEAD_MAX_MS = 60_000
/** As good as without end: leases are short long before. */
const LATENESS_MAX = 1024
/** Who waits for work asks again within ten seconds; who did not for so long is not there to work. */
const IDLE_MS = 30_000
/** Disconnected volunteers that are remembered, the longest gone forgotten first. */
const ABSENT_REMEMBERED = 1_000

export class Roster {
  private readonly members = new Map<string, Member>()
  private readonly leasesOf: (volunteer: string) => number

  /** `leasesOf`: how many a volunteer holds. */
  constructor(leasesOf: (volunteer: string) => number) {
    this.leasesOf = leasesOf
  }

  get(volunteer: string): Member | undefined {
    return this.members.get(volunteer)
  }

  get connected(): Member[] {
    return [...this.members.values()].filter((member) => member.connected)
  }

  /** Connected volunteers that compute for the run, without the coordinator's own. */
  get crowd(): number {
    let crowd = 0
    for (const member of this.members.values()) if (member.connected && !member.trusted) crowd++
    return crowd
  }

  join(introduction: Introduction, now: number): Member {
    const known = this.members.get(introduction.volunteer)
    const member: Member = {
      examples: 0,
      updatesAccepted: 0,
      updatesRefused: 0,
      examplesPerSecond: null,
      overheadMs: FIRST_OVERHEAD_MS,
      lateness: 1,
      joinedAt: now,
      ...known,
      ...introduction,
      connected: true,
      lastSeen: now,
    }
    // A speed was measured on a backend; on another one it says nothing.
    if (known !== undefined && known.backend !== introduction.backend) {
      member.examplesPerSecond = null
      member.lateness = 1
    }
    this.members.delete(introduction.volunteer)
    this.members.set(introduction.volunteer, member)
    return member
  }

  leave(volunteer: string, now: number): void {
    const member = this.members.get(volunteer)
    if (member === undefined) return
    member.connected = false
    member.lastSeen = now
    const absent = [...this.members.values()].filter(({ connected }) => !connected)
    if (absent.length > ABSENT_REMEMBERED) this.members.delete(absent[0].volunteer)
  }

  /**
   * Its place, from 0, in the queue of those who work: the connected crowd in order of arrival, but for who neither
   * holds a lease nor asked lately (others would wait for somebody who does nothing).
   */
  rank(volunteer: string, now: number): number {
    let rank = 0
    for (const member of this.members.values()) {
      if (member.volunteer === volunteer) return rank
      if (this.trains(member, now)) rank++
    }
    return rank
  }

  /** Whether nobody should wait for its next update: it is not there to train, or is there and does nothing. */
  idle(volunteer: string, now: number): boolean {
    const member = this.members.get(volunteer)
    return member === undefined || !this.trains(member, now)
  }

  /** How many of those who train hold nothing. */
  unoccupied(now: number): number {
    let count = 0
    for (const member of this.members.values()) {
      if (this.trains(member, now) && this.leasesOf(member.volunteer) === 0) count++
    }
    return count
  }

  private trains(member: Member, now: number): boolean {
    const { volunteer, connected, trusted, lastSeen } = member
    return connected && !trusted && (lastSeen > now - IDLE_MS || this.leasesOf(volunteer) > 0)
  }

  /** To the end of the queue: others would wait for somebody whose leases come to nothing. */
  demote(volunteer: string): void {
    const member = this.members.get(volunteer)
    if (member === undefined) return
    this.members.delete(volunteer)
    this.members.set(volunteer, member)
  }

  /** An update of it was accepted: so many examples, in so much time. */
  credit(volunteer: string, examples: number, computeMs: number, overheadMs: number): void {
    const member = this.members.get(volunteer)
    if (member === undefined) return
    member.updatesAccepted++
    member.examples += examples
    if (examples === 0) return
    const speed = (1000 * examples) / Math.max(1, computeMs)
    // What was measured before it was late is disproved.
    const kept = member.examplesPerSecond === null || member.lateness > 1 ? 0 : 1 - FORGET
    member.lateness = 1
    member.examplesPerSecond = kept * (member.examplesPerSecond ?? 0) + (1 - kept) * speed
    member.overheadMs = kept * member.overheadMs + (1 - kept) * Math.min(OVERHEAD_MAX_MS, overheadMs)
  }

  /**
   * It did not finish a lease in time: taken for slower than thought, until it is measured, so that it can finish one.
   */
  late(volunteer: string): void {
    const member = this.members.get(volunteer)
    if (member !== undefined) member.lateness = Math.min(LATENESS_MAX, 2 * member.lateness)
  }

  static speedOf(member: Member): number {
    return (member.examplesPerSecond ?? FIRST_EXAMPLES_PER_SECOND) / member.lateness
  }

  static overheadOf(member: Member): number {
    return Math.min(OVERHEAD_MAX_MS, member.overheadMs * member.lateness)
  }

  /** Nobody else is here to train. */
  alone(volunteer: string, now: number): boolean {
    for (const member of this.members.values()) {
      if (member.volunteer !== volunteer && this.trains(member, now)) return false
    }
    return true
  }

  details(): VolunteerDetail[] {
    return [...this.members.values()].map((member) => ({
      volunteer: member.volunteer,
      backend: member.backend,
      device: member.device,
      trusted: member.trusted,
      connected: member.connected,
      leases: this.leasesOf(member.volunteer),
      examples: member.examples,
      updatesAccepted: member.updatesAccepted,
      updatesRefused: member.updatesRefused,
      examplesPerSecond: member.examplesPerSecond,
      lastSeen: new Date(member.lastSeen).toISOString(),
    }))
  }
}
