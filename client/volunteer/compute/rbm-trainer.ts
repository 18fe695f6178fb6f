/**
 * Trains a restricted Boltzmann machine by contrastive divergence, CD-k and PCD (Hinton 2002, Tieleman 2008; rbm.m):
 *
 *     v₀ = the input as the fixed layers below see it        h₀ = σ(v₀W + b)
 *     h = 1[u < h₀], then k times: v = σ(hWᵀ + a), h' = σ(vW + b), h = 1[u < h']
 *     gradient of W: (vᵀh' − v₀ᵀh₀)/n, of a: mean(v − v₀), of b: mean(h' − h₀)
 *
 * minus the log-likelihood's ascent; v and h' stay probabilities. With `visible` samples v = 1[u < σ(hWᵀ + a)], also in
 * the gradient: a Gibbs chain's v comes to be distributed as the model's, and E[vᵀσ(vW + b)] is then the model's
 * E[vᵀh]. Its probabilities would not do there: σ(vW + b) is not linear in v, and the two must be of one state. h'
 * stays a mean, E[h | v], which only takes noise away.
 *
 * Gaussian hidden units have the mean vW + b and are sampled with unit variance. PCD's chains go on from where the last
 * step left them, in this trainer, as many as the largest minibatch had examples; a chain begins at the example of its
 * place.
 *
 * With label units the last of v are a softmax group, v₀'s the label itself; sampled, one of them is on, that in which
 * a uniform falls: the first label unit's draw. An evaluation takes an example for the class y with the least F(v, y).
 *
 * Sample t (from 0) of hidden unit j of an example is draw t·hidden + j of Random(key, Stream.gibbs), a uniform of 24
 * bits, or a normal; of visible unit i, draw t·visible + i of Random(key, Stream.gibbs, 1), a uniform. Beside the
 * gradient: Σ(v₀ − v₁)², v₁ the probabilities from the first sample, and the free energy F(v₀). In an evaluation v₁ is
 * the reconstruction from h₀ itself.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Slot } from '../../../shared/layout.ts'
import { Stream } from '../../../shared/random.ts'
import { elementsOf } from '../../../shared/shape.ts'
import type { Backend } from './backends/backend.ts'
import { drawNormals, drawUniforms } from './draws.ts'
import type { Minibatch, ModelDescription, Trainer } from './engine.ts'
import { oneHot, outcomesOf } from './loss.ts'
import { loadNetwork } from './network.ts'
import { labelsOf, tensorOf, trainerOf, use } from './trainer.ts'

/** Which of a key's Gibbs samples are the visible units'. */
const VISIBLE = 1

/**
 * Loads a model on a started backend.
 * @throws Error where the topology does not end in a Dense layer with visible biases, which alone is trained, or where
 * `loadNetwork` cannot have the layers below.
 */
