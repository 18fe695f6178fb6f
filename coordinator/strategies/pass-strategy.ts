/** What strategies have in common that move on whenever a pass over all examples is summed. */
import type { IterationPoint } from '../../shared/api.ts'
import { Passes, type PassOptions, type PassSum } from './passes.ts'
import type { Ask, Binding, Draft, Settled, Strategy, StrategyRoom } from './strategy.ts'

export abstract class PassStrategy implements Strategy {
  /** A portion belongs to the version it was drawn at: the pass cannot end without it. */
  readonly maxStaleness = 0
  readonly lockstep = true
  abstract readonly history: readonly IterationPoint[]
  abstract readonly vectors: readonly string[]
  abstract readonly iterations: number
  abstract readonly ended: string | null
  protected readonly room: StrategyRoom
  protected readonly passes: Passes

  /** `summed` passes are behind it. */
  constructor(options: PassOptions, room: StrategyRoom, summed?: number) {
    this.room = room
    this.passes = new Passes(options, room, summed)
  }

  /** A pass is summed: 'published' where that brought a new version. */
  protected abstract moveOn(sum: PassSum): 'published' | null

  abstract toJSON(): unknown

  get quiescent(): boolean {
    return this.passes.quiescent
  }

  next(ask: Ask): Draft {
    const { ended } = this
    return ended === null ? this.passes.next(ask) : { wait: ended }
  }

  bind(_lease: string, _volunteer: string, version: number): Binding {
    return { version, localRate: 0, continues: null }
  }

  fold(settled: Settled): 'published' | null {
    const sum = this.passes.fold(settled)
    return sum && this.moveOn(sum)
  }

  abandon(): void {
    this.passes.abandon()
  }

  lost(): void {}

  left(volunteer: string): void {
    this.passes.left(volunteer)
  }
}
