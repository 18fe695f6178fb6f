/**
 * Minibatch gradient descent as Spark MLlib's GradientDescent has it (ALGORITHMS §1.1): iteration i is one pass over a
 * Bernoulli sample of all examples, of m, and one step of the updater with the mean gradient and η = rate/√i:
 *
 *     simple      w ← w − η·g                                      R(w) = 0
 *     squared-l2  w ← (1 − η·λ)·w − η·g                            R(w) = ½λ‖w‖²
 *     l1          w ← sign(u)·max(0, |u| − λ·η) of u = w − η·g     R(w) = λ‖w‖₁
 *
 * The history holds Σloss/m + R(w), both before the step. It has converged when a step, not the first, is shorter than
 * tolerance·max(‖w‖, 1). An empty sample counts as an iteration, without a step and without history; where all were
 * empty, the run fails.
 * The weights are float32 vectors; every scalar is float64.
 */
import type { IterationPoint } from '../../shared/api.ts'
import type { GradientDescentSpec } from '../../shared/run-spec.ts'
import { PARAMETERS } from '../parameters/parameters.ts'
import { PassStrategy } from './pass-strategy.ts'
import { type PassSum, SUM } from './passes.ts'
import type { StrategyRoom } from './strategy.ts'

interface State {
  passes: number
  converged: boolean
  history: IterationPoint[]
}

/** The weights before the step, then the step. */
const BEFORE = 'before'

export class GradientDescent extends PassStrategy {
  readonly vectors = []
  readonly history: IterationPoint[]
  private readonly spec: GradientDescentSpec
  private converged: boolean

  constructor(spec: GradientDescentSpec, room: StrategyRoom, saved?: unknown) {
    const { portionSize, batchSize, fraction } = spec
    const state = saved as State | undefined
    super({ portionSize, batchSize, fraction, backups: true }, room, state?.passes)
    this.spec = spec
    this.converged = state?.converged ?? false
    this.history = state?.history ?? []
  }

  get iterations(): number {
    return this.passes.count
  }

  get ended(): string | null {
    if (this.converged) return `converged after ${this.iterations} iterations`
    return this.iterations < this.room.iterations ? null : `all ${this.iterations} iterations are done`
  }

  /** Nothing was learned. */
  get failure(): string | null {
    if (this.ended === null || this.history.length > 0) return null
    return `the samples of all ${this.iterations} iterations were empty; raise fraction`
  }

  protected moveOn(sum: PassSum): 'published' | null {
    if (sum.count === 0) return null
    this.iterate(sum)
    return 'published'
  }

  toJSON(): State {
    return { passes: this.passes.count, converged: this.converged, history: this.history }
  }

  /** One step with the mean gradient of the pass that just ended. */
  private iterate({ count, loss }: PassSum): void {
    const { parameters } = this.room
    const { vectors } = parameters
    const { rate, decay, tolerance } = this.spec
    const i = this.passes.count
    const before = loss / count + this.cost()
    const gradientNorm = Math.sqrt(vectors.dot(SUM, SUM)) / count
    vectors.create(BEFORE)
    vectors.copy(BEFORE, PARAMETERS)
    parameters.publish(() => this.update(decay === 'sqrt' ? rate / Math.sqrt(i) : rate, count))
    vectors.axpy(BEFORE, -1, PARAMETERS)
    const step = Math.sqrt(vectors.dot(BEFORE, BEFORE))
    const length = Math.sqrt(vectors.dot(PARAMETERS, PARAMETERS))
    this.converged = this.history.length > 0 && step < tolerance * Math.max(length, 1)
    this.history.push({ iteration: i, loss: before, gradientNorm, step, passes: 1 })
  }

  private update(rate: number, count: number): void {
    const { vectors } = this.room.parameters
    const { updater, regularization } = this.spec
    if (updater === 'squared-l2') vectors.scale(PARAMETERS, 1 - rate * regularization)
    vectors.axpy(PARAMETERS, -rate / count, SUM)
    if (updater === 'l1') vectors.shrink(PARAMETERS, regularization * rate)
  }

  /** R(w) of the weights as they stand. */
  private cost(): number {
    const { vectors } = this.room.parameters
    const { updater, regularization } = this.spec
    switch (updater) {
      case 'simple':
        return 0
      case 'squared-l2':
        return 0.5 * regularization * vectors.dot(PARAMETERS, PARAMETERS)
      case 'l1':
        return regularization * vectors.sumAbs(PARAMETERS)
    }
  }
}
