/** A model as people take it from the console: files that TensorFlow.js itself loads, and how well it reads digits. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, loadLayersModel } from '@tensorflow/tfjs-layers'
import type { Examples } from '../../coordinator/datasets/examples.ts'

/** Loads model.json with its weights as `tf.loadLayersModel` does from a server, from the bytes of the two files. */
export async function loadFiles(json: Uint8Array, weights: Uint8Array): Promise<LayersModel> {
  await tf.setBackend('cpu')
  // Else it advertises tfjs-node on the first tensor.
  Object.assign(tf.backend(), { firstUse: false })
  const { modelTopology, weightsManifest } = JSON.parse(new TextDecoder().decode(json)) as {
    modelTopology: object
    weightsManifest: { paths: string[]; weights: tf.io.WeightsManifestEntry[] }[]
  }
  const weightSpecs = weightsManifest.flatMap((group) => group.weights)
  const weightData = new Uint8Array(weights).buffer
  return loadLayersModel({ load: async () => ({ modelTopology, weightSpecs, weightData }) })
}

/** The share of the first `count` examples that the model classifies right. */
export function accuracyOf(model: LayersModel, examples: Examples, count: number): number {
  return tf.tidy(() => {
    const shape = [count, 28, 28, 1] as [number, number, number, number]
    const inputs = tf.tensor4d(
      Float32Array.from(examples.inputs.subarray(0, count * 784), (pixel) => pixel / 255),
      shape,
    )
    const predicted = tf.argMax(model.predict(inputs) as tf.Tensor, 1).dataSync()
    const labels = examples.labels.subarray(0, count)
    return labels.filter((label, i) => predicted[i] === label).length / count
  })
}
