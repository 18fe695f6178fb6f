/**
 * The objectives that are differentiated: what the logits of a minibatch come to, and the gradient of its mean with
 * respect to them, both from the logits themselves, so that no probability is rounded to zero on the way.
 */
import * as tf from '@tensorflow/tfjs-core'

/** Of one minibatch. */
interface Judgement {
  /** [3]: the sums over the examples of the loss (nats), of the hits, and of the objective's second measure. */
  sums: tf.Tensor
  /** The gradient of the mean loss with respect to the logits, of their shape. */
  slope: tf.Tensor
}

/** Says what logits [count, …] come to. */
export type Judge = (logits: tf.Tensor) => Judgement

/** Softmax cross-entropy of labels [count] (int32); a hit is a label whose logit is (the first) highest. */
export function classification(labels: tf.Tensor1D): Judge {
  return (logits) => {
    const { logProbabilities, truth, losses } = crossEntropy(logits as tf.Tensor2D, labels)
    return {
      sums: hitSums(logits as tf.Tensor2D, labels, losses).sums,
      slope: tf.mul(tf.sub(tf.exp(logProbabilities), truth), 1 / labels.size),
    }
  }
}

/** The sums of a classification, and [2, count]: each example's class as taken, and its loss. */
export function outcomesOf(logits: tf.Tensor2D, labels: tf.Tensor1D): [sums: tf.Tensor, outcomes: tf.Tensor] {
  const { losses } = crossEntropy(logits, labels)
  const { sums, taken } = hitSums(logits, labels, losses)
  return [sums, tf.stack([tf.cast(taken, 'float32'), losses])]
}

/**
 * Cross-entropy of sigmoid(logits) against targets in [0, 1] of as many elements, summed over an example's elements;
 * the measure is the squared error Σ(target − sigmoid)².
 */
export function reconstruction(targets: tf.Tensor): Judge {
  return (logits) => {
    const z = tf.reshape(logits, targets.shape)
    const output = tf.sigmoid(z)
    const difference = tf.sub(output, targets)
    // −t·log σ(z) − (1−t)·log(1−σ(z)) = max(z, 0) − t·z + log(1 + e^−|z|), and the last is −log σ(|z|).
    const nearer = tf.maximum(output, tf.sub(1, output))
    const losses = tf.sub(tf.sub(tf.relu(z), tf.mul(targets, z)), tf.log(nearer))
    return {
      sums: tf.stack([tf.sum(losses), tf.scalar(0), tf.sum(tf.square(difference))]),
      slope: tf.reshape(tf.mul(difference, 1 / targets.shape[0]), logits.shape),
    }
  }
}

/**
 * A scalar of the logits for tfjs to differentiate, whose gradient is the judgement's; to be called while tfjs records.
 * @returns `sums`, kept: dispose it.
 */
export function differentiable(judge: Judge, logits: tf.Tensor): { scalar: tf.Scalar; sums: tf.Tensor } {
  let sums: tf.Tensor | undefined
  const scalar = tf.customGrad((...args) => {
    const [input, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc]
    const judgement = judge(input)
    sums = tf.keep(judgement.sums)
    save([judgement.slope])
    return {
      value: tf.reshape(tf.slice(sums, [0], [1]), []),
      // The gradient of the mean itself is one: the loss is always the end of the chain.
      gradFunc: (_one: tf.Tensor, saved: tf.Tensor[]) => tf.clone(saved[0]),
    }
  })(logits) as tf.Scalar
  return { scalar, sums: sums! }
}

/** [count, classes], float32. */
export const oneHot = (labels: tf.Tensor1D, classes: number): tf.Tensor2D =>
  tf.cast(tf.oneHot(labels, classes), 'float32') as tf.Tensor2D

function crossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D) {
  const shifted = tf.sub(logits, tf.max(logits, 1, true))
  const logProbabilities = tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), 1, true)))
  const truth = oneHot(labels, logits.shape[1])
  return { logProbabilities, truth, losses: tf.neg(tf.sum(tf.mul(logProbabilities, truth), 1)) }
}

function hitSums(logits: tf.Tensor2D, labels: tf.Tensor1D, losses: tf.Tensor) {
  const taken = tf.argMax(logits, 1)
  const hits = tf.sum(tf.cast(tf.equal(taken, labels), 'float32'))
  return { taken, sums: tf.stack([tf.sum(losses), hits, tf.scalar(0)]) }
}
