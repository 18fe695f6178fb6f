/**
 * Synchronous minibatch SGD: the examples of one batch go out in portions of fixed bounds, all at one version; when
 * the last one is in, their gradients are summed in the batch's order, weighted by their examples, and applied once.
 * The result does not depend on who computed what, how many there were or in which order they came back
 * (bit for bit where the volunteers' backends agree).
 */
import type { SynchronousSpec } from '../../shared/run-spec.ts'
import type { Interval } from './intervals.ts'
import { FOR_OTHERS, HOLDERS_MAX } from './portions.ts'
import type { Apply, Ask, Binding, Draft, Settled, Strategy } from './strategy.ts'

const ALL_OUT = 'this batch is out with other volunteers; the next one starts when it is in'

/** What of [from, to) is in the batch: one interval or none. */
const within = (batch: Interval, from: number, to: number): Interval[] => {
  const cut = { from: Math.max(from, batch.from), to: Math.min(to, batch.to) }
  return cut.from < cut.to ? [cut] : []
}

export class Synchronous implements Strategy {
  /** A portion belongs to the version it was drawn at: the batch cannot end without it. */
  readonly maxStaleness = 0
  readonly lockstep = true
  readonly ended = null
  readonly vectors = []
  private readonly spec: SynchronousSpec
  private readonly examplesPerEpoch: number
  /** Portions of the batch that are in, waiting for the others. Not in checkpoints: those are taken between batches. */
  private held: Settled[] = []

  constructor(spec: SynchronousSpec, examplesPerEpoch: number) {
    this.spec = spec
    this.examplesPerEpoch = examplesPerEpoch
  }

  get quiescent(): boolean {
    return this.held.length === 0
  }

  next(ask: Ask): Draft {
    const batch = this.batchAt(ask.epochs.doneInCurrent)
    const { portionSize } = this.spec
    // Portions have fixed bounds, so what is free in the batch are whole portions.
    const free = ask.epochs.freeInCurrent.flatMap(({ from, to }) => within(batch, from, to))
    const portions = free.reduce((sum, { from, to }) => sum + Math.ceil((to - from) / portionSize), 0)
    if (!ask.mayTake(portions)) return { wait: portions === 0 ? ALL_OUT : FOR_OTHERS }
    if (portions === 0) return this.backup(ask)
    const [{ from }] = free
    const stretches = ask.epochs.takeWithin(portionSize, { from, to: Math.min(batch.to, from + portionSize) })
    return { stretches, batchSize: portionSize, timeBoxed: false, sure: true }
  }

  /** A portion of the batch whose volunteer has gone slow, a second time: the first result counts. */
  private backup({ volunteer, out }: Ask): Draft {
    const late = out.find(
      ({ late, volunteers }) => late && volunteers.length < HOLDERS_MAX && !volunteers.includes(volunteer),
    )
    if (late === undefined) return { wait: ALL_OUT }
    return { stretches: [...late.stretches], batchSize: this.spec.portionSize, timeBoxed: false }
  }

  bind(_lease: string, _volunteer: string, version: number): Binding {
    return { version, localRate: 0, continues: null }
  }

  fold(settled: Settled): Apply | null {
    this.held.push(settled)
    const from = settled.stretches[0].from
    const batch = this.batchAt(from)
    const size = batch.to - batch.from
    if (this.held.reduce((sum, { examples }) => sum + examples, 0) < size) return null
    const inOrder = this.held.sort((a, b) => a.stretches[0].from - b.stretches[0].from)
    this.held = []
    return { parts: inOrder.map(({ payload, examples }) => ({ payload, weight: examples / size })) }
  }

  abandon(): void {
    this.held = []
  }

  lost(): void {}

  left(): void {}

  toJSON(): unknown {
    return {}
  }

  /** The batch that position `done` falls in. */
  private batchAt(position: number): { from: number; to: number } {
    const from = Math.floor(position / this.spec.batchSize) * this.spec.batchSize
    return { from, to: Math.min(this.examplesPerEpoch, from + this.spec.batchSize) }
  }
}