export async function loadRbmTrainer(backend: Backend, description: ModelDescription): Promise<Trainer> {
  const { topology, layout, fixed, inputShape, objective } = description
  if (objective.kind !== 'contrastive') throw new Error('invariant: only an RBM is trained by contrastive divergence')
  const { steps, persistent, labels } = objective
  const gaussian = objective.hidden === 'gaussian'
  const samplesVisible = objective.visible === 'samples'
  const below = topology.config.layers.slice(0, -1)
  const last = topology.config.layers.at(-1)!
  const [visible, hidden] = shapeOf(last.class_name, last.config.name, layout.slots)

  await use(backend)
  const network = below.length > 0 ? await loadNetwork(backend, topology, below, { slots: [], size: 0 }, fixed) : null
  const features = elementsOf(network?.outputShape ?? inputShape)
  if (features + labels !== visible) {
    network?.dispose()
    throw new Error(
      `layer ${last.config.name} has ${visible} visible units; what it sees has ${features + labels} elements`,
    )
  }
  const weights = layout.slots.map((slot) => tf.tidy(() => tf.variable(tf.zeros([...slot.shape]))))
  const [kernelAt, biasAt, visibleBiasAt] = ['kernel', 'bias', 'visible_bias'].map((name) =>
    layout.slots.findIndex((slot) => slot.name === `${last.config.name}/${name}`),
  )
  const kernel = weights[kernelAt] as unknown as tf.Tensor2D
  const [bias, visibleBias] = [weights[biasAt], weights[visibleBiasAt]]
  /** Of persistent chains: their hidden states [chains, hidden]. */
  let chains: tf.Tensor2D | null = null

  const dataOf = (minibatch: Minibatch): tf.Tensor2D => {
    const { inputs, count } = minibatch
    const x = tensorOf(backend, inputs, [count, ...inputShape])
    const v = tf.reshape(network ? network.apply(x, null) : x, [count, features]) as tf.Tensor2D
    return labels === 0 ? v : tf.concat([v, oneHot(labelsOf(minibatch), labels)], 1)
  }
  /** The hidden units' input, and their means. */
  const up = (v: tf.Tensor2D): { input: tf.Tensor2D; mean: tf.Tensor2D } => {
    const input = tf.fused.matMul({ a: v, b: kernel, bias }) as tf.Tensor2D
    return { input, mean: gaussian ? input : tf.sigmoid(input) }
  }
  const down = (h: tf.Tensor2D): tf.Tensor2D => {
    const input = tf.fused.matMul({ a: h, b: kernel, transposeB: true, bias: visibleBias }) as tf.Tensor2D
    if (labels === 0) return tf.sigmoid(input)
    const [x, y] = split(input)
    return tf.concat([tf.sigmoid(x), tf.softmax(y)], 1)
  }
  /** What of visible units is features, and what label. */
  const split = (v: tf.Tensor2D): tf.Tensor2D[] => tf.split(v, [features, labels], 1)
  const sample = (mean: tf.Tensor2D, keys: Uint32Array, t: number): tf.Tensor2D => {
    const draws = { keys, path: [Stream.gibbs], first: t * hidden, each: hidden }
    const drawn = tensorOf(backend, gaussian ? drawNormals(draws) : drawUniforms(draws), mean.shape)
    return gaussian ? tf.add<tf.Tensor2D>(mean, drawn) : tf.step(tf.sub<tf.Tensor2D>(mean, drawn))
  }
  /** A chain's visible units, given their probabilities. */
  const visibleOf = (mean: tf.Tensor2D, keys: Uint32Array, t: number): tf.Tensor2D => {
    if (!samplesVisible) return mean
    const draws = { keys, path: [Stream.gibbs, VISIBLE], first: t * visible, each: visible }
    const drawn = tensorOf(backend, drawUniforms(draws), mean.shape) as tf.Tensor2D
    if (labels === 0) return tf.step(tf.sub<tf.Tensor2D>(mean, drawn))
    const [[x, y], [dx, dy]] = [split(mean), split(drawn)]
    return tf.concat([tf.step(tf.sub<tf.Tensor2D>(x, dx)), sampleCategorical(y, tf.slice(dy, [0, 0], [-1, 1]))], 1)
  }
  /** Σ F(v). */
  const freeEnergy = (v: tf.Tensor2D, { input, mean }: ReturnType<typeof up>): tf.Scalar => {
    const each = gaussian ? tf.mul(tf.square(input), 0.5) : softplus(input, mean)
    return tf.neg(tf.add(tf.sum(tf.mul(v, visibleBias)), tf.sum(each)))
  }
  /** [n, labels]: −F(v, y) up to what all classes share, for a softmax the logits of p(y | v). */
  const logitsOf = (x: tf.Tensor2D): tf.Tensor2D => {
    const [toFeatures, toLabels] = tf.split(kernel, [features, labels], 0)
    const input = tf.fused.matMul({ a: x, b: toFeatures, bias })
    // One class after the other: all of them at once may be more than the device has room for.
    const each = Array.from({ length: labels }, (_, y) =>
      tf.tidy(() => {
        const driven = tf.add<tf.Tensor2D>(input, tf.slice(toLabels, [y, 0], [1, hidden]))
        return tf.sum(gaussian ? tf.mul(tf.square(driven), 0.5) : softplus(driven, tf.sigmoid(driven)), 1)
      }),
    )
    return tf.add(tf.stack(each, 1), tf.slice(visibleBias, [features], [labels]))
  }
  const sumsOf = (v0: tf.Tensor2D, v1: tf.Tensor2D, seen: ReturnType<typeof up>): tf.Tensor =>
    tf.stack([tf.sum(tf.squaredDifference(v0, v1)), tf.scalar(0), freeEnergy(v0, seen)])

  /** aᵀ·b + cᵀ·d */
  const productSum = (a: tf.Tensor2D, b: tf.Tensor2D, c: tf.Tensor2D, d: tf.Tensor2D): tf.Tensor2D => {
    const product = tf.matMul(a, b, true) as tf.Tensor2D
    if (!backend.addProductTo) return tf.add<tf.Tensor2D>(product, tf.matMul(c, d, true))
    backend.addProductTo(product, c, d)
    return product
  }

  /** The first so many chains, those that are missing begun at these states. */
  const chainsFrom = (states: tf.Tensor2D): tf.Tensor2D => {
    const [count] = states.shape
    const has = chains?.shape[0] ?? 0
    if (has >= count) return tf.slice(chains!, [0, 0], [count, hidden])
    return chains ? tf.concat([chains, tf.slice(states, [has, 0])]) : states
  }
  const keepChains = (states: tf.Tensor2D): void => {
    const [count] = states.shape
    const all = chains && chains.shape[0] > count ? tf.concat([states, tf.slice(chains, [count, 0])]) : states.clone()
    chains?.dispose()
    chains = tf.keep(all)
  }

  return trainerOf(backend, description, {
    weights,

    gradient(minibatch) {
      const { keys, count } = minibatch
      const [sums, ...gradient] = tf.tidy((): tf.Tensor[] => {
        const v0 = dataOf(minibatch)
        const seen = up(v0)
        const h = sample(seen.mean, keys, 0)
        const v1 = down(h)
        // Without chains the first step's probabilities are the reconstruction's.
        let v = visibleOf(persistent ? down(chainsFrom(h)) : v1, keys, 0)
        let { mean } = up(v)
        for (let t = 1; t < steps; t++) {
          v = visibleOf(down(sample(mean, keys, t)), keys, t)
          mean = up(v).mean
        }
        if (persistent) keepChains(sample(mean, keys, steps))
        const rise = tf.mul<tf.Tensor2D>(mean, 1 / count)
        const fall = tf.mul<tf.Tensor2D>(seen.mean, -1 / count)
        const slopes: tf.Tensor[] = []
        slopes[kernelAt] = productSum(v, rise, v0, fall)
        slopes[biasAt] = tf.sum(tf.add(rise, fall), 0)
        slopes[visibleBiasAt] = tf.mul(tf.sum(tf.sub(v, v0), 0), 1 / count)
        return [sumsOf(v0, v1, seen), ...slopes]
      })
      return { gradient, sums }
    },

    evaluate(minibatch) {
      const [sums, outcomes = null] = tf.tidy((): tf.Tensor[] => {
        const v0 = dataOf(minibatch)
        const seen = up(v0)
        const sums = sumsOf(v0, down(seen.mean), seen)
        if (labels === 0) return [sums]
        const [judged, outcomes] = outcomesOf(logitsOf(split(v0)[0]), labelsOf(minibatch))
        const [loss, , measure] = tf.split(sums, 3)
        return [tf.concat([loss, tf.slice(judged, 1, 1), measure]), outcomes]
      })
      return { sums, outcomes }
    },

    dispose() {
      network?.dispose()
      tf.dispose([...weights, ...(chains ? [chains] : [])])
    },
  })
}

