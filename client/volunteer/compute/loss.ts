/** Mean softmax cross-entropy from logits, with its gradient, its sum and its hits, numerically stable. */
import * as tf from '@tensorflow/tfjs-core'

export interface Loss {
  /** Scalar: the mean loss over the batch, in nats; what is to be differentiated. */
  mean: tf.Tensor
  /** [2]: the sum of the examples' losses, and how many have their label's logit (first) highest. Kept: dispose it. */
  sums: tf.Tensor
}

/**
 * @param logits [count, classes]
 * @param labels [count], int32
 */
export function crossEntropySums(logits: tf.Tensor2D, labels: tf.Tensor1D): tf.Tensor {
  return tf.tidy(() => {
    const { logProbabilities, truth } = parts(logits, labels)
    return sumsOf(logits, labels, logProbabilities, truth)
  })
}

/** As `crossEntropySums`, to be called while tfjs records a gradient. */
export function crossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D): Loss {
  let sums: tf.Tensor | undefined
  const mean = tf.customGrad((...args) => {
    const [input, save] = args as unknown as [tf.Tensor2D, tf.GradSaveFunc]
    const count = input.shape[0]
    const { logProbabilities, truth } = parts(input, labels)
    sums = tf.keep(sumsOf(input, labels, logProbabilities, truth))
    save([tf.mul(tf.sub(tf.exp(logProbabilities), truth), 1 / count)])
    return {
      value: tf.mul(tf.reshape(tf.slice(sums, [0], [1]), []), 1 / count),
      // The gradient of the mean itself is one: this loss is always the end of the chain.
      gradFunc: (_one: tf.Tensor, saved: tf.Tensor[]) => tf.clone(saved[0]),
    }
  })(logits)
  return { mean, sums: sums! }
}

function parts(logits: tf.Tensor2D, labels: tf.Tensor1D): { logProbabilities: tf.Tensor2D; truth: tf.Tensor2D } {
  const shifted = tf.sub(logits, tf.max(logits, 1, true)) as tf.Tensor2D
  const logProbabilities = tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), 1, true))) as tf.Tensor2D
  return { logProbabilities, truth: tf.cast(tf.oneHot(labels, logits.shape[1]), 'float32') as tf.Tensor2D }
}

function sumsOf(
  logits: tf.Tensor2D,
  labels: tf.Tensor1D,
  logProbabilities: tf.Tensor2D,
  truth: tf.Tensor2D,
): tf.Tensor {
  const loss = tf.neg(tf.sum(tf.mul(logProbabilities, truth)))
  const hits = tf.sum(tf.cast(tf.equal(tf.argMax(logits, 1), labels), 'float32'))
  return tf.stack([loss, hits])
}
