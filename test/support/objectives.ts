/** Small training problems with gradients in float64, by plain loops: data from a seed, losses an example at a time. */
import { Random } from '../../shared/random.ts'
import type { Objective } from './portion-crowd.ts'

interface Data {
  readonly inputs: Float64Array
  readonly labels: Uint8Array
}

/** Normal inputs whose label is the largest of `classes` noisy linear scores. */
function data(examples: number, features: number, classes: number, seed: number): Data {
  const random = new Random(seed, 1)
  const truth = new Random(seed, 2)
  const noise = new Random(seed, 3)
  const inputs = Float64Array.from({ length: examples * features }, (_, i) => random.normal(i))
  const labels = Uint8Array.from({ length: examples }, (_, r) => {
    const scores = Array.from({ length: classes }, (_, c) => {
      let score = noise.normal(r * classes + c)
      for (let i = 0; i < features; i++) score += inputs[r * features + i] * truth.normal(c * features + i)
      return score
    })
    return scores.indexOf(Math.max(...scores))
  })
  return { inputs, labels }
}

/** The cross-entropy of logits; they become its gradient. */
function crossEntropy(logits: Float64Array, label: number): number {
  const highest = logits.reduce((a, b) => Math.max(a, b))
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - highest), 0)
  const loss = highest + Math.log(sum) - logits[label]
  for (let c = 0; c < logits.length; c++) logits[c] = Math.exp(logits[c] - highest) / sum - (c === label ? 1 : 0)
  return loss
}

/** Softmax regression with biases: convex. w holds a row of features and a bias a class. */
export function softmaxRegression(examples = 300, features = 8, classes = 4, seed = 5): Objective {
  const { inputs, labels } = data(examples, features, classes, seed)
  const width = features + 1
  return {
    examples,
    size: classes * width,
    initial: new Float32Array(classes * width),
    add(w, example, g, weight) {
      const x = inputs.subarray(example * features, (example + 1) * features)
      const logits = Float64Array.from({ length: classes }, (_, c) => {
        let logit = w[c * width + features]
        for (let i = 0; i < features; i++) logit += w[c * width + i] * x[i]
        return logit
      })
      const loss = crossEntropy(logits, labels[example])
      logits.forEach((slope, c) => {
        for (let i = 0; i < features; i++) g[c * width + i] += weight * slope * x[i]
        g[c * width + features] += weight * slope
      })
      return loss
    },
  }
}

/** A network with one hidden layer of tanh units: smooth, not convex. */
export function network(examples = 200, features = 5, hidden = 6, classes = 3, seed = 9): Objective {
  const { inputs, labels } = data(examples, features, classes, seed)
  const [inner, outer] = [features + 1, hidden + 1]
  const second = hidden * inner
  const size = second + classes * outer
  const random = new Random(seed, 4)
  return {
    examples,
    size,
    initial: Float32Array.from({ length: size }, (_, i) => 0.5 * random.normal(i)),
    add(w, example, g, weight) {
      const x = inputs.subarray(example * features, (example + 1) * features)
      const units = Float64Array.from({ length: hidden }, (_, h) => {
        let sum = w[h * inner + features]
        for (let i = 0; i < features; i++) sum += w[h * inner + i] * x[i]
        return Math.tanh(sum)
      })
      const logits = Float64Array.from({ length: classes }, (_, c) => {
        let logit = w[second + c * outer + hidden]
        for (let h = 0; h < hidden; h++) logit += w[second + c * outer + h] * units[h]
        return logit
      })
      const loss = crossEntropy(logits, labels[example])
      units.forEach((unit, h) => {
        let back = 0
        logits.forEach((slope, c) => {
          back += slope * w[second + c * outer + h]
          g[second + c * outer + h] += weight * slope * unit
        })
        const slope = weight * back * (1 - unit * unit)
        for (let i = 0; i < features; i++) g[h * inner + i] += slope * x[i]
        g[h * inner + features] += slope
      })
      logits.forEach((slope, c) => {
        g[second + c * outer + hidden] += weight * slope
      })
      return loss
    },
  }
}