/** Of inputs and their sigmoids: max(x, 0) − log σ(|x|). */
const softplus = (input: tf.Tensor2D, mean: tf.Tensor2D): tf.Tensor2D =>
  tf.sub(tf.relu(input), tf.log(tf.maximum(mean, tf.sub(1, mean))))

/** One of the classes with these probabilities [n, classes]: on in the one in which u [n, 1] falls. */
function sampleCategorical(probabilities: tf.Tensor2D, u: tf.Tensor2D): tf.Tensor2D {
  const classes = probabilities.shape[1]
  const allButLast = (x: tf.Tensor2D): tf.Tensor2D => tf.slice(x, [0, 0], [-1, classes - 1])
  // Running sums by a product: unlike a device's cumsum it sums each in the same order, so none is below the one
  // before.
  const upTo = Float32Array.from({ length: classes ** 2 }, (_, i) => (Math.floor(i / classes) <= i % classes ? 1 : 0))
  const ends = tf.matMul(probabilities, tf.tensor2d(upTo, [classes, classes])) as tf.Tensor2D
  // Rounding may leave the last end below one.
  const within = tf.concat([allButLast(tf.step(tf.sub(ends, u))), tf.onesLike(u)], 1)
  return tf.sub(within, tf.concat([tf.zerosLike(u), allButLast(within)], 1))
}

/** [visible, hidden] of the layer that is trained. */
function shapeOf(className: string, name: string, slots: readonly Slot[]): readonly [number, number] {
  const kernel = slots.find((slot) => slot.name === `${name}/kernel`)
  if (className !== 'Dense' || kernel?.shape.length !== 2) {
    throw new Error(
      `an RBM is the topology's last layer, Dense, with a kernel in the layout; this one ends in ${className}`,
    )
  }
  const [visible, hidden] = kernel.shape
  const expected = [`${name}/kernel ${visible},${hidden}`, `${name}/bias ${hidden}`, `${name}/visible_bias ${visible}`]
  const has = slots.map(({ name, shape }) => `${name} ${shape}`)
  if (has.toSorted().join() !== expected.toSorted().join()) {
    throw new Error(`an RBM's layout is ${expected.join('; ')}; got ${has.join('; ')}`)
  }
  return [visible, hidden]
}
