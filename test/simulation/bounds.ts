/**
 * Who may run ahead: nobody is granted, or begins, a lease that breaks the run's bound (stale-synchronous.ts,
 * bounded-delay.ts). Bounded delay is held to its word, but for a lease whose volunteer has begun another one since. Of
 * stale synchronous what is seen from outside: while somebody holds a lease, another one gets no further than the
 * clocks allow, wherever both stood when it began.
 */
import type { Run } from '../../coordinator/run/run.ts'
import type { Lease } from '../../shared/protocol.ts'
import { must } from './violation.ts'

/** Who has no lease and was not heard of for so long may be forgotten: half of the coordinator's own patience. */
const QUIET_MS = 15_000

interface Known {
  readonly volunteer: string
  /** Among the leases of its run, in the order in which they were begun; null until then, and when it is given up. */
  number: number | null
  /** What everybody had folded in when it was granted. */
  readonly folded: ReadonlyMap<string, number>
  /** It is nobody's clock: its volunteer left while it was out, or had let another one come to nothing. */
  stray: boolean
}

/** One run, in one process of the coordinator's. */
class Account {
  readonly leases = new Map<string, Known>()
  readonly folded = new Map<string, number>()
  /** What a volunteer had folded in when it last began anew. */
  readonly anew = new Map<string, number>()
  /** Who let a lease come to nothing, and has returned none since. */
  readonly unproven = new Set<string>()
  begun = 0
  readonly run: Run

  constructor(run: Run) {
    this.run = run
  }
}

export class Bounds {
  private readonly accounts = new Map<string, Account>()

  /** The coordinator began anew, and so do all. */
  reset(): void {
    this.accounts.clear()
  }

  granted(run: Run, { id, kind }: Lease, volunteer: string, now: number): void {
    const account = this.look(run, now)
    if (kind !== 'gradient' || account === null || account.leases.has(id)) return
    this.judge(run, account, id, volunteer)
    const stray = account.unproven.has(volunteer) || theirsOf(account, volunteer).some((other) => other.stray)
    account.leases.set(id, { volunteer, number: null, folded: new Map(account.folded), stray })
  }

  /** For the first time. */
  begun(id: string): void {
    const account = this.accounts.get(id.split('.')[0])
    const own = account?.leases.get(id)
    if (account === undefined || own === undefined) return
    const { run } = account
    for (const other of theirsOf(account, own.volunteer)) other.number = null
    own.number = account.begun++
    const { strategy } = run.history.stage.plan
    if (strategy.name !== 'downpour' || strategy.policy.bound.name !== 'bounded-delay') return
    const { delay } = strategy.policy.bound
    for (const other of outOf(run)) {
      const number = account.leases.get(other)?.number ?? null
      if (number === null) continue
      const ahead = own.number - number
      must('bound', ahead <= delay, `${id} begins ${ahead} after ${other}, which is out, at most ${delay}`)
    }
  }

  accepted(lease: string): void {
    const account = this.accounts.get(lease.split('.')[0])
    const known = account?.leases.get(lease)
    if (account === undefined || known === undefined) return
    account.leases.delete(lease)
    const { volunteer, stray } = known
    account.unproven.delete(volunteer)
    if (!stray) account.folded.set(volunteer, (account.folded.get(volunteer) ?? 0) + 1)
  }

  /** What has come to nothing, and who has left, since last time; null where the run has no bound. */
  look(run: Run, now: number): Account | null {
    const { strategy } = run.history.stage.plan
    if (strategy.name !== 'downpour' || strategy.policy.bound.name === 'none') return null
    const account = this.accounts.get(run.id) ?? new Account(run)
    this.accounts.set(run.id, account)
    const out = new Set(outOf(run))
    const holding = new Set<string>()
    const anew = (volunteer: string) => account.anew.set(volunteer, account.folded.get(volunteer) ?? 0)
    for (const [id, known] of account.leases) {
      const { volunteer } = known
      const left = run.roster.get(volunteer)?.connected !== true
      if (left) known.stray = true
      if (out.has(id)) continue
      account.leases.delete(id)
      account.unproven.add(volunteer)
      for (const other of theirsOf(account, volunteer)) other.stray = true
    }
    for (const { volunteer, stray } of account.leases.values()) {
      if (stray) anew(volunteer)
      else holding.add(volunteer)
    }
    for (const volunteer of account.folded.keys()) {
      const member = run.roster.get(volunteer)
      const gone = member?.connected !== true || now - member.lastSeen > QUIET_MS
      if (!holding.has(volunteer) && (gone || this.mayBeForgotten(run, volunteer))) anew(volunteer)
    }
    return account
  }

  /** Who rests is not waited for where it may be let in to nothing: by warm start, or because it tests. */
  private mayBeForgotten({ roster, history }: Run, volunteer: string): boolean {
    const { strategy } = history.stage.plan
    return (strategy.name === 'downpour' && strategy.warmStart > 0) || roster.get(volunteer)?.trusted === true
  }

  private judge(run: Run, account: Account, id: string, volunteer: string): void {
    const { strategy } = run.history.stage.plan
    if (strategy.name !== 'downpour') return
    const { bound } = strategy.policy
    const out = outOf(run).flatMap((lease) => (lease === id ? [] : (account.leases.get(lease) ?? [])))
    if (bound.name !== 'stale-synchronous') return
    const theirs = out.filter((known) => known.volunteer === volunteer && !known.stray).length
    for (const other of out) {
      if (other.volunteer === volunteer || other.stray) continue
      const since = Math.max(other.folded.get(volunteer) ?? 0, account.anew.get(volunteer) ?? 0)
      const ahead = (account.folded.get(volunteer) ?? 0) - since + theirs
      // It stood at most `clocks` behind the other one, which has got on since by what it returned.
      const returned = (account.folded.get(other.volunteer) ?? 0) - (other.folded.get(other.volunteer) ?? 0)
      const most = 2 * bound.clocks + returned
      must('bound', ahead <= most, `${volunteer} gets ${id}, ${ahead} since ${other.volunteer} began; at most ${most}`)
    }
  }
}

const theirsOf = ({ leases }: Account, volunteer: string): Known[] =>
  [...leases.values()].filter((known) => known.volunteer === volunteer)

/** The stage's leases that are out. */
function outOf(run: Run): string[] {
  const { index } = run.history.stage
  const { leases } = run.inspect()
  return leases.flatMap(({ id, kind, stage }) => (kind === 'gradient' && stage === index ? [id] : []))
}
