/** Judges WebGPU in Node by the oracle; test/unit/compute-webgpu.test.ts starts it and reads the JSON it prints. */
import * as tf from '@tensorflow/tfjs-core'
import { dawn } from '../../client/volunteer/compute/dawn.ts'
import type { ModelDescription } from '../../client/volunteer/compute/engine.ts'
import { chooseEngine, openEngine } from '../../client/volunteer/compute/engines.ts'
import { initialParameters } from '../../shared/layout.ts'
import { deviation, judge } from './oracle.ts'
import { conv2d, dense, drawMinibatch, flatten, maxPool, modelOf, activation as softmax } from './oracle-models.ts'

const gpu = await dawn()
const declined: string[] = []
const chosen = await chooseEngine(undefined, { gpu, onDeclined: (error) => declined.push(error.message) })
const engine = await openEngine('webgpu', { gpu })

const models: Record<string, ModelDescription> = {
  softmax: modelOf([flatten(), dense('output', 10), softmax('softmax')], [6, 6, 1]),
  mlp: modelOf(
    [flatten(), dense('a', 33, 'relu'), dense('b', 17, 'relu'), dense('c', 10), softmax('softmax')],
    [6, 6, 1],
  ),
  lenet: modelOf(
    [
      ...[conv2d('conv_1', 6, 5, 'relu', { padding: 'same' }), maxPool('pool_1'), conv2d('conv_2', 16, 5, 'relu')],
      ...[maxPool('pool_2'), flatten(), dense('dense_1', 120, 'relu'), dense('dense_2', 84, 'relu')],
      ...[dense('output', 10), softmax('softmax')],
    ],
    [14, 13, 2],
  ),
}
const before = tf.memory().numTensors
const deviations: Record<string, number> = {}
for (const [name, model] of Object.entries(models)) {
  const parameters = initialParameters(model.layout, 4)
  const minibatch = drawMinibatch(model, 7, 7)
  const trainer = await engine.load(model)
  trainer.begin(parameters)
  trainer.step(minibatch, { localRate: 0, weight: 1 })
  await trainer.settled()
  const { gradient, lossSum, correct } = await trainer.finish()
  const expected = judge(model, parameters, minibatch.inputs, minibatch.labels, minibatch.count)
  deviations[name] = Math.max(
    deviation(gradient!, expected.gradient),
    Math.abs(lossSum / expected.lossSum - 1),
    correct === expected.correct ? 0 : 1,
  )
  trainer.dispose()
}
const leaked = tf.memory().numTensors - before
console.log(JSON.stringify({ chosen: chosen.backend, declined, device: engine.device, deviations, leaked }))
// Dawn keeps the process alive.
process.exit(0)
