/**
 * Inverted dropout whose masks are a pure function of the examples' keys, so that a lease can be recomputed: element i
 * of an example is dropped by the model's n-th Dropout layer (from 0) where Random(key, Stream.dropout, n).uniform(i)
 * is below its rate, and else divided by 1 - rate.
 */
import type * as tf from '@tensorflow/tfjs-core'
import { Stream } from '../../../shared/random.ts'
import { elementsOf } from '../../../shared/shape.ts'
import type { Backend } from './backends/backend.ts'
import { drawMasks } from './draws.ts'
import { tensorOf } from './trainer.ts'

/** The factors of a minibatch [count, …], `keys` two words an example. */
export function dropoutMask(
  backend: Backend,
  keys: Uint32Array,
  layer: number,
  rate: number,
  shape: readonly number[],
): tf.Tensor {
  const each = elementsOf(shape.slice(1))
  const masks = drawMasks({ keys, path: [Stream.dropout, layer], first: 0, each }, rate)
  return tensorOf(backend, masks, shape)
}
