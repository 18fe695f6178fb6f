/**
 * Trains a sequential network by backpropagation: a classifier, or one that reconstructs its input. Both end in an
 * Activation layer of their own (softmax, sigmoid), which is left away here: the loss is computed from the logits
 * below.
 */
import * as tf from '@tensorflow/tfjs-core'
import { elementsOf } from '../../../shared/shape.ts'
import type { Layer, Topology } from '../../../shared/topology.ts'
import type { Backend } from './backends/backend.ts'
import type { Minibatch, ModelDescription, Trainer } from './engine.ts'
import { classification, differentiable, type Judge, outcomesOf, reconstruction } from './loss.ts'
import { loadNetwork } from './network.ts'
import { labelsOf, tensorOf, trainerOf, use } from './trainer.ts'

const LAST = { classify: ['a classifier', 'softmax'], reconstruct: ['an autoencoder', 'sigmoid'] } as const

/**
 * Loads a model on a started backend.
 * @throws Error where the topology does not end in the objective's activation or in as many outputs as it needs,
 * or where `loadNetwork` cannot have it.
 */
export async function loadNetworkTrainer(backend: Backend, description: ModelDescription): Promise<Trainer> {
  const { topology, layout, fixed, inputShape, objective } = description
  if (objective.kind === 'contrastive') throw new Error('invariant: an RBM is not trained by backpropagation')
  const classify = objective.kind === 'classify'
  await use(backend)
  const network = await loadNetwork(backend, topology, logitsLayers(topology, objective.kind), layout, fixed)
  const features = elementsOf(inputShape)
  const outputs = elementsOf(network.outputShape)
  if (!classify && outputs !== features) {
    network.dispose()
    throw new Error(`an autoencoder has as many outputs as inputs (${features}); this one has ${outputs}`)
  }

  const inputsOf = ({ inputs, count }: Minibatch): tf.Tensor => tensorOf(backend, inputs, [count, ...inputShape])
  const judgeOf = (minibatch: Minibatch, x: tf.Tensor): Judge =>
    classify ? classification(labelsOf(minibatch)) : reconstruction(tf.reshape(x, [minibatch.count, features]))

  return trainerOf(backend, description, {
    weights: network.weights,

    gradient(minibatch) {
      let sums: tf.Tensor | undefined
      const gradient = tf.tidy(() => {
        const x = inputsOf(minibatch)
        const judge = judgeOf(minibatch, x)
        return network.gradient(x, minibatch.keys, (logits) => {
          const loss = differentiable(judge, logits)
          sums = loss.sums
          return loss.scalar
        })
      })
      return { gradient, sums: sums! }
    },

    evaluate(minibatch) {
      const [sums, outcomes = null] = tf.tidy((): tf.Tensor[] => {
        const x = inputsOf(minibatch)
        const logits = network.apply(x, null)
        return classify ? outcomesOf(logits as tf.Tensor2D, labelsOf(minibatch)) : [judgeOf(minibatch, x)(logits).sums]
      })
      return { sums, outcomes }
    },

    dispose: () => network.dispose(),
  })
}

/** The layers below the last activation. */
function logitsLayers(topology: Topology, kind: keyof typeof LAST): Layer[] {
  const layers = [...topology.config.layers]
  const last = layers.pop()
  const [what, activation] = LAST[kind]
  if (last?.class_name !== 'Activation' || last.config.activation !== activation || layers.length === 0) {
    const ending = last ? `${last.class_name} ${last.config.activation ?? ''}`.trim() : 'nothing'
    throw new Error(`${what} must end in an Activation layer ${activation} of its own; this one ends in ${ending}`)
  }
  return layers
}
