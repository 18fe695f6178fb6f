/**
 * A crowd for strategies that pass over all examples in portions: volunteers that ask, hold up to two leases, send what
 * they computed in any order, lose leases, get backups and leave, all drawn from one seed; and a coordinator that does
 * with epochs, leases and checkpoints what run.ts and stage.ts do, and dies where it is told to.
 */
import { Parameters } from '../../coordinator/parameters/parameters.ts'
import { updateRule } from '../../coordinator/parameters/update-rule.ts'
import { Epochs, type Stretch } from '../../coordinator/strategies/epochs.ts'
import { openStrategy } from '../../coordinator/strategies/strategies.ts'
import {
  type Ask,
  PLAIN,
  type Settled,
  type Strategy,
  type StrategyRoom,
  type Work,
} from '../../coordinator/strategies/strategy.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { layout } from '../../shared/layout.ts'
import { Random, Stream } from '../../shared/random.ts'
import type { GradientDescentSpec, SandblasterSpec } from '../../shared/strategy-spec.ts'
import { askOf } from './downpour-bench.ts'

/** What is trained: the loss of example `i` at w; its gradient, times `weight`, is added to `g`. */
export interface Objective {
  readonly examples: number
  readonly size: number
  readonly initial: Float32Array
  add(w: ArrayLike<number>, i: number, g: Float64Array, weight: number): number
}

export interface CrowdOptions {
  readonly spec: GradientDescentSpec | SandblasterSpec
  readonly objective: Objective
  readonly iterations: number
  /** Of everything that happens by chance in the crowd; the sample's own is always the same. */
  readonly seed?: number
  readonly volunteers?: number
  /** Probability that what happens next is a loss: of a lease, of a volunteer, of the coordinator. */
  readonly losses?: number
  readonly leaves?: number
  readonly crashes?: number
}

interface Held {
  readonly id: string
  readonly volunteer: string
  readonly work: Work
}

/** The seed of the Bernoulli samples. */
const SAMPLES = 42

export const inSample = (pass: number, fraction: number, position: number) =>
  new Random(SAMPLES, Stream.sample, pass, 0).uniform(position) < fraction

function sampled(pass: number, fraction: number, from: number, to: number): number {
  let count = 0
  for (let i = from; i < to; i++) if (inSample(pass, fraction, i)) count++
  return count
}

export class PortionCrowd {
  parameters: Parameters
  epochs: Epochs
  strategy: Strategy
  /** Leases that were granted, and of them backups; updates taken, and those that came when another had. */
  readonly counts = { granted: 0, backups: 0, settled: 0, late: 0, lost: 0, crashes: 0 }
  /** Who did which portion, pass by pass. */
  readonly passes: Map<number, string>[] = []
  private readonly options: Required<CrowdOptions>
  private readonly random: Random
  private draws = 0
  private held: Held[] = []
  /** Updates since the last checkpoint. */
  private journal: Settled[] = []
  private checkpoint: ReturnType<PortionCrowd['saved']>

  constructor(options: CrowdOptions) {
    this.options = { seed: 1, volunteers: 1, losses: 0, leaves: 0, crashes: 0, ...options }
    this.random = new Random(this.options.seed)
    this.parameters = this.freshParameters()
    this.epochs = new Epochs(options.objective.examples, 1e9)
    this.strategy = openStrategy(options.spec, this.room())
    this.checkpoint = this.saved()
  }

  get weights(): Float32Array {
    return this.parameters.snapshot()
  }

  get history() {
    return this.strategy.history!
  }

  /** Until the strategy has ended, or `enough` says so. */
  run(enough: () => boolean = () => false): this {
    for (let events = 0; this.strategy.ended === null && !enough(); events++) {
      if (events > 1e6) throw new Error('the crowd comes to no end')
      this.happen()
    }
    return this
  }

  /** The coordinator dies, and the next one goes on from the checkpoint and the journal. */
  crash(): void {
    const { state, vectors } = this.checkpoint
    const saved = JSON.parse(state)
    this.counts.crashes++
    this.held = []
    this.parameters = this.freshParameters()
    this.epochs = new Epochs(this.options.objective.examples, 1e9, saved.epochs)
    this.strategy = openStrategy(this.options.spec, this.room(), saved.strategy)
    this.parameters.restore(saved.version, vectors, this.strategy.vectors)
    const again = this.journal
    this.journal = []
    for (const settled of again) this.fold(settled)
  }

  /** A checkpoint, as one may be taken now. */
  save(): void {
    this.checkpoint = this.saved()
    this.journal = []
  }

  private saved() {
    const { epochs, strategy, parameters } = this
    return {
      state: JSON.stringify({ epochs, strategy, version: parameters.version }),
      vectors: parameters.checkpoint(strategy.vectors).map((vector) => ({ ...vector, values: vector.values.slice() })),
    }
  }

