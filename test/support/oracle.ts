/**
 * The float64 oracle: loss, hits and gradient of a sequential network by plain loops, one example at a time. It
 * shares no code with what it judges (but the random numbers that dropout is defined by), reads the same topology, and
 * is itself judged by central differences (test/unit/compute-oracle.test.ts).
 */
import type { Layout } from '../../shared/layout.ts'
import type { Fixed, Objective } from '../../shared/models.ts'
import { Random, Stream } from '../../shared/random.ts'
import type { Layer, Topology } from '../../shared/topology.ts'
import * as layers from './oracle-layers.ts'

export interface Verdict {
  /** Sum of the examples' losses, in nats. */
  lossSum: number
  /** Examples whose label's logit is the (first) highest. */
  correct: number
  /** Sum of squared errors, where a network reconstructs. */
  measureSum: number
  /** Gradient of the mean loss, in layout order. */
  gradient: Float64Array
  /** Each example's class as taken, and its loss. */
  outcomes: { taken: number; loss: number }[]
  /** The least distance of any rectifier's input from zero and of any pool's or classifier's highest from its second:
   * where it is tiny, float32 and float64 may rightly disagree. */
  margin: number
}

interface Model {
  topology: Topology
  layout: Layout
  fixed?: Fixed | null
  inputShape: readonly number[]
  objective: Objective
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** @param keys the examples' draw keys; with them, Dropout layers drop. */
export function judge(
  { topology, layout, fixed, inputShape, objective }: Model,
  parameters: ArrayLike<number>,
  inputs: ArrayLike<number>,
  labels: ArrayLike<number>,
  count: number,
  keys: Uint32Array | null = null,
): Verdict {
  const gradient = new Float64Array(layout.size)
  const features = product(inputShape)
  const outcomes: Verdict['outcomes'] = []
  let correct = 0
  let measureSum = 0
  let margin = Number.POSITIVE_INFINITY
  const near = (distance: number): void => {
    margin = Math.min(margin, distance)
  }

  function weights(name: string): layers.Weights {
    const own = layout.slots.find((slot) => slot.name === name)
    if (own) {
      const { offset } = own
      return {
        value: (i) => parameters[offset + i],
        add: (i, slope) => {
          gradient[offset + i] += slope
        },
      }
    }
    const slot = fixed?.layout.slots.find((slot) => slot.name === name)
    if (!slot) throw new Error(`the oracle finds no parameters ${name}`)
    return { value: (i) => fixed!.values[slot.offset + i], add: () => {} }
  }

  function pass({ class_name, config }: Layer, x: number[], shape: number[], factors: () => number[]): layers.Pass {
    const bias = () => (config.use_bias === false ? null : weights(`${config.name}/bias`))
    const kernel = () => weights(`${config.name}/kernel`)
    const active = (of: layers.Pass) => layers.activate(config.activation as string, of, near)
    switch (class_name) {
      case 'Flatten':
        return layers.flatten(x, shape)
      case 'Dense':
        return active(layers.dense(config.units as number, kernel(), bias(), x))
      case 'Conv2D':
        return active(layers.conv2d(config, kernel(), bias(), x, shape))
      case 'DepthwiseConv2D':
        return active(layers.depthwise(config, weights(`${config.name}/depthwise_kernel`), bias(), x, shape))
      case 'MaxPooling2D':
        return layers.maxPool(config, x, shape, near)
      case 'AveragePooling2D':
        return layers.averagePool(config, x, shape)
      case 'Activation':
        return active({ y: x, shape, back: (dy) => dy })
      case 'Dropout':
        return layers.scale(factors(), x, shape)
      default:
        throw new Error(`the oracle knows no layer ${class_name}`)
    }
  }

  for (let example = 0; example < count; example++) {
    const input = Array.from({ length: features }, (_, i) => inputs[example * features + i] as number)
    const passes: layers.Pass[] = []
    let x = input
    let shape = [...inputShape]
    let dropouts = 0
    for (const layer of topology.config.layers.slice(0, -1)) {
      const ordinal = layer.class_name === 'Dropout' ? dropouts++ : 0
      const factors = () => {
        const rate = layer.config.rate as number
        if (keys === null) return x.map(() => 1)
        const key = { key0: keys[2 * example], key1: keys[2 * example + 1] }
        const random = new Random(key, Stream.dropout, ordinal)
        return x.map((_, i) => (random.uniform(i) < rate ? 0 : 1 / (1 - rate)))
      }
      const done = pass(layer, x, shape, factors)
      passes.push(done)
      x = done.y
      shape = done.shape
    }
    let dy: number[]
    if (objective.kind === 'classify') {
      const highest = Math.max(...x)
      const logSum = highest + Math.log(x.reduce((sum, logit) => sum + Math.exp(logit - highest), 0))
      const label = labels[example]
      const taken = x.indexOf(highest)
      near(highest - Math.max(...x.filter((_, j) => j !== taken)))
      if (taken === label) correct++
      outcomes.push({ taken, loss: logSum - x[label] })
      dy = x.map((logit, j) => (Math.exp(logit - logSum) - (j === label ? 1 : 0)) / count)
    } else {
      const output = x.map((logit) => 1 / (1 + Math.exp(-logit)))
      const loss = x.reduce((sum, z, i) => sum + Math.max(z, 0) - input[i] * z + Math.log1p(Math.exp(-Math.abs(z))), 0)
      outcomes.push({ taken: 0, loss })
      measureSum += output.reduce((sum, y, i) => sum + (y - input[i]) ** 2, 0)
      dy = output.map((y, i) => (y - input[i]) / count)
    }
    for (const done of passes.reverse()) dy = done.back(dy)
  }
  const lossSum = outcomes.reduce((sum, { loss }) => sum + loss, 0)
  return { lossSum, correct, measureSum, gradient, outcomes, margin }
}

/** Largest difference of two vectors, as a fraction of the second's largest element. */
export function deviation(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY
  let difference = 0
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const here = Math.abs(got[i] - expected[i])
    if (!(here <= difference)) difference = here
    largest = Math.max(largest, Math.abs(expected[i]))
  }
  return difference / largest
}
