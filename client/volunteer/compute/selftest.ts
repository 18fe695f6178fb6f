/**
 * The self-test that a device must pass before it is used: short leases on a small dense, a small convolutional and a
 * wide net, against values that a float64 oracle computed (reference.ts). Drivers do get gradients wrong, and
 * a wrong gradient that looks like one poisons everybody's model.
 */
import { Random } from '../../../shared/random.ts'
import { elementsOf } from '../../../shared/shape.ts'
import { type Layer, layoutOf, type Topology } from '../../../shared/topology.ts'
import type { Engine, Minibatch, ModelDescription } from './engine.ts'
import { REFERENCES, type Reference } from './reference.ts'

/**
 * Allowed difference, as a fraction of the gradient's largest element (and of the loss). Float32 devices stay below
 * 1e-5; half floats are at 1e-3, real faults far above.
 */
export const TOLERANCE = 5e-4

/** One case: two steps that move the replica, then an evaluation there. */
export interface Case {
  name: string
  model: ModelDescription
  parameters: Float32Array
  inputs: Float32Array
  labels: Uint8Array
  keys: Uint32Array
  /** Examples in each of the two minibatches. */
  counts: readonly [number, number]
  localRate: number
}

const initialized = { use_bias: true, kernel_initializer: { class_name: 'Zeros', config: {} } }
const dense = (name: string, units: number, activation: string): Layer => ({
  class_name: 'Dense',
  config: { name, units, activation, ...initialized },
})
const conv2d = (name: string, filters: number, kernel: number, padding: string, activation: string): Layer => ({
  class_name: 'Conv2D',
  config: {
    ...{ name, filters, kernel_size: [kernel, kernel], strides: [1, 1], padding, activation },
    ...{ data_format: 'channels_last', dilation_rate: [1, 1], ...initialized },
  },
})
const softmax: Layer = { class_name: 'Activation', config: { name: 'softmax', activation: 'softmax' } }

function makeCase(name: string, inputShape: number[], classes: number, layers: Layer[], seed: number, scale = 1): Case {
  layers[0].config.batch_input_shape = [null, ...inputShape]
  const topology: Topology = {
    class_name: 'Sequential',
    config: { name: 'selftest', layers },
    keras_version: 'tfjs-layers 4.22.0',
    backend: 'tensor_flow.js',
  }
  const layout = layoutOf(topology)
  const counts = [5, 3] as const
  const examples = counts[0] + counts[1]
  const features = elementsOf(inputShape)
  const draw = new Random(seed)
  const at = (i: number): number => draw.uniform(i)
  return {
    name,
    model: { topology, layout, fixed: null, inputShape, classes, objective: { kind: 'classify' } },
    parameters: Float32Array.from({ length: layout.size }, (_, i) => (at(30_000 + i) - 0.5) * scale),
    inputs: Float32Array.from({ length: examples * features }, (_, i) => at(10_000 + i)),
    labels: Uint8Array.from({ length: examples }, (_, i) => Math.floor(at(20_000 + i) * classes)),
    // No layer of the cases draws.
    keys: new Uint32Array(2 * examples),
    counts,
    localRate: 0.25,
  }
}

/** The cases, in the order of `REFERENCES`. */
export function cases(): Case[] {
  return [
    makeCase('dense net', [9], 3, [dense('hidden', 6, 'relu'), dense('output', 3, 'linear'), softmax], 5),
    makeCase(
      'convolutional net',
      [7, 6, 2],
      3,
      [
        conv2d('conv_1', 3, 3, 'same', 'relu'),
        {
          class_name: 'MaxPooling2D',
          config: { name: 'pool', pool_size: [2, 2], strides: [2, 2], padding: 'valid', data_format: 'channels_last' },
        },
        conv2d('conv_2', 4, 2, 'valid', 'tanh'),
        { class_name: 'Flatten', config: { name: 'flatten' } },
        dense('output', 3, 'linear'),
        softmax,
      ],
      5,
    ),
    // Wide enough for the code paths that some backends keep for long inner products.
    makeCase(
      'wide net',
      [4],
      3,
      [dense('hidden_1', 40, 'tanh'), dense('hidden_2', 2048, 'tanh'), dense('output', 3, 'linear'), softmax],
      3,
      0.25,
    ),
  ]
}

/** Of a larger net only the first layer's gradient is kept: every other layer's computation goes into it. */
export const REFERENCE_FLOATS = 200

/** @throws Error that says which case, where and by how much, when the engine's gradient is not the reference's. */
export async function selfTest(engine: Engine): Promise<void> {
  for (const [index, test] of cases().entries()) await passes(engine, test, REFERENCES[index])
}

async function passes(engine: Engine, test: Case, expected: Reference): Promise<void> {
  const { model, parameters, inputs, labels, keys, counts, localRate } = test
  const features = inputs.length / labels.length
  const part = (from: number, count: number): Minibatch => ({
    inputs: inputs.subarray(from * features, (from + count) * features),
    labels: labels.subarray(from, from + count),
    keys: keys.subarray(2 * from, 2 * (from + count)),
    count,
  })
  const trainer = await engine.load(model)
  try {
    trainer.begin(parameters)
    trainer.step(part(0, counts[0]), { localRate, weight: 1 })
    trainer.step(part(counts[0], counts[1]), { localRate, weight: 1 })
    trainer.evaluate(part(0, labels.length))
    const { gradient, lossSum, correct } = await trainer.finish()
    const fail = (what: string): never => {
      throw new Error(`${engine.backend}: wrong on the self-test's ${test.name}: ${what}`)
    }
    const largest = expected.gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    let worst = 0
    let worstAt = 0
    expected.gradient.forEach((value, i) => {
      const difference = Math.abs((gradient as Float32Array)[i] - value) / largest
      // Written so that NaN counts as the worst there is.
      if (!(difference <= worst)) {
        worst = difference
        worstAt = i
      }
    })
    if (!(worst <= TOLERANCE)) {
      const slot = model.layout.slots.findLast((candidate) => candidate.offset <= worstAt)
      fail(`the gradient of ${slot?.name} deviates by ${worst.toExponential(1)} of its largest (allowed ${TOLERANCE})`)
    }
    const lossDeviation = Math.abs(lossSum - expected.lossSum) / expected.lossSum
    if (!(lossDeviation <= TOLERANCE)) fail(`the loss is ${lossSum}, not ${expected.lossSum}`)
    if (correct !== expected.correct) fail(`${correct} examples are classified right, not ${expected.correct}`)
  } finally {
    trainer.dispose()
  }
}
