/** What an update says of itself, held against the lease it answers: whether it can be true at all. */
import { type Refusal, refuse, type UpdateRequest } from '../../shared/protocol.ts'
import type { StartedLease } from './leases.ts'

/**
 * Loss of an example that is still believed: far above any that float32 logits can give, and a sum of them is finite.
 */
const LOSS_MAX = 1e40

/**
 * Why the counts and the size cannot be true; null when they can. `bytes`: what it must bring. `probes`: a loss that
 * is not finite is an answer.
 */
export function impossible(lease: StartedLease, update: UpdateRequest, bytes: number, probes: boolean): Refusal | null {
  // An evaluation may come without its outcomes.
  const without = lease.kind === 'evaluate' && update.size === 0
  if (update.size !== bytes && !without) return wrongLength(bytes, update.size)
  const whole = lease.kind === 'evaluate' || !lease.timeBoxed
  const minibatches = lease.kind === 'evaluate' ? 0 : update.minibatches
  const examples = whole ? lease.examples : Math.min(lease.examples, minibatches * lease.batchSize)
  const last = Math.ceil(lease.examples / lease.batchSize)
  const least = lease.kind === 'gradient' && lease.examples > 0 ? 1 : 0
  if (update.examples !== examples || minibatches > last || minibatches < least) {
    return refuse(
      'impossible-count',
      `${update.minibatches} minibatches of ${lease.batchSize} hold ${examples} of the lease's ${lease.examples} examples, got ${update.examples}`,
    )
  }
  if (update.correct > update.examples)
    return refuse('impossible-count', `${update.correct} of ${update.examples} cannot be right`)
  if (update.lossSum === null) {
    // Of an evaluation it is the answer: the model has diverged.
    const answer = lease.kind === 'evaluate' || probes
    return answer ? null : refuse('non-finite', 'the loss is not finite: the model has diverged')
  }
  if (!(update.lossSum >= 0 && update.lossSum <= LOSS_MAX * update.examples))
    return refuse('impossible-count', `${update.examples} examples cannot have a loss of ${update.lossSum}`)
  return null
}

export const wrongLength = (expected: number, got: number): Refusal =>
  refuse('wrong-length', `an update of this run is ${expected} bytes, got ${got}`)
