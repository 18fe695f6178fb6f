/**
 * Belief: what of an update's numbers a run takes for true. The crowd's numbers are held against each other (trust.ts);
 * the coordinator's own volunteer is only held to what a healthy model gives, and where even that is not met, the run
 * has diverged.
 */
import type { Refusal, UpdateRequest } from '../../shared/protocol.ts'
import type { History } from './history.ts'
import { type StartedLease, unitsOf } from './leases.ts'
import type { Roster } from './roster.ts'
import { Trust } from './trust.ts'

/** What is believed of an update: its length squared, or that its trial point lies outside the loss' domain. */
export type Believed = { readonly sumOfSquares: number } | 'outside'

export class Belief {
  /** Why the run can only fail: what even a trusted volunteer computes is no number. */
  failure: string | null = null
  private readonly history: History
  private readonly roster: Roster
  /** Of the stage that is under way. */
  private trust = new Trust()

  constructor(history: History, roster: Roster) {
    this.history = history
    this.roster = roster
  }

  /** Another stage begins: its gradients are of another model. */
  beginAnew(): void {
    this.trust = new Trust()
  }

  /** Nobody was believed lately. */
  get exhausted(): boolean {
    return this.trust.exhausted
  }

  /** What may be believed of the update of a gradient. Outside the domain is an answer at a trial point only. */
  judge(lease: StartedLease, update: UpdateRequest, payload: Uint8Array, now: number): Believed | Refusal {
    const { volunteer } = lease
    const { strategy, parameters, stage } = this.history
    const trusted = this.roster.get(volunteer)?.trusted === true
    const outside = () => {
      const alone = trusted || this.roster.alone(volunteer, now)
      return this.trust.outside(volunteer, lease.binding.version, alone) ?? 'outside'
    }
    if (update.lossSum === null) return outside()
    const sumOfSquares = parameters.sumSquares(stage.plan.codec.up, payload)
    const bound = trusted || strategy.probes ? 'absolute' : 'relative'
    const distrusted = this.trust.judge(volunteer, sumOfSquares, unitsOf(lease, update), bound)
    if (distrusted === null) return { sumOfSquares }
    // Nobody has been where a search looks: beyond all bounds there is outside the domain.
    return strategy.probes ? outside() : distrusted
  }

  /** An update was folded in. */
  accepted(lease: StartedLease, update: UpdateRequest, believed: Believed): void {
    if (believed === 'outside') this.trust.believed()
    else this.trust.accepted(lease.volunteer, believed.sumOfSquares, unitsOf(lease, update))
  }

  /** An update was refused, by whatever check. */
  refused(volunteer: string, { code, message }: Refusal): void {
    if (code !== 'non-finite' && code !== 'norm-too-large') return
    this.trust.disbelieved()
    if (this.roster.get(volunteer)?.trusted !== true) return
    this.failure = `training diverged: what the coordinator itself computed at version ${this.history.parameters.version} was refused (${message}); lower the rate`
  }
}
