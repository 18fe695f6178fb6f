/**
 * What a stack of RBMs whose top sees labels takes each class to look like: alternating Gibbs sampling in the top machine
 * with the label held, then down through the others (Hinton, Osindero & Teh 2006, §7), and whether another network
 * takes the images for what they are to be.
 */
import * as tf from '@tensorflow/tfjs-core'
import { drawUniforms } from '../../../client/volunteer/compute/draws.ts'
import { openEngine } from '../../../client/volunteer/compute/engines.ts'
import { Random, Stream } from '../../../shared/random.ts'
import type { Rbm } from '../../../shared/stack.ts'
import type { TrainedRun } from './trained-run.ts'

export interface Chains {
  /** Of each class. */
  readonly each: number
  /** Steps of the chain, each down and up. */
  readonly steps: number
  readonly seed: number
}

export interface ClassSamples {
  /** One image after the other, pixels 0..1: `each` of the first class, then of the next. */
  readonly images: Float32Array
  readonly labels: Uint8Array
}

/** Images of every class that `machines` (from below; the last sees the labels) end in. */
export async function classSamples(machines: readonly Rbm[], { each, steps, seed }: Chains): Promise<ClassSamples> {
  const top = machines[machines.length - 1]
  const classes = top.labelBias.length
  const count = classes * each
  const labels = Uint8Array.from({ length: count }, (_, i) => Math.floor(i / each))
  const random = new Random(seed, Stream.gibbs)
  const keys = Uint32Array.from({ length: 2 * count }, (_, i) => random.u32(i))
  const engine = await openEngine('wasm')
  const [weights, labelWeights, hiddenBias, visibleBias] = [
    tf.tensor2d(top.weights, [top.visible, top.hidden]),
    tf.tensor2d(top.labelWeights, [classes, top.hidden]),
    tf.tensor1d(top.hiddenBias),
    tf.tensor1d(top.visibleBias),
  ]
  const chance = (of: number, path: readonly number[], t: number) =>
    tf.tensor2d(drawUniforms({ keys, path, first: t * of, each: of }).slice(), [count, of])
  const hiddenChance = (t: number) => chance(top.hidden, [Stream.gibbs], t)
  const visibleChance = (t: number) => chance(top.visible, [Stream.gibbs, 1], t)
  const taken = (mean: tf.Tensor, chance: tf.Tensor) => tf.step(tf.sub(mean, chance)) as tf.Tensor2D
  const downOf = (h: tf.Tensor2D) => tf.sigmoid(tf.add(tf.matMul(h, weights, false, true), visibleBias))

  const held = tf.tidy(() => tf.add(tf.gather(labelWeights, tf.tensor1d([...labels], 'int32')), hiddenBias))
  // Features that nobody has seen: each on half of the time.
  let v = tf.tidy(() => taken(tf.fill([count, top.visible], 0.5), visibleChance(0)))
  for (let t = 0; t < steps; t++) {
    const next = tf.tidy(() => {
      const h = taken(tf.sigmoid(tf.add(tf.matMul(v, weights), held)), hiddenChance(t))
      const mean = downOf(h) as tf.Tensor2D
      // The last ones are shown as probabilities: what is sampled there is noise only.
      return t === steps - 1 ? mean : taken(mean, visibleChance(t + 1))
    })
    v.dispose()
    v = next
  }
  const images = tf.tidy(() =>
    machines.slice(0, -1).reduceRight<tf.Tensor>((above, { weights, visibleBias, visible, hidden }) => {
      const input = tf.matMul(above as tf.Tensor2D, tf.tensor2d(weights, [visible, hidden]), false, true)
      return tf.sigmoid(tf.add(input, tf.tensor1d(visibleBias)))
    }, v),
  )
  const read = (await images.data()) as Float32Array
  tf.dispose([v, images, weights, labelWeights, hiddenBias, visibleBias, held])
  await engine.close()
  return { images: read.slice(), labels }
}

/** How many of the images the network of a finished run takes for their class. */
export async function takenFor({ images, labels }: ClassSamples, { model, parameters }: TrainedRun): Promise<number> {
  const engine = await openEngine('wasm')
  const trainer = await engine.load(model)
  trainer.begin(parameters)
  const count = labels.length
  trainer.evaluate({ inputs: images, labels, keys: new Uint32Array(2 * count), count })
  const { correct } = await trainer.finish()
  await engine.close()
  return correct
}
