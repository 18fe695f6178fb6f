/** What a volunteer may send in place of what it found, on purpose or because it is broken. */
import type { HeldLease } from '../../coordinator/run/leases.ts'
import { codecs, encodeVectors } from '../../shared/codec.ts'
import type { Lease, UpdateRequest } from '../../shared/protocol.ts'
import type { Draws } from './draws.ts'
import type { Vice } from './scenario.ts'

export interface Message {
  readonly update: UpdateRequest
  readonly payload: Uint8Array
}

/** The message as the vice has it; as it is where the vice is of another kind. `size`: parameters of the model. */
export function falsified(
  vice: Vice | null,
  { update, payload }: Message,
  lease: Lease,
  size: number,
  draws: Draws,
): Message {
  const units = Math.max(1, lease.reduce === 'sum' ? update.examples : update.minibatches)
  const floats = lease.compensated ? 2 * size : size
  const vector = (value: number) => encodeVectors(codecs[lease.codec], new Float32Array(floats).fill(value), size)
  switch (vice) {
    case 'nan':
      return { update, payload: vector(draws.pick([Number.NaN, Number.POSITIVE_INFINITY])) }
    case 'huge':
      return { update, payload: vector(units * draws.pick([1e5, 3e4, 1e30])) }
    case 'short':
      return { update, payload: payload.subarray(0, draws.whole(0, payload.length - 1)) }
    case 'long':
      return { update, payload: new Uint8Array(payload.length + draws.whole(1, 100)) }
    case 'size':
      return { update: { ...update, size: draws.whole(0, 1000) + payload.length + 1 }, payload }
    case 'count':
      return { update: { ...update, ...impossible(update, draws) }, payload }
    case 'correct':
      return { update: { ...update, correct: update.examples + 1 }, payload }
    case 'version':
      return { update: { ...update, version: Math.max(0, update.version + draws.pick([-1, 1, 5])) }, payload }
    case 'loss':
      return { update: { ...update, lossSum: draws.pick([1.7e308, -1.7e308, 1e300, -1]) }, payload }
    // Nothing shows that these are false.
    case 'lie':
      return { update: { ...update, lossSum: update.examples * draws.pick([1e30, 30, 0]) }, payload }
    case 'null':
      return { update: { ...update, lossSum: null }, payload }
    case 'time':
      return { update: { ...update, computeMs: draws.pick([0, 1e12, 1e300]) }, payload }
    default:
      return { update, payload }
  }
}

function impossible({ examples, minibatches }: UpdateRequest, draws: Draws): Partial<UpdateRequest> {
  return draws.pick([
    { examples: examples + 1 },
    { examples: Math.max(0, examples - 1) },
    { minibatches: 0 },
    { minibatches: 0, examples: 0 },
    { minibatches: minibatches + 1_000_000, examples: 64_000_000 },
    { minibatches: minibatches + 1 },
  ])
}

/** An update to somebody else's lease in which everything is right. */
export function theirs(update: UpdateRequest, lease: HeldLease): UpdateRequest {
  const version = lease.state === 'started' ? lease.binding.version : update.version
  const { id, examples, batchSize } = lease
  return { ...update, lease: id, version, examples, minibatches: Math.ceil(examples / batchSize), correct: 0 }
}