  private happen(): void {
    const { losses, leaves, crashes, volunteers } = this.options
    const draw = this.draw()
    const lease = this.held[Math.floor(this.draw() * this.held.length)]
    if (draw < crashes) this.crash()
    else if (draw < crashes + leaves) this.leave(`v${Math.floor(this.draw() * volunteers)}`)
    else if (draw < crashes + leaves + losses && lease !== undefined) this.lose(lease)
    else if (draw < 0.5 || lease === undefined) this.ask(`v${Math.floor(this.draw() * volunteers)}`)
    else this.settle(lease)
  }

  private ask(volunteer: string): void {
    if (this.held.filter((lease) => lease.volunteer === volunteer).length >= 2) return
    const draft = this.strategy.next(this.asking(volunteer))
    if ('wait' in draft) return
    const id = `l${++this.counts.granted}`
    if (this.strategy.bind(id, volunteer, this.parameters.version, 0).version !== this.parameters.version) {
      throw new Error('a portion is bound to the newest version')
    }
    const lease = { id, volunteer, work: { ...PLAIN, ...draft } }
    const others = this.copiesOf(lease)
    if (others.some((other) => other.volunteer === volunteer))
      throw new Error('nobody backs up what it computes itself')
    if (others.length > 0) this.counts.backups++
    this.held.push(lease)
  }

  asking(volunteer: string): Ask {
    const out = new Map<string, { stretches: Stretch[]; volunteers: string[] }>()
    for (const { volunteer: holder, work } of this.held) {
      const key = JSON.stringify(work.stretches)
      const known = out.get(key)
      if (known === undefined) out.set(key, { stretches: work.stretches, volunteers: [holder] })
      else known.volunteers.push(holder)
    }
    return askOf(this.epochs, { volunteer, out: [...out.values()] })
  }

  private lose(lease: Held): void {
    this.counts.lost++
    this.held = this.held.filter(({ id }) => id !== lease.id)
    if (this.copiesOf(lease).length === 0) this.epochs.giveBack(lease.work.stretches)
    this.strategy.lost(lease.id, lease.volunteer)
  }

  private leave(volunteer: string): void {
    for (const lease of this.held.filter((other) => other.volunteer === volunteer)) this.lose(lease)
    this.strategy.left(volunteer)
  }

  private settle(lease: Held): void {
    this.counts.settled++
    const copies = this.copiesOf(lease)
    this.counts.late += copies.length - 1
    this.held = this.held.filter((other) => !copies.includes(other))
    this.fold(this.computed(lease))
    if (this.strategy.quiescent && this.draw() < 0.3) this.save()
  }

  private copiesOf({ work }: Held): Held[] {
    const key = JSON.stringify(work.stretches)
    return this.held.filter((other) => JSON.stringify(other.work.stretches) === key)
  }

  private fold(settled: Settled): void {
    this.journal.push(settled)
    const [{ epoch, from }] = settled.stretches
    this.passes[epoch] ??= new Map()
    this.passes[epoch].set(from, settled.volunteer)
    const { version } = this.parameters
    this.epochs.settle(settled.stretches)
    const folded = this.strategy.fold(settled)
    if ((folded === 'published') !== (this.parameters.version === version + 1)) {
      throw new Error('what is published is one version')
    }
  }

  /** The lease's update, as a volunteer computes it: in float64, and sent as float32. */
  private computed({ id, volunteer, work }: Held): Settled {
    const { objective } = this.options
    const { stretches, batchSize, fraction, reduce } = work
    const [{ epoch, from, to }] = stretches
    if (work.timeBoxed || work.from !== 'train') throw new Error('a portion is done whole, as stored')
    const taken = Array.from({ length: to - from }, (_, i) => from + i).filter((i) => inSample(epoch, fraction, i))
    const w = this.weights
    const gradient = new Float64Array(objective.size)
    let lossSum = 0
    let minibatches = 0
    for (let i = 0; i < taken.length; i += batchSize, minibatches++) {
      const minibatch = taken.slice(i, i + batchSize)
      const weight = reduce === 'sum' ? 1 : 1 / minibatch.length
      for (const example of minibatch) lossSum += objective.add(w, example, gradient, weight)
    }
    return {
      ...{ lease: id, volunteer, version: this.parameters.version, staleness: 0, minibatches, stretches },
      ...{ examples: taken.length, lossSum: Number.isFinite(lossSum) ? lossSum : Number.POSITIVE_INFINITY },
      payload: encodeVector(codecs.f32, Float32Array.from(gradient)),
    }
  }

  private room(): StrategyRoom {
    const { objective, iterations } = this.options
    const { parameters } = this
    return { examples: objective.examples, rule: 'sgd', codec: 'f32', seed: SAMPLES, sampled, iterations, parameters }
  }

  private freshParameters(): Parameters {
    const { size, initial } = this.options.objective
    const of = layout([{ name: 'weights', shape: [size], init: { kind: 'zeros' } }])
    return new Parameters(of, updateRule({ name: 'sgd', rate: 1, weightCost: 0 }), initial)
  }

  private draw(): number {
    return this.random.uniform(this.draws++)
  }
}
