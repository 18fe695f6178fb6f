/**
 * Sandblaster L-BFGS (Dean et al. 2012, §4.2 and appendix Alg. 1.2): the coordinator minimises
 *
 *     f(w) = Σ loss / N + ½λ‖w‖²
 *
 * with L-BFGS and a strong Wolfe search (lbfgs.ts), and every evaluation of f is one pass over all N examples by the
 * crowd, in small portions. A trial point of the search is a published version of the parameters; when all portions
 * at that version are in, the optimiser moves on and publishes the next one. The search takes its first step mostly,
 * so an iteration costs 1.1 to 1.5 passes. It ends at the best accepted point, which is then the newest version.
 *
 * `average: 'blocks'` is Spark's MultilayerPerceptronClassifier: f is the mean over blocks of `batchSize` rows of the
 * blocks' mean losses, so that the rows of a short last block weigh more (ALGORITHMS §1.2).
 */
import type { IterationPoint } from '../../shared/api.ts'
import type { SandblasterSpec } from '../../shared/run-spec.ts'
import { PARAMETERS } from '../parameters/parameters.ts'
import { Lbfgs, type LbfgsState, type StopReason } from './lbfgs.ts'
import { PassStrategy } from './pass-strategy.ts'
import { type PassSum, SUM } from './passes.ts'
import type { StrategyRoom } from './strategy.ts'

interface State {
  passes: number
  descent: LbfgsState
  history: IterationPoint[]
}

export class Sandblaster extends PassStrategy {
  readonly searches = true
  /**
   * A point each accepted w, from the first one on, which is iteration 0: its loss and ‖gradient‖, the length of the
   * step that led there and the passes that took, its own among them.
   */
  readonly history: IterationPoint[]
  private readonly spec: SandblasterSpec
  private readonly descent: Lbfgs

  constructor(spec: SandblasterSpec, room: StrategyRoom, saved?: unknown) {
    const { portionSize, batchSize, backups, average, memory, tolerance } = spec
    const { iterations, parameters } = room
    const state = saved as State | undefined
    super({ portionSize, batchSize, backups, blocks: average === 'blocks' }, room, state?.passes)
    this.spec = spec
    const options = { memory, tolerance, iterations, trial: PARAMETERS, trialGradient: SUM }
    this.descent = new Lbfgs(options, parameters.vectors, state?.descent)
    this.history = state?.history ?? []
  }

  get iterations(): number {
    return this.descent.iteration
  }

  get ended(): string | null {
    const { stopped, iteration } = this.descent
    return stopped && wordsOf(stopped, iteration)
  }

  get failure(): string | null {
    return this.descent.stopped === 'not-finite' ? this.ended : null
  }

  /** The first point is none that was tried: there every loss is finite, or nothing can come of it. */
  get probes(): boolean {
    return this.descent.search !== null
  }

  get vectors(): string[] {
    return this.descent.vectors
  }

  protected moveOn(sum: PassSum): 'published' | null {
    // What was on its way when it was ended.
    if (this.ended !== null) return null
    const known = this.history.at(-1)?.iteration ?? -1
    const moves = this.descent.evaluated(this.objective(sum))
    if (this.descent.iteration > known && this.descent.stopped !== 'not-finite') this.record()
    if (!moves) return null
    this.room.parameters.publish(() => this.descent.place())
    return 'published'
  }

  /** Ended from outside in the middle of a search: at the best point accepted so far, not at one that was tried. */
  conclude(): 'published' | null {
    if (!this.descent.abandon()) return null
    this.room.parameters.publish(() => this.descent.place())
    return 'published'
  }

  toJSON(): State {
    return { passes: this.passes.count, descent: this.descent.toJSON(), history: this.history }
  }

  /** f at the newest version; the vector SUM becomes its gradient. */
  private objective({ count, loss }: PassSum): number {
    if (!Number.isFinite(loss)) return Number.POSITIVE_INFINITY
    const { vectors } = this.room.parameters
    const { l2 } = this.spec
    vectors.scale(SUM, 1 / count)
    if (l2 === 0) return loss / count
    vectors.axpy(SUM, l2, PARAMETERS)
    return loss / count + 0.5 * l2 * vectors.dot(PARAMETERS, PARAMETERS)
  }

  private record(): void {
    const { value: loss, gradientNorm, step } = this.descent.accepted
    const iteration = this.descent.iteration
    const passes = this.passes.count - this.history.reduce((sum, point) => sum + (point.passes ?? 0), 0)
    this.history.push({ iteration, loss, gradientNorm, ...(iteration > 0 ? { step } : {}), passes })
  }
}

function wordsOf(stopped: StopReason, iterations: number): string {
  switch (stopped) {
    case 'iterations':
      return `all ${iterations} iterations are done`
    case 'gradient':
      return `converged after ${iterations} iterations: the gradient is as small as it was to be`
    case 'value':
      return `converged after ${iterations} iterations: the loss no longer falls`
    case 'search-failed':
      return `stopped after ${iterations} iterations: no step lowers the loss any more`
    case 'abandoned':
      return `ended after ${iterations} iterations, before it converged`
    case 'not-finite':
      return 'stopped at once: the loss of the first parameters is not finite'
  }
}
