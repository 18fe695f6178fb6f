/**
 * Computing a lease: its minibatches on a trainer, one after the other, until they are done or the time box is full.
 *
 * A graphics device computes behind our back: a step returns before it is done. So a few steps are let under way, then
 * awaited, and how many is fitted to the time that they take: never more than `UNSETTLED_MS` of work, or the time box
 * could not hold. Between minibatches the event loop gets its turn, so heartbeats, downloads and a stop pass.
 */
import type { Lease, Start } from '../../shared/protocol.ts'
import type { Clock } from './clock.ts'
import type { Trainer } from './compute/engine.ts'
import type { Examples } from './examples.ts'
import type { Pace } from './pace.ts'

/** Work that may be under way on the device before it is awaited. */
const UNSETTLED_MS = 100
const UNSETTLED_STEPS = 64
/** The event loop gets its turn at least this often, as far as minibatches allow. */
const BREATH_EVERY_MS = 10

export interface LeaseResult {
  /** 0 in an evaluation. */
  minibatches: number
  examples: number
  lossSum: number
  correct: number
  measureSum: number
  computeMs: number
  /**
   * One vector, or two as the lease asks; null in an evaluation, zeros where no minibatch was done. Valid until the
   * trainer begins something else.
   */
  gradient: Float32Array | null
  /** Of a classifier's evaluation. */
  outcomes: Uint8Array | null
}

export async function computeLease(
  lease: Pick<Lease, 'kind' | 'budgetMs' | 'reduce' | 'compensated'>,
  start: Pick<Start, 'localRate'>,
  trainer: Trainer,
  parameters: Float32Array,
  examples: Examples,
  clock: Clock,
  pace: Pace | null,
  stopping: AbortSignal,
): Promise<LeaseResult> {
  const startedAt = clock.now()
  let breathedAt = startedAt
  let settledAt = startedAt
  let unsettled = 0
  let settleAfter = 1
  let stepMs = 0
  let minibatches = 0
  let done = 0
  /**
   * Examples whose paced time is not waited for yet; the last ones' only after the result is read, which is work too.
   */
  let owed = 0
  pace?.begin()
  trainer.begin(parameters, lease)
  for (const minibatch of examples.minibatches()) {
    const { count } = minibatch
    if (pace && owed > 0) {
      await pace.spend(owed, stopping)
      owed = 0
      // A paced wait is no measure of how long a step takes.
      if (unsettled === 0) settledAt = clock.now()
    }
    const spentMs = Math.max(clock.now(), settledAt + unsettled * stepMs) - startedAt
    if (minibatches > 0 && spentMs >= lease.budgetMs) break
    if (lease.kind === 'gradient') {
      trainer.step(minibatch, { localRate: start.localRate, weight: lease.reduce === 'sum' ? count : 1 })
    } else trainer.evaluate(minibatch)
    minibatches++
    done += count
    owed = count
    unsettled++
    if (unsettled >= settleAfter) {
      await trainer.settled()
      const now = clock.now()
      stepMs = (now - settledAt) / unsettled
      settledAt = now
      unsettled = 0
      settleAfter = Math.max(1, Math.min(UNSETTLED_STEPS, Math.floor(UNSETTLED_MS / stepMs)))
    }
    if (clock.now() - breathedAt >= BREATH_EVERY_MS) {
      await clock.breathe()
      breathedAt = clock.now()
    }
    stopping.throwIfAborted()
  }
  const { gradient, ...outcome } = await trainer.finish()
  await pace?.spend(owed, stopping)
  const computeMs = clock.now() - startedAt
  const vectors = lease.compensated ? 2 : 1
  return {
    minibatches: lease.kind === 'gradient' ? minibatches : 0,
    examples: done,
    ...outcome,
    computeMs,
    gradient: lease.kind === 'gradient' ? (gradient ?? new Float32Array(vectors * parameters.length)) : null,
  }
}
