/**
 * Downpour SGD (Dean et al. 2012, §4.1 and appendix Alg. 1.1).
 *
 * A lease is a push: up to `pushEvery` minibatches from one base, the replica moving on by -localRate·g, their
 * gradients accrued. The update is applied the moment it is in the journal, at whatever version the server then has.
 * Every `fetchEvery / pushEvery` leases the replica starts from the newest version; in between a lease continues the
 * one before it, and its staleness counts from the version that was fetched. Warm start: until `warmStart` updates
 * are in, one volunteer works alone; then two, four, … are released, twice as many after each further `warmStart`
 * updates, since releasing all at once can undo what the first one learnt (ALGORITHMS §6).
 */
import type { DownpourSpec } from '../../shared/run-spec.ts'
import type { Apply, Ask, Binding, Draft, Settled, Strategy } from './strategy.ts'

/** A volunteer's leases since its last fetch. It is a hint: a crash forgets it and the volunteer fetches anew. */
interface Chain {
  readonly version: number
  readonly leases: number
  /** The last lease of the chain, and whether it has settled: only then may the next one continue it. */
  readonly last: string
  readonly settled: boolean
}

export class Downpour implements Strategy {
  readonly maxStaleness: number
  readonly quiescent = true
  private readonly spec: DownpourSpec
  /** localRate null and rule sgd: the replica moves as the server does. */
  private readonly followsServer: boolean
  private readonly leasesPerFetch: number
  private readonly chains = new Map<string, Chain>()
  private updates: number

  constructor(spec: DownpourSpec, rule: string, state?: unknown) {
    this.spec = spec
    this.maxStaleness = spec.maxStaleness
    this.followsServer = rule === 'sgd'
    this.leasesPerFetch = (spec.fetchEvery ?? spec.pushEvery) / spec.pushEvery
    this.updates = (state as { updates: number } | undefined)?.updates ?? 0
  }

  next(ask: Ask): Draft {
    const released = this.released
    if (released < Number.POSITIVE_INFINITY && ask.rank >= released) {
      return { wait: `warm start: ${released} ${released === 1 ? 'volunteer trains' : 'volunteers train'} first` }
    }
    const { batchSize, pushEvery } = this.spec
    const minibatches = Math.max(1, Math.min(pushEvery, Math.floor(ask.fitting / batchSize)))
    const stretches = ask.epochs.take(minibatches * batchSize)
    if (stretches.length === 0) return { wait: 'every example of this epoch is out with other volunteers' }
    return { stretches, batchSize, timeBoxed: true }
  }

  bind(lease: string, volunteer: string, version: number, rate: number): Binding {
    const localRate = this.spec.localRate ?? (this.followsServer ? rate : 0)
    const chain = this.chains.get(volunteer)
    const fresh = chain !== undefined && version - chain.version <= this.maxStaleness
    // A chain that fell too far behind would only be refused: it ends early.
    const continued = fresh && chain.settled && chain.leases < this.leasesPerFetch ? chain : null
    const base = continued?.version ?? version
    if (this.leasesPerFetch > 1) {
      this.chains.set(volunteer, { version: base, leases: (continued?.leases ?? 0) + 1, last: lease, settled: false })
    }
    return { version: base, localRate, continues: continued?.last ?? null }
  }

  fold(settled: Settled): Apply {
    this.updates++
    const chain = this.chains.get(settled.volunteer)
    if (chain?.last === settled.lease) this.chains.set(settled.volunteer, { ...chain, settled: true })
    return { parts: [{ payload: settled.payload, weight: 1 }] }
  }

  versionsOf(updates: number): number {
    return updates
  }

  left(volunteer: string): void {
    this.chains.delete(volunteer)
  }

  toJSON(): unknown {
    return { updates: this.updates }
  }

  private get released(): number {
    const { warmStart } = this.spec
    return warmStart === 0 ? Number.POSITIVE_INFINITY : 2 ** Math.min(30, Math.floor(this.updates / warmStart))
  }
}
