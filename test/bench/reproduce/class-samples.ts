/**
 * What a stack of RBMs whose top sees labels takes each class to look like: alternating Gibbs sampling in the top
 * machine with the label held, then down through the others (Hinton, Osindero & Teh 2006, §7), and whether another
 * network takes the images for what they are to be.
 */
import * as tf from '@tensorflow/tfjs-core'
import { drawUniforms } from '../../../client/volunteer/compute/draws.ts'
import { openEngine } from '../../../client/volunteer/compute/engines.ts'
import { Random, Stream } from '../../../shared/random.ts'
import type { Rbm } from '../../../shared/stack.ts'
import type { TrainedRun } from './trained-run.ts'

interface Chains {
  /** Of each class. */
  readonly each: number
  /** Steps of a chain, each up and down. */
  readonly steps: number
  readonly seed: number
}

/** Vectors of one length, one after the other: those of the first class, then of the next. */
export interface ClassSamples {
  readonly values: Float32Array
  readonly labels: Uint8Array
}

/**
 * The features of a machine with binary hidden units that sees labels, for every class: probabilities given the hidden
 * units that a chain ended in. A chain begins at features of which each is on half of the time.
 */
export async function sampleClasses(machine: Rbm, { each, steps, seed }: Chains): Promise<ClassSamples> {
  const { visible, hidden } = machine
  const classes = machine.labelBias.length
  const count = classes * each
  const labels = Uint8Array.from({ length: count }, (_, i) => Math.floor(i / each))
  const random = new Random(seed, Stream.gibbs)
  const keys = Uint32Array.from({ length: 2 * count }, (_, i) => random.u32(i))
  const uniforms = (units: number, path: readonly number[], t: number) =>
    tf.tensor2d(drawUniforms({ keys, path, first: t * units, each: units }).slice(), [count, units])
  const sample = (mean: tf.Tensor, uniform: tf.Tensor) => tf.step(tf.sub(mean, uniform)) as tf.Tensor2D

  const engine = await openEngine('wasm')
  const weights = tf.tensor2d(machine.weights, [visible, hidden])
  const visibleBias = tf.tensor1d(machine.visibleBias)
  /** What the label and the biases drive the hidden units with, all the way. */
  const held = tf.tidy(() => {
    const labelWeights = tf.tensor2d(machine.labelWeights, [classes, hidden])
    return tf.add(tf.gather(labelWeights, tf.tensor1d([...labels], 'int32')), tf.tensor1d(machine.hiddenBias))
  })
  let mean: tf.Tensor2D = tf.fill([count, visible], 0.5)
  for (let t = 0; t < steps; t++) {
    const next = tf.tidy((): tf.Tensor2D => {
      const v = sample(mean, uniforms(visible, [Stream.gibbs, 1], t))
      const h = sample(tf.sigmoid(tf.add(tf.matMul(v, weights), held)), uniforms(hidden, [Stream.gibbs], t))
      return tf.sigmoid(tf.add(tf.matMul(h, weights, false, true), visibleBias))
    })
    mean.dispose()
    mean = next
  }
  const values = Float32Array.from(await mean.data())
  tf.dispose([mean, weights, visibleBias, held])
  await engine.close()
  return { values, labels }
}

/** How many of the images, pixels 0..1, the network of a finished run takes for their class. */
export async function takenFor({ values, labels }: ClassSamples, { model, parameters }: TrainedRun): Promise<number> {
  const engine = await openEngine('wasm')
  const trainer = await engine.load(model)
  trainer.begin(parameters)
  const count = labels.length
  trainer.evaluate({ inputs: values, labels, keys: new Uint32Array(2 * count), count })
  const { correct } = await trainer.finish()
  await engine.close()
  return correct
}
