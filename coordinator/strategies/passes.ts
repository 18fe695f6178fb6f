/**
 * Passes over all examples, each one sum: Σ of the examples' losses and gradients (or of blocks' means) at one version,
 * summed in the order of the portions, whoever computed them and in whatever order they came. A portion that comes
 * before its turn is held; each counts once. So the sum has the same bits for every crowd.
 *
 * Nor does it matter how large the portions are: they hold whole minibatches, the same ones whatever their number, and
 * with its sum a volunteer sends what the rounding of it lost. The sum of all is as if it had been rounded to float32
 * once (vectors.ts, `accumulate`).
 *
 * The pass p is the epoch p of the accounting, and nothing of the next is handed out before it is summed. What is held
 * is bounded: portions far behind the first that is missing stay where they are.
 */
import { codecs, payloadSize } from '../../shared/codec.ts'
import { FOR_OTHERS, Portions } from './portions.ts'
import type { Ask, Draft, Drafted, Settled, StrategyRoom } from './strategy.ts'

export interface PassOptions {
  /** Examples of a lease, and of what a volunteer computes at once. */
  readonly portionSize: number
  readonly batchSize: number
  /** Probability of an example to be taken in a pass. */
  readonly fraction?: number
  /** Sum the mean losses and gradients of blocks of `batchSize` rows, instead of the examples'. */
  readonly blocks?: boolean
  /** Whether the last portions are given to several volunteers. */
  readonly backups?: boolean
}

/** What a pass came to; its gradient is in the vector SUM. */
export interface PassSum {
  /** Examples taken, or blocks. */
  readonly count: number
  /** Σ loss; Infinity where one is not finite, and then SUM means nothing. */
  readonly loss: number
}

export const SUM = 'sum'
const ERROR = 'sum-error'

/** Payloads that came before their turn may take so much memory, at most; so many portions they may be in any case. */
const HELD_BYTES = 512 * 1024 * 1024
const HELD_LEAST = 16

const ALL_OUT = 'this pass is out with other volunteers; the next one starts when it is in'

export class Passes {
  /** Passes that are summed: the number of the one under way. */
  count: number
  private readonly options: PassOptions
  private readonly room: StrategyRoom
  private readonly portions: Portions
  /** Portions behind the first missing one that may be out. */
  private readonly ahead: number
  /** Portions of this pass that are summed. */
  private summed = 0
  private loss = 0
  private taken = 0
  private readonly held = new Map<number, Settled>()

  /** `count` passes were summed before. */
  constructor(options: PassOptions, room: StrategyRoom, count = 0) {
    this.options = options
    this.room = room
    this.count = count
    const { portionSize, batchSize, blocks = false } = options
    this.portions = new Portions(room.examples, portionSize, blocks ? batchSize : Math.min(batchSize, portionSize))
    const size = 2 * payloadSize(codecs[room.codec], room.parameters.size)
    this.ahead = Math.max(HELD_LEAST, Math.floor(HELD_BYTES / size))
  }

  /** Nothing of the pass under way is in. */
  get quiescent(): boolean {
    return this.summed === 0 && this.held.size === 0
  }

  next(ask: Ask): Draft {
    const { portions, summed, count } = this
    if (ask.epochs.current !== count) {
      throw new Error(`invariant: pass ${count} is under way, and epoch ${ask.epochs.current} is counted`)
    }
    const end = Math.min(portions.count, summed + this.ahead)
    const left = portions.freeCount(ask.epochs, end)
    if (!ask.mayTake(left)) return { wait: left === 0 ? ALL_OUT : FOR_OTHERS }
    const free = portions.free(ask.volunteer, ask.epochs, end)
    if (free !== null) {
      const bounds = portions.bounds(free)
      ask.epochs.takeWithin(bounds.to - bounds.from, bounds)
      return this.work(free)
    }
    const backup = this.options.backups ? portions.backup(ask, count) : null
    return backup === null ? { wait: ALL_OUT } : this.work(backup)
  }

  /** Folds a portion in; the sum where it was the last one that was missing. Throws where it came already. */
  fold(settled: Settled): PassSum | null {
    const { portions, held } = this
    const [stretch, ...more] = settled.stretches
    if (stretch.epoch !== this.count || more.length > 0) {
      throw new Error(`invariant: lease ${settled.lease} is no portion of pass ${this.count}`)
    }
    const portion = portions.portionOf(stretch)
    if (portion < this.summed || held.has(portion)) {
      throw new Error(`invariant: portion ${portion} of pass ${this.count} comes twice`)
    }
    held.set(portion, settled)
    portions.did(portion, settled.volunteer)
    for (let next = held.get(this.summed); next !== undefined; next = held.get(this.summed)) {
      held.delete(this.summed)
      this.add(this.summed, next)
      this.summed++
    }
    return this.summed < portions.count ? null : this.end()
  }

  /** What is summed of the pass that is open, and what waits to be, is let go. */
  abandon(): void {
    this.held.clear()
    this.summed = 0
    this.loss = 0
    this.taken = 0
  }

  left(volunteer: string): void {
    this.portions.left(volunteer)
  }

  private work(portion: number): Drafted {
    const { batchSize, fraction = 1, blocks = false } = this.options
    return {
      stretches: [{ epoch: this.count, ...this.portions.bounds(portion) }],
      batchSize,
      timeBoxed: false,
      from: 'train',
      fraction,
      reduce: blocks ? 'mean' : 'sum',
      compensated: true,
      sure: !this.options.backups,
    }
  }

  private add(portion: number, { lossSum, payload }: Settled): void {
    const { parameters, codec } = this.room
    const { vectors } = parameters
    if (portion === 0) {
      vectors.create(SUM)
      vectors.create(ERROR)
    }
    const { from, to } = this.portions.bounds(portion)
    const { batchSize, fraction = 1, blocks = false } = this.options
    // All blocks of a portion are of one length, so the sum of their means is that of their examples, divided by it.
    const length = blocks ? Math.min(batchSize, to - from) : 1
    const taken = blocks ? Math.ceil((to - from) / length) : this.room.sampled(this.count, fraction, from, to)
    this.taken += taken
    this.loss += Number.isFinite(lossSum) ? lossSum / length : Number.POSITIVE_INFINITY
    if (taken > 0 && Number.isFinite(this.loss)) vectors.accumulate(SUM, ERROR, codec, payload, 1)
  }

  private end(): PassSum {
    const sum = { count: this.taken, loss: this.loss }
    this.room.parameters.vectors.axpy(SUM, 1, ERROR)
    this.portions.turn()
    this.count++
    this.abandon()
    return sum
  }
}
